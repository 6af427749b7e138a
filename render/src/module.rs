//! The module's configuration in each place where it stands.

use egress_policy::config::PluginConfig;
use egress_policy::contract::{
    CLUSTER_TCP, CLUSTER_TLS, CLUSTER_TLS_INNER, http_cluster, inspect_cluster,
};
use egress_policy::embedded::Embedded;
use egress_policy::model::REVOKED_TIER;
use serde_json::{Value, json};

use crate::embedded::EmbeddedPolicies;
use crate::envoy::classes::Classes;
use crate::error::{RenderError, problems};
use crate::install::{Install, PolicyLocation};
use crate::object::{canonical, set};
use egress_policy::ports::MeshPorts;

/// The largest policies that stand in objects without anybody having asked for it: there are three
/// places, and Istio sends each to every gateway pod.
const LARGEST: usize = 512 * 1024;

/// Where the module stands at the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PluginSite {
    /// Before the router of the port for HTTP requests.
    Http,
    /// Before the router of the port for tunnels.
    Tunnel,
    /// In the internal listener, where TLS inside a tunnel shows its name.
    Tls,
}

impl PluginSite {
    pub(crate) const ALL: [Self; 3] = [Self::Http, Self::Tunnel, Self::Tls];

    fn context(self) -> &'static str {
        match self {
            Self::Http | Self::Tunnel => "http",
            Self::Tls => "network",
        }
    }

    /// What the module is called there, in its metrics and log. Istio and Envoy hand it on as the
    /// plugin's root id.
    pub(crate) const fn plugin_name(self) -> &'static str {
        match self {
            Self::Http => "egress-warden-http",
            Self::Tunnel => "egress-warden-tunnel",
            Self::Tls => "egress-warden-tls",
        }
    }

    /// Labels come from Istio's peer metadata, but a tunnel carries them in a header of ours: a
    /// sidecar cannot write Istio's when it makes the request itself.
    fn labels(self) -> &'static str {
        match self {
            Self::Http => "filterState",
            Self::Tunnel | Self::Tls => "header",
        }
    }
}

/// The module's configuration, checked by the engine.
#[derive(Debug)]
pub(crate) struct Module {
    common: Value,
    policy_hash: String,
}

impl Module {
    pub(crate) fn new(
        install: &Install,
        traffic: &MeshPorts,
        classes: &Classes,
        documents: &[Value],
    ) -> Result<Self, Vec<RenderError>> {
        let carried = EmbeddedPolicies::written(documents)?;
        let policies = match install.spec.module.policy_location() {
            Some(PolicyLocation::Image(hash)) => {
                expect_carried(&carried, hash)?;
                json!({"embedded": hash})
            }
            Some(PolicyLocation::Inline) => json!(documents),
            None => {
                expect_small(&carried)?;
                json!(documents)
            }
        };
        let mut common = json!({
            "addressCheck": "classes",
            "addressClasses": classes.listed(),
            "ports": ports(traffic),
            "limits": install.module_limits(),
            "policies": policies,
        });
        if rechecks(install, documents) {
            set(&mut common, "recheckOnUpdate", json!(true));
        }
        if let Some(one_in) = install.spec.gateway.log_accepts {
            set(&mut common, "logAccepts", json!(one_in));
        }
        let nat64 = &install.spec.cluster.nat64_prefixes;
        if !nat64.is_empty() {
            set(&mut common, "nat64Prefixes", json!(nat64));
        }
        let proxies = &install.spec.inspection;
        if !proxies.is_empty() {
            let proxies: Vec<_> = proxies
                .iter()
                .map(|proxy| json!({"name": proxy.name, "cluster": inspect_cluster(&proxy.name)}))
                .collect();
            set(&mut common, "inspection", json!(proxies));
        }
        let mut module = Self {
            common: canonical(&common),
            policy_hash: String::new(),
        };
        let embedded = Embedded::new(Some(carried.bytes()));
        let mut first = None;
        for place in PluginSite::ALL {
            // The policies by their hash: they are the same bytes, and are decoded once for all.
            let mut config = module.config(place);
            set(&mut config, "policies", json!({"embedded": carried.hash()}));
            let config = PluginConfig::read_beside(&canonical(&config).to_string(), &embedded)
                .map_err(|defects| problems(&defects))?;
            module.policy_hash.clone_from(&config.policy_hash);
            // They are compiled once while one of their places is there.
            first.get_or_insert(config);
        }
        Ok(module)
    }

    /// Whether the policies are in the module's image.
    pub(crate) fn is_carried(&self) -> bool {
        self.common.pointer("/policies/embedded").is_some()
    }

    /// The configuration for one place.
    pub(crate) fn config(&self, place: PluginSite) -> Value {
        let mut config = self.common.clone();
        set(&mut config, "context", json!(place.context()));
        set(&mut config, "labels", json!(place.labels()));
        canonical(&config)
    }

    /// The configuration of the gate, which waits until all places have this policy.
    pub(crate) fn gate(&self) -> Value {
        json!({
            "context": "ready",
            "places": PluginSite::ALL.map(PluginSite::plugin_name),
            "policyHash": self.policy_hash,
        })
    }

    /// The same as JSON text.
    pub(crate) fn text(&self, place: PluginSite) -> String {
        self.config(place).to_string()
    }

    pub(crate) fn policy_hash(&self) -> &str {
        &self.policy_hash
    }
}

/// Whether the streams of older policies are to end.
fn rechecks(install: &Install, documents: &[Value]) -> bool {
    let revokes = |document: &Value| {
        let tiers = document.pointer("/spec/tiers").and_then(Value::as_array);
        let mut tiers = tiers.into_iter().flatten();
        tiers.any(|tier| tier.get("name").is_some_and(|name| name == REVOKED_TIER))
    };
    let stated = install.spec.gateway.recheck_on_update;
    stated.unwrap_or_else(|| documents.iter().any(revokes))
}

fn expect_carried(carried: &EmbeddedPolicies, named: &str) -> Result<(), Vec<RenderError>> {
    if carried.hash() == named {
        return Ok(());
    }
    let message = format!(
        "the image carries the policies {named}, but these are {}: make it anew with `warden \
         package` and state the lines that it prints",
        carried.hash()
    );
    Err(vec![RenderError::new("spec.module.policy", message)])
}

fn expect_small(carried: &EmbeddedPolicies) -> Result<(), Vec<RenderError>> {
    let size = carried.bytes().len();
    if size <= LARGEST {
        return Ok(());
    }
    let message = format!(
        "the policies are {} KiB, and above {} KiB they travel in the module's image: run `warden \
         package --install INSTALL --module MODULE --push REGISTRY/NAME:TAG POLICY...` and state \
         the lines that it prints here (or `policy: inline`, where every object stays below {} KiB)",
        size / 1024,
        LARGEST / 1024,
        crate::object::LARGEST / 1024,
    );
    Err(vec![RenderError::new("spec.module.policy", message)])
}

/// The clusters that verdicts may lead to.
fn ports(traffic: &MeshPorts) -> Vec<Value> {
    let http = traffic
        .http
        .iter()
        .map(|port| json!({"cluster": http_cluster(*port), "protocol": "HTTP", "port": port}));
    let tunnelled = [
        json!({"cluster": CLUSTER_TCP, "protocol": "TCP"}),
        json!({"cluster": CLUSTER_TLS, "protocol": "TLS"}),
        json!({"cluster": CLUSTER_TLS_INNER, "protocol": "TLS"}),
    ];
    // What has a cluster that speaks TLS goes out by no other.
    let originating = traffic.originations.iter().map(|origination| {
        json!({
            "cluster": origination.cluster,
            "protocol": "HTTP",
            "port": origination.port,
            "hosts": origination.names,
        })
    });
    http.chain(originating).chain(tunnelled).collect()
}
