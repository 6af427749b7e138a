//! JSON Schemas of what `--output json` writes. Every run of a command in the tests is held to
//! them, and a field that they do not name fails there.

use egress_render::adopt::CollisionCode;
use egress_render::doctor::cluster::ClusterFindingCode as Trouble;
use serde_json::{Value, json};

/// The commands with an output in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Command {
    /// `warden check`.
    Check,
    /// `warden explain`.
    Explain,
    /// `warden test`.
    Test,
    /// `warden diff`.
    Diff,
    /// `warden doctor`.
    Doctor,
    /// `warden render`, and its `--adopt`.
    Render,
    /// `warden verify`.
    Verify,
    /// `warden package`.
    Package,
    /// `warden fmt`.
    Fmt,
    /// `warden docs`.
    Docs,
    /// `warden rollback`.
    Rollback,
    /// `warden revoke`.
    Revoke,
}

impl Command {
    /// Every such command.
    pub const ALL: [Self; 12] = [
        Self::Check,
        Self::Explain,
        Self::Test,
        Self::Diff,
        Self::Doctor,
        Self::Render,
        Self::Verify,
        Self::Package,
        Self::Fmt,
        Self::Docs,
        Self::Rollback,
        Self::Revoke,
    ];

    /// Its word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::Explain => "explain",
            Self::Test => "test",
            Self::Diff => "diff",
            Self::Doctor => "doctor",
            Self::Render => "render",
            Self::Verify => "verify",
            Self::Package => "package",
            Self::Fmt => "fmt",
            Self::Docs => "docs",
            Self::Rollback => "rollback",
            Self::Revoke => "revoke",
        }
    }
}

/// All outputs as definitions in one schema (JSON Schema 2020-12).
#[must_use]
pub fn output_schemas() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "What `warden COMMAND --output json` writes: one definition a command",
        "$defs": {
            "check": check(),
            "explain": explain(),
            "test": test(),
            "diff": diff(),
            "doctor": doctor(),
            "render": {"anyOf": [adopt(), rendering()]},
            "verify": {"anyOf": [findings(), verify()]},
            "package": package(),
            "fmt": fmt(),
            "docs": docs(),
            "rollback": rollback(),
            "revoke": revoke(),
            "diagnostic": diagnostic(),
            "place": place(),
            "list": list(),
            "ruling": record("A verdict.", &ruling()),
            "facts": facts(),
            "unknown": unknown(),
        },
    })
}

/// The schema of one command's output.
#[must_use]
pub fn output_schema(command: Command) -> Value {
    let mut schema = output_schemas();
    let reference = json!(format!("#/$defs/{}", command.as_str()));
    super::put(&mut schema, "$ref", reference);
    schema
}

/// A mapping with exactly these fields.
fn record(description: &str, properties: &Value) -> Value {
    let names: Vec<&String> = properties
        .as_object()
        .into_iter()
        .flat_map(|properties| properties.keys())
        .collect();
    json!({
        "description": description,
        "type": "object",
        "additionalProperties": false,
        "required": names,
        "properties": properties,
    })
}

fn list_of(description: &str, items: &Value) -> Value {
    json!({"description": description, "type": "array", "items": items})
}

fn text(description: &str) -> Value {
    json!({"description": description, "type": "string"})
}

fn text_or_null(description: &str) -> Value {
    json!({"description": description, "type": ["string", "null"]})
}

fn count(description: &str) -> Value {
    json!({"description": description, "type": "integer", "minimum": 0})
}

fn flag(description: &str) -> Value {
    json!({"description": description, "type": "boolean"})
}

fn verdict() -> Value {
    json!({"enum": ["Accept", "Deny", "Inspect", "Undecided"]})
}

fn check() -> Value {
    record(
        "Everything that is wrong or doubtful.",
        &json!({
            "files": count("Files read."),
            "policies": count("Policies in them."),
            "rules": count("Rules in these."),
            "errors": count("Diagnostics that refuse a policy."),
            "warnings": count("Diagnostics that do not."),
            "lists": list_of("The lists in files that policies take destinations from.", &json!({"$ref": "#/$defs/list"})),
            "diagnostics": list_of("In the order of files and lines.", &json!({"$ref": "#/$defs/diagnostic"})),
        }),
    )
}

fn diagnostic() -> Value {
    record(
        "One thing to tell about the files that were read.",
        &json!({
            "severity": {"enum": ["note", "warning", "error"]},
            "code": text("A stable word; `warden check --explain CODE` says more."),
            "message": text("What."),
            "hint": text_or_null("What to write instead."),
            "path": text("The path in the document, such as `spec.tiers[0]`; empty if there is none."),
            "place": {"anyOf": [{"$ref": "#/$defs/place"}, {"type": "null"}]},
            "related": list_of("Other places that belong to it.", &record("A place and what it is.", &json!({
                "place": {"$ref": "#/$defs/place"},
                "label": text("What it is."),
            }))),
        }),
    )
}

fn place() -> Value {
    record(
        "A part of a file; lines and columns count from 1, columns in characters.",
        &json!({
            "file": text("The file as it was named, or `<stdin>`."),
            "line": count("First line."),
            "column": count("First column."),
            "endLine": count("Last line."),
            "endColumn": count("The column behind the last."),
        }),
    )
}

fn list() -> Value {
    record(
        "A list in a file.",
        &json!({
            "destination": text("The destination that takes it."),
            "file": text("The file."),
            "date": text("The day on which it was taken, as the policy says."),
            "sha256": text("The digest of its bytes."),
            "entries": count("Names and networks in it."),
        }),
    )
}

/// The fields of a verdict.
fn ruling() -> Value {
    json!({
        "verdict": verdict(),
        "code": text_or_null("The machine's word; null where undecided."),
        "reason": text("A sentence."),
        "rule": text_or_null("`policy/tier/rule`, shorter for defaults, null for refusals of the facts."),
        "inspection": text_or_null("The inspection cluster of Inspect."),
    })
}

fn explain() -> Value {
    let considered = record(
        "A rule or default on the way.",
        &json!({
            "rule": text_or_null("Which."),
            "action": {"enum": ["Accept", "Deny", "Pass", "Inspect"]},
            "shadow": flag("It is only reported."),
            "matches": {"description": "`pending` may still come, `missing` cannot.", "enum": ["true", "false", "pending", "missing"]},
            "leftOut": flag("It denies networks, and where the name leads is still to come: they are left out of the name's addresses, or in shadow not counted."),
            "because": list_of("What it wanted and did not find.", &json!({"type": "string"})),
        }),
    );
    let change = record(
        "How unknown or assumed facts could turn out.",
        &json!({
            "facts": {"description": "Their values, in words.", "type": "object", "additionalProperties": {"type": "string"}},
            "verdict": verdict(),
            "code": text_or_null("Its code."),
            "rule": text_or_null("Its rule."),
        }),
    );
    let class = record(
        "What a gateway leaves out of a name's addresses, beside what no name may lead to.",
        &json!({
            "allowPrivate": flag("RFC 1918, unique local and shared (CGNAT) addresses stay."),
            "refused": list_of("Deny networks.", &json!({"type": "string"})),
        }),
    );
    let mut properties = ruling();
    for (name, schema) in [
        (
            "wouldBe",
            json!({"description": "The verdict without shadow, where it differs.", "anyOf": [{"$ref": "#/$defs/ruling"}, {"type": "null"}]}),
        ),
        (
            "addressClass",
            json!({"description": "Where the name that opens may lead: null for literals, denials, and where the address was given.", "anyOf": [class, {"type": "null"}]}),
        ),
        ("facts", json!({"$ref": "#/$defs/facts"})),
        (
            "assumed",
            list_of("What was taken for granted.", &json!({"type": "string"})),
        ),
        (
            "considered",
            list_of("Rules on the way, in order.", &considered),
        ),
        (
            "lists",
            list_of(
                "The lists that the deciding rule takes destinations from.",
                &json!({"$ref": "#/$defs/list"}),
            ),
        ),
        ("ifKnown", list_of("What would change.", &change)),
    ] {
        super::put(&mut properties, name, schema);
    }
    record("A verdict and why.", &properties)
}

fn unknown() -> Value {
    record(
        "A fact that is not known.",
        &json!({"unknown": {"description": "`pending` may still come, `missing` cannot.", "enum": ["pending", "missing"]}}),
    )
}

/// What is judged. A fact of another protocol is left out.
fn facts() -> Value {
    let unknown = json!({"$ref": "#/$defs/unknown"});
    let fact = |description: &str, known: Value| json!({"description": description, "anyOf": [known, unknown]});
    let string = json!({"type": "string"});
    let string_or_null = json!({"type": ["string", "null"]});
    let claims = record(
        "Peer metadata.",
        &json!({
            "namespace": string,
            "cluster": string_or_null,
            "labels": {"type": "object", "additionalProperties": string},
        }),
    );
    json!({
        "description": "What is judged. Method, path and upgrade are of HTTP alone.",
        "type": "object",
        "additionalProperties": false,
        "required": ["protocol", "caller", "claims", "name", "address", "port", "time"],
        "properties": {
            "protocol": {"enum": ["HTTP", "TLS", "TCP", "UDP"]},
            "caller": fact("The SPIFFE id, or what there is instead.", string.clone()),
            "claims": fact("What the peer says of itself.", claims),
            "name": fact("The destination's name; null where it has none.", string_or_null.clone()),
            "address": fact("Where the gateway connects.", string.clone()),
            "port": fact("The destination's port.", json!({"type": "integer", "minimum": 0})),
            "method": fact("The HTTP method.", string.clone()),
            "path": fact("The path; null where the request has none.", string_or_null.clone()),
            "upgrade": fact("The upgrade that is asked for; null for none.", string_or_null),
            "time": fact("RFC 3339.", string),
            "refused": text("Why the facts themselves are refused."),
        },
    })
}

fn test() -> Value {
    let names = |extra: Value| {
        let mut properties = json!({
            "file": text("The case file."),
            "case": text("The case's name."),
        });
        for (name, schema) in extra.as_object().into_iter().flatten() {
            super::put(&mut properties, name, schema.clone());
        }
        properties
    };
    let failure = names(json!({
        "mismatches": list_of("What was expected and what came.", &json!({"type": "string"})),
    }));
    let case = names(json!({
        "passed": flag("It came out as it says."),
        "verdict": verdict(),
        "code": text_or_null("The code of the last step."),
        "rule": text_or_null("Its rule."),
        "policy": text_or_null("The policy that decided it."),
    }));
    record(
        "What the cases came to.",
        &json!({
            "passed": count("Cases that came out as they say."),
            "failed": count("Cases that did not."),
            "liveOnly": count("Cases that only a running gateway can answer."),
            "failures": list_of("The cases that failed.", &record("A failure.", &failure)),
            "cases": list_of("Every case.", &record("A case.", &case)),
            "rules": count("Rules of the policies."),
            "untouched": list_of("Rules that decide no case.", &json!({"type": "string"})),
        }),
    )
}

fn diff() -> Value {
    let difference = record(
        "A difference in meaning.",
        &json!({
            "change": {"enum": ["gains", "loses", "changes"]},
            "shadow": flag("It is about what would be without shadow."),
            "old": {"$ref": "#/$defs/ruling"},
            "new": {"$ref": "#/$defs/ruling"},
            "examples": list_of("Who and what, in words.", &json!({"type": "string"})),
            "classes": count("Classes of facts that it covers."),
            "witness": {"$ref": "#/$defs/facts"},
        }),
    );
    let tls = record(
        "A change without a verdict that changes.",
        &json!({
            "names": text("The names' pattern."),
            "port": {"type": "integer", "description": "The port at the outside."},
            "old": text_or_null("How before, in words; null where the gateway spoke none."),
            "new": text_or_null("How after."),
        }),
    );
    record(
        "What a change means.",
        &json!({
            "result": {"enum": ["same", "different", "not_decided"]},
            "complete": flag("All classes were compared."),
            "differences": list_of("Those that open first.", &difference),
            "notDecided": list_of("Why the comparison is not complete.", &json!({"type": "string"})),
            "changedRules": count("Rules that one side lacks or has elsewhere."),
            "tls": list_of("Names to which the gateway speaks TLS of its own in another way.", &tls),
            "classes": count("Classes of facts put to both engines."),
        }),
    )
}

fn doctor() -> Value {
    let finding = record(
        "A setting.",
        &json!({
            "revision": text_or_null("The control plane's revision, where the file was given with one."),
            "setting": text("Its name."),
            "wanted": text("What it has to be."),
            "found": text_or_null("What it is."),
            "health": {"enum": ["ok", "advice", "bad", "not asked"]},
            "why": text("What rests on it."),
        }),
    );
    let mut trouble = named();
    for (name, schema) in [
        ("kind", json!({"enum": ["Namespace", "Pod"]})),
        ("code", json!({"enum": Trouble::ALL.map(Trouble::word)})),
        ("health", json!({"enum": ["advice", "bad"]})),
        ("message", text("What would happen.")),
        ("remedy", text("What to do about it.")),
    ] {
        super::put(&mut trouble, name, schema);
    }
    let trouble = record(
        "Something that loses its way out, or goes past the gateway.",
        &trouble,
    );
    let looked = |description: &str| json!({"description": description, "type": ["integer", "null"], "minimum": 0});
    record(
        "The mesh's settings, and the cluster's namespaces and pods.",
        &json!({
            "findings": list_of("Each setting.", &finding),
            "namespaces": looked("Enforced namespaces that were looked at; null without `--namespaces`."),
            "pods": looked("Their pods that were looked at; null without `--pods`."),
            "troubles": list_of("What is wrong with them, sorted by object.", &trouble),
        }),
    )
}

fn adopt() -> Value {
    let codes: Vec<_> = CollisionCode::ALL.iter().map(|code| code.word()).collect();
    let collision = record(
        "An object that is there.",
        &json!({
            "object": text("Kind, namespace and name."),
            "code": {"enum": codes},
            "message": text("What would happen."),
            "remedy": text("What to do about it."),
        }),
    );
    record(
        "What of a mesh's own objects collides with the rendering (`--adopt`).",
        &json!({
            "objects": count("Objects read."),
            "collisions": list_of("Each collision, sorted.", &collision),
        }),
    )
}

/// What names an object.
fn named() -> Value {
    json!({
        "kind": text("Its kind."),
        "namespace": text("Its namespace; empty where it has none."),
        "name": text("Its name."),
    })
}

fn rendering() -> Value {
    let mut fields = named();
    super::put(&mut fields, "file", text("Its file in `--output-dir`."));
    super::put(&mut fields, "bytes", count("Its size as JSON."));
    let object = record("An object.", &fields);
    record(
        "What was rendered.",
        &json!({
            "policy": text("The hash of the policies."),
            "inImage": flag("Whether the module's image has to carry the policies."),
            "pushBytes": count("Bytes of the module's configuration in a push to each gateway pod."),
            "objects": list_of("The objects, in the order in which they are applied.", &object),
            "removed": list_of("Files that were removed from the folder.", &text("Its name.")),
            "warnings": list_of("What is carried out as it is written and probably not meant.", &record("A warning.", &json!({
                "place": text("The rule or field."),
                "message": text("What would happen, and what to write instead."),
            }))),
            "yaml": text_or_null("The objects; null where they are in a folder."),
        }),
    )
}

fn package() -> Value {
    record(
        "The image that was made.",
        &json!({
            "url": text_or_null("`oci://` and where it was pushed; null if it was not."),
            "sha256": text("The manifest's digest, as `spec.module.sha256` states it."),
            "policy": text_or_null("The hash of the policies in it, as `spec.module.policy` states it; null without policies."),
            "module": text("SHA-256 of the module as it was given."),
            "billOfMaterials": text("The digest of the manifest that refers to the image."),
            "bytes": count("Configuration and layers together."),
            "layout": text_or_null("Where an OCI layout was written."),
        }),
    )
}

fn fmt() -> Value {
    let file = record(
        "A file.",
        &json!({
            "file": text("As it was named, or `<stdin>`."),
            "changed": flag("It is, or with `--check` would be, another text."),
        }),
    );
    record(
        "The files that were formatted.",
        &json!({"files": list_of("Each file, in order.", &file)}),
    )
}

fn docs() -> Value {
    let texts = |description: &str| list_of(description, &json!({"type": "string"}));
    let section = record(
        "A tier of a policy, its default, or the lists in files.",
        &json!({
            "title": text("`policy/tier`, or what it is."),
            "note": text("What holds beside the rows."),
            "header": texts("What each cell of a row is."),
            "rows": list_of("One a rule, in order.", &texts("Its cells, in words.")),
        }),
    );
    record(
        "Who may reach what, in words.",
        &json!({"sections": list_of("In the order of the policies.", &section)}),
    )
}

fn rollback() -> Value {
    let object = record("An object.", &named());
    record(
        "The render that is put out again.",
        &json!({
            "policy": text("The hash of its policies."),
            "objects": list_of("What it holds, in the order in which it is applied.", &object),
            "remove": list_of("What the newest render has and it has not, what closes last.", &object),
            "yaml": text_or_null("Its objects as they were rendered; null where they are in a folder or only the list was asked for."),
        }),
    )
}

fn revoke() -> Value {
    record(
        "Everything denied to a workload.",
        &json!({
            "workload": text("Namespace and service account."),
            "rule": text("Tier and name of the new rule."),
            "text": text_or_null("The changed policy; null where the file was changed."),
        }),
    )
}

fn findings() -> Value {
    let finding = record(
        "What is neither as rendered nor Istio's own.",
        &json!({"place": text("Where."), "message": text("What.")}),
    );
    record(
        "A gateway's live configuration (`--gateway`).",
        &json!({"findings": list_of("Each finding.", &finding)}),
    )
}

fn verify() -> Value {
    let expected = record(
        "What the engine says.",
        &json!({
            "verdict": {"enum": ["reached", "refused", "undecided"]},
            "code": text_or_null("Its code; null where no rule could open the way."),
            "rule": text_or_null("Its rule."),
        }),
    );
    let seen = record(
        "What came of it.",
        &json!({
            "kind": {"enum": ["reached", "open", "denied", "refused", "dropped", "unclear"]},
            "code": text_or_null("The code in the gateway's denial."),
            "rule": text_or_null("The rule in it."),
            "detail": text_or_null("In words."),
        }),
    );
    let probe = record(
        "One attempt.",
        &json!({
            "group": {"enum": ["destinations", "near-misses", "bypass"]},
            "attempt": text("What was tried."),
            "why": text("Why."),
            "expected": expected,
            "seen": seen,
            "result": {"enum": ["as_expected", "differs", "unclear"]},
        }),
    );
    record(
        "Attempts from inside a pod (`--from`).",
        &json!({
            "workload": text("Who tries, as it was given."),
            "captured": record("Whether a proxy in the pod takes this user's TCP.", &json!({
                "ipv4": flag("Over IPv4."),
                "ipv6": flag("Over IPv6."),
            })),
            "asExpected": count("Attempts that came out as expected."),
            "differs": count("Attempts that did not."),
            "unclear": count("Attempts that show nothing."),
            "notTried": list_of("What was left out, and why.", &json!({"type": "string"})),
            "probes": list_of("Every attempt.", &probe),
        }),
    )
}
