//! The module's configuration in each place where it stands.

use egress_policy::config::Config;
use egress_policy::defect::Defect;
use egress_policy::model::Policy;
use egress_policy::tree::Json;
use serde_json::{Value, json};

use crate::object::{set, sorted};
use crate::problem::Problem;
use crate::traffic::Traffic;

/// The largest configuration that goes into an object. Istio sends it to every gateway pod, and
/// Kubernetes refuses requests above about 1.5 MiB.
const LARGEST: usize = 1024 * 1024;

/// Where the module stands at the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Before the router of the port for HTTP requests.
    Http,
    /// Before the router of the port for tunnels.
    Tunnel,
    /// In the clusters for HTTP requests, where the resolved address is known.
    Upstream,
    /// In the internal listener, where TLS inside a tunnel shows its name.
    Tls,
}

impl Place {
    pub(crate) const ALL: [Self; 4] = [Self::Http, Self::Tunnel, Self::Upstream, Self::Tls];

    fn context(self) -> &'static str {
        match self {
            Self::Http | Self::Tunnel => "http",
            Self::Upstream => "upstream",
            Self::Tls => "network",
        }
    }

    /// Labels come from Istio's peer metadata, but a tunnel carries them in a header of ours: a
    /// sidecar cannot write Istio's when it makes the request itself.
    fn labels(self) -> &'static str {
        match self {
            Self::Http | Self::Upstream => "filterState",
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
    pub(crate) fn new(traffic: &Traffic, documents: &[Value]) -> Result<Self, Vec<Problem>> {
        let common = json!({
            "addressCheck": "upstream",
            "ports": ports(traffic),
            "policies": documents,
        });
        let mut module = Self {
            common: sorted(&common),
            policy_hash: String::new(),
        };
        for place in Place::ALL {
            let text = module.text(place);
            if text.len() > LARGEST {
                let message = format!(
                    "the policies are {} KiB; at most {} KiB travel in an object",
                    text.len() / 1024,
                    LARGEST / 1024
                );
                return Err(vec![Problem::new("policies", message)]);
            }
            let config = Config::read(&text).map_err(|defects| problems(&defects))?;
            module.policy_hash = config.policy_hash;
        }
        Ok(module)
    }

    /// The configuration for one place.
    pub(crate) fn config(&self, place: Place) -> Value {
        let mut config = self.common.clone();
        set(&mut config, "context", json!(place.context()));
        set(&mut config, "labels", json!(place.labels()));
        sorted(&config)
    }

    /// The same as JSON text.
    pub(crate) fn text(&self, place: Place) -> String {
        self.config(place).to_string()
    }

    pub(crate) fn policy_hash(&self) -> &str {
        &self.policy_hash
    }
}

/// Reads a policy document.
pub(crate) fn policy(document: &Value) -> Result<Policy, Vec<Problem>> {
    let text = sorted(document).to_string();
    let tree = Json::parse(&text).map_err(|message| vec![Problem::new("policy", message)])?;
    Policy::read(&tree).map_err(|defects| problems(&defects))
}

fn problems(defects: &[Defect]) -> Vec<Problem> {
    let problem = |defect: &Defect| Problem::new(defect.path.to_string(), defect.message.clone());
    defects.iter().map(problem).collect()
}

/// The cluster for HTTP requests to a port.
pub(crate) fn http_cluster(port: u16) -> String {
    match port {
        80 => "warden-http".to_owned(),
        port => format!("warden-http-{port}"),
    }
}

/// The clusters that verdicts may lead to.
fn ports(traffic: &Traffic) -> Vec<Value> {
    let http = traffic
        .http
        .iter()
        .map(|port| json!({"cluster": http_cluster(*port), "protocol": "HTTP", "port": port}));
    let tunnelled = [
        json!({"cluster": "warden-tcp", "protocol": "TCP", "addressCheck": "upstream"}),
        json!({"cluster": "warden-tls", "protocol": "TLS"}),
        json!({"cluster": "warden-tls-inner", "protocol": "TLS"}),
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
