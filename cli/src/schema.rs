//! The policy file's JSON Schema, for editors. A test holds it against the decoder, field by field.

mod cases;

use egress_policy::contract::INSTALL_KIND;
use serde_json::{Value, json};

pub use cases::cases_schema;

/// The folder of the schemas' identifiers. Nothing is fetched from there.
const IDENTIFIERS: &str = "https://egress-warden.io/schemas/v1alpha1";

fn texts(description: &str, item: &Value) -> Value {
    json!({
        "description": description,
        "type": "array",
        "minItems": 1,
        "uniqueItems": true,
        "items": item,
    })
}

fn object(description: &str, required: &[&str], properties: &Value) -> Value {
    json!({
        "description": description,
        "type": "object",
        "minProperties": 1,
        "additionalProperties": false,
        "required": required,
        "properties": properties,
    })
}

fn put(object: &mut Value, key: &str, value: Value) {
    if let Some(object) = object.as_object_mut() {
        object.insert(key.to_owned(), value);
    }
}

/// Says of which version of JSON Schema a schema is, what identifies it, and what it is called.
fn finished(schema: &mut Value, name: &str, title: &str) {
    let identifier = format!("{IDENTIFIERS}/{name}.schema.json");
    for (key, value) in [
        ("$schema", "https://json-schema.org/draft/2020-12/schema"),
        ("$id", identifier.as_str()),
        ("title", title),
    ] {
        put(schema, key, json!(value));
    }
}

/// The schema of install settings (JSON Schema 2020-12), made from the types that read them.
#[must_use]
pub fn settings_schema() -> Value {
    let mut schema = egress_render::Install::schema();
    finished(&mut schema, "settings", INSTALL_KIND);
    schema
}

/// The schema (JSON Schema 2020-12).
#[must_use]
pub fn policy_schema() -> Value {
    let name = json!({
        "description": "A name: lower-case letters, digits and `-`.",
        "type": "string",
        "pattern": "^[a-z0-9-]{1,63}$",
    });
    let namespace = json!({"type": "string", "pattern": "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"});
    let account = json!({
        "type": "string",
        "pattern": "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?/[A-Za-z0-9._-]+$",
    });
    let mode = json!({
        "description": "Shadow: evaluated and reported, not enforced.",
        "enum": ["Enforce", "Shadow"],
        "default": "Enforce",
    });
    let time = json!({"type": "string", "format": "date-time"});
    let metadata = object(
        "What the policy is called.",
        &["name"],
        &json!({"name": name}),
    );
    let tier = object(
        "Rules in order; the first match decides.",
        &["name"],
        &json!({
            "name": name,
            "mode": mode,
            "default": {
                "description": "What holds where no rule of the tier decides.",
                "enum": ["Pass", "Deny"],
                "default": "Pass",
            },
            "rules": {
                "description": "In order.",
                "type": "array",
                "minItems": 1,
                "items": {"$ref": "#/$defs/rule"},
            },
        }),
    );
    let spec = object(
        "The policy.",
        &["identity", "tiers"],
        &json!({
            "identity": identity(),
            "appliesTo": workloads(
                "Whom the policy is for. Every policy but the first has it, within what the install settings grant.",
                &namespace, &account, None,
            ),
            "destinations": {
                "description": "Named destinations, for rules to refer to.",
                "type": "object",
                "minProperties": 1,
                "propertyNames": {"pattern": "^[a-z0-9-]{1,63}$"},
                "additionalProperties": {
                    "anyOf": [
                        {"$ref": "#/$defs/destination"},
                        {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/destination"}},
                    ],
                },
            },
            "shadowWorkloads": {
                "description": "Workloads whose denials are reported instead of enforced, until `expires`.",
                "type": "array",
                "minItems": 1,
                "items": workloads("", &namespace, &account, Some(&time)),
            },
            "tiers": {"description": "In order.", "type": "array", "minItems": 1, "items": tier},
            "default": {
                "description": "What holds where no tier decides.",
                "enum": ["Deny", "Accept"],
                "default": "Deny",
            },
        }),
    );
    let mut schema = object(
        "Who may reach what outside the mesh.",
        &["apiVersion", "kind", "metadata", "spec"],
        &json!({
            "apiVersion": {"description": "The version of the format.", "const": egress_policy::read::API_VERSION},
            "kind": {"description": "A policy of the platform, or of a team.", "enum": egress_policy::read::KINDS},
            "metadata": metadata,
            "spec": spec,
        }),
    );
    finished(&mut schema, "policy", egress_policy::read::KIND);
    let definitions = json!({
        "rule": rule(&name, &mode, &time),
        "source": source(&namespace, &account),
        "to": to(true),
        "destination": to(false),
    });
    put(&mut schema, "$defs", definitions);
    schema
}

fn identity() -> Value {
    object(
        "Whose certificates count.",
        &["trustDomains"],
        &json!({
            "trustDomains": texts("Trust domains, exactly.", &json!({"type": "string"})),
            "allowPlaintext": {
                "description": "Judge callers without mTLS too. They have no identity even then.",
                "type": "boolean",
                "default": false,
            },
        }),
    )
}

fn workloads(
    description: &str,
    namespace: &Value,
    account: &Value,
    expires: Option<&Value>,
) -> Value {
    let mut properties = json!({
        "namespaces": texts("Namespaces, proven by the certificate.", namespace),
        "serviceAccounts": texts("NAMESPACE/NAME, proven by the certificate.", account),
    });
    let mut required = Vec::new();
    if let Some(expires) = expires {
        let mut expires = expires.clone();
        put(&mut expires, "description", json!("Until when (RFC 3339)."));
        put(&mut properties, "expires", expires);
        required.push("expires");
    }
    object(description, &required, &properties)
}

fn rule(name: &Value, mode: &Value, time: &Value) -> Value {
    object(
        "A rule.",
        &["name", "action"],
        &json!({
            "name": name,
            "mode": mode,
            "from": {
                "description": "Who; alternatives. Left out: every caller with an identity, and in a Deny rule everyone.",
                "type": "array",
                "minItems": 1,
                "items": {"$ref": "#/$defs/source"},
            },
            "to": {
                "description": "Where to; alternatives. Left out: anywhere.",
                "type": "array",
                "minItems": 1,
                "items": {"$ref": "#/$defs/to"},
            },
            "action": {
                "description": "Pass goes on with the next tier; Inspect accepts by way of `inspection`.",
                "enum": ["Accept", "Deny", "Pass", "Inspect"],
            },
            "inspection": {
                "description": "The inspection proxy of an Inspect rule, as the install settings name it.",
                "type": "string",
                "pattern": "^[a-z0-9-]{1,63}$",
            },
            "expires": {
                "description": "When an Accept rule stops accepting (RFC 3339).",
                "type": time["type"],
                "format": time["format"],
            },
            "owner": {"description": "Who answers for it.", "type": "string", "minLength": 1},
            "reason": {"description": "Why it exists.", "type": "string", "minLength": 1},
            "ticket": {"description": "Where it was approved.", "type": "string", "minLength": 1},
        }),
    )
}

fn source(namespace: &Value, account: &Value) -> Value {
    let text = json!({"type": "string"});
    let expression = object(
        "As in Kubernetes. NotIn and DoesNotExist open only beside Exists or In on the same key.",
        &["key", "operator"],
        &json!({
            "key": {"description": "The label's key.", "type": "string"},
            "operator": {"description": "What must hold of its value.", "enum": ["In", "NotIn", "Exists", "DoesNotExist"]},
            "values": texts("For In and NotIn.", &text),
        }),
    );
    object(
        "All fields must hold; the entries of one field are alternatives, but all labels must hold.",
        &[],
        &json!({
            "anyone": {"description": "Also callers without an identity. Stands alone.", "const": true},
            "trustDomains": texts("Trust domains, proven.", &text),
            "namespaces": texts("Namespaces, proven.", namespace),
            "serviceAccounts": texts("NAMESPACE/NAME, proven.", account),
            "clusters": texts("Clusters: the caller's claim.", &text),
            "matchLabels": {
                "description": "Labels: the caller's claim.",
                "type": "object",
                "minProperties": 1,
                "additionalProperties": {"type": "string"},
            },
            "matchExpressions": {
                "description": "Conditions on labels: the caller's claim.",
                "type": "array",
                "minItems": 1,
                "items": expression,
            },
        }),
    )
}

/// An element of `to`, or a named destination, which refers to no other.
fn to(may_refer: bool) -> Value {
    let text = json!({"type": "string"});
    let networks = |description: &str| texts(description, &text);
    let port = json!({"anyOf": [
        {"type": "integer", "minimum": 1, "maximum": 65535},
        {"type": "string", "pattern": "^[1-9][0-9]{0,4}(-[1-9][0-9]{0,4})?$"},
    ]});
    let tls = object(
        "The gateway originates TLS, so methods and paths can be judged.",
        &["originate"],
        &json!({
            "originate": {"description": "Always true.", "const": true},
            "caCertificates": {"description": "A CA bundle at the gateway.", "type": "string"},
            "clientCertificate": {"description": "A Kubernetes secret.", "type": "string"},
            "sni": {"description": "The name to ask for, if it is another.", "type": "string"},
        }),
    );
    let mut properties = json!({
        "domainNames": texts(
            "api.example.com exactly; *.example.com one or more labels below; +.example.com exactly one; api-*.example.com a star inside a label.",
            &text,
        ),
        "networks": networks("Networks in CIDR form. In Accept rules they match destinations without a name."),
        "except": networks("Taken out of `networks`."),
        "ports": {"description": "443 or \"8000-8999\".", "type": "array", "minItems": 1, "items": port},
        "protocols": texts(
            "What the port carries. Left out: HTTP, TLS and TCP.",
            &json!({"enum": ["HTTP", "TLS", "TCP", "UDP"]}),
        ),
        "methods": texts("HTTP methods. CONNECT only where it is listed.", &json!({"type": "string", "pattern": "^[A-Z-]+$"})),
        "paths": texts("Path globs: * inside a segment, ** across.", &json!({"type": "string", "pattern": "^/"})),
        "upgrades": texts("Upgrades that are let through too.", &json!({"enum": ["websocket"]})),
        "allowPrivate": {
            "description": "The names may lead to private addresses.",
            "type": "boolean",
            "default": false,
        },
        "tls": tls,
    });
    if may_refer {
        let reference = json!({
            "description": "A named destination; what stands beside it narrows it.",
            "type": "string",
        });
        put(&mut properties, "destination", reference);
    } else {
        put(
            &mut properties,
            "file",
            json!({
                "description": "A list of names and networks, one a line, beside the policy or below it: instead of domainNames and networks. `warden` writes it out; the gateway reads no files.",
                "type": "string",
                "minLength": 1,
            }),
        );
        put(
            &mut properties,
            "sha256",
            json!({
                "description": "The list's digest, as it was reviewed.",
                "type": "string",
                "pattern": "^[0-9a-f]{64}$",
            }),
        );
        put(
            &mut properties,
            "date",
            json!({
                "description": "The day on which the list was taken.",
                "type": "string",
                "format": "date",
            }),
        );
    }
    let mut schema = object(
        "All fields must hold. Names its destination by at most one of destination, domainNames, networks, file.",
        &[],
        &properties,
    );
    if !may_refer {
        let together = json!({"file": ["sha256", "date"], "sha256": ["file"], "date": ["file"]});
        put(&mut schema, "dependentRequired", together);
    }
    schema
}

#[cfg(test)]
pub(crate) mod tests;
