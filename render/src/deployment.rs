//! The gateway's own workload, as an option: Envoy and Istio are what scales out.

pub(crate) mod bootstrap;
pub(crate) mod memory;

pub(crate) use memory::Load;

use std::collections::BTreeSet;
use std::fmt::Display;

use egress_policy::model::CaCertificates;
use serde_json::{Value, json};

use crate::NAME;
use crate::error::RenderError;
use crate::gateway::{POD_LABEL, metadata};
use crate::install::{Deployment, GatewayApi, Install};
use crate::object::{Object, Stage, set};
use egress_policy::ports::MeshPorts;

/// The gateway's Deployment, Service, scaling and account, if they are asked for.
pub(crate) fn objects(
    install: &Install,
    traffic: &MeshPorts,
    load: Load,
    problems: &mut Vec<RenderError>,
) -> Vec<Object> {
    let Some(settings) = &install.spec.gateway.deployment else {
        return Vec::new();
    };
    let resources = memory::resources(install, settings, load, problems);
    let name = &install.spec.gateway.service;
    let bootstrap = bootstrap::object(install, settings.workers, load, &resources);
    let object =
        |about, api, body| Object::new(Stage::Gateway, about, api, metadata(install, name), body);
    let mut objects = vec![
        Object::new(
            Stage::Gateway,
            "The gateway's identity, by which sidecars know it.",
            ("v1", "ServiceAccount"),
            metadata(install, &install.spec.gateway.service_account),
            json!({}),
        ),
        object(
            "The gateway. Istio's injector fills in the proxy and its version.",
            ("apps/v1", "Deployment"),
            deployment(install, settings, traffic, &resources, bootstrap.is_some()),
        ),
        object(
            "The two rendered ports, named so that Istio knows their protocols.",
            ("v1", "Service"),
            service(install),
        ),
        object(
            "More pods under load; they share nothing.",
            ("autoscaling/v2", "HorizontalPodAutoscaler"),
            json!({"spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
                "minReplicas": settings.min_replicas,
                "maxReplicas": settings.max_replicas,
                "metrics": [{"type": "Resource", "resource": {
                    "name": "cpu",
                    "target": {"type": "Utilization", "averageUtilization": settings.cpu_percent},
                }}],
            }}),
        ),
        object(
            "A drain takes one pod at a time.",
            ("policy/v1", "PodDisruptionBudget"),
            json!({"spec": {
                "maxUnavailable": 1,
                "selector": {"matchLabels": install.spec.gateway.selector},
            }}),
        ),
    ];
    objects.extend(bootstrap);
    objects
}

fn deployment(
    install: &Install,
    settings: &Deployment,
    traffic: &MeshPorts,
    resources: &Value,
    bounded: bool,
) -> Value {
    let gateway = &install.spec.gateway;
    let mut labels = json!(gateway.selector);
    set(&mut labels, "sidecar.istio.io/inject", json!("true"));
    if gateway.api == GatewayApi::Kubernetes {
        set(&mut labels, POD_LABEL, json!(NAME));
    }
    // Its injector takes pods of the namespace that say so, whatever the namespace says.
    if let Some(revision) = &install.spec.istio.revision {
        set(&mut labels, "istio.io/rev", json!(revision));
    }
    let spread = |key: &str| {
        json!({
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": gateway.selector},
        })
    };
    let secrets = secrets(traffic);
    let volumes: Vec<_> = secrets
        .iter()
        .map(|name| json!({"name": volume(name), "secret": {"secretName": name}}))
        .collect();
    let mounts: Vec<_> = secrets
        .iter()
        .map(|name| {
            let path = format!("{}/{name}", gateway.secrets);
            json!({"name": volume(name), "mountPath": path, "readOnly": true})
        })
        .collect();
    let seconds = install.drain_seconds();
    // The number of pods is the autoscaler's alone: stated here, each later server-side apply would
    // conflict with it, or take pods away under load.
    let mut body = json!({"spec": {
        // A new pod is there before an old one goes.
        "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "selector": {"matchLabels": gateway.selector},
        "template": {
            "metadata": {
                "labels": labels,
                "annotations": {
                    "inject.istio.io/templates": "gateway",
                    "proxy.istio.io/config": proxy_config(settings.workers, seconds, install.spec.limits.connections),
                },
            },
            "spec": {
                "serviceAccountName": gateway.service_account,
                "nodeSelector": settings.node_selector,
                "tolerations": settings.tolerations,
                // Longer than the drain, which it would otherwise cut.
                "terminationGracePeriodSeconds": seconds.saturating_add(30),
                "topologySpreadConstraints": [
                    spread("topology.kubernetes.io/zone"),
                    spread("kubernetes.io/hostname"),
                ],
                "securityContext": {
                    "runAsNonRoot": true,
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                "containers": [{
                    "name": "istio-proxy",
                    "image": "auto",
                    // `auto` has no tag, for which the API server would set `Always`: then no
                    // gateway pod starts while the registry is away.
                    "imagePullPolicy": "IfNotPresent",
                    "securityContext": {
                        "allowPrivilegeEscalation": false,
                        "capabilities": {"drop": ["ALL"]},
                        "readOnlyRootFilesystem": true,
                    },
                    // In place of the injector's, which asks only whether Envoy runs. Every field is
                    // stated, since the injector merges its own into those that are not.
                    "readinessProbe": {
                        "httpGet": {
                            "path": "/",
                            "port": gateway.ports.ready,
                            "scheme": "HTTP",
                        },
                        "periodSeconds": 5,
                        "timeoutSeconds": 3,
                        "successThreshold": 1,
                        "failureThreshold": 3,
                    },
                    "resources": resources,
                }],
            },
        },
    }});
    if bounded && let Some(annotations) = body.pointer_mut("/spec/template/metadata/annotations") {
        set(
            annotations,
            bootstrap::OVERRIDE,
            json!(bootstrap::BOOTSTRAP),
        );
    }
    if !secrets.is_empty() {
        let pod = "/spec/template/spec";
        if let Some(pod) = body.pointer_mut(pod) {
            set(pod, "volumes", json!(volumes));
        }
        if let Some(proxy) = body.pointer_mut(&format!("{pod}/containers/0")) {
            set(proxy, "volumeMounts", json!(mounts));
        }
    }
    body
}

/// What Istio's agent is told, as JSON. Numbers may be places for values.
///
/// The agent forgets a module a day after it was last asked for, and a registry that is away then
/// closes the gateway at the next push; so it keeps modules for a year. A pod that ends waits for
/// its connections and no longer; the grace period bounds that, and stands for the drain time where
/// the agent is too old to count connections.
pub(crate) fn proxy_config(
    workers: impl Display,
    drain_seconds: impl Display,
    connections: u32,
) -> String {
    format!(
        "{{\"concurrency\":{workers},\"proxyMetadata\":{{\
         \"EXIT_ON_ZERO_ACTIVE_CONNECTIONS\":\"true\",\
         \"ISTIO_META_GLOBAL_DOWNSTREAM_MAX_CONNECTIONS\":\"{connections}\",\
         \"WASM_MODULE_EXPIRY\":\"8760h\"}},\
         \"terminationDrainDuration\":\"{drain_seconds}s\"}}"
    )
}

/// The secrets with which the gateway speaks TLS to the outside.
fn secrets(traffic: &MeshPorts) -> BTreeSet<&str> {
    let named = traffic.originations.iter().flat_map(|origination| {
        let tls = &origination.tls;
        let authority = match &tls.ca_certificates {
            CaCertificates::Secret(name) => Some(name),
            CaCertificates::System | CaCertificates::File(_) => None,
        };
        authority.into_iter().chain(&tls.client_certificate)
    });
    named.map(String::as_str).collect()
}

/// Names of volumes hold no dots.
fn volume(secret: &str) -> String {
    format!("tls-{}", secret.replace('.', "-"))
}

fn service(install: &Install) -> Value {
    let ports = install.spec.gateway.ports;
    json!({"spec": {
        "type": "ClusterIP",
        "selector": install.spec.gateway.selector,
        "ports": [
            {"name": "http", "port": ports.http, "targetPort": ports.http, "appProtocol": "http"},
            {
                "name": "http2-tunnel",
                "port": ports.tunnel,
                "targetPort": ports.tunnel,
                "appProtocol": "http2",
            },
        ],
    }})
}
