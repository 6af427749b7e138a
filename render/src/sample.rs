//! The least install settings and policies, for tests.

use serde_json::{Value, json};

use crate::install::Install;

const LEAST: &str = r#"
apiVersion: egress-warden.io/v1alpha1
kind: EgressGateway
spec:
  istio: {version: "1.31"}
  gateway:
    namespace: istio-egress
    service: egress-gateway
    serviceAccount: egress-gateway
    selector: {istio: egressgateway}
  module: {url: "file:///module.wasm"}
  workloads: {namespaces: [app1-ns, app2-ns]}
"#;

/// These settings, and more fields of `spec`; with networks of a cluster, if those say none.
pub(crate) fn install(more: &str) -> Install {
    let mut install = Install::read(&format!("{LEAST}  {more}\n")).unwrap();
    let own = "{pods: [10.244.0.0/16], services: [10.96.0.0/12], nodes: [172.18.0.0/16]}";
    let networks = &mut install.spec.cluster.networks;
    networks.get_or_insert_with(|| serde_saphyr::from_str(own).unwrap());
    install
}

/// A policy of one tier.
pub(crate) fn policy(name: &str, tier: &Value) -> Value {
    json!({
        "apiVersion": "egress-warden.io/v1alpha1",
        "kind": "ClusterEgressPolicy",
        "metadata": {"name": name},
        "spec": {"identity": {"trustDomains": ["cluster.local"]}, "tiers": [tier]},
    })
}
