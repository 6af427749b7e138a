//! Verdicts and decisions as the command writes them.

use std::cmp::Ordering;
use std::fmt;

use egress_policy::reference::Truth;
use egress_policy::verdict::{Action, Decision, Evaluation, ReasonCode, RuleRef};
use schemars::JsonSchema;
use serde::Serialize;

/// A verdict in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[schemars(rename = "verdict")]
pub enum VerdictWord {
    /// It is let through.
    Accept,
    /// Nothing is let through.
    Deny,
    /// It is let through by way of an inspection proxy.
    Inspect,
    /// Not enough facts to decide.
    Undecided,
}

impl VerdictWord {
    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accept => "Accept",
            Self::Deny => "Deny",
            Self::Inspect => "Inspect",
            Self::Undecided => "Undecided",
        }
    }
}

impl fmt::Display for VerdictWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<Action<'_>> for VerdictWord {
    fn from(action: Action<'_>) -> Self {
        match action {
            Action::Accept => Self::Accept,
            Action::Deny => Self::Deny,
            Action::Inspect(_) => Self::Inspect,
        }
    }
}

/// A reason code: why a decision is what it is, as a stable word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(into = "&'static str")]
#[schemars(
    rename = "code",
    with = "String",
    extend("enum" = ReasonCode::ALL.map(ReasonCode::as_str))
)]
pub struct ReasonWord(pub ReasonCode);

/// By their words.
impl Ord for ReasonWord {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.as_str().cmp(other.0.as_str())
    }
}

impl PartialOrd for ReasonWord {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl From<ReasonWord> for &'static str {
    fn from(word: ReasonWord) -> Self {
        word.0.as_str()
    }
}

impl fmt::Display for ReasonWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "ruling")]
pub struct WrittenDecision {
    /// The verdict in one word.
    pub verdict: VerdictWord,
    /// Why, as a word; null where undecided.
    pub code: Option<ReasonWord>,
    /// Why, as a sentence.
    pub reason: &'static str,
    /// `policy/tier/rule`, shorter for defaults, null for refusals of the facts.
    pub rule: Option<String>,
    /// The inspection proxy of Inspect.
    pub inspection: Option<String>,
}

impl WrittenDecision {
    /// No decision yet.
    pub(crate) const UNDECIDED: Self = Self {
        verdict: VerdictWord::Undecided,
        code: None,
        reason: "the given facts decide nothing yet",
        rule: None,
        inspection: None,
    };

    /// The verdict for people: `Accept`, `Deny`, `Inspect through PROXY`.
    #[must_use]
    pub fn words(&self) -> String {
        match &self.inspection {
            Some(proxy) => action_words(Action::Inspect(proxy)),
            None => self.verdict.as_str().to_owned(),
        }
    }
}

/// By verdict, then by rule.
impl Ord for WrittenDecision {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.verdict.cmp(&other.verdict))
            .then_with(|| self.inspection.cmp(&other.inspection))
            .then_with(|| self.rule.cmp(&other.rule))
            .then_with(|| self.code.cmp(&other.code))
            .then_with(|| self.reason.cmp(other.reason))
    }
}

impl PartialOrd for WrittenDecision {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl From<&Decision<'_>> for WrittenDecision {
    fn from(decision: &Decision<'_>) -> Self {
        let inspection = match decision.action {
            Action::Inspect(proxy) => Some(proxy.to_owned()),
            Action::Accept | Action::Deny => None,
        };
        Self {
            verdict: decision.action.into(),
            code: Some(ReasonWord(decision.reason)),
            reason: decision.reason.explanation(),
            rule: rule_id(decision.rule),
            inspection,
        }
    }
}

/// Whether a rule matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Matches {
    /// It does.
    True,
    /// It does not.
    False,
    /// A fact that decides it can still arrive.
    Pending,
    /// A fact that decides it can no longer arrive.
    Missing,
}

impl From<Truth> for Matches {
    fn from(truth: Truth) -> Self {
        match truth {
            Truth::True => Self::True,
            Truth::False => Self::False,
            Truth::Unknown { pending: true } => Self::Pending,
            Truth::Unknown { pending: false } => Self::Missing,
        }
    }
}

/// The word for an evaluation.
#[must_use]
pub fn verdict_word(evaluation: &Evaluation<'_>) -> VerdictWord {
    match evaluation {
        Evaluation::Final(verdict) => verdict.enforced.action.into(),
        Evaluation::Undecided => VerdictWord::Undecided,
    }
}

/// The code of a final evaluation.
#[must_use]
pub fn code_of(evaluation: &Evaluation<'_>) -> Option<ReasonWord> {
    match evaluation {
        Evaluation::Final(verdict) => Some(ReasonWord(verdict.enforced.reason)),
        Evaluation::Undecided => None,
    }
}

/// What is done, for people: `Accept`, `Deny`, `Inspect through PROXY`.
#[must_use]
pub fn action_words(action: Action<'_>) -> String {
    match action {
        Action::Inspect(proxy) => format!("Inspect through {proxy}"),
        Action::Accept | Action::Deny => action.as_str().to_owned(),
    }
}

/// What a decision rests on: `policy/tier/rule`, shorter for defaults, nothing for refusals.
#[must_use]
pub fn rule_id(rule: RuleRef<'_>) -> Option<String> {
    match rule {
        RuleRef::None => None,
        RuleRef::Policy { .. } | RuleRef::Tier { .. } | RuleRef::Rule { .. } => {
            Some(rule.to_string())
        }
    }
}

/// The same for people: what a default decides says so. Empty for refusals.
#[must_use]
pub fn basis_words(decision: &Decision<'_>) -> String {
    match decision.rule {
        RuleRef::Policy { .. } | RuleRef::Tier { .. } if decision.reason == ReasonCode::Default => {
            format!("{} (default)", decision.rule)
        }
        basis => basis.to_string(),
    }
}

/// What a final evaluation rests on, and the policy that it is of.
#[must_use]
pub fn rule_of(evaluation: &Evaluation<'_>) -> Option<(String, String)> {
    let Evaluation::Final(verdict) = evaluation else {
        return None;
    };
    let rule = verdict.enforced.rule;
    match rule {
        RuleRef::None => None,
        RuleRef::Policy { policy }
        | RuleRef::Tier { policy, .. }
        | RuleRef::Rule { policy, .. } => Some((rule.to_string(), policy.to_owned())),
    }
}
