//! The same exceptions for the node guard, which reads no policy. Its configuration knows pods by
//! equal labels only, and networks without exceptions of their own.

use egress_policy::model::{LabelExpression, LabelOperator, Networks, Policy};
use egress_policy::port::PortSet;
use ipnet::IpNet;
use serde_json::{Map, Value, json};

use super::cluster::subtract;
use super::udp::{Exception, exceptions};
use crate::error::RenderError;
use crate::install::Install;

/// The elements of `udpExceptions`.
pub(crate) fn udp_exceptions(
    install: &Install,
    policies: &[Policy],
) -> Result<Vec<Value>, Vec<RenderError>> {
    let mut problems = Vec::new();
    let mut entries = Vec::new();
    for exception in exceptions(install, policies, &mut problems) {
        match labels(&exception.pods) {
            Ok(sets) => {
                for labels in sets {
                    let to = exception.to.iter();
                    entries.extend(to.map(|to| entry(&exception, &labels, to, &mut problems)));
                }
            }
            Err(expression) => {
                let message = format!(
                    "the node guard selects pods by equal labels: it cannot say what is left to \
                     those by `{}` (have rules name pods by `matchLabels` or `In`)",
                    expression.key
                );
                problems.push(RenderError::new(exception.rule.to_string(), message));
            }
        }
    }
    if problems.is_empty() {
        Ok(entries)
    } else {
        Err(problems)
    }
}

fn entry(
    exception: &Exception<'_>,
    labels: &Map<String, Value>,
    (place, ports): &(Networks, PortSet),
    problems: &mut Vec<RenderError>,
) -> Value {
    let mut networks = Vec::new();
    for network in &place.networks {
        subtract(*network, &place.except, &mut networks);
    }
    // What is taken out of it makes pieces of it that are almost everything.
    if place
        .networks
        .iter()
        .any(|network| network.prefix_len() == 0)
    {
        let message = "the node guard lets nothing out to every address: name networks";
        problems.push(RenderError::new(exception.rule.to_string(), message));
    }
    let ports: Vec<_> = ports
        .ranges()
        .map(|range| {
            let (first, last) = range.into_inner();
            if first == last {
                json!(first)
            } else {
                json!(format!("{first}-{last}"))
            }
        })
        .collect();
    json!({
        "name": exception.rule.to_string(),
        "namespaces": [exception.namespace],
        "matchLabels": labels,
        "networks": networks.iter().map(IpNet::to_string).collect::<Vec<_>>(),
        "ports": ports,
    })
}

/// Every set of equal labels that the conditions come to, or the condition that comes to none.
fn labels(pods: &[LabelExpression]) -> Result<Vec<Map<String, Value>>, &LabelExpression> {
    let mut sets = vec![Map::new()];
    for expression in pods {
        let LabelOperator::In(values) = &expression.operator else {
            return Err(expression);
        };
        let with = |set: &Map<String, Value>, value: &String| {
            let mut set = set.clone();
            let before = set.insert(expression.key.clone(), json!(value));
            // Two values of one label: no pod.
            before
                .is_none_or(|before| before == json!(value))
                .then_some(set)
        };
        sets = sets
            .iter()
            .flat_map(|set| values.iter().filter_map(move |value| with(set, value)))
            .collect();
    }
    Ok(sets)
}

#[cfg(test)]
mod tests;
