//! Trying a policy from inside a pod: what the policy names, what lies beside it, and the ways
//! around the gateway, each with what the engine expects and what was seen.
//!
//! - [`plan`] holds what attempts are made from, and the verdict that the engine expects of each;
//!   [`planner`] writes them down.
//! - [`probe`] makes them: a connection each, at most one request or greeting, nothing more.
//! - [`judge`] compares. What an answer cannot show is said to be unclear, never taken for good.

mod bypass;
mod near_misses;
mod plan;
mod planner;
mod probe;
mod report;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use egress_analysis::decision::WrittenDecidedBy;
use schemars::JsonSchema;
use serde::Serialize;

pub(crate) use bypass::Direct;
pub(crate) use plan::{Plan, Workload};
pub(crate) use probe::{Captured, may_ping, redirected, resolve_all, try_all};
pub(crate) use report::PodReport;

/// What an attempt is there to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, clap::ValueEnum, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub(crate) enum Group {
    /// What the policy names, for whichever workload.
    Destinations,
    /// What lies just beside it: apex, look-alike, sibling, neighbouring port and address, odd
    /// authorities and server names.
    NearMisses,
    /// Ways around the gateway.
    Bypass,
}

impl Group {
    pub(crate) const ALL: [Self; 3] = [Self::Destinations, Self::NearMisses, Self::Bypass];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Destinations => "destinations",
            Self::NearMisses => "near-misses",
            Self::Bypass => "bypass",
        }
    }
}

/// One thing to try.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Attempt {
    /// A request without a body.
    Http {
        to: SocketAddr,
        method: &'static str,
        authority: String,
        path: String,
        headers: Vec<(&'static str, String)>,
    },
    /// A ClientHello.
    Tls {
        to: SocketAddr,
        name: Option<String>,
    },
    /// A connection that listens.
    Tcp { to: SocketAddr },
    /// The same, expected to go past every proxy.
    Direct { to: SocketAddr },
    /// A datagram.
    Udp { to: SocketAddr, message: Message },
    /// An ICMP echo request.
    Ping { to: IpAddr },
}

/// What a datagram holds: something that servers of that kind answer and nobody acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Message {
    /// A DNS query for the root's name servers.
    Dns,
    /// A QUIC packet of a version that nobody speaks, which servers answer with theirs
    /// (RFC 9000 §6.1).
    Quic,
    /// An NTP client request (RFC 5905 §7.3).
    Ntp,
    /// Nothing.
    Empty,
}

impl Message {
    pub(crate) const fn for_port(port: u16) -> Self {
        match port {
            53 => Self::Dns,
            123 => Self::Ntp,
            443 => Self::Quic,
            _ => Self::Empty,
        }
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http {
                to,
                method,
                authority,
                path,
                headers,
            } => {
                if *method != "GET" {
                    write!(f, "{method} ")?;
                }
                write!(f, "http://{authority}{path}")?;
                if to.port() != 80 && !authority.contains(':') {
                    write!(f, " at port {}", to.port())?;
                }
                for (name, _) in headers {
                    write!(f, " with {name}")?;
                }
                Ok(())
            }
            Self::Tls {
                to,
                name: Some(name),
            } => write!(f, "tls {name} at {to}"),
            Self::Tls { to, name: None } => write!(f, "tls {to} without a server name"),
            Self::Tcp { to } => write!(f, "tcp {to}"),
            Self::Direct { to } => write!(f, "tcp {to} directly"),
            Self::Udp { to, message } => {
                let what = match message {
                    Message::Dns => "dns over udp",
                    Message::Quic => "quic",
                    Message::Ntp => "ntp",
                    Message::Empty => "udp",
                };
                write!(f, "{what} {to}")
            }
            Self::Ping { to } => write!(f, "ping {to}"),
        }
    }
}

/// What the engine says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(inline)]
pub(crate) struct ProbeExpectation {
    /// In one word.
    pub(crate) verdict: Expectation,
    /// What decides it and why; null where it is not asked because no rule could open the way.
    #[serde(flatten)]
    pub(crate) decided_by: WrittenDecidedBy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(crate) enum Expectation {
    /// The policies let it through.
    Reached,
    /// They do not.
    Refused,
    /// The given facts about the workload decide nothing.
    Undecided,
}

impl ProbeExpectation {
    /// No rule opens a way around the gateway.
    pub(crate) fn closed() -> Self {
        Self {
            verdict: Expectation::Refused,
            decided_by: WrittenDecidedBy::default(),
        }
    }
}

/// An attempt and what is expected of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Probe {
    pub(crate) group: Group,
    /// Why it is tried, in words.
    pub(crate) why: String,
    pub(crate) attempt: Attempt,
    pub(crate) expected: ProbeExpectation,
    /// Whether somebody is known to live there: silence says something then.
    pub(crate) known_live: bool,
}

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(into = "report::WrittenResult")]
pub(crate) enum ProbeResult {
    /// The destination answered.
    Reached(String),
    /// The connection stands and nothing was said.
    Open,
    /// The gateway's own answer, with what decided it.
    Denied(WrittenDecidedBy),
    /// Closed, reset, or turned down by something on the way.
    Refused(String),
    /// Nothing came back.
    Dropped,
    /// It shows nothing.
    Unclear(String),
}

/// How an attempt compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub(crate) enum Comparison {
    /// What was seen is what was expected.
    AsExpected,
    /// It is not.
    Differs,
    /// What was seen shows nothing.
    Unclear,
}

/// Compares what was seen with what was expected.
pub(crate) fn judge(probe: &Probe, seen: &ProbeResult) -> Comparison {
    use Comparison::{AsExpected, Differs, Unclear};
    let udp = matches!(probe.attempt, Attempt::Udp { .. });
    match (probe.expected.verdict, seen) {
        (Expectation::Undecided, _)
        | (_, ProbeResult::Unclear(_))
        | (Expectation::Refused, ProbeResult::Open) => Unclear,
        (Expectation::Reached, ProbeResult::Reached(_) | ProbeResult::Open)
        | (
            Expectation::Refused,
            ProbeResult::Denied { .. } | ProbeResult::Refused(_) | ProbeResult::Dropped,
        ) => AsExpected,
        // Where nobody may live, or may answer, silence is not the gateway's doing.
        (Expectation::Reached, ProbeResult::Refused(_) | ProbeResult::Dropped)
            if udp || !probe.known_live =>
        {
            Unclear
        }
        (Expectation::Refused, ProbeResult::Reached(_))
        | (
            Expectation::Reached,
            ProbeResult::Denied { .. } | ProbeResult::Refused(_) | ProbeResult::Dropped,
        ) => Differs,
    }
}
