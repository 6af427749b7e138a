//! The case file's JSON Schema, for editors. A test holds it against the decoder, field by field.

use egress_policy::verdict::ReasonCode;
use serde_json::{Value, json};

use super::{finished, object, policy_schema, put};

/// The schema of case files (JSON Schema 2020-12). Policies that are written out in one are held to
/// the policy's schema.
#[must_use]
pub fn cases_schema() -> Value {
    let mut schema = object(
        "Questions to policies, with the answers that they must give.",
        &["policies", "cases"],
        &json!({
            "policies": {
                "description": "The policies in their order: files, relative to this one, or policies written out. Install settings may stand among them. An empty list is no policy.",
                "type": "array",
                "items": {"anyOf": [{"type": "string", "minLength": 1}, {"$ref": "#/$defs/policy"}]},
            },
            "settings": {
                "$ref": "#/$defs/settings",
                "description": "What the gateway's configuration says beside the policies.",
            },
            "cases": {
                "description": "The cases.",
                "type": "array",
                "minItems": 1,
                "items": {"$ref": "#/$defs/case"},
            },
        }),
    );
    finished(&mut schema, "cases", "Decision cases");
    let mut policy = policy_schema();
    let definitions = policy.as_object_mut().and_then(|fields| {
        fields.retain(|name, _| !matches!(name.as_str(), "$schema" | "$id"));
        fields.remove("$defs")
    });
    let mut definitions = definitions.unwrap_or_default();
    for (name, definition) in [
        ("policy", policy),
        ("settings", settings()),
        ("case", case()),
        ("step", step()),
        ("from", from()),
        ("target", target()),
        ("expect", expect()),
        ("ruling", ruling()),
        ("bytes", bytes()),
    ] {
        put(&mut definitions, name, definition);
    }
    put(&mut schema, "$defs", definitions);
    schema
}

/// Fields that may be absent altogether.
fn fields(description: &str, required: &[&str], properties: &Value) -> Value {
    json!({
        "description": description,
        "type": "object",
        "additionalProperties": false,
        "required": required,
        "properties": properties,
    })
}

fn text(description: &str) -> Value {
    json!({"description": description, "type": "string"})
}

fn boolean(description: &str) -> Value {
    json!({"description": description, "type": "boolean", "default": false})
}

fn port(description: &str) -> Value {
    json!({"description": description, "type": "integer", "minimum": 1, "maximum": 65535})
}

fn words(description: &str, words: &[&str]) -> Value {
    json!({"description": description, "enum": words})
}

fn addresses(description: &str) -> Value {
    json!({
        "description": description,
        "type": "array",
        "minItems": 1,
        "items": {"type": "string", "examples": ["192.0.2.80"]},
    })
}

/// Bytes as sent, or a word where nothing is.
fn sent(description: &str) -> Value {
    json!({"$ref": "#/$defs/bytes", "description": description})
}

fn bytes() -> Value {
    let hex = fields(
        "Bytes that no text can hold.",
        &["hex"],
        &json!({"hex": text("Pairs of hexadecimal digits with spaces between them.")}),
    );
    json!({"anyOf": [{"type": "string"}, hex]})
}

fn code(description: &str) -> Value {
    words(description, &ReasonCode::ALL.map(ReasonCode::as_str))
}

fn settings() -> Value {
    let route = fields(
        "An Envoy cluster, or Istio's own clusters of a port.",
        &["protocol"],
        &json!({
            "protocol": words("What it carries.", &["HTTP", "HTTPS", "TLS", "TCP"]),
            "cluster": text("The name of an Envoy cluster."),
            "port": port("The destination's port."),
            "host": text("The only destination of `cluster`."),
            "hosts": {
                "description": "The names that Envoy resolves for `cluster`, instead of `host`.",
                "type": "array",
                "minItems": 1,
                "items": {"type": "string"},
            },
        }),
    );
    let proxy = fields(
        "An inspection proxy.",
        &["name", "cluster"],
        &json!({
            "name": text("The name that rules use."),
            "cluster": text("The Envoy cluster that leads to it."),
        }),
    );
    fields(
        "",
        &[],
        &json!({
            "addressCheck": {
                "description": "Whether the addresses behind names are checked. `unstated`: the setting is left out.",
                "enum": ["classes", "none", "unstated"],
                "default": "classes",
            },
            "nat64Prefixes": {
                "description": "NAT64 prefixes beside the well-known one.",
                "type": "array",
                "minItems": 1,
                "items": {"type": "string"},
            },
            "refuseEch": boolean("Whether an encrypted ClientHello is refused outright."),
            "ports": {
                "description": "Clusters, for cases that name one.",
                "type": "array",
                "minItems": 1,
                "items": route,
            },
            "inspection": {
                "description": "The inspection proxies that rules name.",
                "type": "array",
                "minItems": 1,
                "items": proxy,
            },
        }),
    )
}

/// The fields of a step, for a case and for what follows its first step.
fn of_step() -> Value {
    json!({
        "from": {"$ref": "#/$defs/from"},
        "to": {"$ref": "#/$defs/target"},
        "now": {
            "description": "When (RFC 3339), or `pending` or `missing`.",
            "type": "string",
            "examples": ["2027-01-01T00:00:00Z", "pending", "missing"],
            "default": "2027-01-01T00:00:00Z",
        },
        "refused": code("What was found before the policies are asked."),
        "limit": boolean("The connection has reached its limit: what is undecided now ends."),
        "expect": {"$ref": "#/$defs/expect"},
    })
}

fn case() -> Value {
    let mut properties = of_step();
    for (name, property) in [
        (
            "name",
            text(
                "What must hold, in a sentence. Unique in the file. Not needed where `from` and `to` are lines of text.",
            ),
        ),
        (
            "only",
            words(
                "The only subject that can be asked; `why` says why.",
                &["engine", "live"],
            ),
        ),
        (
            "why",
            text("What the case is about, where its name does not say it."),
        ),
        (
            "then",
            json!({
                "description": "Further steps. Each adds to what is known, or replaces it.",
                "type": "array",
                "minItems": 1,
                "items": {"$ref": "#/$defs/step"},
            }),
        ),
    ] {
        put(&mut properties, name, property);
    }
    fields(
        "A question and its answer.",
        &["from", "to", "expect"],
        &properties,
    )
}

fn step() -> Value {
    fields("A further step of a case.", &["expect"], &of_step())
}

fn from() -> Value {
    let labels = json!({
        "description": "Labels of the peer metadata: a mapping, `pending` or `missing`. Left out: none.",
        "anyOf": [
            {"type": "object", "additionalProperties": {"type": "string"}},
            {"enum": ["pending", "missing"]},
        ],
    });
    let by_fields = fields(
        "Who asks. `workload`, `uriSans` and `caller` exclude each other.",
        &[],
        &json!({
            "workload": {
                "description": "NAMESPACE/SERVICE_ACCOUNT, proven by a certificate.",
                "type": "string",
                "pattern": "^[^/]+/[^/]+$",
                "examples": ["shop/web"],
            },
            "trustDomain": text("The trust domain of `workload`; left out: cluster.local."),
            "uriSans": {
                "description": "The URI SANs of a verified certificate, as they are; an empty list is none.",
                "type": "array",
                "items": {"$ref": "#/$defs/bytes"},
            },
            "caller": words(
                "A caller without a certificate that names it.",
                &["plaintext", "noCertificate", "pending", "missing"],
            ),
            "labels": labels,
            "metadataNamespace": text("The namespace that the peer metadata claims; left out: the certificate's."),
            "cluster": text("The cluster that the peer metadata claims."),
        }),
    );
    let line = json!({
        "description": "As `warden explain --from` takes it: NAMESPACE/SERVICE-ACCOUNT,label=KEY=VALUE, or plaintext, no-certificate, malformed, unknown, missing.",
        "type": "string",
        "examples": ["shop/web", "shop/web,label=app=web", "plaintext"],
    });
    json!({"description": "Who asks: a line of text, or fields.", "anyOf": [by_fields, line]})
}

fn target() -> Value {
    let fact = |description: &str| json!({"description": description, "type": "string", "examples": ["pending", "missing"]});
    let by_fields = fields(
        "For what. HTTP has authority, port, appSni, method, path, upgrade; TLS and TCP have dialled; TLS has sni or hello.",
        &[],
        &json!({
            "protocol": {
                "description": "What the gateway's port carries.",
                "enum": ["HTTP", "TLS", "TCP"],
                "default": "HTTP",
            },
            "authority": sent("HTTP: Host or `:authority`, as sent."),
            "port": port("HTTP: the port at the outside."),
            "cluster": sent("Envoy's cluster, one of `settings.ports`. Left out: a dynamic forward proxy."),
            "appSni": sent("HTTP: the server name of application TLS that ended at the gateway."),
            "method": fact("HTTP: the method, `pending` or `missing`. Left out: GET."),
            "path": sent("HTTP: the path, `pending`, `missing` or `none`. Left out: /."),
            "upgrade": fact("HTTP: the upgrade's token, `pending`, `missing` or `none`."),
            "dialled": sent("TLS and TCP: the authority of the tunnel, HOST:PORT."),
            "sni": sent("TLS: the server name of the ClientHello."),
            "ech": boolean("TLS: an encrypted ClientHello stands beside `sni`."),
            "hello": words(
                "TLS: instead of `sni`. Left out: pending.",
                &["pending", "noName", "malformed", "tooLong", "missing"],
            ),
            "address": {
                "description": "Where the gateway connects for a name: an address, `pending` or `missing`.",
                "type": "string",
                "examples": ["192.0.2.80", "pending", "missing"],
                "default": "192.0.2.80",
            },
            "addresses": addresses("What DNS answers for the name."),
            "changes": {
                "description": "Several answers of DNS, one after the other, in place of `addresses`.",
                "type": "array",
                "minItems": 1,
                "items": addresses("An answer."),
            },
            "chain": {
                "description": "The names of the CNAMEs through which the answers come.",
                "type": "array",
                "minItems": 1,
                "items": {"type": "string"},
            },
        }),
    );
    let line = json!({
        "description": "As `warden explain --to` takes it.",
        "type": "string",
        "pattern": "^(http|https|ws|wss|tls|tcp)://",
        "examples": ["https://api.example.com", "http://api.example.com/path", "tcp://203.0.113.7:22"],
    });
    json!({"description": "For what: a URL, or fields.", "anyOf": [by_fields, line]})
}

/// The verdicts that a case can expect.
const VERDICTS: [&str; 4] = ["Accept", "Deny", "Inspect", "Undecided"];

/// The fields of one decision.
fn of_ruling() -> Value {
    json!({
        "verdict": words("The verdict.", &VERDICTS),
        "policy": text("The policy that decides; left out where the facts themselves are refused."),
        "tier": text("Its tier; left out for the policy's default."),
        "rule": text("The tier's rule; left out for the tier's default."),
        "reason": code("Why. Every verdict but Undecided has one."),
        "inspection": text("The inspection proxy of Inspect."),
    })
}

fn ruling() -> Value {
    fields("A decision.", &["verdict"], &of_ruling())
}

fn expect() -> Value {
    let mut properties = of_ruling();
    put(
        &mut properties,
        "wouldBe",
        json!({
            "$ref": "#/$defs/ruling",
            "description": "The decision without shadow, where it is another.",
        }),
    );
    put(
        &mut properties,
        "connects",
        addresses("Of `addresses` or `changes`: those that may be connected to."),
    );
    let by_fields = fields(
        "The answer, with what it rests on.",
        &["verdict"],
        &properties,
    );
    let word = words("The verdict, whatever it rests on.", &VERDICTS);
    json!({"description": "The answer: a verdict, or fields.", "anyOf": [by_fields, word]})
}
