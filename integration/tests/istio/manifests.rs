//! The manifests themselves: valid, the same every time, and as committed.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use egress_bench::Shape;
use egress_render::{Install, Rendered};
use integration::istio::reference;
use integration::istio::tools::{self, Program};
use serde_json::{Value, json};

use crate::Case;

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "the_reference_case_passes_istioctl",
        needs: &[Program::Istioctl],
        body: the_reference_case_passes_istioctl,
    },
    Case {
        name: "generated_policies_pass_istioctl",
        needs: &[Program::Istioctl],
        body: generated_policies_pass_istioctl,
    },
    Case {
        name: "every_option_passes_istioctl",
        needs: &[Program::Istioctl],
        body: every_option_passes_istioctl,
    },
    Case {
        name: "what_cannot_be_carried_out_is_refused",
        needs: &[],
        body: what_cannot_be_carried_out_is_refused,
    },
    Case {
        name: "the_node_guard_reads_the_udp_that_is_let_out",
        needs: &[],
        body: the_node_guard_reads_the_udp_that_is_let_out,
    },
    Case {
        name: "the_node_guard_lets_pass_what_sidecars_send_straight",
        needs: &[],
        body: the_node_guard_lets_pass_what_sidecars_send_straight,
    },
    Case {
        name: "a_broken_manifest_does_not_pass_istioctl",
        needs: &[Program::Istioctl],
        body: a_broken_manifest_does_not_pass_istioctl,
    },
    Case {
        name: "five_thousand_rules_fit_one_object",
        needs: &[Program::Istioctl],
        body: five_thousand_rules_fit_one_object,
    },
    Case {
        name: "two_renders_are_byte_equal",
        needs: &[],
        body: two_renders_are_byte_equal,
    },
    Case {
        name: "the_committed_example_is_what_is_rendered",
        needs: &[],
        body: the_committed_example_is_what_is_rendered,
    },
];

/// A policy of one tier.
fn policy(name: &str, tier: &Value) -> Value {
    json!({
        "apiVersion": "egress-warden.io/v1alpha1",
        "kind": "ClusterEgressPolicy",
        "metadata": {"name": name},
        "spec": {"identity": {"trustDomains": ["cluster.local"]}, "tiers": [tier]},
    })
}

fn lint(rendered: &Rendered) -> Result<()> {
    lint_text(&rendered.yaml())
}

fn lint_text(manifests: &str) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("rendered.yaml");
    std::fs::write(&file, manifests)?;
    tools::lint(&file, &reference::cluster())
}

fn the_reference_case_passes_istioctl() -> Result<()> {
    lint(&reference::rendered()?)
}

/// Policies of every shape that changes what is rendered.
fn generated_policies_pass_istioctl() -> Result<()> {
    let install = reference::install()?;
    for (name, rules) in generated() {
        let policy = policy(name, &json!({"name": "apps", "rules": rules}));
        let rendered = reference::of(&install, &[policy]).context(name)?;
        lint(&rendered).context(name)?;
    }
    Ok(())
}

fn generated() -> Vec<(&'static str, Value)> {
    let many: Vec<_> = (0..500)
        .map(|i| {
            json!({
                "name": format!("rule-{i}"),
                "from": [{"namespaces": ["app1-ns"]}],
                "to": [{"domainNames": [format!("*.d{i}.example")], "ports": [443]}],
                "action": "Accept",
            })
        })
        .collect();
    vec![
        ("nothing", json!([{"name": "none", "action": "Deny"}])),
        ("many", json!(many)),
        (
            "ports",
            json!([{
                "name": "ports",
                "from": [{"serviceAccounts": ["app1-ns/app1"]}],
                "to": [
                    {"domainNames": ["a.example"], "ports": [8080, "9000-9003"], "protocols": ["HTTP"]},
                    {"domainNames": ["*.b.example"], "ports": [8443, 993], "protocols": ["TLS"]},
                    {"networks": ["198.51.100.0/24"], "ports": ["1-65535"], "protocols": ["TCP"]},
                ],
                "action": "Accept",
            }]),
        ),
        (
            "labels",
            json!([{
                "name": "labels",
                "from": [{
                    "namespaces": ["app2-ns"],
                    "matchLabels": {"app.kubernetes.io/name": "pay", "tier": "front"},
                    "matchExpressions": [{"key": "stage", "operator": "In", "values": ["prod"]}],
                }],
                "to": [{"domainNames": ["c.example"], "ports": [443]}],
                "action": "Accept",
            }]),
        ),
        (
            "origination",
            json!([{
                "name": "https",
                "from": [{"namespaces": ["app1-ns"]}],
                "to": [
                    {"domainNames": ["a.example", "*.b.example"], "ports": [443], "paths": ["/v1/**"],
                     "tls": {"originate": true}},
                    {"domainNames": ["api-*.c.example"], "ports": [443, 8443], "methods": ["GET"],
                     "tls": {"originate": true, "caCertificates": "/etc/ssl/c.pem", "sni": "c.example"}},
                    {"domainNames": ["d.example"], "ports": [443],
                     "tls": {"originate": true, "caCertificates": "d-ca", "clientCertificate": "d"}},
                ],
                "action": "Accept",
            }]),
        ),
        (
            "udp",
            json!([{
                "name": "ntp",
                "from": [{"namespaces": ["app1-ns", "app2-ns"], "matchLabels": {"clock": "yes"}}],
                "to": [{"networks": ["198.51.100.0/24"], "ports": [123], "protocols": ["UDP"]}],
                "action": "Accept",
            }]),
        ),
    ]
}

fn every_option_passes_istioctl() -> Result<()> {
    let mut install = reference::install()?;
    install.spec.istio.traffic_extension = true;
    install.spec.istio.revision = Some("canary".to_owned());
    install.spec.gateway.deployment = Some(serde_json::from_value(json!({}))?);
    install
        .spec
        .gateway
        .selector
        .insert("app".to_owned(), "egress-gateway".to_owned());
    install.spec.module.pull_secret = Some("registry".to_owned());
    install.spec.cluster.admin_policies = Some(serde_json::from_value(
        json!({"api": "ClusterNetworkPolicy"}),
    )?);
    let rendered = reference::of(&install, &[reference::policy()?])?;
    for kind in [
        "TrafficExtension",
        "Deployment",
        "HorizontalPodAutoscaler",
        "ClusterNetworkPolicy",
    ] {
        ensure!(
            rendered
                .objects()
                .iter()
                .any(|object| object.kind() == kind),
            "no {kind}"
        );
    }
    lint_alone(&rendered)?;
    every_kind_of_rule(&install)?;
    install.spec.gateway.api = egress_render::install::GatewayApi::Kubernetes;
    install.spec.istio.traffic_extension = false;
    let rendered = reference::of(&install, &[reference::policy()?])?;
    let text = rendered.yaml();
    for part in [
        "kind: HTTPRoute",
        "targetRefs:",
        "gateway-name: egress-warden",
    ] {
        ensure!(text.contains(part), "no {part}");
    }
    lint_alone(&rendered)
}

/// Inspection proxies, and policies of the administrator in both APIs with UDP rules that they pass
/// on.
fn every_kind_of_rule(install: &Install) -> Result<()> {
    let mut install = install.clone();
    "1.32".clone_into(&mut install.spec.istio.version);
    install.spec.inspection = vec![serde_json::from_value(json!({
        "name": "dlp",
        "address": "dlp.dlp.svc.cluster.local",
        "port": 3128,
        "pods": {"namespace": "dlp", "selector": {"app": "dlp"}},
    }))?];
    let mut policy = reference::policy()?;
    let rules = policy.pointer_mut("/spec/tiers/1/rules");
    let rules = rules.and_then(Value::as_array_mut).context("no rules")?;
    rules.extend([
        json!({
            "name": "clock",
            "from": [{"namespaces": ["app1-ns"], "matchLabels": {"clock": "yes"}}],
            "to": [{"networks": ["198.51.100.0/24", "2001:db8::/32"], "except": ["198.51.100.7/32"],
                    "ports": [123, "3478-3481"], "protocols": ["UDP"]}],
            "action": "Accept",
        }),
        json!({
            "name": "inspected",
            "from": [{"namespaces": ["app2-ns"]}],
            "to": [{"domainNames": ["*.inspected.example"], "ports": [80, 443]}],
            "action": "Inspect",
            "inspection": "dlp",
        }),
    ]);
    for api in ["ClusterNetworkPolicy", "AdminNetworkPolicy"] {
        install.spec.cluster.admin_policies = Some(serde_json::from_value(json!({"api": api}))?);
        let rendered = reference::of(&install, std::slice::from_ref(&policy)).context(api)?;
        let objects = rendered.objects();
        for (kind, part) in [(api, "udp"), ("NetworkPolicy", "inspect-dlp")] {
            let mut found = objects.iter();
            ensure!(
                found.any(|object| object.kind() == kind && object.name().contains(part)),
                "no {kind} for {part}"
            );
        }
        ensure!(
            rendered.yaml().contains("inspect:dlp"),
            "no route to the inspection proxy"
        );
        lint_alone(&rendered).context(api)?;
    }
    Ok(())
}

/// A rendering with its own Service and pods; the cluster's would be there twice.
fn lint_alone(rendered: &Rendered) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("rendered.yaml");
    std::fs::write(&file, rendered.yaml())?;
    let namespaces = folder.path().join("cluster.yaml");
    std::fs::write(&namespaces, NAMESPACES)?;
    tools::lint(&file, &namespaces)
}

const NAMESPACES: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: istio-egress, labels: {istio.io/rev: canary}}
---
apiVersion: v1
kind: Namespace
metadata: {name: app1-ns, labels: {istio.io/rev: canary}}
---
apiVersion: v1
kind: Namespace
metadata: {name: app2-ns, labels: {istio.io/rev: canary}}
---
apiVersion: v1
kind: Namespace
metadata: {name: dlp, labels: {istio.io/rev: canary}}
";

fn what_cannot_be_carried_out_is_refused() -> Result<()> {
    let refused = [
        (
            "inspection",
            json!({"name": "r", "from": [{"namespaces": ["app1-ns"]}], "action": "Inspect",
                   "inspection": "dlp", "to": [{"domainNames": ["a.example"], "ports": [443]}]}),
        ),
        (
            "one protocol",
            json!({"name": "r", "from": [{"namespaces": ["app1-ns"]}], "action": "Accept", "to": [
                {"domainNames": ["a.example"], "ports": [8443], "protocols": ["HTTP"]},
                {"domainNames": ["b.example"], "ports": [8443], "protocols": ["TLS"]},
            ]}),
        ),
        (
            "in two ways",
            json!({"name": "r", "from": [{"namespaces": ["app1-ns"]}], "action": "Accept", "to": [
                {"domainNames": ["*.a.example"], "ports": [443], "tls": {"originate": true}},
                {"domainNames": ["x.a.example"], "ports": [443],
                 "tls": {"originate": true, "clientCertificate": "x"}},
            ]}),
        ),
        (
            "at most 8 ports",
            json!({"name": "r", "from": [{"namespaces": ["app1-ns"]}], "action": "Accept", "to": [
                {"domainNames": ["a.example"], "ports": ["9000-9100"], "tls": {"originate": true}},
            ]}),
        ),
        (
            "a route of its own",
            json!({"name": "r", "from": [{"namespaces": ["app1-ns"]}], "action": "Accept", "to": [
                {"domainNames": ["a.example"], "ports": ["8000-9000"], "protocols": ["HTTP"]},
            ]}),
        ),
    ];
    for (word, rule) in refused {
        let policy = policy("p", &json!({"name": "t", "rules": [rule]}));
        let error = reference::of(&reference::install()?, &[policy]).err();
        let error = error
            .with_context(|| format!("{word}: rendered"))?
            .to_string();
        ensure!(error.contains(word), "{error}");
    }
    Ok(())
}

/// Its own reader takes the list, and grants what it says to the pods that it says.
fn the_node_guard_reads_the_udp_that_is_let_out() -> Result<()> {
    let policy = policy(
        "p",
        &json!({"name": "t", "rules": [
            {"name": "no", "action": "Deny",
             "to": [{"networks": ["198.51.100.64/26"], "ports": [123], "protocols": ["UDP"]}]},
            {"name": "ntp", "action": "Accept",
             "from": [{"namespaces": ["app1-ns"], "matchLabels": {"clock": "yes"}}],
             "to": [{"networks": ["198.51.100.0/24"], "ports": ["123-124"], "protocols": ["UDP"]}]},
        ]}),
    );
    let list = egress_render::udp_exceptions(&reference::install()?, &[policy])
        .map_err(|problems| anyhow::anyhow!("{problems:?}"))?;
    let config = json!({
        "exemptNamespaces": ["kube-system"],
        "clusterNetworks": ["10.244.0.0/16"],
        "dns": {},
        "udpExceptions": list,
    });
    let config = egress_cni::config::NodeConfig::parse("rendered", &config.to_string())?;
    let listed: Vec<_> = config
        .udp_exceptions
        .iter()
        .map(|one| {
            let networks: Vec<_> = one.networks.iter().map(ToString::to_string).collect();
            let ports: Vec<_> = one.ports.iter().map(ToString::to_string).collect();
            format!(
                "{} {:?} {networks:?} {ports:?}",
                one.namespaces.join(" "),
                one.match_labels
            )
        })
        .collect();
    let labels = r#"{"clock": "yes"}"#;
    let wanted = [
        format!(r#"app1-ns {labels} ["198.51.100.0/26", "198.51.100.128/25"] ["123-124"]"#),
        format!(r#"app1-ns {labels} ["198.51.100.0/24"] ["124"]"#),
    ];
    ensure!(listed == wanted, "{listed:#?}");
    Ok(())
}

/// One list for the node, the chain of unknown addresses, the route, and what is no HTTP.
fn the_node_guard_lets_pass_what_sidecars_send_straight() -> Result<()> {
    for networks in [
        "{pods: [10.244.0.0/16], services: [10.96.0.0/12], nodes: [172.18.0.0/16]}",
        "{pods: [10.244.0.0/16, 'fd00:10:244::/48'], services: [10.96.0.0/12, 'fd00:10:96::/112'], \
         nodes: [192.168.0.0/24, 192.168.1.0/24, 'fd00:10:1::/64']}",
        "{pods: ['fd00:10:244::/48'], services: ['fd00:10:96::/112'], nodes: []}",
        "{pods: registered, services: [10.96.0.0/12], nodes: [172.18.0.0/16]}",
    ] {
        let mut install = reference::install()?;
        install.spec.cluster.networks = Some(serde_saphyr::from_str(networks)?);
        let node = egress_render::node_networks(&install)
            .map_err(|problems| anyhow::anyhow!("{problems:?}"))?;
        let config = json!({
            "exemptNamespaces": ["kube-system"],
            "clusterNetworks": node.get("clusterNetworks"),
            "serviceNetworks": node.get("serviceNetworks"),
            "dns": {},
        });
        let config = egress_cni::config::NodeConfig::parse("rendered", &config.to_string())?;
        let node = [config.cluster_networks, config.service_networks].concat();
        let node = sorted(node.iter().map(ToString::to_string));

        let rendered = reference::of(&install, &[reference::policy()?])?;
        let inside = rendered.objects().iter();
        let inside = inside.filter(|object| object.name() == "egress-warden-inside");
        let mut count = 0;
        for object in inside {
            count += 1;
            for (what, networks) in straight(object.manifest())? {
                ensure!(
                    networks == node,
                    "{what}: {networks:?}, and the node: {node:?}"
                );
            }
        }
        ensure!(count == install.spec.workloads.namespaces.len(), "{count}");
    }
    Ok(())
}

/// The networks of each patch that has some.
fn straight(filter: &Value) -> Result<Vec<(&'static str, Vec<String>)>> {
    let patches = filter.pointer("/spec/configPatches");
    let patches = patches.and_then(Value::as_array).context("no patches")?;
    let mut found = Vec::new();
    for patch in patches {
        let value = patch.pointer("/patch/value").context("no value")?;
        for (what, pointer) in [
            ("the chain", "/filter_chain_match/prefix_ranges"),
            ("the route", "/match/filter_state/0/address_match/ranges"),
        ] {
            if let Some(ranges) = value.pointer(pointer).and_then(Value::as_array) {
                let text = |range: &Value| {
                    let prefix = range["address_prefix"].as_str().unwrap_or_default();
                    format!("{prefix}/{}", range["prefix_len"])
                };
                found.push((what, sorted(ranges.iter().map(text))));
            }
        }
        let states = value.pointer("/typed_config/on_new_connection");
        for state in states.and_then(Value::as_array).into_iter().flatten() {
            let text = state.pointer("/format_string/text_format_source/inline_string");
            let text = text.and_then(Value::as_str).unwrap_or_default();
            if text.starts_with("%CEL") {
                let literals = text.split(" == b'").skip(1);
                let literals = literals.filter_map(|rest| rest.split('\'').next());
                found.push(("no HTTP", sorted(literals.map(str::to_owned))));
            }
        }
    }
    ensure!(found.len() == 4, "{found:?}");
    Ok(found)
}

fn sorted(texts: impl Iterator<Item = String>) -> Vec<String> {
    let mut texts: Vec<_> = texts.collect();
    texts.sort();
    texts
}

fn a_broken_manifest_does_not_pass_istioctl() -> Result<()> {
    let text = reference::rendered()?.yaml();
    for (sound, broken) in [
        ("configPatches:", "configPatch:"),
        ("ISTIO_MUTUAL", "ISTIO_MUTUALLY"),
        ("failStrategy: FAIL_RELOAD", "failStrategy: FAIL_AROUND"),
    ] {
        ensure!(text.contains(sound), "{sound} is not rendered");
        let changed = text.replace(sound, broken);
        ensure!(lint_text(&changed).is_err(), "{broken} passes");
    }
    Ok(())
}

/// Etcd refuses requests above 1.5 MiB.
const REQUEST: usize = 1536 * 1024;

/// Asked for, policies stand in the objects as long as each is small enough.
fn five_thousand_rules_fit_one_object() -> Result<()> {
    let policy: Value = serde_json::from_str(&Shape::Realistic.policy(5_000))?;
    let mut install = reference::install()?;
    ensure!(
        reference::of(&install, std::slice::from_ref(&policy)).is_err(),
        "nobody has asked for it"
    );
    install.spec.module.policy = Some("inline".to_owned());
    let rendered = reference::of(&install, &[policy])?;
    let (name, largest) = rendered.sizes().into_iter().next().context("nothing")?;
    ensure!(largest < REQUEST, "{name}: {largest} bytes");
    let plugin = |(name, size): &(String, usize)| name.contains(".wasmplugin.") && *size > 1 << 20;
    ensure!(
        rendered
            .sizes()
            .iter()
            .filter(|entry| plugin(entry))
            .count()
            == 2,
        "the rules are not in the plugins"
    );
    lint(&rendered)
}

fn two_renders_are_byte_equal() -> Result<()> {
    let (first, second) = (reference::rendered()?, reference::rendered()?);
    ensure!(first.yaml() == second.yaml());
    ensure!(first.prune_list() == second.prune_list());
    // The order of keys in the file does not matter either.
    let policy: Value = serde_json::from_str(&reference::policy()?.to_string())?;
    let third = reference::of(&reference::install()?, &[policy])?;
    ensure!(first.yaml() == third.yaml());
    Ok(())
}

/// `WARDEN_BLESS=1` writes the files anew.
fn the_committed_example_is_what_is_rendered() -> Result<()> {
    let folder = reference::folder().join("rendered");
    let rendered = reference::rendered()?;
    let bless = std::env::var_os("WARDEN_BLESS").is_some();
    let mut names = vec!["kustomization.yaml".to_owned()];
    for object in rendered.objects() {
        let path = folder.join(object.file_name());
        names.push(object.file_name());
        if bless {
            std::fs::create_dir_all(&folder)?;
            std::fs::write(&path, object.yaml())?;
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        ensure!(
            committed == object.yaml(),
            "{} is not what is rendered; write it anew with WARDEN_BLESS=1",
            path.display()
        );
    }
    let resources: Vec<_> = rendered
        .objects()
        .iter()
        .map(egress_render::Object::file_name)
        .collect();
    let list = format!("{KUSTOMIZATION}- {}\n", resources.join("\n- "));
    let path = folder.join("kustomization.yaml");
    if bless {
        std::fs::write(&path, &list)?;
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    ensure!(
        committed == list,
        "{} does not list what is rendered",
        path.display()
    );
    no_others(&folder, &names)
}

const KUSTOMIZATION: &str = "\
# The rendered reference case as a base.
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources:
";

fn no_others(folder: &Path, names: &[String]) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        ensure!(
            names.contains(&name),
            "{name} is committed and not rendered"
        );
    }
    Ok(())
}
