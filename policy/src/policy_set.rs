//! Compiled policies, and the one function that decides.

use std::collections::BTreeSet;

use crate::decode::suggestion;
use crate::defect::{At, Defect, DefectKind, Defects};
use crate::facts::Facts;
use crate::model::{From, Policy, Rule, RuleAction};
use crate::read::read_policy;
use crate::reference;
use crate::settings::Settings;
use crate::tree::Node;
use crate::verdict::Evaluation;

/// The policies of one gateway, in order, compiled. Immutable.
#[derive(Debug)]
pub struct PolicySet {
    policies: Vec<Policy>,
    settings: Settings,
    label_keys: Vec<String>,
}

impl PolicySet {
    /// Compiles policies that were read before.
    ///
    /// # Errors
    /// What is wrong between them, such as a second policy without `appliesTo`.
    pub fn compile(
        policies: &[Policy],
        settings: Settings,
        inspection: impl IntoIterator<Item = String>,
    ) -> Result<Self, Vec<Defect>> {
        let mut builder = PolicySetBuilder::new(settings, inspection);
        let mut defects = Defects::default();
        for (i, policy) in policies.iter().enumerate() {
            builder.add(policy, &At::root().index(i), &mut defects);
        }
        if defects.is_empty() {
            Ok(builder.finish())
        } else {
            Err(defects.into_vec())
        }
    }

    /// Judges what is known.
    #[must_use]
    pub fn evaluate(&self, facts: &Facts<'_>) -> Evaluation<'_> {
        reference::evaluate(&self.policies, self.settings, facts)
    }

    /// The labels that some rule selects by, sorted: what an adapter has to read.
    #[must_use]
    pub fn label_keys(&self) -> &[String] {
        &self.label_keys
    }
}

/// Reads and compiles policies one by one.
#[derive(Debug)]
pub struct PolicySetBuilder {
    settings: Settings,
    inspection: Vec<String>,
    policies: Vec<Policy>,
    label_keys: BTreeSet<String>,
}

impl PolicySetBuilder {
    /// A builder that knows the declared inspection clusters.
    pub fn new(settings: Settings, inspection: impl IntoIterator<Item = String>) -> Self {
        let inspection = inspection.into_iter().collect();
        Self {
            settings,
            inspection,
            policies: Vec::new(),
            label_keys: BTreeSet::new(),
        }
    }

    /// Reads the next policy from a document.
    pub fn read(&mut self, document: &impl Node, at: &At<'_>, defects: &mut Defects) {
        let mut tiers = Vec::new();
        if let Some(head) = read_policy(document, at, defects, &mut tiers) {
            self.add(&Policy { head, tiers }, at, defects);
        }
    }

    /// Adds the next policy.
    pub fn add(&mut self, policy: &Policy, at: &At<'_>, defects: &mut Defects) {
        let spec = at.field("spec");
        let applies_to = spec.field("appliesTo");
        match (self.policies.is_empty(), &policy.head.applies_to) {
            (true, Some(_)) => {
                let hint = "everything else would have no policy at all".to_owned();
                defects.add(
                    DefectKind::Conflict,
                    &applies_to,
                    "the first policy is for every workload",
                    hint,
                );
            }
            (false, None) => {
                let hint = "only the first policy is for every workload".to_owned();
                defects.add(
                    DefectKind::MissingField,
                    &spec,
                    "`appliesTo` is missing",
                    hint,
                );
            }
            (true, None) | (false, Some(_)) => {}
        }
        if self
            .policies
            .iter()
            .any(|other| other.head.name == policy.head.name)
        {
            let message = format!("another policy is named `{}`", policy.head.name);
            defects.add(
                DefectKind::DuplicateName,
                &at.field("metadata").field("name"),
                message,
                None,
            );
        }
        let tiers = spec.field("tiers");
        for (t, tier) in policy.tiers.iter().enumerate() {
            let tier_at = tiers.index(t);
            let rules_at = tier_at.field("rules");
            for (r, rule) in tier.rules.iter().enumerate() {
                self.note(rule, &rules_at.index(r), defects);
            }
        }
        self.policies.push(policy.clone());
    }

    fn note(&mut self, rule: &Rule, at: &At<'_>, defects: &mut Defects) {
        if let RuleAction::Inspect(device) = &rule.action
            && !self.inspection.iter().any(|known| **known == **device)
        {
            let hint = suggestion(device, self.inspection.iter().map(String::as_str));
            let message = format!("no inspection cluster is named `{device}`");
            defects.add(
                DefectKind::UnknownReference,
                &at.field("inspection"),
                message,
                hint,
            );
        }
        if let From::Sources(sources) = &rule.from {
            for source in &**sources {
                let labels = source.match_labels.iter().map(|(key, _)| key);
                let expressions = source
                    .match_expressions
                    .iter()
                    .map(|expression| &expression.key);
                self.label_keys.extend(labels.chain(expressions).cloned());
            }
        }
    }

    /// The compiled policies.
    #[must_use]
    pub fn finish(self) -> PolicySet {
        PolicySet {
            policies: self.policies,
            settings: self.settings,
            label_keys: self.label_keys.into_iter().collect(),
        }
    }
}
