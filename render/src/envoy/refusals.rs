//! What a client is told where Envoy itself refuses: the same as by the module, and in the header that
//! no server's answer has.
//!
//! - Every address of the name is refused. The module has accepted the name, and there is nothing to
//!   connect to.
//! - No route takes the upgrade. Envoy makes no filters for it, so the module is not asked.
//! - The RBAC lock is closed, because the module has not opened it. Envoy's own body stays.

use egress_policy::contract::DENIED_HEADER;
use egress_policy::denial::Denial;
use egress_policy::verdict::{Decision, ReasonCode};
use serde_json::{Value, json};

use crate::object::set;

/// A refusal, by the details that Envoy gives its answer. The first is
/// `dns_resolution_failure{address_denied}`: a name that does not exist has others, and stays a 503.
const REFUSALS: [(&str, ReasonCode); 2] = [
    (
        "response.code_details.contains(\"address_denied\")",
        ReasonCode::PrivateAddress,
    ),
    (
        "response.code_details == \"upgrade_failed\"",
        ReasonCode::ConnectNotAllowed,
    ),
];
/// What Envoy writes null for in JSON: nobody writes this metadata. A null in the manifest would not
/// stay, because a merge patch, by which `kubectl apply` changes objects, deletes what is null.
const NOTHING: &str = "%DYNAMIC_METADATA(egress-warden:nothing)%";
const LOCKED: &str = "response.code_details.startsWith(\"rbac_access_denied\")";

/// `local_reply_config` of an HTTP connection manager. The first that fits is taken.
pub(super) fn local_replies() -> Value {
    let refused = REFUSALS.into_iter().flat_map(|(details, reason)| {
        let decision = Decision::refusal(reason);
        let denial = Denial::new("%DOWNSTREAM_PEER_URI_SAN%", "%REQ(:AUTHORITY)%", &decision);
        let mut fields = json!(denial);
        for (_, value) in fields.as_object_mut().into_iter().flatten() {
            if value.is_null() {
                *value = json!(NOTHING);
            }
        }
        let json = json!({"content_type": "application/json", "json_format": fields});
        let text = json!({
            "content_type": "text/plain; charset=utf-8",
            "text_format_source": {"inline_string": denial.text()},
        });
        // Without the header the expression is an error, and fits nothing.
        let wants_json = format!("{details} && request.headers[\"accept\"].contains(\"json\")");
        [
            mapper(&wants_json, reason, Some(&json)),
            mapper(details, reason, Some(&text)),
        ]
    });
    let locked = mapper(LOCKED, ReasonCode::EngineError, None);
    let mappers: Vec<_> = refused.chain([locked]).collect();
    json!({"mappers": mappers})
}

fn mapper(expression: &str, reason: ReasonCode, body: Option<&Value>) -> Value {
    let header = |key: &str, value: &str| json!({"header": {"key": key, "value": value}});
    // Names and words alone, which JSON can say.
    let by = serde_json::to_string(&Decision::refusal(reason).decided_by()).unwrap_or_default();
    let mut mapper = json!({
        "filter": {"extension_filter": crate::envoy::named(
            "egress-warden.refused",
            "envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter",
            json!({"expression": expression}),
        )},
        "status_code": 403,
        "headers_to_add": [
            header("x-content-type-options", "nosniff"),
            header(DENIED_HEADER, &by),
        ],
    });
    if let Some(body) = body {
        set(&mut mapper, "body_format_override", body.clone());
    }
    mapper
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has_null(value: &Value) -> bool {
        match value {
            Value::Null => true,
            Value::Array(items) => items.iter().any(has_null),
            Value::Object(fields) => fields.values().any(has_null),
            Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
        }
    }

    #[test]
    fn nothing_is_null_that_a_patch_would_delete() {
        let replies = local_replies();
        assert!(!has_null(&replies), "{replies}");
        let header = r#"{"policy":null,"tier":null,"rule":null,"reason":"private_address"}"#;
        let quoted = json!(header).to_string();
        assert_eq!(replies.to_string().matches(&quoted).count(), 2, "{replies}");
    }
}
