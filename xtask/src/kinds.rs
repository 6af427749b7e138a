//! The fields of every kind that a tenant may write, off the pinned Istio, Gateway API and
//! Kubernetes: what the verdicts of `render/src/guardrails/kinds.yaml` are compared with.
//!
//! Listed are the fields that take a text, a port or anything at all. A truth value, a number that
//! is no port, a quantity, a duration, a time and a word of a closed list can name nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::run::{output, progress, root};

/// Writes the lists.
pub(crate) fn write() -> Result<()> {
    let folder = root().join("render/src/guardrails/kinds");
    std::fs::create_dir_all(&folder)?;
    for (name, text) in [
        ("istio.txt", istio()?),
        ("gateway-api.txt", gateway_api()?),
        ("kubernetes.txt", kubernetes()?),
    ] {
        std::fs::write(folder.join(name), text)?;
        progress(&format!("{name} is written"));
    }
    Ok(())
}

/// The version of a module that the project's own control plane is built with.
fn pinned(module: &str) -> Result<String> {
    let text = std::fs::read_to_string(root().join("integration/istiod/go.mod"))?;
    let mut lines = text.lines().map(str::split_whitespace);
    let version = lines.find_map(|mut words| {
        (words.next() == Some(module)).then(|| words.next().map(str::to_owned))?
    });
    version.with_context(|| format!("go.mod does not pin {module}"))
}

/// A module's folder, by the Go module proxy.
fn download(module: &str, version: &str) -> Result<PathBuf> {
    let mut go = Command::new("go");
    go.args(["mod", "download", "-json", &format!("{module}@{version}")]);
    let said = output(go.current_dir(std::env::temp_dir()))?;
    let said: Value = serde_json::from_str(&said).context("go mod download")?;
    let folder = said.get("Dir").and_then(Value::as_str);
    let folder = folder.with_context(|| format!("{module}@{version}: {said}"))?;
    Ok(PathBuf::from(folder))
}

fn head(module: &str, version: &str, file: &str) -> String {
    format!(
        "# {module} {version}: {file}\n\
         # Written by `cargo xtask kinds`. Every field that takes a text, a port or anything at all.\n"
    )
}

fn istio() -> Result<String> {
    let (module, file) = (
        "istio.io/istio",
        "manifests/charts/base/files/crd-all.gen.yaml",
    );
    let version = pinned(module)?;
    let folder = download(module, &version)?;
    let kinds = resources(&[folder.join(file)])?;
    Ok(head(module, &version, file) + &kinds)
}

fn gateway_api() -> Result<String> {
    let (module, file) = ("sigs.k8s.io/gateway-api", "config/crd/experimental");
    let version = pinned(module)?;
    let folder = download(module, &version)?.join(file);
    let mut files: Vec<_> = std::fs::read_dir(folder)?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    files.sort();
    files.retain(|file| {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("gateway.")
    });
    Ok(head(module, &version, file) + &resources(&files)?)
}

/// The kinds of these files' custom resource definitions, each with its fields in all versions.
fn resources(files: &[PathBuf]) -> Result<String> {
    let mut kinds = BTreeMap::new();
    for file in files {
        for definition in documents(file)? {
            if definition.get("kind").and_then(Value::as_str) != Some("CustomResourceDefinition") {
                continue;
            }
            let text = |pointer: &str| {
                let found = definition.pointer(pointer).and_then(Value::as_str);
                found.with_context(|| format!("{}: no {pointer}", file.display()))
            };
            let kind = format!("{}/{}", text("/spec/group")?, text("/spec/names/kind")?);
            let scope = text("/spec/scope")?.to_lowercase();
            let mut fields = BTreeSet::new();
            let versions = definition
                .pointer("/spec/versions")
                .and_then(Value::as_array);
            for version in versions.into_iter().flatten() {
                let schema = version.pointer("/schema/openAPIV3Schema");
                let properties = schema.and_then(|schema| schema.get("properties"));
                for (name, schema) in properties.and_then(Value::as_object).into_iter().flatten() {
                    if !["apiVersion", "kind", "metadata"].contains(&name.as_str()) {
                        paths(schema, name, &mut fields);
                    }
                }
            }
            ensure!(!fields.is_empty(), "{kind} has no fields");
            kinds.insert(kind, (scope, fields));
        }
    }
    let mut text = String::new();
    for (kind, (scope, fields)) in kinds {
        writeln!(text, "{kind} {scope}")?;
        for field in fields {
            writeln!(text, "  {field}")?;
        }
    }
    Ok(text)
}

fn documents(file: &Path) -> Result<Vec<Value>> {
    let text = std::fs::read_to_string(file)?;
    serde_saphyr::from_multiple(&text).with_context(|| file.display().to_string())
}

/// The paths of a schema's fields: `[]` is any entry of a list, `{}` any value of a map, `*` any
/// field that the schema does not name and lets through.
fn paths(schema: &Value, path: &str, into: &mut BTreeSet<String>) {
    let is = |word: &str| schema.get(word).and_then(Value::as_bool) == Some(true);
    if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
        if is("x-kubernetes-preserve-unknown-fields") {
            into.insert(format!("{path}.*"));
        }
        for (name, field) in properties {
            paths(field, &format!("{path}.{name}"), into);
        }
        return;
    }
    if let Some(values) = schema
        .get("additionalProperties")
        .filter(|values| values.is_object())
    {
        // A map's keys are texts, too.
        into.insert(format!("{path}{{}}"));
        paths(values, &format!("{path}{{}}"), into);
        return;
    }
    if let Some(items) = schema.get("items") {
        paths(items, &format!("{path}[]"), into);
        return;
    }
    let kind = schema.get("type").and_then(Value::as_str);
    let name = path.rsplit('.').next().unwrap_or(path);
    let taken = match kind {
        _ if is("x-kubernetes-int-or-string") || schema.get("enum").is_some() => {
            is("x-kubernetes-int-or-string")
        }
        Some("boolean") => false,
        Some("integer" | "number") => is_port(name),
        Some("string") => !is_time(schema),
        _ => true,
    };
    if taken {
        into.insert(path.to_owned());
    }
}

fn is_port(name: &str) -> bool {
    name.to_lowercase().contains("port") || name == "number"
}

/// Times and durations.
fn is_time(schema: &Value) -> bool {
    let format = schema.get("format").and_then(Value::as_str);
    let rules = schema.get("x-kubernetes-validations").map(Value::to_string);
    format == Some("date-time") || rules.is_some_and(|rules| rules.contains("duration(self)"))
}

fn kubernetes() -> Result<String> {
    let (module, file) = ("k8s.io/kubernetes", "api/openapi-spec/swagger.json");
    // k8s.io/api v0.N.P is of Kubernetes v1.N.P.
    let version = pinned("k8s.io/api")?.replacen("v0.", "v1.", 1);
    let swagger = download(module, &version)?.join(file);
    let swagger: Value = serde_json::from_str(&std::fs::read_to_string(swagger)?)?;
    let definitions = swagger.get("definitions").and_then(Value::as_object);
    let definitions = definitions.context("no definitions")?;
    let mut text = head(module, &version, file);
    text.push_str(
        "# First the kinds with the version and name of their definition, then the definitions: a \
         field with > is of\n# that definition. Kinds of all clusters are listed without fields.\n",
    );
    let mut wanted = BTreeSet::new();
    let mut cluster = BTreeSet::new();
    for (kind, (namespaced, name)) in scopes(&swagger, definitions) {
        if namespaced {
            writeln!(text, "{kind} namespaced {name}")?;
            wanted.insert(name);
        } else {
            cluster.insert(kind);
        }
    }
    for kind in cluster {
        writeln!(text, "{kind} cluster")?;
    }
    let mut listed: BTreeMap<String, Vec<String>> = BTreeMap::new();
    while let Some(name) = wanted.pop_first() {
        let properties = definitions
            .get(&format!("io.k8s.{name}"))
            .and_then(|definition| definition.get("properties"))
            .and_then(Value::as_object);
        let mut fields = Vec::new();
        for (field, schema) in properties.into_iter().flatten() {
            match found(field, schema, definitions) {
                Found::Nothing => {}
                Found::Leaf => fields.push(field.clone()),
                Found::Other(other) => {
                    fields.push(format!("{field}>{other}"));
                    if !listed.contains_key(&other) {
                        wanted.insert(other);
                    }
                }
            }
        }
        listed.insert(name, fields);
    }
    for (name, fields) in listed {
        writeln!(text, "{}", [&[name], &*fields].concat().join(" "))?;
    }
    Ok(text)
}

/// Kinds that can be written, whether in namespaces, and their definitions.
fn scopes(
    swagger: &Value,
    definitions: &serde_json::Map<String, Value>,
) -> BTreeMap<String, (bool, String)> {
    let mut kinds = BTreeMap::new();
    let paths = swagger.get("paths").and_then(Value::as_object);
    for (path, operations) in paths.into_iter().flatten() {
        for operation in operations
            .as_object()
            .into_iter()
            .flat_map(|all| all.values())
        {
            let text = |pointer: &str| operation.pointer(pointer).and_then(Value::as_str);
            let written = ["post", "put", "connect"];
            let action = text("/x-kubernetes-action");
            if !action.is_some_and(|action| written.contains(&action)) {
                continue;
            }
            let part = |part: &str| {
                let part = text(&format!("/x-kubernetes-group-version-kind/{part}"));
                part.unwrap_or_default().to_owned()
            };
            let (group, version, kind) = (part("group"), part("version"), part("kind"));
            let is_it = |of: &Value| {
                of.get("group").and_then(Value::as_str) == Some(&group)
                    && of.get("version").and_then(Value::as_str) == Some(&version)
                    && of.get("kind").and_then(Value::as_str) == Some(&kind)
            };
            let name = definitions.iter().find_map(|(name, definition)| {
                let of = definition
                    .get("x-kubernetes-group-version-kind")?
                    .as_array()?;
                of.iter().any(is_it).then(|| short(name))
            });
            let group = if group.is_empty() { "core" } else { &group };
            let entry = kinds
                .entry(format!("{group}/{version}/{kind}"))
                .or_insert_with(|| (false, name.unwrap_or_else(|| "-".to_owned())));
            entry.0 |= path.contains("{namespace}");
        }
    }
    kinds
}

fn short(name: &str) -> String {
    name.trim_start_matches("io.k8s.").to_owned()
}

/// What a field of a definition takes.
enum Found {
    Nothing,
    Leaf,
    Other(String),
}

fn found(field: &str, schema: &Value, definitions: &serde_json::Map<String, Value>) -> Found {
    if ["apiVersion", "kind", "metadata"].contains(&field) && schema.get("items").is_none() {
        return Found::Nothing;
    }
    if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
        let name = name.trim_start_matches("#/definitions/");
        let text = ["Time", "Quantity"].iter().any(|end| name.ends_with(end));
        let definition = definitions.get(name);
        return match definition.and_then(|definition| definition.get("properties")) {
            Some(_) => Found::Other(short(name)),
            None if text => Found::Nothing,
            None => Found::Leaf,
        };
    }
    let inside = schema
        .get("items")
        .or_else(|| schema.get("additionalProperties"));
    if let Some(inside) = inside {
        return match found(field, inside, definitions) {
            // A map's keys are texts.
            Found::Nothing if schema.get("additionalProperties").is_some() => Found::Leaf,
            other => other,
        };
    }
    match schema.get("type").and_then(Value::as_str) {
        Some("boolean") => Found::Nothing,
        Some("integer" | "number") if !is_port(field) => Found::Nothing,
        _ => Found::Leaf,
    }
}
