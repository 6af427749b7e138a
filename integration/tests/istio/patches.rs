//! What tests change in the configuration of a real mesh, so that a stock Envoy can run it: what the
//! control plane serves to the tests' proxies is compared with what it serves of the reference case
//! as it is, and every difference has to be in `fixtures/istio/test-differences.yaml`.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use egress_render::Rendered;
use integration::envoy::eventually;
use integration::istio::reference;
use integration::istio::testbed::{Bench, Plan, install};
use integration::istio::tools::Program;
use integration::workspace;
use serde::Deserialize;
use serde_json::Value;

cases!(
    &[Program::Istiod];
    tests_change_nothing_else_than_is_listed,
);

/// A difference that is known.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    /// What makes it, and why.
    why: String,
    /// Whose configuration.
    of: Vec<Role>,
    /// The path, with `*` for whatever stands there.
    at: String,
    /// What is served of the reference case, in the same way; nothing is there if left out.
    mesh: Option<String>,
    /// What is served to tests.
    tests: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Role {
    Gateway,
    Sidecar,
}

/// A field that is served otherwise.
#[derive(Debug)]
struct Difference {
    at: String,
    mesh: Option<String>,
    tests: Option<String>,
}

const PROXIES: [(Role, &str); 3] = [
    (Role::Gateway, "egress-0.istio-egress"),
    (Role::Sidecar, "app1-0.app1-ns"),
    (Role::Sidecar, "app2-0.app2-ns"),
];

fn tests_change_nothing_else_than_is_listed() -> Result<()> {
    let policies = [reference::policy()?];
    let rendered = reference::of(&install()?, &policies)?;
    let mut bench = Bench::start(&Plan::of(&rendered))?;
    let all = |bench: &Bench, rendered: &Rendered| -> Result<Vec<Value>> {
        let names = classes(rendered)?;
        let served = PROXIES.iter().map(|(_, proxy)| bench.served(proxy));
        served.map(|dump| same_names(&dump?, &names)).collect()
    };
    let tests = all(&bench, &rendered)?;
    // A stock Envoy refuses this, and goes on asking for what it has asked for before.
    let rendered = reference::of(&reference::install()?, &policies)?;
    let mut plan = Plan::of(&rendered);
    plan.metadata_exchange = true;
    bench.update(&plan)?;
    let mut mesh = Vec::new();
    eventually("every proxy to be served the reference case", || {
        mesh = all(&bench, &rendered).unwrap_or_default();
        let whole = |(mesh, tests): (&Value, &Value)| parts(mesh) == parts(tests);
        mesh.len() == PROXIES.len() && mesh.iter().zip(&tests).all(whole)
    })
    .with_context(|| format!("{:?}", mesh.iter().map(parts).collect::<Vec<_>>()))?;

    let file = workspace::root().join("integration/fixtures/istio/test-differences.yaml");
    let known: Vec<Known> = serde_saphyr::from_str(&std::fs::read_to_string(file)?)?;
    let mut used = vec![false; known.len()];
    let mut unknown = Vec::new();
    for ((role, proxy), (mesh, tests)) in PROXIES.iter().zip(mesh.iter().zip(&tests)) {
        let mut differences = Vec::new();
        compare(Some(mesh), Some(tests), "", &mut differences);
        for found in differences {
            let is_it = |known: &Known| known.of.contains(role) && known.is(&found);
            match known.iter().position(is_it) {
                Some(at) => used
                    .iter_mut()
                    .skip(at)
                    .take(1)
                    .for_each(|used| *used = true),
                None => unknown.push(format!("{proxy}: {found:?}")),
            }
        }
    }
    ensure!(unknown.is_empty(), "not listed: {}", unknown.join("\n"));
    let unused = known.iter().zip(used).filter(|(_, used)| !used);
    let unused: Vec<_> = unused
        .map(|(known, _)| format!("{} ({})", known.at, known.why))
        .collect();
    ensure!(unused.is_empty(), "listed, and not there: {unused:#?}");
    Ok(())
}

/// The hashes by which a rendering calls address classes and their caches, in an order that does not
/// depend on them. The resolver and the family are in them.
fn classes(rendered: &Rendered) -> Result<Vec<String>> {
    let mut objects = rendered.objects().iter();
    let plugin = objects
        .find(|object| object.name() == "egress-warden-http" && object.kind() == "WasmPlugin");
    let plugin = plugin.context("no plugin")?.manifest();
    let listed = plugin.pointer("/spec/pluginConfig/addressClasses");
    let listed = listed.and_then(Value::as_array).context("no classes")?;
    let names = listed
        .iter()
        .filter_map(|class| class.get("name")?.as_str().map(str::to_owned));
    let text = rendered.yaml();
    let (_, literal) = text
        .split_once("egress-warden-literal-")
        .context("no cache for numbers")?;
    let literal = literal.get(..8).context("it has no hash")?.to_owned();
    Ok(names.chain([literal]).collect())
}

/// A dump in which the classes have the same names whatever is in them.
fn same_names(dump: &Value, names: &[String]) -> Result<Value> {
    let mut text = dump.to_string();
    for (i, name) in names.iter().enumerate() {
        text = text.replace(name, &format!("class{i}"));
    }
    let mut dump = serde_json::from_str(&text)?;
    open(&mut dump);
    Ok(dump)
}

/// Reads the plugin's configuration, which is text in a string, so that it is compared field by field;
/// without the machines: a module in a file has more of them.
fn open(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(open),
        Value::Object(fields) => fields.values_mut().for_each(open),
        Value::String(text) => {
            let mut inner = serde_json::from_str(text).unwrap_or_default();
            let Some(limits) = Value::pointer_mut(&mut inner, "/limits") else {
                return;
            };
            for field in ["machines", "streamMachines"] {
                limits
                    .as_object_mut()
                    .and_then(|limits| limits.remove(field));
            }
            *value = inner;
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// How much there is of each part of a dump.
fn parts(dump: &Value) -> Vec<usize> {
    let configs = dump.get("configs").and_then(Value::as_array);
    let size = |config: &Value| {
        let lists = config.as_object().into_iter().flatten();
        lists
            .filter_map(|(_, list)| list.as_array().map(Vec::len))
            .sum()
    };
    configs.into_iter().flatten().map(size).collect()
}

impl Known {
    fn is(&self, found: &Difference) -> bool {
        let same = |known: &Option<String>, found: &Option<String>| match (known, found) {
            (Some(known), Some(found)) => matches(known, found),
            (known, found) => known.is_none() && found.is_none(),
        };
        matches(&self.at, &found.at)
            && same(&self.mesh, &found.mesh)
            && same(&self.tests, &found.tests)
    }
}

/// Whether a text is a pattern with `*` for anything.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else {
        return false;
    };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.split_once(part) {
            Some((_, behind)) => rest = behind,
            None => return false,
        }
    }
    true
}

/// When and by which push something was served.
const TIMES: [&str; 3] = [
    "versionInfo",
    "lastUpdated",
    "ISTIO_META_WASM_PLUGIN_RESOURCE_VERSION",
];

fn compare(mesh: Option<&Value>, tests: Option<&Value>, at: &str, into: &mut Vec<Difference>) {
    match (mesh, tests) {
        (Some(Value::Object(mesh)), Some(Value::Object(tests))) => {
            let keys = mesh
                .keys()
                .chain(tests.keys().filter(|key| !mesh.contains_key(*key)));
            for key in keys.filter(|key| !TIMES.contains(&&***key)) {
                compare(mesh.get(key), tests.get(key), &format!("{at}/{key}"), into);
            }
        }
        (Some(Value::Array(mesh)), Some(Value::Array(tests))) => lists(mesh, tests, at, into),
        (mesh, tests) if mesh == tests => {}
        (mesh, tests) => into.push(Difference {
            at: at.to_owned(),
            mesh: mesh.map(Value::to_string),
            tests: tests.map(Value::to_string),
        }),
    }
}

/// Lists of resources, each of which stands for itself. What is tried one after the other has an order.
const UNORDERED: [&str; 4] = [
    "/dynamicActiveClusters",
    "/dynamicListeners",
    "/dynamicRouteConfigs",
    "/ecdsFilters",
];

/// Entries of the same name are compared with each other, and have to come in the same order.
fn lists(mesh: &[Value], tests: &[Value], at: &str, into: &mut Vec<Difference>) {
    let (Some(mesh_names), Some(tests_names)) = (names(mesh), names(tests)) else {
        if mesh.len() == tests.len() {
            for (i, (mesh, tests)) in mesh.iter().zip(tests).enumerate() {
                compare(Some(mesh), Some(tests), &format!("{at}/{i}"), into);
            }
        } else {
            let text = |list: &[Value]| Some(Value::from(list.to_vec()).to_string());
            let (at, mesh, tests) = (at.to_owned(), text(mesh), text(tests));
            into.push(Difference { at, mesh, tests });
        }
        return;
    };
    let find = |names: &[String], list: &'_ [Value], name: &String| -> Option<Value> {
        list.get(names.iter().position(|other| other == name)?)
            .cloned()
    };
    let both = |names: &[String], others: &[String]| -> Vec<String> {
        names
            .iter()
            .filter(|name| others.contains(name))
            .cloned()
            .collect()
    };
    let (first, second) = (
        both(&mesh_names, &tests_names),
        both(&tests_names, &mesh_names),
    );
    let resources = UNORDERED.iter().any(|list| at.ends_with(list));
    if first != second && !resources {
        into.push(Difference {
            at: format!("{at}, in order"),
            mesh: Some(first.join(" ")),
            tests: Some(second.join(" ")),
        });
    }
    let added = tests_names.iter().filter(|name| !mesh_names.contains(name));
    for name in mesh_names.iter().chain(added) {
        let (mesh, tests) = (
            find(&mesh_names, mesh, name),
            find(&tests_names, tests, name),
        );
        compare(mesh.as_ref(), tests.as_ref(), &format!("{at}/{name}"), into);
    }
}

/// The names of a list's entries, or of what stands in them, if each has one of its own.
fn names(list: &[Value]) -> Option<Vec<String>> {
    let names: Vec<_> = list.iter().map(name).collect::<Option<_>>()?;
    let once: BTreeSet<_> = names.iter().collect();
    (once.len() == names.len()).then_some(names)
}

fn name(entry: &Value) -> Option<String> {
    let inside = [
        "/name",
        "/cluster/name",
        "/routeConfig/name",
        "/ecdsFilter/name",
        "/ecdsFilter/config/name",
        "/@type",
    ];
    let name = inside
        .iter()
        .find_map(|field| entry.pointer(field)?.as_str());
    // Of a message's type the last word.
    name.map(|name| match name.strip_prefix("type.googleapis.com/") {
        Some(kind) => kind.rsplit('.').next().unwrap_or(kind).to_owned(),
        None => name.to_owned(),
    })
}
