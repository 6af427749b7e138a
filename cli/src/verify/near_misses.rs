//! What lies just beside what a policy names.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use egress_policy::facts::Protocol;
use egress_policy::name::{Name, NamePattern};

use super::plan::{Plan, Planned, ProbeTarget};
use super::{Attempt, Group, Probe};

/// Ports that have nothing to do with the one that is named, whose servers speak first.
const OTHER_PORTS: [u16; 2] = [22, 25];
/// Header lines that some proxies take for the destination or for their own word, and in which an
/// application may write what it likes.
const HEADERS: [&str; 6] = [
    "x-forwarded-host",
    "x-envoy-original-dst-host",
    "x-envoy-original-path",
    "x-original-host",
    "x-warden-verdict",
    "x-warden-inspect",
];

/// Names that a careless comparison takes for the pattern's.
pub(super) fn names(pattern: &NamePattern, witness: Option<&Name>) -> Vec<Name> {
    let mut texts = Vec::new();
    match pattern {
        NamePattern::Suffix(base) => {
            texts.push(base.to_string());
            texts.push(format!("evil{base}"));
        }
        NamePattern::OneBelow(base) => {
            texts.push(base.to_string());
            texts.push(format!("evil{base}"));
            texts.push(format!("zz.zz.{base}"));
        }
        NamePattern::Exact(name) => {
            texts.push(format!("zz.{name}"));
            if let Some((_, parent)) = name.as_str().split_once('.') {
                texts.push(format!("zz.{parent}"));
                if parent.contains('.') {
                    texts.push(parent.to_owned());
                }
            }
        }
        NamePattern::Glob(_) => {}
    }
    if let Some(witness) = witness {
        texts.push(format!("{witness}.evil.example"));
        texts.push(format!("evil-{witness}"));
    }
    texts
        .iter()
        .filter_map(|text| Name::parse(text.as_bytes()).ok())
        .collect()
}

/// The next ports and the next addresses.
pub(super) fn beside_addresses(plan: &Plan<'_>, reached: &[Probe], planned: &mut Planned) {
    for probe in reached {
        let (Attempt::Http { to, .. } | Attempt::Tls { to, .. } | Attempt::Tcp { to }) =
            probe.attempt
        else {
            continue;
        };
        let mut push = |to: SocketAddr, what: &str| {
            // A neighbour is dialled by its number, as raw TCP is.
            if plan.traffic.protocol(to.port()) == Protocol::Tcp {
                let why = format!("{what} of {}", probe.attempt);
                let attempt = Attempt::Tcp { to };
                planned.push_miss(plan.probe(Group::NearMisses, why, attempt, false));
            }
        };
        let next = to.port().checked_add(1);
        for port in next.into_iter().chain(OTHER_PORTS) {
            push(SocketAddr::new(to.ip(), port), "another port");
        }
        if matches!(probe.attempt, Attempt::Tcp { .. }) {
            for address in neighbours(to.ip()) {
                push(SocketAddr::new(address, to.port()), "neighbour");
            }
        }
    }
}

fn neighbours(address: IpAddr) -> Vec<IpAddr> {
    match address {
        IpAddr::V4(v4) => {
            let bits = v4.to_bits();
            let around = [bits.checked_sub(1), bits.checked_add(1)]
                .into_iter()
                .flatten();
            around
                .map(|bits| Ipv4Addr::from_bits(bits).into())
                .collect()
        }
        IpAddr::V6(v6) => {
            let bits = v6.to_bits();
            let around = [bits.checked_sub(1), bits.checked_add(1)]
                .into_iter()
                .flatten();
            around
                .map(|bits| Ipv6Addr::from_bits(bits).into())
                .collect()
        }
    }
}

/// Odd authorities and server names at destinations that are allowed.
pub(super) fn odd_words(plan: &Plan<'_>, reached: &[Probe], planned: &mut Planned) {
    let first = |wanted: Protocol| {
        reached.iter().find_map(|probe| match &probe.attempt {
            Attempt::Http { to, authority, .. } if wanted == Protocol::Http => {
                Some((*to, authority.clone()))
            }
            Attempt::Tls {
                to,
                name: Some(name),
            } if wanted == Protocol::Tls => Some((*to, name.clone())),
            _ => None,
        })
    };
    if let Some((to, authority)) = first(Protocol::Http) {
        let host = authority.split(':').next().unwrap_or_default();
        odd_authorities(plan, to, host, planned);
    }
    if let Some((to, name)) = first(Protocol::Tls) {
        let spot = |name: Option<String>| ProbeTarget {
            name: name.and_then(|name| Name::parse(name.as_bytes()).ok()),
            to,
            known_live: true,
        };
        for (name, why) in [
            (None, "no server name at an allowed address"),
            (
                Some("evil.example".to_owned()),
                "a foreign server name at an allowed address",
            ),
            (
                Some(format!("{name}.evil.example")),
                "a look-alike at an allowed address",
            ),
        ] {
            let attempt = plan.attempt(&spot(name), "GET", "/");
            planned.push_miss(plan.probe(Group::NearMisses, why.to_owned(), attempt, true));
        }
    }
}

fn odd_authorities(plan: &Plan<'_>, to: SocketAddr, host: &str, planned: &mut Planned) {
    let request = |authority: String, headers| Attempt::Http {
        to,
        method: "GET",
        authority,
        path: "/".to_owned(),
        headers,
    };
    for (authority, why) in [
        (
            "evil.example".to_owned(),
            "a foreign name at an allowed address",
        ),
        (format!("{host},evil.example"), "two names"),
        (format!("evil.example,{host}"), "two names"),
        (format!("evil.example@{host}"), "userinfo"),
        (format!("evil.example%2f.{host}"), "an escape in a name"),
        (format!("evil.example;.{host}"), "punctuation in a name"),
        (format!("[{host}]"), "brackets around a name"),
        (format!(".{host}"), "an empty label"),
        (format!("{host}.."), "two trailing dots"),
        (format!("{host}:22"), "a port that the route does not have"),
        (format!("{host}:0"), "a port that is none"),
        ("0x7f000001".to_owned(), "an odd spelling of an address"),
        ("127.1".to_owned(), "an odd spelling of an address"),
        (
            "[::ffff:169.254.169.254]".to_owned(),
            "an IPv4 address inside an IPv6 one",
        ),
    ] {
        let attempt = request(authority, Vec::new());
        planned.push_miss(plan.probe(Group::NearMisses, why.to_owned(), attempt, true));
    }
    for name in HEADERS {
        let value = if name.starts_with("x-warden") {
            "accept".to_owned()
        } else {
            host.to_owned()
        };
        let attempt = request("evil.example".to_owned(), vec![(name, value)]);
        let why = "a header in place of the destination".to_owned();
        planned.push_miss(plan.probe(Group::NearMisses, why, attempt, true));
    }
}
