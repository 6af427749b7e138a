//! The fields of the module's log lines, with what they mean. The reference page is made from it,
//! and the lines are held to it.

/// A kind of log line.
#[derive(Clone, Copy, Debug)]
pub struct LogLine {
    /// The value of its field `event`.
    pub event: &'static str,
    /// The level at which Envoy logs it.
    pub level: &'static str,
    /// When it is written.
    pub when: &'static str,
    /// Its fields.
    pub fields: &'static [LogField],
}

/// A field of a log line.
#[derive(Clone, Copy, Debug)]
pub struct LogField {
    /// Its name.
    pub name: &'static str,
    /// Whether every such line has it.
    pub always: bool,
    /// What it holds.
    pub meaning: &'static str,
}

const fn always(name: &'static str, meaning: &'static str) -> LogField {
    LogField {
        name,
        always: true,
        meaning,
    }
}

const fn sometimes(name: &'static str, meaning: &'static str) -> LogField {
    LogField {
        name,
        always: false,
        meaning,
    }
}

/// The `event` of a verdict's line.
pub const VERDICT: &str = "verdict";
/// The `event` of a line for several denials.
pub const DENIALS: &str = "denials";
/// The `event` of a configuration that is in force.
pub const CONFIGURED: &str = "configured";
/// The `event` of a configuration that was refused.
pub const REFUSED: &str = "configuration refused";

const WORKLOAD: &str = "The SPIFFE ID in the caller's certificate, or why there is none, such as `without certificate`; `unknown` if it could not be read.";
const REASON: &str = "The [code](codes.md) of the reason.";
const CONTEXT: &str =
    "`http` for requests and tunnels, `network` for TLS and TCP inside a tunnel or a listener.";

/// Every kind of line.
pub const LINES: [LogLine; 4] = [
    LogLine {
        event: VERDICT,
        level: "warning for denials and for verdicts that differ in shadow mode, else info",
        when: "For each denial, for each verdict that would differ without shadow mode, and for accepted and inspected traffic as `gateway.logAccepts` says.",
        fields: &[
            always("event", "`verdict`."),
            always("context", CONTEXT),
            always("policyHash", "The hash of the policies in force."),
            always("action", "`Accept`, `Inspect` or `Deny`."),
            always(
                "policy",
                "The policy that decides; null if the facts themselves are refused.",
            ),
            always(
                "tier",
                "The tier that decides; null where the policy as a whole does.",
            ),
            always("rule", "The rule that decides; null for a default."),
            always("reason", REASON),
            always("protocol", "`HTTP`, `TLS` or `TCP`."),
            always("workload", WORKLOAD),
            sometimes(
                "labels",
                "The labels of the caller that policies select by.",
            ),
            sometimes("host", "The host name or address that was judged."),
            sometimes("port", "The port that was judged."),
            sometimes("method", "The method of a request, at most 32 bytes."),
            sometimes(
                "path",
                "The path of a request without its query, at most 512 bytes.",
            ),
            sometimes("pathBytes", "The length of a path that was cut."),
            sometimes(
                "wouldBe",
                "`action`, `policy`, `tier`, `rule` and `reason` of the verdict without shadow mode, where it differs.",
            ),
        ],
    },
    LogLine {
        event: DENIALS,
        level: "warning",
        when: "Once a minute for the denials of a workload that exceeded `limits.denialLinesPerMinute`.",
        fields: &[
            always("event", "`denials`."),
            always("workload", WORKLOAD),
            always("reason", REASON),
            always(
                "count",
                "The number of denials without a line of their own.",
            ),
        ],
    },
    LogLine {
        event: CONFIGURED,
        level: "warning, so that Istio's proxies log it",
        when: "When a configuration takes effect in a plugin instance.",
        fields: &[
            always("event", "`configured`."),
            always(
                "context",
                "`http` or `network`, as in verdicts, or `ready` for the readiness probe.",
            ),
            always("policyHash", "The hash of the policies in force."),
        ],
    },
    LogLine {
        event: REFUSED,
        level: "error",
        when: "For each defect of a configuration that is refused. The previous configuration stays in force.",
        fields: &[
            always("event", "`configuration refused`."),
            sometimes(
                "kind",
                "The [code](codes.md#errors-of-policies-and-install-settings) of the defect. Absent if the configuration cannot be read.",
            ),
            always("defect", "The location and a description of the defect."),
        ],
    },
];

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::Value;

    use super::*;

    /// Whether a line with every field that it may have is as the table says, in its order.
    pub(crate) fn check(line: &str) {
        let value: Value = serde_json::from_str(line).unwrap();
        let event = value["event"].as_str().unwrap();
        let known = LINES.iter().find(|known| known.event == event).unwrap();
        let mut at = 0;
        for field in known.fields {
            let key = format!("\"{}\":", field.name);
            let place = line.get(at..).unwrap().find(&key);
            at += place.unwrap_or_else(|| panic!("{line} has no {key} there"));
        }
        assert_eq!(
            value.as_object().unwrap().len(),
            known.fields.len(),
            "{line}"
        );
    }
}
