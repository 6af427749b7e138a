//! Istio, the node guard and the reference case on a cluster, as an admin installs them.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use egress_render::Install;
use serde_json::{Value, json};

use super::around::{self, merge};
use super::node::{Life, Node};
use super::{GATEWAY, data, image, kubectl, world};
use crate::istio::testbed::test_patches_with;
use crate::istio::{reference, tools};
use crate::{command, workspace};

/// Tells what has been done, with seconds since the beginning.
pub struct Steps<'t> {
    start: Instant,
    tell: &'t mut dyn FnMut(&str),
}

impl<'t> Steps<'t> {
    /// Begins now.
    pub fn new(tell: &'t mut dyn FnMut(&str)) -> Self {
        let start = Instant::now();
        Self { start, tell }
    }

    fn done(&mut self, what: &str) {
        let seconds = self.start.elapsed().as_secs();
        (self.tell)(&format!("{seconds:3} s  {what}"));
    }
}

/// Brings up a node in `folder` with Istio on it.
///
/// # Errors
/// If a part does not come up.
pub fn up(folder: &Path, life: Life, tell: &mut dyn FnMut(&str)) -> Result<Node> {
    let kept = folder.parent().context("no folder")?;
    let mut steps = Steps::new(tell);
    std::fs::create_dir_all(kept)?;
    let images = image::all(kept)?;
    steps.done("images are made");
    let node = Node::start(folder, kept, life)?;
    steps.done("the API server answers, the kubelet has started");
    world::ready(folder)?;
    for image in images {
        image.import(&node)?;
    }
    steps.done("images are on the node");
    mesh(&node)?;
    steps.done("CoreDNS answers");
    Ok(node)
}

/// DNS and Istio. The node has the taint by which pods wait for the node guard.
fn mesh(node: &Node) -> Result<()> {
    kubectl::apply(
        node,
        &data(
            "coredns.yaml",
            &[("RESOLVER", &world::RESOLVER.to_string())],
        )?,
    )?;
    let injected = json!({"istio-injection": "enabled"});
    let mut objects = vec![
        namespace("istio-system", &json!({})),
        namespace("app1-ns", &injected),
        namespace("app2-ns", &injected),
    ];
    objects.extend(istio()?);
    kubectl::apply_all(node, &objects)?;
    kubectl::rolled_out(node, "kube-system", "deploy/coredns")
}

/// Puts everything of the reference case on a node that has Istio, enforced.
///
/// # Errors
/// If a part does not come up.
pub fn enforce(node: &Node, tell: &mut dyn FnMut(&str)) -> Result<()> {
    let mut steps = Steps::new(tell);
    guard(node, &mut steps)?;
    reference_case(node, &mut steps)
}

/// The node guard, and a pod that is there before its agent.
fn guard(node: &Node, steps: &mut Steps<'_>) -> Result<()> {
    kubectl::apply(node, &around::early()?)?;
    let early = ["-n", "app1-ns", "wait", "--for=condition=Ready"];
    kubectl::text(
        node,
        &[&early[..], &["pod/early", "--timeout=120s"]].concat(),
    )?;
    steps.done("a pod runs that no guard knows");
    let deploy = workspace::root().join("cni/deploy");
    kubectl::text(
        node,
        &["apply", "--server-side", "-k", &deploy.to_string_lossy()],
    )?;
    kubectl::apply(node, &node_guard()?)?;
    kubectl::rolled_out(node, "egress-warden", "ds/egress-warden-cni")?;
    steps.done("the node guard is there");
    kubectl::rolled_out(node, "istio-system", "ds/istio-cni-node")?;
    kubectl::rolled_out(node, "istio-system", "deploy/istiod")?;
    steps.done("Istio is there");
    Ok(())
}

/// What `warden render` writes, the workloads, and what a stock Envoy needs.
fn reference_case(node: &Node, steps: &mut Steps<'_>) -> Result<()> {
    let mut objects = vec![namespace(GATEWAY, &json!({}))];
    objects.extend(test_patches()?);
    let rendered = reference::of(&install()?, &[reference::policy()?])?;
    for object in rendered.objects() {
        let mut object: Value = serde_saphyr::from_str(&object.yaml())?;
        fitted(&mut object);
        objects.push(object);
    }
    kubectl::apply_all(node, &objects)?;
    steps.done("what warden renders is applied");
    kubectl::apply(node, &data("workloads.yaml", &[])?)?;
    for app in ["app1", "app2"] {
        kubectl::rolled_out(node, &format!("{app}-ns"), &format!("deploy/{app}"))?;
    }
    steps.done("the workloads run, with sidecars");
    kubectl::rolled_out(node, GATEWAY, "deploy/egress-gateway")?;
    // It begins with one pod, and its autoscaler makes two of it.
    let both = "--for=jsonpath={.status.readyReplicas}=2";
    let wait = ["-n", GATEWAY, "wait", both, "deploy/egress-gateway"];
    kubectl::text(node, &[&wait[..], &["--timeout=120s"]].concat())?;
    steps.done("the gateway is ready");
    Ok(())
}

/// The install settings of the reference case, for this registry, with the gateway's Deployment and
/// for Istio's CNI plugin.
///
/// # Errors
/// If the module is not built.
pub fn install() -> Result<Install> {
    Ok(serde_json::from_value(settings()?)?)
}

/// The same as a document.
///
/// # Errors
/// As [`install`].
pub fn settings() -> Result<Value> {
    let (place, module) = world::module()?;
    let text = std::fs::read_to_string(reference::folder().join("install.yaml"))?;
    let mut settings: Value = serde_saphyr::from_str(&text)?;
    let more = json!({"spec": {
        "gateway": {"deployment": {}},
        "module": {"url": format!("oci://{place}"), "sha256": module.sha256()},
        "guardrails": {"istioCni": true},
    }});
    merge(&mut settings, &more);
    Ok(settings)
}

/// The node guard's configuration as it comes, enforced instead of counted.
fn node_guard() -> Result<String> {
    const COUNT: &str = "\"mode\": \"count\"";
    let path = workspace::root().join("cni/deploy/config.yaml");
    let text = std::fs::read_to_string(path)?;
    ensure!(text.contains(COUNT), "the configuration does not count");
    Ok(text.replace(COUNT, "\"mode\": \"enforce\""))
}

fn namespace(name: &str, labels: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
}

/// What a stock Envoy needs in the place of Istio's own filters.
pub(super) fn test_patches() -> Result<Vec<Value>> {
    let patches = test_patches_with(Path::new(image::FIXTURE))?;
    Ok(serde_saphyr::from_multiple(&patches)?)
}

/// Istio's objects, as its own command makes them, without the metrics that a stock Envoy has no
/// filter for: the command always puts them back.
pub(super) fn istio() -> Result<Vec<Value>> {
    let folder = tempfile::tempdir()?;
    let operator = folder.path().join("operator.yaml");
    std::fs::write(
        &operator,
        data("operator.yaml", &[("VERSION", image::ISTIO_VERSION)])?,
    )?;
    let mut generate: Command = tools::Program::Istioctl.command()?;
    let text = command::text(generate.args(["manifest", "generate", "-f"]).arg(operator))?;
    let mut objects: Vec<Value> = serde_saphyr::from_multiple(&text)?;
    objects.retain(|object| !object.is_null());
    for object in &mut objects {
        if let Some(Value::String(mesh)) = object.pointer_mut("/data/mesh") {
            let mut settings: Value = serde_saphyr::from_str(mesh)?;
            if let Some(providers) = settings.get_mut("defaultProviders") {
                *providers = json!({"metrics": []});
            }
            *mesh = settings.to_string();
        }
    }
    Ok(objects)
}

/// Fits the gateway's Deployment to a small machine, and has the module write a line for what it accepts
/// too.
fn fitted(object: &mut Value) {
    if object.get("kind").and_then(Value::as_str) != Some("Deployment") {
        return;
    }
    if let Some(metadata) = object.pointer_mut("/spec/template/metadata") {
        let level = ("sidecar.istio.io/componentLogLevel", "misc:error,wasm:info");
        merge(metadata, &json!({"annotations": {level.0: level.1}}));
    }
    let containers = object.pointer_mut("/spec/template/spec/containers");
    for container in containers
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        if let Some(cpu) = container.pointer_mut("/resources/requests/cpu") {
            *cpu = json!("50m");
        }
    }
}
