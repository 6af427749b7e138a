//! Compiled policies, and the one function that decides.

use std::collections::BTreeSet;

use crate::classes::{AddressClass, Addresses, ClassKey, Held};
use crate::defect::suggestion;
use crate::defect::{At, Defect, DefectKind, Defects};
use crate::facts::{Fact, Facts};
use crate::index::{
    Actions, Full, Index, IndexBuilder, MAX_INSPECTION_PROXIES, PolicyOutcome, Truth, View, listed,
};
use crate::model::{From, Head, Mode, Policy, Rule, RuleAction, TierDefault};
use crate::read::{RuleSink, read_policy};
use crate::reason::ReasonCode;
use crate::settings::{AddressCheck, Settings};
use crate::tree::Node;
use crate::verdict::{Action, Decision, Evaluation, RuleRef, Verdict};

/// The policies of one gateway, in order, compiled. Immutable.
#[derive(Debug)]
pub struct PolicySet {
    policies: Vec<(Head, Index)>,
    settings: Settings,
    /// Names of the inspection proxies, sorted.
    proxies: Vec<String>,
    label_keys: Vec<String>,
    rules: usize,
}

impl PolicySet {
    /// Compiles policies that were read before.
    ///
    /// # Errors
    /// What is wrong between them, such as a second policy without `appliesTo`.
    pub fn compile(
        policies: &[Policy],
        settings: Settings,
        inspection: impl IntoIterator<Item = String>,
    ) -> Result<Self, Vec<Defect>> {
        let mut builder = PolicySetBuilder::new(settings, inspection);
        let mut defects = Defects::default();
        for (i, policy) in policies.iter().enumerate() {
            builder.add(policy, &At::root().index(i), &mut defects);
        }
        if defects.is_empty() {
            Ok(builder.finish())
        } else {
            Err(defects.into_vec())
        }
    }

    /// Judges what is known.
    #[must_use]
    pub fn evaluate(&self, facts: &Facts<'_>) -> Evaluation<'_> {
        let (enforced, all) = self.compose(facts, View::Enforced);
        let Composed::Final(enforced) = enforced else {
            return Evaluation::Undecided;
        };
        let addresses = match enforced.action {
            Action::Deny => Addresses::NotNamed,
            Action::Inspect(_) | Action::Accept => self.addresses(facts, &all),
        };
        let shadows = self
            .policies
            .iter()
            .any(|(head, index)| index.has_shadows() || !head.shadow_workloads.is_empty());
        let would_be = match shadows.then(|| self.compose(facts, View::ShadowLifted).0) {
            Some(Composed::Final(ruling)) if ruling.action != enforced.action => Some(ruling),
            Some(Composed::Final(_) | Composed::Undecided) | None => None,
        };
        Evaluation::Final(Verdict {
            enforced,
            shadow: would_be,
            addresses,
        })
    }

    /// The class of what opens.
    fn addresses(&self, facts: &Facts<'_>, all: &Together<'_>) -> Addresses {
        let named = matches!(facts.destination.name, Fact::Known(Some(_)));
        let resolved = matches!(facts.destination.address, Fact::Known(_));
        if self.settings.address_check != AddressCheck::Classes || !named || resolved {
            return Addresses::NotNamed;
        }
        let mut key = ClassKey {
            allow_private: all.outcomes.iter().all(|outcome| outcome.allow_private),
            ..ClassKey::default()
        };
        for outcome in &all.outcomes {
            let held = outcome.held.iter().filter(|(_, count)| *count > 0);
            key.held.extend(held.map(|(run, count)| Held {
                policy: outcome.policy,
                run: *run,
                count: *count,
            }));
        }
        key.held.sort_unstable();
        Addresses::Class(key)
    }

    /// The same answer with what its class stands for, as the reference evaluator gives it.
    #[must_use]
    pub fn spelt_out<'p>(&self, evaluation: Evaluation<'p>) -> Evaluation<'p, AddressClass> {
        let Evaluation::Final(verdict) = evaluation else {
            return Evaluation::Undecided;
        };
        Evaluation::Final(Verdict {
            enforced: verdict.enforced,
            shadow: verdict.shadow,
            addresses: match verdict.addresses {
                Addresses::NotNamed => Addresses::NotNamed,
                Addresses::Class(key) => Addresses::Class(self.class(&key)),
            },
        })
    }

    /// What a key of one of its verdicts stands for.
    #[must_use]
    pub fn class(&self, key: &ClassKey) -> AddressClass {
        let mut networks = Vec::new();
        for held in &key.held {
            let policy = usize::try_from(held.policy).ok();
            if let Some((_, index)) = policy.and_then(|place| self.policies.get(place)) {
                index.held(held.run, held.count, &mut networks);
            }
        }
        AddressClass::new(key.allow_private, &networks)
    }

    /// The labels that some rule selects by, sorted: what an adapter has to read.
    #[must_use]
    pub fn label_keys(&self) -> &[String] {
        &self.label_keys
    }

    /// How many rules there are in all.
    #[must_use]
    pub fn rule_count(&self) -> usize {
        self.rules
    }

    fn compose(&self, facts: &Facts<'_>, view: View) -> (Composed<'_>, Together<'_>) {
        let refusal = |code| {
            (
                Composed::Final(Decision::refusal(code)),
                Together::default(),
            )
        };
        if let Some(code) = facts.refused {
            return refusal(code);
        }
        if self.policies.is_empty() {
            return refusal(ReasonCode::NoPolicy);
        }
        let all = self.outcomes(facts, view);
        (self.together(&all), all)
    }

    /// What each policy that is consulted can come to. Once in the module.
    #[inline(never)]
    fn outcomes(&self, facts: &Facts<'_>, view: View) -> Together<'_> {
        let mut all = Together::default();
        for (place, (head, index)) in self.policies.iter().enumerate() {
            let applies = head
                .applies_to
                .as_ref()
                .map_or(Truth::True, |w| listed(w, facts.caller));
            if applies == Truth::False {
                continue;
            }
            let mut outcome = index.walk(head, self.settings, facts, view);
            outcome.policy = u32::try_from(place).unwrap_or(u32::MAX);
            if applies != Truth::True {
                // Not consulted is the same as accepting: the other policies decide.
                outcome.possible = outcome.possible.with(Actions::ACCEPT);
                outcome.pending |= applies == Truth::Pending;
                outcome.may_accept |= applies == Truth::Pending;
            }
            if !outcome.may_accept && all.closed.is_none() {
                all.closed = Some(self.closed(&outcome));
            }
            all.possible = all.possible.together(outcome.possible);
            all.outcomes.push(outcome);
        }
        all
    }

    /// "The result is the most restrictive (Deny < Inspect < Accept)."
    fn together<'p>(&'p self, all: &Together<'p>) -> Composed<'p> {
        if let Some(ruling) = all.closed {
            return Composed::Final(ruling);
        }
        let Some(strictest) = all.possible.strictest() else {
            return Composed::Final(Decision::refusal(ReasonCode::EngineError));
        };
        let holds = |outcome: &&PolicyOutcome<'p>| outcome.possible.has(strictest);
        if all.possible.is_single() {
            let decided = all
                .outcomes
                .iter()
                .find(|outcome| outcome.possible == strictest);
            return Composed::Final(decided.map_or(
                Decision::refusal(ReasonCode::EngineError),
                |outcome| {
                    let (action, code, basis) = outcome.end;
                    Decision {
                        action: self.action(action),
                        reason: code,
                        rule: basis,
                    }
                },
            ));
        }
        if all.outcomes.iter().any(|outcome| outcome.pending) {
            return Composed::Undecided;
        }
        let basis = all
            .outcomes
            .iter()
            .find(holds)
            .map_or(RuleRef::None, unsettled_basis);
        Composed::Final(Decision {
            action: self.action(strictest),
            reason: ReasonCode::FactsMissing,
            rule: basis,
        })
    }

    /// The denial of an outcome that can no longer open.
    fn closed<'p>(&'p self, outcome: &PolicyOutcome<'p>) -> Decision<'p> {
        if outcome.possible == Actions::DENY {
            let (action, code, basis) = outcome.end;
            return Decision {
                action: self.action(action),
                reason: code,
                rule: basis,
            };
        }
        Decision {
            action: Action::Deny,
            reason: ReasonCode::FactsMissing,
            rule: unsettled_basis(outcome),
        }
    }

    /// A number that stands for nothing denies.
    fn action(&self, action: Actions) -> Action<'_> {
        if action == Actions::ACCEPT {
            return Action::Accept;
        }
        let proxy = action
            .inspection_proxy()
            .and_then(|place| self.proxies.get(place));
        proxy.map_or(Action::Deny, |name| Action::Inspect(name))
    }
}

fn unsettled_basis<'p>(outcome: &PolicyOutcome<'p>) -> RuleRef<'p> {
    outcome.missing.unwrap_or(outcome.end.2)
}

enum Composed<'p> {
    Final(Decision<'p>),
    Undecided,
}

/// The outcomes of the policies that are consulted.
struct Together<'p> {
    outcomes: smallvec::SmallVec<[PolicyOutcome<'p>; 2]>,
    possible: Actions,
    closed: Option<Decision<'p>>,
}

impl Default for Together<'_> {
    fn default() -> Self {
        Self {
            outcomes: smallvec::SmallVec::new(),
            possible: Actions::ACCEPT,
            closed: None,
        }
    }
}

/// Reads and compiles policies one by one.
#[derive(Debug)]
pub struct PolicySetBuilder {
    settings: Settings,
    proxies: Vec<String>,
    policies: Vec<(Head, Index)>,
    label_keys: BTreeSet<String>,
    rules: usize,
}

impl PolicySetBuilder {
    /// A builder that knows the declared inspection proxies.
    pub fn new(settings: Settings, inspection: impl IntoIterator<Item = String>) -> Self {
        let mut proxies: Vec<String> = inspection.into_iter().collect();
        proxies.sort_unstable();
        proxies.dedup();
        Self {
            settings,
            proxies,
            policies: Vec::new(),
            label_keys: BTreeSet::new(),
            rules: 0,
        }
    }

    /// Reads the next policy from a document, without holding its rules beside the index.
    pub fn read(&mut self, document: &impl Node, at: &At<'_>, defects: &mut Defects) {
        let mut compiler = Compiler::new(self);
        let head = read_policy(document, at, defects, &mut compiler);
        let index = compiler.index;
        if let Some(head) = head {
            self.close(head, index, at, defects);
        }
    }

    /// Adds the next policy.
    pub fn add(&mut self, policy: &Policy, at: &At<'_>, defects: &mut Defects) {
        let mut compiler = Compiler::new(self);
        let spec = at.field("spec");
        let tiers = spec.field("tiers");
        for (t, tier) in policy.tiers.iter().enumerate() {
            compiler.tier(&tier.name, tier.mode, tier.default);
            let here = tiers.index(t);
            let rules = here.field("rules");
            for (r, rule) in tier.rules.iter().enumerate() {
                compiler.note(rule, &rules.index(r), defects);
            }
        }
        let index = compiler.index;
        self.close(policy.head.clone(), index, at, defects);
    }

    fn close(&mut self, head: Head, index: IndexBuilder, at: &At<'_>, defects: &mut Defects) {
        let spec = at.field("spec");
        let applies_to = spec.field("appliesTo");
        match (self.policies.is_empty(), &head.applies_to) {
            (true, Some(_)) => {
                let hint = "everything else would have no policy at all".to_owned();
                defects.add(
                    DefectKind::Conflict,
                    &applies_to,
                    "the first policy is for every workload",
                    hint,
                );
            }
            (false, None) => {
                let hint = "only the first policy is for every workload".to_owned();
                defects.add(
                    DefectKind::MissingField,
                    &spec,
                    "`appliesTo` is missing",
                    hint,
                );
            }
            (true, None) | (false, Some(_)) => {}
        }
        if self
            .policies
            .iter()
            .any(|(other, _)| other.name == head.name)
        {
            let message = format!("another policy is named `{}`", head.name);
            defects.add(
                DefectKind::DuplicateName,
                &at.field("metadata").field("name"),
                message,
                None,
            );
        }
        match index.finish() {
            Ok(index) => self.policies.push((head, index)),
            Err(Full) => full(at, defects),
        }
    }

    /// The compiled policies.
    #[must_use]
    pub fn finish(self) -> PolicySet {
        PolicySet {
            policies: self.policies,
            settings: self.settings,
            proxies: self.proxies,
            label_keys: self.label_keys.into_iter().collect(),
            rules: self.rules,
        }
    }
}

fn full(at: &At<'_>, defects: &mut Defects) {
    let hint = "more than four billion names or two billion rules".to_owned();
    defects.add(
        DefectKind::BadValue,
        at,
        "the policy is too large to be compiled",
        hint,
    );
}

/// Compiles one policy's rules as they are read.
struct Compiler<'b> {
    proxies: &'b [String],
    label_keys: &'b mut BTreeSet<String>,
    rules: &'b mut usize,
    index: IndexBuilder,
}

impl<'b> Compiler<'b> {
    fn new(builder: &'b mut PolicySetBuilder) -> Self {
        Self {
            proxies: &builder.proxies,
            label_keys: &mut builder.label_keys,
            rules: &mut builder.rules,
            index: IndexBuilder::default(),
        }
    }

    fn note(&mut self, rule: &Rule, at: &At<'_>, defects: &mut Defects) {
        *self.rules += 1;
        let proxy = match &rule.action {
            RuleAction::Inspect(name) => {
                let place = self.proxies.iter().position(|known| **known == **name);
                if place.is_none() {
                    let hint = suggestion(name, self.proxies.iter().map(String::as_str));
                    let message = format!("no inspection proxy is named `{name}`");
                    defects.add(
                        DefectKind::UnknownReference,
                        &at.field("inspection"),
                        message,
                        hint,
                    );
                    return;
                }
                place
                    .filter(|place| *place < MAX_INSPECTION_PROXIES)
                    .and_then(|place| u8::try_from(place).ok())
            }
            RuleAction::Accept | RuleAction::Deny | RuleAction::Pass => None,
        };
        if let From::Sources(sources) = &rule.from {
            for source in &**sources {
                let labels = source.match_labels.iter().map(|(key, _)| key);
                let expressions = source
                    .match_expressions
                    .iter()
                    .map(|expression| &expression.key);
                for key in labels.chain(expressions) {
                    if !self.label_keys.contains(key) {
                        self.label_keys.insert(key.clone());
                    }
                }
            }
        }
        if self.index.rule(rule, proxy) == Err(Full) {
            let message = format!(
                "more than {MAX_INSPECTION_PROXIES} inspection proxies, or a policy too large to be compiled"
            );
            defects.add(DefectKind::BadValue, at, message, None);
        }
    }
}

impl RuleSink for Compiler<'_> {
    fn tier(&mut self, name: &str, mode: Mode, default: TierDefault) {
        self.index.tier(name, mode, default);
    }

    fn expect(&mut self, rules: usize) {
        self.index.expect(rules);
    }

    fn rule(&mut self, rule: Rule, at: &At<'_>, defects: &mut Defects) {
        self.note(&rule, at, defects);
    }
}

#[cfg(test)]
mod tests;
