//! Route configurations: for each rendered port one host with the rendered routes in their order, and
//! behind them an answer.

use serde_json::Value;

use super::compare::{sentence, with_known, with_rendered};
use super::dump::Dump;
use super::istio::Istio;
use super::wanted::Wanted;
use super::{items, listeners, name};
use crate::error::RenderError;

pub(super) fn check(
    dump: &Dump<'_>,
    wanted: &Wanted,
    istio: &Istio,
    problems: &mut Vec<RenderError>,
) {
    let mut asked_for: Vec<(&str, u64)> = Vec::new();
    for (place, listener) in &dump.listeners {
        let Some(port) = listeners::port(listener).filter(|port| wanted.ports.contains(port))
        else {
            continue;
        };
        for manager in listeners::managers(listener) {
            let name = manager.pointer("/typed_config/rds/route_config_name");
            // One that names none is found with its listener.
            let Some(name) = name.and_then(Value::as_str) else {
                continue;
            };
            asked_for.push((name, port));
            if !dump
                .routes
                .iter()
                .any(|(_, config)| self::name(config) == name)
            {
                let message = format!("its routes {name} are not in the dump");
                problems.push(RenderError::new(&**place, message));
            }
        }
    }
    for (place, config) in &dump.routes {
        let ports: Vec<_> = asked_for
            .iter()
            .filter(|(asked, _)| *asked == name(config))
            .collect();
        if ports.is_empty() {
            problems.push(RenderError::new(
                &**place,
                "they were not rendered: no rendered port asks for them",
            ));
        }
        for (_, port) in ports {
            at_port(config, *port, place, wanted, istio, problems);
        }
    }
    inline(dump, problems);
}

/// What the dump lists of route configurations that stand in listeners has been compared there.
fn inline(dump: &Dump<'_>, problems: &mut Vec<RenderError>) {
    let there: Vec<_> = dump
        .listeners
        .iter()
        .chain(&dump.static_listeners)
        .flat_map(|(_, listener)| listeners::managers(listener))
        .filter_map(|manager| manager.pointer("/typed_config/route_config"))
        .collect();
    for (place, config) in &dump.inline_routes {
        let found = there
            .iter()
            .any(|there| with_rendered(config, there).is_empty());
        if !found {
            problems.push(RenderError::new(
                &**place,
                "they stand in no listener of the dump",
            ));
        }
    }
}

fn at_port(
    config: &Value,
    port: u64,
    place: &str,
    wanted: &Wanted,
    istio: &Istio,
    problems: &mut Vec<RenderError>,
) {
    let mut report = |place: &str, what: &str, differences: &[_]| {
        if !differences.is_empty() {
            problems.push(RenderError::new(
                place,
                format!("{what}: {}", sentence(differences)),
            ));
        }
    };
    let beside = "neither rendered nor Istio's";
    report(place, beside, &with_known(config, istio.get("routes")));
    let hosts: Vec<_> = items(config, "virtual_hosts").collect();
    for host in &hosts {
        let place = format!("{place}, host {}", name(host));
        report(&place, beside, &with_known(host, istio.get("host")));
    }
    let [host] = hosts.as_slice() else {
        let names: Vec<_> = hosts.iter().map(|host| name(host)).collect();
        let message = format!(
            "its hosts are [{}], and one, for every name, was rendered",
            names.join(", ")
        );
        problems.push(RenderError::new(place, message));
        return;
    };
    let rendered = wanted
        .routes
        .get(&port)
        .map(Vec::as_slice)
        .unwrap_or_default();
    let routes = items(host, "routes").filter(|route| !wanted.keeps(route));
    let routes: Vec<_> = routes.collect();
    let place = format!("{place}, host {}", name(host));
    let names = |routes: &mut dyn Iterator<Item = &str>| routes.collect::<Vec<_>>().join(", ");
    let found = names(&mut routes.iter().map(|route| name(route)));
    let expected = names(&mut rendered.iter().map(name).chain(["closed"]));
    if found != expected {
        let message = format!("its routes are [{found}], not [{expected}]");
        problems.push(RenderError::new(&*place, message));
    }
    for route in routes {
        let place = format!("{place}, route {}", name(route));
        let same = rendered
            .iter()
            .find(|rendered| name(rendered) == name(route));
        let differences = match same {
            Some(rendered) => with_rendered(route, rendered),
            None => with_known(route, istio.get("closed")),
        };
        if !differences.is_empty() {
            let message = format!("not as rendered: {}", sentence(&differences));
            problems.push(RenderError::new(place, message));
        }
    }
}
