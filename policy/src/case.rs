//! Decision cases: who asks, for what, and what the answer must be.
//!
//! One YAML file serves three subjects: this engine, the `warden` command, and a live Envoy. A
//! case says what the adapter would be given (an authority as sent, the URI SANs of a
//! certificate, what the resolver answered) and the facts are built by the same functions that
//! the filter uses, so a case also judges the grammar in front of the engine.
//!
//! A case may have several steps, each adding facts to the one before: that is how the order in
//! which facts arrive is tested.

pub mod line;
mod read;

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use crate::config::InspectionProxy;
use crate::destination::{
    Destination, Hello, Route, RouteHost, RouteTable, from_chain, from_request, from_tls,
    from_tunnel,
};
use crate::facts::{Caller, Claims, DestinationFacts, Fact, Facts, Protocol, Request};
use crate::model::Policy;
use crate::path::RequestPath;
use crate::reason::ReasonCode;
use crate::settings::{AddressCheck, Settings};
use crate::verdict::{Action, DecidedBy, Decision, Evaluation};

/// Where a name leads unless a case says otherwise: an ordinary address (RFC 5737).
pub const DEFAULT_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 80));
/// The time unless a case says otherwise: 2027-01-01T00:00:00Z.
pub const DEFAULT_NOW: i64 = 1_798_761_600;
/// The trust domain of the `workload` shorthand unless a case says otherwise.
pub const DEFAULT_TRUST_DOMAIN: &str = "cluster.local";

/// A file of cases.
#[derive(Clone, Debug)]
pub struct CaseFile {
    /// The policies, in order. Empty is a configuration of its own: no policy.
    pub policies: Vec<PolicyRef>,
    /// What the gateway's configuration says beside them.
    pub gateway: Gateway,
    /// The cases.
    pub cases: Vec<Case>,
}

/// A policy of a case file.
#[derive(Clone, Debug)]
pub enum PolicyRef {
    /// In another file, relative to the case file. The reader loads it; the engine does no I/O.
    Path(String),
    /// Written out in the case file.
    Inline(Box<Policy>),
}

/// A case file's `settings`.
#[derive(Clone, Debug)]
pub struct Gateway {
    /// What verdicts depend on.
    pub settings: Settings,
    /// Whether an encrypted ClientHello is refused outright.
    pub refuse_ech: bool,
    /// Clusters, as in `pluginConfig`.
    pub routes: RouteTable,
    /// Inspection proxies that rules name.
    pub inspection: Vec<InspectionProxy>,
}

impl Default for Gateway {
    fn default() -> Self {
        Self {
            settings: Settings::new(AddressCheck::Classes),
            refuse_ech: false,
            routes: RouteTable::default(),
            inspection: Vec::new(),
        }
    }
}

/// One case.
#[derive(Clone, Debug)]
pub struct Case {
    /// A sentence that says what must hold.
    pub name: String,
    /// The only subject that it can be asked of, if not all; `why` then says why.
    pub only: Option<Subject>,
    /// What the case is about, where the name does not say enough.
    pub why: Option<String>,
    /// What is known and what must follow, first to last. Never empty.
    pub steps: Vec<Step>,
}

/// Who answers a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The engine, in a test or through the command.
    Engine,
    /// A running Envoy with the module.
    Live,
}

/// What is known at one moment, and what must follow.
#[derive(Clone, Debug)]
pub struct Step {
    /// Everything known, the steps before included.
    pub input: CaseInput,
    /// The connection has reached its limit: what is undecided now ends.
    pub limit: bool,
    /// What must follow.
    pub expect: ExpectedAnswer,
    /// Where the target has answers: the addresses of them that may be connected to, ascending.
    /// Whatever else an answer has, no connection may go there.
    pub connects: Option<Vec<IpAddr>>,
}

/// What is known at one moment.
#[derive(Clone, Debug)]
pub struct CaseInput {
    /// Who asks.
    pub from: Asker,
    /// For what.
    pub to: Target,
    /// Seconds since the Unix epoch.
    pub now: Fact<i64>,
    /// What the adapter found before it asked the engine, such as a failed host call.
    pub refused: Option<ReasonCode>,
}

impl Default for CaseInput {
    fn default() -> Self {
        Self {
            from: Asker::default(),
            to: Target::default(),
            now: Fact::Known(DEFAULT_NOW),
            refused: None,
        }
    }
}

/// A case's `from`.
#[derive(Clone, Debug)]
pub struct Asker {
    /// What the connection proves.
    pub peer: Peer,
    /// Labels of the peer metadata.
    pub labels: Fact<Vec<(String, String)>>,
    /// The namespace that the peer metadata claims; `None` is the certificate's.
    pub metadata_namespace: Option<String>,
    /// The cluster that the peer metadata claims.
    pub cluster: Option<String>,
}

impl Default for Asker {
    fn default() -> Self {
        Self {
            peer: Peer::Pending,
            labels: Fact::Known(Vec::new()),
            metadata_namespace: None,
            cluster: None,
        }
    }
}

/// What a connection proves of its caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A verified certificate with these URI SANs.
    UriSans(Vec<Vec<u8>>),
    /// TLS without a client certificate.
    NoCertificate,
    /// No TLS.
    Plaintext,
    /// The handshake is not over.
    Pending,
    /// The certificate cannot be read.
    Missing,
}

impl Peer {
    /// As a fact.
    #[must_use]
    pub fn caller(&self) -> Fact<Caller<'_>> {
        match self {
            Self::UriSans(sans) => {
                Fact::Known(Caller::from_uri_sans(sans.iter().map(Vec::as_slice)))
            }
            Self::NoCertificate => Fact::Known(Caller::NoCertificate),
            Self::Plaintext => Fact::Known(Caller::Plaintext),
            Self::Pending => Fact::Pending,
            Self::Missing => Fact::Missing,
        }
    }
}

/// A case's `to`.
#[derive(Clone, Debug)]
pub struct Target {
    /// What the port carries.
    pub protocol: Protocol,
    /// HTTP: Host or `:authority`, as sent.
    pub authority: Option<Vec<u8>>,
    /// HTTP: the port of the gateway's route, unless `cluster` says it.
    pub port: Option<u16>,
    /// Envoy's cluster, looked up among the gateway's; `None` is a dynamic forward proxy.
    pub cluster: Option<Vec<u8>>,
    /// HTTP: the server name of application TLS that ended at the gateway.
    pub app_sni: Option<Vec<u8>>,
    /// TLS and TCP: the authority of the tunnel, `HOST:PORT`.
    pub dialled: Option<Vec<u8>>,
    /// TLS: the ClientHello.
    pub hello: Fact<HelloSeen>,
    /// Where the gateway connects for a name, if that is one known address.
    pub address: Fact<IpAddr>,
    /// What DNS answers for the name, one answer after the other; `address` is then pending. The
    /// verdict is one for all of them, and connections go to what it leaves of each.
    pub answers: Vec<Vec<IpAddr>>,
    /// The names of the CNAMEs through which the answers come. Nothing is judged by them.
    pub chain: Vec<String>,
    /// HTTP: the method.
    pub method: Fact<String>,
    /// HTTP: the path, as Envoy normalised it; `Known(None)` without one.
    pub path: Fact<Option<Vec<u8>>>,
    /// HTTP: the upgrade token; `Known(None)` without one.
    pub upgrade: Fact<Option<String>>,
    /// The URL, where the case has one: what a client asks for. Everything else here is what a gateway
    /// is given where the mesh carries it as it is asked for.
    pub url: Option<String>,
}

impl Default for Target {
    fn default() -> Self {
        Self {
            protocol: Protocol::Http,
            authority: None,
            port: None,
            cluster: None,
            app_sni: None,
            dialled: None,
            hello: Fact::Pending,
            address: Fact::Known(DEFAULT_ADDRESS),
            answers: Vec::new(),
            chain: Vec::new(),
            method: Fact::Known("GET".to_owned()),
            path: Fact::Known(Some(b"/".to_vec())),
            upgrade: Fact::Known(None),
            url: None,
        }
    }
}

/// What was seen of a ClientHello.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HelloSeen {
    /// A server name, and whether an encrypted ClientHello stands beside it.
    Name {
        /// The (outer) server name.
        sni: Vec<u8>,
        /// An `encrypted_client_hello` extension is there.
        ech: bool,
    },
    /// A ClientHello without a server name.
    NoName,
    /// Not a ClientHello.
    Malformed,
    /// Longer than is read.
    TooLong,
}

impl HelloSeen {
    fn borrow(&self) -> Hello<'_> {
        match self {
            Self::Name { sni, ech } => Hello::Name { sni, ech: *ech },
            Self::NoName => Hello::NoName,
            Self::Malformed => Hello::Malformed,
            Self::TooLong => Hello::TooLong,
        }
    }
}

/// What a destination is, as far as it is known.
enum Where {
    Agreed(Destination),
    /// TLS that has not named its server yet.
    Unnamed(u16),
}

impl Target {
    fn route(&self, gateway: &Gateway) -> Result<Route, ReasonCode> {
        match &self.cluster {
            Some(cluster) => gateway
                .routes
                .resolve(cluster)
                .map(std::borrow::Cow::into_owned),
            None => Ok(Route {
                host: RouteHost::Dynamic,
                port: self.port,
                protocol: self.protocol,
            }),
        }
    }

    fn locate(&self, gateway: &Gateway) -> Result<Where, ReasonCode> {
        let route = self.route(gateway)?;
        if route.protocol != self.protocol {
            return Err(ReasonCode::RouteMismatch);
        }
        if self.protocol == Protocol::Http {
            let authority = self.authority.as_deref().unwrap_or_default();
            return from_request(authority, &route, self.app_sni.as_deref()).map(Where::Agreed);
        }
        let dialled = match &self.dialled {
            Some(authority) => from_tunnel(authority, &route)?,
            None => from_chain(&route)?,
        };
        match (self.protocol, &self.hello) {
            (Protocol::Tls, Fact::Known(hello)) => {
                from_tls(&dialled, hello.borrow(), gateway.refuse_ech).map(Where::Agreed)
            }
            (Protocol::Tls, Fact::Pending | Fact::Missing) => Ok(Where::Unnamed(dialled.port)),
            (Protocol::Http | Protocol::Tcp | Protocol::Udp, _) => Ok(Where::Agreed(dialled)),
        }
    }
}

impl CaseInput {
    /// Builds the facts as an adapter would and hands them to `use_facts`.
    pub fn with_facts<R>(&self, gateway: &Gateway, use_facts: impl FnOnce(&Facts<'_>) -> R) -> R {
        let caller = self.from.peer.caller();
        let labels = self.from.labels.as_ref().map(|labels| {
            let pairs = labels.iter().map(|(k, v)| (k.as_str(), v.as_str()));
            pairs.collect::<Vec<_>>()
        });
        let proven = caller.known().and_then(Caller::workload);
        let namespace = self
            .from
            .metadata_namespace
            .as_deref()
            .or(proven.map(|id| id.namespace))
            .unwrap_or_default();
        let located = self.to.locate(gateway);
        let (destination, refused) = match &located {
            Ok(Where::Agreed(agreed)) => (agreed.facts(self.to.address), None),
            Ok(Where::Unnamed(port)) => (unnamed(*port), None),
            Err(code) => (Facts::pending(self.to.protocol).destination, Some(*code)),
        };
        let facts = Facts {
            protocol: self.to.protocol,
            caller,
            claims: labels.as_ref().map(|labels| Claims {
                namespace,
                cluster: self.from.cluster.as_deref(),
                labels,
            }),
            destination,
            request: Request {
                method: self.to.method.as_ref().map(String::as_str),
                path: self
                    .to
                    .path
                    .as_ref()
                    .map(|path| RequestPath::parse(path.as_deref())),
                upgrade: self.to.upgrade.as_ref().map(Option::as_deref),
            },
            now: self.now,
            refused: self.refused.or(refused),
        };
        use_facts(&facts)
    }
}

impl CaseInput {
    /// The addresses of the answers that what opens may connect to, ascending; `None` where the
    /// target has no answers. An address is left if the verdict for it alone opens as well.
    pub fn left<'p, C, D>(
        &self,
        gateway: &Gateway,
        evaluation: &Evaluation<'p, C>,
        mut evaluate: impl FnMut(&Facts<'_>) -> Evaluation<'p, D>,
    ) -> Option<Vec<IpAddr>> {
        if self.to.answers.is_empty() {
            return None;
        }
        let Evaluation::Final(verdict) = evaluation else {
            return Some(Vec::new());
        };
        let opens = verdict.enforced.action;
        let mut left = Vec::new();
        if opens != Action::Deny {
            let mut alone = self.clone();
            let addresses: BTreeSet<IpAddr> = self.to.answers.iter().flatten().copied().collect();
            for address in addresses {
                alone.to.address = Fact::Known(address);
                let answer = alone.with_facts(gateway, &mut evaluate);
                if matches!(answer, Evaluation::Final(one) if one.enforced.action == opens) {
                    left.push(address);
                }
            }
        }
        Some(left)
    }
}

/// What a caller sees: a name is refused where none of its addresses is left.
fn seen<C>(evaluation: &Evaluation<'_, C>, left: Option<&[IpAddr]>) -> ExpectedAnswer {
    let seen = ExpectedAnswer::from(evaluation);
    match (seen, left) {
        (ExpectedAnswer::Final { enforced, .. }, Some([])) if enforced.verdict != "Deny" => {
            ExpectedAnswer::Final {
                enforced: ExpectedDecision {
                    verdict: Action::Deny.as_str(),
                    inspection: None,
                    decided_by: DecidedBy {
                        reason: ReasonCode::PrivateAddress,
                        ..enforced.decided_by
                    },
                },
                would_be: None,
            }
        }
        (seen, _) => seen,
    }
}

struct Listed<'a>(&'a [IpAddr]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("nothing");
        }
        for (i, address) in self.0.iter().enumerate() {
            write!(f, "{}{address}", if i == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

fn unnamed(port: u16) -> DestinationFacts<'static> {
    DestinationFacts {
        name: Fact::Pending,
        address: Fact::Pending,
        port: Fact::Known(port),
    }
}

/// An answer, as a case expects it and as a subject gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "one for each step of a case, and few are undecided"
)]
pub enum ExpectedAnswer {
    /// Facts are still to come, and some completion of them opens.
    Undecided,
    /// A verdict, `Accept`, `Deny` or `Inspect`, whatever it rests on. Only a case writes it so.
    Verdict(&'static str),
    /// A verdict.
    Final {
        /// What is enforced.
        enforced: ExpectedDecision,
        /// What would be without Shadow, where that differs.
        would_be: Option<ExpectedDecision>,
    },
}

/// A ruling, as a case writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpectedDecision {
    /// `Accept`, `Deny` or `Inspect`.
    pub verdict: &'static str,
    /// The inspection proxy of `Inspect`.
    pub inspection: Option<String>,
    /// What decided and why.
    pub decided_by: DecidedBy<String>,
}

impl ExpectedAnswer {
    /// Whether something is let through.
    #[must_use]
    pub fn opens(&self) -> bool {
        let verdict = match self {
            Self::Undecided => return false,
            Self::Verdict(verdict) => verdict,
            Self::Final { enforced, .. } => enforced.verdict,
        };
        verdict != "Deny"
    }

    /// Whether an answer is as a case expects it.
    fn agrees(&self, seen: &Self) -> bool {
        match (self, seen) {
            (Self::Verdict(verdict), Self::Final { enforced, .. }) => *verdict == enforced.verdict,
            (expected, seen) => expected == seen,
        }
    }
}

impl From<&Decision<'_>> for ExpectedDecision {
    fn from(ruling: &Decision<'_>) -> Self {
        Self {
            verdict: ruling.action.as_str(),
            inspection: match ruling.action {
                Action::Inspect(name) => Some(name.to_owned()),
                Action::Accept | Action::Deny => None,
            },
            decided_by: ruling.decided_by().into_owned(),
        }
    }
}

impl<C> From<&Evaluation<'_, C>> for ExpectedAnswer {
    fn from(evaluation: &Evaluation<'_, C>) -> Self {
        match evaluation {
            Evaluation::Undecided => Self::Undecided,
            Evaluation::Final(verdict) => Self::Final {
                enforced: (&verdict.enforced).into(),
                would_be: verdict.shadow.as_ref().map(Into::into),
            },
        }
    }
}

impl fmt::Display for ExpectedDecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.verdict)?;
        if let Some(inspection) = &self.inspection {
            write!(f, " through {inspection}")?;
        }
        write!(f, " by {}", self.decided_by)
    }
}

impl fmt::Display for ExpectedAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Undecided => f.write_str("Undecided"),
            Self::Verdict(verdict) => f.write_str(verdict),
            Self::Final { enforced, would_be } => {
                enforced.fmt(f)?;
                would_be
                    .iter()
                    .try_for_each(|ruling| write!(f, ", would be {ruling}"))
            }
        }
    }
}

/// A step whose answer is not the expected one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// Which step, counted from zero.
    pub step: usize,
    /// What the case expects.
    pub expected: ExpectedAnswer,
    /// What came.
    pub seen: ExpectedAnswer,
    /// The addresses that may be connected to, where the case says which: expected, and left.
    pub connects: Option<(Vec<IpAddr>, Vec<IpAddr>)>,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            step,
            expected,
            seen,
            connects,
        } = self;
        let step = step + 1;
        write!(f, "step {step}: expected {expected}; got {seen}")?;
        if let Some((expected, left)) = connects.as_ref().filter(|(a, b)| a != b) {
            write!(
                f,
                "; connections to {}, not to {}",
                Listed(left),
                Listed(expected)
            )?;
        }
        Ok(())
    }
}

impl Case {
    /// True if this subject can be asked.
    #[must_use]
    pub fn is_for(&self, subject: Subject) -> bool {
        self.only.is_none_or(|only| only == subject)
    }

    /// Asks the evaluator at every step; nothing comes back if all answers are the expected ones.
    pub fn check<'p, C>(
        &self,
        gateway: &Gateway,
        mut evaluate: impl FnMut(&Facts<'_>) -> Evaluation<'p, C>,
    ) -> Vec<Mismatch> {
        let mut mismatches = Vec::new();
        for (i, step) in self.steps.iter().enumerate() {
            let mut evaluation = step.input.with_facts(gateway, &mut evaluate);
            if step.limit {
                evaluation = Evaluation::Final(evaluation.at_limit());
            }
            let left = step.input.left(gateway, &evaluation, &mut evaluate);
            let seen = seen(&evaluation, left.as_deref());
            let connects = step.connects.clone().zip(left);
            if !step.expect.agrees(&seen) || connects.as_ref().is_some_and(|(a, b)| a != b) {
                mismatches.push(Mismatch {
                    step: i,
                    expected: step.expect.clone(),
                    seen,
                    connects,
                });
            }
        }
        mismatches
    }
}

#[cfg(test)]
mod tests;
