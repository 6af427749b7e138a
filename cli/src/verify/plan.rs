//! What attempts are made from, and what the engine expects of each.

use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use egress_policy::PolicySet;
use egress_policy::destination::{Route, RouteHost, from_request};
use egress_policy::facts::{Fact, Protocol};
use egress_policy::model::{Hosts, Networks, Policy, To};
use egress_policy::name::{Host, Name, NamePattern};
use egress_policy::port::PortSet;
use egress_policy::ports::{MeshPorts, Named, Origination};
use egress_policy::verdict::{Action, Evaluation};
use ipnet::IpNet;

use super::{Attempt, Expectation, Group, Message, Probe, ProbeExpectation};
use egress_analysis::bundle::PolicyBundle;
use egress_analysis::decision::WrittenDecidedBy;
use egress_analysis::owned_facts::{OwnedFacts, Who, parse_to};
use egress_analysis::witness::{name_under, ordinary_address, path_under};
use egress_policy::facts::OwnedClaims;

/// What is tried at a host where a rule names every port.
const USUAL_PORTS: [u16; 2] = [80, 443];
/// Labels under which most domains answer.
const USUAL_LABELS: [&str; 2] = ["api", "www"];

/// Who tries, and when.
#[derive(Clone, Debug)]
pub(crate) struct Workload {
    pub(crate) caller: Fact<Who>,
    pub(crate) claims: Fact<OwnedClaims>,
    pub(crate) now: Fact<i64>,
}

/// Everything that the attempts are made from.
pub(crate) struct Plan<'p> {
    pub(super) bundle: &'p PolicyBundle,
    pub(super) set: &'p PolicySet,
    pub(super) traffic: MeshPorts,
    /// Whole names that rules let through over opaque TCP.
    pub(super) named: Vec<Named>,
    pub(super) workload: Workload,
    /// Names that the user gave for wildcards.
    pub(super) given: Vec<Name>,
    /// Where names lead, as far as the pod's resolver says.
    pub(super) resolved: BTreeMap<String, IpAddr>,
    /// An ordinary public address.
    pub(super) elsewhere: IpAddr,
}

/// A destination that a rule names.
#[derive(Clone, Debug)]
pub(super) struct ProbeTarget {
    pub(super) name: Option<Name>,
    pub(super) to: SocketAddr,
    pub(super) known_live: bool,
}

/// What was planned.
#[derive(Debug, Default)]
pub(crate) struct Planned {
    pub(crate) probes: Vec<Probe>,
    /// What cannot be tried without doing something, and why.
    pub(crate) not_tried: Vec<String>,
    known: HashSet<(Group, Attempt)>,
}

impl Planned {
    /// Adds what is a miss by the engine's word too; the neighbour may be allowed as well.
    pub(super) fn push_miss(&mut self, probe: Probe) {
        if probe.expected.verdict != Expectation::Reached {
            self.push(probe);
        }
    }

    pub(super) fn push(&mut self, probe: Probe) {
        if self.known.insert((probe.group, probe.attempt.clone())) {
            self.probes.push(probe);
        }
    }

    /// Leaves out what is over so many of a group, and says so.
    pub(crate) fn cut(&mut self, most: usize) {
        for group in Group::ALL {
            let mut count = 0;
            self.probes.retain(|probe| {
                count += usize::from(probe.group == group);
                probe.group != group || count <= most
            });
            if count > most {
                let more = count - most;
                let group = group.as_str();
                self.leave_out(format!("{more} more of {group} (--most {most})"));
            }
        }
    }

    pub(super) fn leave_out(&mut self, what: String) {
        if !self.not_tried.contains(&what) {
            self.not_tried.push(what);
        }
    }
}

impl<'p> Plan<'p> {
    pub(crate) fn new(
        bundle: &'p PolicyBundle,
        set: &'p PolicySet,
        workload: Workload,
        given: Vec<Name>,
    ) -> Self {
        // What cannot be rendered can still be tried.
        let traffic = bundle.ports();
        let elsewhere =
            ordinary_address(&bundle.policies).unwrap_or(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)));
        Self {
            bundle,
            set,
            named: traffic.named_tcp(&bundle.policies),
            traffic,
            workload,
            given,
            resolved: BTreeMap::new(),
            elsewhere,
        }
    }

    /// Where the names lead.
    pub(crate) fn set_resolved(&mut self, resolved: BTreeMap<String, IpAddr>) {
        self.resolved = resolved;
    }

    pub(super) fn elements(&self) -> impl Iterator<Item = &'p To> {
        let rules = self.bundle.policies.iter().flat_map(Policy::rules);
        rules.flat_map(|placed| &placed.rule.to)
    }

    /// What the rules name, whomever they are about.
    pub(super) fn named(&self, planned: &mut Planned) {
        for policy in &self.bundle.policies {
            for (rule, to) in rules_of(policy) {
                for spot in self.spots(to) {
                    self.at(to, &spot, &rule, planned);
                }
            }
        }
    }

    /// One attempt at a destination that a rule names.
    pub(super) fn at(&self, to: &To, spot: &ProbeTarget, rule: &str, planned: &mut Planned) {
        let why = format!("named by {rule}");
        if to.protocols == [Protocol::Udp] {
            planned.push(self.udp(Group::Destinations, spot.to, why));
            return;
        }
        let mut method = "GET";
        if !to.methods.is_empty() && !to.methods.iter().any(|one| one == "GET") {
            if !to.methods.iter().any(|one| one == "HEAD") {
                planned.leave_out(format!("{rule}: asks for {}", to.methods.join(", ")));
                return;
            }
            method = "HEAD";
        }
        if !to.upgrades.is_empty() {
            planned.leave_out(format!("{rule}: asks for an upgrade"));
            return;
        }
        let path = if to.paths.is_empty() {
            Some("/".to_owned())
        } else {
            to.paths.iter().find_map(path_under)
        };
        let Some(path) = path else {
            planned.leave_out(format!("{rule}: no path for its patterns"));
            return;
        };
        let attempt = self.attempt(spot, method, &path);
        planned.push(self.probe(Group::Destinations, why, attempt, spot.known_live));
    }

    /// The destinations that an element of `to` names.
    pub(super) fn spots(&self, to: &To) -> Vec<ProbeTarget> {
        let mut spots = Vec::new();
        match &to.hosts {
            Hosts::Names(patterns) => {
                for name in patterns.iter().filter_map(|pattern| self.witness(pattern)) {
                    let address = self.resolved.get(name.as_str()).copied();
                    for port in ports(&to.ports) {
                        let mut originations = self.traffic.originations.iter();
                        let own = originations
                            .find(|one| to.tls.is_some() && one.port == port && one.holds(&name));
                        let port = own.map_or(port, Origination::entry);
                        spots.push(ProbeTarget {
                            name: Some(name.clone()),
                            to: SocketAddr::new(address.unwrap_or(self.elsewhere), port),
                            known_live: self.is_inhabited(&name),
                        });
                    }
                }
            }
            Hosts::Networks(networks) => {
                for (address, inhabited) in inside(networks) {
                    for port in ports(&to.ports) {
                        spots.push(ProbeTarget {
                            name: None,
                            to: SocketAddr::new(address, port),
                            known_live: inhabited,
                        });
                    }
                }
            }
            Hosts::Anywhere => {
                for port in ports(&to.ports) {
                    spots.push(ProbeTarget {
                        name: None,
                        to: SocketAddr::new(self.elsewhere, port),
                        known_live: false,
                    });
                }
            }
        }
        spots
    }

    /// How an application would go there.
    pub(super) fn attempt(&self, spot: &ProbeTarget, method: &'static str, path: &str) -> Attempt {
        let ProbeTarget { name, to, .. } = spot;
        match self.traffic.protocol(to.port()) {
            Protocol::Http => {
                let named = name.clone().map(Host::Name);
                let host = named.unwrap_or(Host::Address(to.ip())).in_authority();
                let authority = match to.port() {
                    80 => host,
                    port => format!("{host}:{port}"),
                };
                Attempt::Http {
                    to: *to,
                    method,
                    authority,
                    path: path.to_owned(),
                    headers: Vec::new(),
                }
            }
            Protocol::Tls => Attempt::Tls {
                to: *to,
                name: name.as_ref().map(Name::to_string),
            },
            Protocol::Tcp | Protocol::Udp => Attempt::Tcp { to: *to },
        }
    }

    /// A datagram, and whether the policy excepts it.
    pub(super) fn udp(&self, group: Group, to: SocketAddr, why: String) -> Probe {
        let attempt = Attempt::Udp {
            to,
            message: Message::for_port(to.port()),
        };
        self.probe(group, why, attempt, false)
    }

    pub(super) fn probe(
        &self,
        group: Group,
        why: String,
        attempt: Attempt,
        inhabited: bool,
    ) -> Probe {
        Probe {
            group,
            why,
            expected: self.expect(&attempt),
            attempt,
            known_live: inhabited,
        }
    }

    /// The engine's verdict.
    fn expect(&self, attempt: &Attempt) -> ProbeExpectation {
        let facts = match self.stands_for(attempt) {
            Some(name) => parse_to(&format!("tcp://{name}"), None).ok(),
            None => facts_of(attempt),
        };
        let Some(mut facts) = facts else {
            return ProbeExpectation::closed();
        };
        self.judged_port(&mut facts);
        facts.caller = self.workload.caller.clone();
        facts.claims = self.workload.claims.clone();
        facts.now = self.workload.now;
        if let Fact::Known(Some(name)) = &facts.name {
            facts.address = Fact::Known(self.leads_to(name));
        }
        let evaluation = facts.with_facts(|facts| self.set.evaluate(facts));
        let Evaluation::Final(verdict) = evaluation else {
            return ProbeExpectation {
                verdict: Expectation::Undecided,
                decided_by: WrittenDecidedBy::default(),
            };
        };
        let ruling = &verdict.enforced;
        ProbeExpectation {
            verdict: match ruling.action {
                Action::Accept | Action::Inspect(_) => Expectation::Reached,
                Action::Deny => Expectation::Refused,
            },
            decided_by: ruling.decided_by().into(),
        }
    }

    /// Where the gateway speaks TLS itself, it judges the port at which the server does.
    fn judged_port(&self, facts: &mut OwnedFacts) {
        if let (Protocol::Http, Fact::Known(Some(name)), Fact::Known(port)) =
            (facts.protocol, &facts.name, facts.port)
            && let Some(origination) = self.traffic.origination(name, port)
        {
            facts.port = Fact::Known(origination.port);
        }
    }

    /// `NAME:PORT` that the sidecar asks for, where a made-up address is dialled that stands for a
    /// name over opaque TCP (`tunnel.names`).
    fn stands_for(&self, attempt: &Attempt) -> Option<String> {
        let Attempt::Tcp { to } = attempt else {
            return None;
        };
        let (address, port) = (to.ip(), to.port());
        let mut known = self.named.iter().filter(|one| one.ports.contains(&port));
        let named = known.find(|one| self.resolved.get(&one.name) == Some(&address))?;
        made_up(&address).then(|| format!("{}:{port}", named.name))
    }

    /// Where the gateway will find a name. An address that was made up for the pod says nothing
    /// about that.
    fn leads_to(&self, name: &Name) -> IpAddr {
        let found = self.resolved.get(name.as_str()).copied();
        found
            .filter(|address| !made_up(address))
            .unwrap_or(self.elsewhere)
    }

    /// A name that the pattern matches: one that leads somewhere, or was given.
    pub(super) fn witness(&self, pattern: &NamePattern) -> Option<Name> {
        let candidates = self.candidates(pattern);
        let live = |name: &&Name| self.is_inhabited(name);
        let found = candidates.iter().find(live).or(candidates.last());
        found.cloned()
    }

    pub(super) fn is_inhabited(&self, name: &Name) -> bool {
        self.given.contains(name) || self.resolved.contains_key(name.as_str())
    }

    /// Names that the pattern matches, the likeliest first.
    pub(super) fn candidates(&self, pattern: &NamePattern) -> Vec<Name> {
        let mut names: Vec<Name> = self.given.clone();
        if let NamePattern::Suffix(base) | NamePattern::OneBelow(base) = pattern {
            let usual = USUAL_LABELS.iter();
            names.extend(
                usual.filter_map(|label| Name::parse(format!("{label}.{base}").as_bytes()).ok()),
            );
        }
        names.retain(|name| pattern.matches(name));
        names.extend(name_under(pattern));
        names
    }
}

/// Whether an address was made up for the pod: 240.240.0.0/16 by Istio's DNS capture with
/// auto-allocation, 240.241.0.0/16 by `warden render` (`tunnel.nameRange`).
fn made_up(address: &IpAddr) -> bool {
    matches!(address, IpAddr::V4(v4) if v4.octets()[0] >= 240)
}

/// The facts that the gateway will have of an attempt, but for the caller. `None` where it is not
/// asked at all.
fn facts_of(attempt: &Attempt) -> Option<OwnedFacts> {
    let refused = |protocol, code| {
        let mut facts = OwnedFacts::pending(protocol);
        facts.refused = Some(code);
        facts
    };
    match attempt {
        Attempt::Http {
            to,
            authority,
            path,
            method,
            ..
        } => {
            // As a gateway whose route leads to any host on the port that was dialled.
            let route = Route {
                host: RouteHost::Dynamic,
                port: Some(to.port()),
                protocol: Protocol::Http,
            };
            let agreed = match from_request(authority.as_bytes(), &route, None) {
                Ok(agreed) => agreed,
                Err(code) => return Some(refused(Protocol::Http, code)),
            };
            let host = agreed.host.in_authority();
            let mut facts = parse_to(&format!("http://{host}:{}{path}", agreed.port), None).ok()?;
            facts.method = Fact::Known((*method).to_owned());
            Some(facts)
        }
        Attempt::Tls { to, name } => parse_to(
            &format!("tls://{to}"),
            Some(name.as_deref().unwrap_or("none")),
        )
        .ok(),
        Attempt::Tcp { to } => parse_to(&format!("tcp://{to}"), None).ok(),
        Attempt::Udp { to, .. } => parse_to(&format!("udp://{to}"), None).ok(),
        Attempt::Direct { .. } | Attempt::Ping { .. } => None,
    }
}

/// The rules' ids and elements.
fn rules_of(policy: &Policy) -> impl Iterator<Item = (String, &To)> {
    policy.rules().flat_map(|placed| {
        let id = placed.basis().to_string();
        placed.rule.to.iter().map(move |to| (id.clone(), to))
    })
}

/// The first port of every range.
pub(super) fn ports(set: &PortSet) -> Vec<u16> {
    if set.is_any() {
        USUAL_PORTS.to_vec()
    } else {
        set.ranges().map(|range| *range.start()).collect()
    }
}

/// An address of every network, and whether it is the only one.
fn inside(networks: &Networks) -> Vec<(IpAddr, bool)> {
    let first = |network: &IpNet| {
        let single = network.prefix_len() == network.max_prefix_len();
        let found = network
            .hosts()
            .take(1024)
            .find(|address| networks.contains(*address));
        found.map(|address| (address, single))
    };
    networks.networks.iter().filter_map(first).collect()
}
