//! What a denied client is told: who asked for what, what decided, and how to ask. The module writes
//! it, and the gateway's configuration where Envoy itself refuses.

use serde::Serialize;

use crate::verdict::{DecidedBy, Decision, ReasonCode};

/// The body of a denial: as JSON by its fields, as text by [`Denial::text`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Denial<'a> {
    /// The caller, as the certificate names it.
    pub workload: &'a str,
    /// Host and port; printable.
    pub destination: &'a str,
    /// What decided and why.
    #[serde(flatten)]
    pub decided_by: DecidedBy<&'a str>,
    /// Why, as a sentence.
    pub explanation: &'static str,
    /// What to do, and whom to ask.
    pub ask: String,
}

impl<'a> Denial<'a> {
    /// The body for a denial of this destination to this workload.
    #[must_use]
    pub fn new(workload: &'a str, destination: &'a str, decision: &Decision<'a>) -> Self {
        let decided_by = decision.decided_by();
        Self {
            workload,
            destination,
            decided_by,
            explanation: decision.reason.explanation(),
            ask: how_to_ask(&decided_by),
        }
    }

    /// The text for people.
    #[must_use]
    pub fn text(&self) -> String {
        let Self {
            workload,
            destination,
            decided_by,
            explanation,
            ask,
        } = self;
        let code = decided_by.reason;
        format!(
            "egress denied: {explanation}\nworkload: {workload}\ndestination: {destination}\n\
             rule: {decided_by}\ncode: {code}\nask: {ask}\n"
        )
    }
}

fn how_to_ask(decided_by: &DecidedBy<&str>) -> String {
    let Some(policy) = decided_by.policy else {
        return "this is refused whatever the policy says; send this text to whoever runs the egress gateway"
            .to_owned();
    };
    match decided_by.reason {
        ReasonCode::Rule | ReasonCode::Default | ReasonCode::ConnectNotAllowed => format!(
            "propose a rule for this workload and destination in egress policy `{policy}`, and send this text with it"
        ),
        _ => format!("send this text to the owners of egress policy `{policy}`"),
    }
}

#[cfg(test)]
mod tests;
