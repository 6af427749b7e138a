//! The gateway's routes: by port for HTTP, by the port in the authority for tunnels.
//!
//! Each of these leads nowhere by itself: the module judges by it which names the gateway speaks
//! TLS to and what a port carries. In front of it stands the same route for each address class,
//! which takes only what carries that class's word. A class without one is a closed one.

use egress_policy::contract::{CLUSTER_TCP, FORWARD, accept_word, class_cluster, http_cluster};
use serde_json::{Value, json};

use super::classes::Class;
use super::route::{choose_by, http_route, tunnel_route};
use super::{INNER_CLUSTER, inspection, locked_for, patch};
use crate::install::{GatewayApi, Install};
use crate::object::set;
use egress_policy::ports::{MeshPorts, Origination};

/// A route without its way out.
struct Base {
    /// The gateway's port.
    port: u16,
    route: Value,
    cluster: String,
    /// Whether what is dialled by its number goes this way.
    literals: bool,
}

/// What a class's route has of the route that it stands in front of.
impl Base {
    fn for_class(&self, class: &Class) -> Option<Value> {
        if !(self.literals || class.resolves()) {
            return None;
        }
        let word = accept_word(class.name());
        let mut route = self.route.clone();
        let name = route
            .get("name")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let name = format!("{name}-{}", class.name());
        set(&mut route, "name", json!(name));
        choose_by(&mut route, &word);
        let cluster = class_cluster(&self.cluster, class.name());
        if let Some(action) = route.get_mut("route") {
            set(action, "cluster", json!(cluster));
        }
        Some(route)
    }
}

/// The routes that the module judges by, the least specific first: each goes before those inserted
/// earlier.
fn bases(install: &Install, traffic: &MeshPorts) -> Vec<Base> {
    let ports = install.spec.gateway.ports;
    let plain = |port: u16, headers: &[Value]| {
        let (name, cluster) = (format!("http-{port}"), http_cluster(port));
        Base {
            port: ports.http,
            route: http_route(install, &name, &cluster, headers),
            cluster,
            literals: true,
        }
    };
    let mut bases = vec![plain(80, &[])];
    let others = traffic.http.iter().filter(|port| **port != 80);
    bases.extend(others.map(|port| plain(*port, &[authority_port(*port)])));
    bases.extend(traffic.originations.iter().map(|origination| {
        let cluster = &origination.cluster;
        let authority = json!({
            "name": ":authority",
            "string_match": {"safe_regex": {"regex": authorities(origination)}},
        });
        Base {
            port: ports.http,
            route: http_route(install, cluster, cluster, &[authority]),
            cluster: cluster.clone(),
            literals: false,
        }
    }));
    bases.push(Base {
        port: ports.tunnel,
        route: tunnel_route(install, "tcp", CLUSTER_TCP, &[]),
        cluster: CLUSTER_TCP.to_owned(),
        literals: true,
    });
    bases
}

/// The routes that the module judges by, and those inward.
pub(super) fn routes(install: &Install, traffic: &MeshPorts) -> Vec<Value> {
    let bases = bases(install, traffic).into_iter();
    let mut routes: Vec<_> = bases
        .map(|base| first(install, base.port, base.route))
        .collect();
    for port in &traffic.tls {
        let name = format!("tls-{port}");
        let headers = [authority_port(*port)];
        let mut route = tunnel_route(install, &name, INNER_CLUSTER, &headers);
        // What goes inward has not been judged whole yet: its verdict is `forward`, which opens
        // this route and no other.
        set(&mut route, "typed_per_filter_config", locked_for(FORWARD));
        routes.push(first(install, install.spec.gateway.ports.tunnel, route));
    }
    routes
}

/// The routes of a class, in front of those.
pub(super) fn of_class(install: &Install, traffic: &MeshPorts, class: &Class) -> Vec<Value> {
    let ports = install.spec.gateway.ports;
    let bases = bases(install, traffic).into_iter();
    let accepted = bases.filter_map(|base| Some((base.port, base.for_class(class)?)));
    let inspected = install.spec.inspection.iter().flat_map(|proxy| {
        let [request, tunnel] = inspection::routes(install, proxy, class);
        [(ports.http, request), (ports.tunnel, tunnel)]
    });
    accepted
        .chain(inspected)
        .map(|(port, route)| first(install, port, route))
        .collect()
}

/// A patch that puts a route in front of all that are there.
fn first(install: &Install, port: u16, route: Value) -> Value {
    let mut place = json!({
        "portNumber": port,
        "vhost": {"name": format!("*:{port}")},
    });
    // The name that Istio gives a Gateway of the other API differs from version to version.
    if install.spec.gateway.api == GatewayApi::Istio {
        let gateway = format!("{}/egress-warden", install.spec.gateway.namespace);
        set(&mut place, "gateway", json!(gateway));
    }
    let place = json!({"routeConfiguration": place});
    patch(install, "HTTP_ROUTE", &place, "INSERT_FIRST", route)
}

fn authority_port(port: u16) -> Value {
    json!({"name": ":authority", "string_match": {"suffix": format!(":{port}")}})
}

/// A regular expression (RE2, the whole text) for the authorities of these names. It may be
/// wider than the patterns, never narrower: the module compares the names themselves.
fn authorities(origination: &Origination) -> String {
    let names: Vec<_> = origination
        .names
        .iter()
        .map(|name| expression(name))
        .collect();
    let port = match (origination.entry(), origination.port) {
        (80, 80) => "(:80)?".to_owned(),
        (80, port) => format!("(:80|:{port})?"),
        (port, _) => format!(":{port}"),
    };
    format!("(?i)({})\\.?{port}", names.join("|"))
}

fn expression(pattern: &str) -> String {
    let labels = pattern
        .split('.')
        .enumerate()
        .map(|(i, label)| match label {
            "*" if i == 0 => "[^:]+".to_owned(),
            "*" | "+" => "[^.:]+".to_owned(),
            label => label.replace('*', "[^.:]*"),
        });
    labels.collect::<Vec<_>>().join("\\.")
}

#[cfg(test)]
mod tests {
    use egress_policy::model::{CaCertificates, TlsOrigination};

    use super::*;

    #[test]
    fn authorities_of_names() {
        let of = |port, names: &[&str]| {
            let tls = TlsOrigination {
                ca_certificates: CaCertificates::System,
                client_certificate: None,
                sni: None,
            };
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            authorities(&Origination {
                cluster: String::new(),
                port,
                tls,
                names,
            })
        };
        assert_eq!(
            of(443, &["a.example.com"]),
            r"(?i)(a\.example\.com)\.?(:80|:443)?"
        );
        assert_eq!(
            of(
                8443,
                &["*.example.com", "+.b.example", "ec2.*.x-*.example.com"]
            ),
            r"(?i)([^:]+\.example\.com|[^.:]+\.b\.example|ec2\.[^.:]+\.x-[^.:]*\.example\.com)\.?:8443"
        );
    }
}
