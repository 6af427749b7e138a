//! The verbs of the chained plugin.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::attachment::{Attachment, AttachmentId, PodIdentity};
use crate::config::NodeConfig;
use crate::guard::{Guard, GuardError};
use crate::link::{self, LinkError};
use crate::nft::Nft;
use crate::protocol::{
    CniError, CniErrorCode, Environment, LATEST, NetworkConfig, OnUnguardable, PrevResult,
    VERSIONS, Verb, VersionResult, pass_through,
};
use crate::store::{Locked, Record, Store};

/// Longer than any configuration: what comes after it is not read.
const LONGEST_INPUT: u64 = 8 << 20;

/// How long a pod of the gateway's namespace waits for what the agent knows of it.
const AGENT_PATIENCE: Duration = Duration::from_secs(2);

/// Runs one call of the protocol: environment through `get`, configuration from `input`,
/// result or error object to `output`. Returns the process's exit code.
pub fn run(
    get: impl Fn(&str) -> Option<String>,
    input: &mut dyn Read,
    output: &mut dyn Write,
    warnings: &mut dyn Write,
) -> u8 {
    let mut text = Vec::new();
    let read = input.take(LONGEST_INPUT).read_to_end(&mut text);
    let answer = match read {
        Ok(_) => call(get, &text, warnings),
        Err(error) => Err(CniError {
            details: error.to_string(),
            ..CniError::new(CniErrorCode::Io, "standard input cannot be read")
        }),
    };
    let (text, code) = match answer {
        Ok(result) => (result, 0),
        Err(failure) => (failure.json(&version_of(&text)), 1),
    };
    // Nothing is left to report a failing standard output to, except the exit code.
    if text.is_empty() || writeln!(output, "{text}").is_ok() {
        code
    } else {
        1
    }
}

/// The caller's version, as far as it can be told, for error objects.
fn version_of(input: &[u8]) -> String {
    serde_json::from_slice::<serde_json::Value>(input)
        .ok()
        .and_then(|value| value.get("cniVersion")?.as_str().map(str::to_owned))
        .unwrap_or_else(|| LATEST.to_owned())
}

fn call(
    get: impl Fn(&str) -> Option<String>,
    input: &[u8],
    warnings: &mut dyn Write,
) -> Result<String, CniError> {
    let environment = Environment::read(get)?;
    if environment.verb == Verb::Version && input.iter().all(u8::is_ascii_whitespace) {
        return versions(LATEST);
    }
    let network = NetworkConfig::parse(input, environment.verb)?;
    match environment.verb {
        Verb::Version => versions(&network.cni_version),
        Verb::Add => add(&environment, &network, warnings),
        Verb::Del => del(&environment, &network),
        Verb::Check => check(&environment, &network),
        Verb::Gc => gc(&network),
        Verb::Status => status(&network),
    }
}

/// Says the caller's version whatever it is, as the specification asks.
fn versions(asked: &str) -> Result<String, CniError> {
    serde_json::to_string(&VersionResult {
        cni_version: if asked.is_empty() { LATEST } else { asked },
        supported_versions: VERSIONS,
    })
    .map_err(|error| CniError::new(CniErrorCode::Io, error.to_string()))
}

fn guard(network: &NetworkConfig) -> Result<Guard, CniError> {
    let store = Store::open(&network.state_dir).map_err(failed)?;
    Ok(Guard::new(store, Nft::new(network.nft.clone())))
}

/// The node guard, with the lock that whoever changes anything holds.
fn locked(network: &NetworkConfig) -> Result<(Guard, Locked), CniError> {
    let guard = guard(network)?;
    let locked = guard.store().lock().map_err(failed)?;
    Ok((guard, locked))
}

fn node_config(network: &NetworkConfig) -> Result<NodeConfig, CniError> {
    NodeConfig::load(&network.config_file)
        .map_err(|error| CniError::new(CniErrorCode::InvalidConfig, error.to_string()))
}

fn failed(error: impl Into<GuardError>) -> CniError {
    let error = error.into();
    let (code, message) = match error {
        GuardError::Store(_) => (
            CniErrorCode::Io,
            "the records of pod interfaces cannot be used",
        ),
        GuardError::Nft(_) => (
            CniErrorCode::TryAgain,
            "the kernel's rules cannot be changed",
        ),
    };
    CniError {
        details: error.to_string(),
        ..CniError::new(code, message)
    }
}

/// Guards the interface and returns the previous result.
fn add(
    environment: &Environment,
    network: &NetworkConfig,
    warnings: &mut dyn Write,
) -> Result<String, CniError> {
    let Some(raw) = &network.prev_result else {
        return Err(CniError::new(
            CniErrorCode::InvalidConfig,
            "prevResult is missing: this plugin runs after the main plugin of a chain",
        ));
    };
    let previous = prev_result(raw.get())?;
    let result = pass_through(raw, &network.cni_version)?;
    let config = node_config(network)?;
    match attachment(environment, network, &previous) {
        Ok(attachment) => {
            let record = Record {
                identity: identity(environment, network, &config)?,
                ..Record::new(attachment, environment.netns.clone())
            };
            let (guard, locked) = locked(network)?;
            guard
                .admit_into_whole_tables(&locked, &config, record)
                .map_err(failed)?;
        }
        Err(error @ LinkError::Unguardable(_)) if network.on_unguardable == OnUnguardable::Warn => {
            // A lost warning must not fail what was asked only to warn.
            let _ = writeln!(
                warnings,
                "egress-warden-cni: NOT GUARDED: {}/{}: {error}",
                environment.namespace, environment.pod
            );
        }
        Err(error) => return Err(unguardable(&error)),
    }
    Ok(result)
}

/// What the agent knows of the pod. In the gateway's namespace it is waited for: a gateway pod
/// that is taken for a workload is refused what it fetches first. What is not known in time opens
/// nothing; the agent makes up for it.
fn identity(
    environment: &Environment,
    network: &NetworkConfig,
    config: &NodeConfig,
) -> Result<Option<PodIdentity>, CniError> {
    let Environment { namespace, uid, .. } = environment;
    if uid.is_empty() {
        return Ok(None);
    }
    let store = Store::open(&network.state_dir).map_err(failed)?;
    let gateway = config.gateway.as_ref();
    let waits = gateway.is_some_and(|gateway| gateway.namespace == *namespace);
    let deadline = Instant::now() + AGENT_PATIENCE;
    loop {
        // What does not decode is not known.
        let known = store.expected().unwrap_or_default().remove(uid);
        if known.is_some() || !waits || Instant::now() > deadline {
            return Ok(known);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn prev_result(raw: &str) -> Result<PrevResult, CniError> {
    serde_json::from_str(raw).map_err(|error| CniError {
        details: error.to_string(),
        ..CniError::new(CniErrorCode::Decode, "prevResult does not decode")
    })
}

fn unguardable(error: &LinkError) -> CniError {
    match error {
        LinkError::Io { .. } => CniError {
            details: error.to_string(),
            ..CniError::new(CniErrorCode::Io, "the pod's interface cannot be examined")
        },
        LinkError::Unguardable(_) => CniError {
            details: error.to_string(),
            ..CniError::new(
                CniErrorCode::Unguardable,
                "the pod's interface cannot be guarded",
            )
        },
    }
}

fn attachment(
    environment: &Environment,
    network: &NetworkConfig,
    previous: &PrevResult,
) -> Result<Attachment, LinkError> {
    let netns = environment.netns.as_deref().unwrap_or(Path::new(""));
    let mine = |index: Option<usize>| {
        let interface = index.and_then(|index| previous.interfaces.get(index));
        // An address without an interface belongs to the interface being made.
        interface.is_none_or(|interface| {
            interface.name == environment.ifname && !interface.sandbox.is_empty()
        })
    };
    let addresses: BTreeSet<_> = previous
        .ips
        .iter()
        .filter(|ip| mine(ip.interface))
        .map(|ip| ip.address.addr())
        .collect();
    Ok(Attachment {
        id: AttachmentId {
            container_id: environment.container_id.clone(),
            ifname: environment.ifname.clone(),
        },
        network: network.name.clone(),
        namespace: environment.namespace.clone(),
        pod: environment.pod.clone(),
        host_link: link::host_end(netns, &environment.ifname)?,
        addresses: addresses.into_iter().collect(),
    })
}

/// Needs neither the node configuration nor the pod's network namespace: both may be gone.
fn del(environment: &Environment, network: &NetworkConfig) -> Result<String, CniError> {
    let id = AttachmentId {
        container_id: environment.container_id.clone(),
        ifname: environment.ifname.clone(),
    };
    let (guard, locked) = locked(network)?;
    guard.withdraw(&locked, &id).map_err(failed)?;
    Ok(String::new())
}

fn check(environment: &Environment, network: &NetworkConfig) -> Result<String, CniError> {
    let Some(raw) = &network.prev_result else {
        return Err(CniError::new(
            CniErrorCode::InvalidConfig,
            "prevResult is missing",
        ));
    };
    let config = node_config(network)?;
    let found = attachment(environment, network, &prev_result(raw.get())?)
        .map_err(|error| unguardable(&error))?;
    let (guard, _locked) = locked(network)?;
    let drift = |details: String| CniError {
        details,
        ..CniError::new(CniErrorCode::Drift, "the node guard is not what ADD left")
    };
    let record = guard.store().get(&found.id).map_err(failed)?;
    let record = record.ok_or_else(|| drift("the interface is not known".to_owned()))?;
    if record.attachment != found {
        return Err(drift(format!(
            "known as {:?}, found {found:?}",
            record.attachment
        )));
    }
    guard
        .drift(&config, &record)
        .map_err(failed)?
        .map_or(Ok(String::new()), |difference| Err(drift(difference)))
}

/// Forgets every interface of this network that the runtime does not list. All are tried;
/// the first failure is reported.
fn gc(network: &NetworkConfig) -> Result<String, CniError> {
    // libcni leaves the list out if its caller gave none: then nothing is known to be stale.
    let Some(valid) = &network.valid_attachments else {
        return Ok(String::new());
    };
    let valid: BTreeSet<AttachmentId> = valid
        .iter()
        .map(|one| AttachmentId {
            container_id: one.container_id.clone(),
            ifname: one.ifname.clone(),
        })
        .collect();
    let (guard, locked) = locked(network)?;
    let mut first_failure = None;
    for record in guard.store().all().map_err(failed)? {
        let id = &record.attachment.id;
        if record.attachment.network == network.name && !valid.contains(id) {
            first_failure = first_failure.or(guard.withdraw(&locked, id).err());
        }
    }
    first_failure.map_or(Ok(String::new()), |error| Err(failed(error)))
}

/// Whether ADD could be served: configuration, records, and a kernel that takes the rules.
fn status(network: &NetworkConfig) -> Result<String, CniError> {
    let unavailable = |error: CniError| CniError {
        code: CniErrorCode::NotAvailable,
        details: format!("{} {}", error.message, error.details),
        message: "pods cannot be guarded".to_owned(),
    };
    node_config(network).map_err(unavailable)?;
    guard(network).map_err(unavailable)?;
    Nft::new(network.nft.clone())
        .read(&["list", "tables"])
        .map_err(failed)
        .map_err(unavailable)?;
    Ok(String::new())
}

#[cfg(test)]
mod tests;
