//! The gateway's objects: its ports, the module, and the routes to the outside.

mod kubernetes;

use egress_policy::contract;
use serde_json::{Value, json};

use crate::NAME;
use crate::earlier::{self, Earlier};
use crate::envoy;
use crate::envoy::classes::{Class, Classes};
use crate::install::{GatewayApi, Install};
use crate::module::{Module, PluginSite};
use crate::object::{CLASS_OBJECT, Object, Stage, set};
use crate::tunnel;
use egress_policy::ports::MeshPorts;

pub(crate) use kubernetes::POD_LABEL;

const NETWORKING: &str = "networking.istio.io/v1";
const ENVOY_FILTER: (&str, &str) = ("networking.istio.io/v1alpha3", "EnvoyFilter");

/// Everything in the gateway's namespace that Istio reads.
pub(crate) fn objects(
    install: &Install,
    traffic: &MeshPorts,
    module: &Module,
    classes: &Classes,
    earlier: Option<&Earlier>,
) -> Vec<Object> {
    let kept = earlier.map(|earlier| earlier.beside(&classes.names()));
    let kept = kept.unwrap_or_default();
    let mut caches = classes.caches();
    caches.extend(kept.iter().filter_map(earlier::cache));
    let [ports, closed] = match install.spec.gateway.api {
        GatewayApi::Istio => [ports(install), closed_route(install)],
        GatewayApi::Kubernetes => [
            kubernetes::ports(install),
            kubernetes::closed_route(install),
        ],
    };
    let mut objects =
        vec![
        ports,
        closed,
        mutual_tls(install),
        http_ports(install, traffic),
        plugin(install, module, PluginSite::Http, "http"),
        plugin(install, module, PluginSite::Tunnel, "tunnel"),
        // A resource name shared with a WasmPlugin would keep the listener waiting for ever.
        Object::new(
            Stage::Policy,
            "The policy in the listener inside the gateway where TLS in a tunnel shows its name and
             no WasmPlugin reaches.",
            ENVOY_FILTER,
            metadata(install, "egress-warden-policy-tls"),
            filter(install, 0, &[envoy::extension(install, module)]),
        ),
        Object::new(
            Stage::Policy,
            "The gate for readiness probes: whether every place of the module has its policy.",
            ENVOY_FILTER,
            metadata(install, "egress-warden-ready"),
            filter(install, 0, &[envoy::gate(install, module)]),
        ),
        Object::new(
            Stage::Classes,
            "The lock, and what the policy judges by. They are one object, so that whoever removes
             the lock removes the way out with it: the ways of the address classes open only for a
             verdict, and there is none without these. A proxy older than the stated version has no
             listener.",
            ENVOY_FILTER,
            metadata(install, NAME),
            filter(install, LOCK_PRIORITY, &envoy::patches(install, traffic, &caches)),
        ),
    ];
    objects.extend(classes.iter().map(|class| way_out(install, traffic, class)));
    objects.extend(kept);
    if !traffic.labels.is_empty() {
        objects.push(peer_metadata(install, traffic));
    }
    objects
}

/// Istio applies filters of a higher number later.
const LOCK_PRIORITY: i64 = 10;
/// The first number for address classes. Their routes go in front of those that the policy judges by.
const CLASS_PRIORITY: i64 = 1_000;

/// Everything that one address class leads out by.
fn way_out(install: &Install, traffic: &MeshPorts, class: &Class) -> Object {
    // Each has a number of its own, so that the routes of several stand in the same order whichever
    // of the objects is the oldest.
    let digits = class.name().get(..7).unwrap_or_default();
    let own = i64::from_str_radix(digits, 16).map_or(0, |number| number + 1);
    Object::new(
        Stage::Classes,
        ABOUT_CLASS,
        ENVOY_FILTER,
        metadata(install, &format!("{CLASS_OBJECT}{}", class.name())),
        filter(
            install,
            CLASS_PRIORITY + own,
            &envoy::of_class(install, traffic, class),
        ),
    )
}
pub(crate) const ABOUT_CLASS: &str = "\
The ways out of one address class: clusters whose DNS cache leaves out every address that the class
refuses, and routes that only a verdict of this class opens. It is there before a policy names it, and
stays until no stream of that policy is left.";

/// Metadata of an object in the gateway's namespace.
pub(crate) fn metadata(install: &Install, name: &str) -> Value {
    json!({"name": name, "namespace": install.spec.gateway.namespace})
}

fn filter(install: &Install, priority: i64, patches: &[Value]) -> Value {
    let mut spec = json!({"priority": priority, "configPatches": patches});
    match install.spec.gateway.api {
        GatewayApi::Istio => {
            let labels = json!({"labels": install.spec.gateway.selector});
            set(&mut spec, "workloadSelector", labels);
        }
        GatewayApi::Kubernetes => set(&mut spec, "targetRefs", kubernetes::target()),
    }
    json!({"spec": spec})
}

fn ports(install: &Install) -> Object {
    let gateway = &install.spec.gateway;
    let server = |name: &str, number: u16| {
        json!({
            "port": {"name": name, "number": number, "protocol": "HTTPS"},
            // `./`: no other namespace can bind routes to it.
            "hosts": ["./*"],
            "tls": {"mode": "ISTIO_MUTUAL"},
        })
    };
    Object::new(
        Stage::Gateway,
        "The gateway's two ports. Both ask for a certificate of the mesh; there is no other way in.",
        (NETWORKING, "Gateway"),
        metadata(install, NAME),
        json!({"spec": {
            "selector": gateway.selector,
            "servers": [
                server("https-http", gateway.ports.http),
                server("https-tunnel", gateway.ports.tunnel),
            ],
        }}),
    )
}

fn closed_route(install: &Install) -> Object {
    Object::new(
        Stage::Gateway,
        "The route that everything has if nothing else is there: refused. The routes to the
         outside come from EnvoyFilter egress-warden, together with the lock.",
        (NETWORKING, "VirtualService"),
        metadata(install, NAME),
        json!({"spec": {
            "hosts": ["*"],
            "gateways": [NAME],
            "exportTo": ["."],
            "http": [{
                "name": "closed",
                "directResponse": {
                    "status": 403,
                    "body": {"string": "egress-warden: the gateway has no routes\n"},
                },
            }],
        }}),
    )
}

fn mutual_tls(install: &Install) -> Object {
    let mut spec = json!({
        "host": install.gateway_host(),
        "trafficPolicy": {
            "tls": {"mode": "ISTIO_MUTUAL"},
            "portLevelSettings": [{
                "port": {"number": install.spec.gateway.ports.http},
                "connectionPool": {"http": {"useClientProtocol": true}},
                "tls": {"mode": "ISTIO_MUTUAL"},
            }],
        },
    });
    if let Some(subsets) = tunnel::subsets(install) {
        set(&mut spec, "subsets", subsets);
    }
    Object::new(
        Stage::Gateway,
        "Sidecars speak the mesh's mTLS to the gateway, check who it is, and keep the
         application's HTTP version: gRPC stays HTTP/2.",
        (NETWORKING, "DestinationRule"),
        metadata(install, NAME),
        json!({"spec": spec}),
    )
}

fn http_ports(install: &Install, traffic: &MeshPorts) -> Object {
    let ports: Vec<_> = traffic
        .http
        .iter()
        .map(|port| json!({"name": format!("http-{port}"), "number": port, "protocol": "HTTP"}))
        .collect();
    Object::new(
        Stage::Workloads,
        "Tells sidecars which outside ports carry HTTP. The host stands for nothing and leads
         nowhere; requests to every other host go to the gateway.",
        (NETWORKING, "ServiceEntry"),
        metadata(install, "egress-warden-http"),
        json!({"spec": {
            "hosts": ["http.egress-warden.internal"],
            "exportTo": install.spec.workloads.namespaces,
            "location": "MESH_INTERNAL",
            "resolution": "STATIC",
            "ports": ports,
            "workloadSelector": {"labels": {contract::NO_POD: "true"}},
        }}),
    )
}

fn plugin(install: &Install, module: &Module, place: PluginSite, name: &str) -> Object {
    let gateway = &install.spec.gateway;
    let (port, about) = match place {
        PluginSite::Http => (gateway.ports.http, "Judges every HTTP request."),
        PluginSite::Tunnel | PluginSite::Tls => (
            gateway.ports.tunnel,
            "Judges every tunnel before it connects to anything.",
        ),
    };
    let mut common = json!({
        // After authentication, where Istio's own authorization stands.
        "phase": "AUTHZ",
        "match": [{"ports": [{"number": port}]}],
    });
    match gateway.api {
        GatewayApi::Istio => {
            let selector = json!({"matchLabels": gateway.selector});
            set(&mut common, "selector", selector);
        }
        GatewayApi::Kubernetes => set(&mut common, "targetRefs", kubernetes::target()),
    }
    let image = image(install, module, place);
    let (kind, spec) = if install.spec.istio.traffic_extension {
        let mut spec = common;
        set(&mut spec, "wasm", image);
        ("TrafficExtension", spec)
    } else {
        let mut spec = image;
        for (field, value) in common.as_object().into_iter().flatten() {
            set(&mut spec, field, value.clone());
        }
        ("WasmPlugin", spec)
    };
    Object::new(
        Stage::Policy,
        about,
        ("extensions.istio.io/v1alpha1", kind),
        metadata(install, &format!("{NAME}-{name}")),
        json!({"spec": spec}),
    )
}

/// What a `WasmPlugin` and the `wasm` part of a `TrafficExtension` have in common.
fn image(install: &Install, module: &Module, place: PluginSite) -> Value {
    let image = &install.spec.module;
    let mut spec = json!({
        "url": image.url,
        // FAIL_CLOSE never recovers from a trap, FAIL_OPEN opens.
        "failStrategy": "FAIL_RELOAD",
        "pluginName": place.plugin_name(),
        "pluginConfig": module.config(place),
    });
    if let Some(digest) = &image.sha256 {
        set(&mut spec, "sha256", json!(digest));
    }
    if image.url.starts_with("oci://") {
        set(&mut spec, "imagePullPolicy", json!("IfNotPresent"));
    }
    if let Some(secret) = &image.pull_secret {
        set(&mut spec, "imagePullSecret", json!(secret));
    }
    spec
}

/// Istio's own filter at a gateway looks only upstream, and overwrites the caller's header with
/// the gateway's before any plugin runs; so one that looks downstream goes first.
fn peer_metadata(install: &Install, traffic: &MeshPorts) -> Object {
    let patch = json!({
        "applyTo": "HTTP_FILTER",
        "match": envoy::matching(install, &json!({
            "listener": {
                "portNumber": install.spec.gateway.ports.http,
                "filterChain": {"filter": {"name": envoy::CONNECTION_MANAGER}},
            },
        })),
        "patch": {"operation": "INSERT_FIRST", "value": {
            "name": "egress-warden.peer-metadata",
            "typed_config": {
                "@type": "type.googleapis.com/udpa.type.v1.TypedStruct",
                "type_url": "type.googleapis.com/io.istio.http.peer_metadata.Config",
                "value": {
                    "downstream_discovery": [{"istio_headers": {}}],
                    "additional_labels": traffic.labels,
                },
            },
        }},
    });
    Object::new(
        Stage::Policy,
        "Makes the caller's labels visible: exactly those that the policy selects by. Without it
         no rule with labels accepts anything.",
        ENVOY_FILTER,
        metadata(install, "egress-warden-peer-metadata"),
        filter(install, 0, &[patch]),
    )
}
