//! Configurations that filters discover by name: the rendered ones as rendered, and the module's own
//! code in each. What the module is told is compared by itself (`policies`).

use serde_json::{Value, json};

use super::compare::{brief, sentence, with_known, with_rendered};
use super::dump::Dump;
use super::istio::Istio;
use super::listeners::is_plugin;
use super::name;
use super::wanted::Wanted;
use crate::error::RenderError;
use crate::module::PluginSite;

const CODE: &str = "/typed_config/config/vm_config/code";
const TOLD: &str = "/typed_config/config/configuration/value";

pub(super) fn check(
    dump: &Dump<'_>,
    wanted: &Wanted,
    istio: &Istio,
    problems: &mut Vec<RenderError>,
) {
    // What is missing `policies` says.
    for (_, found) in &dump.extensions {
        let found = with_its_name(found);
        let place = format!("extension {}", name(&found));
        problems
            .extend(wrong(&found, wanted, istio).map(|message| RenderError::new(place, message)));
    }
}

/// istiod leaves out what stands around a WasmPlugin's configuration, and the filter's name with it.
fn with_its_name(found: &Value) -> Value {
    if found.get("typed_config").is_some() {
        return found.clone();
    }
    let name = found.pointer("/config/name").unwrap_or(&Value::Null);
    json!({"name": name, "typed_config": found})
}

fn wrong(found: &Value, wanted: &Wanted, istio: &Istio) -> Option<String> {
    let plugins = [PluginSite::Http, PluginSite::Tunnel].map(PluginSite::plugin_name);
    let plugin = plugins
        .iter()
        .find(|plugin| is_plugin(name(found), &format!("{}.{plugin}", wanted.namespace)));
    let differences = if let Some(rendered) = wanted.extensions.get(name(found)) {
        let mut rendered = rendered.clone();
        // These are looked at by themselves.
        for pointer in [CODE, TOLD] {
            if let (Some(there), Some(place)) =
                (found.pointer(pointer), rendered.pointer_mut(pointer))
            {
                place.clone_from(there);
            }
        }
        with_rendered(found, &rendered)
    } else if let Some(plugin) = plugin {
        let root = found.pointer("/typed_config/config/root_id");
        if root.is_none_or(|root| root != plugin) {
            return Some(format!(
                "its root_id is {}, not {plugin}",
                brief(root.unwrap_or(&Value::Null))
            ));
        }
        with_known(found, istio.get("plugin_config"))
    } else {
        return Some(format!("it was not rendered: {}", brief(found)));
    };
    if !differences.is_empty() {
        return Some(format!("not as rendered: {}", sentence(&differences)));
    }
    let code = found.pointer(CODE).unwrap_or(&Value::Null);
    (!wanted.code.is(code)).then(|| {
        let digest = wanted
            .code
            .digest
            .as_deref()
            .unwrap_or("of no stated digest");
        format!(
            "the module is {}, not {} {digest}",
            brief(code),
            wanted.code.url
        )
    })
}
