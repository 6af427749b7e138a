//! What policies open for UDP.
//!
//! UDP does not go through the gateway, so nothing judges it as it happens: it is let straight out
//! by filters of the kernel, which only open, and know a pod by its namespace and labels, a
//! destination by networks and ports, and no time. This says what the policies accept in those
//! terms, all of them together as in verdicts: rules and tiers in order, without what is in
//! shadow, each policy for the workloads that it is for, and only what all of them accept.
//!
//! It never says more than [`crate::PolicySet::evaluate`] accepts (`tests/laws/udp.rs`). What such
//! a filter cannot say is a [`Defect`] and no opening; what no rule accepts by itself
//! (`default: Accept`, a workload in shadow) opens nothing.

mod region;
mod walk;

use crate::defect::{At, Defect, DefectKind, Defects};
use crate::model::{DefaultAction, LabelExpression, Networks, PlacedRule, Policy, RuleAction};
use crate::port::PortSet;
use crate::verdict::RuleRef;

use region::Region;
use walk::{Part, Reach, Step, Walk};

/// Most parts that what a rule opens may fall into. Beyond it rules overlap in ways that nobody
/// reads off the filters any more.
const MOST_PARTS: usize = 64;

/// The pods that are looked at.
#[derive(Clone, Copy, Debug)]
pub struct Pods<'c> {
    /// Their trust domain.
    pub trust_domain: &'c str,
    /// Their namespaces.
    pub namespaces: &'c [String],
}

/// Where UDP is let out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening<'p> {
    /// The rule that accepts it.
    pub rule: RuleRef<'p>,
    /// The pods' namespace.
    pub namespace: &'p str,
    /// The pods' labels; all must hold. None is every pod.
    pub pods: Vec<LabelExpression>,
    /// Networks. Each exception lies inside one of them.
    pub networks: Networks,
    /// Ports, never 0.
    pub ports: PortSet,
}

/// A rule whose meaning for UDP no filter of the kernel can have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inexpressible<'p> {
    /// The rule.
    pub rule: RuleRef<'p>,
    /// Where in its policy, and why.
    pub defect: Defect,
}

/// What is opened, in the order of namespaces and rules, and what cannot be said.
#[must_use]
pub fn openings<'p>(
    policies: &'p [Policy],
    pods: Pods<'p>,
) -> (Vec<Opening<'p>>, Vec<Inexpressible<'p>>) {
    let walks: Vec<_> = policies.iter().map(Walk::of).collect();
    let mut search = Search {
        walks: &walks,
        pods,
        found: Vec::new(),
        wrong: Vec::new(),
    };
    for walk in &walks {
        search.check(walk);
    }
    for namespace in pods.namespaces {
        for (index, walk) in walks.iter().enumerate() {
            let reach = walk.reach(namespace);
            if reach != Reach::Nobody {
                search.policy(index, walk, namespace);
            }
            // What it leaves is denied: later policies only take away from it.
            if reach == Reach::Everybody && !walk.accepts_the_rest() {
                break;
            }
        }
    }
    (search.found, search.wrong)
}

/// Whether a rule of the policy that is enforced is about UDP.
#[must_use]
pub fn is_about_udp(policy: &Policy) -> bool {
    let rule = |step: &Step<'_>| matches!(step, Step::Rule(_));
    Walk::of(policy).steps.iter().any(rule)
}

struct Search<'p, 'w> {
    walks: &'w [Walk<'p>],
    pods: Pods<'p>,
    found: Vec<Opening<'p>>,
    wrong: Vec<Inexpressible<'p>>,
}

impl<'p> Search<'p, '_> {
    /// What each rule that opens says of itself.
    fn check(&mut self, walk: &Walk<'p>) {
        for step in &walk.steps {
            let Step::Rule(place) = *step else { continue };
            let rule = place.rule;
            if rule.action != RuleAction::Accept {
                continue;
            }
            if rule.expires.is_some() {
                let message = "a UDP rule cannot expire: the kernel opens it and has no clock";
                let hint = "leave `expires` out, and take the rule away when its time is over";
                self.refuse(place, "expires", message.to_owned(), hint);
            }
            if !place.is_by_labels() {
                let message = "a UDP rule selects by namespaces and labels: the kernel knows \
                               neither service accounts nor clusters";
                let hint = "name namespaces, and labels that only these pods have";
                self.refuse(place, "from", message.to_owned(), hint);
            }
            if !walk.trusts(self.pods) {
                let message = format!(
                    "this opens nothing: `{}`, the pods' trust domain, is not in `trustDomains`",
                    self.pods.trust_domain
                );
                let hint = "the install settings name it: `spec.cluster.trustDomain`";
                self.refuse(place, "", message, hint);
            }
        }
    }

    /// Opens what the rules of one policy accept and all other policies do too.
    fn policy(&mut self, index: usize, walk: &Walk<'p>, namespace: &'p str) {
        if !walk.trusts(self.pods) {
            return;
        }
        let mut denied: Vec<Part<'p>> = Vec::new();
        for step in &walk.steps {
            let Step::Rule(place) = *step else { break };
            if !place.opens() {
                denied.extend(place.cuts(self.pods, namespace));
                continue;
            }
            let parts = place.parts(self.pods, namespace).into_iter();
            for part in parts.filter(|part| !part.partly) {
                let mut left: Vec<Region> = part.region.unmapped().into_iter().collect();
                for cut in &denied {
                    left = self.without(place, &left, cut);
                }
                for (other, walk) in self.walks.iter().enumerate() {
                    if other != index {
                        left = self.consult(place, left, walk, namespace);
                    }
                }
                self.open(place, namespace, left);
            }
        }
    }

    fn open(&mut self, place: PlacedRule<'p>, namespace: &'p str, parts: Vec<Region>) {
        for part in parts {
            let opening = Opening {
                rule: place.basis(),
                namespace,
                pods: part.pods,
                networks: part.networks,
                ports: part.ports,
            };
            if !self.found.contains(&opening) {
                self.found.push(opening);
            }
        }
    }

    /// What another policy accepts too.
    fn consult(
        &mut self,
        place: PlacedRule<'p>,
        wanted: Vec<Region>,
        walk: &Walk<'p>,
        namespace: &str,
    ) -> Vec<Region> {
        let reach = walk.reach(namespace);
        if reach == Reach::Nobody || wanted.is_empty() {
            return wanted;
        }
        let accepted = self.accepted(place, &wanted, walk, namespace);
        if reach == Reach::Some && !wanted.iter().all(|part| accepted.contains(part)) {
            let message = format!(
                "policy `{}` does not accept all of it for some service accounts of `{namespace}`, \
                 and the kernel knows none",
                walk.policy.head.name
            );
            let hint = "have that policy apply to the namespace, or accept the same there";
            self.refuse(place, "", message, hint);
            return Vec::new();
        }
        accepted
    }

    fn accepted(
        &mut self,
        place: PlacedRule<'p>,
        wanted: &[Region],
        walk: &Walk<'p>,
        namespace: &str,
    ) -> Vec<Region> {
        let mut accepted = Vec::new();
        if !walk.trusts(self.pods) {
            return accepted;
        }
        let mut rest = wanted.to_vec();
        for step in &walk.steps {
            let Step::Rule(by) = *step else {
                return self.bounded(place, accepted);
            };
            if by.opens() {
                let parts = by.parts(self.pods, namespace).into_iter();
                for part in parts.filter(|part| !part.partly) {
                    accepted.extend(rest.iter().filter_map(|rest| rest.and(&part.region)));
                }
            } else {
                for cut in by.cuts(self.pods, namespace) {
                    rest = self.without(place, &rest, &cut);
                }
            }
        }
        if walk.policy.head.default == DefaultAction::Accept {
            accepted.extend(rest);
        }
        self.bounded(place, accepted)
    }

    fn without(&mut self, place: PlacedRule<'p>, from: &[Region], cut: &Part<'p>) -> Vec<Region> {
        if cut.partly && from.iter().any(|part| part.and(&cut.region).is_some()) {
            let message = format!(
                "`{}` denies some of it by service account, and the kernel knows none",
                cut.of.basis()
            );
            let hint = "have that rule name namespaces and labels only, or narrow this one";
            self.refuse(place, "", message, hint);
        }
        let left = from.iter().flat_map(|part| part.without(&cut.region));
        self.bounded(place, left.collect())
    }

    fn bounded(&mut self, place: PlacedRule<'p>, parts: Vec<Region>) -> Vec<Region> {
        let mut kept: Vec<Region> = Vec::new();
        for part in parts {
            if kept.contains(&part) {
                continue;
            }
            if kept.len() == MOST_PARTS {
                let message = format!(
                    "what the other rules leave of it falls into more than {MOST_PARTS} parts"
                );
                self.refuse(place, "", message, "write UDP rules that overlap less");
                return Vec::new();
            }
            kept.push(part);
        }
        kept
    }

    /// Notes what keeps a rule from being opened, at one of its fields or, without one, at itself.
    fn refuse(&mut self, place: PlacedRule<'p>, field: &str, message: String, hint: &str) {
        let root = At::root();
        let spec = root.field("spec");
        let tiers = spec.field("tiers");
        let tier = tiers.index(place.tier_index);
        let rules = tier.field("rules");
        let rule = rules.index(place.rule_index);
        let field = (!field.is_empty()).then(|| rule.field(field));
        let mut defects = Defects::default();
        let at = field.unwrap_or(rule);
        defects.add(DefectKind::Conflict, &at, message, hint.to_owned());
        for defect in defects.into_vec() {
            let rule = place.basis();
            let refused = Inexpressible { rule, defect };
            if !self.wrong.contains(&refused) {
                self.wrong.push(refused);
            }
        }
    }
}
