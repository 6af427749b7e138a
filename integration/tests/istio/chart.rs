//! The Helm chart and the kustomization around a rendering: they install what is rendered and
//! nothing else, by our own reading and, where they are there, by Helm and kubectl themselves.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use egress_render::chart::{self, File};
use egress_render::install::Deployment;
use integration::command;
use integration::istio::reference;
use integration::istio::tools::Program;
use integration::workspace;
use serde_json::Value;

use crate::Case;

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "the_committed_chart_is_what_is_rendered",
        needs: &[],
        body: the_committed_chart_is_what_is_rendered,
    },
    Case {
        name: "the_charts_own_values_install_what_is_rendered",
        needs: &[],
        body: the_charts_own_values_install_what_is_rendered,
    },
    Case {
        name: "helm_installs_what_is_rendered",
        needs: &[Program::Helm],
        body: helm_installs_what_is_rendered,
    },
    Case {
        name: "kustomize_builds_what_is_rendered",
        needs: &[Program::Kubectl],
        body: kustomize_builds_what_is_rendered,
    },
];

fn folder() -> PathBuf {
    workspace::root().join("istio/chart")
}

fn files() -> Result<Vec<File>> {
    let files = chart::files(&reference::install()?, &[reference::policy()?]);
    files.map_err(|problems| anyhow::anyhow!("{problems:?}"))
}

/// Objects by kind, namespace and name.
type Objects = BTreeMap<[String; 3], Value>;

fn objects(yaml: &str) -> Result<Objects> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(yaml)?;
    let mut objects = Objects::new();
    for document in documents {
        let text = |pointer: &str| {
            let value = document.pointer(pointer).and_then(Value::as_str);
            value.unwrap_or_default().to_owned()
        };
        let key = ["/kind", "/metadata/namespace", "/metadata/name"].map(text);
        let other = objects.insert(key.clone(), document);
        ensure!(other.is_none(), "{key:?} is there twice");
    }
    Ok(objects)
}

/// What `warden render` gives with the gateway's Deployment.
fn rendered(change: impl FnOnce(&mut Deployment)) -> Result<Objects> {
    let mut install = reference::install()?;
    change(install.spec.gateway.deployment.get_or_insert_default());
    objects(&reference::of(&install, &[reference::policy()?])?.yaml())
}

fn same(found: &Objects, wanted: &Objects) -> Result<()> {
    let keys = |objects: &Objects| objects.keys().cloned().collect::<Vec<_>>();
    ensure!(keys(found) == keys(wanted), "{:?}", keys(found));
    for (key, object) in wanted {
        let other = found.get(key);
        ensure!(other == Some(object), "{key:?}: {other:#?}\nnot {object:#}");
    }
    Ok(())
}

/// `WARDEN_BLESS=1` writes the files anew.
fn the_committed_chart_is_what_is_rendered() -> Result<()> {
    let folder = folder();
    let files = files()?;
    if std::env::var_os("WARDEN_BLESS").is_some() {
        // What is no longer rendered goes; a missing folder is no error here.
        let _ = std::fs::remove_dir_all(&folder);
        for (name, text) in &files {
            let path = folder.join(name);
            std::fs::create_dir_all(path.parent().context("no folder")?)?;
            std::fs::write(path, text)?;
        }
    }
    let mut committed = Vec::new();
    list(&folder, &folder, &mut committed)?;
    committed.sort();
    let mut wanted = files;
    wanted.sort();
    for ((name, text), (found, committed)) in wanted.iter().zip(&committed) {
        ensure!(
            name == found && text == committed,
            "istio/chart/{name} is not what is rendered; write it anew with WARDEN_BLESS=1"
        );
    }
    ensure!(committed.len() == wanted.len(), "files of the chart differ");
    Ok(())
}

fn list(folder: &Path, root: &Path, files: &mut Vec<File>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            list(&path, root, files)?;
        } else {
            let name = path.strip_prefix(root)?.to_string_lossy().into_owned();
            files.push((name, std::fs::read_to_string(path)?));
        }
    }
    Ok(())
}

/// The three forms that the chart's templates use; any other is an error.
fn fill(template: &str, values: &Value, heap: u64) -> Result<String> {
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{ ") {
        let (form, after) = after.split_once(" }}").context("an open template")?;
        let words: Vec<_> = form.split(' ').collect();
        let value = |path: &str| {
            let pointer = path
                .strip_prefix(".Values")
                .context("no value")?
                .replace('.', "/");
            values
                .pointer(&pointer)
                .with_context(|| format!("no {path}"))
        };
        text.push_str(before);
        text.push_str(&match words.as_slice() {
            ["toJson", path] => value(path)?.to_string(),
            ["add", path, more] => {
                let number = value(path)?.as_u64().context("no number")?;
                (number + more.parse::<u64>()?).to_string()
            }
            // Counted from two values; Helm does in its own test.
            ["include", "\"egress-warden.heap\"", "."] => heap.to_string(),
            _ => bail!("the template `{form}` is not known here"),
        });
        rest = after;
    }
    ensure!(!rest.contains("{{"), "a template is left");
    Ok(text + rest)
}

/// What the chart installs with these values, by our own reading of it.
fn installed(files: &[File], values: &Value, heap: u64) -> Result<Objects> {
    let mut texts = Vec::new();
    for (name, text) in files {
        if name == "templates/gateway.yaml" {
            texts.push(fill(text, values, heap)?);
        } else if name.starts_with("rendered/") {
            texts.push(text.clone());
        }
    }
    objects(&texts.join("---\n"))
}

fn the_charts_own_values_install_what_is_rendered() -> Result<()> {
    let files = files()?;
    let text = files.iter().find(|(name, _)| name == "values.yaml");
    let (_, text) = text.context("no values")?;
    let mut values: Value = serde_saphyr::from_str(text)?;
    let wanted = rendered(|_| {})?;
    same(&installed(&files, &values, heap(&wanted)?)?, &wanted)?;
    // Every value does what the setting of its name does.
    let gateway = values.get_mut("gateway").context("no gateway")?;
    *gateway = changed();
    let settings: Deployment = serde_json::from_value(changed())?;
    let wanted = rendered(|deployment| *deployment = settings)?;
    same(&installed(&files, &values, heap(&wanted)?)?, &wanted)
}

/// The bytes of Envoy's heap in these objects.
fn heap(objects: &Objects) -> Result<u64> {
    let bootstrap = objects
        .iter()
        .find(|([kind, ..], _)| kind == "ConfigMap")
        .and_then(|(_, object)| object.pointer("/data/custom_bootstrap.json")?.as_str());
    let bootstrap: Value = serde_json::from_str(bootstrap.context("no bootstrap")?)?;
    let heap = bootstrap
        .pointer("/overload_manager/resource_monitors/0/typed_config/max_heap_size_bytes")
        .and_then(Value::as_u64);
    heap.context("no heap")
}

/// Every setting of the gateway's Deployment, none at its default.
fn changed() -> Value {
    serde_json::json!({
        "minReplicas": 3,
        "maxReplicas": 30,
        "cpuPercent": 55,
        "drainSeconds": 7200,
        "resources": {"requests": {"cpu": "2", "memory": "2Gi"}, "limits": {"memory": "4Gi"}},
        "nodeSelector": {"pool": "egress"},
        "tolerations": [{"key": "egress", "operator": "Exists"}],
    })
}

fn helm(arguments: &[&str], folder: &Path) -> Result<String> {
    command::text(Program::Helm.command()?.args(arguments).arg(folder))
}

fn helm_installs_what_is_rendered() -> Result<()> {
    helm(&["lint", "--strict"], &folder())?;
    let template = ["template", "egress-warden"];
    same(&objects(&helm(&template, &folder())?)?, &rendered(|_| {})?)?;
    let values = tempfile::NamedTempFile::new()?;
    std::fs::write(
        &values,
        serde_json::json!({"gateway": changed()}).to_string(),
    )?;
    let file = values.path().to_string_lossy();
    let arguments = [template[0], template[1], "--values", &*file];
    let settings: Deployment = serde_json::from_value(changed())?;
    let wanted = rendered(|deployment| *deployment = settings)?;
    same(&objects(&helm(&arguments, &folder())?)?, &wanted)?;
    // What `warden render` refuses Helm refuses too.
    for (value, refused) in [
        ("drainSeconds=3600", None),
        ("drainSeconds=3599", Some("streams take up to 3600 s")),
        ("resources.limits.memory=2147483648", None),
        (
            "resources.limits.memory=250Mi",
            Some("gateway.resources.limits.memory: the policies need"),
        ),
        (
            "resources.limits.memory=lots",
            Some("lots is no quantity of memory"),
        ),
        (
            "resources.limits=null",
            Some("gateway.resources.limits.memory: state it"),
        ),
    ] {
        let set = format!("--set=gateway.{value}");
        let installed = helm(&[template[0], template[1], &set], &folder());
        let said = installed.err().map(|error| error.to_string());
        let as_wanted = match (&said, refused) {
            (None, None) => true,
            (Some(said), Some(refused)) => said.contains(refused),
            _ => false,
        };
        ensure!(as_wanted, "{value}: {said:?}");
    }
    Ok(())
}

fn kustomize_builds_what_is_rendered() -> Result<()> {
    let base = reference::folder().join("rendered");
    let built = command::text(Program::Kubectl.command()?.arg("kustomize").arg(base))?;
    let built = objects(&built)?;
    same(&built, &objects(&reference::rendered()?.yaml())?)
}
