use serde_json::{Value, json};

use super::{PluginSite, resource};
use crate::audit::dump::{Dump, snake_case};
use crate::envoy::GATE;
use crate::install::Install;
use crate::{EmbeddedPolicies, RenderError, prepared::Enforced};

const INSTALL: &str = include_str!("../../../../istio/reference/install.yaml");
const POLICY: &str = include_str!("../../../../cases/policies/reference.yaml");

fn policy(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap()
}

fn enforced(install: &Install, policy: Value) -> Enforced {
    Enforced::of(install, &[policy]).ok().unwrap()
}

/// Settings by which the module's image carries these policies.
fn carrying(policy: &Value) -> Install {
    let mut install = Install::read(INSTALL).unwrap();
    let documents = std::slice::from_ref(policy);
    let carried = EmbeddedPolicies::of(&install, documents).unwrap();
    install.spec.module.policy = Some(carried.hash().to_owned());
    install
}

/// A dump of Envoy's with these texts in the places.
fn dump(texts: &[(&str, String)]) -> Value {
    let filters: Vec<_> = texts
        .iter()
        .map(|(name, text)| {
            json!({"version_info": "1", "ecds_filter": {
                "name": format!("istio-egress.{name}"),
                "typed_config": {"config": {"configuration": {"value": text}}},
            }})
        })
        .collect();
    json!({"configs": [
        {"@type": "type.googleapis.com/envoy.admin.v3.EcdsConfigDump", "ecds_filters": filters},
    ]})
}

fn texts(enforced: &Enforced) -> Vec<(&'static str, String)> {
    let place = |place| (resource(place).0, enforced.module.text(place));
    let places = PluginSite::ALL.map(place).into_iter();
    let gate = enforced.module.gate().to_string();
    places.chain([(GATE, gate)]).collect()
}

/// All that there is: the places, and the gate.
const ALL: usize = PluginSite::ALL.len() + 1;

fn check(dump: &Value, stats: Option<&str>, enforced: &Enforced) -> Vec<RenderError> {
    let all = snake_case(dump);
    // What cannot be read of a dump is looked at elsewhere.
    let dump = Dump::read(&all, &mut Vec::new());
    let mut problems = Vec::new();
    super::check(&dump, stats, &enforced.module, &mut problems).unwrap();
    problems
}

fn found(dump: &Value, enforced: &Enforced) -> Vec<String> {
    let problems = check(dump, None, enforced);
    problems.iter().map(ToString::to_string).collect()
}

/// Every place that has something else is named, with both policies, and no other place is.
#[test]
fn each_place_that_has_another_policy_or_other_settings_is_found() {
    let install = Install::read(INSTALL).unwrap();
    let given = enforced(&install, policy(POLICY));
    let old = enforced(&install, policy(&POLICY.replace("[22]", "[2222]")));
    let carried = enforced(&carrying(&policy(POLICY)), policy(POLICY));
    let [now, before] = [&given, &old].map(|enforced| enforced.module.policy_hash());
    let another = format!(
        "it has the policies {before}, and those given are {now}: the update has not arrived"
    );
    let with = |place: PluginSite, text: Option<String>| {
        let (mut texts, name) = (texts(&given), resource(place).0);
        texts.retain(|(there, _)| *there != name);
        texts.extend(text.map(|text| (name, text)));
        texts
    };
    let text = |place: PluginSite, from: &str, to: &str| {
        let text = given.module.text(place);
        assert!(text.contains(from), "{text}");
        Some(text.replace(from, to))
    };
    let image = format!(r#"{{"embedded":"{before}"}}"#);
    let named = given.module.config(PluginSite::Http)["policies"].to_string();
    for (case, texts, expected) in [
        ("as rendered", texts(&given), vec![]),
        ("the same from the image", texts(&carried), vec![]),
        (
            "tunnels by an old one",
            with(
                PluginSite::Tunnel,
                Some(old.module.text(PluginSite::Tunnel)),
            ),
            vec![("extension istio-egress.egress-warden-tunnel: ", &*another)],
        ),
        (
            "HTTP by an old one from the image",
            with(PluginSite::Http, text(PluginSite::Http, &named, &image)),
            vec![("extension istio-egress.egress-warden-http: ", &*another)],
        ),
        (
            "TLS by none",
            with(
                PluginSite::Tls,
                text(PluginSite::Tls, "\"policies\"", "\"others\""),
            ),
            vec![(
                "extension istio-egress.egress-warden.tls: ",
                "it has the policies none, ",
            )],
        ),
        (
            "addresses not looked at",
            with(
                PluginSite::Tunnel,
                text(PluginSite::Tunnel, "\"classes\"", "\"none\""),
            ),
            vec![(
                "extension istio-egress.egress-warden-tunnel: ",
                "not as rendered: `addressCheck`",
            )],
        ),
        (
            "other limits from the image",
            texts(&carried)
                .into_iter()
                .map(|(name, text)| (name, text.replace("\"streams\":1000", "\"streams\":9")))
                .collect(),
            PluginSite::ALL
                .map(|place| match place {
                    PluginSite::Http => "extension istio-egress.egress-warden-http: ",
                    PluginSite::Tunnel => "extension istio-egress.egress-warden-tunnel: ",
                    PluginSite::Tls => "extension istio-egress.egress-warden.tls: ",
                })
                .map(|place| (place, "not as rendered: `limits`"))
                .to_vec(),
        ),
        (
            "limits divided by other machines",
            with(
                PluginSite::Tls,
                text(PluginSite::Tls, "\"machines\":2", "\"machines\":1"),
            ),
            vec![(
                "extension istio-egress.egress-warden.tls: ",
                "not as rendered: `limits`",
            )],
        ),
        (
            "another class",
            with(
                PluginSite::Tls,
                text(
                    PluginSite::Tls,
                    "\"refused\":[]",
                    "\"refused\":[\"192.0.2.0/24\"]",
                ),
            ),
            vec![(
                "extension istio-egress.egress-warden.tls: ",
                "not as rendered: `addressClasses`",
            )],
        ),
        (
            "one that is not there",
            with(PluginSite::Http, None),
            vec![("extensions: ", "none that judges HTTP requests")],
        ),
        (
            "one beside it",
            [
                texts(&given),
                vec![("egress-warden-http", old.module.text(PluginSite::Http))],
            ]
            .concat(),
            vec![("extension istio-egress.egress-warden-http: ", &*another)],
        ),
        (
            "a gate that waits for an old one",
            [
                &texts(&given)[..PluginSite::ALL.len()],
                &texts(&old)[PluginSite::ALL.len()..],
            ]
            .concat(),
            vec![("extension istio-egress.egress-warden.ready: ", &*another)],
        ),
        (
            "no JSON",
            with(PluginSite::Tls, Some("{".to_owned())),
            vec![(
                "extension istio-egress.egress-warden.tls: ",
                "EOF while parsing",
            )],
        ),
        (
            "no mapping",
            with(PluginSite::Tls, Some("[]".to_owned())),
            vec![(
                "extension istio-egress.egress-warden.tls: ",
                "its configuration is no mapping",
            )],
        ),
        (
            "policies that are named by nothing",
            with(PluginSite::Tls, text(PluginSite::Tls, &named, "{}")),
            vec![(
                "extension istio-egress.egress-warden.tls: ",
                "its policies are neither there nor named",
            )],
        ),
    ] {
        let found = found(&dump(&texts), &given);
        let as_expected = found.len() == expected.len()
            && found
                .iter()
                .zip(&expected)
                .all(|(found, (place, message))| {
                    found
                        .strip_prefix(*place)
                        .is_some_and(|rest| rest.starts_with(message))
                });
        assert!(as_expected, "{case}: {found:#?}");
    }
    assert_eq!(found(&json!({}), &given).len(), ALL);
}

/// istiod says the same in its own spelling, without the outer name.
#[test]
fn a_dump_of_istiods_is_read_too() {
    let install = Install::read(INSTALL).unwrap();
    let given = enforced(&install, policy(POLICY));
    let filters: Vec<_> = texts(&given)
        .iter()
        .map(|(name, text)| {
            json!({"ecdsFilter": {"config": {
                "name": format!("istio-egress.{name}~x"),
                "configuration": {"value": text},
            }}})
        })
        .collect();
    let dump = json!({"configs": [{"@type": "EcdsConfigDump", "ecdsFilters": filters}]});
    assert_eq!(found(&dump, &given), Vec::<String>::new());
    let refused = json!({"configs": [{"@type": "EcdsConfigDump", "ecdsFilters": [
        {"ecdsFilter": {"name": "egress-warden.tls", "typedConfig": {"rules": {}}}},
    ]}]});
    let found = found(&refused, &given);
    let wanted = "extension egress-warden.tls: it has no configuration of the module's".to_owned();
    assert!(found.contains(&wanted), "{found:?}");
}

fn short(hash: &str) -> &str {
    hash.get(..12).unwrap()
}

/// The statistics of a gateway where every place has a gauge for its policies.
fn stats(hash: &str) -> String {
    let hash = u64::from_str_radix(short(hash), 16).unwrap();
    let places = [
        "egress-warden-http",
        "egress-warden-tunnel",
        "egress-warden-tls",
    ];
    let lines = places.map(|place| {
        format!(
            "wasmcustom.warden_config_rejected.{place}: 1\n\
             wasmcustom.warden_policy_hash.{place}: {hash}\n"
        )
    });
    format!("server.live: 1\nversion_text: \"x\"\n{}", lines.concat())
}

#[test]
fn what_loaded_comes_from_the_statistics() {
    let install = Install::read(INSTALL).unwrap();
    let given = enforced(&install, policy(POLICY));
    let old = enforced(&install, policy(&POLICY.replace("[22]", "[2222]")));
    let [now, before] = [&given, &old].map(|enforced| enforced.module.policy_hash());
    let all = stats(now);
    let tunnel = |stats: &str| {
        let mut lines = stats.lines();
        let line = lines.rfind(|line| line.contains("policy_hash") && line.contains("tunnel"));
        line.unwrap().to_owned()
    };
    let other = format!(
        "statistics of tunnels: the policies {}... are the last that loaded there, and those given \
         are {}...: the update was refused",
        short(before),
        short(now)
    );
    for (case, stats, expected) in [
        ("as rendered", all.clone(), vec![]),
        (
            "an old policy",
            all.replace(&tunnel(&all), &tunnel(&stats(before))),
            vec![&*other],
        ),
        (
            "no gauge",
            all.replace(&tunnel(&all), ""),
            vec!["statistics of tunnels: no policies have loaded there"],
        ),
        (
            "a gauge that is no number",
            all.replace(
                &tunnel(&all),
                "wasmcustom.warden_policy_hash.egress-warden-tunnel: x",
            ),
            vec!["statistics of tunnels: the policies 000000000000... are the last"],
        ),
    ] {
        let problems = check(&dump(&texts(&given)), Some(&stats), &given);
        let found: Vec<_> = problems.iter().map(ToString::to_string).collect();
        let as_expected = found.len() == expected.len()
            && found
                .iter()
                .zip(&expected)
                .all(|(found, start)| found.starts_with(start));
        assert!(as_expected, "{case}: {found:#?}");
    }
    for all_old in [stats(before), String::new()] {
        let problems = check(&dump(&texts(&given)), Some(&all_old), &given);
        assert_eq!(problems.len(), PluginSite::ALL.len(), "{problems:?}");
        // Where nothing newer arrived, that is the one finding of the place.
        let problems = check(&dump(&texts(&old)), Some(&all_old), &given);
        assert_eq!(problems.len(), ALL, "{problems:?}");
    }
}

/// The install settings name what is in the image: one that is not of the policies given is an
/// error, whatever the gateway has.
#[test]
fn settings_that_name_other_policies_than_are_given_are_refused() {
    let install = carrying(&policy(&POLICY.replace("[22]", "[2222]")));
    let problems =
        crate::audit::gateway((&json!({})).into(), &install, &[policy(POLICY)]).unwrap_err();
    let [problem] = problems.as_slice() else {
        panic!("{problems:?}");
    };
    assert_eq!(problem.path(), "spec.module.policy");
}
