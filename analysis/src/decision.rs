//! Verdicts and decisions as the command writes them.

use std::cmp::Ordering;
use std::fmt;

use egress_policy::reference::Truth;
use egress_policy::verdict::{Action, DecidedBy, Decision, Evaluation, ReasonCode};
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
    rename = "reason",
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

/// What decided and why, in its parts. Null for what is not there, and everywhere where undecided.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[schemars(inline)]
pub struct WrittenDecidedBy {
    /// The policy; null for refusals of the facts.
    pub policy: Option<String>,
    /// The tier; null where the policy as a whole decides.
    pub tier: Option<String>,
    /// The rule; null for defaults.
    pub rule: Option<String>,
    /// Why, as a word.
    pub reason: Option<ReasonWord>,
}

impl WrittenDecidedBy {
    /// The same for people: `seed/apps/app1-github`, `seed (default)`. Nothing where undecided.
    #[must_use]
    pub fn words(&self) -> Option<String> {
        let by = DecidedBy {
            policy: self.policy.as_deref(),
            tier: self.tier.as_deref(),
            rule: self.rule.as_deref(),
            reason: self.reason?.0,
        };
        Some(by.to_string())
    }
}

impl From<DecidedBy<&str>> for WrittenDecidedBy {
    fn from(by: DecidedBy<&str>) -> Self {
        let DecidedBy {
            policy,
            tier,
            rule,
            reason,
        } = by.into_owned();
        Self {
            policy,
            tier,
            rule,
            reason: Some(ReasonWord(reason)),
        }
    }
}

impl From<&Evaluation<'_>> for WrittenDecidedBy {
    fn from(evaluation: &Evaluation<'_>) -> Self {
        match evaluation {
            Evaluation::Final(verdict) => verdict.enforced.decided_by().into(),
            Evaluation::Undecided => Self::default(),
        }
    }
}

/// A verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "decision")]
pub struct WrittenDecision {
    /// The verdict in one word.
    pub verdict: VerdictWord,
    /// What decided and why.
    #[serde(flatten)]
    pub decided_by: WrittenDecidedBy,
    /// Why, as a sentence.
    pub explanation: &'static str,
    /// The inspection proxy of Inspect.
    pub inspection: Option<String>,
}

impl WrittenDecision {
    /// No decision yet.
    pub(crate) fn undecided() -> Self {
        Self {
            verdict: VerdictWord::Undecided,
            decided_by: WrittenDecidedBy::default(),
            explanation: "the given facts decide nothing yet",
            inspection: None,
        }
    }

    /// The verdict for people: `Accept`, `Deny`, `Inspect through PROXY`.
    #[must_use]
    pub fn words(&self) -> String {
        match &self.inspection {
            Some(proxy) => action_words(Action::Inspect(proxy)),
            None => self.verdict.as_str().to_owned(),
        }
    }
}

/// With what decided: `Accept by seed/apps/app1-github`, `Deny by seed (default)`.
impl fmt::Display for WrittenDecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words())?;
        match self.decided_by.words() {
            Some(by) => write!(f, " by {by}"),
            None => Ok(()),
        }
    }
}

/// By verdict, then by rule.
impl Ord for WrittenDecision {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.verdict.cmp(&other.verdict))
            .then_with(|| self.inspection.cmp(&other.inspection))
            .then_with(|| self.decided_by.cmp(&other.decided_by))
            .then_with(|| self.explanation.cmp(other.explanation))
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
            decided_by: decision.decided_by().into(),
            explanation: decision.reason.explanation(),
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

/// The decision for people: `Accept by seed/apps/app1-github`, `Deny by seed (default)`.
#[must_use]
pub fn decision_words(decision: &Decision<'_>) -> String {
    format!(
        "{} by {}",
        action_words(decision.action),
        decision.decided_by()
    )
}

/// What is done, for people: `Accept`, `Deny`, `Inspect through PROXY`.
#[must_use]
pub fn action_words(action: Action<'_>) -> String {
    match action {
        Action::Inspect(proxy) => format!("Inspect through {proxy}"),
        Action::Accept | Action::Deny => action.as_str().to_owned(),
    }
}
