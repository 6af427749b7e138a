//! The semantic difference of two sets of policies: who gains and who loses what.
//!
//! Rules that both sides have, in the same order, decide alike wherever no other rule matches. So
//! only what the other rules can touch is compared, class by class: for every fact, values that no
//! condition tells apart are one class. Every class is also put to both engines, and a difference
//! is reported only with facts on which their verdicts differ.
//!
//! Compared are verdicts over facts that are all known, and over claims that are missing, from
//! now on: an expiry in the future is a border of its own.

mod carried;
mod changed;
mod origination;
mod report;
mod sampled;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use egress_policy::PolicySet;
use egress_policy::facts::Protocol;
use egress_policy::model::{Policy, Rule, RuleAction};
use egress_policy::port::PortSet;
use egress_policy::relation::{destinations, sources};
use egress_policy::verdict::{Decision, Evaluation, ReasonCode};

use crate::bundle::PolicyBundle;
use crate::carriage::Carriage;
use crate::decision::WrittenDecision;
use crate::owned_facts::OwnedFacts;
use crate::regions::compiled::{self, Compiler, Cond, View};
use crate::regions::explore::{Explorer, Leaf, Region, Stopped};
use crate::regions::narrowed::{self, Index};
use crate::regions::partition::{Collector, Dimension, PROTOCOLS, Partition};
use crate::regions::set::Set;
use crate::regions::words::{self, Words};
use crate::regions::{describe, merged};
use crate::witness::complete;

pub use origination::TlsChange;
pub use report::{Comparison, ComparisonReport, Difference, Direction, Outcome, PortChange};

use carried::CarriedPorts;
use changed::changes;

/// Most rules that one comparison looks at together.
const MAX_RULES: usize = 3_000;
/// Most rules around changed ones that are looked at together where it need not be.
const MAX_TOGETHER: usize = 256;
/// Most regions that one comparison is split into.
const MAX_REGIONS: usize = 400_000;
/// Most parts of one difference that are told, beside those that no rule names.
const MAX_PARTS: usize = 4;

/// One side.
pub struct Side<'p> {
    /// Its policies.
    pub layers: &'p PolicyBundle,
    /// The same, compiled.
    pub set: &'p PolicySet,
}

/// How a comparison is made: with the caller's clock, and how much it tells.
pub struct Options<'o> {
    /// The time since the comparison began.
    pub elapsed: &'o dyn Fn() -> Duration,
    /// After this, what is left is sampled.
    pub limit: Duration,
    /// Hears how far the comparison is, often.
    pub progress: &'o dyn Fn(&str),
    /// Whether every part and value of a difference is told, however many.
    pub all: bool,
}

/// How long the sampling of what is left may take.
const SAMPLING: Duration = Duration::from_secs(5);

impl Options<'_> {
    fn is_over(&self) -> bool {
        (self.elapsed)() > self.limit
    }

    fn is_long_over(&self) -> bool {
        (self.elapsed)() > self.limit.saturating_add(SAMPLING)
    }
}

/// Compares two sides within a limit of time.
#[must_use]
pub fn compare(old: &Side<'_>, new: &Side<'_>, now: i64, options: &Options<'_>) -> Comparison {
    let shadow = [old, new]
        .iter()
        .any(|side| has_shadow(&side.layers.policies));
    let ports = CarriedPorts::of(old, new);
    let mut comparer = Comparer {
        old,
        new,
        now,
        options,
        ports: &ports,
        found: BTreeMap::new(),
        result: Comparison::default(),
    };
    comparer.view(View::Enforced);
    if shadow {
        comparer.view(View::Lifted);
    }
    let Comparer {
        found, mut result, ..
    } = comparer;
    let mut found: Vec<Found> = found.into_values().collect();
    found.sort_by_key(|found| {
        let difference = &found.difference;
        let broadest = found.parts.iter().map(|part| part.rank).min();
        let opens = difference.direction() == Direction::Gains;
        (difference.shadow, !opens, broadest)
    });
    let told = found.into_iter().map(|found| found.told(options.all));
    result.differences = told.collect();
    result.undecided.sort();
    result.undecided.dedup();
    result.ports = ports.changes();
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

type Key = (bool, WrittenDecision, WrittenDecision);

/// A difference whose parts are still being put together.
struct Found {
    difference: Difference,
    parts: Vec<Words>,
}

impl Found {
    /// The difference with its parts, the broadest first: what no rule names is never left out.
    fn told(mut self, all: bool) -> Difference {
        self.parts.sort_by_key(|part| part.rank);
        let mut known = BTreeSet::new();
        let mut others = 0;
        for part in self.parts {
            let text = part.text();
            if !known.insert(text.clone()) {
                continue;
            }
            others += usize::from(!part.broad);
            if all || part.broad || others <= MAX_PARTS {
                self.difference.what.push(text);
            } else {
                self.difference.more += 1;
            }
        }
        self.difference
    }
}

struct Comparer<'c, 'p> {
    old: &'c Side<'p>,
    new: &'c Side<'p>,
    now: i64,
    options: &'c Options<'c>,
    ports: &'c CarriedPorts,
    found: BTreeMap<Key, Found>,
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
        self.rules(&changes.rules, &index, view);
        self.changed_ports(&index, view);
    }

    /// Everything that changed rules can touch, in groups that share most of what is near them.
    fn rules(&mut self, rules: &[&'p Rule], index: &Index<'p>, view: View) {
        let mut together = Together::default();
        for (i, rule) in rules.iter().enumerate() {
            (self.options.progress)(&format!("{i} of {} changed rules", rules.len()));
            if self.options.is_over() {
                self.touched(std::mem::take(&mut together), view);
                let left = rules.len() - i;
                self.undecided(format!(
                    "time ran out before {left} of {} changed rules were compared",
                    rules.len()
                ));
                for rule in rules.iter().skip(i) {
                    self.sample(rule, view);
                }
                return;
            }
            let near = index.near(rule);
            if near.len() > MAX_RULES {
                self.undecided(format!(
                    "`{}` meets {} other rules, more than are compared at once",
                    rule.name,
                    near.len()
                ));
                self.sample(rule, view);
                continue;
            }
            if !together.changed.is_empty() && together.with(&near) > MAX_TOGETHER {
                self.touched(std::mem::take(&mut together), view);
            }
            together.take(rule, &near);
        }
        self.touched(together, view);
    }

    /// Everything that these rules can touch.
    fn touched(&mut self, together: Together<'p>, view: View) {
        if together.changed.is_empty() {
            return;
        }
        let rules = together.near.into_values();
        let rules: Vec<&Rule> = rules.chain(together.changed.iter().copied()).collect();
        let partition = self.partition(rules.iter().copied());
        let compiler = Compiler {
            partition: &partition,
            view,
        };
        let whole = Region::all(&partition);
        let mut regions = Vec::new();
        for rule in together.changed {
            for source in sources(rule) {
                for to in destinations(rule) {
                    for cond in compiler.reach(rule, source, to) {
                        regions.extend(whole.within(&cond));
                    }
                }
            }
        }
        let wanted = narrowed::Addresses::of(rules.into_iter());
        self.explore(&partition, &regions, |rule| wanted.contains(rule), view);
    }

    /// Everybody at the ports that carry something else than before.
    fn changed_ports(&mut self, index: &Index<'p>, view: View) {
        let ports = self.ports.changed();
        if ports.is_empty() {
            return;
        }
        let changed = PortSet::new(ports.iter().map(|port| *port..=*port));
        let at_ports = |rule: &&Rule| {
            let mut elements = destinations(rule).into_iter().flatten();
            rule.to.is_empty() || elements.any(|to| to.ports.intersect(&changed).is_some())
        };
        let rules: Vec<&Rule> = index.all().into_iter().filter(at_ports).collect();
        let why = || {
            format!(
                "port {changed} carries another protocol than before: {} rules are about it, more than are compared at once",
                rules.len()
            )
        };
        if self.too_many(&rules, why, view) {
            return;
        }
        let partition = self.partition(rules.iter().copied());
        let at = (Dimension::Port, partition.ports_in(&changed));
        let regions = Region::all(&partition).within(&vec![at]);
        let wanted = narrowed::Addresses::of(rules.into_iter());
        self.explore(
            &partition,
            regions.as_slice(),
            |rule| wanted.contains(rule),
            view,
        );
    }

    /// Whether these are more rules than are compared at once. Then they are sampled.
    fn too_many(&mut self, rules: &[&'p Rule], why: impl FnOnce() -> String, view: View) -> bool {
        let too_many = rules.len() > MAX_RULES;
        if too_many {
            self.undecided(why());
            for rule in rules {
                self.sample(rule, view);
            }
        }
        too_many
    }

    fn everywhere(&mut self, index: &Index<'p>, view: View) {
        let rules = index.all();
        let why = || {
            format!(
                "what changed outside the rules touches all {} of them, more than are compared at once",
                rules.len()
            )
        };
        if self.too_many(&rules, why, view) {
            return;
        }
        let partition = self.partition(rules.iter().copied());
        let region = Region::all(&partition);
        self.explore(&partition, &[region], |_| true, view);
    }

    fn partition(&self, rules: impl Iterator<Item = &'p Rule>) -> Partition {
        let mut collector = Collector::default();
        for rule in rules {
            sources(rule)
                .into_iter()
                .flatten()
                .for_each(|s| collector.source(s));
            let deny = rule.action == RuleAction::Deny;
            destinations(rule)
                .into_iter()
                .flatten()
                .for_each(|to| collector.to(to, deny));
            collector.times.extend(rule.expires);
        }
        self.ports
            .routed()
            .into_iter()
            .for_each(|port| collector.port(port));
        for (port, names) in self.ports.originated() {
            collector.port(*port);
            collector.names(names.iter().flatten());
        }
        let (old, new) = (self.old.layers, self.new.layers);
        for policy in old.policies.iter().chain(&new.policies) {
            collector.head(&policy.head);
        }
        collector.finish(self.now)
    }

    fn explore(
        &mut self,
        partition: &Partition,
        regions: &[Region],
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
        let sides = [programs(self.old), programs(self.new)];
        let options = self.options;
        let stop = || {
            (options.progress)("classes are compared");
            options.is_long_over()
        };
        let mut explorer = Explorer::new(partition, sides, MAX_REGIONS, &stop);
        let mut differing: BTreeMap<Key, Vec<Region>> = BTreeMap::new();
        let mut stopped = None;
        let starts: Vec<(Region, [Carriage; 2])> = regions
            .iter()
            .flat_map(|region| self.starts(partition, region))
            .collect();
        for (region, carriage) in starts {
            let ended = explorer.explore(region, carriage, |partition, leaf| {
                if let Some(key) = self.leaf(partition, &leaf, carriage, view) {
                    differing.entry(key).or_default().push(leaf.region);
                }
            });
            if let Err(why) = ended {
                stopped = Some(why);
                break;
            }
        }
        match stopped {
            None => {}
            Some(Stopped::Budget) => {
                self.undecided("there are more classes than are compared".to_owned());
            }
            Some(Stopped::Time) => {
                self.undecided("time ran out before all classes were compared".to_owned());
            }
        }
        for (key, regions) in differing {
            (options.progress)("differences are put together");
            let exists = |protocol, port| self.ports.exists(protocol, port);
            let regions = merged::merged(partition, &exists, regions);
            let parts = regions.iter();
            let parts = parts.map(|region| words::words(partition, region, options.all));
            if let Some(found) = self.found.get_mut(&key) {
                found.parts.extend(parts);
            }
        }
    }

    /// The parts of a region in which each side carries everything in one way, what no rule names
    /// apart from the rest.
    fn starts(&self, partition: &Partition, region: &Region) -> Vec<(Region, [Carriage; 2])> {
        let places = partition.places();
        let mut starts = Vec::new();
        for (i, protocol) in PROTOCOLS.into_iter().enumerate() {
            for (ports, carriage) in self.carried(partition, protocol) {
                let protocol = Rc::new(Set::of(PROTOCOLS.len(), |class| class == i));
                let cond = vec![(Dimension::Protocol, protocol), (Dimension::Port, ports)];
                let Some(region) = region.within(&cond) else {
                    continue;
                };
                let parts = places.iter().filter_map(|place| region.within(place));
                starts.extend(parts.map(|part| (part, carriage)));
            }
        }
        for (cond, carriage) in self.originated(partition) {
            let region = region.within(&cond);
            let parts = places
                .iter()
                .filter_map(|place| region.as_ref()?.within(place));
            starts.extend(parts.map(|part| (part, carriage)));
        }
        starts
    }

    /// Requests that leave in TLS of the gateway's own, by what becomes of them.
    fn originated(&self, partition: &Partition) -> Vec<(Cond, [Carriage; 2])> {
        const ELSEWHERE: Carriage = Carriage::Refused(ReasonCode::HelloMalformed);
        use Carriage::AsAsked;
        let http = partition.protocols(|protocol| protocol == Protocol::Http);
        let mut parts = Vec::new();
        for (port, [old, new]) in self.ports.originated() {
            let (old, new) = (partition.names_under(old), partition.names_under(new));
            let ways = [
                (old.and(&new), [AsAsked, AsAsked]),
                (old.minus(&new), [AsAsked, ELSEWHERE]),
                (new.minus(&old), [ELSEWHERE, AsAsked]),
            ];
            let at = partition.ports(|own| own == *port);
            parts.extend(ways.map(|(names, carriage)| {
                let cond = vec![
                    (Dimension::Protocol, Rc::clone(&http)),
                    (Dimension::Port, Rc::clone(&at)),
                    (Dimension::Name, Rc::new(names)),
                ];
                (cond, carriage)
            }));
        }
        parts
    }

    /// The ports at which a protocol exists, by what becomes of it there.
    fn carried(&self, partition: &Partition, protocol: Protocol) -> Vec<(Rc<Set>, [Carriage; 2])> {
        use Carriage::{AsAsked, ByAddress, Refused};
        let ways = [
            AsAsked,
            ByAddress,
            Refused(ReasonCode::RouteMismatch),
            Refused(ReasonCode::HelloMalformed),
        ];
        let pairs = ways.iter().flat_map(|old| ways.map(|new| [*old, new]));
        let ports = pairs.map(|pair| {
            let here = |port| self.ports.carriage(protocol, port) == Some(pair);
            (partition.ports(here), pair)
        });
        // What neither side lets through is no difference.
        ports
            .filter(|(set, pair)| !set.is_empty() && !matches!(pair, [Refused(_), Refused(_)]))
            .collect()
    }

    /// A class in which both sides are decided: asks the engines. Gives the difference that it
    /// belongs to.
    fn leaf(
        &mut self,
        partition: &Partition,
        leaf: &Leaf<'p>,
        carriage: [Carriage; 2],
        view: View,
    ) -> Option<Key> {
        self.result.classes += 1;
        let differs = leaf.old != leaf.new;
        let Some(witness) = describe::witness(partition, &leaf.region) else {
            if differs {
                self.undecided("the two may differ where several globs match at once".to_owned());
            }
            return None;
        };
        let seen = self.ask(&witness, carriage, view);
        let expected = match &seen {
            Asked::Same => !differs,
            Asked::Told | Asked::Differ(_) => differs,
            Asked::Undecided => false,
        };
        if !expected {
            self.undecided("the engines contradict the comparison of classes".to_owned());
        }
        match seen {
            Asked::Differ(key) => Some(*key),
            Asked::Same | Asked::Told | Asked::Undecided => None,
        }
    }

    /// Puts facts to both engines, as the mesh of each carries them, and notes a difference.
    fn ask(&mut self, witness: &OwnedFacts, carriage: [Carriage; 2], view: View) -> Asked {
        let [old, new] = carriage;
        let judged = |set: &'p PolicySet, carriage: Carriage| {
            let facts = carriage.judged(witness);
            let evaluation = facts.with_facts(|facts| set.evaluate(facts));
            ruling(evaluation, view)
        };
        let (Some(old), Some(new)) = (judged(self.old.set, old), judged(self.new.set, new)) else {
            return Asked::Undecided;
        };
        if old.action == new.action {
            return Asked::Same;
        }
        let shadow = view == View::Lifted;
        let (old, new) = (WrittenDecision::from(&old), WrittenDecision::from(&new));
        // What is enforced differently need not be told again.
        if shadow && self.found.contains_key(&(false, old.clone(), new.clone())) {
            return Asked::Told;
        }
        let key = (shadow, old.clone(), new.clone());
        let found = self.found.entry(key.clone()).or_insert_with(|| Found {
            difference: Difference {
                shadow,
                old,
                new,
                what: Vec::new(),
                more: 0,
                classes: 0,
                witness: witness.clone(),
            },
            parts: Vec::new(),
        });
        found.difference.classes += 1;
        Asked::Differ(Box::new(key))
    }

    /// Where classes are too many: facts that fit the rule, put to both engines.
    fn sample(&mut self, rule: &Rule, view: View) {
        for source in sources(rule) {
            for to in destinations(rule) {
                let mut witness = sampled::ordinary(to, self.now);
                complete(&mut witness, source, to, rule);
                sampled::resolve_pending(&mut witness);
                let port = witness.port.known().unwrap_or_default();
                let carriage = self.ports.carriage(witness.protocol, port);
                // Where other facts stand for these, they are asked about as they are.
                let carriage = carriage.unwrap_or([Carriage::AsAsked; 2]);
                if let Asked::Differ(key) = self.ask(&witness, carriage, view)
                    && let Some(found) = self.found.get_mut(&key)
                {
                    found.parts.push(Words::sampled(&rule.name));
                }
            }
        }
    }

    fn undecided(&mut self, why: String) {
        self.result.undecided.push(why);
    }
}

/// What the engines say of facts.
enum Asked {
    Same,
    /// They differ, which is told of what is enforced already.
    Told,
    Differ(Box<Key>),
    Undecided,
}

/// Changed rules, and the rules that are near one of them.
#[derive(Default)]
struct Together<'p> {
    changed: Vec<&'p Rule>,
    /// By where they lie in memory.
    near: BTreeMap<usize, &'p Rule>,
}

impl<'p> Together<'p> {
    /// How many rules would be near with these.
    fn with(&self, near: &[&'p Rule]) -> usize {
        let known = |rule: &&&Rule| !self.near.contains_key(&std::ptr::from_ref(**rule).addr());
        self.near.len() + near.iter().filter(known).count()
    }

    fn take(&mut self, changed: &'p Rule, near: &[&'p Rule]) {
        self.changed.push(changed);
        let near = near.iter().copied();
        self.near
            .extend(near.map(|rule| (std::ptr::from_ref(rule).addr(), rule)));
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

#[cfg(test)]
mod tests;
