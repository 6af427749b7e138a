//! Listeners and their chains: the rendered ones as rendered; at the two ports the policy, then the
//! lock, then what connects, and between them nothing but Istio's own filters.

use serde_json::Value;

use super::compare::{Difference, brief, sentence, with_known, with_rendered};
use super::dump::Dump;
use super::istio::Istio;
use super::wanted::Wanted;
use super::{items, missing, name};
use crate::error::RenderError;
use crate::module::PluginSite;

const MANAGER: &str = "envoy.filters.network.http_connection_manager";

pub(super) fn check(
    dump: &Dump<'_>,
    wanted: &Wanted,
    istio: &Istio,
    problems: &mut Vec<RenderError>,
) {
    missing("listener", &wanted.listeners, &dump.listeners, problems);
    for (wanted_port, what) in wanted.ports.iter().zip(["HTTP requests", "tunnels"]) {
        if !dump
            .listeners
            .iter()
            .any(|(_, listener)| port(listener) == Some(*wanted_port))
        {
            let message = format!("none for port {wanted_port}, which takes {what}");
            problems.push(RenderError::new("listeners", message));
        }
    }
    for (place, listener) in &dump.listeners {
        let mut say = |message: String| problems.push(RenderError::new(&**place, message));
        if let Some(rendered) = wanted.listeners.get(name(listener)) {
            report(
                "not as rendered",
                &with_rendered(listener, rendered),
                &mut say,
            );
        } else if let Some(port) = port(listener).filter(|port| wanted.ports.contains(port)) {
            at_port(listener, port, wanted, istio, &mut say);
        } else {
            say(format!(
                "it was not rendered: {}",
                brief(listener.get("address").unwrap_or(listener))
            ));
        }
    }
    for (place, listener) in &dump.static_listeners {
        let mut say = |message: String| problems.push(RenderError::new(&**place, message));
        let differences = with_known(listener, istio.get("static_listener"));
        report(
            "not as in the bootstrap of Istio's agent",
            &differences,
            &mut say,
        );
    }
}

/// The port that a listener has, if packets can be sent to it.
pub(super) fn port(listener: &Value) -> Option<u64> {
    let port = listener.pointer("/address/socket_address/port_value");
    port.and_then(Value::as_u64)
}

/// Every HTTP connection manager of a rendered port.
pub(super) fn managers(listener: &Value) -> impl Iterator<Item = &Value> {
    items(listener, "filter_chains")
        .chain(listener.get("default_filter_chain"))
        .flat_map(|chain| items(chain, "filters"))
        .filter(|filter| name(filter) == MANAGER)
}

fn report(what: &str, differences: &[Difference], say: &mut impl FnMut(String)) {
    if !differences.is_empty() {
        say(format!("{what}: {}", sentence(differences)));
    }
}

const NOT_ISTIOS: &str = "neither rendered nor Istio's";

fn at_port(
    listener: &Value,
    port: u64,
    wanted: &Wanted,
    istio: &Istio,
    say: &mut impl FnMut(String),
) {
    report(
        NOT_ISTIOS,
        &with_known(listener, istio.get("listener")),
        say,
    );
    let others = items(listener, "additional_addresses").filter(|other| {
        let other = other.pointer("/address/socket_address/port_value");
        other.and_then(Value::as_u64) != Some(port)
    });
    for other in others {
        say(format!("it has another port: {}", brief(other)));
    }
    let chains: Vec<_> = items(listener, "filter_chains")
        .chain(listener.get("default_filter_chain"))
        .collect();
    if chains.len() != 1 {
        say(format!(
            "{} filter chains, and one was rendered",
            chains.len()
        ));
    }
    for (i, chain) in chains.iter().enumerate() {
        let mut say = |message: String| {
            say(if chains.len() == 1 {
                message
            } else {
                format!("chain {i}: {message}")
            });
        };
        report(NOT_ISTIOS, &with_known(chain, istio.get("chain")), &mut say);
        let filters: Vec<_> = items(chain, "filters").collect();
        let [manager] = filters.as_slice() else {
            let names: Vec<_> = filters.iter().map(|filter| name(filter)).collect();
            say(format!(
                "its filters are {}, and one, for HTTP, was rendered",
                names.join(", ")
            ));
            continue;
        };
        at_manager(manager, port, wanted, istio, &mut say);
    }
}

fn at_manager(
    manager: &Value,
    port: u64,
    wanted: &Wanted,
    istio: &Istio,
    say: &mut impl FnMut(String),
) {
    let mut others = manager.clone();
    let own = wanted.logs.get(&port);
    let logs = own.and_then(|own| take_log(&mut others, name(own)));
    report(NOT_ISTIOS, &with_known(&others, istio.get("manager")), say);
    let Some(config) = manager.get("typed_config") else {
        return;
    };
    if let Some(own) = own {
        access_log(&logs.unwrap_or_default(), own, say);
    }
    let tunnel = port == wanted.ports[1];
    let key = if tunnel { "tunnel" } else { "http" };
    let upgrades = config.get("upgrade_configs").unwrap_or(&Value::Null);
    let known = istio.get("upgrades").get(key).unwrap_or(&Value::Null);
    report(
        "upgrades not as rendered",
        &with_known(upgrades, known),
        say,
    );
    let connect = config.pointer("/http2_protocol_options/allow_connect");
    if tunnel != (connect == Some(&Value::Bool(true))) {
        say("`http2_protocol_options.allow_connect` is not as rendered: only the port for tunnels takes CONNECT".to_owned());
    }
    let replies = config.get("local_reply_config").unwrap_or(&Value::Null);
    let rendered = wanted.replies.get(&port).unwrap_or(&Value::Null);
    report(
        "local_reply_config is not as rendered",
        &with_rendered(replies, rendered),
        say,
    );
    let filters: Vec<_> = items(config, "http_filters").collect();
    http_filters(&filters, port, wanted, istio, say);
}

/// Takes the access logs of this name out of a manager, and leaves it those of the mesh's settings.
fn take_log(manager: &mut Value, own: &str) -> Option<Vec<Value>> {
    let logs = manager.pointer_mut("/typed_config/access_log")?;
    let logs = logs.as_array_mut()?;
    let (taken, left) = std::mem::take(logs)
        .into_iter()
        .partition(|log| name(log) == own);
    *logs = left;
    Some(taken)
}

/// The gateway's own access log: one, as rendered.
fn access_log(found: &[Value], rendered: &Value, say: &mut impl FnMut(String)) {
    let own = name(rendered);
    match found {
        [log] => report(
            &format!("access log {own} is not as rendered"),
            &with_rendered(log, rendered),
            say,
        ),
        [] => say(format!(
            "access log {own} is missing: nothing says which address was connected to"
        )),
        several => say(format!(
            "{} access logs {own}, and one was rendered",
            several.len()
        )),
    }
}

/// A filter that has to be there.
enum Part<'w> {
    Rendered(&'w Value),
    /// The module, by a WasmPlugin of this name.
    Plugin(String),
    /// The end.
    Router,
}

impl Part<'_> {
    fn is(&self, found: &str, istio: &Istio) -> bool {
        match self {
            Self::Rendered(rendered) => name(rendered) == found,
            Self::Plugin(plugin) => is_plugin(found, plugin),
            Self::Router => found == name(istio.get("router")),
        }
    }

    fn differences(&self, found: &Value, istio: &Istio) -> Vec<Difference> {
        match self {
            Self::Rendered(rendered) => with_rendered(found, rendered),
            Self::Plugin(_) => with_known(found, istio.get("plugin")),
            Self::Router => with_known(found, istio.get("router")),
        }
    }

    fn missing(&self) -> String {
        match self {
            Self::Rendered(rendered) => {
                format!("filter {} is missing, or not in its place", name(rendered))
            }
            Self::Plugin(plugin) => {
                format!("the policy is missing, or not in its place: no filter {plugin}")
            }
            Self::Router => "the router is missing, or not in its place".to_owned(),
        }
    }
}

/// The filters of a port in their order, and how many of them stand before the policy.
fn parts(port: u64, wanted: &Wanted) -> (Vec<Part<'_>>, usize) {
    let first = wanted.first.iter();
    let first = first.filter(|(at, _)| at.is_none_or(|at| at == port));
    let mut parts: Vec<_> = first.map(|(_, filter)| Part::Rendered(filter)).collect();
    let before = parts.len();
    let place = if port == wanted.ports[1] {
        PluginSite::Tunnel
    } else {
        PluginSite::Http
    };
    let plugin = format!("{}.{}", wanted.namespace, place.plugin_name());
    parts.push(Part::Plugin(plugin));
    parts.extend(wanted.last.iter().map(Part::Rendered));
    parts.push(Part::Router);
    (parts, before)
}

/// The rendered filters in their order, each once and as rendered. Istio's own may stand behind the
/// first of these and before the lock.
fn http_filters(
    filters: &[&Value],
    port: u64,
    wanted: &Wanted,
    istio: &Istio,
    say: &mut impl FnMut(String),
) {
    let (parts, before) = parts(port, wanted);
    let mut rest = parts.as_slice();
    for filter in filters {
        let found = name(filter);
        let here = rest.iter().position(|part| part.is(found, istio));
        if let Some((missing, [part, behind @ ..])) = here.and_then(|at| rest.split_at_checked(at))
        {
            for part in missing {
                say(part.missing());
            }
            rest = behind;
            let differences = part.differences(filter, istio);
            let what = format!("filter {found} is not as rendered");
            report(&what, &differences, say);
            continue;
        }
        let known = istio.list("filters").iter();
        let is_istios = known
            .map(|known| with_known(filter, known))
            .any(|differences| differences.is_empty());
        // The lock comes right behind the policy.
        let next = parts.len() - rest.len();
        if !is_istios {
            let filter = brief(filter);
            say(format!(
                "filter {found} is neither rendered nor Istio's, or not in its place: {filter}"
            ));
        } else if next < before || next > before + 1 {
            say(format!(
                "filter {found} of Istio's stands before the rendered ones or behind the lock"
            ));
        }
    }
    for part in rest {
        say(part.missing());
    }
}

/// Istio names a filter `KIND/NAMESPACE.NAME`, and says behind `~` what it was translated from.
pub(super) fn is_plugin(found: &str, plugin: &str) -> bool {
    let found = found.rsplit('/').next().unwrap_or_default();
    found.split('~').next() == Some(plugin)
}
