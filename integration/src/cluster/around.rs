//! The ways around the gateway, from real pods: each is refused when the pod is created, or leads
//! nowhere.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::exec::{PodShell, ProbeResult};
use super::kubectl;
use super::matrix::Row;
use super::node::Node;
use crate::hosts::address_of;
use crate::mesh::SSH_BANNER;

/// A host that no rule allows anybody: who reaches it has found a way around.
const HOST: &str = "other-partner.example";
/// A host that the namespace's workloads may reach through the gateway.
const ALLOWED: &str = "partner.example";
/// The enforced namespace of most of them.
const NAMESPACE: &str = "app1-ns";
/// A namespace that nobody has thought of: no injection, no rendered object, no exemption.
const FORGOTTEN: &str = "default";

/// The profiles of `kubectl debug`, and whether a container of theirs is refused. That of `general`
/// has `SYS_PTRACE`.
const PROFILES: [(&str, bool); 4] = [
    ("baseline", false),
    ("general", true),
    ("netadmin", true),
    ("sysadmin", true),
];

/// A way around.
struct Bypass {
    /// What it is called, and its pod.
    name: &'static str,
    /// What the pod is, in words.
    about: &'static str,
    namespace: &'static str,
    /// What of the pod is different: merged into the metadata and the specification.
    metadata: Value,
    spec: Value,
    /// Whether the API server refuses the pod.
    refused: bool,
}

/// All of them.
fn ways() -> Vec<Bypass> {
    let plain = |name, about| Bypass {
        name,
        about,
        namespace: NAMESPACE,
        metadata: json!({}),
        spec: json!({}),
        refused: false,
    };
    let user = |number: u32| json!({"containers": [{"securityContext": {"runAsUser": number}}]});
    let admin = json!({"capabilities": {"add": ["NET_ADMIN"]}});
    vec![
        Bypass {
            metadata: json!({"annotations": {"sidecar.istio.io/inject": "false"}}),
            refused: true,
            ..plain(
                "no-injection",
                "a pod that asks for no sidecar by annotation",
            )
        },
        Bypass {
            metadata: json!({"labels": {"sidecar.istio.io/inject": "false"}}),
            refused: true,
            ..plain(
                "no-injection-label",
                "a pod that asks for no sidecar by label",
            )
        },
        Bypass {
            spec: user(1337),
            refused: true,
            ..plain("user-1337", "the sidecar's own user")
        },
        Bypass {
            spec: json!({"containers": [{"securityContext": admin}]}),
            refused: true,
            ..plain("net-admin", "NET_ADMIN")
        },
        Bypass {
            spec: json!({"hostNetwork": true}),
            refused: true,
            ..plain("host-network", "the node's network")
        },
        Bypass {
            metadata: json!({"annotations": {"traffic.sidecar.istio.io/excludeOutboundPorts": "22"}}),
            refused: true,
            ..plain("excluded-port", "a port that is not redirected")
        },
        Bypass {
            namespace: FORGOTTEN,
            ..plain(
                "forgotten",
                "a pod in a namespace that nobody has thought of",
            )
        },
        Bypass {
            namespace: FORGOTTEN,
            spec: user(1337),
            ..plain("forgotten-1337", "the same as user 1337")
        },
    ]
}

/// The container that tries, and the pod around it.
fn pod(name: &str, metadata: &Value, spec: &Value) -> Value {
    let mut pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"egress-ruleset": "app1"}},
        "spec": {
            "serviceAccountName": "default",
            "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "app", "image": "bench.example/bench:1", "command": ["sleep", "infinity"],
            }],
        },
    });
    merge(&mut pod, &json!({"metadata": metadata, "spec": spec}));
    pod
}

/// Puts what `change` has into `value`, item by item.
pub(super) fn merge(value: &mut Value, change: &Value) {
    match (value, change) {
        (Value::Object(value), Value::Object(change)) => {
            for (key, change) in change {
                merge(value.entry(key).or_insert(Value::Null), change);
            }
        }
        (Value::Array(value), Value::Array(change)) => {
            for (value, change) in value.iter_mut().zip(change) {
                merge(value, change);
            }
        }
        (value, change) => value.clone_from(change),
    }
}

/// A pod that starts before the node guard's agent: it tolerates a node without a guard.
///
/// # Errors
/// None in practice.
pub fn early() -> Result<String> {
    let spec =
        json!({"tolerations": [{"operator": "Exists"}], "automountServiceAccountToken": false});
    let metadata = json!({"labels": {"sidecar.istio.io/inject": "false"}});
    Ok(pod("early", &metadata, &spec).to_string())
}

/// Tries all of them.
///
/// # Errors
/// If something cannot be tried.
pub fn run(node: &Node, mut tell: impl FnMut(&Row)) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let mut add = |row: Row| {
        tell(&row);
        rows.push(row);
    };
    for way in ways() {
        add(way.row(node)?);
    }
    for (host, reached) in [(HOST, false), (ALLOWED, true)] {
        add(init_container(node, host, reached)?);
    }
    for (profile, refused) in PROFILES {
        add(ephemeral_container(node, profile, refused)?);
    }
    add(connects(
        node,
        NAMESPACE,
        "early",
        "a pod from before the agent",
    )?);
    add(without_agent(node)?);
    add(exempt_control(node)?);
    Ok(rows)
}

impl Bypass {
    fn row(&self, node: &Node) -> Result<Row> {
        let mut pod = pod(self.name, &self.metadata, &self.spec);
        merge(
            &mut pod,
            &json!({"metadata": {"namespace": self.namespace}}),
        );
        let said = kubectl::tried(node, &["create", "-f", "-"], &pod.to_string())?;
        if !said.success {
            return Ok(refused(self.about, &said.text, self.refused));
        }
        let row = ready(node, self.namespace, self.name)
            .and_then(|()| connects(node, self.namespace, self.name, self.about));
        delete(node, self.namespace, self.name)?;
        let mut row = row?;
        row.as_expected &= !self.refused;
        Ok(row)
    }
}

/// What the API server did not let begin; another reason than an admission policy's is none.
fn refused(about: &str, said: &str, expected: bool) -> Row {
    let seen = ProbeResult::Refused("at admission".to_owned());
    let why = reason(said);
    let judged = why.is_some();
    let rule = why.unwrap_or_else(|| said.lines().next().unwrap_or_default().to_owned());
    let mut row = Row::new(NAMESPACE, about.to_owned(), false, &seen, rule);
    row.as_expected &= expected && judged;
    row
}

/// Whether a pod gets through to the host by its address.
fn connects(node: &Node, namespace: &str, name: &str, about: &str) -> Result<Row> {
    let of = format!("pod/{name}");
    let place = PodShell { namespace, of: &of };
    let seen = place.banner(node, address_of(HOST)?, 22, SSH_BANNER)?;
    let rule = if seen == ProbeResult::Silence {
        "node guard"
    } else {
        "-"
    };
    Ok(Row::new(
        namespace,
        about.to_owned(),
        false,
        &seen,
        rule.to_owned(),
    ))
}

/// What a container writes before it tries.
const BEGAN: &str = "began";

/// A script that connects to a host by its address and writes the host's first line.
fn reading(host: &str) -> Result<String> {
    let address = address_of(host)?;
    Ok(format!(
        "echo {BEGAN}; (read -r line < /dev/tcp/{address}/22 && echo \"$line\" || echo closed) & \
         sleep 6; kill $! 2>/dev/null; true"
    ))
}

fn seen_in(log: &str) -> Result<ProbeResult> {
    ensure!(log.contains(BEGAN), "the container did not begin: {log}");
    Ok(if log.contains(SSH_BANNER.trim_end()) {
        ProbeResult::Reached
    } else if log.contains("closed") {
        ProbeResult::Closed
    } else {
        ProbeResult::Silence
    })
}

/// An init container: Istio puts its sidecar before it.
fn init_container(node: &Node, host: &str, reached: bool) -> Result<Row> {
    const NAME: &str = "init";
    let init = json!({"initContainers": [{
        "name": "first", "image": "bench.example/bench:1",
        "command": ["bash", "-c", reading(host)?],
    }]});
    kubectl::apply(node, &pod(NAME, &json!({}), &init).to_string())?;
    let outcome = ready(node, NAMESPACE, NAME)
        .and_then(|()| kubectl::text(node, &["-n", NAMESPACE, "logs", NAME, "-c", "first"]));
    let arguments = ["-n", NAMESPACE, "delete", "pod", NAME];
    kubectl::text(node, &arguments)?;
    let about = format!("an init container to {host}");
    let seen = seen_in(&outcome?)?;
    Ok(Row::new(
        NAMESPACE,
        about,
        reached,
        &seen,
        "the sidecar's".to_owned(),
    ))
}

/// `kubectl debug`, in one of its profiles, in the pod of app1.
fn ephemeral_container(node: &Node, profile: &str, expected: bool) -> Result<Row> {
    let about = format!("kubectl debug --profile={profile}");
    let name = [
        "-n", NAMESPACE, "get", "pods", "-l", "app=app1", "-o", "name",
    ];
    let pod = kubectl::text(node, &name)?.trim().to_owned();
    let (profile_flag, container) = (format!("--profile={profile}"), format!("debug-{profile}"));
    let script = reading(HOST)?;
    let debug = [
        "-n",
        NAMESPACE,
        "debug",
        &pod,
        "--image=bench.example/bench:1",
    ];
    let more = [&profile_flag, "-c", &container, "--", "bash", "-c", &script];
    let said = kubectl::tried(node, &[&debug[..], &more].concat(), "")?;
    if !said.success {
        return Ok(refused(&about, &said.text, expected));
    }
    // Until its script is over.
    std::thread::sleep(Duration::from_secs(9));
    let log = kubectl::text(node, &["-n", NAMESPACE, "logs", &pod, "-c", &container])?;
    let mut row = Row::new(
        NAMESPACE,
        about,
        false,
        &seen_in(&log)?,
        "the sidecar's".to_owned(),
    );
    row.as_expected &= !expected;
    Ok(row)
}

/// The rules stay in the node's kernel while no agent runs.
fn without_agent(node: &Node) -> Result<Row> {
    let delete = [
        "-n",
        "egress-warden",
        "delete",
        "pod",
        "-l",
        "app=egress-warden-cni",
    ];
    kubectl::text(
        node,
        &[&delete[..], &["--force", "--grace-period=0"]].concat(),
    )?;
    let row = connects(node, NAMESPACE, "early", "the same, the agent killed");
    kubectl::rolled_out(node, "egress-warden", "ds/egress-warden-cni")?;
    row
}

/// The same connection where the guard leaves pods alone: it comes through, so that the rows above
/// are not refused for another reason.
fn exempt_control(node: &Node) -> Result<Row> {
    let mut pod = pod(
        "exempt",
        &json!({}),
        &json!({"tolerations": [{"operator": "Exists"}]}),
    );
    merge(&mut pod, &json!({"metadata": {"namespace": "kube-system"}}));
    kubectl::apply(node, &pod.to_string())?;
    let wait = [
        "-n",
        "kube-system",
        "wait",
        "--for=condition=Ready",
        "pod/exempt",
    ];
    kubectl::text(node, &[&wait[..], &["--timeout=120s"]].concat())?;
    let place = PodShell {
        namespace: "kube-system",
        of: "pod/exempt",
    };
    let seen = place.banner(node, address_of(HOST)?, 22, SSH_BANNER)?;
    delete(node, "kube-system", "exempt")?;
    let about = "a pod in an exempt namespace".to_owned();
    Ok(Row::new(
        "kube-system",
        about,
        true,
        &seen,
        "exempt".to_owned(),
    ))
}

fn ready(node: &Node, namespace: &str, name: &str) -> Result<()> {
    let of = format!("pod/{name}");
    let wait = ["-n", namespace, "wait", "--for=condition=Ready", &of];
    kubectl::text(node, &[&wait[..], &["--timeout=60s"]].concat()).map(drop)
}

fn delete(node: &Node, namespace: &str, name: &str) -> Result<()> {
    kubectl::text(
        node,
        &["-n", namespace, "delete", "pod", name, "--wait=false"],
    )
    .map(drop)
}

/// The admission policy that refused, and its message.
fn reason(said: &str) -> Option<String> {
    let line = said
        .lines()
        .find(|line| line.contains("ValidatingAdmissionPolicy"))?;
    let (_, rest) = line.split_once("ValidatingAdmissionPolicy '")?;
    let (policy, rest) = rest.split_once('\'')?;
    let (_, why) = rest.split_once("denied request: ")?;
    Some(format!("{policy}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::{pod, reason};
    use serde_json::json;

    #[test]
    fn a_way_is_the_pod_and_what_is_different() {
        let pod = pod(
            "x",
            &json!({"labels": {"a": "b"}}),
            &json!({"containers": [{"securityContext": {"runAsUser": 1337}}]}),
        );
        assert_eq!(
            pod.pointer("/metadata/labels"),
            Some(&json!({"egress-ruleset": "app1", "a": "b"}))
        );
        assert_eq!(pod.pointer("/spec/containers/0/name"), Some(&json!("app")));
        assert_eq!(
            pod.pointer("/spec/containers/0/securityContext/runAsUser"),
            Some(&json!(1337))
        );
    }

    #[test]
    fn the_reason_is_the_policy_and_its_message() {
        let said = "The pods \"x\" is invalid: : ValidatingAdmissionPolicy 'egress-warden-cni-pods' with binding \
                    'egress-warden-cni-pods' denied request: host-network pods are outside the node guard\nmore";
        let why = "egress-warden-cni-pods: host-network pods are outside the node guard";
        assert_eq!(reason(said).as_deref(), Some(why));
        assert_eq!(reason("error: x"), None);
    }
}
