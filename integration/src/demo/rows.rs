//! The rows: who tries what, and what the policy says.

use std::net::Ipv4Addr;

use crate::mesh::{APP1, APP2, APP3, Workload};

use super::{FORGER, UNLABELLED};

/// Who connects.
#[derive(Clone, Copy, Debug)]
pub enum Who {
    /// A workload through its sidecar.
    Workload(&'static Workload),
    /// Somebody at the gateway without a sidecar.
    Stranger(Certificate),
}

/// What a stranger shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certificate {
    /// None.
    None,
    /// App1's identity, signed by an authority that the mesh does not know.
    UnknownAuthority,
    /// App1's namespace and account in another trust domain, signed by the mesh.
    OtherTrustDomain,
    /// No SPIFFE identity, signed by the mesh.
    NoIdentity,
}

/// What is tried.
#[derive(Clone, Copy, Debug)]
pub enum What {
    /// A GET request with this Host, and header lines of the application's own.
    Http(&'static str, &'static [(&'static str, &'static str)]),
    /// TLS to this address with this name, then a GET request. No name: no SNI.
    Tls(Ipv4Addr, Option<&'static str>),
    /// A connection, a line each way.
    Tcp(Ipv4Addr, u16),
    /// A GET request for a path of this host.
    Path(&'static str, &'static str),
    /// TLS for the first name to port 9443, where it ends at the gateway, and a GET request with
    /// the second in Host.
    Ended(&'static str, &'static str),
    /// Bytes that are no TLS, to port 443.
    NotTls(Ipv4Addr),
    /// TLS like that, while as many tunnels as a workload may have are open and say nothing.
    OneTooMany(Ipv4Addr, &'static str),
}

/// What the policy says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Reached, by this rule.
    Reached(&'static str),
    /// Reached by way of the inspection proxy, which was told this rule.
    Inspected(&'static str),
    /// To be inspected by this rule, and the inspection proxy is down: not reached. From the first
    /// such row on it is.
    ProxyDown(&'static str),
    /// Denied with this code.
    Denied(&'static str),
    /// Denied by this rule.
    DeniedBy(&'static str),
    /// Refused in the handshake, before the module is asked.
    Refused,
    /// Accepted by this rule; the server could not prove its name, so it was sent nothing.
    Unproven(&'static str),
    /// Accepted by this rule; at the addresses that the gateway may connect to is nobody.
    Nobody(&'static str),
}

/// One row.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Who.
    pub who: Who,
    /// What.
    pub what: What,
    /// The expectation.
    pub expect: Expect,
}

const GITHUB: &str = "seed/apps/app1-github";
const PARTNER_SSH: &str = "seed/apps/app1-partner-ssh";
const WEATHER: &str = "seed/apps/app2-weather";
const APP3_GITHUB: &str = "seed/inspected/app3-github";
const APP3_SSH: &str = "seed/inspected/app3-partner-ssh";
const APP3_WEATHER: &str = "seed/inspected/app3-weather";
const MAIL: &str = "seed/apps/app2-mail";
const NO_METADATA_SERVICE: &str = "seed/platform/no-metadata-service";

const PAYMENTS: &str = "seed/encrypted/app1-payments";
const NO_REFUNDS: &str = "seed/encrypted/no-refunds";
const GITHUB_ENDED: &str = "seed/encrypted/app1-github-ended";

const PAYMENTS_API: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 30);
const GITHUB_API: Ipv4Addr = Ipv4Addr::new(140, 82, 112, 5);
const WEATHER_API: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 20);
const PARTNER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);
const OTHER_PARTNER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 8);
const MAIL_SERVER: Ipv4Addr = Ipv4Addr::new(8, 8, 8, 8);
const EVIL: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 66);
const PRIVATE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);

const fn http(who: &'static Workload, host: &'static str, expect: Expect) -> Row {
    with_headers(who, host, &[], expect)
}

const fn with_headers(
    who: &'static Workload,
    host: &'static str,
    headers: &'static [(&'static str, &'static str)],
    expect: Expect,
) -> Row {
    let (who, what) = (Who::Workload(who), What::Http(host, headers));
    Row { who, what, expect }
}

const fn tls(who: &'static Workload, at: Ipv4Addr, name: &'static str, expect: Expect) -> Row {
    let (who, what) = (Who::Workload(who), What::Tls(at, Some(name)));
    Row { who, what, expect }
}

const fn tcp(who: &'static Workload, at: Ipv4Addr, port: u16, expect: Expect) -> Row {
    let (who, what) = (Who::Workload(who), What::Tcp(at, port));
    Row { who, what, expect }
}

const fn stranger(certificate: Certificate, expect: Expect) -> Row {
    let (who, what) = (
        Who::Stranger(certificate),
        What::Http("api.github.com", &[]),
    );
    Row { who, what, expect }
}

/// Every row.
#[must_use]
pub fn rows() -> Vec<Row> {
    [
        app1_names(),
        app1_addresses(),
        app2(),
        encrypted(),
        pretenders(),
        app3(),
    ]
    .concat()
}

fn app1_names() -> Vec<Row> {
    use Expect::{Denied, DeniedBy, Nobody, Reached};
    vec![
        http(&APP1, "api.github.com", Reached(GITHUB)),
        http(&APP1, "codeload.github.com", Reached(GITHUB)),
        http(&APP1, "API.GitHub.com.", Reached(GITHUB)),
        http(&APP1, "api.github.com:80", Reached(GITHUB)),
        tls(&APP1, GITHUB_API, "api.github.com", Reached(GITHUB)),
        tls(&APP1, GITHUB_API, "codeload.github.com", Reached(GITHUB)),
        // The name decides, and the connection goes where the name leads.
        tls(&APP1, EVIL, "api.github.com", Reached(GITHUB)),
        http(&APP1, "github.com", Denied("default")),
        http(&APP1, "evilgithub.com", Denied("default")),
        http(&APP1, "api.github.com.evil.example", Denied("default")),
        http(&APP1, "api.weather.gov", Denied("default")),
        http(&APP1, "alerts.weather.gov", Denied("default")),
        http(&APP1, "partner.example", Denied("default")),
        http(&APP1, "mail.example", Denied("default")),
        http(
            &APP1,
            "api.github.com,evilgithub.com",
            Denied("name_malformed"),
        ),
        http(
            &APP1,
            "evilgithub.com@api.github.com",
            Denied("name_malformed"),
        ),
        http(
            &APP1,
            "evilgithub.com%2F.github.com",
            Denied("name_malformed"),
        ),
        http(&APP1, "0x8c527005", Denied("address_form")),
        http(&APP1, "140.82.28677", Denied("address_form")),
        http(&APP1, "api.github.com:22", Denied("route_mismatch")),
        http(&APP1, "203.0.113.7", Denied("default")),
        http(&APP1, "169.254.169.254", DeniedBy(NO_METADATA_SERVICE)),
        // An allowed name that leads into the private network.
        http(&APP1, "rebind.github.com", Denied("private_address")),
        tls(
            &APP1,
            GITHUB_API,
            "rebind.github.com",
            Denied("private_address"),
        ),
        // Two addresses: where the private one is left out nobody is, or the public one.
        http(&APP1, "half.github.com", Nobody(GITHUB)),
        http(&APP1, "both.github.com", Reached(GITHUB)),
        tls(&APP1, GITHUB_API, "github.com", Denied("default")),
        tls(&APP1, GITHUB_API, "evilgithub.com", Denied("default")),
        tls(
            &APP1,
            GITHUB_API,
            "api.github.com.evil.example",
            Denied("default"),
        ),
        tls(&APP1, WEATHER_API, "api.weather.gov", Denied("default")),
        tls(&APP1, WEATHER_API, "alerts.weather.gov", Denied("default")),
        tls(&APP1, PARTNER, "partner.example", Denied("default")),
        Row {
            who: Who::Workload(&APP1),
            what: What::Tls(GITHUB_API, None),
            expect: Denied("sni_missing"),
        },
        Row {
            who: Who::Workload(&APP1),
            what: What::NotTls(GITHUB_API),
            expect: Denied("hello_malformed"),
        },
    ]
}

fn app1_addresses() -> Vec<Row> {
    use Expect::{Denied, Reached};
    vec![
        tcp(&APP1, PARTNER, 22, Reached(PARTNER_SSH)),
        tcp(&APP1, PARTNER, 23, Denied("default")),
        tcp(&APP1, PARTNER, 25, Denied("default")),
        tcp(&APP1, OTHER_PARTNER, 22, Denied("default")),
        tcp(&APP1, MAIL_SERVER, 25, Denied("default")),
        tcp(&APP1, GITHUB_API, 22, Denied("default")),
        tcp(&APP1, PRIVATE, 22, Denied("default")),
    ]
}

fn app2() -> Vec<Row> {
    use Expect::{Denied, Reached};
    vec![
        http(&APP2, "api.weather.gov", Reached(WEATHER)),
        tls(&APP2, WEATHER_API, "api.weather.gov", Reached(WEATHER)),
        tcp(&APP2, MAIL_SERVER, 25, Reached(MAIL)),
        http(&APP2, "alerts.weather.gov", Denied("default")),
        http(&APP2, "api.github.com", Denied("default")),
        http(&APP2, "github.com", Denied("default")),
        http(&APP2, "evilgithub.com", Denied("default")),
        http(&APP2, "partner.example", Denied("default")),
        tls(&APP2, WEATHER_API, "alerts.weather.gov", Denied("default")),
        tls(&APP2, WEATHER_API, "api.github.com", Denied("default")),
        tls(&APP2, WEATHER_API, "evilgithub.com", Denied("default")),
        tcp(&APP2, MAIL_SERVER, 22, Denied("default")),
        tcp(&APP2, MAIL_SERVER, 23, Denied("default")),
        tcp(&APP2, OTHER_PARTNER, 25, Denied("default")),
        tcp(&APP2, PARTNER, 22, Denied("default")),
    ]
}

/// Where the gateway speaks TLS itself, and where it ends the application's.
fn encrypted() -> Vec<Row> {
    use Expect::{Denied, DeniedBy, Reached, Unproven};
    let app1 = |what, expect| Row {
        who: Who::Workload(&APP1),
        what,
        expect,
    };
    let ended = |name, host, expect| app1(What::Ended(name, host), expect);
    let (api, paid) = ("api.github.com", "api.payments.example");
    vec![
        http(&APP1, paid, Reached(PAYMENTS)),
        http(&APP1, "API.Payments.Example", Reached(PAYMENTS)),
        app1(What::Path(paid, "/v1/ledger"), Reached(PAYMENTS)),
        app1(What::Path(paid, "/v1/refunds/7"), DeniedBy(NO_REFUNDS)),
        app1(What::Path(paid, "/admin"), Denied("default")),
        http(&APP1, "misnamed.payments.example", Unproven(PAYMENTS)),
        http(&APP1, "unknown.payments.example", Unproven(PAYMENTS)),
        http(&APP1, "inside.payments.example", Denied("private_address")),
        http(&APP1, "payments.example", Denied("default")),
        // TLS of its own would come without the client certificate.
        tls(&APP1, PAYMENTS_API, paid, Denied("default")),
        http(&APP2, paid, Denied("default")),
        ended(api, api, Reached(GITHUB_ENDED)),
        ended(api, "codeload.github.com", Denied("host_mismatch")),
        ended(api, "evilgithub.com", Denied("host_mismatch")),
    ]
}

fn app3() -> Vec<Row> {
    use Expect::{Denied, Inspected, ProxyDown, Reached};
    vec![
        http(&APP3, "api.github.com", Inspected(APP3_GITHUB)),
        http(&APP3, "codeload.github.com", Inspected(APP3_GITHUB)),
        tls(&APP3, GITHUB_API, "api.github.com", Inspected(APP3_GITHUB)),
        tcp(&APP3, PARTNER, 22, Inspected(APP3_SSH)),
        http(&APP3, "api.weather.gov", Reached(APP3_WEATHER)),
        tls(&APP3, WEATHER_API, "api.weather.gov", Reached(APP3_WEATHER)),
        http(&APP3, "github.com", Denied("default")),
        tls(&APP3, GITHUB_API, "github.com", Denied("default")),
        tcp(&APP3, PARTNER, 23, Denied("default")),
        // The inspection proxy is not asked about a name that leads into the private network.
        http(&APP3, "rebind.github.com", Denied("private_address")),
        tls(
            &APP3,
            GITHUB_API,
            "rebind.github.com",
            Denied("private_address"),
        ),
        // A client that asks for the inspection proxy by itself gets its own way out, or none.
        with_headers(
            &APP1,
            "api.github.com",
            &[("x-egress-warden-rule", APP3_GITHUB)],
            Reached(GITHUB),
        ),
        http(&APP3, "api.github.com", ProxyDown(APP3_GITHUB)),
        tls(&APP3, GITHUB_API, "api.github.com", ProxyDown(APP3_GITHUB)),
        tcp(&APP3, PARTNER, 22, ProxyDown(APP3_SSH)),
        http(&APP3, "api.weather.gov", Reached(APP3_WEATHER)),
    ]
}

fn pretenders() -> Vec<Row> {
    use Expect::{Denied, Refused};
    vec![
        // The application writes app1's metadata itself; its sidecar replaces it.
        with_headers(
            &APP2,
            "api.github.com",
            &[("x-envoy-peer-metadata", "APP1")],
            Denied("default"),
        ),
        // The sidecar itself lies: the certificate says app2-ns, so the claim counts for nothing.
        http(&FORGER, "api.github.com", Denied("default")),
        tls(&FORGER, GITHUB_API, "api.github.com", Denied("default")),
        tcp(&FORGER, PARTNER, 22, Denied("default")),
        // Not even for what the certificate's namespace may do with its own label.
        http(&FORGER, "api.weather.gov", Denied("facts_missing")),
        tcp(&FORGER, MAIL_SERVER, 25, Denied("facts_missing")),
        http(&UNLABELLED, "api.github.com", Denied("default")),
        tls(&UNLABELLED, GITHUB_API, "api.github.com", Denied("default")),
        tcp(&UNLABELLED, PARTNER, 22, Denied("default")),
        stranger(Certificate::None, Refused),
        stranger(Certificate::UnknownAuthority, Refused),
        stranger(Certificate::OtherTrustDomain, Denied("trust_domain")),
        stranger(Certificate::NoIdentity, Denied("identity_malformed")),
        Row {
            who: Who::Workload(&APP1),
            what: What::OneTooMany(GITHUB_API, "api.github.com"),
            expect: Denied("limit_undecided"),
        },
    ]
}
