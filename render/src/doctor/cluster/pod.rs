//! Pods: what of theirs does not go through a sidecar, and what the rendered admission policy says
//! to them when they are made again.

use serde_json::{Value, json};

use super::{
    AMBIENT, ClusterFinding, ClusterFindingCode, Looked, NO_AMBIENT, ObjectKind, entry, text,
};
use crate::guardrails::{self, admission::Admission};
use crate::install::Install;

const PROXY: &str = "istio-proxy";
/// Istio's own init containers: they send nothing outside.
const ISTIOS: [&str; 2] = ["istio-init", "istio-validation"];

pub(super) fn look(install: &Install, admission: &Admission, objects: &[Value]) -> Looked {
    let mut looked = Looked::default();
    for pod in objects.iter().filter(|object| is_enforced(install, object)) {
        looked.count = looked.count.saturating_add(1);
        let namespace = text(pod, "/metadata/namespace");
        let troubles = judge(install, admission, pod).into_iter();
        looked
            .troubles
            .extend(troubles.map(|(code, message, remedy)| ClusterFinding {
                kind: ObjectKind::Pod,
                namespace: namespace.to_owned(),
                name: text(pod, "/metadata/name").to_owned(),
                code,
                message,
                remedy,
            }));
    }
    looked.troubles.extend(gateways(install, objects));
    looked.troubles.sort();
    // Some of the policy's refusals have the same words.
    looked.troubles.dedup();
    looked
}

/// Pods of the gateway with an old proxy.
fn gateways(install: &Install, objects: &[Value]) -> impl Iterator<Item = ClusterFinding> {
    let gateway = &install.spec.gateway;
    let is_gateways = |pod: &&Value| {
        let mut labels = gateway.selector.iter();
        text(pod, "/kind") == "Pod"
            && text(pod, "/metadata/namespace") == gateway.namespace
            && labels.all(|(key, value)| entry(pod, "labels", key) == Some(value))
            && !matches!(text(pod, "/status/phase"), "Succeeded" | "Failed")
    };
    let oldest = install.minor();
    objects.iter().filter(is_gateways).filter_map(move |pod| {
        let (version, minor) = proxy_version(pod)?;
        let oldest = oldest.filter(|oldest| minor < *oldest)?;
        Some(ClusterFinding {
            kind: ObjectKind::Pod,
            namespace: text(pod, "/metadata/namespace").to_owned(),
            name: text(pod, "/metadata/name").to_owned(),
            code: ClusterFindingCode::OldProxy,
            message: format!(
                "its proxy is of Istio {version}, and what is rendered is for 1.{oldest} and later: it \
                 has no listener at the gateway's ports"
            ),
            remedy: "make the gateway's pods again with a newer proxy first",
        })
    })
}

/// The version that the image of a pod's proxy is called by. An image with nothing but a digest says
/// none; Envoy itself does (`doctor --server-info`).
fn proxy_version(pod: &Value) -> Option<(&str, u32)> {
    let list = |field: &str| pod.pointer(field)?.as_array();
    let lists = ["/spec/initContainers", "/spec/containers"];
    let mut containers = lists.into_iter().filter_map(list).flatten();
    let proxy = containers.find(|container| text(container, "/name") == PROXY)?;
    let image = text(proxy, "/image").split('@').next()?;
    let (_, name) = image.rsplit_once('/').unwrap_or(("", image));
    let (_, tag) = name.split_once(':')?;
    let minor = tag.strip_prefix("1.")?;
    let digits = minor.find(|letter: char| !letter.is_ascii_digit());
    let minor = minor.get(..digits.unwrap_or(minor.len()))?.parse().ok()?;
    Some((tag, minor))
}

fn is_enforced(install: &Install, object: &Value) -> bool {
    let namespace = text(object, "/metadata/namespace");
    let enforced = &install.spec.workloads.namespaces;
    text(object, "/kind") == "Pod"
        && enforced.iter().any(|name| name == namespace)
        && !matches!(text(object, "/status/phase"), "Succeeded" | "Failed")
}

fn judge(
    install: &Install,
    admission: &Admission,
    pod: &Value,
) -> Vec<(ClusterFindingCode, String, &'static str)> {
    let mut found = Vec::new();
    let ambient = entry(pod, "labels", "istio.io/dataplane-mode") == Some("ambient")
        || entry(pod, "annotations", "ambient.istio.io/redirection") == Some("enabled");
    if ambient {
        found.push((ClusterFindingCode::Ambient, AMBIENT.to_owned(), NO_AMBIENT));
    }
    match before_sidecar(pod) {
        None if pod.pointer("/spec/hostNetwork") == Some(&Value::Bool(true)) => found.push((
            ClusterFindingCode::NoSidecar,
            "it is on the host's network: no sidecar takes what it sends, and no guard sees it"
                .to_owned(),
            "take hostNetwork away, or move it to a namespace that is not enforced",
        )),
        None => found.push((
            ClusterFindingCode::NoSidecar,
            "it has no sidecar: what it sends outside is dropped".to_owned(),
            "see that its namespace is injected, and restart it",
        )),
        Some(early) if !early.is_empty() => found.push((
            ClusterFindingCode::InitBeforeSidecar,
            format!(
                "{} run before the sidecar: what they send outside is dropped",
                early.join(", ")
            ),
            "use native sidecars (ENABLE_NATIVE_SIDECARS of istiod, Kubernetes 1.29 or later), or \
             see that these containers need nothing from outside",
        )),
        Some(_) => {}
    }
    if let (Some(wanted), Some(revision)) = (&install.spec.istio.revision, revision(pod))
        && revision != *wanted
    {
        found.push((
            ClusterFindingCode::Revision,
            format!(
                "its sidecar is under revision `{revision}`, which reads no object of revision \
                 `{wanted}`: it does not go to the gateway"
            ),
            "restart it once its namespace is under spec.istio.revision",
        ));
    }
    let namespace = text(pod, "/metadata/namespace");
    if guardrails::guarded(install)
        .iter()
        .any(|name| *name == namespace)
    {
        // As it would be made today: an update of what is there is another question, and ephemeral
        // containers are not made again.
        let mut made = pod.clone();
        if let Some(spec) = made.pointer_mut("/spec").and_then(Value::as_object_mut) {
            spec.remove("ephemeralContainers");
        }
        let refusals = admission.judge(&made, &Value::Null, &json!({}));
        found.extend(refusals.into_iter().map(|(_, message)| {
            let message =
                format!("the admission policy refuses it when it is made again: {message}");
            let remedy = "change what makes it, or list its namespace in \
                          spec.guardrails.exemptNamespaces";
            (ClusterFindingCode::Refused, message, remedy)
        }));
    }
    found
}

/// The init containers that run before the sidecar; `None` if there is no sidecar.
///
/// A native sidecar is an init container that goes on running (`restartPolicy: Always`,
/// Kubernetes KEP-753): init containers behind it in the list start when it is ready. A sidecar
/// among the ordinary containers starts when all init containers have ended.
fn before_sidecar(pod: &Value) -> Option<Vec<&str>> {
    let list = |field: &str| {
        let list = pod.pointer(&format!("/spec/{field}"));
        list.and_then(Value::as_array).into_iter().flatten()
    };
    let early: Vec<_> = list("initContainers")
        .take_while(|container| {
            text(container, "/name") != PROXY || text(container, "/restartPolicy") != "Always"
        })
        .collect();
    let native = early.len() < list("initContainers").count();
    if !native && !list("containers").any(|container| text(container, "/name") == PROXY) {
        return None;
    }
    let names = early.iter().map(|container| text(container, "/name"));
    Some(names.filter(|name| !ISTIOS.contains(name)).collect())
}

/// The revision whose injector made the pod, as it says in its own annotation.
fn revision(pod: &Value) -> Option<String> {
    let status = entry(pod, "annotations", "sidecar.istio.io/status")?;
    let status: Value = serde_json::from_str(status).ok()?;
    Some(status.get("revision")?.as_str()?.to_owned())
}
