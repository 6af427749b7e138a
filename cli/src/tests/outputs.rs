//! What `--output json` writes, held to its schema.

use clap::ValueEnum;
use serde_json::{Value, json};

use super::support::{Folder, MODULE, REFERENCE};
use crate::commands::schema::{Command, output_schema, output_schemas};
use crate::schema::settings_schema;

#[test]
fn the_committed_schemas_are_these() {
    let committed = include_str!("../../../docs/output.schema.json");
    assert_eq!(
        committed,
        format!("{:#}\n", output_schemas()),
        "run `warden schema --outputs > docs/output.schema.json`"
    );
}

/// Panics where a command's output is not what its schema says. Commands without one are passed
/// over.
pub(crate) fn is_as_documented(command: &str, written: &Value) {
    if let Ok(command) = Command::from_str(command, false) {
        let schema = output_schema(command);
        let wrong = wrong(&schema, &schema, written, "");
        assert!(
            wrong.is_empty(),
            "{}: {wrong:#?}\n{written:#}",
            command.as_str()
        );
    }
}

/// The outputs of a few runs; those of all other tests are held to the schemas as they are made.
#[test]
fn every_output_has_its_schema_and_keeps_to_it() {
    let folder = Folder::with(&[
        ("seed.yaml", REFERENCE),
        (
            "mesh.yaml",
            "kind: Sidecar\nmetadata: {namespace: app1-ns, name: mine}\n---\nkind: Namespace\nmetadata: {name: app1-ns}\n---\nkind: Pod\nmetadata: {namespace: app1-ns, name: p}\n",
        ),
        ("dump.json", "{}"),
        ("new.yaml", &REFERENCE.replace("[22]", "[22, 2222]")),
        (
            "install.yaml",
            include_str!("../../../istio/reference/install.yaml"),
        ),
        (
            "cases.yaml",
            "policies: [seed.yaml]\ncases:\n- name: no\n  from: {workload: a/b}\n  to: {authority: a.example, port: 80}\n  expect: {verdict: Accept, policy: seed, tier: a, rule: b, reason: rule}\n",
        ),
    ]);
    folder.write_bytes("module.wasm", MODULE);
    let render = "render --install install.yaml --history renders seed.yaml";
    assert_eq!(folder.warden(render).exit, 0);
    let kept = folder.names("renders").pop().unwrap();
    let hash = kept.split('.').nth(1).unwrap();
    let rollback = format!("rollback {hash} --history renders");
    for command in Command::ALL {
        let line = match command {
            Command::Check => "check seed.yaml",
            Command::Explain => "explain seed.yaml --from app1-ns/a --to http://api.github.com/x",
            Command::Who => "who seed.yaml --to *.github.com",
            Command::What => "what seed.yaml --from app1-ns",
            Command::Test => "test cases.yaml",
            Command::Diff => "diff seed.yaml new.yaml",
            Command::Doctor => {
                "doctor --install install.yaml --namespaces mesh.yaml --pods mesh.yaml seed.yaml"
            }
            Command::Render => "render --install install.yaml --adopt mesh.yaml seed.yaml",
            Command::Verify => "verify --gateway dump.json --install install.yaml seed.yaml",
            Command::Package => "package --module module.wasm --layout image.tar",
            Command::Fmt => "fmt seed.yaml",
            Command::Docs => "docs seed.yaml",
            Command::Rollback => rollback.as_str(),
            Command::Revoke => "revoke app1-ns/app1 --owner o --reason r seed.yaml",
        };
        let ran = folder.warden(&format!("{line} --output json"));
        assert!(ran.json().is_object(), "{ran:?}");
        let printed = folder.warden(&format!("schema --output-of {}", command.as_str()));
        assert_eq!(printed.json(), output_schema(command));
    }
}

/// The schema of install settings takes and refuses what the reader does. (A number as a text is read,
/// and an editor says that it should be quoted.)
#[test]
fn settings_are_read_as_their_schema_says() {
    let printed = Folder::with(&[]).warden("schema --settings").json();
    assert_eq!(printed, settings_schema());
    let settings = json!({
        "apiVersion": "egress-warden.io/v1alpha1",
        "kind": "EgressGateway",
        "spec": {
            "istio": {"version": "1.31", "revision": null},
            "gateway": {
                "namespace": "g", "service": "g", "serviceAccount": "g", "selector": {"a": "b"},
                "api": "Kubernetes", "ports": {"http": 1, "tunnel": 2}, "podFamily": "V6",
                "deployment": {"resources": {"limits": {"memory": "1Gi"}}, "tolerations": [{}]},
            },
            "module": {"url": "file:///m.wasm"},
            "workloads": {"namespaces": ["a"], "scopes": {"a": ["./*"]}},
            "inspection": [{"name": "d", "address": "10.0.0.9", "port": 1, "protocol": "CONNECT"}],
            "dns": {"resolvers": ["10.0.0.1"]},
            "tunnel": {
                "names": "DNSCapture", "nameRange": "240.241.0.0/16", "windowMiB": 1,
                "exceptions": [{"framing": "HTTP1", "ports": [1, "2-3"], "networks": ["10.0.0.0/8"]}],
            },
            "cluster": {
                "networks": {"pods": "registered", "services": ["10.0.0.0/8"], "nodes": []},
                "adminPolicies": {"api": "ClusterNetworkPolicy"},
            },
            "limits": {"streams": 1},
        },
    });
    let schema = settings_schema();
    let agree = |settings: &Value, fine: bool| {
        let found = wrong(&schema, &schema, settings, "");
        assert_eq!(found.is_empty(), fine, "{found:?}\n{settings:#}");
        let read = egress_render::Install::read(&settings.to_string());
        assert_eq!(read.is_ok(), fine, "{read:?}");
    };
    agree(&settings, true);
    for (pointer, value) in [
        ("/spec/more", json!(1)),
        ("/spec/gateway/more", json!(1)),
        ("/spec/gateway/namespace", json!(["g"])),
        ("/spec/gateway/api", json!("istio")),
        ("/spec/gateway/ports/http", json!(65_536)),
        ("/spec/gateway/ports/tunnel", json!(null)),
        ("/spec/tunnel/names", json!("dns")),
        ("/spec/tunnel/exceptions/0/ports", json!([[1]])),
        ("/spec/cluster/networks/pods", json!("all")),
        ("/spec/cluster/networks/services", json!("10.0.0.0/8")),
        ("/spec/limits/streams", json!(-1)),
        ("/spec/workloads", json!({})),
    ] {
        let mut settings = settings.clone();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        settings.pointer_mut(parent).unwrap()[name] = value;
        agree(&settings, false);
    }
}

#[test]
fn the_validator_finds_what_is_wrong() {
    let mut schema = output_schema(Command::Doctor);
    let finding = schema["$defs"]["doctor"]["anyOf"][0].take();
    schema["$defs"]["doctor"] = finding;
    for (output, expected) in [
        (json!({}), "findings is missing"),
        (json!({"findings": 1}), "/findings: 1 is no array"),
        (json!({"findings": [], "more": 1}), "more is not named"),
        (
            json!({"findings": [{"setting": "a", "wanted": "b", "found": 1, "health": "ok", "why": ""}]}),
            "/findings/0/found: 1 is no string|null",
        ),
        (
            json!({"findings": [{"setting": "a", "wanted": "b", "found": null, "health": "fine", "why": ""}]}),
            "/findings/0/health: \"fine\" is not listed",
        ),
    ] {
        let found = wrong(&schema, &schema, &output, "");
        assert!(
            found.iter().any(|found| found.ends_with(expected)),
            "{output}: {found:?}"
        );
    }
}

/// Keywords that say nothing about values.
const SILENT: [&str; 14] = [
    "$schema",
    "$id",
    "examples",
    // What the decoders look at by themselves.
    "pattern",
    "minLength",
    "uniqueItems",
    "dependentRequired",
    "minProperties",
    "propertyNames",
    "$defs",
    "title",
    "description",
    "default",
    "format",
];

/// What is wrong with a value by as much of JSON Schema 2020-12 as the schemas use. Another keyword
/// panics, so that none is passed over.
pub(crate) fn wrong(schema: &Value, root: &Value, value: &Value, at: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (keyword, says) in schema.as_object().unwrap() {
        match keyword.as_str() {
            word if SILENT.contains(&word) => {}
            "$ref" => {
                let path = says.as_str().unwrap().trim_start_matches('#');
                found.extend(wrong(root.pointer(path).unwrap(), root, value, at));
            }
            "type" => {
                let types: Vec<&str> = match says {
                    Value::Array(types) => types.iter().map(|t| t.as_str().unwrap()).collect(),
                    one => vec![one.as_str().unwrap()],
                };
                if !types.contains(&type_of(value)) {
                    found.push(format!("{at}: {value} is no {}", types.join("|")));
                }
            }
            "enum" if !says.as_array().unwrap().contains(value) => {
                found.push(format!("{at}: {value} is not listed"));
            }
            "const" if says != value => found.push(format!("{at}: {value} is not {says}")),
            "maximum" if value.as_u64().is_some_and(|n| n > says.as_u64().unwrap()) => {
                found.push(format!("{at}: {value} is too large"));
            }
            "minimum"
                if value.is_number()
                    && value.as_u64().is_none_or(|n| n < says.as_u64().unwrap()) =>
            {
                found.push(format!("{at}: {value} is too small"));
            }
            "anyOf" | "oneOf" => {
                let mut any = says.as_array().unwrap().iter();
                if !any.any(|one| wrong(one, root, value, at).is_empty()) {
                    found.push(format!("{at}: {value} is none of these"));
                }
            }
            "items" => {
                for (i, item) in value.as_array().into_iter().flatten().enumerate() {
                    found.extend(wrong(says, root, item, &format!("{at}/{i}")));
                }
            }
            "required" => {
                let names = says.as_array().unwrap().iter();
                let names = names.map(|name| name.as_str().unwrap());
                let missing = names.filter(|name| value.is_object() && value.get(name).is_none());
                found.extend(missing.map(|name| format!("{at}: {name} is missing")));
            }
            "properties" => {
                for (name, schema) in says.as_object().unwrap() {
                    if let Some(value) = value.get(name) {
                        found.extend(wrong(schema, root, value, &format!("{at}/{name}")));
                    }
                }
            }
            "additionalProperties" => {
                for (name, more) in value.as_object().into_iter().flatten() {
                    if schema["properties"].get(name).is_some() {
                        continue;
                    }
                    match says {
                        Value::Bool(false) => found.push(format!("{at}: {name} is not named")),
                        Value::Bool(true) => {}
                        says => found.extend(wrong(says, root, more, &format!("{at}/{name}"))),
                    }
                }
            }
            "minItems" | "maxItems" => {
                let count = value.as_array().map_or(0, Vec::len);
                let bound = usize::try_from(says.as_u64().unwrap()).unwrap();
                let is_fine = if keyword == "minItems" {
                    count >= bound
                } else {
                    count <= bound
                };
                if !is_fine {
                    found.push(format!("{at}: {count} items"));
                }
            }
            "const" | "enum" | "minimum" | "maximum" => {}
            other => panic!("the validator does not know `{other}`"),
        }
    }
    found
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
