//! What Istio's injector makes of the rendered gateway: `image: auto` leaves the rest to it.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
use integration::command;
use integration::istio::reference;
use integration::istio::tools::Program;
use serde_json::{Value, json};

use crate::Case;

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "the_injector_keeps_what_the_gateways_pods_are_rendered_with",
        needs: &[Program::Istioctl],
        body: the_injector_keeps_what_the_gateways_pods_are_rendered_with,
    },
    Case {
        name: "the_injector_of_its_revision_takes_the_gateways_pods",
        needs: &[Program::Istioctl],
        body: the_injector_of_its_revision_takes_the_gateways_pods,
    },
];

/// Runs `istioctl` with nothing to read and no cluster to ask.
fn istioctl(folder: &Path, arguments: &[&str]) -> Result<Vec<Value>> {
    let text = command::text(
        Program::Istioctl
            .command()?
            .args(arguments)
            .current_dir(folder)
            .env("KUBECONFIG", "/dev/null")
            .stdin(Stdio::null()),
    )?;
    let documents = text.split("\n---").filter(|text| !text.trim().is_empty());
    documents
        .map(|text| Ok(serde_saphyr::from_str(text)?))
        .collect()
}

/// The injector's own settings, as the charts in istioctl install them.
fn injector(folder: &Path) -> Result<()> {
    let installed = istioctl(folder, &["manifest", "generate"])?;
    for (name, key) in [
        ("istio-sidecar-injector", "config"),
        ("istio-sidecar-injector", "values"),
        ("istio", "mesh"),
    ] {
        let mut maps = installed.iter().filter(|object| {
            is(object, "/kind", "ConfigMap") && is(object, "/metadata/name", name)
        });
        let text = maps.find_map(|map| map.pointer(&format!("/data/{key}"))?.as_str());
        fs::write(
            folder.join(key),
            text.with_context(|| format!("no {name} {key}"))?,
        )?;
    }
    Ok(())
}

fn is(object: &Value, pointer: &str, value: &str) -> bool {
    object.pointer(pointer).is_some_and(|found| found == value)
}

const POD: &str = "/spec/template/spec";

fn proxy(deployment: &Value) -> Result<&Value> {
    let containers = deployment.pointer(&format!("{POD}/containers"));
    let containers = containers
        .and_then(Value::as_array)
        .context("no containers")?;
    let mut proxies = containers
        .iter()
        .filter(|one| is(one, "/name", "istio-proxy"));
    proxies.next().context("no proxy")
}

/// What is rendered there is there after the injection, and nothing more.
fn stays(before: &Value, after: &Value, pointer: &str) -> Result<()> {
    let (before, after) = (before.pointer(pointer), after.pointer(pointer));
    ensure!(
        before.is_some() && before == after,
        "{pointer}: {before:?} became {after:?}"
    );
    Ok(())
}

fn the_injector_keeps_what_the_gateways_pods_are_rendered_with() -> Result<()> {
    let files = tempfile::tempdir()?;
    let folder = files.path();
    injector(folder)?;
    let mut install = reference::install()?;
    install.spec.gateway.deployment = Some(serde_json::from_value(json!({}))?);
    let rendered = reference::of(&install, &[reference::policy()?])?;
    let mut objects = rendered.objects().iter();
    let deployment = objects.find(|object| object.kind() == "Deployment");
    let text = deployment.context("no Deployment")?.yaml();
    fs::write(folder.join("deployment.yaml"), &text)?;
    let before: Value = serde_saphyr::from_str(&text)?;
    let injected = istioctl(
        folder,
        &[
            "kube-inject",
            "--revision=default",
            "--injectConfigFile=config",
            "--meshConfigFile=mesh",
            "--valuesFile=values",
            "--filename=deployment.yaml",
        ],
    )?;
    let mut injected = injected.iter();
    let after = injected.find(|object| is(object, "/kind", "Deployment"));
    let after = after.context("nothing was injected")?;
    let (ours, theirs) = (proxy(&before)?, proxy(after)?);
    ensure!(!is(theirs, "/image", "auto"), "no proxy was injected");
    // The injector's own probe asks another port; nothing of it is left.
    for field in ["/readinessProbe", "/resources"] {
        stays(ours, theirs, field)?;
    }
    for field in ["terminationGracePeriodSeconds", "topologySpreadConstraints"] {
        stays(&before, after, &format!("{POD}/{field}"))?;
    }
    let context = ours.pointer("/securityContext").and_then(Value::as_object);
    for field in context.context("no context")?.keys() {
        stays(ours, theirs, &format!("/securityContext/{field}"))?;
    }
    Ok(())
}

/// The webhooks by which this revision's injector is called for a pod in a namespace, as
/// `istioctl` installs them.
fn called(revision: &str, namespace: &Value, pod: &Value) -> Result<Vec<String>> {
    let folder = tempfile::tempdir()?;
    let mut arguments = vec!["manifest".to_owned(), "generate".to_owned()];
    if revision != "default" {
        arguments.push(format!("--set=revision={revision}"));
    }
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let installed = istioctl(folder.path(), &arguments)?;
    let webhooks = installed
        .iter()
        .filter(|object| is(object, "/kind", "MutatingWebhookConfiguration"))
        .filter_map(|object| object.pointer("/webhooks")?.as_array())
        .flatten();
    let mut called = Vec::new();
    for webhook in webhooks {
        let selects = |selector: &str, labels| {
            let selector = webhook.get(selector).unwrap_or(&Value::Null);
            is_selected(selector, labels)
        };
        if selects("namespaceSelector", namespace)? && selects("objectSelector", pod)? {
            let name = webhook.get("name").and_then(Value::as_str);
            called.push(name.context("a webhook without a name")?.to_owned());
        }
    }
    Ok(called)
}

/// A `LabelSelector` of Kubernetes.
fn is_selected(selector: &Value, labels: &Value) -> Result<bool> {
    let exact = selector.get("matchLabels").and_then(Value::as_object);
    let mut exact = exact.into_iter().flatten();
    let mut all = exact.all(|(key, value)| labels.get(key) == Some(value));
    let expressions = selector.get("matchExpressions").and_then(Value::as_array);
    for one in expressions.into_iter().flatten() {
        let found = one["key"].as_str().and_then(|key| labels.get(key));
        let values = one["values"].as_array();
        let listed = found.is_some_and(|found| values.is_some_and(|all| all.contains(found)));
        all &= match one["operator"].as_str() {
            Some("In") => listed,
            Some("NotIn") => !listed,
            Some("Exists") => found.is_some(),
            Some("DoesNotExist") => found.is_none(),
            other => bail!("operator {other:?}"),
        };
    }
    Ok(all)
}

/// Whatever the namespace is labelled with: the pods say themselves whose they are.
fn the_injector_of_its_revision_takes_the_gateways_pods() -> Result<()> {
    let mut install = reference::install()?;
    install.spec.gateway.deployment = Some(serde_json::from_value(json!({}))?);
    let pod = |install: &egress_render::Install| -> Result<Value> {
        let rendered = reference::of(install, &[reference::policy()?])?;
        let mut objects = rendered.objects().iter();
        let deployment = objects.find(|object| object.kind() == "Deployment");
        let manifest = deployment.context("no Deployment")?.manifest();
        let labels = manifest.pointer("/spec/template/metadata/labels");
        labels.cloned().context("no labels")
    };
    let bare = json!({"kubernetes.io/metadata.name": "istio-egress"});
    let labelled = json!({"kubernetes.io/metadata.name": "istio-egress", "istio.io/rev": "canary"});
    let default = pod(&install)?;
    install.spec.istio.revision = Some("canary".to_owned());
    let canary = pod(&install)?;
    for (revision, namespace, pod, wanted) in [
        ("canary", &bare, &canary, 1),
        ("canary", &labelled, &canary, 1),
        ("default", &bare, &canary, 0),
        ("default", &bare, &default, 1),
        ("canary", &bare, &default, 0),
    ] {
        let called = called(revision, namespace, pod)?;
        ensure!(
            called.len() == wanted,
            "{revision}, {namespace}, {pod}: {called:?}"
        );
    }
    Ok(())
}
