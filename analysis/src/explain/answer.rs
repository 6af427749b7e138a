//! An explanation as the command's JSON writes it.

use egress_policy::classes::AddressClass;
use egress_policy::verdict::Evaluation;
use schemars::JsonSchema;
use serde::Serialize;

use super::{Change, Entry, Explanation};
use crate::decision::WrittenDecision;
use crate::lists::List;
use crate::owned_facts::{OwnedFacts, WrittenFacts};

/// A verdict and why.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Answer<'e> {
    #[serde(flatten)]
    decision: WrittenDecision,
    /// The verdict without shadow, where it differs.
    would_be: Option<WrittenDecision>,
    /// Where the name that opens may lead: null for literals, denials, and where the address was
    /// given.
    address_class: Option<WrittenClass>,
    /// What was asked.
    #[schemars(with = "WrittenFacts")]
    facts: &'e OwnedFacts,
    /// What was taken for granted.
    assumed: &'e [String],
    /// Rules on the way, in order.
    considered: &'e [Entry<'e>],
    /// The lists that the deciding rule takes destinations from.
    lists: &'e [&'e List],
    /// What would change.
    if_known: &'e [Change],
}

/// What a gateway leaves out of a name's addresses, beside what no name may lead to.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
struct WrittenClass {
    /// RFC 1918, unique local and shared (CGNAT) addresses stay.
    allow_private: bool,
    /// Denied networks.
    refused: Vec<String>,
}

impl From<&AddressClass> for WrittenClass {
    fn from(class: &AddressClass) -> Self {
        Self {
            allow_private: class.allow_private,
            refused: class.refused.iter().map(ToString::to_string).collect(),
        }
    }
}

impl Explanation<'_> {
    /// The form that the command's JSON writes.
    #[must_use]
    pub fn answer(&self) -> Answer<'_> {
        let (decision, would_be) = match &self.evaluation {
            Evaluation::Final(verdict) => (
                WrittenDecision::from(&verdict.enforced),
                verdict.shadow.as_ref().map(WrittenDecision::from),
            ),
            Evaluation::Undecided => (WrittenDecision::undecided(), None),
        };
        Answer {
            decision,
            would_be,
            address_class: self.class.as_ref().map(WrittenClass::from),
            facts: &self.situation,
            assumed: &self.assumptions,
            considered: &self.considered,
            lists: &self.lists,
            if_known: &self.changes,
        }
    }
}
