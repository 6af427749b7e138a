use std::collections::BTreeSet;

use serde_json::json;

use super::{Finding, Health, Needs, istiod, mesh};
use crate::traffic::Traffic;

fn needs() -> Needs {
    Needs {
        traffic: Traffic {
            labels: BTreeSet::from(["egress-ruleset".to_owned(), "tier".to_owned()]),
            ..Traffic::default()
        },
        trust_domains: vec!["cluster.local".to_owned()],
    }
}

fn bad(findings: &[Finding]) -> Vec<&'static str> {
    let bad = findings
        .iter()
        .filter(|finding| finding.health == Health::Bad);
    bad.map(|finding| finding.setting).collect()
}

#[test]
fn istiods_environment_is_judged_setting_by_setting() {
    const SCOPE: &str = "PILOT_SCOPE_GATEWAY_TO_NAMESPACE";
    const LABELS: &str = "PILOT_MX_ADDITIONAL_LABELS";
    const EXCHANGE: &str = "PILOT_ENABLE_METADATA_EXCHANGE";
    let both = format!("{LABELS}=tier,egress-ruleset");
    for (environment, wanted) in [
        (String::new(), vec![SCOPE, LABELS]),
        (format!("{SCOPE}=true\n{both}"), vec![]),
        (format!("{SCOPE}=false\n{both}"), vec![SCOPE]),
        // The last one counts, as for a process.
        (format!("{SCOPE}=true\n{SCOPE}=false\n{both}"), vec![SCOPE]),
        (format!("{SCOPE}=true\n{LABELS}=tier"), vec![LABELS]),
        (
            format!("{SCOPE}=true\n{LABELS}=tier,egress-ruleset2"),
            vec![LABELS],
        ),
        (
            format!("{SCOPE}=true\n{both}\n{EXCHANGE}=false"),
            vec![EXCHANGE],
        ),
    ] {
        assert_eq!(
            bad(&istiod(&environment, &needs())),
            wanted,
            "{environment}"
        );
    }
}

#[test]
fn a_trust_domain_that_no_policy_names_is_bad() {
    assert!(bad(&mesh(&json!({}), &needs())).is_empty());
    assert!(bad(&mesh(&json!({"trustDomain": "cluster.local"}), &needs())).is_empty());
    assert_eq!(
        bad(&mesh(&json!({"trustDomain": "td.example"}), &needs())),
        ["trustDomain"]
    );
}
