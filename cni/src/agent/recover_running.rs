//! Pods that were running before the plugin was installed, from the runtime's own cache of
//! results (libcni writes one file per attachment).

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde::Deserialize;

use super::AgentError;
use super::install::InstallError;
use crate::attachment::{Attachment, AttachmentId};
use crate::guard::Guard;
use crate::link;
use crate::protocol::PrevResult;
use crate::store::Record;

/// One file of the cache (`cniCacheV1`).
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Cached {
    kind: String,
    container_id: String,
    if_name: String,
    network_name: String,
    #[serde(default)]
    cni_args: Vec<(String, String)>,
    result: PrevResult,
}

/// Attachments in the cache that have no record yet and whose host side is there. What does
/// not decode or is no veth is left alone: the runtime's cache holds other networks too.
///
/// # Errors
/// If cache or records cannot be read.
pub fn running(results: &Path, guard: &Guard) -> Result<Vec<Record>, AgentError> {
    let unreadable = |source| {
        AgentError::from(InstallError::Io {
            path: results.display().to_string(),
            source,
        })
    };
    let entries = match fs::read_dir(results) {
        Ok(entries) => entries,
        Err(source) if source.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(unreadable(source)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(unreadable)?.path();
        let Some(cached) = fs::read(&path)
            .ok()
            .and_then(|text| serde_json::from_slice::<Cached>(&text).ok())
        else {
            continue;
        };
        let id = AttachmentId {
            container_id: cached.container_id.clone(),
            ifname: cached.if_name.clone(),
        };
        let valid = cached.kind == "cniCacheV1" && crate::protocol::is_attachment(&id);
        if valid && guard.store().get(&id)?.is_none() {
            found.extend(record(id, &cached));
        }
    }
    Ok(found)
}

fn record(id: AttachmentId, cached: &Cached) -> Option<Record> {
    let argument = |name: &str| {
        let value = cached
            .cni_args
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.clone());
        value.unwrap_or_default()
    };
    let index = cached
        .result
        .interfaces
        .iter()
        .position(|interface| interface.name == id.ifname && !interface.sandbox.is_empty())?;
    let inside = cached.result.interfaces.get(index)?;
    let host_link = link::host_end(Path::new(&inside.sandbox), &id.ifname).ok()?;
    let mine = |ip: &&crate::protocol::Ip| ip.interface.is_none_or(|interface| interface == index);
    let attachment = Attachment {
        network: cached.network_name.clone(),
        namespace: argument("K8S_POD_NAMESPACE"),
        pod: argument("K8S_POD_NAME"),
        host_link,
        addresses: cached
            .result
            .ips
            .iter()
            .filter(mine)
            .map(|ip| ip.address.addr())
            .collect(),
        id,
    };
    Some(Record::new(attachment, Some(inside.sandbox.clone().into())))
}
