//! Laws of what is opened for UDP: the openings are what the engine accepts, neither more nor less.

use std::io::Write as _;
use std::net::IpAddr;

use egress_policy::facts::{Caller, Claims, Fact, Facts, Protocol, SpiffeId};
use egress_policy::model::{
    DefaultAction, From, Hosts, LabelExpression, LabelOperator, Networks, Rule, RuleAction, Source,
    To,
};
use egress_policy::port::PortSet;
use egress_policy::reference;
use egress_policy::udp::{Opening, Pods, openings};
use egress_policy::verdict::{Action, Evaluation};

use super::generate::{ACCOUNTS, DOMAINS, LABELS, NAMESPACES, Rng, World};
use super::{FACTS, compile, policies, seed, verdict};

/// Nested and side by side, so that rules cut pieces out of each other.
const NETWORKS: [&str; 14] = [
    "0.0.0.0/0",
    "10.0.0.0/8",
    "10.0.0.0/9",
    "10.128.0.0/9",
    "10.1.0.0/16",
    "10.1.2.0/24",
    "10.1.2.3/32",
    "192.0.2.0/24",
    "::/0",
    "64:ff9b::/96",
    "64:ff9b::a00:0/104",
    "2001:db8::/32",
    "2001:db8::/33",
    "2001:db8::1/128",
];

const ADDRESSES: [&str; 14] = [
    "10.1.2.3",
    "10.1.2.4",
    "10.1.9.9",
    "10.9.9.9",
    "10.200.0.1",
    "192.0.2.80",
    "8.8.8.8",
    "2001:db8::1",
    "2001:db8::2",
    "2001:db8:8000::1",
    "64:ff9b::a01:203",
    "64:ff9b::c000:201",
    "::ffff:10.1.2.3",
    "fd00::1",
];

const PORTS: [u16; 7] = [1, 52, 53, 54, 123, 124, 65535];

fn some<T: Clone + PartialEq>(rng: &mut Rng, from: &[T], most: usize) -> Vec<T> {
    let mut picked: Vec<T> = Vec::new();
    for _ in 0..=rng.below(most) {
        let one = rng.pick(from);
        if !picked.contains(one) {
            picked.push(one.clone());
        }
    }
    picked
}

fn networks(rng: &mut Rng) -> Networks {
    let parse = |text: &&str| text.parse().expect("a network");
    Networks {
        networks: some(rng, &NETWORKS, 3).iter().map(parse).collect(),
        except: if rng.chance(30) {
            some(rng, &NETWORKS[1..], 2).iter().map(parse).collect()
        } else {
            Vec::new()
        },
    }
}

/// Rules over UDP in place of most others. `sayable`: what a filter can carry out, mostly.
fn over_udp(rng: &mut Rng, rule: &mut Rule, sayable: bool) {
    if rng.chance(10) {
        return;
    }
    rule.to = (0..=rng.below(2)).map(|_| element(rng)).collect();
    rule.action = match rng.below(20) {
        0..=10 => RuleAction::Accept,
        11..=18 => RuleAction::Deny,
        _ if sayable => RuleAction::Deny,
        _ => RuleAction::Pass,
    };
    let deny = rule.action == RuleAction::Deny;
    if deny || sayable {
        rule.expires = None;
    }
    match &mut rule.from {
        From::Anyone | From::AnyWorkload if deny => {}
        From::Anyone | From::AnyWorkload => {
            let namespaces = NAMESPACES.map(str::to_owned).to_vec();
            rule.from = From::Sources([namespaced(namespaces)].into());
        }
        From::Sources(sources) => {
            let mut narrowed = sources.to_vec();
            for source in &mut narrowed {
                if source.namespaces.is_empty() && (!deny || rng.chance(50)) {
                    source.namespaces = vec![(*rng.pick(&NAMESPACES)).to_owned()];
                }
                if sayable || rng.chance(70) {
                    source.service_accounts.clear();
                    source.clusters.clear();
                }
            }
            *sources = narrowed.into();
        }
    }
}

fn namespaced(namespaces: Vec<String>) -> Source {
    Source {
        namespaces,
        ..Source::default()
    }
}

fn element(rng: &mut Rng) -> To {
    let ports = some(rng, &PORTS, 2).into_iter();
    let wide = u16::try_from(rng.below(3)).expect("a small number");
    To {
        destination: None,
        hosts: match rng.below(20) {
            0 => Hosts::Anywhere,
            _ => Hosts::Networks(networks(rng).into()),
        },
        ports: if rng.chance(10) {
            PortSet::any()
        } else {
            PortSet::new(ports.map(|port| port..=port.saturating_add(wide)))
        },
        protocols: if rng.chance(20) {
            vec![Protocol::Tcp, Protocol::Udp]
        } else {
            vec![Protocol::Udp]
        },
        methods: Vec::new(),
        paths: Vec::new(),
        upgrades: Vec::new(),
        allow_private: false,
        tls: None,
    }
}

fn world(rng: &mut Rng, sayable: bool) -> World {
    let mut world = World::generate(rng);
    for policy in &mut world.policies {
        for rule in policy.tiers.iter_mut().flat_map(|tier| &mut tier.rules) {
            over_udp(rng, rule, sayable);
        }
    }
    world
}

fn pods(namespaces: &[String]) -> Pods<'_> {
    Pods {
        trust_domain: DOMAINS[0],
        namespaces,
    }
}

/// A datagram of some pod to some address, at some time.
fn facts(rng: &mut Rng) -> Facts<'static> {
    let mut facts = Facts::pending(Protocol::Udp);
    let namespace = *rng.pick(&NAMESPACES);
    facts.caller = Fact::Known(Caller::Workload(SpiffeId {
        trust_domain: DOMAINS[0],
        namespace,
        service_account: ACCOUNTS[rng.below(ACCOUNTS.len())],
    }));
    facts.claims = Fact::Known(Claims {
        namespace,
        cluster: Some("c1"),
        labels: &LABELS[rng.below(LABELS.len())],
    });
    facts.destination.name = Fact::Known(None);
    let address: IpAddr = rng.pick(&ADDRESSES).parse().expect("an address");
    facts.destination.address = Fact::Known(address);
    facts.destination.port = Fact::Known(*rng.pick(&PORTS));
    facts.now = Fact::Known(1_000_000 + *rng.pick(&[-2, 0, 2]));
    facts
}

/// What a filter with this opening lets through.
fn admits(opening: &Opening<'_>, facts: &Facts<'_>) -> bool {
    let (Fact::Known(caller), Fact::Known(claims)) = (facts.caller, facts.claims) else {
        return false;
    };
    let (address, port) = (facts.destination.address, facts.destination.port);
    let (Fact::Known(address), Fact::Known(port)) = (address, port) else {
        return false;
    };
    let label = |expression: &LabelExpression| {
        let value = claims.label(&expression.key).map(str::to_owned);
        match &expression.operator {
            LabelOperator::In(values) => value.is_some_and(|value| values.contains(&value)),
            LabelOperator::NotIn(values) => !value.is_some_and(|value| values.contains(&value)),
            LabelOperator::Exists => value.is_some(),
            LabelOperator::DoesNotExist => value.is_none(),
        }
    };
    caller
        .workload()
        .is_some_and(|id| id.namespace == opening.namespace)
        && opening.pods.iter().all(label)
        && opening.networks.contains(address)
        && opening.ports.contains(port)
}

fn accepts<C>(evaluation: Evaluation<'_, C>) -> bool {
    verdict(evaluation).is_some_and(|verdict| verdict.enforced.action == Action::Accept)
}

/// Whatever stands in the policies (shadow, dates, accounts, policies for some workloads, rules that
/// a filter cannot have): what is opened is accepted, for every account and at every time.
#[test]
fn nothing_is_opened_for_udp_that_the_engine_denies() {
    let mut rng = Rng::new(seed("udp"));
    let namespaces = NAMESPACES.map(str::to_owned);
    let (mut admitted, mut kept) = (0, 0);
    for _ in 0..policies() {
        let world = world(&mut rng, false);
        let (opened, wrong) = openings(&world.policies, pods(&namespaces));
        kept += wrong.len();
        if opened.is_empty() {
            continue;
        }
        let set = compile(&world);
        for _ in 0..FACTS {
            let facts = facts(&mut rng);
            let Some(opening) = opened.iter().find(|opening| admits(opening, &facts)) else {
                continue;
            };
            admitted += 1;
            assert!(
                accepts(set.evaluate(&facts)),
                "{opening:#?} lets {facts:#?} out under {world:#?}"
            );
            let straight = reference::evaluate(&world.policies, world.settings, &facts);
            assert!(accepts(straight), "{facts:#?} under {world:#?}");
        }
    }
    let _ = writeln!(
        std::io::stderr(),
        "{admitted} let out, {kept} rules refused"
    );
    assert!(admitted > policies() && kept > policies() / 10);
}

/// Where nothing is refused, all that some rule accepts is opened.
#[test]
fn all_that_a_rule_accepts_for_udp_is_opened() {
    let mut rng = Rng::new(seed("udp exactly"));
    let namespaces = NAMESPACES.map(str::to_owned);
    let (mut accepted, mut worlds) = (0, 0);
    for _ in 0..policies() {
        let mut world = world(&mut rng, true);
        for policy in &mut world.policies {
            policy.head.shadow_workloads.clear();
        }
        if let Some(first) = world.policies.first_mut() {
            first.head.default = DefaultAction::Deny;
        }
        let (opened, wrong) = openings(&world.policies, pods(&namespaces));
        if !wrong.is_empty() {
            continue;
        }
        worlds += 1;
        let set = compile(&world);
        for _ in 0..FACTS / 4 {
            let facts = facts(&mut rng);
            let wanted = accepts(set.evaluate(&facts));
            // A filter for IPv4 does not see the IPv6 form of an address.
            let mapped = matches!(facts.destination.address,
                Fact::Known(IpAddr::V6(v6)) if v6.to_ipv4_mapped().is_some());
            let open = opened.iter().any(|opening| admits(opening, &facts));
            accepted += usize::from(wanted);
            assert!(
                open == wanted || mapped && !open,
                "opened: {open}, accepted: {wanted}: {facts:#?} under {world:#?}"
            );
        }
    }
    let _ = writeln!(std::io::stderr(), "{worlds} policies, {accepted} accepted");
    assert!(worlds > policies() / 4 && accepted > policies());
}
