//! Playing attempts against a running gateway.

#![expect(
    clippy::indexing_slicing,
    reason = "a value of the test's own template, or a test that fails"
)]

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::SocketAddrV4;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use egress_policy::case::Expected;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::certificates::Authority;
use crate::client::{self, Heard};
use crate::dns::Dns;
use crate::envoy::Envoy;
use crate::extension::Extension;
use crate::mesh::{
    DNS, GATEWAY, GATEWAY_NAME, gateway_config, write_certificates, write_outside_certificates,
};
use crate::outside::Outside;
use crate::peer::Peer;
use crate::{policy, verdicts};

use super::bootstrap::{self, CONNECT, HTTP, PLAIN_CONNECT, PLAIN_HTTP, ROUTE};
use super::situation::{Attempt, Metadata, Proof, Speech};
use super::{Loaded, Round};

/// What all rounds share: the outside world and the name server.
pub struct Stage {
    dns: Dns,
    outside: Outside,
    authority: Authority,
}

impl Stage {
    /// Sets it up, inside a sandbox in which every address is local.
    ///
    /// # Errors
    /// If a port is taken.
    pub fn new(ports: &BTreeSet<u16>) -> Result<Self> {
        let dns = Dns::start(DNS, std::collections::BTreeMap::new())?;
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
pub fn play(
    stage: &Stage,
    loaded: &Loaded,
    round: &Round,
) -> Result<Vec<(usize, Result<(), String>)>> {
    stage.dns.set(&round.names);
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
    for extension in extensions(loaded, &clusters) {
        extension.write(files.path())?;
    }
    let config: PathBuf =
        gateway_config(files.path(), &|config| bootstrap::change(config, &clusters))?;
    let mut gateway = Envoy::start(&config, GATEWAY, files.path().join("gateway.log"))?;
    gateway.ready()?;
    let results = round.attempts.iter().map(|(index, attempt)| {
        let result = one(stage, &gateway, attempt);
        (*index, result.map_err(|error| format!("{error:#}")))
    });
    Ok(results.collect())
}

/// The module's five instances, with the file's settings.
fn extensions(loaded: &Loaded, clusters: &BTreeSet<String>) -> Vec<Extension> {
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
    let tunnels = json!({"cluster": "warden-tcp", "protocol": "TCP", "addressCheck": "upstream"});
    let http: Vec<Value> = listed.iter().cloned().chain(own).chain([tunnels]).collect();
    for extension in &mut extensions {
        let Ok(mut configuration) = serde_json::from_str::<Value>(&extension.configuration) else {
            continue;
        };
        if matches!(extension.name, "warden-http" | "warden-upstream") {
            configuration["ports"] = json!(http);
        }
        for key in ["inspection", "refuseEch"] {
            if let Some(value) = loaded.settings.get(key) {
                configuration[key] = value.clone();
            }
        }
        match loaded.settings["addressCheck"].as_str() {
            None | Some("classes") => {}
            Some("unstated") => {
                if let Some(fields) = configuration.as_object_mut() {
                    fields.remove("addressCheck");
                }
            }
            Some(check) => configuration["addressCheck"] = json!(check),
        }
        extension.configuration = configuration.to_string();
    }
    extensions
}

fn one(stage: &Stage, gateway: &Envoy, attempt: &Attempt) -> Result<()> {
    let log_before = gateway.log()?.len();
    let bytes_before = stage.bytes();
    let reached = match &attempt.speech {
        Speech::Http { .. } => request(stage, attempt)?,
        Speech::Tunnel { authority, bytes } => tunnel(stage, attempt, authority, bytes)?,
    };
    let line = verdicts::last_since(gateway, log_before).context("no verdict was logged")?;
    let Expected::Final { enforced, .. } = &attempt.expect else {
        bail!("nothing final is expected");
    };
    let seen = (line.action.as_str(), line.code.as_str(), line.rule.as_str());
    let wanted = (
        enforced.verdict,
        enforced.code.as_str(),
        enforced.rule.as_str(),
    );
    if seen != wanted {
        bail!("expected {wanted:?}, the gateway logged {seen:?}");
    }
    if reached != (enforced.verdict == "Accept") {
        bail!(
            "{} was logged, but the outside was{} reached",
            line.action,
            if reached { "" } else { " not" }
        );
    }
    let arrived = stage.bytes() - bytes_before;
    if !reached && arrived > 0 {
        bail!("denied, but {arrived} bytes arrived outside");
    }
    Ok(())
}

impl Stage {
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

fn request(stage: &Stage, attempt: &Attempt) -> Result<bool> {
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
        Some((101 | 200, _)) => Ok(true),
        None | Some((403, _)) => Ok(false),
        Some((status, body)) => bail!("{status} {body}"),
    }
}

fn tunnel(stage: &Stage, attempt: &Attempt, authority: &[u8], bytes: &[u8]) -> Result<bool> {
    let mut stream = stage.connect(&attempt.peer, CONNECT, PLAIN_CONNECT)?;
    let claim = claim(attempt.metadata.as_ref());
    let mut headers = vec![("Host", authority)];
    if let Some(claim) = &claim {
        headers.push(("x-envoy-peer-metadata", claim.as_bytes()));
    }
    let target = std::str::from_utf8(authority)?;
    match client::request(&mut stream, "CONNECT", target, &headers)? {
        None => return Ok(false),
        Some(answer) if answer.status == 403 => return Ok(false),
        Some(answer) if answer.status == 200 => {}
        Some(answer) => bail!("{} {}", answer.status, answer.body),
    }
    // A tunnel that has been closed shows itself when nothing comes back.
    let _ = stream.write_all(bytes).and_then(|()| stream.flush());
    Ok(matches!(client::hear(&mut stream)?, Heard::Bytes(echo) if bytes.starts_with(&echo)))
}
