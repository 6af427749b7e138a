use super::*;
use crate::facts::Protocol;
use crate::tree::Tree;

/// Reads a policy whose one rule, and whatever else stands in `spec`, is given as YAML.
fn read(spec: &str) -> Result<Policy, Vec<String>> {
    let text = format!(
        "apiVersion: egress-warden.io/v1alpha1\nkind: ClusterEgressPolicy\nmetadata: {{name: p}}\nspec:\n{spec}"
    );
    let tree: Tree =
        serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    Policy::read(&&tree).map_err(|defects| defects.iter().map(ToString::to_string).collect())
}

fn rule(rule: &str) -> Result<Rule, Vec<String>> {
    let spec = format!(
        "  identity: {{trustDomains: [cluster.local]}}
  destinations:
    web: {{domainNames: [web.example], ports: [80, 443]}}
    shell: [{{networks: [192.0.2.0/24], ports: [22]}}, {{domainNames: [ssh.example], ports: [22]}}]
    pages: {{domainNames: [pages.example], ports: [80], paths: [/a/**]}}
    paid: {{domainNames: [paid.example], ports: [443], tls: {{originate: true}}}}
  tiers:
  - name: t
    rules:
    - {rule}
"
    );
    let mut policy = read(&spec)?;
    Ok(policy.tiers.remove(0).rules.remove(0))
}

/// What is wrong, without the place of the rule itself.
fn wrong(text: &str) -> Vec<String> {
    let defects = rule(text).expect_err(text);
    let place = "spec.tiers[0].rules[0]";
    let short = |defect: String| {
        let rest = defect
            .strip_prefix(place)
            .map(str::to_owned)
            .unwrap_or(defect);
        rest.trim_start_matches(['.', ':']).trim_start().to_owned()
    };
    defects.into_iter().map(short).collect()
}

#[test]
fn defects_of_a_rule_with_place_and_message() {
    let table: &[(&str, &[&str])] = &[
        ("{action: Deny}", &["`name` is missing"]),
        ("{name: r}", &["`action` is missing"]),
        ("{name: R, action: Deny}", &["name: `R` is not a name"]),
        (
            "{name: r, action: deny}",
            &["action: unknown value `deny` (did you mean `Deny`?)"],
        ),
        (
            "{name: r, action: Allow}",
            &["action: unknown value `Allow` (one of"],
        ),
        (
            "{name: r, action: Accept, form: []}",
            &["form: unknown field `form` (did you mean `from`?)"],
        ),
        (
            "{name: r, action: Accept, from: []}",
            &["from: this list is empty"],
        ),
        (
            "{name: r, action: Accept, from: [{}]}",
            &["from[0]: this mapping is empty"],
        ),
        (
            "{name: r, action: Accept, from: {namespaces: [a]}}",
            &["from: expected a list, found a mapping"],
        ),
        (
            "{name: r, action: Accept, from: null}",
            &["from: expected a list, found nothing"],
        ),
        (
            "{name: r, action: Accept, to: []}",
            &["to: this list is empty"],
        ),
        (
            "{name: r, action: Accept, from: [{namespaces: [\"*\"]}]}",
            &["from[0].namespaces[0]: `*` is not allowed here"],
        ),
        (
            "{name: r, action: Accept, from: [{namespaces: [a, a]}]}",
            &["from[0].namespaces[1]: `a` is listed twice"],
        ),
        (
            "{name: r, action: Accept, from: [{serviceAccounts: [x]}]}",
            &["from[0].serviceAccounts[0]: `x` is not a service account"],
        ),
        (
            "{name: r, action: Accept, from: [{namespaces: [a], serviceAccounts: [b/x]}]}",
            &["from[0]: no service account here lies in one of the namespaces"],
        ),
        (
            "{name: r, action: Accept, from: [{matchLabels: {}}]}",
            &["from[0].matchLabels: this selector is empty"],
        ),
        (
            "{name: r, action: Accept, from: [{matchLabels: {a: 1}}]}",
            &[
                "from[0].matchLabels.a: expected a text, found a number (label values are texts: quote it)",
            ],
        ),
        (
            "{name: r, action: Accept, from: [{matchLabels: {-a: x}}]}",
            &["from[0].matchLabels.-a: `-a` is no label key"],
        ),
        (
            "{name: r, action: Accept, from: [{matchExpressions: [{key: a, operator: NotIn, values: [x]}]}]}",
            &["from[0].matchExpressions[0]: NotIn and DoesNotExist open only beside Exists or In"],
        ),
        (
            "{name: r, action: Pass, from: [{matchExpressions: [{key: a, operator: DoesNotExist}]}]}",
            &["from[0].matchExpressions[0]: NotIn and DoesNotExist open only beside Exists or In"],
        ),
        (
            "{name: r, action: Accept, from: [{matchExpressions: [{key: a, operator: In}]}]}",
            &["from[0].matchExpressions[0]: In and NotIn need `values`"],
        ),
        (
            "{name: r, action: Accept, from: [{matchExpressions: [{key: a, operator: Exists, values: [x]}]}]}",
            &["from[0].matchExpressions[0]: Exists and DoesNotExist take no `values`"],
        ),
        (
            "{name: r, action: Accept, from: [{anyone: false}]}",
            &["from[0].anyone: `anyone` is true or absent"],
        ),
        (
            "{name: r, action: Accept, from: [{anyone: true, namespaces: [a]}]}",
            &["from[0]: `anyone` stands alone in its element"],
        ),
        (
            "{name: r, action: Accept, from: [{anyone: true}, {namespaces: [a]}]}",
            &["from: elements beside `anyone` have no effect"],
        ),
        (
            "{name: r, action: Accept, to: [{domainNames: [a.example], networks: [192.0.2.0/24]}]}",
            &[
                "to[0]: an element names its destination by `domainNames` or by `networks` (write two elements",
            ],
        ),
        (
            "{name: r, action: Accept, to: [{destination: web, domainNames: [a.example]}]}",
            &["to[0]: an element names its destination once (write two elements"],
        ),
        (
            "{name: r, action: Accept, to: [{destination: wed}]}",
            &["to[0].destination: no destination is named `wed` (did you mean `web`?)"],
        ),
        (
            "{name: r, action: Accept, to: [{destination: web, ports: [8080]}]}",
            &["to[0]: nothing is left of the destination"],
        ),
        (
            "{name: r, action: Accept, to: [{destination: pages, paths: [/a/b]}]}",
            &["to[0].paths: the destination already says `paths`"],
        ),
        (
            "{name: r, action: Accept, to: [{protocols: [TCP]}]}",
            &["to[0].ports: an element without names or networks needs `ports`"],
        ),
        (
            "{name: r, action: Accept, to: [{domainNames: [\"*\"]}]}",
            &["to[0].domainNames[0]: `*`: a `*` in the last two labels opens a whole domain"],
        ),
        (
            "{name: r, action: Accept, to: [{domainNames: [\"*github.com\"]}]}",
            &["to[0].domainNames[0]: `*github.com`: a `*` in the last two labels"],
        ),
        (
            "{name: r, action: Accept, to: [{domainNames: [a.example, A.example]}]}",
            &["to[0].domainNames[1]: `a.example` is listed twice"],
        ),
        (
            "{name: r, action: Accept, to: [{networks: [192.0.2.1]}]}",
            &[
                "to[0].networks[0]: `192.0.2.1`: a network needs its prefix length (write `192.0.2.1/32`)",
            ],
        ),
        (
            "{name: r, action: Accept, to: [{networks: [192.0.2.1/24]}]}",
            &[
                "to[0].networks[0]: `192.0.2.1/24`: bits are set behind the prefix length (write `192.0.2.0/24`)",
            ],
        ),
        (
            "{name: r, action: Accept, to: [{domainNames: [a.example], except: [192.0.2.0/24]}]}",
            &["to[0].except: `except` belongs to `networks`"],
        ),
        (
            "{name: r, action: Accept, to: [{networks: [192.0.2.0/24], except: [10.0.0.0/8]}]}",
            &["to[0].except[0]: `10.0.0.0/8` is in none of the networks"],
        ),
        (
            "{name: r, action: Accept, to: [{networks: [192.0.2.0/24], except: [192.0.2.0/24]}]}",
            &["to[0].except: `192.0.2.0/24` is excepted whole"],
        ),
        (
            "{name: r, action: Accept, to: [{ports: [0]}]}",
            &["to[0].ports[0]: `0`: this is neither a port nor a range of ports"],
        ),
        (
            "{name: r, action: Accept, to: [{ports: [\"90-80\"]}]}",
            &["to[0].ports[0]: `90-80`: the end of a range lies above its start"],
        ),
        (
            "{name: r, action: Accept, to: [{ports: [70000]}]}",
            &["to[0].ports[0]: `70000`: a port is at most 65535"],
        ),
        (
            "{name: r, action: Accept, to: [{ports: [80], protocols: [http]}]}",
            &["to[0].protocols[0]: unknown value `http` (did you mean `HTTP`?)"],
        ),
        (
            "{name: r, action: Accept, to: [{domainNames: [a.example], protocols: [TLS], methods: [GET]}]}",
            &["to[0].protocols: methods, paths and upgrades make an element HTTP only"],
        ),
        (
            "{name: r, action: Deny, to: [{domainNames: [a.example], methods: [GET]}]}",
            &[
                "to[0].protocols: methods, paths and upgrades in a Deny rule need `protocols: [HTTP]`",
            ],
        ),
        (
            "{name: r, action: Deny, to: [{destination: pages}]}",
            &[
                "to[0].protocols: methods, paths and upgrades in a Deny rule need `protocols: [HTTP]`",
            ],
        ),
        (
            "{name: r, action: Accept, to: [{domainNames: [a.example], ports: [443], paths: [/a]}]}",
            &["to[0].ports: port 443 carries TLS, so this never matches"],
        ),
        (
            "{name: r, action: Accept, to: [{domainNames: [a.example], methods: [get]}]}",
            &[
                "to[0].methods[0]: `get` is not allowed here (methods are case-sensitive; did you mean `GET`?)",
            ],
        ),
        (
            "{name: r, action: Accept, to: [{domainNames: [a.example], paths: [a]}]}",
            &["to[0].paths[0]: `a`: a path glob starts with `/`"],
        ),
        (
            "{name: r, action: Accept, to: [{domainNames: [a.example], upgrades: [h2c]}]}",
            &["to[0].upgrades[0]: `h2c` is not allowed here"],
        ),
        (
            "{name: r, action: Accept, to: [{networks: [10.0.0.0/8], allowPrivate: true}]}",
            &["to[0].allowPrivate: `allowPrivate` goes with `domainNames`"],
        ),
        (
            "{name: r, action: Accept, from: [{namespaces: [a]}], to: [{domainNames: [a.example], ports: [53], protocols: [UDP]}]}",
            &["to[0].protocols: UDP needs `networks` and `ports`"],
        ),
        (
            "{name: r, action: Accept, from: [{matchLabels: {a: b}}], to: [{networks: [192.0.2.0/24], ports: [53], protocols: [UDP]}]}",
            &["from: a UDP rule names `namespaces` in every element"],
        ),
        (
            "{name: r, action: Pass, from: [{namespaces: [a]}], to: [{networks: [192.0.2.0/24], ports: [53], protocols: [UDP]}]}",
            &["action: a UDP rule accepts or denies"],
        ),
        (
            "{name: r, action: Deny, expires: \"2027-01-01T00:00:00Z\"}",
            &["expires: `expires` goes with Accept only"],
        ),
        (
            "{name: r, action: Accept, expires: tomorrow}",
            &["expires: `tomorrow` is not a time"],
        ),
        (
            "{name: r, action: Accept, expires: \"2027-01-01\"}",
            &["expires: `2027-01-01` is not a time"],
        ),
        (
            "{name: r, action: Inspect}",
            &["Inspect needs `inspection`"],
        ),
        (
            "{name: r, action: Accept, inspection: dlp}",
            &["inspection: `inspection` goes with Inspect only"],
        ),
        (
            "{name: r, action: Accept, mode: shadow}",
            &["mode: unknown value `shadow` (did you mean `Shadow`?)"],
        ),
        (
            "{name: r, action: Accept, owner: \"\"}",
            &["owner: this text is empty"],
        ),
        (
            "{name: r, action: Accept, from: [{namespaces: [A]}], to: [{ports: [0], bogus: 1}], expires: x}",
            &[
                "from[0].namespaces[0]: `A` is not allowed here",
                "to[0].ports[0]: `0`: this is neither",
                "to[0].bogus: unknown field `bogus`",
                "expires: `x` is not a time",
            ],
        ),
    ];
    as_in_table(table);
}

#[test]
fn defects_of_tls_origination() {
    as_in_table(&[
        (
            "{name: r, action: Accept, to: [{networks: [192.0.2.0/24], tls: {originate: true}}]}",
            &["to[0].tls: `tls` goes with `domainNames`"],
        ),
        (
            "{name: r, action: Accept, to: [{domainNames: [a.example], tls: {originate: false}}]}",
            &["to[0].tls.originate: `originate` is true, or `tls` is left out"],
        ),
        (
            "{name: r, action: Inspect, inspection: dlp, to: [{domainNames: [a.example], ports: [443], tls: {originate: true}}]}",
            &["to[0]: what the gateway sends in TLS of its own cannot be inspected"],
        ),
        (
            "{name: r, action: Accept, to: [{destination: web, tls: {originate: true}}]}",
            &["to[0].tls: `tls` belongs to the destination itself"],
        ),
        (
            "{name: r, action: Accept, to: [{domainNames: [a.example], tls: {originate: true}}]}",
            &["to[0].ports: `tls` needs `ports`"],
        ),
        (
            "{name: r, action: Accept, to: [{destination: paid, protocols: [TLS]}]}",
            &["to[0].protocols: where the gateway originates TLS the application speaks HTTP"],
        ),
        (
            "{name: r, action: Accept, to: [{domainNames: [a.example], ports: [443], tls: {originate: true, caCertificates: ca.pem/../x, verify: false}}]}",
            &[
                "to[0].tls.caCertificates: `ca.pem/../x` is neither",
                "to[0].tls.verify: unknown field `verify`",
            ],
        ),
        (
            "{name: r, action: Accept, to: [{domainNames: [a.example], ports: [443], tls: {originate: true, clientCertificate: /etc/key}}]}",
            &["to[0].tls.clientCertificate: `/etc/key` is no name of a secret"],
        ),
        (
            "{name: r, action: Accept, to: [{domainNames: [a.example], ports: [443], tls: {originate: true, sni: \"*.a.example\"}}]}",
            &["to[0].tls.sni: `*.a.example` is a pattern"],
        ),
    ]);
}

/// Rules, and how each of their defects begins.
fn as_in_table(table: &[(&str, &[&str])]) {
    for (text, expected) in table {
        let found = wrong(text);
        let as_expected = found.len() == expected.len()
            && found
                .iter()
                .zip(*expected)
                .all(|(found, start)| found.starts_with(start));
        assert!(
            as_expected,
            "{text}\nfound {found:#?}\nexpected {expected:#?}"
        );
    }
}

#[test]
fn defects_of_a_policy_with_place_and_message() {
    let identity = "  identity: {trustDomains: [cluster.local]}\n";
    let tiers = "  tiers: [{name: t, default: Deny}]\n";
    let table: &[(String, &str)] = &[
        (tiers.to_owned(), "spec: `identity` is missing"),
        (identity.to_owned(), "spec: `tiers` is missing"),
        (
            format!("  identity: {{trustDomains: []}}\n{tiers}"),
            "spec.identity.trustDomains: this list is empty",
        ),
        (
            format!("  identity: {{trustDomains: [\"*\"]}}\n{tiers}"),
            "spec.identity.trustDomains[0]: `*` is not allowed here",
        ),
        (
            format!("{identity}  tiers: []\n"),
            "spec.tiers: this list is empty",
        ),
        (
            format!("{identity}  tiers: [{{name: t}}]\n"),
            "spec.tiers[0]: `rules` is missing",
        ),
        (
            format!("{identity}  tiers: [{{name: t, default: Accept}}]\n"),
            "spec.tiers[0].default: unknown value `Accept`",
        ),
        (
            format!(
                "{identity}  tiers: [{{name: t, default: Deny}}, {{name: t, default: Deny}}]\n"
            ),
            "spec.tiers[1].name: another tier is named `t`",
        ),
        (
            format!(
                "{identity}  tiers: [{{name: t, rules: [{{name: r, action: Deny}}, {{name: r, action: Deny}}]}}]\n"
            ),
            "spec.tiers[0].rules[1].name: another rule of this tier is named `r`",
        ),
        (
            format!("{identity}{tiers}  default: Pass\n"),
            "spec.default: unknown value `Pass`",
        ),
        (
            format!("{identity}{tiers}  destinations: {{}}\n"),
            "spec.destinations: this mapping is empty",
        ),
        (
            format!("{identity}{tiers}  destinations: {{a: {{destination: b}}}}\n"),
            "spec.destinations.a.destination: unknown field `destination`",
        ),
        (
            format!("{identity}{tiers}  destinations: {{a: {{file: a.txt, ports: [443]}}}}\n"),
            "spec.destinations.a.file: `file`: the gateway reads no lists from files",
        ),
        (
            format!("{identity}{tiers}  shadowWorkloads: [{{namespaces: [a]}}]\n"),
            "spec.shadowWorkloads[0]: `expires` is missing",
        ),
        (
            format!(
                "{identity}{tiers}  shadowWorkloads: [{{expires: \"2027-01-01T00:00:00Z\"}}]\n"
            ),
            "spec.shadowWorkloads[0]: no workload is named",
        ),
        (
            format!("{identity}{tiers}  appliesTo: {{}}\n"),
            "spec.appliesTo: this mapping is empty",
        ),
        (
            format!("{identity}{tiers}  rules: []\n"),
            "spec.rules: unknown field `rules`",
        ),
    ];
    for (spec, expected) in table {
        let found = read(spec).map(|policy| policy.head.name).expect_err(spec);
        assert!(
            found.iter().any(|defect| defect.starts_with(expected)),
            "{spec}\nfound {found:#?}"
        );
    }
}

#[test]
fn a_file_that_is_no_policy() {
    for (yaml, expected) in [
        ("[]", "expected a mapping, found a list"),
        ("{}", "this mapping is empty"),
        ("a", "expected a mapping, found a text"),
        (
            "{kind: ClusterEgressPolicy, metadata: {name: p}, spec: {}}",
            "`apiVersion` is missing",
        ),
        (
            "{apiVersion: v1, kind: ClusterEgressPolicy, metadata: {name: p}, spec: {}}",
            "apiVersion: unknown value `v1`",
        ),
        (
            "{apiVersion: egress-warden.io/v1alpha1, kind: NetworkPolicy, metadata: {name: p}, spec: {}}",
            "kind: unknown value `NetworkPolicy`",
        ),
        (
            "{apiVersion: egress-warden.io/v1alpha1, kind: ClusterEgressPolicy, metadata: {name: p, labels: {}}, spec: {}}",
            "metadata.labels: unknown field `labels`",
        ),
    ] {
        let tree: Tree = serde_saphyr::from_str(yaml).expect(yaml);
        let defects = Policy::read(&&tree).expect_err(yaml);
        let found: Vec<String> = defects.iter().map(ToString::to_string).collect();
        assert!(
            found.iter().any(|defect| defect.starts_with(expected)),
            "{yaml}\nfound {found:#?}"
        );
    }
}

#[test]
fn duplicate_keys_in_json_are_defects() {
    let json = r#"{"apiVersion": "egress-warden.io/v1alpha1", "kind": "ClusterEgressPolicy", "metadata": {"name": "p"},
        "spec": {"identity": {"trustDomains": ["cluster.local"]}, "tiers": [{"name": "t", "default": "Deny", "rules":
        [{"name": "r", "action": "Deny", "action": "Accept",
          "from": [{"matchLabels": {"a": "x", "a": "y"}}]}]}]}}"#;
    let document = crate::tree::Json::parse(json).expect("JSON");
    let defects = Policy::read(&document).expect_err("two duplicates");
    let found: Vec<String> = defects.iter().map(ToString::to_string).collect();
    assert_eq!(
        found,
        [
            "spec.tiers[0].rules[0].action: `action` is given twice",
            "spec.tiers[0].rules[0].from[0].matchLabels.a: `a` is given twice",
        ]
    );
}

#[test]
fn what_is_left_out() {
    let accept = rule("{name: r, action: Accept}").expect("a rule");
    assert_eq!(
        (accept.from, accept.to.len(), accept.mode),
        (crate::model::From::AnyWorkload, 0, Mode::Enforce)
    );
    let deny = rule("{name: r, action: Deny}").expect("a rule");
    assert_eq!(deny.from, crate::model::From::Anyone);
    let anyone = rule("{name: r, from: [{anyone: true}], action: Accept}").expect("a rule");
    assert_eq!(anyone.from, crate::model::From::Anyone);
}

#[test]
fn a_named_destination_becomes_its_elements_narrowed() {
    let shell = rule("{name: r, to: [{destination: shell, protocols: [TCP]}], action: Accept}")
        .expect("a rule");
    assert_eq!(shell.to.len(), 2);
    assert!(
        shell
            .to
            .iter()
            .all(|to| to.protocols == [crate::facts::Protocol::Tcp])
    );
    assert!(
        shell
            .to
            .iter()
            .all(|to| to.destination.as_deref() == Some("shell"))
    );
    let web = rule("{name: r, to: [{destination: web, ports: [443, 8443]}], action: Accept}")
        .expect("a rule");
    assert_eq!(web.to[0].ports.to_string(), "443");
}

/// TLS of the caller's own would come without the client certificate, past a server that nobody
/// verified; a Deny takes whatever carries it.
#[test]
fn where_the_gateway_originates_tls_only_requests_open() {
    let protocols = |action: &str| {
        let rule = rule(&format!(
            "{{name: r, action: {action}, to: [{{destination: paid}}]}}"
        ));
        rule.expect("a rule").to.remove(0).protocols
    };
    assert_eq!(protocols("Accept"), [Protocol::Http]);
    assert_eq!(protocols("Pass"), [Protocol::Http]);
    assert_eq!(protocols("Deny"), []);
}

#[test]
fn times_are_seconds_whatever_their_zone() {
    for (text, seconds) in [
        ("2027-01-01T00:00:00Z", 1_798_761_600),
        ("2027-01-01T01:00:00+01:00", 1_798_761_600),
        ("1970-01-01T00:00:00Z", 0),
    ] {
        let rule = rule(&format!("{{name: r, action: Accept, expires: \"{text}\"}}")).expect(text);
        assert_eq!(rule.expires, Some(seconds), "{text}");
    }
}
