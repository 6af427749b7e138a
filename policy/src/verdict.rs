//! The answer: an action, the machine's code for it, and what it rests on.

use std::fmt;

use serde::ser::SerializeStruct as _;
use serde::{Serialize, Serializer};

use crate::classes::{Addresses, ClassKey};
use crate::model::PlacedRule;
pub use crate::reason::ReasonCode;

/// What to do. Ordered from most to least restrictive; there is no default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action<'p> {
    /// Let nothing through.
    Deny,
    /// Let it through by way of the named inspection proxy.
    Inspect(&'p str),
    /// Let it through.
    Accept,
}

impl Action<'_> {
    /// The word that the policy file uses.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deny => "Deny",
            Self::Inspect(_) => "Inspect",
            Self::Accept => "Accept",
        }
    }
}

/// The place in the policies that a verdict rests on. Displays as `policy/tier/rule`, with the
/// missing parts left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RuleRef<'p> {
    /// No policy was reached: a refusal of the facts themselves.
    None,
    /// The policy's default, or a refusal by the policy as a whole.
    Policy {
        /// The policy's name.
        policy: &'p str,
    },
    /// A tier's default.
    Tier {
        /// The policy's name.
        policy: &'p str,
        /// The tier's name.
        tier: &'p str,
    },
    /// A rule.
    Rule {
        /// The policy's name.
        policy: &'p str,
        /// The tier's name.
        tier: &'p str,
        /// The rule's name.
        rule: &'p str,
    },
}

impl<'p> PlacedRule<'p> {
    /// What a verdict of the rule rests on; as text `POLICY/TIER/RULE`.
    #[must_use]
    pub fn basis(&self) -> RuleRef<'p> {
        RuleRef::Rule {
            policy: &self.policy.head.name,
            tier: &self.tier.name,
            rule: &self.rule.name,
        }
    }
}

impl<'p> RuleRef<'p> {
    /// The names of policy, tier and rule, as far as there are.
    #[must_use]
    pub const fn parts(&self) -> [Option<&'p str>; 3] {
        match *self {
            Self::None => [None, None, None],
            Self::Policy { policy } => [Some(policy), None, None],
            Self::Tier { policy, tier } => [Some(policy), Some(tier), None],
            Self::Rule { policy, tier, rule } => [Some(policy), Some(tier), Some(rule)],
        }
    }
}

/// Its parts, with null for those that are not there.
impl Serialize for RuleRef<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let names = ["policy", "tier", "rule"];
        let mut written = serializer.serialize_struct("RuleRef", names.len())?;
        for (name, part) in names.into_iter().zip(self.parts()) {
            written.serialize_field(name, &part)?;
        }
        written.end()
    }
}

impl fmt::Display for RuleRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => Ok(()),
            Self::Policy { policy } => f.write_str(policy),
            Self::Tier { policy, tier } => write!(f, "{policy}/{tier}"),
            Self::Rule { policy, tier, rule } => write!(f, "{policy}/{tier}/{rule}"),
        }
    }
}

/// One judgement: what, why, and where that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision<'p> {
    /// What to do.
    pub action: Action<'p>,
    /// Why.
    pub reason: ReasonCode,
    /// Where it is written.
    pub rule: RuleRef<'p>,
}

/// What decided, in its parts, and why: the form for machines, with `null` for what is not there.
/// As text it is the form for people: `seed/apps/app1-github` for a rule, `seed (default)` where a
/// policy or tier decided without one, `no rule (name_malformed)` for a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct DecidedBy<T> {
    /// The policy's name; none for a refusal of the facts themselves.
    pub policy: Option<T>,
    /// The tier's name; none where the policy as a whole decided.
    pub tier: Option<T>,
    /// The rule's name within its tier; none for a default.
    pub rule: Option<T>,
    /// Why.
    pub reason: ReasonCode,
}

impl DecidedBy<&str> {
    /// The same with texts of its own.
    #[must_use]
    pub fn into_owned(self) -> DecidedBy<String> {
        DecidedBy {
            policy: self.policy.map(str::to_owned),
            tier: self.tier.map(str::to_owned),
            rule: self.rule.map(str::to_owned),
            reason: self.reason,
        }
    }
}

impl<T: AsRef<str>> fmt::Display for DecidedBy<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [&self.policy, &self.tier, &self.rule];
        for (index, part) in parts.into_iter().flatten().enumerate() {
            let slash = if index > 0 { "/" } else { "" };
            write!(f, "{slash}{}", part.as_ref())?;
        }
        // No policy has a name with a space.
        f.write_str(if self.policy.is_none() { "no rule" } else { "" })?;
        match (&self.rule, self.reason) {
            (Some(_), ReasonCode::Rule) => Ok(()),
            (_, reason) => write!(f, " ({reason})"),
        }
    }
}

impl<'p> Decision<'p> {
    /// What decided and why, in its parts.
    #[must_use]
    pub const fn decided_by(&self) -> DecidedBy<&'p str> {
        let [policy, tier, rule] = self.rule.parts();
        DecidedBy {
            policy,
            tier,
            rule,
            reason: self.reason,
        }
    }
}

impl Decision<'_> {
    /// A denial that rests on no policy.
    #[must_use]
    pub const fn refusal(code: ReasonCode) -> Self {
        Self {
            action: Action::Deny,
            reason: code,
            rule: RuleRef::None,
        }
    }
}

/// A final answer. `C` is how its class is written: by key, or as what the key stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict<'p, C = ClassKey> {
    /// What is enforced.
    pub enforced: Decision<'p>,
    /// What would be enforced if nothing were in shadow, where that differs.
    pub shadow: Option<Decision<'p>>,
    /// Where the name that opens may lead.
    pub addresses: Addresses<C>,
}

impl<C> Verdict<'_, C> {
    /// A denial that an adapter has to give without the engine's walk: a limit, a failed read.
    #[must_use]
    pub const fn refusal(code: ReasonCode) -> Self {
        Self {
            enforced: Decision::refusal(code),
            shadow: None,
            addresses: Addresses::NotNamed,
        }
    }
}

/// What is known so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evaluation<'p, C = ClassKey> {
    /// No further fact can change the enforced action, but the address that a name leads to: what
    /// the verdict's class leaves out of the answer is not connected to.
    Final(Verdict<'p, C>),
    /// Facts are still to come, and some completion of them accepts.
    Undecided,
}

impl<'p, C> Evaluation<'p, C> {
    /// The answer at the limit of time or bytes that a connection may stay undecided for.
    #[must_use]
    pub fn at_limit(self) -> Verdict<'p, C> {
        match self {
            Self::Final(verdict) => verdict,
            Self::Undecided => Verdict::refusal(ReasonCode::UndecidedLimit),
        }
    }
}

#[cfg(test)]
mod tests;
