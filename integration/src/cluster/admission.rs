//! The tables of admission cases, answered by a real API server.
//!
//! It is one of its own beside the cluster's, with its own state in the same etcd and without
//! controllers, so that what a row has there before stays as the row says. All policies of the tables
//! are on it at once. Each judges the requests of its table alone, told apart by a group of the user,
//! since an API server names only one of the policies that refuse something.

mod server;

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use egress_render::admission_tables::{self, Bound, Row, Table};
use serde_json::{Value, json};

use super::mesh;
use super::node::Node;
use crate::envoy::eventually_within;
use server::{As, Method, Server};

/// Who asks where a row does not say.
const TENANT: &str = "tenant";

/// What the API server says to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    /// It would do it.
    Accepted,
    /// An admission policy refuses it, with this message.
    Refused(String),
    /// Something else does.
    Invalid(String),
}

/// How a table fared.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its name.
    pub table: String,
    /// How many of its rows the API server answers as the table says.
    pub agree: usize,
    /// The other rows, with what the API server says.
    pub differ: Vec<String>,
}

/// Hands every row of every table to an API server.
///
/// # Errors
/// If it does not start, or takes none of a table's rows.
pub fn run(node: &Node) -> Result<Vec<Outcome>> {
    let tables = admission_tables::all()?;
    let server = Server::start(node)?;
    prepare(&server, &tables)?;
    let outcomes = tables.iter().map(|table| replay(&server, table));
    outcomes.collect()
}

/// Definitions, namespaces, rights and policies.
fn prepare(server: &Server, tables: &[Table]) -> Result<()> {
    let istio = mesh::istio()?.into_iter();
    for definition in istio.filter(|object| text(object, "/kind") == "CustomResourceDefinition") {
        define(server, &definition)?;
    }
    server.make(&json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "tables"},
        // All but the admission policies: some ask who may change them.
        "rules": [{"apiGroups": groups(), "resources": ["*"], "verbs": ["*"]}],
    }))?;
    server.make(&json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "tables"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "tables"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:authenticated"}],
    }))?;
    let mut bound: Vec<(Bound, Vec<String>)> = Vec::new();
    for table in tables {
        for one in table.bound()? {
            let same = |other: &&mut (Bound, Vec<String>)| other.0.policy == one.policy;
            match bound.iter_mut().find(same) {
                Some((_, groups)) => groups.push(group(table)),
                None => bound.push((one, vec![group(table)])),
            }
        }
    }
    for (definition, _) in missing_kinds(server, tables, &bound)? {
        define(server, &definition)?;
    }
    let objects = tables.iter().flat_map(|table| &table.cases);
    let namespaces: BTreeSet<_> = objects
        .map(|row| text(&row.object, "/metadata/namespace"))
        .filter(|name| !name.is_empty())
        .collect();
    for name in namespaces {
        server
            .make(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}))?;
    }
    for (one, groups) in &bound {
        server.make(&of_groups(&one.policy, groups)?)?;
        server.make(&one.binding)?;
    }
    in_force(server, tables)
}

/// Makes a definition, and waits until all its versions are served.
fn define(server: &Server, definition: &Value) -> Result<()> {
    server.make(definition)?;
    let spec = definition.get("spec").context("no specification")?;
    let (group, kind) = (text(spec, "/group"), text(spec, "/names/kind"));
    let versions = spec.get("versions").and_then(Value::as_array);
    for version in versions.into_iter().flatten() {
        let version = format!("{group}/{}", text(version, "/name"));
        server.collection(&json!({"apiVersion": version, "kind": kind}))?;
    }
    Ok(())
}

/// The groups of the API whose objects the rows are about.
fn groups() -> [&'static str; 8] {
    [
        "",
        "discovery.k8s.io",
        "extensions.istio.io",
        "gateway.networking.k8s.io",
        "gateway.networking.x-k8s.io",
        "networking.istio.io",
        "networking.k8s.io",
        "security.istio.io",
    ]
}

/// The group that requests of a table have.
fn group(table: &Table) -> String {
    format!("table:{}", table.name)
}

/// The policy, for the requests of these groups.
fn of_groups(policy: &Value, groups: &[String]) -> Result<Value> {
    let groups: Vec<_> = groups.iter().map(|group| format!("'{group}'")).collect();
    let expression = format!(
        "has(request.userInfo.groups) && request.userInfo.groups.exists(group, group in [{}])",
        groups.join(", ")
    );
    let mut policy = policy.clone();
    let spec = policy.pointer_mut("/spec").and_then(Value::as_object_mut);
    let conditions = spec.context("a policy without a specification")?;
    let conditions = conditions
        .entry("matchConditions")
        .or_insert_with(|| json!([]));
    let conditions = conditions.as_array_mut().context("no conditions")?;
    conditions.push(json!({"name": "table", "expression": expression}));
    Ok(policy)
}

/// Open definitions of the kinds in tables that neither Kubernetes nor Istio defines.
fn missing_kinds(
    server: &Server,
    tables: &[Table],
    bound: &[(Bound, Vec<String>)],
) -> Result<Vec<(Value, String)>> {
    let mut missing: Vec<(Value, String)> = Vec::new();
    for row in tables.iter().flat_map(|table| &table.cases) {
        let (version, kind) = (text(&row.object, "/apiVersion"), text(&row.object, "/kind"));
        let (group, version_name) = version.split_once('/').unwrap_or(("", version));
        let name = format!("{version} {kind}");
        if missing.iter().any(|(_, other)| *other == name)
            || server.resource(version, kind)?.is_some()
        {
            continue;
        }
        let plural = format!("{}s", kind.to_lowercase());
        ensure!(
            bound
                .iter()
                .any(|(one, _)| one.policy.to_string().contains(&format!("\"{plural}\""))),
            "no policy is about {plural}"
        );
        let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
        missing.push((
            json!({
                "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
                "metadata": {
                    "name": format!("{plural}.{group}"),
                    "annotations": {"api-approved.kubernetes.io": "unapproved, for a test"},
                },
                "spec": {
                    "group": group, "scope": "Namespaced",
                    "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase()},
                    "versions": [{
                        "name": version_name, "served": true, "storage": true,
                        "schema": {"openAPIV3Schema": open},
                    }],
                },
            }),
            name,
        ));
    }
    Ok(missing)
}

/// Waits until every policy is in force: it refuses something that its table says it does.
fn in_force(server: &Server, tables: &[Table]) -> Result<()> {
    for table in tables {
        let refused = |row: &&Row| !row.refused.is_empty() && row.invalid.is_none();
        let rows: Vec<_> = table.cases.iter().filter(refused).collect();
        let patience = Duration::from_secs(30);
        eventually_within(patience, &format!("a refusal of {}", table.name), || {
            let answers = rows.iter().map(|row| ask(server, table, row));
            answers
                .into_iter()
                .any(|answer| matches!(answer, Ok(Answer::Refused(_))))
        })?;
    }
    Ok(())
}

fn replay(server: &Server, table: &Table) -> Result<Outcome> {
    let mut outcome = Outcome {
        table: table.name.clone(),
        agree: 0,
        differ: Vec::new(),
    };
    for row in &table.cases {
        match ask(server, table, row) {
            Ok(answer) if agrees(row, &answer) => outcome.agree += 1,
            Ok(answer) => outcome.differ.push(format!("{}: {answer:?}", row.case)),
            Err(error) => outcome.differ.push(format!("{}: {error:#}", row.case)),
        }
    }
    ensure!(outcome.agree > 0, "{}: {:?}", table.name, outcome.differ);
    Ok(outcome)
}

/// Whether the API server says what the row does. It gives the first of a policy's messages.
fn agrees(row: &Row, answer: &Answer) -> bool {
    if let Some(expected) = &row.invalid {
        return matches!(answer, Answer::Invalid(why) if why.contains(expected));
    }
    match answer {
        Answer::Accepted => row.refused.is_empty(),
        Answer::Refused(why) => row.refused.first().is_some_and(|expected| {
            match expected.strip_prefix("cannot be evaluated: ") {
                Some(_) => why.contains("resulted in error"),
                None => why == expected,
            }
        }),
        Answer::Invalid(_) => false,
    }
}

/// Asks for what a row asks for, as its user.
fn ask(server: &Server, table: &Table, row: &Row) -> Result<Answer> {
    let user = As {
        name: if row.user.is_empty() {
            TENANT
        } else {
            &row.user
        },
        groups: row
            .admin
            .then(|| "system:masters".to_owned())
            .into_iter()
            .chain([group(table)])
            .collect(),
        node: row.node.as_deref(),
    };
    if text(&row.object, "/kind") == "Binding" {
        return bind(server, row, &user);
    }
    let mut object = row.object.clone();
    if !row.before.is_null() {
        let change = difference(&row.before, &object);
        return changed(server, &row.before, &change, &user);
    }
    // A pod is made without ephemeral containers, and is given them afterwards.
    let spec = object.pointer_mut("/spec").and_then(Value::as_object_mut);
    if let Some(containers) = spec.and_then(|spec| spec.remove("ephemeralContainers")) {
        let change = json!({"spec": {"ephemeralContainers": containers}});
        return changed(server, &object, &change, &user);
    }
    let path = format!("{}?dryRun=All", server.collection(&object)?);
    let said = server.ask(Method::Post, &path, Some(&object), Some(&user))?;
    Ok(answer(said))
}

/// Binds a pod, which is there before.
fn bind(server: &Server, row: &Row, user: &As<'_>) -> Result<Answer> {
    let metadata = row.object.get("metadata").context("no metadata")?;
    let place = json!({"name": metadata.get("name"), "namespace": metadata.get("namespace")});
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": place,
        "spec": {"containers": [{"name": "app", "image": "registry.example/app:1"}]},
    });
    server.make(&pod)?;
    let path = format!("{}/binding?dryRun=All", server.path(&pod)?);
    let said = server.ask(Method::Post, &path, Some(&row.object), Some(user))?;
    server.remove(&pod)?;
    Ok(answer(said))
}

/// Makes an object, asks to change it, and to delete it, and takes it away.
fn changed(server: &Server, before: &Value, change: &Value, user: &As<'_>) -> Result<Answer> {
    let mut object = before.clone();
    let status = object
        .as_object_mut()
        .and_then(|object| object.remove("status"));
    let metadata = object
        .pointer_mut("/metadata")
        .and_then(Value::as_object_mut);
    let metadata = metadata.context("no metadata")?;
    let ends = metadata.remove("deletionTimestamp").is_some();
    metadata.remove("deletionGracePeriodSeconds");
    if ends {
        metadata
            .entry("finalizers")
            .or_insert_with(|| json!(["example/kept"]));
    }
    server.make(&object)?;
    let path = server.path(&object)?;
    if let Some(status) = status {
        let status = json!({"status": status});
        let path = format!("{path}/status");
        server.done(Method::Patch, &path, Some(&status))?;
    }
    if ends {
        server.done(Method::Delete, &path, None)?;
    }
    let part = if change.get("status").is_some() {
        "/status"
    } else if change.pointer("/spec/ephemeralContainers").is_some() {
        "/ephemeralcontainers"
    } else {
        ""
    };
    let target = format!("{path}{part}?dryRun=All");
    let said = server.ask(Method::Patch, &target, Some(change), Some(user))?;
    let target = format!("{path}?dryRun=All");
    let deleted = server.ask(Method::Delete, &target, None, Some(user))?;
    server.remove(&object)?;
    if let Some(why) = deleted {
        bail!("it cannot be deleted: {why}");
    }
    Ok(answer(said))
}

/// What the API server said to a request, if it refused it.
fn answer(refusal: Option<String>) -> Answer {
    let Some(said) = refusal else {
        return Answer::Accepted;
    };
    let policy = said.contains("ValidatingAdmissionPolicy '");
    match said.split_once(" denied request: ") {
        Some((_, why)) if policy => Answer::Refused(why.to_owned()),
        _ => Answer::Invalid(said),
    }
}

/// The merge patch that makes one of the other, but for what the API server itself writes.
fn difference(before: &Value, object: &Value) -> Value {
    let (Value::Object(old), Value::Object(new)) = (before, object) else {
        return object.clone();
    };
    let mut patch = serde_json::Map::new();
    for key in old.keys().chain(new.keys()) {
        let own = ["deletionTimestamp", "deletionGracePeriodSeconds"].contains(&&**key);
        let (before, object) = (old.get(key), new.get(key));
        if own || before == object {
            continue;
        }
        let change = match (before, object) {
            (_, None) => Value::Null,
            (None, Some(object)) => object.clone(),
            (Some(before), Some(object)) => difference(before, object),
        };
        patch.insert(key.clone(), change);
    }
    Value::Object(patch)
}

fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{Answer, answer, difference};
    use serde_json::json;

    #[test]
    fn a_change_is_what_differs() {
        let before = json!({"metadata": {"name": "x", "finalizers": ["a"], "deletionTimestamp": "t"}, "spec": {"a": [1], "b": 2}});
        let object = json!({"metadata": {"name": "x"}, "spec": {"a": [1, 3], "b": 2, "c": {}}});
        let patch = json!({"metadata": {"finalizers": null}, "spec": {"a": [1, 3], "c": {}}});
        assert_eq!(difference(&before, &object), patch);
    }

    #[test]
    fn only_a_policy_s_answer_is_a_refusal() {
        let said = "pods \"p\" is forbidden: ValidatingAdmissionPolicy 'x' with binding 'x' denied request: no";
        assert_eq!(
            answer(Some(said.to_owned())),
            Answer::Refused("no".to_owned())
        );
        let said = "Pod \"p\" is invalid: spec.containers: Required value";
        assert_eq!(
            answer(Some(said.to_owned())),
            Answer::Invalid(said.to_owned())
        );
        assert_eq!(answer(None), Answer::Accepted);
    }
}
