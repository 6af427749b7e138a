//! Lints about whom a policy is for, and what its tiers leave to its default.

use std::collections::BTreeSet;

use egress_policy::defect::At;
use egress_policy::model::{
    DefaultAction, From, Mode, Policy, Rule, RuleAction, ServiceAccount, Source, Workloads,
};
use egress_policy::relation::rules_meet;

use super::rules::SOON;
use super::{Findings, Lint, rule_path};
use crate::owned_facts::time_text;
use crate::settings::EnforcedNamespaces;

/// Namespaces that Kubernetes itself makes for what it runs.
const KUBERNETES: [&str; 3] = ["kube-system", "kube-public", "kube-node-lease"];
/// Most Pass rules of a policy that are compared with what follows.
const MAX_PASSES: usize = 256;

pub(super) fn lint(policy: &Policy, now: Option<i64>, found: &mut Findings) {
    shadow_workloads(policy, now, found);
    passes(policy, found);
    if let Some(applies) = &policy.head.applies_to {
        outside(policy, applies, found);
    }
}

/// Workloads whose denials are reported instead of enforced, and until when.
fn shadow_workloads(policy: &Policy, now: Option<i64>, found: &mut Findings) {
    for (i, entry) in policy.head.shadow_workloads.iter().enumerate() {
        let root = At::root();
        let spec = root.field("spec");
        let list = spec.field("shadowWorkloads");
        let at = list.index(i);
        let (who, when) = (in_words(&entry.workloads), time_text(entry.expires));
        if now.is_some_and(|now| entry.expires <= now) {
            let message = format!("{who}: the entry expired at {when}, and denials are enforced");
            found.add(Lint::Expired, &at.field("expires").path(), message);
            continue;
        }
        let message = format!("nothing is denied to {who} until {when}");
        found.add(Lint::ShadowWorkloads, &at.path(), message);
        if now.is_some_and(|now| entry.expires - now < SOON) {
            let message = format!("denials of {who} are enforced from {when} on");
            found.add(Lint::ExpiresSoon, &at.field("expires").path(), message);
        }
    }
}

fn in_words(workloads: &Workloads) -> String {
    let accounts = workloads.service_accounts.iter();
    let accounts = accounts.map(|one| format!("{}/{}", one.namespace, one.name));
    let all = workloads.namespaces.iter().cloned().chain(accounts);
    let all: Vec<_> = all.map(|one| format!("`{one}`")).collect();
    all.join(", ")
}

/// Pass rules after which nothing accepts any of what they pass on.
fn passes(policy: &Policy, found: &mut Findings) {
    if policy.head.default == DefaultAction::Accept {
        return;
    }
    let is_pass = |rule: &Rule| rule.action == RuleAction::Pass;
    let all = policy.rules().filter(|placed| is_pass(placed.rule));
    for placed in all.take(MAX_PASSES) {
        let (t, tier) = (placed.tier_index, placed.tier);
        let (r, rule) = (placed.rule_index, placed.rule);
        if tier.mode == Mode::Shadow || rule.mode == Mode::Shadow {
            continue;
        }
        let later = policy.tiers.iter().skip(t + 1).flat_map(|tier| &tier.rules);
        let mut opening =
            later.filter(|rule| matches!(rule.action, RuleAction::Accept | RuleAction::Inspect(_)));
        if !opening.any(|later| rules_meet(rule, later)) {
            let message = format!(
                "no later tier accepts what `{}` passes on: the policy's default denies it",
                rule.name
            );
            found.add(Lint::PassToDefault, &rule_path(t, r, "action"), message);
        }
    }
}

/// Callers of rules that the policy is not asked about.
fn outside(policy: &Policy, applies: &Workloads, found: &mut Findings) {
    for placed in policy.rules() {
        let (t, r, rule) = (placed.tier_index, placed.rule_index, placed.rule);
        let From::Sources(sources) = &rule.from else {
            continue;
        };
        let strangers: BTreeSet<String> = sources
            .iter()
            .flat_map(|source| strangers(source, applies))
            .collect();
        for stranger in strangers {
            let message = format!(
                "`{}` is about `{stranger}`, which is outside `appliesTo`",
                rule.name
            );
            found.add(Lint::OutsideAppliesTo, &rule_path(t, r, "from"), message);
        }
    }
}

/// The namespaces and service accounts of a source that are not among the workloads. Of a source
/// that has both, the service accounts say who it is.
fn strangers(source: &Source, applies: &Workloads) -> Vec<String> {
    let whole = |namespace: &String| applies.namespaces.contains(namespace);
    let known = |account: &&ServiceAccount| {
        whole(&account.namespace) || applies.service_accounts.contains(account)
    };
    if !source.service_accounts.is_empty() {
        let accounts = source.service_accounts.iter();
        let strange = accounts.filter(|account| !known(account));
        return strange
            .map(|account| format!("{}/{}", account.namespace, account.name))
            .collect();
    }
    let some = |namespace: &String| {
        let mut accounts = applies.service_accounts.iter();
        accounts.any(|account| account.namespace == *namespace)
    };
    let namespaces = source.namespaces.iter();
    let strange = namespaces.filter(|namespace| !whole(namespace) && !some(namespace));
    strange.cloned().collect()
}

/// The cluster's own namespaces among those whose traffic is enforced.
pub(super) fn system_namespaces(enforced: &EnforcedNamespaces, found: &mut Findings) {
    for (i, (name, location)) in enforced.names.iter().enumerate() {
        let what = if KUBERNETES.contains(&name.as_str()) {
            "Kubernetes' own"
        } else if enforced.of_mesh.contains(name) {
            "the mesh's own"
        } else {
            continue;
        };
        let message = format!("`{name}` is {what} namespace");
        let path = format!("spec.workloads.namespaces[{i}]");
        let location = location.clone();
        found.place(Lint::SystemNamespace, location, path, message, Vec::new());
    }
}
