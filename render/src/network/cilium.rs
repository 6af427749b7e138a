//! Policies of the cluster's administrator in Cilium's language, `CiliumClusterwideNetworkPolicy`.
//!
//! Cilium adds up what all policies allow, and a Deny goes before all of them. So these open what
//! the namespaces' own policies open anyway, and close what none of them may open. Their shape is
//! compared with Cilium's CRD and validators by tests; no cluster ran them.

use egress_policy::address::metadata;
use egress_policy::contract::REVOKED;
use ipnet::IpNet;
use serde_json::{Value, json};

use crate::NAME;
use crate::install::Install;
use crate::object::{Object, Stage, set};

const API: (&str, &str) = ("cilium.io/v2", "CiliumClusterwideNetworkPolicy");

/// The label in which Cilium keeps a pod's namespace.
const NAMESPACE: &str = "k8s:io.kubernetes.pod.namespace";

/// The objects.
pub(super) fn objects(install: &Install) -> Vec<Object> {
    let enforced = json!({"matchExpressions": [enforced(install)]});
    let mut revoked = enforced.clone();
    set(&mut revoked, "matchLabels", json!({REVOKED: "true"}));
    let object = |about, name: &str, spec: Value| {
        let metadata = json!({"name": name});
        Object::new(Stage::Guard, about, API, metadata, json!({"spec": spec}))
    };
    vec![
        object(
            "Pods that the administrator has cut off, by a label, reach nothing.",
            &format!("{NAME}-revoked"),
            json!({"endpointSelector": revoked, "egressDeny": [{"toEntities": ["all"]}]}),
        ),
        object(
            "Pods of the enforced namespaces reach DNS, the gateway's two ports, other pods and what
             the settings name; no policy of a namespace opens cloud metadata or DNS over TLS. Weaker
             than the node guard: whatever else a policy of the namespace opens is open, every port
             of other pods too, such as a resolver's or the end of a tunnel (VXLAN, Geneve); Cilium
             knows pods by labels, which tenants choose.",
            NAME,
            json!({
                "endpointSelector": enforced,
                "egress": allowed(install),
                "egressDeny": [
                    {"toEntities": ["all"], "toPorts": ports(&[853], "ANY")},
                    {"toCIDR": metadata().map(|to| IpNet::from(to).to_string()).collect::<Vec<_>>()},
                ],
            }),
        ),
    ]
}

fn enforced(install: &Install) -> Value {
    let namespaces = &install.spec.workloads.namespaces;
    json!({"key": NAMESPACE, "operator": "In", "values": namespaces})
}

/// The same ways as the namespaces' `NetworkPolicy`.
fn allowed(install: &Install) -> Vec<Value> {
    let (gateway, cluster) = (&install.spec.gateway, &install.spec.cluster);
    let mut pods = json!(gateway.selector);
    set(&mut pods, NAMESPACE, json!(gateway.namespace));
    let by_port = [&gateway.namespace, &cluster.dns_namespace];
    // `NotIn` alone also holds for what has no namespace, the whole world among it: Cilium asks for
    // a namespace itself only where a selector does not name that label (`getEndpointSelector` in
    // its `cilium.io/utils`).
    let elsewhere = json!([
        {"key": NAMESPACE, "operator": "Exists"},
        {"key": NAMESPACE, "operator": "NotIn", "values": by_port},
    ]);
    let mut rules = vec![
        json!({
            "toEndpoints": [{"matchLabels": {NAMESPACE: cluster.dns_namespace}}],
            "toPorts": ports(&[53], "ANY"),
        }),
        json!({
            "toEndpoints": [{"matchLabels": pods}],
            "toPorts": ports(&[gateway.ports.http, gateway.ports.tunnel], "TCP"),
        }),
        json!({"toEndpoints": [{"matchExpressions": elsewhere}]}),
    ];
    // Networks never hold for nodes and for an API server on one: Cilium knows them as entities.
    if !super::nodes(install).is_empty() {
        rules.push(json!({"toEntities": ["host", "remote-node"]}));
    }
    if !cluster.api_server.is_empty() {
        rules.push(json!({
            "toEntities": ["kube-apiserver"],
            "toPorts": ports(&cluster.api_server_ports, "TCP"),
        }));
    }
    rules
}

/// Most ports of one entry, by `maxPorts` of Cilium's policy API.
const MOST_PORTS: usize = 40;

fn ports(ports: &[u16], protocol: &str) -> Value {
    let port = |port: &u16| json!({"port": port.to_string(), "protocol": protocol});
    let entries = ports.chunks(MOST_PORTS);
    let entries = entries.map(|ports| json!({"ports": ports.iter().map(port).collect::<Vec<_>>()}));
    entries.collect()
}

#[cfg(test)]
mod tests;
