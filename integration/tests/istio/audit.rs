//! What the audit of a gateway's live configuration finds: each of a list of changes, made to the
//! configuration dump of a running gateway (`fixtures/istio/changes.yaml`).

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use egress_render::Install;
use integration::istio::reference;
use integration::istio::testbed::{Bench, Plan, install};
use integration::istio::tools::Program;
use integration::workspace;
use serde::Deserialize;
use serde_json::Value;

cases!(
    &[Program::Istiod];
    every_change_to_the_live_configuration_is_found,
    every_field_of_what_is_rendered_counts,
);

/// A change, and a part of what the finding says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    what: String,
    at: String,
    merge: Option<Value>,
    first: Option<Value>,
    last: Option<Value>,
    change: Option<Change>,
    finding: String,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Change {
    Gone,
    Twice,
}

fn every_change_to_the_live_configuration_is_found() -> Result<()> {
    let policies = [reference::policy()?];
    let bench = Bench::start(&Plan::of(&reference::of(&install()?, &policies)?))?;
    let groups = [
        "chains", "filters", "routes", "clusters", "inner", "module", "unread",
    ];
    let dump = bench.dump()?;
    are_found(&dump, &install()?, &policies, &groups)?;
    // A log that nobody asked for is found too.
    let mut silent = install()?;
    silent.spec.gateway.access_log = false;
    let found = reference::audited(&dump, &silent, &policies)?;
    for listener in ["0.0.0.0_8080", "0.0.0.0_8443", "egress-warden-tls"] {
        let named = found.iter().find(|problem| {
            let text = problem.to_string();
            text.contains(listener) && text.contains("access_log")
        });
        named.with_context(|| format!("{listener}: {found:#?}"))?;
    }
    Ok(())
}

/// Whether nothing is found in a dump, and every change of these groups is.
pub(crate) fn are_found(
    dump: &Value,
    install: &Install,
    policies: &[Value],
    groups: &[&str],
) -> Result<()> {
    let found = reference::audited(dump, install, policies)?;
    ensure!(found.is_empty(), "unchanged: {found:#?}");
    let file = workspace::root().join("integration/fixtures/istio/changes.yaml");
    let text = std::fs::read_to_string(file)?;
    let text = text.replace("${CLASS}", &class(dump)?);
    let mut file: BTreeMap<String, Value> = serde_saphyr::from_str(&text)?;
    let mut missed = Vec::new();
    for group in groups {
        let rows = file.remove(*group).context("no such group")?;
        let rows: Vec<Row> = serde_json::from_value(rows)?;
        ensure!(!rows.is_empty(), "{group} is empty");
        for row in rows {
            let changed = row.applied(dump).with_context(|| row.what.clone())?;
            ensure!(changed != *dump, "{}: nothing changes", row.what);
            let found = reference::audited(&changed, install, policies)?;
            let found: Vec<_> = found.iter().map(ToString::to_string).collect();
            if !found.iter().any(|found| found.contains(&row.finding)) {
                let Row { what, finding, .. } = &row;
                missed.push(format!("{what}: no `{finding}` in {found:#?}"));
            }
        }
    }
    ensure!(missed.is_empty(), "{}", missed.join("\n"));
    Ok(())
}

/// The name of an address class that the gateway has for names.
fn class(dump: &Value) -> Result<String> {
    let clusters =
        pointer(dump, &["configs", "@type~ClustersConfigDump"]).context("no clusters")?;
    let clusters = dump.pointer(&format!("{clusters}/dynamic_active_clusters"));
    let clusters = clusters.and_then(Value::as_array).into_iter().flatten();
    let mut names = clusters.filter_map(|entry| entry.pointer("/cluster/name")?.as_str());
    let class = names.find_map(|name| {
        let class = name.strip_prefix("warden-tls-")?;
        (class.len() == 8).then(|| class.to_owned())
    });
    class.context("no class")
}

/// What is rendered whole.
const RENDERED: [&str; 20] = [
    "INNER",
    "configs/@type~ListenersConfigDump/dynamic_listeners/name~egress-warden-ready/active_state/listener",
    "HTTP-MANAGER/http_filters/name~egress-warden.principal",
    "HTTP-MANAGER/http_filters/name~egress-warden.peer-metadata",
    "HTTP-MANAGER/http_filters/name~egress-warden.lock",
    "TUNNEL-MANAGER/http_filters/name~egress-warden.carry",
    "HTTP-MANAGER/local_reply_config",
    "HTTP-MANAGER/access_log/name~egress-warden.access",
    "HTTP-HOST/routes/name=http-80",
    "HTTP-HOST/routes/name=http-80-${CLASS}",
    "TUNNEL-HOST/routes/name=tls-443",
    "TUNNEL-HOST/routes/name=tcp",
    "TUNNEL-HOST/routes/name=tcp-literal",
    "CLUSTER warden-http",
    "CLUSTER warden-http-${CLASS}",
    "CLUSTER warden-tcp-${CLASS}",
    "CLUSTER warden-tls",
    "CLUSTER warden-tls-literal",
    "CLUSTER warden-tls-inner",
    "EXTENSION egress-warden.tls",
];

/// Each field, at any depth, taken away and changed, and another one added to each object.
fn every_field_of_what_is_rendered_counts() -> Result<()> {
    let policies = [reference::policy()?];
    let install = install()?;
    let bench = Bench::start(&Plan::of(&reference::of(&install, &policies)?))?;
    let dump = bench.dump()?;
    let mut missed = Vec::new();
    let class = class(&dump)?;
    for root in RENDERED {
        let path = whole(&root.replace("${CLASS}", &class));
        let segments: Vec<_> = path.split('/').collect();
        let root = pointer(&dump, &segments).with_context(|| format!("no {path}"))?;
        let mut fields = Vec::new();
        below(dump.pointer(&root).context("gone")?, &root, &mut fields);
        // What kind of resource it is the dump says anew with each.
        fields.retain(|field| *field != root && *field != format!("{root}/@type"));
        // One network of a cache says as much as all of them.
        fields.retain(|field| {
            let range = field.split_once("/resolved_address_filter/ranges/");
            range.is_none_or(|(_, range)| range == "0" || range.starts_with("0/"))
        });
        ensure!(!fields.is_empty(), "{path} is empty");
        for field in fields {
            for change in [taken_away, changed] {
                let mut dump = dump.clone();
                change(&mut dump, &field).with_context(|| field.clone())?;
                if reference::audited(&dump, &install, &policies)?.is_empty() {
                    missed.push(field.clone());
                }
            }
        }
    }
    ensure!(missed.is_empty(), "{missed:#?}");
    Ok(())
}

/// The pointers of a value and of everything in it.
fn below(value: &Value, at: &str, into: &mut Vec<String>) {
    into.push(at.to_owned());
    match value {
        Value::Array(entries) => {
            for (i, entry) in entries.iter().enumerate() {
                below(entry, &format!("{at}/{i}"), into);
            }
        }
        Value::Object(fields) => {
            for (key, field) in fields {
                below(field, &format!("{at}/{key}"), into);
            }
        }
        _ => {}
    }
}

fn taken_away(dump: &mut Value, at: &str) -> Result<()> {
    let (parent, last) = at.rsplit_once('/').context("the root")?;
    match dump.pointer_mut(parent).context("no parent")? {
        Value::Array(entries) => drop(entries.remove(last.parse()?)),
        other => drop(other.as_object_mut().and_then(|fields| fields.remove(last))),
    }
    Ok(())
}

fn changed(dump: &mut Value, at: &str) -> Result<()> {
    let value = dump.pointer_mut(at).context("gone")?;
    match value {
        Value::Array(entries) => entries.push("another".into()),
        Value::Object(fields) => drop(fields.insert("another".to_owned(), true.into())),
        Value::String(text) => text.push('x'),
        Value::Bool(value) => *value = !*value,
        Value::Number(_) | Value::Null => *value = 99_999.into(),
    }
    Ok(())
}

/// A path from the dump's root on. Its words stand for resources.
fn whole(path: &str) -> String {
    let listener = "configs/@type~ListenersConfigDump/dynamic_listeners/name~";
    let manager = "active_state/listener/filter_chains/0/filters/0/typed_config";
    let routes = "configs/@type~.RoutesConfigDump/dynamic_route_configs/";
    let ecds = "configs/@type~EcdsConfigDump/ecds_filters/ecds_filter:name~";
    let (word, rest) = path
        .split_once('/')
        .map_or((path, ""), |(word, rest)| (word, rest));
    let from = match word {
        "HTTP" => format!("{listener}_8080/active_state/listener"),
        "TUNNEL" => format!("{listener}_8443/active_state/listener"),
        "HTTP-MANAGER" => format!("{listener}_8080/{manager}"),
        "TUNNEL-MANAGER" => format!("{listener}_8443/{manager}"),
        "INNER" => format!("{listener}egress-warden-tls/active_state/listener"),
        "READY" => format!("{listener}egress-warden-ready/{manager}"),
        "HTTP-ROUTES" => format!("{routes}route_config:name~https.8080/route_config"),
        "TUNNEL-ROUTES" => format!("{routes}route_config:name~https.8443/route_config"),
        "HTTP-HOST" => format!("{routes}route_config:name~https.8080/route_config/virtual_hosts/0"),
        "TUNNEL-HOST" => {
            format!("{routes}route_config:name~https.8443/route_config/virtual_hosts/0")
        }
        "CLUSTERS" => "configs/@type~ClustersConfigDump/dynamic_active_clusters".to_owned(),
        word => match word.split_once(' ') {
            Some(("CLUSTER", name)) => format!(
                "configs/@type~ClustersConfigDump/dynamic_active_clusters/cluster:name={name}/cluster"
            ),
            Some(("EXTENSION", name)) => format!("{ecds}{name}/ecds_filter"),
            _ => word.to_owned(),
        },
    };
    format!("{from}/{rest}").trim_end_matches('/').to_owned()
}

/// The JSON pointer of a path: `FIELD~TEXT` is the entry of a list whose field contains the text,
/// `FIELD=TEXT` the one whose field is the text, `FIELD:FIELD~TEXT` the same one field deeper.
fn pointer(value: &Value, path: &[&str]) -> Option<String> {
    let Some((first, rest)) = path.split_first() else {
        return Some(String::new());
    };
    let step = |key: &str, value: &Value| Some(format!("/{key}{}", pointer(value, rest)?));
    match (first.split_once(['~', '=']), value) {
        (Some((field, text)), Value::Array(entries)) => {
            let whole = first.as_bytes().get(field.len()) == Some(&b'=');
            let is_it = |entry: &Value| {
                let found = entry.pointer(&format!("/{}", field.replace(':', "/")));
                found
                    .and_then(Value::as_str)
                    .is_some_and(|found| found == text || !whole && found.contains(text))
            };
            let mut entries = entries.iter().enumerate().filter(|(_, entry)| is_it(entry));
            entries.find_map(|(i, entry)| step(&i.to_string(), entry))
        }
        (None, Value::Array(entries)) => step(first, entries.get(first.parse::<usize>().ok()?)?),
        (_, Value::Object(fields)) => step(first, fields.get(*first)?),
        _ => None,
    }
}

impl Row {
    /// The dump with this change.
    fn applied(&self, dump: &Value) -> Result<Value> {
        let mut dump = dump.clone();
        let path = whole(&self.at);
        let segments: Vec<_> = path.split('/').collect();
        let pointer = pointer(&dump, &segments).with_context(|| format!("no {path}"))?;
        if let Some(fields) = &self.merge {
            merge(dump.pointer_mut(&pointer).context("gone")?, fields);
        }
        if let Some(entry) = &self.first {
            list(&mut dump, &pointer)?.insert(0, entry.clone());
        }
        if let Some(entry) = &self.last {
            list(&mut dump, &pointer)?.push(entry.clone());
        }
        match self.change {
            Some(Change::Gone) => taken_away(&mut dump, &pointer)?,
            Some(Change::Twice) => {
                let (parent, _) = pointer.rsplit_once('/').context("the root")?;
                let entry = dump.pointer(&pointer).context("gone")?.clone();
                list(&mut dump, parent)?.push(entry);
            }
            None => {}
        }
        Ok(dump)
    }
}

fn list<'v>(dump: &'v mut Value, pointer: &str) -> Result<&'v mut Vec<Value>> {
    let value = dump.pointer_mut(pointer).and_then(Value::as_array_mut);
    value.with_context(|| format!("no list at {pointer}"))
}

fn merge(value: &mut Value, fields: &Value) {
    let (Value::Object(into), Value::Object(fields)) = (&mut *value, fields) else {
        value.clone_from(fields);
        return;
    };
    for (key, field) in fields {
        if field.is_null() {
            into.remove(key);
        } else {
            merge(into.entry(key).or_insert(Value::Null), field);
        }
    }
}
