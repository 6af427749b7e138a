//! Whether a gateway's live configuration is what was rendered: every listener, chain, route,
//! cluster and place of the module in a configuration dump, Envoy's or istiod's.
//!
//! What was rendered has to be there by value (`wanted`), and around it only what Istio itself puts
//! at a gateway (`istio`). Everything else, and whatever cannot be read, is a finding.

pub(crate) mod addresses;
mod clusters;
mod compare;
mod dump;
mod extensions;
mod istio;
mod listeners;
mod policies;
mod routes;
mod wanted;

use std::collections::BTreeMap;

use serde_json::Value;

use crate::earlier::Earlier;
use crate::error::RenderError;
use crate::install::Install;
use crate::prepared::Enforced;

use dump::Dump;
use istio::Istio;
use wanted::Wanted;

/// What a running gateway says of itself.
#[derive(Clone, Copy, Debug)]
pub struct Live<'l> {
    /// Its configuration dump, or istiod's of it. Of the module's configurations it has those that
    /// arrived last, also where the module refused them.
    pub dump: &'l Value,
    /// Its statistics as text, in which the module says what is in force, and Envoy what it has not
    /// taken.
    pub stats: Option<&'l str>,
    /// Its answer to `/server_info`, which says its version. A dump of Envoy's says it too, one of
    /// istiod's does not.
    pub server_info: Option<&'l Value>,
    /// The render before, whose address classes may still be there.
    pub earlier: Option<&'l Earlier>,
}

impl<'l> From<&'l Value> for Live<'l> {
    fn from(dump: &'l Value) -> Self {
        Self {
            dump,
            stats: None,
            server_info: None,
            earlier: None,
        }
    }
}

/// Everything that was not rendered, that is not where it has to be, or that judges by
/// other policies. Nothing means that no way leads out past these policies.
///
/// # Errors
/// Everything that keeps the policies from being enforced as they are written.
pub fn gateway(
    live: Live<'_>,
    install: &Install,
    documents: &[Value],
) -> Result<Vec<RenderError>, Vec<RenderError>> {
    let enforced = Enforced::of(install, documents)?;
    let one = |problem| vec![problem];
    let wanted = Wanted::of(install, &enforced, live.earlier).map_err(one)?;
    let istio = Istio::read().map_err(one)?;
    let all = dump::snake_case(live.dump);
    let mut problems = Vec::new();
    let dump = Dump::read(&all, &mut problems);
    listeners::check(&dump, &wanted, &istio, &mut problems);
    routes::check(&dump, &wanted, &istio, &mut problems);
    clusters::check(&dump, &wanted, &istio, &mut problems);
    addresses::check(&dump, live, &mut problems);
    extensions::check(&dump, &wanted, &istio, &mut problems);
    policies::check(&dump, live.stats, &enforced.module, &mut problems)?;
    Ok(problems)
}

/// Notes every rendered resource that the dump does not have.
fn missing(
    what: &str,
    rendered: &BTreeMap<String, Value>,
    found: &[(String, &Value)],
    problems: &mut Vec<RenderError>,
) {
    for wanted in rendered.keys() {
        if !found.iter().any(|(_, found)| name(found) == wanted) {
            problems.push(RenderError::new(
                format!("{what} {wanted}"),
                "it is not there",
            ));
        }
    }
}

fn name(value: &Value) -> &str {
    value
        .get("name")
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn items<'v>(value: &'v Value, field: &str) -> impl Iterator<Item = &'v Value> {
    value
        .get(field)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

#[cfg(test)]
mod tests;
