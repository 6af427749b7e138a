//! Reading `ports`: the clusters that verdicts may lead to.

use std::net::IpAddr;
use std::sync::Arc;

use crate::decode::{Fields, each, fitting, list, name_pattern, shape, text, unique, word};
use crate::defect::{At, DefectKind, Defects};
use crate::destination::{Route, RouteHost, RouteTable};
use crate::facts::Protocol;
use crate::name::NamePattern;
use crate::port::parse_ports;
use crate::tree::{Node, Shape};

/// What a cluster carries, and whether it leads inward to where the application's TLS ends.
type Carried = (Protocol, bool);

/// All of them. No route is left to two clusters.
pub(crate) fn read_routes<N: Node>(node: &N, at: &At<'_>, defects: &mut Defects) -> RouteTable {
    let mut routes = RouteTable::default();
    each(node, at, defects, |node, at, defects| {
        read_route(node, at, defects, &mut routes);
    });
    routes.resolve_overlaps();
    routes
}

/// One entry: `{port, protocol}` admits Istio's own clusters of that port; `{cluster, protocol,
/// port, host}` a cluster by name; without `host` any host, without `port` any port that a tunnel
/// asks for. `hosts` are names that Envoy resolves, and no other cluster of the same port may lead
/// to them. `protocol: HTTPS` is a cluster inward, to where the application's TLS ends.
fn read_route<N: Node>(node: &N, at: &At<'_>, defects: &mut Defects, routes: &mut RouteTable) {
    let before = defects.len();
    let Some(mut fields) = Fields::of(node, at, defects) else {
        return;
    };
    let words = [
        ("HTTP", (Protocol::Http, false)),
        ("HTTPS", (Protocol::Http, true)),
        ("TLS", (Protocol::Tls, false)),
        ("TCP", (Protocol::Tcp, false)),
    ];
    let carried = fields.required("protocol", at, defects, |node, at, defects| {
        word(node, at, defects, &words)
    });
    let cluster = fields.optional("cluster", at, defects, text);
    let port = fields.optional("port", at, defects, read_port);
    let host = take_host(&mut fields, at, defects);
    fields.finish(at, defects);
    if let Some(carried) = carried
        && defects.len() == before
        && add(routes, cluster, port, host, carried, at, defects) == Some(false)
    {
        let message = "this cluster or port is listed already";
        defects.add(DefectKind::DuplicateName, at, message, None);
    }
}

/// False if it is there already, `None` with a defect of its own.
fn add(
    routes: &mut RouteTable,
    cluster: Option<String>,
    port: Option<u16>,
    host: Option<RouteHost>,
    (protocol, ends_tls): Carried,
    at: &At<'_>,
    defects: &mut Defects,
) -> Option<bool> {
    let mut conflict = |field: &'static str, message: &str| {
        defects.add(DefectKind::Conflict, &at.field(field), message, None);
        None
    };
    match (cluster, port, host) {
        (None, _, _) if ends_tls => conflict("protocol", "`HTTPS` goes with `cluster`"),
        (None, _, Some(_)) => conflict("host", "`host` goes with `cluster`"),
        (Some(name), port, host) => {
            if ends_tls {
                routes.ends_tls_at(name.clone());
            }
            let host = host.unwrap_or(RouteHost::Dynamic);
            Some(routes.add_cluster(
                name,
                Route {
                    host,
                    port,
                    protocol,
                },
            ))
        }
        (None, Some(port), None) => Some(routes.add_istio_port(port, protocol)),
        (None, None, None) => {
            let message = "`cluster` or `port` is missing";
            defects.add(DefectKind::MissingField, at, message, None);
            None
        }
    }
}

fn take_host<N: Node>(
    fields: &mut Fields<'_, N>,
    at: &At<'_>,
    defects: &mut Defects,
) -> Option<RouteHost> {
    let one = fields.take("host");
    let several = fields.take("hosts");
    if one.is_some() && several.is_some() {
        let message = "a cluster has one `host` or several `hosts`";
        defects.add(DefectKind::Conflict, &at.field("hosts"), message, None);
    }
    let several = several.map(|node| {
        let at = at.field("hosts");
        let names = list(&node, &at, defects, name_pattern);
        unique(&names, &at, defects);
        RouteHost::OneOf(Arc::from(names))
    });
    several.or_else(|| read_host(&one?, &at.field("host"), defects))
}

fn read_port<N: Node>(node: &N, at: &At<'_>, defects: &mut Defects) -> Option<u16> {
    let port = match shape(node, at, defects)? {
        Shape::Number(text) => parse_ports(&text).ok().map(|range| *range.start()),
        _ => None,
    };
    if port.is_none() {
        let message = "expected one port, 1 to 65535";
        defects.add(DefectKind::BadValue, at, message, None);
    }
    port
}

fn read_host<N: Node>(node: &N, at: &At<'_>, defects: &mut Defects) -> Option<RouteHost> {
    let value = text(node, at, defects)?;
    if let Ok(address) = value.parse::<IpAddr>() {
        return Some(RouteHost::Address(crate::name::canonical(address)));
    }
    let parsed = NamePattern::parse(&value);
    let pattern = fitting(&value, parsed, |error| error.hint(), at, defects)?;
    Some(match pattern {
        NamePattern::Exact(name) => RouteHost::Name(name),
        pattern => RouteHost::Pattern(pattern),
    })
}
