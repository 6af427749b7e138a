//! The semantic difference of two sets of policies: who gains and who loses what.
//!
//! Rules that both sides have, in the same order, decide alike wherever no other rule matches. So
//! only what the other rules can touch is compared, class by class: for every fact, values that no
//! condition tells apart are one class. Every class is also put to both engines, and a difference
//! is reported only with facts on which their verdicts differ.
//!
//! Compared are verdicts over facts that are all known, and over claims that are missing, from
//! now on: an expiry in the future is a border of its own.

mod changed;
mod compiled;
mod describe;
mod explore;
mod narrowed;
mod origination;
mod partition;
mod set;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use egress_policy::PolicySet;
use egress_policy::model::{Policy, Rule};
use egress_policy::verdict::{Action, Decision, Evaluation};
use serde_json::{Value, json};

use crate::explain::{rule_id, ruling_json};
use crate::load::PolicyBundle;
use crate::owned_facts::OwnedFacts;
use crate::witness::{complete, ordinary_address};
use egress_policy::relation::{destinations, sources};

pub(crate) use origination::TlsChange;

use changed::changes;
use compiled::{Compiler, View};
use explore::{Leaf, Region, explore};
use narrowed::Index;
use partition::{Collector, Partition};

/// Most rules that one comparison looks at together.
const MAX_RULES: usize = 3_000;
/// Most regions that one comparison is split into.
const MAX_REGIONS: usize = 400_000;
/// Most examples of one difference that are kept.
const MAX_EXAMPLES: usize = 4;

/// One side.
pub(crate) struct Side<'p> {
    /// Its policies.
    pub(crate) layers: &'p PolicyBundle,
    /// The same, compiled.
    pub(crate) set: &'p PolicySet,
}

/// What came of it.
#[derive(Default)]
pub(crate) struct Comparison {
    /// Differences, those that open first.
    pub(crate) differences: Vec<Difference>,
    /// Why no conclusion holds for all facts; empty where one does.
    pub(crate) undecided: Vec<String>,
    /// Classes that both engines were asked about.
    pub(crate) classes: usize,
    /// Rules that only one side has, or has elsewhere.
    pub(crate) changed_rules: usize,
    /// Names to which the gateway speaks TLS of its own in another way.
    pub(crate) tls: Vec<TlsChange>,
}

/// Facts on which the two sides differ, and how.
#[derive(Clone, Debug)]
pub(crate) struct Difference {
    /// It is about what would be without shadow.
    pub(crate) shadow: bool,
    /// The verdict of the old policies.
    pub(crate) old: OwnedDecision,
    /// The verdict of the new ones.
    pub(crate) new: OwnedDecision,
    /// Who and what, in words: the first few classes.
    pub(crate) examples: Vec<String>,
    /// How many classes.
    pub(crate) classes: usize,
    /// Facts on which the engines differ.
    pub(crate) witness: OwnedFacts,
}

/// A verdict, owned.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct OwnedDecision {
    /// Its action's word, with the inspection cluster.
    pub(crate) verdict: String,
    /// Its rule.
    pub(crate) rule: Option<String>,
    rank: u8,
    json: String,
}

impl OwnedDecision {
    fn of(ruling: &Decision<'_>) -> Self {
        let (rank, verdict) = match ruling.action {
            Action::Deny => (0, "Deny".to_owned()),
            Action::Inspect(device) => (1, format!("Inspect through {device}")),
            Action::Accept => (2, "Accept".to_owned()),
        };
        Self {
            verdict,
            rule: rule_id(ruling.rule),
            rank,
            json: ruling_json(ruling).to_string(),
        }
    }

    fn to_json(&self) -> Value {
        serde_json::from_str(&self.json).unwrap_or(Value::Null)
    }
}

impl Difference {
    /// `gains`, `loses`, or `changes` where only the device differs.
    pub(crate) const fn direction(&self) -> &'static str {
        if self.new.rank > self.old.rank {
            "gains"
        } else if self.new.rank < self.old.rank {
            "loses"
        } else {
            "changes"
        }
    }

    fn to_json(&self) -> Value {
        json!({
            "change": self.direction(),
            "shadow": self.shadow,
            "old": self.old.to_json(),
            "new": self.new.to_json(),
            "examples": self.examples,
            "classes": self.classes,
            "witness": self.witness.to_json(),
        })
    }
}

impl Comparison {
    /// `same`, `different`, or `not_decided`.
    pub(crate) const fn result(&self) -> &'static str {
        let same = self.differences.is_empty() && self.tls.is_empty();
        match (same, self.undecided.is_empty()) {
            (false, _) => "different",
            (true, true) => "same",
            (true, false) => "not_decided",
        }
    }

    /// The documented JSON form.
    pub(crate) fn to_json(&self) -> Value {
        let differences: Vec<Value> = self.differences.iter().map(Difference::to_json).collect();
        let tls: Vec<Value> = self.tls.iter().map(TlsChange::to_json).collect();
        json!({
            "result": self.result(),
            "complete": self.undecided.is_empty(),
            "differences": differences,
            "notDecided": self.undecided,
            "changedRules": self.changed_rules,
            "tls": tls,
            "classes": self.classes,
        })
    }
}

/// Compares two sides, for at most this long.
pub(crate) fn compare(old: &Side<'_>, new: &Side<'_>, now: i64, limit: Duration) -> Comparison {
    let shadow = [old, new]
        .iter()
        .any(|side| has_shadow(&side.layers.policies));
    let mut comparer = Comparer {
        old,
        new,
        now,
        deadline: Instant::now() + limit,
        found: BTreeMap::new(),
        result: Comparison::default(),
    };
    comparer.view(View::Enforced);
    if shadow {
        comparer.view(View::Lifted);
    }
    let mut result = comparer.result;
    result.differences = comparer.found.into_values().collect();
    result
        .differences
        .sort_by_key(|difference| (difference.shadow, difference.direction() != "gains"));
    result.undecided.sort();
    result.undecided.dedup();
    result.tls = origination::changes(&old.layers.policies, &new.layers.policies);
    result
}

fn has_shadow(policies: &[Policy]) -> bool {
    use egress_policy::model::Mode::Shadow;
    policies.iter().any(|policy| {
        !policy.head.shadow_workloads.is_empty()
            || policy.tiers.iter().any(|tier| {
                tier.mode == Shadow || tier.rules.iter().any(|rule| rule.mode == Shadow)
            })
    })
}

type Key = (bool, OwnedDecision, OwnedDecision);

struct Comparer<'c, 'p> {
    old: &'c Side<'p>,
    new: &'c Side<'p>,
    now: i64,
    deadline: Instant,
    found: BTreeMap<Key, Difference>,
    result: Comparison,
}

impl<'p> Comparer<'_, 'p> {
    fn view(&mut self, view: View) {
        let (old, new) = (self.old.layers, self.new.layers);
        let changes = changes(&old.policies, &new.policies, self.now);
        self.result.changed_rules = changes.rules.len();
        let index = Index::of(old.policies.iter().chain(&new.policies), self.now);
        if changes.everywhere {
            self.everywhere(&index, view);
            return;
        }
        for (i, rule) in changes.rules.iter().enumerate() {
            if Instant::now() > self.deadline {
                let left = changes.rules.len() - i;
                self.undecided(format!(
                    "time ran out before {left} of {} changed rules were compared",
                    changes.rules.len()
                ));
                for rule in changes.rules.iter().skip(i) {
                    self.sample(rule, view);
                }
                return;
            }
            self.rule(rule, &index, view);
        }
    }

    /// Everything that one rule can touch.
    fn rule(&mut self, rule: &'p Rule, index: &Index<'p>, view: View) {
        let near = index.near(rule);
        if near.len() > MAX_RULES {
            self.undecided(format!(
                "`{}` meets {} other rules, more than are compared at once",
                rule.name,
                near.len()
            ));
            self.sample(rule, view);
            return;
        }
        let partition = self.partition(near.iter().copied().chain([rule]));
        let compiler = Compiler {
            partition: &partition,
            view,
        };
        let whole = Region::all(&partition);
        let mut regions = Vec::new();
        for source in sources(rule) {
            for to in destinations(rule) {
                for cond in compiler.reach(rule, source, to) {
                    regions.extend(whole.within(&cond));
                }
            }
        }
        let wanted = narrowed::Addresses::of(near.iter().copied().chain([rule]));
        self.explore(&partition, regions, |rule| wanted.contains(rule), view);
    }

    fn everywhere(&mut self, index: &Index<'p>, view: View) {
        let rules = index.all();
        if rules.len() > MAX_RULES {
            self.undecided(format!(
                "what changed outside the rules touches all {} of them, more than are compared at once",
                rules.len()
            ));
            for rule in &rules {
                self.sample(rule, view);
            }
            return;
        }
        let partition = self.partition(rules.iter().copied());
        let region = Region::all(&partition);
        self.explore(&partition, vec![region], |_| true, view);
    }

    fn partition(&self, rules: impl Iterator<Item = &'p Rule>) -> Partition {
        let mut collector = Collector::default();
        for rule in rules {
            sources(rule)
                .into_iter()
                .flatten()
                .for_each(|s| collector.source(s));
            destinations(rule)
                .into_iter()
                .flatten()
                .for_each(|to| collector.to(to));
            collector.times.extend(rule.expires);
        }
        let (old, new) = (self.old.layers, self.new.layers);
        for policy in old.policies.iter().chain(&new.policies) {
            let head = &policy.head;
            collector
                .trust_domains
                .extend(head.trust_domains.iter().map(String::as_str));
            let shadow = head.shadow_workloads.iter();
            collector
                .times
                .extend(shadow.clone().map(|entry| entry.expires));
            for workloads in shadow.map(|entry| &entry.workloads).chain(&head.applies_to) {
                collector
                    .namespaces
                    .extend(workloads.namespaces.iter().map(String::as_str));
                let accounts = workloads.service_accounts.iter();
                collector
                    .accounts
                    .extend(accounts.map(|sa| (sa.namespace.as_str(), sa.name.as_str())));
            }
        }
        collector.finish(self.now)
    }

    fn explore(
        &mut self,
        partition: &Partition,
        regions: Vec<Region>,
        relevant: impl Fn(&Rule) -> bool,
        view: View,
    ) {
        if partition.too_many_globs {
            self.undecided("more globs meet than are combined".to_owned());
        }
        let compiler = Compiler { partition, view };
        let programs = |side: &Side<'p>| -> Vec<compiled::CompiledPolicy<'p>> {
            let policies = side.layers.policies.iter();
            policies
                .map(|policy| {
                    compiler.policy(policy, |rule| {
                        relevant(rule) && rule.expires.is_none_or(|end| end > self.now)
                    })
                })
                .collect()
        };
        let (old, new) = (programs(self.old), programs(self.new));
        let mut budget = MAX_REGIONS;
        for region in regions {
            let fine = explore(region, &old, &new, &mut budget, |leaf| {
                self.leaf(partition, &leaf, view);
            });
            if !fine || Instant::now() > self.deadline + Duration::from_secs(5) {
                self.undecided("there are more classes than are compared".to_owned());
                return;
            }
        }
    }

    /// A class in which both sides are decided: asks the engines.
    fn leaf(&mut self, partition: &Partition, leaf: &Leaf<'p>, view: View) {
        self.result.classes += 1;
        let differs = leaf.old != leaf.new;
        let Some(witness) = describe::witness(partition, &leaf.region) else {
            if differs {
                self.undecided("the two may differ where several globs match at once".to_owned());
            }
            return;
        };
        let words = || describe::words(partition, &leaf.region);
        let seen = self.ask(&witness, view, words);
        if seen != Some(differs) {
            self.undecided("the engines contradict the comparison of classes".to_owned());
        }
    }

    /// Puts facts to both engines and notes a difference. `None` where one is undecided.
    fn ask(
        &mut self,
        witness: &OwnedFacts,
        view: View,
        words: impl FnOnce() -> String,
    ) -> Option<bool> {
        let (old, new) = witness.with_facts(|facts| {
            (
                ruling(self.old.set.evaluate(facts), view),
                ruling(self.new.set.evaluate(facts), view),
            )
        });
        let (old, new) = (old?, new?);
        if old.action == new.action {
            return Some(false);
        }
        let shadow = view == View::Lifted;
        let (old, new) = (OwnedDecision::of(&old), OwnedDecision::of(&new));
        // What is enforced differently need not be told again.
        if shadow && self.found.contains_key(&(false, old.clone(), new.clone())) {
            return Some(true);
        }
        let difference = self
            .found
            .entry((shadow, old.clone(), new.clone()))
            .or_insert_with(|| Difference {
                shadow,
                old,
                new,
                examples: Vec::new(),
                classes: 0,
                witness: witness.clone(),
            });
        difference.classes += 1;
        if difference.examples.len() < MAX_EXAMPLES {
            let example = words();
            if !difference.examples.contains(&example) {
                difference.examples.push(example);
            }
        }
        Some(true)
    }

    /// Where classes are too many: facts that fit the rule, put to both engines.
    fn sample(&mut self, rule: &Rule, view: View) {
        for source in sources(rule) {
            for to in destinations(rule) {
                let mut witness = describe::ordinary(to, self.now);
                complete(&mut witness, source, to, rule);
                describe::resolve_pending(&mut witness);
                let words = || format!("facts that fit `{}`", rule.name);
                self.ask(&witness, view, words);
            }
        }
    }

    fn undecided(&mut self, why: String) {
        self.result.undecided.push(why);
    }
}

fn ruling(evaluation: Evaluation<'_>, view: View) -> Option<Decision<'_>> {
    match (evaluation, view) {
        (Evaluation::Final(verdict), View::Enforced) => Some(verdict.enforced),
        (Evaluation::Final(verdict), View::Lifted) => {
            Some(verdict.shadow.unwrap_or(verdict.enforced))
        }
        (Evaluation::Undecided, _) => None,
    }
}

/// An ordinary address, where sampling needs one.
fn sample_address() -> Option<std::net::IpAddr> {
    ordinary_address(&[])
}

#[cfg(test)]
mod tests;
