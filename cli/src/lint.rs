//! What is allowed but probably not meant, or not safe to rest on.

mod codes;
mod reach;
mod rules;

use egress_policy::defect::{At, FieldPath};

use crate::diagnostic::{Diagnostic, Place, Severity};
use crate::document::Target;
use crate::load::{Layers, Unit};

pub(crate) use codes::Lint;

/// What a lint needs to know beside the policies.
#[derive(Clone, Debug, Default)]
pub(crate) struct Surroundings {
    /// The time, for expiry.
    pub(crate) now: Option<i64>,
    /// Networks inside the cluster, beyond the private ranges.
    pub(crate) cluster_networks: Vec<ipnet::IpNet>,
}

/// Everything doubtful about these policies.
pub(crate) fn lint(layers: &Layers, surroundings: &Surroundings) -> Vec<Diagnostic> {
    let mut found = Findings::default();
    for (policy, unit) in layers.policies.iter().zip(&layers.units) {
        found.unit = Some(unit.clone());
        rules::lint(policy, surroundings, &mut found);
        reach::lint(policy, &mut found);
        duplicate_destinations(unit, &mut found);
    }
    found.diagnostics
}

/// Collects findings about one policy after the other.
#[derive(Default)]
pub(crate) struct Findings {
    unit: Option<Unit>,
    diagnostics: Vec<Diagnostic>,
}

impl Findings {
    /// Notes a finding at a path of the policy.
    fn add(&mut self, lint: Lint, path: &FieldPath, message: String) {
        self.add_related(lint, path, message, None);
    }

    /// The same, with another place in the same policy.
    fn add_related(
        &mut self,
        lint: Lint,
        path: &FieldPath,
        message: String,
        related: Option<(&FieldPath, &str)>,
    ) {
        let Some(unit) = &self.unit else { return };
        let place = |path: &FieldPath| {
            let root = unit.root();
            Place {
                source: std::sync::Arc::clone(root.source()),
                span: root.resolve(path, Target::Value),
            }
        };
        self.diagnostics.push(Diagnostic {
            severity: lint.severity(),
            code: lint.code(),
            message,
            hint: Some(lint.hint().to_owned()),
            place: Some(place(path)),
            path: path.to_string(),
            related: related
                .map(|(path, label)| (place(path), label.to_owned()))
                .into_iter()
                .collect(),
        });
    }
}

/// The path of a rule, and of one field in it where `field` is not empty.
fn rule_path(tier: usize, rule: usize, field: &str) -> FieldPath {
    let root = At::root();
    let spec = root.field("spec");
    let tiers = spec.field("tiers");
    let tier = tiers.index(tier);
    let rules = tier.field("rules");
    let rule = rules.index(rule);
    if field.is_empty() {
        rule.path()
    } else {
        rule.field(field).path()
    }
}

/// Two names for one destination are two places to change.
fn duplicate_destinations(unit: &Unit, found: &mut Findings) {
    let spec = unit.root().field("spec");
    let Some(destinations) = spec.and_then(|spec| spec.field("destinations")) else {
        return;
    };
    let mut seen: std::collections::HashMap<String, &str> = std::collections::HashMap::new();
    for (key, value) in destinations.fields() {
        let (Some(name), Ok(meaning)) = (key.text(), crate::document::to_json(&value)) else {
            continue;
        };
        if let Some(first) = seen.get(&meaning) {
            let root = At::root();
            let (spec, first) = (root.field("spec"), (*first).to_owned());
            let destinations = spec.field("destinations");
            let message = format!("`{name}` is the same destination as `{first}`");
            let other = destinations.field(&first).path();
            found.add_related(
                Lint::DuplicateDestination,
                &destinations.field(name).path(),
                message,
                Some((&other, "the first")),
            );
        } else {
            seen.insert(meaning, name);
        }
    }
}

impl Lint {
    /// How serious it is.
    pub(crate) const fn severity(self) -> Severity {
        match self {
            Self::ExpiresSoon
            | Self::NoOwner
            | Self::DenyByName
            | Self::DuplicateDestination
            | Self::ClusterIsAClaim => Severity::Note,
            Self::UnreachableRule
            | Self::LabelsAlone
            | Self::WideName
            | Self::WideNetwork
            | Self::Expired
            | Self::LabelsOnServerFirst
            | Self::NeverResolves
            | Self::InsideNetwork
            | Self::DenyByLabels
            | Self::UdpLabels
            | Self::PrivateAllowed
            | Self::DefaultAccept => Severity::Warning,
        }
    }
}
