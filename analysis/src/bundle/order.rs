//! The order of policies and what is granted to each, as install settings say.

use egress_policy::model::Workloads;

use super::PolicyBundle;
use crate::diagnostic::{Diagnostic, Related};
use crate::document;
use crate::settings::{Grant, InstallSettings, error};

impl PolicyBundle {
    /// Takes what the settings say of all policies.
    pub(super) fn take_settings(&mut self, settings: &InstallSettings) {
        self.inspection = Some(settings.inspection.clone());
        self.protocols.clone_from(&settings.protocols);
        self.cluster.clone_from(&settings.cluster);
        self.enforced.clone_from(&settings.enforced);
    }

    /// Puts the policies in their order and holds them to what is granted.
    pub(super) fn apply(&mut self, settings: &InstallSettings, diagnostics: &mut Vec<Diagnostic>) {
        if settings.policies.is_empty() {
            return;
        }
        let position = |name: &str| {
            settings
                .policies
                .iter()
                .position(|grant| grant.name == name)
        };
        for (policy, unit) in self.policies.iter().zip(&self.sources) {
            if position(&policy.head.name).is_none() {
                let at = unit.root().field("metadata").and_then(|m| m.field("name"));
                let hint = "the order and the grants come from there";
                let message = format!("the install settings do not list `{}`", policy.head.name);
                diagnostics.push(error(at.unwrap_or(unit.root()), message, Some(hint)));
            }
        }
        for grant in &settings.policies {
            if !self
                .policies
                .iter()
                .any(|policy| policy.head.name == grant.name)
            {
                let message = format!("no policy is named `{}`", grant.name);
                diagnostics.push(error(grant.location.clone(), message, None));
            }
        }
        self.sort_by_key(|name| position(name).unwrap_or(usize::MAX));
        for (policy, unit) in self.policies.iter().zip(&self.sources).skip(1) {
            let Some(grant) = position(&policy.head.name).and_then(|i| settings.policies.get(i))
            else {
                continue;
            };
            let applies = unit
                .root()
                .field("spec")
                .and_then(|spec| spec.field("appliesTo"));
            if let (Some(applies), Some(workloads)) = (applies, &policy.head.applies_to) {
                check_grant(grant, workloads, applies, diagnostics);
            }
        }
    }
}

fn check_grant(
    grant: &Grant,
    workloads: &Workloads,
    applies: document::Node<'_>,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let accounts = workloads.service_accounts.iter().map(|sa| &sa.namespace);
    let mut foreign: Vec<&String> = workloads
        .namespaces
        .iter()
        .chain(accounts)
        .filter(|namespace| !grant.namespaces.contains(namespace))
        .collect();
    foreign.dedup();
    for namespace in foreign {
        let mut diagnostic = error(
            applies,
            format!("`{namespace}` is not granted to `{}`", grant.name),
            Some("a policy speaks only for namespaces that the install settings grant to it"),
        );
        diagnostic.related.push(Related {
            location: grant.location.clone(),
            label: "what is granted".to_owned(),
        });
        diagnostics.push(diagnostic);
    }
}
