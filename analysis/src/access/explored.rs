//! The classes of facts that a question is about, each put to the engine.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use egress_policy::facts::{Fact, Protocol};
use egress_policy::model::{Hosts, Rule, RuleAction, To};
use egress_policy::name::NamePattern;
use egress_policy::relation::{destinations, patterns_meet, sources};
use egress_policy::verdict::{Action, Evaluation};

use super::{Inquiry, Question};
use crate::carriage::{Carriage, Mesh, originated};
use crate::decision::WrittenDecision;
use crate::regions::compiled::{CompiledPolicy, Compiler, Cond, View, fresh};
use crate::regions::explore::{self, CLAIMS_KNOWN, Leaf, Region, Stopped};
use crate::regions::narrowed::{Addresses, Index};
use crate::regions::partition::{Classes, Collector, Dimension, PROTOCOLS, Partition};
use crate::regions::set::Set;
use crate::regions::{describe, merged};

/// Most regions that one question is split into.
const MAX_REGIONS: usize = 2_000_000;

/// A decision, and what it would be without Shadow where that is another one.
pub(super) type Key = (WrittenDecision, Option<WrittenDecision>);

/// What came of a question.
pub(super) struct Explored {
    pub(super) partition: Partition,
    /// What the question is about.
    pub(super) asked: Region,
    /// What is let through; regions may overlap.
    pub(super) openings: BTreeMap<Key, Vec<Region>>,
    /// Something is denied.
    pub(super) denied: bool,
    pub(super) undecided: BTreeSet<String>,
    pub(super) classes: usize,
    pub(super) said: Vec<String>,
}

/// Names that are not asked for as others are.
struct Names {
    /// By port at the outside and the port that the application uses: where the gateway speaks TLS.
    originated: Vec<(u16, u16, Vec<NamePattern>)>,
    /// Asked for over opaque TCP, with the port.
    over_tcp: Vec<(u16, NamePattern)>,
}

impl Names {
    fn of(mesh: &Mesh) -> Self {
        let parse = |text: &String| NamePattern::parse(text).ok();
        let originations = mesh.originations().iter();
        let originated = originations.map(|one| (one.port, one.entry(), originated(one)));
        let over_tcp = mesh.named().iter().flat_map(|named| {
            let pattern = parse(&named.name);
            let ports = named.ports.iter();
            ports.filter_map(move |port| Some((*port, pattern.clone()?)))
        });
        Self {
            originated: originated.collect(),
            over_tcp: over_tcp.collect(),
        }
    }

    fn patterns(&self) -> impl Iterator<Item = &NamePattern> {
        let over_tcp = self.over_tcp.iter().map(|(_, pattern)| pattern);
        let originated = self.originated.iter().flat_map(|(_, _, names)| names);
        originated.chain(over_tcp)
    }
}

pub(super) struct Explorer<'e> {
    inquiry: &'e Inquiry<'e>,
    mesh: &'e Mesh,
    question: &'e Question,
    /// The question as a rule.
    rule: &'e Rule,
    names: Names,
}

impl<'e> Explorer<'e> {
    pub(super) fn new(
        inquiry: &'e Inquiry<'e>,
        mesh: &'e Mesh,
        question: &'e Question,
        rule: &'e Rule,
    ) -> Self {
        Self {
            inquiry,
            mesh,
            question,
            rule,
            names: Names::of(mesh),
        }
    }

    /// Looks at everything that the question is about.
    pub(super) fn explored(&self) -> Explored {
        let policies = &self.inquiry.bundle.policies;
        let index = Index::of(policies.iter(), self.inquiry.now);
        let rules = index.near(self.rule);
        let partition = self.partition(&rules);
        let compiler = Compiler {
            partition: &partition,
            view: View::Enforced,
        };
        let asked = Region::all(&partition).within(&self.asked(&compiler));
        let mut explored = Explored {
            asked: asked.clone().unwrap_or_else(|| Region::all(&partition)),
            openings: BTreeMap::new(),
            denied: self.question.refused,
            undecided: BTreeSet::new(),
            classes: 0,
            said: Vec::new(),
            partition,
        };
        let asked = asked.filter(|_| !self.question.refused);
        if let Some(asked) = asked {
            self.explore(&rules, &asked, &mut explored);
        }
        explored
    }

    fn explore(&self, rules: &[&'e Rule], asked: &Region, explored: &mut Explored) {
        let partition = explored.partition.clone();
        if partition.too_many_globs {
            let why = "more globs meet than are combined";
            explored.undecided.insert(why.to_owned());
        }
        let sides =
            [View::Enforced, View::Lifted].map(|view| self.programs(&partition, rules, view));
        let mut search = explore::Explorer::new(&partition, sides, MAX_REGIONS, self.inquiry.stop);
        let mut openings: BTreeMap<Key, Vec<Region>> = BTreeMap::new();
        for start in self.starts(&partition, asked) {
            let ended = search.explore(start, [Carriage::AsAsked; 2], |partition, leaf| {
                if let Some(key) = self.leaf(partition, &leaf, explored) {
                    openings.entry(key).or_default().push(leaf.region);
                }
            });
            if let Err(why) = ended {
                let why = match why {
                    Stopped::Budget => "there are more classes of facts than are looked at",
                    Stopped::Time => "time ran out before all classes of facts were looked at",
                };
                explored.undecided.insert(why.to_owned());
                break;
            }
        }
        let originated = |port| self.names.originated.iter().any(|(own, ..)| *own == port);
        let exists = |protocol, port| {
            self.mesh.carries(protocol, port) || (protocol == Protocol::Http && originated(port))
        };
        for (key, regions) in openings {
            let regions = merged::merged(&partition, &exists, regions);
            explored.openings.insert(key, regions);
        }
        // Of one request it is said already.
        if !self.question.by_connect {
            explored.said.extend(self.spoken_to(explored));
        }
    }

    /// What applications ask for where the gateway speaks TLS itself, if that is let through.
    fn spoken_to(&self, explored: &Explored) -> Vec<String> {
        let partition = &explored.partition;
        let http = partition.protocols(|protocol| protocol == Protocol::Http);
        let opened = |port: u16, names: &[NamePattern]| {
            let cond = vec![
                (Dimension::Protocol, Rc::clone(&http)),
                (Dimension::Port, partition.ports(|own| own == port)),
                (Dimension::Name, partition.names_under(names)),
            ];
            let mut regions = explored.openings.values().flatten();
            regions.any(|region| region.within(&cond).is_some())
        };
        let told = self
            .names
            .originated
            .iter()
            .filter(|(port, entry, names)| port != entry && opened(*port, names));
        let said = told.map(|(port, entry, names)| {
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            format!(
                "the gateway speaks TLS to {} itself at port {port}: the application speaks HTTP at port {entry}",
                names.join(", ")
            )
        });
        said.collect()
    }

    /// The classes that conditions of these rules, and of the question, tell apart.
    fn partition(&self, rules: &[&Rule]) -> Partition {
        let mut collector = Collector::default();
        for rule in rules {
            sources(rule)
                .into_iter()
                .flatten()
                .for_each(|source| collector.source(source));
            let deny = rule.action == RuleAction::Deny;
            for to in destinations(rule).into_iter().flatten() {
                self.collect(to, deny, &mut collector);
            }
            collector.times.extend(rule.expires);
        }
        let policies = self.inquiry.bundle.policies.iter();
        policies.for_each(|policy| collector.head(&policy.head));
        collector.to(&self.question.to, false);
        collector.names(
            self.names
                .patterns()
                .filter(|pattern| self.is_about(pattern)),
        );
        self.mesh.routed().for_each(|port| collector.port(port));
        let originated = self.names.originated.iter();
        originated
            .flat_map(|(port, entry, _)| [*port, *entry])
            .chain(self.names.over_tcp.iter().map(|(port, _)| *port))
            .for_each(|port| collector.port(port));
        if let Some(origin) = &self.question.origin {
            origin
                .source
                .iter()
                .for_each(|source| collector.source(source));
            if let Fact::Known(claims) = &origin.claims {
                claims
                    .cluster
                    .iter()
                    .for_each(|name| collector.cluster(name));
                for (key, value) in &claims.labels {
                    collector.label(key, value);
                }
            }
        }
        collector.finish(self.inquiry.now)
    }

    /// What a rule says of the destinations that the question is about.
    fn collect<'c>(&self, to: &'c To, deny: bool, collector: &mut Collector<'c>) {
        match &to.hosts {
            Hosts::Anywhere => {}
            Hosts::Names(patterns) => {
                collector.names(patterns.iter().filter(|pattern| self.is_about(pattern)));
            }
            // For one address, and for names outside Deny rules, networks tell nothing apart.
            Hosts::Networks(networks) => {
                let wanted = match &self.question.to.hosts {
                    Hosts::Anywhere => true,
                    Hosts::Names(_) => deny,
                    Hosts::Networks(asked) => {
                        let one = |net: &ipnet::IpNet| net.prefix_len() == net.max_prefix_len();
                        !asked.networks.iter().all(one)
                    }
                };
                if wanted {
                    collector.networks(networks, deny);
                }
            }
        }
        collector.requests(to);
        if self.question.to.paths.is_empty() {
            collector.paths(to);
        }
    }

    /// Whether a pattern of a rule tells names of the question apart.
    fn is_about(&self, pattern: &NamePattern) -> bool {
        match &self.question.to.hosts {
            Hosts::Anywhere => true,
            Hosts::Networks(_) => false,
            Hosts::Names(asked) => asked
                .iter()
                .any(|one| !matches!(one, NamePattern::Exact(_)) && patterns_meet(one, pattern)),
        }
    }

    /// What must hold of facts that the question is about.
    fn asked(&self, compiler: &Compiler<'_>) -> Cond {
        let (partition, question) = (compiler.partition, self.question);
        let to = &question.to;
        let mut cond = Vec::new();
        compiler.place(&to.hosts, false, &mut cond);
        if !to.ports.is_any() {
            cond.push((Dimension::Port, partition.ports_in(&to.ports)));
        }
        if !to.protocols.is_empty() {
            let set = partition.protocols(|protocol| to.protocols.contains(&protocol));
            cond.push((Dimension::Protocol, set));
        }
        if !to.methods.is_empty() {
            let listed = |method: &str| to.methods.iter().any(|one| one == method);
            cond.push((
                Dimension::Method,
                partition.texts(&Dimension::Method, listed),
            ));
        }
        if !to.paths.is_empty() {
            cond.push((Dimension::Path, partition.paths(&to.paths)));
        }
        if let Fact::Known(upgrade) = &question.upgrade {
            let set = partition.optional(&Dimension::Upgrade, |one| one == upgrade.as_deref());
            cond.push((Dimension::Upgrade, set));
        }
        if let Some(origin) = &question.origin {
            let kind = Rc::new(Set::of(3, |kind| kind == origin.kind));
            cond.push((Dimension::Kind, kind));
            let (who, _) = compiler.source(self.rule, origin.source.as_ref());
            cond.extend(who.into_iter().filter(|(dim, _)| *dim != Dimension::Kind));
            cond.extend(claimed(partition, &origin.claims));
        }
        cond
    }

    fn programs(
        &self,
        partition: &Partition,
        rules: &[&Rule],
        view: View,
    ) -> Vec<CompiledPolicy<'e>> {
        let compiler = Compiler { partition, view };
        let wanted = Addresses::of(rules.iter().copied());
        let policies = self.inquiry.bundle.policies.iter();
        let programs = policies.map(|policy| compiler.policy(policy, |rule| wanted.contains(rule)));
        programs.collect()
    }

    /// The parts of what was asked in which every request is carried in one way, what no rule names
    /// apart from the rest.
    fn starts(&self, partition: &Partition, asked: &Region) -> Vec<Region> {
        let places = partition.places();
        let mut starts = Vec::new();
        for (i, protocol) in PROTOCOLS.into_iter().enumerate() {
            let protocols = Rc::new(Set::of(PROTOCOLS.len(), |class| class == i));
            for (names, ports) in self.carried(partition, protocol) {
                let cond = vec![
                    (Dimension::Protocol, Rc::clone(&protocols)),
                    (Dimension::Port, ports),
                    (Dimension::Name, names),
                ];
                let Some(region) = asked.within(&cond) else {
                    continue;
                };
                starts.extend(places.iter().filter_map(|place| region.within(place)));
            }
        }
        starts
    }

    /// The names and ports at which a protocol is asked for. They do not overlap.
    fn carried(&self, partition: &Partition, protocol: Protocol) -> Vec<(Rc<Set>, Rc<Set>)> {
        let every = Rc::new(Set::all(partition.size(&Dimension::Name)));
        let at = |port: u16| partition.ports(|own| own == port);
        let ports = partition.ports(|port| self.mesh.carries(protocol, port));
        match protocol {
            Protocol::Tls => vec![(every, ports)],
            Protocol::Udp => vec![(partition.named(false), ports)],
            Protocol::Tcp if self.mesh.is_unstated() || self.question.by_connect => {
                let all = partition.ports(|_| true);
                vec![(every, if self.question.by_connect { all } else { ports })]
            }
            Protocol::Tcp => {
                let named = self.names.over_tcp.iter().map(|(port, pattern)| {
                    let names = partition.names_under(std::slice::from_ref(pattern));
                    (names, Rc::new(at(*port).and(&ports)))
                });
                let literal = (partition.named(false), Rc::clone(&ports));
                [literal].into_iter().chain(named).collect()
            }
            Protocol::Http => {
                let mut asked = vec![(every, ports)];
                for (port, entry, names) in &self.names.originated {
                    let (names, own, entry) = (partition.names_under(names), at(*port), at(*entry));
                    asked = asked
                        .iter()
                        .flat_map(|(all, ports)| {
                            let here = Rc::new(ports.and(&entry));
                            let rest = Rc::new(all.minus(&names));
                            [(Rc::clone(all), Rc::new(ports.minus(&entry))), (rest, here)]
                        })
                        .collect();
                    asked.push((names, own));
                }
                asked
            }
        }
    }

    /// A class in which everything is decided: asks the engine. Gives what it belongs to, if it is let
    /// through.
    fn leaf(&self, partition: &Partition, leaf: &Leaf<'_>, explored: &mut Explored) -> Option<Key> {
        explored.classes += 1;
        let Some(witness) = describe::witness(partition, &leaf.region) else {
            if leaf.old != Action::Deny {
                let why = "something may be let through where several globs match at once";
                explored.undecided.insert(why.to_owned());
            }
            return None;
        };
        let evaluation = witness.with_facts(|facts| self.inquiry.set.evaluate(facts));
        let Evaluation::Final(verdict) = evaluation else {
            explored
                .undecided
                .insert("the engine decides nothing".to_owned());
            return None;
        };
        let lifted = verdict.shadow.as_ref().unwrap_or(&verdict.enforced);
        if verdict.enforced.action != leaf.old || lifted.action != leaf.new {
            let why = "the engine contradicts the classes of facts";
            explored.undecided.insert(why.to_owned());
        }
        if verdict.enforced.action == Action::Deny {
            explored.denied = true;
            return None;
        }
        let would_be = verdict.shadow.as_ref().map(WrittenDecision::from);
        Some(((&verdict.enforced).into(), would_be))
    }
}

/// What a caller claims of itself, where that is known.
fn claimed(partition: &Partition, claims: &Fact<egress_policy::facts::OwnedClaims>) -> Cond {
    let known = |wanted: bool| {
        let set = Set::of(2, |class| (class == CLAIMS_KNOWN) == wanted);
        (Dimension::Claims, Rc::new(set))
    };
    let claims = match claims {
        Fact::Pending => return Vec::new(),
        Fact::Missing => return vec![known(false)],
        Fact::Known(claims) => claims,
    };
    let cluster = claims.cluster.as_deref().unwrap_or(fresh());
    let own = |name: &str| name == cluster;
    let mut cond = vec![
        known(true),
        (
            Dimension::Cluster,
            partition.texts(&Dimension::Cluster, own),
        ),
    ];
    for (dim, classes) in &partition.dims {
        if let (Dimension::Label(key), Classes::Optional(_)) = (dim, classes) {
            let value = claims.labels.iter().find(|(own, _)| own == key);
            let value = value.map(|(_, value)| value.as_str());
            cond.push((dim.clone(), partition.optional(dim, |one| one == value)));
        }
    }
    cond
}
