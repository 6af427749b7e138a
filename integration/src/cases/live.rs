//! Playing attempts against a running gateway.

#![expect(
    clippy::indexing_slicing,
    reason = "a value of the test's own template, or a test that fails"
)]

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddrV4};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use egress_policy::address::Environment;
use egress_policy::case::ExpectedAnswer;
use egress_policy::settings::AddressCheck;
use egress_policy::verdict::ReasonCode;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::certificates::Authority;
use crate::classes::{self, Class};
use crate::client::{self, Heard};
use crate::dns::{Answer, Dns, Name};
use crate::envoy::{Envoy, eventually};
use crate::extension::Extension;
use crate::mesh::{
    ADMIN, DNS, GATEWAY, GATEWAY_NAME, gateway_config, write_certificates,
    write_outside_certificates,
};
use crate::outside::Outside;
use crate::peer::Peer;
use crate::verdicts::Line;
use crate::{policy, verdicts};

use super::attempt::{Attempt, Metadata, Proof, Speech};
use super::bootstrap::{self, CONNECT, HTTP, PLAIN_CONNECT, PLAIN_HTTP, ROUTE};
use super::{Answers, Batch, LoadedCases};

/// What all rounds share: the outside world and the name server.
pub struct LiveGateway {
    dns: Dns,
    outside: Outside,
    authority: Authority,
}

impl LiveGateway {
    /// Sets it up, inside a sandbox in which every address is local.
    ///
    /// # Errors
    /// If a port is taken.
    pub fn new(ports: &BTreeSet<u16>) -> Result<Self> {
        let dns = Dns::start::<IpAddr>(DNS, [])?;
        let outside = Outside::default();
        for port in ports {
            outside.serve_everywhere(*port)?;
        }
        let authority = Authority::new("mesh")?;
        Ok(Self {
            dns,
            outside,
            authority,
        })
    }
}

/// Plays a round; for each attempt its place in the file and what was wrong, if anything.
///
/// # Errors
/// If the gateway does not start.
pub fn run_live(
    stage: &LiveGateway,
    loaded: &LoadedCases,
    round: &Batch,
) -> Result<Vec<(usize, Result<(), String>)>> {
    stage.dns.set(
        round
            .names
            .iter()
            .map(|(name, answers)| (name.clone(), says(answers))),
    );
    let clusters: BTreeSet<String> = round
        .attempts
        .iter()
        .filter_map(|(_, attempt)| match &attempt.speech {
            Speech::Http { cluster, .. } => Some(cluster.clone()),
            Speech::Tunnel { .. } => None,
        })
        .collect();
    let files = TempDir::new()?;
    write_certificates(files.path(), &stage.authority, &[])?;
    write_outside_certificates(files.path(), &stage.authority, &stage.authority)?;
    let classes = match loaded.file.gateway.settings.address_check {
        AddressCheck::None => vec![Class::unchecked()],
        AddressCheck::Classes | AddressCheck::Unstated => {
            let environment = Environment {
                nat64: loaded.file.gateway.settings.nat64,
                ..Environment::default()
            };
            classes::of_in(&loaded.policies, &environment)
        }
    };
    for extension in extensions(loaded, &clusters, &classes) {
        extension.write(files.path())?;
    }
    let config: PathBuf = gateway_config(files.path(), &classes, &|config| {
        bootstrap::change(config, &clusters, &classes);
    })?;
    let mut gateway = Envoy::start(&config, ADMIN, files.path().join("gateway.log"))?;
    gateway.ready()?;
    let results = round.attempts.iter().map(|(index, attempt)| {
        let result = one(stage, &gateway, attempt);
        (*index, result.map_err(|error| format!("{error:#}")))
    });
    Ok(results.collect())
}

/// The module's five instances, with the file's settings.
fn extensions(
    loaded: &LoadedCases,
    clusters: &BTreeSet<String>,
    classes: &[Class],
) -> Vec<Extension> {
    let mut extensions = policy::everywhere(&loaded.policies);
    let listed = loaded.settings["ports"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let is_listed = |name: &str| listed.iter().any(|entry| entry["cluster"] == name);
    let own = clusters
        .iter()
        .filter(|name| !is_listed(name))
        .filter_map(|name| {
            let port: u16 = name.strip_prefix("warden-http-")?.parse().ok()?;
            Some(json!({"cluster": name, "protocol": "HTTP", "port": port}))
        });
    let http: Vec<Value> = listed.iter().cloned().chain(own).collect();
    for extension in &mut extensions {
        let Ok(mut configuration) = serde_json::from_str::<Value>(&extension.configuration) else {
            continue;
        };
        if extension.name == "warden-http" {
            configuration["ports"] = json!(http);
        }
        for key in ["inspection", "refuseEch", "nat64Prefixes"] {
            if let Some(value) = loaded.settings.get(key) {
                configuration[key] = value.clone();
            }
        }
        // Their names depend on the file's NAT64 prefixes, as the gateway's do.
        configuration["addressClasses"] = classes::listed(classes);
        let stated = loaded.file.gateway.settings.address_check;
        if let (Some(fields), false) = (
            configuration.as_object_mut(),
            stated == AddressCheck::Classes,
        ) {
            fields.remove("addressClasses");
            fields.remove("addressCheck");
            if stated == AddressCheck::None {
                fields.insert("addressCheck".to_owned(), json!("none"));
            }
        }
        extension.configuration = configuration.to_string();
    }
    extensions
}

/// What the name server says. Answers that change do so at once, as far as Envoy lets them.
fn says((answers, chain): &Answers) -> Name {
    let aliases: Vec<&str> = chain.iter().map(String::as_str).collect();
    let changing = answers.len() > 1;
    let answer = |addresses: &Vec<IpAddr>| {
        let answer = Answer::of(addresses).behind(&aliases);
        if changing { answer.living(0) } else { answer }
    };
    let answers = answers.iter().map(answer).collect();
    if changing {
        Name::Alternating(answers)
    } else {
        Name::InTurn(answers)
    }
}

/// What came of an attempt, as its client saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Came {
    /// The server's answer.
    Reached,
    /// A denial.
    Denied,
    /// A denial because none of the name's addresses was left: Envoy's, after the module's verdict.
    NoAddressLeft,
}

/// Tries it, and again with every further answer if they change: what comes of it is one for all.
fn one(stage: &LiveGateway, gateway: &Envoy, attempt: &Attempt) -> Result<()> {
    once(stage, gateway, attempt)?;
    let Some(name) = attempt.name.as_ref().filter(|_| attempt.answers.len() > 1) else {
        return Ok(());
    };
    let mut tried = Ok(());
    eventually("every answer", || {
        tried = once(stage, gateway, attempt);
        tried.is_err() || stage.dns.times(name) > attempt.answers.len()
    })?;
    tried
}

fn once(stage: &LiveGateway, gateway: &Envoy, attempt: &Attempt) -> Result<()> {
    let log_before = gateway.log()?.len();
    let before = stage.outside.seen().len();
    let bytes_before = stage.bytes();
    let came = match &attempt.speech {
        Speech::Http { .. } => request(stage, attempt)?,
        Speech::Tunnel { authority, bytes } => tunnel(stage, attempt, authority, bytes)?,
    };
    let (line, no_address_left) = verdicts::told_since(gateway, log_before);
    let (verdict, basis) = match &attempt.expect {
        ExpectedAnswer::Undecided => bail!("nothing final is expected"),
        ExpectedAnswer::Verdict(verdict) => (*verdict, None),
        ExpectedAnswer::Final { enforced, .. } => {
            let by = &enforced.decided_by;
            let parts = [&by.policy, &by.tier, &by.rule].into_iter().flatten();
            let rule = parts.map(String::as_str).collect::<Vec<_>>().join("/");
            (enforced.verdict, Some((by.reason.as_str(), rule)))
        }
    };
    let came = match (came, &line) {
        (Came::NoAddressLeft, Some(line)) if line.action == "Deny" => Came::Denied,
        (Came::NoAddressLeft, None) => bail!("answered for the module, which was not asked"),
        // TLS is closed without a word, and before its ClientHello is looked at.
        (Came::Denied, None) if no_address_left => Came::NoAddressLeft,
        (came, _) => came,
    };
    let seen = match (came, &line) {
        (Came::NoAddressLeft, _) if attempt.name.is_none() => bail!("no address left of no name"),
        // The module's line, if there is one, says which rule accepted the name.
        (Came::NoAddressLeft, line) => {
            let rule = line.as_ref().map(Line::rule_path);
            let wanted = basis.as_ref().map(|(_, rule)| rule.clone());
            let rule = rule.or(wanted).unwrap_or_default();
            ("Deny", ReasonCode::PrivateAddress.as_str(), rule)
        }
        (Came::Reached | Came::Denied, line) => {
            let line = line.as_ref().context("no verdict was logged")?;
            (line.action.as_str(), line.reason.as_str(), line.rule_path())
        }
    };
    let (action, code, rule) = seen;
    let rests = |(reason, path): &(&str, String)| *reason == code && *path == rule;
    if action != verdict || !basis.as_ref().is_none_or(rests) {
        bail!(
            "expected {verdict} {basis:?}, the gateway logged {action} {code} {rule} and {came:?}"
        );
    }
    let reached = came == Came::Reached;
    if reached != (verdict == "Accept") {
        let log = gateway.log()?;
        let log = log.get(log_before..).unwrap_or_default();
        bail!("{action} {code} {rule} was logged, and the client saw {came:?}:\n{log}");
    }
    let arrived = stage.bytes() - bytes_before;
    if !reached && arrived > 0 {
        bail!("denied, but {arrived} bytes arrived outside");
    }
    // What a name may not lead to sees not even a connection.
    for seen in stage.outside.seen().get(before..).unwrap_or_default() {
        let at = seen.address.map(|(address, _)| address);
        let mut may = attempt.connects.iter().map(IpAddr::to_canonical);
        if attempt.name.is_some() && !may.any(|may| Some(may) == at) {
            bail!("a connection arrived at {at:?}");
        }
    }
    Ok(())
}

impl LiveGateway {
    fn bytes(&self) -> usize {
        self.outside
            .seen()
            .iter()
            .map(|seen| seen.bytes.len())
            .sum()
    }

    /// A connection to the gateway that proves what the case says.
    fn connect(&self, proof: &Proof, tls: u16, plain: u16) -> Result<Box<dyn Stream>> {
        let at = |port| SocketAddrV4::new(GATEWAY, port);
        let leaf = match proof {
            Proof::Plaintext => return Ok(Box::new(client::connect(at(plain))?)),
            Proof::NoCertificate => None,
            Proof::UriSans(sans) => Some(self.authority.with_uris(sans)?),
        };
        let config = client::tls_config(&self.authority.certificate(), leaf.as_ref())?;
        let session = client::tls(client::connect(at(tls))?, config, GATEWAY_NAME)?;
        Ok(Box::new(session.context("the handshake was refused")?))
    }
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

fn claim(metadata: Option<&Metadata>) -> Option<String> {
    let metadata = metadata?;
    let labels: Vec<_> = metadata
        .labels
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect();
    let peer = Peer {
        workload: "case",
        namespace: &metadata.namespace,
        labels: &labels,
        cluster: metadata.cluster.as_deref(),
    };
    Some(peer.header())
}

fn request(stage: &LiveGateway, attempt: &Attempt) -> Result<Came> {
    let Speech::Http {
        cluster,
        authority,
        method,
        path,
        upgrade,
    } = &attempt.speech
    else {
        bail!("no request");
    };
    let mut stream = stage.connect(&attempt.peer, HTTP, PLAIN_HTTP)?;
    let claim = claim(attempt.metadata.as_ref());
    let mut headers = vec![("Host", authority.as_slice()), (ROUTE, cluster.as_bytes())];
    if let Some(claim) = &claim {
        headers.push(("x-envoy-peer-metadata", claim.as_bytes()));
    }
    if let Some(token) = upgrade {
        headers.push(("Connection", b"Upgrade"));
        headers.push(("Upgrade", token.as_bytes()));
    }
    let answer = client::request(&mut stream, method, path, &headers)?;
    match answer.map(|answer| (answer.status, answer.body)) {
        // 101: an upgrade that the server took.
        Some((101 | 200, _)) => Ok(Came::Reached),
        None => Ok(Came::Denied),
        Some((403, body)) => Ok(denied(&body)),
        Some((status, body)) => bail!("{status} {body}"),
    }
}

/// What a denial's body says.
fn denied(body: &str) -> Came {
    let code = format!("\ncode: {}\n", ReasonCode::PrivateAddress);
    if body.contains(&code) {
        Came::NoAddressLeft
    } else {
        Came::Denied
    }
}

fn tunnel(stage: &LiveGateway, attempt: &Attempt, authority: &[u8], bytes: &[u8]) -> Result<Came> {
    let mut stream = stage.connect(&attempt.peer, CONNECT, PLAIN_CONNECT)?;
    let claim = claim(attempt.metadata.as_ref());
    let mut headers = vec![("Host", authority)];
    if let Some(claim) = &claim {
        headers.push(("x-envoy-peer-metadata", claim.as_bytes()));
    }
    let target = std::str::from_utf8(authority)?;
    match client::request(&mut stream, "CONNECT", target, &headers)? {
        None => return Ok(Came::Denied),
        Some(answer) if answer.status == 403 => return Ok(denied(&answer.body)),
        Some(answer) if answer.status == 200 => {}
        Some(answer) => bail!("{} {}", answer.status, answer.body),
    }
    // A tunnel that has been closed shows itself when nothing comes back.
    let _ = stream.write_all(bytes).and_then(|()| stream.flush());
    Ok(match client::hear(&mut stream)? {
        Heard::Bytes(echo) if bytes.starts_with(&echo) => Came::Reached,
        Heard::Bytes(_) | Heard::Closed => Came::Denied,
    })
}
