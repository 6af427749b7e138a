//! The walk over the candidates of one policy.

use smallvec::SmallVec;

use super::Index;
use super::candidates::Candidates;
use super::held::Runs;
use super::rules::{Actions, Effect, HostSet, ResolvedFacts, Rule, Store, Tier, ToTruth};
use super::truth::Truth;
use crate::facts::{Caller, Fact, Facts, Protocol};
use crate::model::{DefaultAction, Head, TierDefault, Workloads};
use crate::reason::ReasonCode;
use crate::settings::{AddressCheck, Settings};
use crate::verdict::RuleRef;

/// Which policy is walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    /// Without every Shadow rule and tier.
    Enforced,
    /// As if nothing were in shadow.
    ShadowLifted,
}

/// What one policy's walk can come to.
#[derive(Debug)]
pub(crate) struct PolicyOutcome<'p> {
    /// Every action that some completion of the facts leads to. Not all of them are collected once
    /// it is certain that the outcome is undecided.
    pub(crate) possible: Actions,
    /// One of them waits for a fact that may still come.
    pub(crate) pending: bool,
    /// Some completion of the facts still to come opens.
    pub(crate) may_accept: bool,
    /// Where the walk ended for certain: action, code, basis.
    pub(crate) end: (Actions, ReasonCode, RuleRef<'p>),
    /// The first rule or default that a missing fact left unknown.
    pub(crate) missing: Option<RuleRef<'p>>,
    /// What a name must not lead to: runs, and how many of their rules stood on the way. Complete
    /// if something opens for certain.
    pub(crate) held: SmallVec<[(u32, u32); 3]>,
    /// Every end that can open says `allowPrivate`.
    pub(crate) allow_private: bool,
    /// The policy's place, which whoever walks several of them fills in.
    pub(crate) policy: u32,
}

/// Whether a point of the walk can still lead to something that opens.
#[derive(Clone, Copy, PartialEq)]
enum CanOpen {
    No,
    Yes,
    /// As from the start of the next tier.
    DependsOnNextTier,
}

/// What an end of the walk can be.
#[derive(Clone, Copy)]
struct Ending {
    actions: Actions,
    /// The last resort among them.
    last: (Actions, ReasonCode),
    /// The choice waits for a fact that may still come.
    pending: bool,
    /// Where it opens, `allowPrivate` holds for sure.
    allow_private: bool,
}

impl Ending {
    /// One that opens without `allowPrivate`, or denies.
    const fn only(action: Actions, code: ReasonCode) -> Self {
        Self {
            actions: action,
            last: (action, code),
            pending: false,
            allow_private: !action.has_opening(),
        }
    }

    const fn deny(code: ReasonCode) -> Self {
        Self::only(Actions::DENY, code)
    }

    fn either(truth: Truth, if_true: Self, if_false: Self) -> Self {
        match truth {
            Truth::True => if_true,
            Truth::False => if_false,
            Truth::Pending | Truth::Missing => Self {
                actions: if_true.actions.with(if_false.actions),
                last: if_false.last,
                pending: truth == Truth::Pending || if_true.pending || if_false.pending,
                allow_private: if_true.allow_private && if_false.allow_private,
            },
        }
    }

    const fn opens(&self) -> bool {
        self.actions.has_opening() && (self.pending || !self.actions.has(Actions::DENY))
    }
}

struct Walk<'p, 's> {
    store: &'p Store,
    runs: &'p Runs,
    head: &'p Head,
    settings: Settings,
    seen: &'s ResolvedFacts<'s>,
    /// Where the address decides nothing, runs whose networks stood on the way in this tier.
    passed: Option<SmallVec<[u32; 4]>>,
    outcome: PolicyOutcome<'p>,
    /// The chance over all tiers before this one.
    so_far: CanOpen,
    /// The chance of this tier, once something decided it.
    this_tier: Option<CanOpen>,
    /// What the rest of this tier stands for, if it surely opens and if it never does.
    if_surely: CanOpen,
    if_never: CanOpen,
}

impl Index {
    /// Walks the policy over what was seen.
    pub(crate) fn walk<'p>(
        &'p self,
        head: &'p Head,
        settings: Settings,
        facts: &Facts<'_>,
        view: View,
    ) -> PolicyOutcome<'p> {
        let in_shadow = match view {
            View::Enforced => in_shadow(head, facts),
            View::ShadowLifted => Truth::False,
        };
        let seen = self.tables.store.see(facts, settings, in_shadow);
        let collects = view == View::Enforced
            && seen.is_unresolved()
            && in_shadow != Truth::True
            && matches!(seen.caller, Fact::Known(_));
        let mut walk = Walk::new(self, head, settings, &seen);
        walk.passed = collects.then(SmallVec::new);
        if let Some(code) = walk.refused() {
            walk.outcome.possible = Actions::DENY;
            walk.outcome.end = (Actions::DENY, code, RuleRef::Policy { policy: &head.name });
            return walk.outcome;
        }
        walk.unread();
        let mut candidates = Candidates::of(&self.tables, &seen);
        for (place, tier) in self.tiers.iter().enumerate() {
            let skipped = view == View::Enforced && tier.shadow;
            if !skipped {
                if !walk.tier(tier, place, view, &mut candidates) {
                    return walk.finish();
                }
                walk.next_tier();
            }
            candidates.skip_to(tier.end);
        }
        walk.policy_default();
        walk.finish()
    }
}

/// Where the walk goes after a rule.
#[derive(Clone, Copy)]
enum Next {
    Rule,
    RuleOrTier,
    Tier,
    End,
}

impl<'p, 's> Walk<'p, 's> {
    /// At the start of the policy.
    fn new(
        index: &'p Index,
        head: &'p Head,
        settings: Settings,
        seen: &'s ResolvedFacts<'s>,
    ) -> Self {
        Self {
            store: &index.tables.store,
            runs: &index.tables.runs,
            head,
            settings,
            seen,
            passed: None,
            outcome: PolicyOutcome {
                possible: Actions::NONE,
                pending: false,
                may_accept: false,
                end: (Actions::DENY, ReasonCode::EngineError, RuleRef::None),
                missing: None,
                held: SmallVec::new(),
                allow_private: true,
                policy: 0,
            },
            so_far: CanOpen::DependsOnNextTier,
            this_tier: None,
            if_surely: CanOpen::Yes,
            if_never: CanOpen::No,
        }
    }

    /// What is denied whatever the rules say.
    fn refused(&self) -> Option<ReasonCode> {
        let Fact::Known(caller) = self.seen.facts.caller else {
            return None;
        };
        match caller {
            Caller::Malformed => Some(ReasonCode::IdentityMalformed),
            Caller::Plaintext if !self.head.allow_plaintext => Some(ReasonCode::NoIdentity),
            Caller::Workload(id)
                if !self
                    .head
                    .trust_domains
                    .iter()
                    .any(|td| td == id.trust_domain) =>
            {
                Some(ReasonCode::TrustDomain)
            }
            Caller::Workload(_) | Caller::NoCertificate | Caller::Plaintext => None,
        }
    }

    /// Whoever or whatever is not read yet may turn out to be refused.
    fn unread(&mut self) {
        let (facts, basis) = (
            self.seen.facts,
            RuleRef::Policy {
                policy: &self.head.name,
            },
        );
        let unread = [
            Truth::on(facts.caller, |_| false),
            Truth::on(facts.destination.name, |_| false),
            Truth::on(facts.destination.port, |_| false),
        ];
        for truth in unread {
            self.end(truth, Ending::deny(ReasonCode::FactsMissing), basis);
        }
        self.pass(Truth::True, basis);
        self.next_tier();
    }

    /// The tier's rules, then its default. False where the walk ends, or where nothing that follows
    /// matters any more.
    fn tier(
        &mut self,
        tier: &'p Tier,
        place: usize,
        view: View,
        candidates: &mut Candidates<'_>,
    ) -> bool {
        let mut goes_on = false;
        while let Some(number) = candidates.next_below(tier.end) {
            let Some(rule) = self.store.rule(number) else {
                continue;
            };
            if rule.term.shadow && view == View::Enforced {
                continue;
            }
            let basis = RuleRef::Rule {
                policy: &self.head.name,
                tier: &tier.name,
                rule: self.store.strings.get(rule.name),
            };
            let next = self.rule(rule, place, basis);
            goes_on |= matches!(next, Next::RuleOrTier | Next::Tier);
            if self.is_settled() {
                return false;
            }
            if matches!(next, Next::Tier | Next::End) {
                self.leave_behind(number);
                return goes_on;
            }
        }
        self.leave_behind(tier.end);
        let passes = self.tier_default(tier);
        goes_on || passes
    }

    /// Whether the default goes on with the next tier.
    fn tier_default(&mut self, tier: &'p Tier) -> bool {
        let basis = RuleRef::Tier {
            policy: &self.head.name,
            tier: &tier.name,
        };
        match tier.default {
            TierDefault::Pass => {
                self.pass(Truth::True, basis);
                true
            }
            TierDefault::Deny => {
                let ending = self.deny(self.default_code());
                self.end(Truth::True, ending, basis);
                false
            }
        }
    }

    fn policy_default(&mut self) {
        let ending = match self.head.default {
            DefaultAction::Deny => self.deny(self.default_code()),
            DefaultAction::Accept => self.open(Actions::ACCEPT, ReasonCode::Default, Truth::False),
        };
        let policy = &self.head.name;
        self.end(Truth::True, ending, RuleRef::Policy { policy });
    }

    fn rule(&mut self, rule: &Rule, tier: usize, basis: RuleRef<'p>) -> Next {
        let in_force = rule
            .term
            .expires
            .map_or(Truth::True, |expires| match self.seen.facts.now {
                Fact::Known(now) => Truth::of(
                    self.store
                        .expiries
                        .get_nonzero(expires)
                        .is_some_and(|expires| now < *expires),
                ),
                Fact::Pending => Truth::Pending,
                // An unreadable clock means expired.
                Fact::Missing => Truth::False,
            });
        if in_force == Truth::False {
            return Next::Rule;
        }
        let who = in_force.and(self.store.caller_holds(rule.from, self.seen));
        if who == Truth::False {
            return Next::Rule;
        }
        self.pass_networks(rule, tier);
        let to = self.elements(rule);
        let (truth, malformed) = (who.and(to.holds), who.and(to.malformed));
        let action = match rule.term.effect {
            Effect::Pass => None,
            Effect::Deny => Some(Actions::DENY),
            Effect::Accept => Some(Actions::ACCEPT),
            Effect::Inspect(place) => Actions::inspect(usize::from(place)).or(Some(Actions::DENY)),
        };
        let next = match action {
            None => self.pass(truth, basis),
            Some(Actions::DENY) => {
                let ending = self.deny(ReasonCode::Rule);
                self.end(truth, ending, basis)
            }
            Some(action) => {
                let ending = self.open(action, ReasonCode::Rule, to.exempt);
                self.end(truth, ending, basis)
            }
        };
        if truth == Truth::True || malformed == Truth::False {
            return next;
        }
        // A path that servers read differently denies where the rule would have compared it.
        match (
            next,
            self.end(malformed, Ending::deny(ReasonCode::PathMalformed), basis),
        ) {
            (Next::RuleOrTier, Next::End) => Next::Tier,
            (_, Next::End) => Next::End,
            (next, _) => next,
        }
    }

    /// Notes the runs of a Deny's networks, which stand on the way of a name.
    fn pass_networks(&mut self, rule: &Rule, tier: usize) {
        let Some(passed) = &mut self.passed else {
            return;
        };
        if rule.term.effect != Effect::Deny {
            return;
        }
        let tier = u32::try_from(tier.saturating_add(1)).unwrap_or(u32::MAX);
        let claims_known = matches!(self.seen.claims, Fact::Known(_));
        for id in rule.to.get(&self.store.numbers) {
            let to = self.store.tos.get(*id);
            let Some(to) = to.filter(|to| matches!(to.place, HostSet::Networks(..))) else {
                continue;
            };
            if self.store.holds_somewhere(to, self.seen)
                && let Some(run) = self.runs.run((tier, rule.from, to.narrowing), claims_known)
                && !passed.contains(&run)
            {
                passed.push(run);
            }
        }
    }

    /// The walk leaves a tier before this rule.
    fn leave_behind(&mut self, end: u32) {
        for run in self.passed.iter_mut().flat_map(|passed| passed.drain(..)) {
            self.outcome.held.push((run, self.runs.before(run, end)));
        }
    }

    fn elements(&self, rule: &Rule) -> ToTruth {
        let denies = rule.term.effect == Effect::Deny;
        let numbers = rule.to.get(&self.store.numbers);
        let elements = numbers.iter().filter_map(|id| self.store.tos.get(*id));
        elements.fold(ToTruth::NONE, |all, to| {
            all.or(self.store.to_holds(to, denies, self.seen))
        })
    }

    /// An end of the walk that holds as far as `truth` says.
    fn end(&mut self, truth: Truth, ending: Ending, basis: RuleRef<'p>) -> Next {
        if truth == Truth::False {
            return Next::Rule;
        }
        self.outcome.possible = self.outcome.possible.with(ending.actions);
        self.outcome.pending |= ending.pending || truth == Truth::Pending;
        self.outcome.allow_private &= ending.allow_private;
        let opens = ending.opens();
        match truth {
            Truth::True => {
                let (action, code) = ending.last;
                self.outcome.end = (action, code, basis);
                self.decide(if opens { self.if_surely } else { self.if_never });
                return Next::End;
            }
            Truth::Pending if opens => self.decide(self.if_surely),
            Truth::Missing if !opens => self.decide(self.if_never),
            Truth::Pending | Truth::Missing | Truth::False => {}
        }
        if truth == Truth::Missing {
            self.outcome.missing.get_or_insert(basis);
        }
        Next::Rule
    }

    /// A Pass that holds as far as `truth` says.
    fn pass(&mut self, truth: Truth, basis: RuleRef<'p>) -> Next {
        match truth {
            Truth::False => Next::Rule,
            Truth::True => {
                self.decide(CanOpen::DependsOnNextTier);
                Next::Tier
            }
            Truth::Pending => {
                self.outcome.pending = true;
                self.if_never = CanOpen::DependsOnNextTier;
                Next::RuleOrTier
            }
            Truth::Missing => {
                self.outcome.missing.get_or_insert(basis);
                self.if_surely = CanOpen::DependsOnNextTier;
                Next::RuleOrTier
            }
        }
    }

    /// The first event of a tier that settles its chance does so for good.
    fn decide(&mut self, chance: CanOpen) {
        self.this_tier.get_or_insert(chance);
    }

    fn chance(&self) -> CanOpen {
        if self.so_far == CanOpen::DependsOnNextTier {
            self.this_tier.unwrap_or(CanOpen::DependsOnNextTier)
        } else {
            self.so_far
        }
    }

    fn next_tier(&mut self) {
        self.so_far = self.chance();
        self.this_tier = None;
        self.if_surely = CanOpen::Yes;
        self.if_never = CanOpen::No;
    }

    /// Nothing that follows can make this outcome other than undecided.
    fn is_settled(&self) -> bool {
        let possible = self.outcome.possible;
        self.outcome.pending
            && possible.has(Actions::DENY)
            && possible.has_opening()
            && self.chance() == CanOpen::Yes
    }

    fn finish(mut self) -> PolicyOutcome<'p> {
        self.outcome.may_accept = self.chance() == CanOpen::Yes;
        self.outcome
    }

    /// An end that opens, under the guard over the addresses that names lead to.
    fn open(&self, action: Actions, code: ReasonCode, exempt: Truth) -> Ending {
        match self.seen.facts.destination.name {
            Fact::Known(Some(_)) => Ending::either(
                exempt,
                self.guard(action, code, true),
                self.guard(action, code, false),
            ),
            // A literal is the policy's own business; an unread name is refused before.
            Fact::Known(None) | Fact::Pending | Fact::Missing => Ending::only(action, code),
        }
    }

    fn guard(&self, action: Actions, code: ReasonCode, exempt: bool) -> Ending {
        let mut opened = Ending::only(action, code);
        opened.allow_private |= exempt;
        // The address as it came: a mapped form is special as such.
        match (
            self.settings.address_check,
            self.seen.facts.destination.address,
        ) {
            // Its class leaves the rest out of the answer, if there are classes.
            (AddressCheck::None, _) | (AddressCheck::Classes, Fact::Pending | Fact::Missing) => {
                opened
            }
            (AddressCheck::Unstated, _) => Ending::deny(ReasonCode::AddressUnchecked),
            (AddressCheck::Classes, Fact::Known(address)) => {
                match self.settings.nat64.special(address) {
                    Some(kind) if !(exempt && kind.opened_by_allow_private()) => {
                        Ending::deny(ReasonCode::PrivateAddress)
                    }
                    Some(_) | None => opened,
                }
            }
        }
    }

    fn unless_special(&self, action: Actions, code: ReasonCode) -> Ending {
        let inside = Truth::on(self.seen.facts.destination.address, |address| {
            self.settings.nat64.special(address).is_some()
        });
        Ending::either(
            inside,
            Ending::deny(ReasonCode::PrivateAddress),
            Ending::only(action, code),
        )
    }

    /// A denial by the policy, which a workload in shadow is only told about.
    fn deny(&self, code: ReasonCode) -> Ending {
        Ending::either(self.seen.in_shadow, self.reported(), Ending::deny(code))
    }

    /// What a workload in shadow may do beyond its rules: everything but inside addresses.
    fn reported(&self) -> Ending {
        match (self.seen.facts.destination.name, self.seen.address) {
            (Fact::Known(Some(_)), _) => self.guard(Actions::ACCEPT, ReasonCode::Default, false),
            (Fact::Known(None), Fact::Missing) => Ending::deny(ReasonCode::AddressUnchecked),
            (Fact::Known(None), _) => self.unless_special(Actions::ACCEPT, ReasonCode::Default),
            (Fact::Pending | Fact::Missing, _) => {
                Ending::only(Actions::ACCEPT, ReasonCode::Default)
            }
        }
    }

    fn default_code(&self) -> ReasonCode {
        let request = &self.seen.facts.request;
        let connect = request.method == Fact::Known("CONNECT");
        let upgrade = matches!(request.upgrade, Fact::Known(Some(_)));
        if self.seen.facts.protocol == Protocol::Http && (connect || upgrade) {
            ReasonCode::ConnectNotAllowed
        } else {
            ReasonCode::Default
        }
    }
}

fn in_shadow(head: &Head, facts: &Facts<'_>) -> Truth {
    let entries = head.shadow_workloads.iter().map(|entry| {
        let in_force = match facts.now {
            Fact::Known(now) => Truth::of(now < entry.expires),
            Fact::Pending => Truth::Pending,
            Fact::Missing => Truth::False,
        };
        in_force.and(listed(&entry.workloads, facts.caller))
    });
    entries.fold(Truth::False, Truth::or)
}

/// Whether the caller is one of these workloads.
pub(crate) fn listed(workloads: &Workloads, caller: Fact<Caller<'_>>) -> Truth {
    Truth::on(caller, |caller| {
        caller.workload().is_some_and(|id| {
            workloads
                .namespaces
                .iter()
                .any(|namespace| namespace == id.namespace)
                || workloads
                    .service_accounts
                    .iter()
                    .any(|sa| sa.namespace == id.namespace && sa.name == id.service_account)
        })
    })
}
