//! What a client is told where Envoy itself has nothing to connect to, because every address of the
//! name is refused: the same as by the module, which has accepted the name.

use egress_policy::verdict::ReasonCode;
use serde_json::{Value, json};

/// In the details that Envoy gives such an answer: `dns_resolution_failure{address_denied}`. A name
/// that does not exist has others, and stays a 503.
const DETAILS: &str = "response.code_details.contains(\"address_denied\")";
const ASK: &str = "this is refused whatever the policy says; send this text to whoever runs the \
                   egress gateway";

/// `local_reply_config` of an HTTP connection manager. The first that fits is taken.
pub(super) fn local_replies() -> Value {
    let code = ReasonCode::PrivateAddress;
    let (reason, code) = (code.explanation(), code.as_str());
    let json = json!({
        "content_type": "application/json",
        "json_format": {
            "workload": "%DOWNSTREAM_PEER_URI_SAN%",
            "destination": "%REQ(:AUTHORITY)%",
            "rule": "default",
            "code": code,
            "reason": reason,
            "ask": ASK,
        },
    });
    let text = format!(
        "egress denied: {reason}\nworkload: %DOWNSTREAM_PEER_URI_SAN%\n\
         destination: %REQ(:AUTHORITY)%\nrule: default\ncode: {code}\nask: {ASK}\n"
    );
    let text = json!({
        "content_type": "text/plain; charset=utf-8",
        "text_format_source": {"inline_string": text},
    });
    // Without the header the expression is an error, and fits nothing.
    let wants_json = format!("{DETAILS} && request.headers[\"accept\"].contains(\"json\")");
    json!({"mappers": [mapper(&wants_json, &json), mapper(DETAILS, &text)]})
}

fn mapper(expression: &str, body: &Value) -> Value {
    json!({
        "filter": {"extension_filter": crate::envoy::named(
            "egress-warden.refused-address",
            "envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter",
            json!({"expression": expression}),
        )},
        "status_code": 403,
        "body_format_override": body,
        "headers_to_add": [{"header": {"key": "x-content-type-options", "value": "nosniff"}}],
    })
}
