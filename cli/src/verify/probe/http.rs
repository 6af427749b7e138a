//! Whose answer an HTTP response is: the destination's, the gateway's, or a proxy's on the way.

use egress_analysis::decision::{ReasonWord, WrittenDecidedBy};
use egress_policy::verdict::ReasonCode;
use serde_json::Value;

use super::{Said, printable};
use crate::verify::ProbeResult;

/// Whether the response is whole, as far as it matters here.
pub(super) fn complete(bytes: &[u8], is_head: bool) -> bool {
    let Some((head, body)) = split(bytes) else {
        return false;
    };
    let length = field(head, "content-length").and_then(|text| text.parse::<usize>().ok());
    is_head || length.is_some_and(|length| body.len() >= length)
}

/// Reads it.
pub(super) fn read(said: &Said) -> ProbeResult {
    if said.bytes.is_empty() {
        return if said.ended {
            ProbeResult::Refused("closed".to_owned())
        } else {
            ProbeResult::Dropped
        };
    }
    let Some((head, body)) = split(&said.bytes) else {
        return ProbeResult::Unclear(printable(&said.bytes));
    };
    let status = head.split(' ').nth(1).and_then(|text| text.parse().ok());
    let is_http = head.starts_with("HTTP/1.");
    match status {
        Some(status) if is_http => judge(status, body.trim_ascii()),
        _ => ProbeResult::Unclear(printable(&said.bytes)),
    }
}

fn judge(status: u16, body: &[u8]) -> ProbeResult {
    if status == 403
        && let Some(denied) = denial(body)
    {
        return denied;
    }
    match (status, body) {
        // Envoy's own words for what its RBAC filter refuses.
        (403, b"RBAC: access denied") => ProbeResult::Refused("403 by the lock".to_owned()),
        // A gateway in front of an upstream that it calls forbidden, or a server that does.
        (403, _) => ProbeResult::Unclear("403 without a reason".to_owned()),
        // What Envoy answers itself: no such route, no such request.
        (400, b"" | b"Bad Request") | (404, b"") => {
            ProbeResult::Refused(format!("{status} by a proxy on the way"))
        }
        // Let through and not answered, or a proxy that is not ready: both look like this.
        (500 | 502..=504, _) => ProbeResult::Unclear(format!("{status}")),
        _ => ProbeResult::Reached(format!("{status}")),
    }
}

/// The body of the module's denial.
fn denial(body: &[u8]) -> Option<ProbeResult> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let text = |name: &str| body.get(name).and_then(Value::as_str).map(str::to_owned);
    text("ask")?;
    let reason = ReasonCode::parse(&text("reason")?)?;
    Some(ProbeResult::Denied(WrittenDecidedBy {
        policy: text("policy"),
        tier: text("tier"),
        rule: text("rule"),
        reason: Some(ReasonWord(reason)),
    }))
}

fn split(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let (head, body) = bytes.split_at_checked(end)?;
    Some((std::str::from_utf8(head).ok()?, body.get(4..)?))
}

fn field<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(field, _)| field.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_told_from_a_refusal() {
        let denied = "{\"workload\":\"w\",\"destination\":\"d\",\"policy\":\"seed\",\"tier\":null,\
            \"rule\":null,\"reason\":\"default\",\"explanation\":\"r\",\"ask\":\"a\"}\n";
        let is_denied = ProbeResult::Denied(WrittenDecidedBy {
            policy: Some("seed".to_owned()),
            reason: Some(ReasonWord(ReasonCode::Default)),
            ..WrittenDecidedBy::default()
        });
        let refused = |text: &str| ProbeResult::Refused(text.to_owned());
        let reached = |text: &str| ProbeResult::Reached(text.to_owned());
        let unclear = |text: &str| ProbeResult::Unclear(text.to_owned());
        let cases = [
            ("403 Forbidden", denied, is_denied),
            (
                "403 Forbidden",
                "RBAC: access denied",
                refused("403 by the lock"),
            ),
            (
                "403 Forbidden",
                "<html>not you</html>",
                unclear("403 without a reason"),
            ),
            // Somebody else's JSON is not ours.
            (
                "403 Forbidden",
                "{\"reason\":\"default\",\"rule\":\"x\"}",
                unclear("403 without a reason"),
            ),
            ("200 OK", "hello", reached("200")),
            // A destination may say what it likes with another status.
            ("200 OK", denied, reached("200")),
            ("301 Moved", "", reached("301")),
            ("404 Not Found", "no such page", reached("404")),
            ("404 Not Found", "", refused("404 by a proxy on the way")),
            ("400 Bad Request", "", refused("400 by a proxy on the way")),
            (
                "503 Service Unavailable",
                "no healthy upstream",
                unclear("503"),
            ),
            ("500 Internal Server Error", "", unclear("500")),
        ];
        for (status, body, expected) in cases {
            let length = body.len();
            let bytes = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}");
            assert!(complete(bytes.as_bytes(), false), "{bytes}");
            assert!(length == 0 || !complete(&bytes.as_bytes()[..bytes.len() - 1], false));
            let said = Said {
                bytes: bytes.clone().into_bytes(),
                ended: false,
            };
            assert_eq!(read(&said), expected, "{bytes}");
        }
        let nothing = |ended| Said {
            bytes: Vec::new(),
            ended,
        };
        assert_eq!(read(&nothing(true)), refused("closed"));
        assert_eq!(read(&nothing(false)), ProbeResult::Dropped);
        let other = Said {
            bytes: b"SSH-2.0-x\r\n".to_vec(),
            ended: true,
        };
        assert_eq!(read(&other), unclear("SSH-2.0-x"));
    }
}
