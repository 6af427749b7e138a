use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::install::{Install, PolicyGrant};
use crate::sample;

/// A policy's `spec` as YAML, under this name.
pub(in crate::network) fn policy(name: &str, spec: &str) -> Value {
    let mut spec: Value = serde_saphyr::from_str(spec).unwrap();
    if spec.get("identity").is_none() {
        spec["identity"] = json!({"trustDomains": ["cluster.local"]});
    }
    json!({
        "apiVersion": "egress-warden.io/v1alpha1",
        "kind": "ClusterEgressPolicy",
        "metadata": {"name": name},
        "spec": spec,
    })
}

/// One rule in one tier.
fn rule(rule: &str) -> Value {
    policy("p", &format!("tiers: [{{name: t, rules: [{rule}]}}]"))
}

pub(in crate::network) fn install(policies: &[Value]) -> Install {
    let mut install = sample::install("");
    let grants = policies.iter().map(|policy| PolicyGrant {
        name: policy["metadata"]["name"].as_str().unwrap().to_owned(),
        namespaces: vec!["app1-ns".to_owned(), "app2-ns".to_owned()],
    });
    install.spec.policies = grants.collect();
    install
}

/// What is opened, a line for each block and range: `namespace selector: network except ports`.
fn opened(install: &Install, policies: &[Value]) -> Result<Vec<String>, Vec<String>> {
    let rendered = crate::render(install, policies)
        .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    let mut lines = Vec::new();
    for object in rendered.objects() {
        if object.kind() != "NetworkPolicy" || !object.name().contains("-udp-") {
            continue;
        }
        let spec = &object.manifest()["spec"];
        for egress in spec["egress"].as_array().unwrap() {
            for to in egress["to"].as_array().unwrap() {
                let block = &to["ipBlock"];
                let cidr = block["cidr"].as_str().unwrap();
                let except = match block["except"].as_array().unwrap().as_slice() {
                    [] => String::new(),
                    except => format!(" except {}", json!(except)),
                };
                for port in egress["ports"].as_array().unwrap() {
                    assert_eq!(port["protocol"], "UDP");
                    let (first, last) = (&port["port"], &port["endPort"]);
                    let range = if first == last {
                        first.to_string()
                    } else {
                        format!("{first}-{last}")
                    };
                    let selector = selector(&spec["podSelector"]);
                    let namespace = object.namespace();
                    lines.push(format!("{namespace}{selector}: {cidr}{except} {range}"));
                }
            }
        }
    }
    Ok(lines)
}

fn selector(selector: &Value) -> String {
    let labels = selector["matchLabels"].as_object().unwrap().iter();
    let labels = labels.map(|(key, value)| format!(" {key}={}", value.as_str().unwrap()));
    let expressions = selector.get("matchExpressions").and_then(Value::as_array);
    let expressions = expressions.into_iter().flatten().map(|one| {
        let (key, word) = (
            one["key"].as_str().unwrap(),
            one["operator"].as_str().unwrap(),
        );
        let values = one.get("values").map(ToString::to_string);
        format!(" {key} {word}{}", values.unwrap_or_default())
    });
    labels.chain(expressions).collect()
}

const NTP: &str = "{name: ntp, from: [{namespaces: [app1-ns]}], action: Accept, \
     to: [{networks: [198.51.100.0/24], ports: [123], protocols: [UDP]}]}";
const NTP_OPENED: &str = "app1-ns: 198.51.100.0/24 123";

fn udp(networks: &str, ports: &str) -> String {
    format!("{{networks: [{networks}], ports: [{ports}], protocols: [UDP]}}")
}

fn accept(from: &str, to: &str) -> String {
    format!("{{name: a, from: [{{{from}}}], to: [{to}], action: Accept}}")
}

fn deny(from: &str, to: &str) -> String {
    format!("{{name: d, {from}to: [{to}], action: Deny}}")
}

#[test]
fn what_is_opened_is_what_the_policy_accepts() {
    let net = |ports| udp("198.51.100.0/24", ports);
    let app1 = "namespaces: [app1-ns]";
    let two = |first: &str, second: &str| rule(&format!("{first}, {second}"));
    let tiers = |tiers: &str| policy("p", &format!("tiers: [{tiers}]"));
    let carved = |from: &str, to: &str| two(&deny(from, to), &accept(app1, &net("123")));
    for (about, policy, wanted) in [
        ("a rule", rule(NTP), vec![NTP_OPENED]),
        (
            "a rule in shadow",
            rule(&NTP.replace("name: ntp", "name: ntp, mode: Shadow")),
            vec![],
        ),
        (
            "a tier in shadow",
            tiers(&format!("{{name: t, mode: Shadow, rules: [{NTP}]}}")),
            vec![],
        ),
        (
            "a tier behind one that denies the rest",
            tiers(&format!(
                "{{name: s, default: Deny}}, {{name: t, rules: [{NTP}]}}"
            )),
            vec![],
        ),
        (
            "a rule for another mesh",
            rule(&NTP.replace("app1-ns]", "app1-ns], trustDomains: [other.example]")),
            vec![],
        ),
        (
            "a namespace that is not enforced",
            rule(&NTP.replace("app1-ns", "elsewhere")),
            vec![],
        ),
        (
            "a Deny before it",
            carved("", &udp("198.51.100.64/26", "1-65535")),
            vec!["app1-ns: 198.51.100.0/24 except [\"198.51.100.64/26\"] 123"],
        ),
        (
            "a Deny of all of it",
            carved("", &udp("198.51.0.0/16", "123")),
            vec![],
        ),
        (
            "a Deny in two halves",
            carved("", &udp("198.51.100.0/25, 198.51.100.128/25", "123")),
            vec![],
        ),
        (
            "a Deny of other ports",
            carved("", &udp("0.0.0.0/0", "53")),
            vec![NTP_OPENED],
        ),
        (
            "a Deny of TCP",
            carved("", "{networks: [0.0.0.0/0], protocols: [TCP]}"),
            vec![NTP_OPENED],
        ),
        (
            "a Deny for another namespace",
            carved(
                "from: [{namespaces: [app2-ns]}], ",
                &udp("0.0.0.0/0", "123"),
            ),
            vec![NTP_OPENED],
        ),
        (
            "a Deny in shadow",
            carved("mode: Shadow, ", &udp("0.0.0.0/0", "123")),
            vec![NTP_OPENED],
        ),
        (
            "a Deny for some pods",
            carved(
                "from: [{namespaces: [app1-ns], matchLabels: {zone: red}}], ",
                &udp("0.0.0.0/0", "123"),
            ),
            vec!["app1-ns zone NotIn[\"red\"]: 198.51.100.0/24 123"],
        ),
        (
            "a Deny behind it",
            two(NTP, &deny("", &udp("0.0.0.0/0", "123"))),
            vec![NTP_OPENED],
        ),
        (
            "a Deny of a part of the ports",
            two(
                &deny("", &udp("0.0.0.0/0", "4001")),
                &accept(app1, &net("\"4000-4002\"")),
            ),
            vec![
                "app1-ns: 198.51.100.0/24 4000",
                "app1-ns: 198.51.100.0/24 4002",
            ],
        ),
        (
            "a Deny of IPv4 behind NAT64",
            two(
                &deny("", &udp("10.0.0.0/8", "123")),
                &accept(app1, &udp("\"64:ff9b::/96\"", "123")),
            ),
            vec!["app1-ns: 64:ff9b::/96 except [\"64:ff9b::a00:0/104\"] 123"],
        ),
        (
            "`default: Accept`",
            policy(
                "p",
                "{tiers: [{name: t, rules: [{name: d, action: Deny}]}], default: Accept}",
            ),
            vec![],
        ),
    ] {
        let policies = [policy];
        let seen = opened(&install(&policies), &policies);
        let wanted = wanted.into_iter().map(str::to_owned).collect();
        assert_eq!(seen, Ok(wanted), "{about}");
    }
}

#[test]
fn nothing_is_opened_that_another_policy_denies() {
    let both = NTP.replace("app1-ns", "app1-ns, app2-ns");
    let first = |rules: &str| policy("p", &format!("tiers: [{{name: t, rules: [{rules}]}}]"));
    let team = |rest: &str| {
        policy(
            "team",
            &format!("{{appliesTo: {{namespaces: [app2-ns]}}, {rest}}}"),
        )
    };
    let rules = |rules: &str| format!("tiers: [{{name: t, rules: [{rules}]}}]");
    let nothing = "{name: none, action: Deny}";
    let app2 = "app2-ns: 198.51.100.0/24 123";
    for (about, policies, wanted) in [
        (
            "a team opens what the first policy does not",
            [first(nothing), team(&rules(&both))],
            vec![],
        ),
        (
            "a team's rule for a namespace that its policy is not for",
            [first(nothing), team(&rules(NTP))],
            vec![],
        ),
        (
            "a team's rules close, for its namespace",
            [first(&both), team(&rules(nothing))],
            vec![NTP_OPENED],
        ),
        (
            "a team's policy that accepts the rest",
            [
                first(&both),
                team(&format!("{}, default: Accept", rules(nothing))),
            ],
            vec![NTP_OPENED, app2],
        ),
        (
            "a team takes a part out",
            [
                first(&both),
                team(&format!(
                    "{}, default: Accept",
                    rules(&deny("", &udp("198.51.100.0/25", "123")))
                )),
            ],
            vec![
                NTP_OPENED,
                "app2-ns: 198.51.100.0/24 except [\"198.51.100.0/25\"] 123",
            ],
        ),
        (
            "both accept a part",
            [
                first(&both),
                team(&rules(&accept(
                    "namespaces: [app2-ns]",
                    &udp("198.51.100.7/32", "1-200"),
                ))),
            ],
            vec![NTP_OPENED, "app2-ns: 198.51.100.7/32 123"],
        ),
        (
            "a team of another mesh",
            [
                first(&both),
                team(
                    "identity: {trustDomains: [other.example]}, tiers: [{name: t, default: Pass}], default: Accept",
                ),
            ],
            vec![NTP_OPENED],
        ),
    ] {
        let seen = opened(&install(&policies), &policies);
        let wanted: Vec<_> = wanted.into_iter().map(str::to_owned).collect();
        assert_eq!(seen, Ok(wanted), "{about}");
    }
}

#[test]
fn what_a_network_policy_cannot_say_is_refused_with_its_place() {
    let account = "from: [{namespaces: [app1-ns], serviceAccounts: [app1-ns/x]}], ";
    let all = udp("0.0.0.0/0", "123");
    let over = |policy: Value, spec: &str| {
        let rules = format!("{{appliesTo: {{serviceAccounts: [app1-ns/x]}}, {spec}}}");
        vec![policy, self::policy("team", &rules)]
    };
    for (policies, wanted) in [
        (
            vec![rule(&NTP.replace(
                "name: ntp",
                "name: ntp, expires: \"2020-01-01T00:00:00Z\"",
            ))],
            "p/t/ntp: spec.tiers[0].rules[0].expires: a UDP rule cannot expire",
        ),
        (
            vec![policy(
                "p",
                &format!(
                    "{{identity: {{trustDomains: [other.example]}}, tiers: [{{name: t, rules: [{NTP}]}}]}}"
                ),
            )],
            "p/t/ntp: spec.tiers[0].rules[0]: this opens nothing: `cluster.local`, the pods' trust \
             domain, is not in `trustDomains` (the install settings name it: \
             `spec.cluster.trustDomain`)",
        ),
        (
            vec![rule(&NTP.replace(
                "namespaces",
                "serviceAccounts: [app1-ns/x], namespaces",
            ))],
            "p/t/ntp: spec.tiers[0].rules[0].from: a UDP rule selects by namespaces and labels",
        ),
        (
            vec![rule(&format!("{}, {NTP}", deny(account, &all)))],
            "p/t/ntp: spec.tiers[0].rules[1]: `p/t/d` denies some of it by service account",
        ),
        (
            over(rule(NTP), "tiers: [{name: t, default: Deny}]"),
            "p/t/ntp: spec.tiers[0].rules[0]: policy `team` does not accept all of it for some \
             service accounts of `app1-ns`",
        ),
    ] {
        let problems = opened(&install(&policies), &policies).unwrap_err();
        assert!(
            problems.iter().any(|p| p.starts_with(wanted)),
            "{problems:#?} not {wanted}"
        );
        assert_eq!(problems.len(), 1, "{problems:#?}");
    }
    // Of the mesh that the settings name, and a team's policy that accepts the rest.
    let mut policies = vec![policy(
        "p",
        &format!(
            "{{identity: {{trustDomains: [other.example]}}, tiers: [{{name: t, rules: [{NTP}]}}]}}"
        ),
    )];
    let mut install = install(&policies);
    install.spec.cluster.trust_domain = "other.example".to_owned();
    assert_eq!(opened(&install, &policies), Ok(vec![NTP_OPENED.to_owned()]));
    policies = over(
        rule(NTP),
        "tiers: [{name: t, default: Pass}], default: Accept",
    );
    let seen = opened(&self::install(&policies), &policies);
    assert_eq!(seen, Ok(vec![NTP_OPENED.to_owned()]));
}

#[test]
fn each_rule_has_names_of_its_own() {
    let long = "x".repeat(60);
    let in_tiers = |tiers: &[&str], rules: &str| {
        let tiers: Vec<_> = tiers
            .iter()
            .map(|tier| format!("{{name: {tier}, rules: [{rules}]}}"))
            .collect();
        format!("tiers: [{}]", tiers.join(", "))
    };
    let accounts = NTP.replace("name: ntp", "name: c");
    let blurred = NTP.replace("name: ntp", "name: b-c");
    let pods = NTP.replace("[{namespaces: [app1-ns]}]", "[{namespaces: [app1-ns], matchLabels: {k: v}}, {namespaces: [app1-ns], matchLabels: {k: w}}]");
    let spec = format!(
        "tiers: [{{name: a-b, rules: [{accounts}]}}, {{name: a, rules: [{blurred}]}}, \
                 {{name: {long}, rules: [{NTP}, {pods_named}]}}, {{name: t, rules: [{NTP}]}}, \
                 {{name: s, rules: [{NTP}, {many}]}}]",
        pods_named = NTP.replace("name: ntp", "name: ntq"),
        many = pods.replace("name: ntp", "name: many"),
    );
    let policies = [
        policy("p", &spec),
        policy(
            "team",
            &format!(
                "{{appliesTo: {{namespaces: [app1-ns]}}, {}}}",
                in_tiers(&["t", "s"], NTP)
            ),
        ),
    ];
    let rendered = crate::render(&install(&policies), &policies).unwrap();
    let names: Vec<_> = rendered
        .objects()
        .iter()
        .map(crate::Object::name)
        .filter(|name| name.starts_with("egress-warden-udp-"))
        .collect();
    let distinct: BTreeSet<_> = names.iter().collect();
    assert_eq!(distinct.len(), names.len());
    assert_eq!(names.len(), 8, "{names:#?}");
    for name in &names {
        assert!(name.len() <= 63 && !name.ends_with('-'), "{name}");
    }
    for plain in ["p-t-ntp-0", "p-s-ntp-0", "p-s-many-0", "p-s-many-1"] {
        assert!(
            names.contains(&&*format!("egress-warden-udp-{plain}")),
            "{names:#?}"
        );
    }
}

/// The cluster's objects have the namespace in their name, and two such names can still meet.
#[test]
fn two_objects_never_have_one_name() {
    let from = |namespace: &str| NTP.replace("app1-ns", namespace);
    let odd = from("a").replace("name: ntp", "name: warden-udp-p-p-ntp");
    let tier = |tier: &str, rule: &str| {
        format!("tiers: [{{name: {tier}, rules: [{rule}]}}], default: Accept")
    };
    let applies = "appliesTo: {namespaces: [a]}";
    let policies = [
        policy(
            "p",
            &format!("{{{}}}", tier("p", &from("a-egress-warden-udp-c"))),
        ),
        policy("c", &format!("{{{applies}, {}}}", tier("egress", &odd))),
    ];
    let mut install = install(&policies);
    install.spec.workloads.namespaces = vec!["a".to_owned(), "a-egress-warden-udp-c".to_owned()];
    install.spec.policies[1].namespaces = install.spec.workloads.namespaces.clone();
    assert!(opened(&install, &policies).is_ok());
    install.spec.cluster.admin_policies =
        Some(serde_json::from_value(json!({"api": "ClusterNetworkPolicy"})).unwrap());
    let problems = opened(&install, &policies).unwrap_err();
    let wanted = "cluster.clusternetworkpolicy.a-egress-warden-udp-c-egress-warden-udp-p-p-ntp-0.istio-egress.yaml: \
                  two objects would have this kind, namespace and name";
    assert!(
        problems.iter().all(|p| p.starts_with(wanted)),
        "{problems:#?}"
    );
}
