//! An outside world in which everything answers that could: public, denied, private, link-local and
//! metadata addresses, the cluster's own, and the IPv6 forms of the private ones. Whatever is
//! connected to by mistake arrives.

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};
use integration::certificates::Leaf;
use integration::classes::{self, Class};
use integration::client::{self, Heard, hear, request};
use integration::dns::{Answer, Name};
use integration::mesh::{self, APP1, APP2, APP3, Mesh, Plan, SSH_BANNER, Workload};
use integration::outside::Speech;
use integration::{sandbox, template};
use serde_json::{Value, json};

/// Where each word of a row is, and whether anybody listens there.
const PLACES: [(&str, &str, Kind); 20] = [
    ("dead", "203.0.113.29", Kind::Unreachable),
    ("dead6", "2001:db8::29", Kind::Unreachable),
    ("refuses", "203.0.113.30", Kind::Refuses),
    ("hole", "203.0.113.31", Kind::Hole),
    ("public", "203.0.113.10", Kind::Answers),
    ("public2", "203.0.113.11", Kind::Answers),
    ("public6", "2001:db8::10", Kind::Answers),
    // Denied to app2 by its policy, to nobody else.
    ("denied", "198.51.100.130", Kind::Answers),
    ("denied6", "2001:db8:bad::1", Kind::Answers),
    ("private", "10.1.2.3", Kind::Answers),
    ("slow", "10.1.2.4", Kind::Answers),
    ("shared", "100.64.1.1", Kind::Answers),
    ("ula", "fd00::3", Kind::Answers),
    ("linklocal", "169.254.10.10", Kind::Answers),
    ("metadata", "169.254.169.254", Kind::Answers),
    ("metadata6", "fd00:ec2::254", Kind::Answers),
    ("loopback", "127.0.0.1", Kind::Answers),
    ("mapped", "::ffff:10.1.2.3", Kind::Unreachable),
    ("nat64", "64:ff9b::10.1.2.3", Kind::Answers),
    ("6to4", "2002:a01:203::1", Kind::Answers),
];

/// What every server's certificate is for.
const CERTIFIED: [&str; 3] = ["*.web.example", "*.payments.example", "*.inner.example"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// It has servers.
    Answers,
    /// Nothing listens: connections are reset.
    Refuses,
    /// Connections are neither taken nor refused.
    Hole,
    /// There is no way there.
    Unreachable,
}

/// The address that a row's word stands for.
pub(crate) fn at(word: &str) -> Result<IpAddr> {
    let place = PLACES.iter().find(|(known, ..)| *known == word);
    let (_, text, _) = place.with_context(|| format!("nowhere is called {word}"))?;
    Ok(text.parse()?)
}

/// The words for an address, as a failing row prints them.
fn word(address: IpAddr) -> String {
    let place = PLACES
        .iter()
        .find(|(word, ..)| at(word).is_ok_and(|known| known == address));
    place.map_or_else(|| address.to_string(), |(word, ..)| (*word).to_owned())
}

/// `a b` is an answer of both addresses in this order.
pub(crate) fn answer(words: &str) -> Result<Answer> {
    let addresses: Result<Vec<IpAddr>> = words.split_whitespace().map(at).collect();
    Ok(Answer::of(&addresses?))
}

/// The way that something takes through the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    /// A request in the clear.
    Http,
    /// A request that the gateway speaks TLS for.
    Originate,
    /// TLS of the application.
    Tls,
    /// TLS of the application that ends at the gateway.
    Ended,
    /// Opaque bytes in a tunnel to a name.
    Tunnel,
}

impl Transport {
    pub(crate) const ALL: [Self; 5] = [
        Self::Http,
        Self::Originate,
        Self::Tls,
        Self::Ended,
        Self::Tunnel,
    ];

    /// Below which names this way goes.
    const fn suffix(self) -> &'static str {
        match self {
            Self::Originate => "payments.example",
            Self::Http | Self::Tls | Self::Ended | Self::Tunnel => "web.example",
        }
    }
}

/// What the caller saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Came {
    /// The server's answer.
    Reached,
    /// No server's, but this status of the gateway's, or a closed connection.
    Refused(Option<u16>),
}

/// The policy: three callers, one of whom may not reach some networks, and one who is inspected.
pub(crate) fn policy() -> Value {
    let from = |namespace: &str| json!([{"namespaces": [namespace]}]);
    let names = json!(["*.web.example", "*.payments.example"]);
    let ports = json!([80, 443, 9443]);
    let opaque = json!({"domainNames": ["*.web.example"], "ports": [22]});
    json!({
        "apiVersion": egress_policy::read::API_VERSION,
        "kind": egress_policy::read::KIND,
        "metadata": {"name": "seed"},
        "spec": {
            "identity": {"trustDomains": ["cluster.local"]},
            "tiers": [{"name": "t", "rules": [
                {"name": "scan", "from": from("app3-ns"),
                 "to": [{"domainNames": ["*.web.example"], "ports": [80, 443]}, opaque],
                 "action": "Inspect", "inspection": "dlp"},
                {"name": "not-there", "from": from("app2-ns"),
                 "to": [{"networks": ["198.51.100.128/25", "2001:db8:bad::/48"]}],
                 "action": "Deny"},
                {"name": "web", "to": [{"domainNames": names, "ports": ports}, opaque],
                 "action": "Accept"},
                {"name": "inner", "from": from("app1-ns"),
                 "to": [{"domainNames": ["*.inner.example"], "ports": [80, 443],
                         "allowPrivate": true}],
                 "action": "Accept"},
            ]}],
            "default": "Deny",
        },
    })
}

/// The same with the networks denied to everybody.
pub(crate) fn stricter() -> Value {
    let mut policy = policy();
    if let Some(rule) = policy.pointer_mut("/spec/tiers/0/rules/1")
        && let Some(rule) = rule.as_object_mut()
    {
        rule.remove("from");
    }
    policy
}

/// The bench, with that world around it.
pub(crate) struct World {
    pub(crate) mesh: Mesh,
    leaves: [(Workload, Leaf); 3],
    next: AtomicUsize,
}

/// How the gateway is set up.
pub(crate) struct Setup<'a> {
    /// Its classes.
    pub(crate) classes: Vec<Class>,
    /// Its workers.
    pub(crate) workers: u8,
    /// Whether listeners and clusters are in files.
    pub(crate) discovered: bool,
    /// What is changed in its bootstrap.
    pub(crate) change: &'a dyn Fn(&mut Value),
}

/// The gateway of [`policy`] as it is.
pub(crate) fn usual() -> Setup<'static> {
    Setup {
        classes: classes::of(&[policy()]),
        workers: 1,
        discovered: false,
        change: &|_| {},
    }
}

/// The caches ask as often as they can.
pub(crate) fn changed(config: &mut Value) {
    template::each_object(config, &mut |object| {
        if object.contains_key("dns_lookup_family") {
            for rate in ["dns_min_refresh_rate", "dns_refresh_rate"] {
                object.insert(rate.to_owned(), json!("1s"));
            }
        }
    });
}

/// Starts it under [`policy`].
pub(crate) fn start(setup: &Setup<'_>) -> Result<World> {
    let mesh = Mesh::start(&Plan {
        extensions: &integration::policy::everywhere(&[policy()]),
        workloads: &[APP1, APP2, APP3],
        classes: &setup.classes,
        workers: setup.workers,
        discovered: setup.discovered,
        change: &|config| {
            changed(config);
            (setup.change)(config);
        },
    })?;
    furnish(&mesh)?;
    let leaf = |workload: Workload| -> Result<(Workload, Leaf)> {
        let leaf = mesh.mesh_authority.workload(workload.identity)?;
        Ok((workload, leaf))
    };
    Ok(World {
        leaves: [leaf(APP1)?, leaf(APP2)?, leaf(APP3)?],
        next: AtomicUsize::new(0),
        mesh,
    })
}

fn furnish(mesh: &Mesh) -> Result<()> {
    let mut holes = Vec::new();
    for (word, _, kind) in PLACES {
        let address = at(word)?;
        let known = mesh::HOSTS.iter().any(|(_, host)| *host == address);
        if kind != Kind::Unreachable && !address.is_loopback() && !known {
            sandbox::assign_also(address)?;
        }
        match kind {
            Kind::Answers if !known => {
                for (port, speech) in [
                    (80, Speech::Http("outside")),
                    (443, Speech::HttpsOf(&CERTIFIED)),
                    (9443, Speech::HttpsOf(&CERTIFIED)),
                    (22, Speech::Banner(SSH_BANNER)),
                ] {
                    let authority = &mesh.outside_authority;
                    mesh.outside.serve(authority, address, port, &speech)?;
                }
            }
            Kind::Hole => holes.push(address),
            Kind::Answers | Kind::Refuses | Kind::Unreachable => {}
        }
    }
    sandbox::black_hole(&holes)
}

impl World {
    /// A name that nobody has asked for yet, for this way.
    pub(crate) fn name(&self, way: Transport, says: impl Into<Name>) -> String {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let name = format!("n{number}.{}", way.suffix());
        self.mesh.dns.add(&name, says);
        name
    }

    /// Tries to reach a name by this way.
    pub(crate) fn attempt(&self, caller: &Workload, way: Transport, name: &str) -> Result<Came> {
        self.attempt_path(caller, way, name, "/")
    }

    /// The same for a path of its own, by which it can be found again.
    pub(crate) fn attempt_path(
        &self,
        caller: &Workload,
        way: Transport,
        name: &str,
        path: &str,
    ) -> Result<Came> {
        // What an application dials does not matter: the gateway resolves for itself.
        let dialled = |port| SocketAddrV4::new(Ipv4Addr::new(140, 82, 112, 5), port);
        let headers = [("Host", name.as_bytes())];
        let answer = match way {
            Transport::Http | Transport::Originate => {
                let mut stream = self.mesh.dial(caller, dialled(80))?;
                request(&mut stream, "GET", path, &headers)?
            }
            Transport::Tls => {
                let mut session = match self.mesh.dial_tls(caller, *dialled(443).ip(), name) {
                    Ok(Some(session)) => session,
                    Ok(None) => return Ok(Came::Refused(None)),
                    // Somebody answers, who has no certificate for it.
                    Err(error) if error.to_string().contains("invalid peer certificate") => {
                        return Ok(Came::Reached);
                    }
                    Err(error) => return Err(error),
                };
                request(&mut session, "GET", path, &headers)?
            }
            Transport::Ended => {
                let stream = self.mesh.dial(caller, dialled(9443))?;
                let authority = self.mesh.ending_authority.certificate();
                let config = client::tls_config(&authority, None)?;
                let Some(mut session) = client::tls(stream, config, name)? else {
                    return Ok(Came::Refused(None));
                };
                request(&mut session, "GET", path, &headers)?
            }
            Transport::Tunnel => return self.tunnel(caller, name),
        };
        Ok(match answer.map(|answer| answer.status) {
            Some(200) => Came::Reached,
            other => Came::Refused(other),
        })
    }

    /// A tunnel to a name, as somebody asks for it who speaks to the gateway without a sidecar.
    fn tunnel(&self, caller: &Workload, name: &str) -> Result<Came> {
        let leaf = self.leaves.iter().find(|(one, _)| one.name == caller.name);
        let (_, leaf) = leaf.context("no such caller")?;
        let mut session = self
            .mesh
            .gateway_tls(15008, Some(leaf))?
            .context("refused")?;
        let authority = format!("{name}:22");
        let metadata = caller.peer.header();
        let headers = [
            ("Host", authority.as_bytes()),
            ("x-envoy-peer-metadata", metadata.as_bytes()),
        ];
        let answer = request(&mut session, "CONNECT", &authority, &headers)?;
        Ok(match answer {
            // The banner may come with the answer.
            Some(answer) if answer.status == 200 && answer.body == SSH_BANNER => Came::Reached,
            Some(answer) if answer.status == 200 => match hear(&mut session)? {
                Heard::Bytes(banner) if banner == SSH_BANNER.as_bytes() => Came::Reached,
                Heard::Bytes(_) | Heard::Closed => Came::Refused(None),
            },
            other => Came::Refused(other.map(|answer| answer.status)),
        })
    }

    /// Where connections have arrived since there were so many, in words.
    pub(crate) fn arrived(&self, before: usize) -> Vec<String> {
        let seen = self.mesh.outside.seen();
        let new = seen.get(before..).unwrap_or_default();
        new.iter()
            .filter_map(|seen| seen.address.map(|(address, _)| word(address)))
            .collect()
    }

    /// How many connections have arrived.
    pub(crate) fn count(&self) -> usize {
        self.mesh.outside.seen().len()
    }

    /// The gateway's last lines.
    pub(crate) fn said(&self) -> String {
        let log = self.mesh.gateway.log().unwrap_or_default();
        let configured = |line: &&str| !line.contains("work-in-progress");
        let lines: Vec<&str> = log.lines().rev().filter(configured).take(12).collect();
        lines.join("\n")
    }
}
