use serde_json::json;

use egress_policy::ports::MeshPorts;

use crate::{sample, warnings};

/// `to` of the first rule, the protocol of a second rule at port 8443, the ports that are warned of.
#[test]
fn names_over_opaque_tcp_are_warned_of_and_no_others() {
    let none = "";
    for (to, other, ports) in [
        (
            json!({"ports": [22], "protocols": ["TCP"]}),
            none,
            Some("port 22"),
        ),
        (json!({"protocols": ["TCP"]}), none, Some("every port")),
        (
            json!({"ports": [443], "protocols": ["TCP"]}),
            none,
            Some("port 443"),
        ),
        (
            json!({"ports": [8443], "protocols": ["TCP", "TLS"]}),
            none,
            Some("port 8443"),
        ),
        (
            json!({"ports": [8443], "protocols": ["TCP", "TLS"]}),
            "TLS",
            None,
        ),
        // Nothing says what they carry.
        (json!({"ports": [5432]}), none, Some("port 5432")),
        (json!({"ports": [80, 443, 8443]}), none, Some("port 8443")),
        (json!({"ports": [80, 443, 8443]}), "TLS", None),
        (json!({"ports": [80, 443, 8443]}), "HTTP", None),
        (json!({"ports": ["8000-8999", "9000-9010"]}), "HTTP", None),
        (
            json!({"ports": ["8000-8999", "9090-9099"]}),
            "HTTP",
            Some("port 9090-9099"),
        ),
        (json!({"ports": [80, 443]}), none, None),
        (json!({}), none, None),
        (json!({"ports": [22], "protocols": ["TLS"]}), none, None),
        (json!({"ports": [8080], "methods": ["GET"]}), none, None),
    ] {
        let mut element = to.clone();
        element["domainNames"] = json!(["a.example", "b.example"]);
        let mut rules = vec![json!({"name": "r", "to": [element], "action": "Accept"})];
        if !other.is_empty() {
            let to = json!({"domainNames": ["c.example"], "ports": [8443], "protocols": [other]});
            rules.push(json!({"name": "s", "to": [to], "action": "Accept"}));
        }
        let policy = sample::policy("p", &json!({"name": "t", "rules": rules}));
        let read = crate::documents::policy(&policy);
        assert!(read.is_ok(), "{read:?}");
        let warnings = warnings(&sample::install(""), &[policy]);
        let found: Vec<_> = warnings.iter().map(ToString::to_string).collect();
        let wanted =
            ports.map(|ports| format!("p/t/r: `a.example` and 1 more over opaque TCP ({ports}): "));
        assert_eq!(found.len(), wanted.iter().len(), "{to} {other}: {found:?}");
        for (found, wanted) in found.iter().zip(&wanted) {
            assert!(found.starts_with(wanted), "{to} {other}: {found}");
        }
    }
}

/// Methods, paths and upgrades are of requests alone: their element says what its port carries.
#[test]
fn what_only_requests_have_makes_a_port_carry_http() {
    for condition in ["methods: [GET]", "paths: [/a]", "upgrades: [websocket]"] {
        let policy = format!(
            "apiVersion: egress-warden.io/v1alpha1
kind: ClusterEgressPolicy
metadata: {{name: p}}
spec:
  identity: {{trustDomains: [cluster.local]}}
  tiers: [{{name: t, rules: [{{name: r, to: [{{domainNames: [a.example], ports: [8080], {condition}}}], action: Accept}}]}}]
"
        );
        let policy = serde_saphyr::from_str(&policy).unwrap();
        let policy = crate::documents::policy(&policy).unwrap();
        let none = crate::install::PortProtocols::default();
        let traffic = MeshPorts::of(&[policy], &none.stated(), &mut Vec::new());
        assert!(traffic.http.contains(&8080), "{condition}");
    }
}

/// A destination with `tls` is asked for as HTTP, whatever its port.
#[test]
fn origination_is_no_opaque_tcp() {
    let policy = include_str!("../../../cases/policies/origination.yaml");
    let policy = serde_saphyr::from_str(policy).unwrap();
    assert_eq!(warnings(&sample::install(""), &[policy]), []);
}

/// `from` and `to` of an Inspect rule before and behind the one that accepts with `tls`, for app1-ns
/// with the label `a: b`; whether requests that go out in TLS fall to it, in each place, and as a
/// rule of a later policy.
#[test]
fn what_is_inspected_in_front_of_tls_is_warned_of() {
    let (before, never) = ([true, false, true], [false; 3]);
    let app1 = json!({"namespaces": ["app1-ns"]});
    let install = sample::install("policies: [{name: q}, {name: p}]");
    for (from, to, expected) in [
        (
            &app1,
            json!({"domainNames": ["api.pay.example"], "ports": [443]}),
            before,
        ),
        (&app1, json!({"domainNames": ["*.pay.example"]}), before),
        (&app1, json!({"ports": ["1-1000"]}), before),
        (
            &app1,
            json!({"domainNames": ["*.pay.example"], "ports": [80, 8443]}),
            never,
        ),
        (
            &app1,
            json!({"domainNames": ["*.example.com"], "ports": [443]}),
            never,
        ),
        (
            &app1,
            json!({"domainNames": ["*.pay.example"], "ports": [443], "protocols": ["TLS"]}),
            never,
        ),
        (
            &app1,
            json!({"networks": ["192.0.2.0/24"], "ports": [443]}),
            never,
        ),
        (
            &json!({"namespaces": ["app2-ns"]}),
            json!({"ports": [443]}),
            never,
        ),
        (
            &json!({"serviceAccounts": ["app2-ns/x"]}),
            json!({"ports": [443]}),
            never,
        ),
        (
            &json!({"serviceAccounts": ["app1-ns/x"]}),
            json!({"ports": [443]}),
            before,
        ),
        (
            &json!({"matchLabels": {"a": "c"}}),
            json!({"ports": [443]}),
            never,
        ),
        (
            &json!({"matchLabels": {"c": "d"}}),
            json!({"ports": [443]}),
            before,
        ),
    ] {
        let inspects = json!({
            "name": "watch", "from": [from], "to": [to], "action": "Inspect", "inspection": "dlp",
        });
        let accepts = json!({
            "name": "pay",
            "from": [{"namespaces": ["app1-ns"], "matchLabels": {"a": "b"}}],
            "to": [{"domainNames": ["api.pay.example"], "ports": [443], "tls": {"originate": true}}],
            "action": "Accept",
        });
        let policy = |name: &str, rules: &[&serde_json::Value]| {
            sample::policy(name, &json!({"name": "t", "rules": rules}))
        };
        let both = [
            vec![policy("p", &[&inspects, &accepts])],
            vec![policy("p", &[&accepts, &inspects])],
            vec![policy("q", &[&accepts]), policy("p", &[&inspects])],
        ];
        let found = both.map(|policies| {
            for policy in &policies {
                crate::documents::policy(policy).unwrap();
            }
            let warnings = warnings(&install, &policies);
            let mut warnings = warnings.iter().map(ToString::to_string);
            warnings
                .any(|text| text.starts_with("p/t/watch: it takes requests to `api.pay.example`"))
        });
        assert_eq!(found, expected, "{from} {to}");
    }
}

/// An element of a later policy, and what of the ports that the first one and the settings state it
/// would change: the port, what it carries and what it would carry.
#[test]
fn later_policies_change_no_port() {
    let first = sample::policy(
        "first",
        &json!({"name": "t", "rules": [
            {"name": "ssh", "action": "Accept",
             "to": [{"networks": ["203.0.113.7/32"], "ports": [22], "protocols": ["TCP"]}]},
            {"name": "no", "action": "Deny",
             "to": [{"domainNames": ["a.example"], "ports": [9090], "protocols": ["HTTP"]}]},
            {"name": "https", "action": "Accept",
             "to": [{"domainNames": ["b.example"], "ports": [7443], "tls": {"originate": true}}]},
        ]}),
    );
    let install =
        sample::install("policies: [{name: first}, {name: later, namespaces: [app1-ns]}]");
    let settings =
        |text: &str| -> crate::install::PortProtocols { serde_saphyr::from_str(text).unwrap() };
    let settings = settings("{http: [8080], tls: [8443], tcp: [5432]}");
    for (element, conflict) in [
        (
            json!({"ports": [80, 8080, 9090, 7443], "protocols": ["HTTP"]}),
            None,
        ),
        (json!({"ports": [443, 8443], "protocols": ["TLS"]}), None),
        (json!({"ports": [22, 80, 443]}), None),
        (
            json!({"ports": [22, 5432, 6000], "protocols": ["TCP"]}),
            None,
        ),
        (json!({"ports": [443], "protocols": ["TCP"]}), None),
        (json!({"ports": ["1-65535"], "protocols": ["TCP"]}), None),
        (json!({"protocols": ["TLS"]}), None),
        (json!({"ports": [22], "protocols": ["TCP", "TLS"]}), None),
        (
            json!({"ports": [22], "protocols": ["TLS"]}),
            Some("22 TCP TLS"),
        ),
        (
            json!({"ports": [443, 22], "protocols": ["TLS"]}),
            Some("22 TCP TLS"),
        ),
        (
            json!({"ports": [5432], "protocols": ["TLS"]}),
            Some("5432 TCP TLS"),
        ),
        (
            json!({"ports": [8080], "protocols": ["TLS"]}),
            Some("8080 HTTP TLS"),
        ),
        (
            json!({"ports": [8443], "protocols": ["HTTP"]}),
            Some("8443 TLS HTTP"),
        ),
        (
            json!({"ports": [3000], "protocols": ["HTTP"], "methods": ["GET"]}),
            Some("3000 TCP HTTP"),
        ),
        (
            json!({"ports": [3000], "protocols": ["HTTP"], "paths": ["/a"]}),
            Some("3000 TCP HTTP"),
        ),
        (
            json!({"ports": ["3000-4000"], "protocols": ["HTTP"]}),
            Some("3000 TCP HTTP"),
        ),
    ] {
        let mut to = element.clone();
        to["domainNames"] = json!(["c.example"]);
        for (action, mode) in [
            ("Accept", "Enforce"),
            ("Deny", "Enforce"),
            ("Accept", "Shadow"),
        ] {
            let rule = json!({
                "name": "r", "mode": mode, "from": [{"namespaces": ["app1-ns"]}],
                "to": [{"domainNames": ["d.example"], "ports": [80]}, to], "action": action,
            });
            let mut later = sample::policy("later", &json!({"name": "t", "rules": [rule]}));
            later["spec"]["appliesTo"] = json!({"namespaces": ["app1-ns"]});
            let both = [&first, &later].map(|policy| crate::documents::policy(policy).unwrap());
            let stated = settings.stated();
            let found = MeshPorts::of(&both, &stated, &mut Vec::new()).conflicts(&both, &stated);
            let words: Vec<_> = found
                .iter()
                .map(|one| {
                    assert_eq!((one.policy, one.tier, one.rule, one.to), (1, 0, 0, 1));
                    let (carried, wanted) = (one.carried.as_str(), one.wanted.as_str());
                    format!("{} {carried} {wanted}", one.port)
                })
                .collect();
            let wanted: Vec<_> = conflict.iter().map(|&one| one.to_owned()).collect();
            assert_eq!(words, wanted, "{element} {action} {mode}");

            let mut install = install.clone();
            install.spec.gateway.protocols = settings.clone();
            let rendered = crate::render(&install, &[first.clone(), later.clone()]);
            let said = rendered.err().unwrap_or_default();
            let said = said
                .iter()
                .filter(|problem| problem.to_string().starts_with("later/t/r: "));
            assert_eq!(said.count(), wanted.len(), "{element} {action} {mode}");
        }
    }
}

/// An element of the first policy, and what is said of it: it names the rule.
#[test]
fn what_the_first_policy_cannot_say_of_a_port() {
    let mut install = sample::install("");
    install.spec.gateway.protocols =
        serde_saphyr::from_str("{http: [8080], tls: [8443], tcp: [5432]}").unwrap();
    for (element, said) in [
        (
            json!({"ports": [443], "methods": ["GET"], "protocols": ["HTTP"]}),
            "443 carries TLS (always)",
        ),
        (
            json!({"ports": [80], "protocols": ["TLS"]}),
            "80 carries HTTP (always)",
        ),
        (
            json!({"ports": [8443], "protocols": ["HTTP"]}),
            "8443 carries TLS (`gateway.protocols`)",
        ),
        (
            json!({"ports": [5432], "protocols": ["TLS"]}),
            "5432 carries TCP (`gateway.protocols`)",
        ),
        (
            json!({"ports": [9000], "protocols": ["TLS"]}),
            "9000 carries HTTP (rule `p/t/before`)",
        ),
        (
            json!({"ports": [15000], "protocols": ["HTTP"]}),
            "15000 is one that sidecars listen on",
        ),
        (
            json!({"ports": [15090], "protocols": ["TLS"]}),
            "15090 is one that sidecars listen on",
        ),
        (json!({"ports": [14999, 15091], "protocols": ["HTTP"]}), ""),
        (json!({"ports": [15006], "protocols": ["TCP"]}), ""),
        (json!({"ports": [8080, 9000], "protocols": ["HTTP"]}), ""),
    ] {
        let mut to = element.clone();
        to["domainNames"] = json!(["a.example"]);
        let before = json!({"domainNames": ["b.example"], "ports": [9000], "protocols": ["HTTP"]});
        let policy = sample::policy(
            "p",
            &json!({"name": "t", "rules": [
                {"name": "before", "to": [before], "action": "Accept"},
                {"name": "r", "to": [to], "action": "Accept"},
            ]}),
        );
        let found = crate::render(&install, &[policy]).err().unwrap_or_default();
        let found: Vec<_> = found.iter().map(ToString::to_string).collect();
        match found.as_slice() {
            [] => assert_eq!(said, "", "{element}"),
            [one] => {
                assert!(!said.is_empty(), "{element}: {one}");
                assert!(
                    one.starts_with(&format!("p/t/r: port {said}")),
                    "{element}: {one}"
                );
            }
            _ => panic!("{element}: {found:?}"),
        }
    }
}

/// What the settings say of ports by themselves, and against the first policy.
#[test]
fn settings_and_the_first_policy_agree_about_ports() {
    let policy = sample::policy(
        "p",
        &json!({"name": "t", "rules": [{"name": "r", "action": "Accept",
            "to": [{"domainNames": ["a.example"], "ports": [8080], "protocols": ["HTTP"]}]}]}),
    );
    for (protocols, sound) in [
        ("{}", true),
        ("{http: [8080, 9000], tls: [993], tcp: [22]}", true),
        ("{tls: [8080]}", false),
        ("{tcp: [8080]}", false),
        ("{http: [993], tls: [993]}", false),
        ("{http: [0]}", false),
        ("{http: [443]}", false),
        ("{tls: [80]}", false),
        ("{tcp: [80]}", false),
        ("{tcp: [443]}", false),
        ("{tcp: [22, 22]}", false),
        ("{http: [15021]}", false),
        ("{tls: [15090]}", false),
        ("{tcp: [15021]}", true),
    ] {
        let mut install = sample::install("");
        install.spec.gateway.protocols = serde_saphyr::from_str(protocols).unwrap();
        let rendered = crate::render(&install, std::slice::from_ref(&policy));
        assert_eq!(rendered.is_ok(), sound, "{protocols}: {:?}", rendered.err());
    }
}
