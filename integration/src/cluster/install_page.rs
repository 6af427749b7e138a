//! The page Install, followed on a cluster that has Istio and the workloads and nothing of ours, with
//! the node guard's own page before and after it: what each step says holds then, and nothing is left
//! in the end.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::exec::{PodShell, ProbeResult};
use super::node::Node;
use super::page::{self, Done, Reader, Section};
use super::{GATEWAY, data, kubectl, mesh, world};

const PAGE: &str = "docs/how-to/install.md";
const NODE_GUARD: &str = "cni/README.md";

/// The labels of everything that is rendered. The node guard has the first label alone, and goes last.
const OURS: &str = "app.kubernetes.io/part-of=egress-warden,app.kubernetes.io/managed-by=warden";

/// The setting of the mesh that the bench cannot have: a stock Envoy has no filter for it.
const NOT_SET: &str = "PILOT_ENABLE_METADATA_EXCHANGE";

/// Follows the page and takes everything back.
///
/// # Errors
/// The command that failed, or what did not hold after it.
pub fn run(node: &Node, tell: &mut dyn FnMut(&str)) -> Result<()> {
    let (page, guard) = (page::sections(PAGE)?, page::sections(NODE_GUARD)?);
    let guard = page::section(&guard, "Install and remove")?;
    let [install_guard, remove_guard] = &guard.blocks[..] else {
        anyhow::bail!("{NODE_GUARD} does not say how to install and remove");
    };
    let mut reader = Reader::new(node, tell)?;
    reader.run(install_guard, str::to_owned, &[])?;
    reader.holds("the node lost its taint", untainted(node))?;
    workloads(node)?;
    let before = outside(node)?;
    let step = |heading: &str| page::section(&page, heading);
    policy_and_settings(
        &mut reader,
        step("1. Write the policy")?,
        step("2. Write the install settings")?,
    )?;
    mesh_settings(&mut reader, step("3. Set up istiod")?)?;
    all(&mut reader, step("4. Run the gateway")?)?;
    patched(node, true)?;
    publish(&mut reader, node, step("5. Publish the module")?)?;
    all(&mut reader, step("6. Apply the gateway's part")?)?;
    gateway_is_there(&mut reader, node, &before)?;
    all(&mut reader, step("Uninstall")?)?;
    reader.holds("nothing of what is rendered is left", nothing_left(node))?;
    let gone = kubectl::tried(node, &["get", "namespace", GATEWAY], "")?;
    reader.holds(
        "the gateway's namespace is gone",
        same(&gone.success, &false),
    )?;
    reader.run(remove_guard, str::to_owned, &[])?;
    reader.holds("nothing of the node guard is left", no_guard(node))?;
    clean(node)
}

/// Runs every command of a section.
fn all(reader: &mut Reader<'_>, section: &Section) -> Result<Vec<Done>> {
    let mut done = Vec::new();
    for block in scripts(section) {
        done.extend(reader.run(block, str::to_owned, &[])?);
    }
    Ok(done)
}

/// What a mesh has before: Istio, workloads with sidecars, and what a stock Envoy needs.
fn workloads(node: &Node) -> Result<()> {
    kubectl::rolled_out(node, "istio-system", "ds/istio-cni-node")?;
    kubectl::rolled_out(node, "istio-system", "deploy/istiod")?;
    patched(node, false)?;
    kubectl::apply(node, &data("workloads.yaml", &[])?)?;
    for app in ["app1", "app2"] {
        kubectl::rolled_out(node, &format!("{app}-ns"), &format!("deploy/{app}"))?;
    }
    Ok(())
}

/// What a stock Envoy needs, in the gateway's namespace or elsewhere.
fn patched(node: &Node, of_gateway: bool) -> Result<()> {
    let mut patches = mesh::test_patches()?;
    let namespace = |patch: &Value| patch.pointer("/metadata/namespace") == Some(&json!(GATEWAY));
    patches.retain(|patch| namespace(patch) == of_gateway);
    kubectl::apply_all(node, &patches)
}

/// What came of the same tries before and after a step that changes nothing for workloads.
fn outside(node: &Node) -> Result<Vec<ProbeResult>> {
    let place = PodShell {
        namespace: "app1-ns",
        of: "deploy/app1",
    };
    Ok(vec![
        place.url(node, "http://api.github.com/", None, "api.github.com")?,
        place.url(node, "http://app2.app2-ns/", None, "app2")?,
    ])
}

fn untainted(node: &Node) -> Result<()> {
    // The agent takes it off when it is ready.
    let taints = [
        "get",
        "nodes",
        "-o",
        "jsonpath={.items[*].spec.taints[*].key}",
    ];
    let taints = kubectl::text(node, &taints)?;
    ensure!(!taints.contains("egress-warden"), "{taints}");
    Ok(())
}

fn policy_and_settings(
    reader: &mut Reader<'_>,
    policy: &Section,
    settings: &Section,
) -> Result<()> {
    all(reader, policy)?;
    let mut yaml = settings.blocks.iter();
    let (_, yaml) = yaml
        .find(|(language, _)| language == "yaml")
        .context("no install settings")?;
    std::fs::write(reader.folder().join("install.yaml"), yaml)?;
    all(reader, settings).map(drop)
}

/// Of istiod's settings only what a stock Envoy needs otherwise is found wrong, and of the workloads
/// nothing.
fn mesh_settings(reader: &mut Reader<'_>, section: &Section) -> Result<()> {
    let mut done = Vec::new();
    for block in scripts(section) {
        done.extend(reader.run(block, str::to_owned, &[3])?);
    }
    for Done {
        command,
        code,
        output,
    } in &done
    {
        let (what, so) = if command.contains("--istiod-env") {
            let findings = output.lines().filter(|line| !line.starts_with([' ', '\t']));
            let findings = findings.filter(|line| !line.starts_with("ok"));
            let wrong = findings.filter(|line| !line.contains(NOT_SET));
            ("istiod and the mesh are set as required", none(wrong))
        } else if command.contains("--pods") {
            ("no pod would lose access", same(code, &0))
        } else if command.contains("--namespaces") {
            ("no namespace would lose access", same(code, &0))
        } else if command.contains("--networks") {
            ("the networks are the cluster's", same(code, &0))
        } else {
            continue;
        };
        reader.holds(what, so)?;
    }
    Ok(())
}

/// The commands of a section.
fn scripts(section: &Section) -> impl Iterator<Item = &(String, String)> {
    let blocks = section.blocks.iter();
    blocks.filter(|(language, _)| language == "sh")
}

fn none<'l>(lines: impl Iterator<Item = &'l str>) -> Result<()> {
    let lines: Vec<_> = lines.collect();
    ensure!(lines.is_empty(), "{lines:?}");
    Ok(())
}

fn same<T: PartialEq + std::fmt::Debug>(found: &T, expected: &T) -> Result<()> {
    ensure!(found == expected, "{found:?}, expected {expected:?}");
    Ok(())
}

/// The registry's authority is the bench's own; what is printed goes into the settings.
fn publish(reader: &mut Reader<'_>, node: &Node, section: &Section) -> Result<()> {
    let authority = node.folder().join("pki/ca.pem");
    let with_authority = |text: &str| {
        let with = format!("warden package --ca '{}' ", authority.display());
        text.replace("warden package ", &with)
    };
    let mut printed = String::new();
    for block in scripts(section) {
        for done in reader.run(block, with_authority, &[])? {
            printed.push_str(&done.output);
        }
    }
    let value = |key: &str| {
        let mut lines = printed.lines();
        let found = lines.find_map(|line| line.trim().strip_prefix(key)?.strip_prefix(": "));
        found
            .map(|value| value.trim_matches('"').to_owned())
            .with_context(|| format!("no {key}: {printed}"))
    };
    let (url, digest) = (value("url")?, value("sha256")?);
    let (_, module) = world::module()?;
    let own = module.sha256().to_owned();
    reader.holds("the digest is the module's", same(&digest, &own))?;
    let path = reader.folder().join("install.yaml");
    let settings = std::fs::read_to_string(&path)?;
    ensure!(settings.contains(&url), "{url} is not in the settings");
    std::fs::write(path, settings.replace(&"0".repeat(64), &digest))?;
    Ok(())
}

fn gateway_is_there(reader: &mut Reader<'_>, node: &Node, before: &[ProbeResult]) -> Result<()> {
    reader.holds("every object of the gateway's part is there", {
        objects(node, &reader.folder().join("rendered"))
    })?;
    let kinds = "sidecars,envoyfilters,networkpolicies";
    let elsewhere = ["get", kinds, "-l", OURS, "-o", "name"];
    let elsewhere = ["app1-ns", "app2-ns"]
        .iter()
        .map(|namespace| kubectl::text(node, &[&["-n", *namespace], &elsewhere[..]].concat()));
    let elsewhere = elsewhere.collect::<Result<String>>()?;
    reader.holds("workloads have nothing of it yet", none(elsewhere.lines()))?;
    let now = outside(node)?;
    let so = same(&&*now, &before);
    reader.holds("workloads reach what they reached before", so)?;
    let place = PodShell {
        namespace: "app1-ns",
        of: "deploy/app1",
    };
    let denied = place.url(
        node,
        "http://egress-gateway.istio-egress:8080/",
        None,
        "no answer of a host",
    )?;
    let so = same(&denied, &ProbeResult::Status("403".to_owned()));
    reader.holds(
        "the gateway answers 403 to a caller that no rule accepts",
        so,
    )
}

/// Whether all files of the gateway's part are objects of the cluster.
fn objects(node: &Node, folder: &Path) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let later = [".networkpolicy.", ".serviceentry."];
        if name.starts_with("istio-egress.") && !later.iter().any(|part| name.contains(part)) {
            kubectl::text(node, &["get", "-f", &path.to_string_lossy()])?;
        }
    }
    Ok(())
}

/// Whether no object of any kind has the product's label.
fn nothing_left(node: &Node) -> Result<()> {
    let kinds = kubectl::text(
        node,
        &["api-resources", "--verbs=list,delete", "-o", "name"],
    )?;
    let kinds: Vec<_> = kinds.lines().collect();
    let get = ["get", &kinds.join(","), "-A", "-l", OURS, "-o", "name"];
    let left = kubectl::text(node, &get)?;
    none(left.lines())
}

/// Whether node and cluster are without the node guard.
fn no_guard(node: &Node) -> Result<()> {
    let script = "grep -rl egress-warden /etc/cni/net.d; ls /opt/cni/bin /run | grep egress-warden; \
                  nft list tables | grep egress; ls -A /etc/egress-warden-cni; true";
    let left = crate::command::text(node.command("bash").args(["-c", script]))?;
    none(left.lines())?;
    let kinds = "namespaces,clusterroles,clusterrolebindings,validatingadmissionpolicies,\
                 validatingadmissionpolicybindings";
    let names = kubectl::text(node, &["get", kinds, "-o", "name"])?;
    let ours = |name: &&str| name.contains("egress-warden");
    none(names.lines().filter(ours))
}

/// Takes away what the bench itself made.
fn clean(node: &Node) -> Result<()> {
    let file = super::data_file("workloads.yaml");
    kubectl::text(node, &["delete", "-f", &file.to_string_lossy()]).map(drop)
}
