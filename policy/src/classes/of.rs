//! Every class that a verdict can have: by now a plain superset, all unions of what single Deny
//! elements refuse.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::{AddressClass, TooManyClasses};
use crate::address::Ranges;
use crate::model::{Mode, Place, Policy, RuleAction};

pub(super) fn classes(
    policies: &[Policy],
    most: usize,
) -> Result<Vec<AddressClass>, TooManyClasses> {
    let mut refused: BTreeMap<Vec<IpNet>, BTreeSet<String>> = BTreeMap::new();
    let mut allowing: BTreeSet<String> = BTreeSet::new();
    for placed in policies.iter().flat_map(Policy::rules) {
        let (tier, rule) = (placed.tier.1, placed.rule.1);
        if tier.mode == Mode::Shadow || rule.mode == Mode::Shadow {
            continue;
        }
        for to in &rule.to {
            match &to.place {
                Place::Networks(networks) if rule.action == RuleAction::Deny => {
                    let rules = refused.entry(networks.spread()).or_default();
                    rules.insert(placed.basis().to_string());
                }
                _ if to.allow_private && rule.action != RuleAction::Deny => {
                    allowing.insert(placed.basis().to_string());
                }
                _ => {}
            }
        }
    }
    let mut found: BTreeSet<AddressClass> = BTreeSet::new();
    let choices: &[bool] = if allowing.is_empty() {
        &[false]
    } else {
        &[false, true]
    };
    let mut unions: BTreeSet<Vec<IpNet>> = BTreeSet::from([Vec::new()]);
    for networks in refused.keys() {
        let with: Vec<Vec<IpNet>> = unions
            .iter()
            .map(|union| union.iter().chain(networks).collect::<Ranges>().networks())
            .collect();
        unions.extend(with);
        if unions.len() > most {
            break;
        }
    }
    for union in &unions {
        found.extend(choices.iter().map(|allow| AddressClass::new(*allow, union)));
    }
    if found.len() <= most {
        return Ok(found.into_iter().collect());
    }
    let rules: BTreeSet<String> = refused.into_values().flatten().chain(allowing).collect();
    Err(TooManyClasses {
        rules: rules.into_iter().collect(),
    })
}
