//! Generated policies and facts: few words, so that rules and facts meet often, and facts that are
//! mostly made to match one of the policy's own rules and then spoilt a little.

use std::net::IpAddr;
use std::sync::LazyLock;

use egress_policy::address::Nat64Prefixes;
use egress_policy::facts::{
    Caller, Claims, DestinationFacts, Fact, Facts, Protocol, Request, SpiffeId,
};
use egress_policy::model::{
    DefaultAction, From, Head, Hosts, LabelExpression, LabelOperator, Mode, Networks, Policy, Rule,
    RuleAction, ServiceAccount, ShadowWorkloads, Source, Tier, TierDefault, To, Workloads,
};
use egress_policy::name::{Name, NamePattern};
use egress_policy::path::{PathPattern, RequestPath};
use egress_policy::port::PortSet;
use egress_policy::settings::{AddressCheck, Settings};

/// `SplitMix64` (Steele, Lea, Flood 2014): small, seeded, the same everywhere.
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound.max(1)).expect("a small number");
        usize::try_from(self.next() % bound).expect("a small number")
    }

    /// True in `percent` of a hundred.
    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    fn word(&mut self, from: &[&'static str]) -> &'static str {
        from[self.below(from.len())]
    }

    /// One to `most` different entries.
    fn some<T: Clone + PartialEq>(&mut self, from: &[T], most: usize) -> Vec<T> {
        let mut picked: Vec<T> = Vec::new();
        for _ in 0..=self.below(most) {
            let one = self.pick(from);
            if !picked.contains(one) {
                picked.push(one.clone());
            }
        }
        picked
    }

    fn texts(&mut self, from: &[&str], most: usize) -> Vec<String> {
        let picked = self.some(from, most);
        picked.into_iter().map(str::to_owned).collect()
    }
}

pub(crate) const DOMAINS: [&str; 3] = ["cluster.local", "east.example", "other.example"];
pub(crate) const NAMESPACES: [&str; 3] = ["a", "b", "c"];
pub(crate) const ACCOUNTS: [&str; 2] = ["x", "y"];
const CLUSTERS: [&str; 2] = ["c1", "c2"];
const KEYS: [&str; 3] = ["k1", "k2", "k3"];
const VALUES: [&str; 3] = ["v1", "v2", ""];
const METHODS: [&str; 4] = ["GET", "POST", "CONNECT", "DELETE"];
const UPGRADES: [&str; 2] = ["websocket", "connect-udp"];
const PORTS: [u16; 5] = [22, 80, 443, 8080, 65535];
pub(crate) const INSPECTION_PROXIES: [&str; 3] = ["dlp", "ids", "tap"];
/// The middle of generated time; rules expire shortly before and after.
const NOW: i64 = 1_000_000;

const PATTERNS: [&str; 26] = [
    "e.com",
    "a.e.com",
    "b.a.e.com",
    "ab.e.com",
    "f.org",
    "api-v1.f.org",
    "com",
    "*.e.com",
    "*.a.e.com",
    "*.f.org",
    "+.e.com",
    "+.a.e.com",
    "+.f.org",
    "a.*.e.com",
    "*b.e.com",
    "a*.e.com",
    "a*b.e.com",
    "*.a*.e.com",
    "*.*.e.com",
    "api-*.f.org",
    "*-*.f.org",
    "*.api-*.f.org",
    "*a*b*.e.com",
    "x.*.*.e.com",
    "b.*.f.org",
    "*.*.*.e.com",
];

const NETWORKS: [&str; 19] = [
    "0.0.0.0/0",
    "::/0",
    "203.0.113.0/24",
    "203.0.113.7/32",
    "203.0.113.8/31",
    "10.0.0.0/8",
    "10.1.0.0/16",
    "10.1.2.0/24",
    "10.1.2.3/32",
    "169.254.0.0/16",
    "2001:db8::/32",
    "2001:db8::1/128",
    "64:ff9b::/96",
    "128.0.0.0/1",
    "fc00::/7",
    "192.0.2.0/24",
    "100.64.0.0/10",
    "2001:db8:64::/48",
    "8.8.0.0/16",
];

pub(crate) static ADDRESSES: LazyLock<Vec<IpAddr>> = LazyLock::new(|| {
    [
        "203.0.113.7",
        "203.0.113.9",
        "10.1.2.3",
        "10.1.2.4",
        "10.9.9.9",
        "169.254.169.254",
        "192.0.2.80",
        "8.8.8.8",
        "127.0.0.1",
        "::1",
        "2001:db8::1",
        "2001:db8::2",
        "64:ff9b::a01:203",
        "64:ff9b::c000:201",
        "64:ff9b::cb00:7107",
        "::ffff:10.1.2.3",
        "::ffff:203.0.113.7",
        "fd00::1",
        "255.255.255.255",
        "100.64.0.1",
        "100.100.100.200",
        "198.18.0.1",
        "2002:cb00:7107::1",
        "2002:a01:203::1",
        "::203.0.113.7",
        "::ffff:0:203.0.113.7",
        "2001:0:1::1",
        "64:ff9b:1::cb00:7107",
        "fd00:ec2::254",
        "2001:db8:64::a01:203",
        "2001:db8:64::cb00:7107",
        "2001:db8:64::808:808",
    ]
    .iter()
    .map(|text| text.parse().expect("an address"))
    .collect()
});

/// A network-specific prefix (RFC 6052) that addresses above lie behind.
static NAT64: LazyLock<Nat64Prefixes> = LazyLock::new(|| {
    let prefix = "2001:db8:64::/96".parse().expect("a network");
    Nat64Prefixes::NONE.with(prefix).expect("a prefix")
});

const PATHS: [&str; 7] = ["/", "/a", "/a/*", "/a/**", "/*/b", "/**/b", "/{a,b}/c"];

const REQUEST_PATHS: [RequestPath<'static>; 9] = [
    RequestPath::Clean("/"),
    RequestPath::Clean("/a"),
    RequestPath::Clean("/a/b"),
    RequestPath::Clean("/a/b/b"),
    RequestPath::Clean("/b/c"),
    RequestPath::Clean("/a/b%20"),
    RequestPath::Clean("/A/b"),
    RequestPath::Malformed,
    RequestPath::Absent,
];

/// Names near the patterns: the labels that they are made of, in every arrangement that fits.
static NAMES: LazyLock<Vec<Name>> = LazyLock::new(|| {
    let fronts = [
        "",
        "a.",
        "b.",
        "ab.",
        "aab.",
        "axb.",
        "x.",
        "x.a.",
        "a.b.",
        "b.a.",
        "a.x.",
        "x.a.b.",
        "a.a.a.",
        "api-v1.",
        "api-.",
        "-.",
        "q.api-v2.",
        "b.z.",
        "evil",
    ];
    let bases = ["e.com", "a.e.com", "f.org", "e.com.evil.org", "com", "e.co"];
    let mut names = Vec::new();
    for base in bases {
        for front in fronts {
            names.push(Name::parse(format!("{front}{base}").as_bytes()).expect("a name"));
        }
    }
    names
});

pub(crate) static LABELS: LazyLock<Vec<Vec<(&str, &str)>>> = LazyLock::new(|| {
    let mut sets = vec![Vec::new(), vec![("namespace", "a"), ("k1", "v9")]];
    for first in VALUES {
        sets.push(vec![("k1", first)]);
        for second in VALUES {
            sets.push(vec![("k1", first), ("k2", second)]);
            sets.push(vec![("k3", second), ("k1", first), ("unused", "v1")]);
            sets.push(vec![("k2", first), ("k3", second)]);
        }
    }
    sets
});

/// Policies that compose, with the settings they are judged under.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) policies: Vec<Policy>,
    pub(crate) settings: Settings,
}

impl World {
    pub(crate) fn generate(rng: &mut Rng) -> Self {
        let count = match rng.below(50) {
            0 => 0,
            1..=36 => 1,
            37..=46 => 2,
            _ => 3,
        };
        let address_check = match rng.below(20) {
            0 => AddressCheck::Unstated,
            1..=4 => AddressCheck::None,
            _ => AddressCheck::Classes,
        };
        Self {
            policies: (0..count).map(|i| policy(rng, i)).collect(),
            settings: Settings {
                address_check,
                nat64: if rng.chance(20) {
                    *NAT64
                } else {
                    Nat64Prefixes::NONE
                },
            },
        }
    }

    /// All facts known, mostly such that some rule's conditions hold.
    pub(crate) fn facts(&self, rng: &mut Rng) -> Facts<'static> {
        let mut facts = any_facts(rng);
        let rules: Vec<&Rule> = self
            .policies
            .iter()
            .flat_map(|policy| policy.tiers.iter().flat_map(|tier| &tier.rules))
            .collect();
        let opening: Vec<&Rule> = rules
            .iter()
            .copied()
            .filter(|rule| rule.action != RuleAction::Deny && rule.mode == Mode::Enforce)
            .collect();
        if !opening.is_empty() && rng.chance(80) {
            aim(rng, &mut facts, &opening);
        } else if !rules.is_empty() && rng.chance(80) {
            aim(rng, &mut facts, &rules);
        }
        facts
    }
}

fn policy(rng: &mut Rng, index: usize) -> Policy {
    let shadow = (0..rng.below(3).saturating_sub(1)).map(|_| ShadowWorkloads {
        workloads: workloads(rng),
        expires: expiry(rng),
    });
    let shadow_workloads = shadow.collect();
    let tiers = 1 + rng.below(3);
    Policy {
        head: Head {
            name: format!("p{index}"),
            trust_domains: if rng.chance(80) {
                DOMAINS[..2].iter().map(|td| (*td).to_owned()).collect()
            } else {
                rng.texts(&DOMAINS[..2], 2)
            },
            allow_plaintext: rng.chance(20),
            applies_to: (index > 0).then(|| workloads(rng)),
            shadow_workloads,
            default: if rng.chance(if index > 0 { 80 } else { 40 }) {
                DefaultAction::Accept
            } else {
                DefaultAction::Deny
            },
        },
        tiers: (0..tiers).map(|i| tier(rng, i)).collect(),
    }
}

fn workloads(rng: &mut Rng) -> Workloads {
    let service_accounts = if rng.chance(40) {
        accounts(rng)
    } else {
        Vec::new()
    };
    let namespaces = if service_accounts.is_empty() || rng.chance(50) {
        rng.texts(&NAMESPACES, 2)
    } else {
        Vec::new()
    };
    Workloads {
        namespaces,
        service_accounts,
    }
}

fn accounts(rng: &mut Rng) -> Vec<ServiceAccount> {
    let one = |rng: &mut Rng| ServiceAccount {
        namespace: rng.word(&NAMESPACES).to_owned(),
        name: rng.word(&ACCOUNTS).to_owned(),
    };
    let first = one(rng);
    let second = one(rng);
    if first == second || rng.chance(60) {
        vec![first]
    } else {
        vec![first, second]
    }
}

fn expiry(rng: &mut Rng) -> i64 {
    NOW + *rng.pick(&[-1, 0, 1, 2])
}

fn mode(rng: &mut Rng) -> Mode {
    if rng.chance(10) {
        Mode::Shadow
    } else {
        Mode::Enforce
    }
}

fn tier(rng: &mut Rng, index: usize) -> Tier {
    let rules = if rng.chance(5) { 40 } else { rng.below(7) };
    Tier {
        name: format!("t{index}"),
        mode: mode(rng),
        default: if rng.chance(8) {
            TierDefault::Deny
        } else {
            TierDefault::Pass
        },
        rules: (0..rules).map(|i| rule(rng, i)).collect(),
    }
}

fn rule(rng: &mut Rng, index: usize) -> Rule {
    let action = match rng.below(20) {
        0..=11 => RuleAction::Accept,
        12..=15 => RuleAction::Deny,
        16..=18 => RuleAction::Pass,
        _ => RuleAction::Inspect(rng.word(&INSPECTION_PROXIES).into()),
    };
    let deny = action == RuleAction::Deny;
    let from = match rng.below(10) {
        0 | 1 if deny => From::Anyone,
        0 => From::Anyone,
        1..=3 => From::AnyWorkload,
        _ => From::Sources((0..=rng.below(2)).map(|_| source(rng)).collect()),
    };
    let expires = (action == RuleAction::Accept && rng.chance(20)).then(|| expiry(rng));
    let elements = if rng.chance(8) { 0 } else { 1 + rng.below(3) };
    Rule {
        name: format!("r{index}"),
        mode: mode(rng),
        from,
        to: (0..elements).map(|_| to(rng)).collect(),
        action,
        expires,
        owner: None,
        reason: None,
        ticket: None,
    }
}

fn source(rng: &mut Rng) -> Source {
    let mut source = Source::default();
    if rng.chance(10) {
        source.trust_domains = rng.texts(&DOMAINS, 2);
    }
    if rng.chance(60) {
        source.namespaces = rng.texts(&NAMESPACES, 2);
    }
    if rng.chance(20) {
        source.service_accounts = accounts(rng);
    }
    if rng.chance(10) {
        source.clusters = rng.texts(&CLUSTERS, 2);
    }
    if rng.chance(40) {
        let keys = rng.texts(&KEYS, 2);
        source.match_labels = keys
            .into_iter()
            .map(|key| (key, rng.word(&VALUES).to_owned()))
            .collect();
    }
    if rng.chance(15) {
        let operator = match rng.below(4) {
            0 => LabelOperator::In(rng.texts(&VALUES, 2)),
            1 => LabelOperator::NotIn(rng.texts(&VALUES, 2)),
            2 => LabelOperator::Exists,
            _ => LabelOperator::DoesNotExist,
        };
        source.match_expressions.push(LabelExpression {
            key: rng.word(&KEYS).to_owned(),
            operator,
        });
    }
    if source == Source::default() {
        source.namespaces = rng.texts(&NAMESPACES, 1);
    }
    source
}

fn to(rng: &mut Rng) -> To {
    let place = match rng.below(10) {
        0..=5 => {
            let patterns = rng.some(&PATTERNS, 3);
            let parse = |text: &&str| NamePattern::parse(text).expect("a pattern");
            Hosts::Names(patterns.iter().map(parse).collect())
        }
        6..=8 => {
            let parse = |text: &&str| text.parse().expect("a network");
            let networks = rng.some(&NETWORKS, 3).iter().map(parse).collect();
            let except = if rng.chance(30) {
                rng.some(&NETWORKS[3..], 2).iter().map(parse).collect()
            } else {
                Vec::new()
            };
            Hosts::Networks(Networks { networks, except }.into())
        }
        _ => Hosts::Anywhere,
    };
    let ports = if rng.chance(40) {
        let ports = rng.some(&PORTS, 2);
        PortSet::new(ports.into_iter().map(|port| port..=port.saturating_add(3)))
    } else {
        PortSet::any()
    };
    let protocols = if rng.chance(20) {
        rng.some(&[Protocol::Http, Protocol::Tls, Protocol::Tcp], 2)
    } else {
        Vec::new()
    };
    let methods = if rng.chance(15) {
        rng.texts(&METHODS, 2)
    } else {
        Vec::new()
    };
    let paths = if rng.chance(15) {
        let paths = rng.some(&PATHS, 2);
        paths
            .iter()
            .map(|path| PathPattern::parse(path).expect("a glob"))
            .collect()
    } else {
        Vec::new()
    };
    let upgrades = if rng.chance(8) {
        vec!["websocket".to_owned()]
    } else {
        Vec::new()
    };
    let http = !(methods.is_empty() && paths.is_empty() && upgrades.is_empty());
    To {
        destination: None,
        hosts: place,
        ports,
        protocols: if http { Vec::new() } else { protocols },
        methods,
        paths,
        upgrades,
        allow_private: rng.chance(15),
        tls: None,
    }
}

fn any_facts(rng: &mut Rng) -> Facts<'static> {
    let id = SpiffeId {
        trust_domain: if rng.chance(97) {
            rng.word(&DOMAINS[..2])
        } else {
            DOMAINS[2]
        },
        namespace: rng.word(&NAMESPACES),
        service_account: rng.word(&ACCOUNTS),
    };
    let caller = match rng.below(50) {
        0 => Caller::Malformed,
        1 => Caller::Plaintext,
        2 | 3 => Caller::NoCertificate,
        _ => Caller::Workload(id),
    };
    let address = *rng.pick(&ADDRESSES);
    let name = rng.chance(70).then(|| &NAMES[rng.below(NAMES.len())]);
    Facts {
        protocol: *rng.pick(&[Protocol::Http, Protocol::Http, Protocol::Tls, Protocol::Tcp]),
        caller: Fact::Known(caller),
        claims: Fact::Known(Claims {
            namespace: if rng.chance(95) {
                id.namespace
            } else {
                rng.word(&NAMESPACES)
            },
            cluster: rng.chance(80).then(|| rng.word(&CLUSTERS)),
            labels: &LABELS[rng.below(LABELS.len())],
        }),
        destination: DestinationFacts {
            name: Fact::Known(name),
            address: Fact::Known(address),
            port: Fact::Known(*rng.pick(&PORTS)),
        },
        request: Request {
            method: Fact::Known(if rng.chance(80) {
                METHODS[0]
            } else {
                rng.word(&METHODS)
            }),
            path: Fact::Known(if rng.chance(60) {
                REQUEST_PATHS[2]
            } else {
                *rng.pick(&REQUEST_PATHS)
            }),
            upgrade: Fact::Known(rng.chance(6).then(|| rng.word(&UPGRADES))),
        },
        now: Fact::Known(NOW + *rng.pick(&[-1, 0, 0, 1])),
        refused: None,
    }
}

/// Bends facts towards a rule: its caller, its place, its port, its protocol.
fn aim(rng: &mut Rng, facts: &mut Facts<'static>, rules: &[&Rule]) {
    let rule = rules[rng.below(rules.len())];
    if let From::Sources(sources) = &rule.from {
        let source = rng.pick(sources);
        aim_caller(rng, facts, source);
    }
    if rule.to.is_empty() {
        return;
    }
    let to = &rule.to[rng.below(rule.to.len())];
    match &to.hosts {
        Hosts::Anywhere => {}
        Hosts::Names(patterns) => {
            let wanted = |name: &&Name| patterns.iter().any(|pattern| pattern.matches(name));
            let matching: Vec<&'static Name> = NAMES.iter().filter(wanted).collect();
            if !matching.is_empty() {
                facts.destination.name = Fact::Known(Some(*rng.pick(&matching)));
            }
            if rng.chance(85) {
                facts.destination.address = Fact::Known(ADDRESSES[6]);
            }
        }
        Hosts::Networks(networks) => {
            let wanted = |address: &&IpAddr| networks.contains(**address);
            let matching: Vec<&IpAddr> = ADDRESSES.iter().filter(wanted).collect();
            if !matching.is_empty() {
                facts.destination.address = Fact::Known(**rng.pick(&matching));
            }
            if rule.action != RuleAction::Deny && rng.chance(90) {
                facts.destination.name = Fact::Known(None);
            }
        }
    }
    if let Some(range) = to.ports.ranges().next() {
        facts.destination.port = Fact::Known(*range.start());
    }
    if let Some(protocol) = to.protocols.first() {
        facts.protocol = *protocol;
    }
    let wants_method = |method: &&&str| to.methods.iter().any(|m| m == **method);
    if let Some(method) = METHODS.iter().find(wants_method) {
        facts.protocol = Protocol::Http;
        facts.request.method = Fact::Known(method);
    }
    if !to.upgrades.is_empty() {
        facts.protocol = Protocol::Http;
        facts.request.upgrade = Fact::Known(Some("websocket"));
    }
    if !to.paths.is_empty() && rng.chance(80) {
        facts.protocol = Protocol::Http;
        let wanted = |path: &&RequestPath<'static>| matches!(path, RequestPath::Clean(path) if to.paths.iter().any(|p| p.matches(path)));
        if let Some(path) = REQUEST_PATHS.iter().find(wanted) {
            facts.request.path = Fact::Known(*path);
        }
    }
}

fn aim_caller(rng: &mut Rng, facts: &mut Facts<'static>, source: &Source) {
    let Fact::Known(Caller::Workload(mut id)) = facts.caller else {
        return;
    };
    let word = |words: &[&'static str], wanted: &[String]| {
        let found = words.iter().find(|word| wanted.iter().any(|w| w == **word));
        found.copied()
    };
    if let Some(domain) = word(&DOMAINS[..2], &source.trust_domains) {
        id.trust_domain = domain;
    }
    if let Some(namespace) = word(&NAMESPACES, &source.namespaces) {
        id.namespace = namespace;
    }
    if let Some(account) = source.service_accounts.first() {
        id.namespace = NAMESPACES
            .iter()
            .find(|ns| **ns == account.namespace)
            .expect("a generated namespace");
        id.service_account = ACCOUNTS
            .iter()
            .find(|name| **name == account.name)
            .expect("a generated account");
    }
    facts.caller = Fact::Known(Caller::Workload(id));
    let Fact::Known(mut claims) = facts.claims else {
        return;
    };
    if rng.chance(94) {
        claims.namespace = id.namespace;
    }
    claims.cluster = word(&CLUSTERS, &source.clusters).or(claims.cluster);
    let holds = |labels: &&Vec<(&str, &str)>| {
        source
            .match_labels
            .iter()
            .all(|(key, value)| labels.iter().any(|(k, v)| k == key && v == value))
    };
    let matching: Vec<&'static Vec<(&str, &str)>> = LABELS.iter().filter(holds).collect();
    if !matching.is_empty() {
        claims.labels = rng.pick(&matching).as_slice();
    }
    facts.claims = Fact::Known(claims);
}

/// Hides facts: each may still come, or can no longer come, or stays.
pub(crate) fn hide(rng: &mut Rng, facts: Facts<'static>) -> Facts<'static> {
    let style = rng.below(10);
    let mut hidden = facts;
    if style < 3 {
        return hidden;
    }
    let (pending, missing) = match style {
        3..=5 => (45, 0),
        6 => (60, 3),
        7 => (0, 8),
        8 => (30, 8),
        _ => (90, 0),
    };
    hidden.caller = dim(rng, hidden.caller, pending / 2, missing / 3);
    hidden.claims = dim(rng, hidden.claims, pending, missing);
    hidden.destination.name = dim(rng, hidden.destination.name, pending / 3, missing / 4);
    hidden.destination.port = dim(rng, hidden.destination.port, pending / 6, missing / 6);
    hidden.destination.address = dim(rng, hidden.destination.address, pending, missing);
    hidden.request.method = dim(rng, hidden.request.method, pending / 4, missing / 4);
    hidden.request.path = dim(rng, hidden.request.path, pending / 4, missing / 4);
    hidden.request.upgrade = dim(rng, hidden.request.upgrade, pending / 4, missing / 4);
    hidden.now = dim(rng, hidden.now, pending / 4, missing / 4);
    hidden
}

fn dim<T>(rng: &mut Rng, fact: Fact<T>, pending: usize, missing: usize) -> Fact<T> {
    let roll = rng.below(100);
    if roll < pending {
        Fact::Pending
    } else if roll < pending + missing {
        Fact::Missing
    } else {
        fact
    }
}
