//! UDP does not go through the gateway: what the policies accept of it are exceptions in the
//! kernel, bound to what the API server says of a pod. The engine says what they are
//! ([`egress_policy::udp`]); here they get their names and their form.

use egress_policy::canonical::digest;
use egress_policy::model::{LabelExpression, LabelOperator, Networks, Policy};
use egress_policy::port::PortSet;
use egress_policy::udp::{Opening, Pods, openings};
use egress_policy::verdict::RuleRef;
use serde_json::{Map, Value, json};

use super::API;
use crate::NAME;
use crate::error::RenderError;
use crate::install::Install;
use crate::object::{Object, Stage, set};

/// Longest name of an object here: that of a label (RFC 1123), as it also goes into other names.
const LONGEST_NAME: usize = 63;
/// Digits of a digest that tell names apart.
const DIGITS: usize = 10;

/// Pods of one namespace that a UDP rule lets straight out.
pub(super) struct Exception<'p> {
    pub(super) rule: RuleRef<'p>,
    pub(super) name: String,
    pub(super) namespace: &'p str,
    pub(super) pods: Vec<LabelExpression>,
    pub(super) to: Vec<(Networks, PortSet)>,
}

/// The exceptions of all policies together.
pub(super) fn exceptions<'p>(
    install: &'p Install,
    policies: &'p [Policy],
    problems: &mut Vec<RenderError>,
) -> Vec<Exception<'p>> {
    let pods = Pods {
        trust_domain: &install.spec.cluster.trust_domain,
        namespaces: &install.spec.workloads.namespaces,
    };
    let (openings, refused) = openings(policies, pods);
    problems.extend(
        refused
            .into_iter()
            .map(|refused| RenderError::new(refused.rule.to_string(), refused.defect.to_string())),
    );
    let mut found: Vec<Exception<'p>> = Vec::new();
    for opening in openings {
        let Opening {
            rule,
            namespace,
            pods,
            networks,
            ports,
        } = opening;
        let of_rule =
            |exception: &Exception<'p>| exception.rule == rule && exception.namespace == namespace;
        let index = found.iter().filter(|exception| of_rule(exception)).count();
        let to = (networks, ports);
        let same = |exception: &&mut Exception<'p>| of_rule(exception) && exception.pods == pods;
        match found.iter_mut().find(same) {
            Some(exception) => exception.to.push(to),
            None => found.push(Exception {
                rule,
                name: name(rule, index),
                namespace,
                pods,
                to: vec![to],
            }),
        }
    }
    found
}

/// Two rules never have one name. Where hyphens would blur policy, tier and rule, and where a name
/// would be too long, a digest tells them apart.
fn name(rule: RuleRef<'_>, index: usize) -> String {
    let id = rule.to_string();
    let plain = format!("{NAME}-udp-{}", id.replace('/', "-"));
    let parts = id.split('/').count();
    let hyphens = id
        .rsplit_once('/')
        .is_some_and(|(policy_and_tier, _)| policy_and_tier.contains('-'));
    let whole = format!("{plain}-{index}");
    if parts == 3 && !hyphens && whole.len() <= LONGEST_NAME {
        return whole;
    }
    let digest: String = digest(id.as_bytes()).chars().take(DIGITS).collect();
    let end = format!("-{digest}-{index}");
    let kept = LONGEST_NAME.saturating_sub(end.len());
    plain.chars().take(kept).collect::<String>() + &end
}

impl Exception<'_> {
    pub(super) fn object(&self) -> Object {
        let egress: Vec<_> = self.to.iter().map(destination).collect();
        Object::new(
            Stage::Workloads,
            "A UDP rule of the policy: straight out, for these pods and these networks only.",
            API,
            json!({"name": self.name, "namespace": self.namespace}),
            json!({"spec": {
                "podSelector": self.selector(),
                "policyTypes": ["Egress"],
                "egress": egress,
            }}),
        )
    }

    /// The pods as a label selector.
    pub(super) fn selector(&self) -> Value {
        let mut labels = Map::new();
        let mut expressions = Vec::new();
        for LabelExpression { key, operator } in &self.pods {
            match operator {
                LabelOperator::In(values) => match values.as_slice() {
                    [value] if !labels.contains_key(key) => {
                        labels.insert(key.clone(), json!(value));
                    }
                    values => {
                        expressions.push(json!({"key": key, "operator": "In", "values": values}));
                    }
                },
                LabelOperator::NotIn(values) => {
                    expressions.push(json!({"key": key, "operator": "NotIn", "values": values}));
                }
                LabelOperator::Exists => {
                    expressions.push(json!({"key": key, "operator": "Exists"}));
                }
                LabelOperator::DoesNotExist => {
                    expressions.push(json!({"key": key, "operator": "DoesNotExist"}));
                }
            }
        }
        let mut selector = json!({"matchLabels": labels});
        if !expressions.is_empty() {
            set(&mut selector, "matchExpressions", json!(expressions));
        }
        selector
    }
}

fn destination((networks, ports): &(Networks, PortSet)) -> Value {
    let blocks = networks.networks.iter().map(|network| {
        let inside = networks.except.iter().filter(|out| network.contains(*out));
        let except: Vec<_> = inside.map(ToString::to_string).collect();
        json!({"ipBlock": {"cidr": network.to_string(), "except": except}})
    });
    let ports = ports
        .ranges()
        .map(|range| json!({"protocol": "UDP", "port": range.start(), "endPort": range.end()}));
    json!({"to": blocks.collect::<Vec<_>>(), "ports": ports.collect::<Vec<_>>()})
}

#[cfg(test)]
mod law;
#[cfg(test)]
pub(super) mod tests;
