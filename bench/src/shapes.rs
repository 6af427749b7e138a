//! The shapes: for each, a policy of any number of rules and the facts to judge.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use egress_policy::facts::{
    Caller, Claims, DestinationFacts, Fact, Facts, Protocol, Request, SpiffeId,
};
use egress_policy::name::Name;
use egress_policy::path::RequestPath;

/// One way in which a policy grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Shape {
    /// Namespaces, accounts and labels, names, wildcards, globs and networks, as in a large
    /// organisation.
    Realistic,
    /// Every rule names one domain; they differ in the service account.
    WorkloadsByAccount,
    /// Every rule names one domain; they differ in a label.
    WorkloadsByLabel,
    /// As before, asked by callers whose labels are missing.
    WorkloadsUnlabelled,
    /// One workload, a domain a rule.
    Domains,
    /// As before, asked while the name is not known yet.
    DomainsUnread,
    /// One workload, a network a rule.
    Networks,
    /// Denied networks before one name, asked while the address is not known yet.
    DeniedNetworks,
    /// Denied networks and accepted names in turn, asked while the address is not known yet.
    DeniedBetween,
    /// One workload, a pattern with a star inside a label a rule. A tenth of the others' rules.
    Globs,
}

impl Shape {
    /// Every shape.
    pub const ALL: [Self; 10] = [
        Self::Realistic,
        Self::WorkloadsByAccount,
        Self::WorkloadsByLabel,
        Self::WorkloadsUnlabelled,
        Self::Domains,
        Self::DomainsUnread,
        Self::Networks,
        Self::DeniedNetworks,
        Self::DeniedBetween,
        Self::Globs,
    ];

    /// How many rules a policy of this shape has at a nominal size.
    #[must_use]
    pub const fn rules(self, nominal: u32) -> u32 {
        match self {
            Self::Globs => nominal / 10,
            Self::Networks => nominal / 2,
            _ => nominal,
        }
    }

    /// The policy of this shape with `rules` rules, as JSON.
    #[must_use]
    pub fn policy(self, rules: u32) -> String {
        let mut text = String::from(
            r#"{"apiVersion":"egress-warden.io/v1alpha1","kind":"ClusterEgressPolicy","metadata":{"name":"large"},"spec":{"identity":{"trustDomains":["cluster.local"]},"tiers":[{"name":"apps","rules":["#,
        );
        for i in 0..rules {
            if i > 0 {
                text.push(',');
            }
            // Writing to a String does not fail.
            let _ = self.rule(i, &mut text);
        }
        if self == Self::DeniedNetworks {
            text.push_str(r#",{"name":"last","from":[{"namespaces":["shop"]}],"to":[{"domainNames":["api.example.com"]}],"action":"Accept"}"#);
        }
        text.push_str("]}]}}");
        text
    }

    fn rule(self, i: u32, text: &mut String) -> std::fmt::Result {
        let rule = |text: &mut String, from: &str, to: &str, action: &str| {
            write!(
                text,
                r#"{{"name":"rule-{i}","from":[{from}],"to":[{to}],"action":"{action}"}}"#
            )
        };
        let shop = r#"{"namespaces":["shop"]}"#;
        let one_domain = r#"{"domainNames":["api.example.com"],"ports":[443]}"#;
        match self {
            Self::Realistic => realistic(i, text),
            Self::WorkloadsByAccount => rule(
                text,
                &format!(r#"{{"serviceAccounts":["team-{}/app-{i}"]}}"#, i / 50),
                one_domain,
                "Accept",
            ),
            Self::WorkloadsByLabel | Self::WorkloadsUnlabelled => {
                let from = format!(
                    r#"{{"namespaces":["shop"],"matchLabels":{{"app":"app-{i}","env":"prod"}}}}"#
                );
                rule(text, &from, one_domain, "Accept")
            }
            Self::Domains | Self::DomainsUnread => rule(
                text,
                shop,
                &format!(r#"{{"domainNames":["{}"],"ports":[443]}}"#, domain(i)),
                "Accept",
            ),
            Self::Networks => rule(
                text,
                shop,
                &format!(r#"{{"networks":["{}/32"],"ports":[22]}}"#, address(i)),
                "Accept",
            ),
            Self::DeniedBetween if i % 2 == 1 => rule(
                text,
                shop,
                &format!(r#"{{"domainNames":["{}"]}}"#, domain(i)),
                "Accept",
            ),
            Self::DeniedNetworks | Self::DeniedBetween => rule(
                text,
                shop,
                &format!(r#"{{"networks":["{}/32"]}}"#, address(i)),
                "Deny",
            ),
            Self::Globs => rule(
                text,
                shop,
                &format!(
                    r#"{{"domainNames":["svc-{i}-*.zone-{}.example.com"]}}"#,
                    i % 7
                ),
                "Accept",
            ),
        }
    }

    /// The questions to ask of a policy with `rules` rules, most of which it accepts.
    #[must_use]
    pub fn questions(self, rules: u32, count: u32) -> Vec<Question> {
        // A stride that shares no factor with the sizes visits rules far apart.
        (0..count)
            .map(|k| self.question(k.wrapping_mul(7_919) % rules))
            .collect()
    }

    fn question(self, i: u32) -> Question {
        let mut question = Question::new("shop", "web");
        match self {
            Self::Realistic => return realistic_question(i),
            Self::WorkloadsByAccount => {
                question = Question::new(&format!("team-{}", i / 50), &format!("app-{i}"));
                question.name = Some("api.example.com".to_owned());
            }
            Self::WorkloadsByLabel => {
                question.labels = vec![
                    ("app".to_owned(), format!("app-{i}")),
                    ("env".to_owned(), "prod".to_owned()),
                ];
                question.name = Some("api.example.com".to_owned());
            }
            Self::WorkloadsUnlabelled => {
                question.labels_missing = true;
                question.name = Some("api.example.com".to_owned());
            }
            Self::Domains => question.name = Some(domain(i)),
            Self::DomainsUnread => {
                question.protocol = Protocol::Tls;
                question.name_pending = true;
                question.address = None;
            }
            Self::Networks => {
                question.protocol = Protocol::Tcp;
                question.port = 22;
                question.address = Some(IpAddr::V4(address(i)));
            }
            Self::DeniedNetworks => {
                question.name = Some("api.example.com".to_owned());
                question.address = None;
            }
            Self::DeniedBetween => {
                question.name = Some(domain(i | 1));
                question.address = None;
            }
            Self::Globs => question.name = Some(format!("svc-{i}-blue.zone-{}.example.com", i % 7)),
        }
        question
    }
}

fn domain(i: u32) -> String {
    format!("host-{i}.partner-{}.example.com", i % 997)
}

/// Addresses from 20.0.0.0 on, far apart.
fn address(i: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x1400_0000 + i.wrapping_mul(256))
}

/// Of ten rules: four exact names, two wildcards, one glob, two networks, one with method and path.
fn realistic(i: u32, text: &mut String) -> std::fmt::Result {
    let team = i / 20;
    let from = match i % 3 {
        0 => format!(r#"{{"namespaces":["team-{team}"]}}"#),
        1 => format!(r#"{{"serviceAccounts":["team-{team}/app-{}"]}}"#, i % 20),
        _ => format!(
            r#"{{"namespaces":["team-{team}"],"matchLabels":{{"app":"app-{}"}}}}"#,
            i % 20
        ),
    };
    let to = match i % 10 {
        0..=3 => format!(r#"{{"domainNames":["{}"],"ports":[443]}}"#, domain(i)),
        4 | 5 => format!(r#"{{"domainNames":["*.tenant-{i}.example.net"],"ports":[80,443]}}"#),
        6 => format!(r#"{{"domainNames":["queue-*.region-{i}.example.org"],"ports":[443]}}"#),
        7 | 8 => format!(
            r#"{{"networks":["{}/32"],"ports":[22,5432],"protocols":["TCP"]}}"#,
            address(i)
        ),
        _ => format!(
            r#"{{"domainNames":["{}"],"ports":[80],"protocols":["HTTP"],"methods":["GET"],"paths":["/v{}/**"]}}"#,
            domain(i),
            i % 5
        ),
    };
    write!(
        text,
        r#"{{"name":"team-{team}-rule-{i}","from":[{from}],"to":[{to}],"action":"Accept","owner":"team-{team}@example.com","ticket":"NET-{i}"}}"#
    )
}

fn realistic_question(i: u32) -> Question {
    let mut question = Question::new(&format!("team-{}", i / 20), &format!("app-{}", i % 20));
    question.labels = vec![("app".to_owned(), format!("app-{}", i % 20))];
    match i % 10 {
        0..=3 => question.name = Some(domain(i)),
        4 | 5 => question.name = Some(format!("a.b.tenant-{i}.example.net")),
        6 => question.name = Some(format!("queue-7.region-{i}.example.org")),
        7 | 8 => {
            question.protocol = Protocol::Tcp;
            question.port = 22;
            question.address = Some(IpAddr::V4(address(i)));
        }
        _ => {
            question.name = Some(domain(i));
            question.protocol = Protocol::Http;
            question.port = 80;
        }
    }
    question
}

/// Facts that own what they refer to.
#[derive(Clone, Debug)]
pub struct Question {
    namespace: String,
    account: String,
    labels: Vec<(String, String)>,
    labels_missing: bool,
    protocol: Protocol,
    name: Option<String>,
    name_pending: bool,
    address: Option<IpAddr>,
    port: u16,
}

impl Question {
    fn new(namespace: &str, account: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            account: account.to_owned(),
            labels: Vec::new(),
            labels_missing: false,
            protocol: Protocol::Tls,
            name: None,
            name_pending: false,
            address: Some(IpAddr::V4(Ipv4Addr::new(140, 82, 112, 3))),
            port: 443,
        }
    }

    /// What the facts borrow, parsed and borrowed once, as an adapter does once a connection.
    #[must_use]
    pub fn prepare(&self) -> Prepared<'_> {
        Prepared {
            question: self,
            name: self
                .name
                .as_ref()
                .and_then(|name| Name::parse(name.as_bytes()).ok()),
            labels: self
                .labels
                .iter()
                .map(|(k, v)| (k.as_str(), v.as_str()))
                .collect(),
        }
    }
}

/// A question that facts can be made of without further work.
#[derive(Clone, Debug)]
pub struct Prepared<'q> {
    question: &'q Question,
    name: Option<Name>,
    labels: Vec<(&'q str, &'q str)>,
}

impl Prepared<'_> {
    /// The facts.
    #[must_use]
    pub fn facts(&self) -> Facts<'_> {
        let Self {
            question,
            name,
            labels,
        } = self;
        let claims = Claims {
            namespace: &question.namespace,
            cluster: None,
            labels,
        };
        let id = SpiffeId {
            trust_domain: "cluster.local",
            namespace: &question.namespace,
            service_account: &question.account,
        };
        Facts {
            protocol: question.protocol,
            caller: Fact::Known(Caller::Workload(id)),
            claims: if question.labels_missing {
                Fact::Missing
            } else {
                Fact::Known(claims)
            },
            destination: DestinationFacts {
                name: if question.name_pending {
                    Fact::Pending
                } else {
                    Fact::Known(name.as_ref())
                },
                address: question.address.map_or(Fact::Pending, Fact::Known),
                port: Fact::Known(question.port),
            },
            request: Request {
                method: Fact::Known("GET"),
                path: Fact::Known(RequestPath::Clean("/v1/items")),
                upgrade: Fact::Known(None),
            },
            now: Fact::Known(1_800_000_000),
            refused: None,
        }
    }
}
