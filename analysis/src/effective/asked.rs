//! What can be asked of the gateway about a destination, as the mesh carries it.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use egress_policy::facts::{Fact, Protocol};
use egress_policy::model::{Hosts, Networks, To};
use egress_policy::name::{Name, NamePattern};
use egress_policy::settings::AddressCheck;

use super::Caller;
use crate::bundle::PolicyBundle;
use crate::carriage::Mesh;
use crate::owned_facts::{OwnedFacts, parse_to};
use crate::witness::{UNNAMED, address_in, name_under, path_under};
use crate::words::list_words;

/// One host at one port.
pub(super) struct Question {
    /// As the policy writes it; nothing where it is any.
    host: String,
    is_name: bool,
    /// In words.
    port: String,
    protocol: Protocol,
    /// What the gateway sees; or why no workload behind a sidecar can ask.
    pub(super) facts: Result<OwnedFacts, String>,
}

impl Question {
    /// Where no rule names the destination.
    pub(super) fn rest_words(&self) -> String {
        let what = if self.is_name {
            "every other name"
        } else {
            "every other address"
        };
        format!("{what} ({})", self.protocol.as_str())
    }
}

/// Hosts and ports of questions that are told alike.
pub(super) fn words(questions: &[Question], most: usize) -> String {
    let mut hosts: Vec<&str> = Vec::new();
    let mut seen = BTreeSet::new();
    let mut ports: Vec<String> = Vec::new();
    for question in questions {
        if seen.insert(question.host.as_str()) {
            hosts.push(&question.host);
        }
        let port = format!("{} ({})", question.port, question.protocol.as_str());
        if !ports.contains(&port) {
            ports.push(port);
        }
    }
    let ports = list_words(ports.iter().map(String::as_str), most);
    let hosts = list_words(hosts.into_iter(), most);
    format!("{hosts}; port {ports}")
}

enum Host {
    Name { name: Name, whole: bool },
    Address(IpAddr),
}

pub(super) struct Asker {
    mesh: Mesh,
    classes: bool,
    now: Fact<i64>,
}

impl Asker {
    pub(super) fn new(layers: &PolicyBundle, now: Fact<i64>) -> Self {
        Self {
            mesh: Mesh::of(layers),
            classes: layers.settings.address_check == AddressCheck::Classes,
            now,
        }
    }

    /// All that is known of a caller before it asks.
    pub(super) fn facts_of(&self, caller: &Caller) -> OwnedFacts {
        OwnedFacts {
            caller: Fact::Known(caller.who.clone()),
            claims: caller.claims.clone(),
            now: self.now,
            ..OwnedFacts::pending(Protocol::Tcp)
        }
    }

    /// The hosts of an element at its ports.
    pub(super) fn questions<'q>(&'q self, to: &'q To) -> impl Iterator<Item = Question> + 'q {
        let ports = self.ports_of(to);
        hosts_of(to, self.mesh.ordinary())
            .into_iter()
            .flat_map(move |(text, host)| {
                let each = ports.clone().into_iter();
                each.map(move |(words, port)| self.question(to, (&text, &host), (words, port)))
                    .collect::<Vec<_>>()
            })
    }

    /// Ports that are told apart: what they carry, and the rest.
    fn ports_of(&self, to: &To) -> Vec<(String, u16)> {
        let udp = to.protocols == [Protocol::Udp];
        let carried = |port: &u16| !udp && self.mesh.protocol(*port) != Protocol::Tcp;
        let mut all = Vec::new();
        let ranges: Vec<_> = if to.ports.is_any() {
            vec![1..=u16::MAX]
        } else {
            to.ports.ranges().collect()
        };
        for range in ranges {
            let mut routed: Vec<u16> = range.clone().filter(carried).collect();
            let rest = range.clone().find(|port| !carried(port));
            all.extend(rest.map(|port| {
                let words = match (range.start(), range.end()) {
                    (first, last) if first == last => first.to_string(),
                    _ if routed.is_empty() => format!("{}-{}", range.start(), range.end()),
                    _ if to.ports.is_any() => "any other".to_owned(),
                    (first, last) => format!("the rest of {first}-{last}"),
                };
                (words, port)
            }));
            routed.sort_unstable();
            all.extend(routed.into_iter().map(|port| (port.to_string(), port)));
        }
        all
    }

    fn question(
        &self,
        to: &To,
        (text, host): (&str, &Host),
        (words, port): (String, u16),
    ) -> Question {
        let protocol = if to.protocols == [Protocol::Udp] {
            Protocol::Udp
        } else if to.tls.is_some() {
            Protocol::Http
        } else {
            self.mesh.protocol(port)
        };
        Question {
            host: text.to_owned(),
            is_name: matches!(host, Host::Name { .. }),
            port: words,
            protocol,
            facts: self.facts(to, host, port, protocol),
        }
    }

    fn facts(
        &self,
        to: &To,
        host: &Host,
        port: u16,
        protocol: Protocol,
    ) -> Result<OwnedFacts, String> {
        if !to.protocols().contains(&protocol) && to.tls.is_none() && to.hosts != Hosts::Anywhere {
            let (carried, wanted) = (protocol.as_str(), to.protocols());
            let wanted: Vec<&str> = wanted.iter().map(|one| one.as_str()).collect();
            return Err(format!(
                "port {port} carries {carried}, the rule asks for {}",
                wanted.join(" or ")
            ));
        }
        let place = match host {
            Host::Name { name, whole } => {
                self.is_asked_by_name(name, *whole, port, protocol, to)?;
                format!("{name}:{port}")
            }
            Host::Address(address) => SocketAddr::new(*address, port).to_string(),
        };
        let path = to.paths.iter().find_map(path_under);
        let path = path.unwrap_or_else(|| "/".to_owned());
        let url = match protocol {
            Protocol::Http => format!("http://{place}{path}"),
            Protocol::Tls => format!("https://{place}"),
            Protocol::Tcp => format!("tcp://{place}"),
            Protocol::Udp => format!("udp://{place}"),
        };
        let mut facts = parse_to(&url, None).map_err(|failure| failure.to_string())?;
        if protocol == Protocol::Http {
            if let Some(method) = to.methods.first() {
                facts.method = Fact::Known(method.clone());
            }
            facts.upgrade = Fact::Known(to.upgrades.first().cloned());
        }
        if !(self.classes || matches!(facts.address, Fact::Known(_))) {
            facts.address = self.mesh.ordinary().map_or(Fact::Pending, Fact::Known);
        }
        Ok(facts)
    }

    /// Sidecars send opaque TCP and UDP by address.
    fn is_asked_by_name(
        &self,
        name: &Name,
        whole: bool,
        port: u16,
        protocol: Protocol,
        to: &To,
    ) -> Result<(), String> {
        let known =
            || self.mesh.is_unstated() || (whole && self.mesh.names_over_tcp(name.as_str(), port));
        match protocol {
            Protocol::Http | Protocol::Tls => Ok(()),
            // What no rule names is asked about as it is sent.
            _ if to.hosts == Hosts::Anywhere => Err("names are sent by address there".to_owned()),
            Protocol::Tcp if known() => Ok(()),
            Protocol::Tcp | Protocol::Udp => Err(format!(
                "sidecars send {} by address, so no rule matches the name",
                if protocol == Protocol::Udp {
                    "UDP"
                } else {
                    "opaque TCP"
                }
            )),
        }
    }
}

fn hosts_of(to: &To, ordinary: Option<IpAddr>) -> Vec<(String, Host)> {
    match &to.hosts {
        Hosts::Names(patterns) => {
            let named = patterns.iter().filter_map(|pattern| {
                let name = name_under(pattern)?;
                let whole = matches!(pattern, NamePattern::Exact(_));
                Some((pattern.to_string(), Host::Name { name, whole }))
            });
            named.collect()
        }
        Hosts::Networks(networks) => {
            let each = networks.networks.iter().filter_map(|network| {
                let except = networks.except.iter().filter(|one| network.contains(*one));
                let one = Networks {
                    networks: vec![*network],
                    except: except.copied().collect(),
                };
                Some((network.to_string(), Host::Address(address_in(&one)?)))
            });
            each.collect()
        }
        Hosts::Anywhere => {
            let name = Name::parse(format!("{UNNAMED}.example").as_bytes()).ok();
            let name = name.map(|name| ("any name".to_owned(), Host::Name { name, whole: false }));
            let address = ordinary.map(|one| ("any address".to_owned(), Host::Address(one)));
            name.into_iter().chain(address).collect()
        }
    }
}
