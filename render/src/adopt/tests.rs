use super::{CollisionCode, collisions, read};
use crate::sample::install;

const POLICY: &str = r"
apiVersion: egress-warden.io/v1alpha1
kind: ClusterEgressPolicy
metadata: {name: p}
spec:
  identity: {trustDomains: [cluster.local]}
  tiers:
  - name: apps
    rules: [{name: none, action: Deny}]
";

fn found(existing: &str) -> Vec<(String, CollisionCode)> {
    let install = install("cluster: {meshDomains: [mesh.internal]}");
    let policy = serde_saphyr::from_str(POLICY).unwrap();
    let rendered = crate::render(&install, &[policy]).unwrap();
    let existing = read(existing).unwrap();
    collisions(&install, &rendered, &existing)
        .into_iter()
        .map(|collision| (collision.object, collision.code))
        .collect()
}

/// An object of a kind, its place and the fields of its spec.
fn object(kind: &str, namespace: &str, name: &str, spec: &str) -> String {
    let version = match kind {
        "NetworkPolicy" => "networking.k8s.io/v1",
        _ => "networking.istio.io/v1",
    };
    format!(
        "apiVersion: {version}\nkind: {kind}\n\
         metadata: {{name: {name}, namespace: {namespace}}}\nspec: {spec}\n"
    )
}

#[test]
fn each_kind_collides_where_it_takes_traffic_away_and_nowhere_else() {
    let http = "ports: [{number: 80, name: http, protocol: HTTP}]";
    let ssh = "ports: [{number: 22, name: ssh, protocol: TCP}]";
    for (kind, namespace, spec, wanted) in [
        // Gateways: by what their selector can mean for the egress gateway's pods.
        (
            "Gateway",
            "app1-ns",
            "{selector: {istio: egressgateway}, servers: []}".to_owned(),
            vec![CollisionCode::GatewayPods],
        ),
        (
            "Gateway",
            "app1-ns",
            "{servers: []}".to_owned(),
            vec![CollisionCode::GatewayPods],
        ),
        (
            "Gateway",
            "app1-ns",
            "{selector: {app: x}, servers: []}".to_owned(),
            vec![CollisionCode::GatewayPods],
        ),
        (
            "Gateway",
            "app1-ns",
            "{selector: {istio: ingressgateway}, servers: []}".to_owned(),
            vec![],
        ),
        // Routes: bound to the rendered gateway, or of sidecars.
        (
            "VirtualService",
            "app1-ns",
            "{hosts: [a.example], gateways: [istio-egress/egress-warden]}".to_owned(),
            vec![CollisionCode::GatewayRoutes],
        ),
        (
            "VirtualService",
            "istio-egress",
            "{hosts: [a.example], gateways: [egress-warden]}".to_owned(),
            vec![CollisionCode::GatewayRoutes],
        ),
        (
            "VirtualService",
            "istio-egress",
            "{hosts: [a.example], gateways: [./egress-warden]}".to_owned(),
            vec![CollisionCode::GatewayRoutes],
        ),
        (
            "VirtualService",
            "app1-ns",
            "{hosts: [a.example], gateways: [egress-warden.istio-egress.svc.cluster.local]}"
                .to_owned(),
            vec![CollisionCode::GatewayRoutes],
        ),
        (
            "VirtualService",
            "app1-ns",
            "{hosts: [a.example], gateways: [egress-warden.istio-egress]}".to_owned(),
            vec![CollisionCode::GatewayRoutes],
        ),
        (
            "VirtualService",
            "app1-ns",
            "{hosts: [a.example], gateways: [in.istio-egress-2, ./in]}".to_owned(),
            vec![],
        ),
        (
            "VirtualService",
            "app1-ns",
            "{hosts: [a.example], gateways: [egress-warden]}".to_owned(),
            vec![],
        ),
        (
            "VirtualService",
            "shared",
            "{hosts: [a.example]}".to_owned(),
            vec![CollisionCode::SidecarRoutes],
        ),
        (
            "VirtualService",
            "shared",
            "{hosts: [a.example], gateways: [mesh, shared/egress]}".to_owned(),
            vec![CollisionCode::SidecarRoutes],
        ),
        (
            "VirtualService",
            "shared",
            "{hosts: [a.example], exportTo: ['.']}".to_owned(),
            vec![],
        ),
        (
            "VirtualService",
            "shared",
            "{hosts: [reviews, b.shared.svc.cluster.local]}".to_owned(),
            vec![],
        ),
        // Registered hosts.
        (
            "ServiceEntry",
            "shared",
            format!("{{hosts: [api.github.com], {http}}}"),
            vec![CollisionCode::OutsideHost],
        ),
        (
            "ServiceEntry",
            "shared",
            format!("{{hosts: [p.example], {ssh}}}"),
            vec![CollisionCode::OutsideHost, CollisionCode::WholePort],
        ),
        (
            "ServiceEntry",
            "shared",
            format!("{{hosts: [p.example], addresses: [203.0.113.7], {ssh}}}"),
            vec![CollisionCode::OutsideHost],
        ),
        (
            "ServiceEntry",
            "shared",
            format!("{{hosts: [p.example], location: MESH_INTERNAL, {http}}}"),
            vec![CollisionCode::OutsideHost],
        ),
        (
            "ServiceEntry",
            "shared",
            format!("{{hosts: [vm.mesh.internal], location: MESH_INTERNAL, {http}}}"),
            vec![],
        ),
        (
            "ServiceEntry",
            "shared",
            format!(
                "{{hosts: [api.weather.gov.svc.cluster.local], location: MESH_INTERNAL, {http}}}"
            ),
            vec![CollisionCode::OutsideHost],
        ),
        (
            "ServiceEntry",
            "shared",
            format!("{{hosts: [db.shared.svc.cluster.local], location: MESH_INTERNAL, {http}}}"),
            vec![],
        ),
        (
            "ServiceEntry",
            "shared",
            format!("{{hosts: [vm.mesh.internal], location: MESH_INTERNAL, {ssh}}}"),
            vec![CollisionCode::WholePort],
        ),
        (
            "ServiceEntry",
            "shared",
            format!("{{hosts: [p.example], exportTo: [other], {ssh}}}"),
            vec![],
        ),
        (
            "ServiceEntry",
            "app2-ns",
            format!("{{hosts: [p.example], exportTo: ['.'], {http}}}"),
            vec![CollisionCode::OutsideHost],
        ),
        // The way to the gateway, and TLS that sidecars would originate.
        (
            "DestinationRule",
            "istio-egress",
            "{host: egress-gateway}".to_owned(),
            vec![CollisionCode::ToGateway],
        ),
        (
            "DestinationRule",
            "app1-ns",
            "{host: egress-gateway}".to_owned(),
            vec![],
        ),
        (
            "DestinationRule",
            "istio-system",
            "{host: '*.cluster.local'}".to_owned(),
            vec![CollisionCode::ToGateway],
        ),
        (
            "DestinationRule",
            "shared",
            "{host: a.example, trafficPolicy: {tls: {mode: SIMPLE}}}".to_owned(),
            vec![CollisionCode::Origination],
        ),
        (
            "DestinationRule",
            "shared",
            "{host: reviews, trafficPolicy: {tls: {mode: SIMPLE}}}".to_owned(),
            vec![],
        ),
        // Sidecars.
        (
            "Sidecar",
            "app1-ns",
            "{egress: []}".to_owned(),
            vec![CollisionCode::Sidecar],
        ),
        (
            "Sidecar",
            "app1-ns",
            "{workloadSelector: {labels: {app: x}}}".to_owned(),
            vec![CollisionCode::Sidecar],
        ),
        ("Sidecar", "istio-system", "{egress: []}".to_owned(), vec![]),
        // Network policies.
        (
            "NetworkPolicy",
            "app1-ns",
            "{podSelector: {}, egress: [{}]}".to_owned(),
            vec![CollisionCode::NetworkPolicy],
        ),
        (
            "NetworkPolicy",
            "app1-ns",
            "{podSelector: {}, egress: [{to: [{ipBlock: {cidr: 0.0.0.0/0}}]}]}".to_owned(),
            vec![CollisionCode::NetworkPolicy],
        ),
        (
            "NetworkPolicy",
            "app1-ns",
            "{podSelector: {}, egress: [{to: [{podSelector: {}}]}]}".to_owned(),
            vec![],
        ),
        (
            "NetworkPolicy",
            "other",
            "{podSelector: {}, egress: [{}]}".to_owned(),
            vec![],
        ),
    ] {
        let codes: Vec<_> = found(&object(kind, namespace, "mine", &spec))
            .into_iter()
            .map(|(_, code)| code)
            .collect();
        assert_eq!(codes, wanted, "{kind} in {namespace}: {spec}");
    }
}

#[test]
fn the_same_name_collides_unless_it_is_our_own() {
    let spec = "{egress: []}";
    let same = object("Sidecar", "app1-ns", "egress-warden", spec);
    let codes = [CollisionCode::SameName, CollisionCode::Sidecar];
    assert_eq!(
        found(&same),
        codes.map(|code| ("Sidecar app1-ns/egress-warden".to_owned(), code))
    );
    let own = same.replace(
        "namespace: app1-ns}",
        "namespace: app1-ns, labels: {app.kubernetes.io/part-of: egress-warden}}",
    );
    assert_eq!(found(&own), []);
}

#[test]
fn lists_and_json_are_read_and_what_is_no_object_is_refused() {
    let list = "kind: List\napiVersion: v1\nitems:\n- kind: Sidecar\n  metadata: {namespace: app1-ns, name: a}\n";
    assert_eq!(found(list).len(), 1);
    let json = r#"{"kind":"List","items":[{"kind":"Sidecar","metadata":{"namespace":"app1-ns","name":"a"}}]}"#;
    assert_eq!(found(json).len(), 1);
    assert!(found("---\n---\n").is_empty());
    for broken in ["a: 1", "{\"kind\": ", "kind: [", "- 1"] {
        assert!(read(broken).is_err(), "{broken}");
    }
}

#[test]
fn a_mesh_beyond_the_bounds_of_yaml_is_read_as_json() {
    let mut yaml = "kind: List\nitems:\n".to_owned();
    let mut json = "{\"kind\": \"List\", \"items\": [0".to_owned();
    for _ in 0..300_000 {
        yaml.push_str("- 1\n");
        json.push_str(",1");
    }
    let problem = read(&yaml).unwrap_err();
    assert!(
        problem.message().ends_with("(kubectl get -o json)"),
        "{problem}"
    );
    json.push_str("]}");
    assert_eq!(read(&json).unwrap().len(), 300_001);
}
