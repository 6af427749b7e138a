//! What is sound of a policy with defects, so that an error does not hide what is doubtful elsewhere.

use std::collections::HashSet;

use egress_policy::defect::{At, Defect, Defects, Segment};
use egress_policy::model::{DefaultAction, Head, Mode, Policy, Rule, Tier, TierDefault, Workloads};
use egress_policy::read::{RuleSink, read_policy};

use super::PolicySource;
use crate::document::Node;

/// Where the rules of each tier stand in the document: the tier's number and the rule's.
pub(super) type Kept = Vec<Vec<(usize, usize)>>;

/// The rules that nothing is wrong with, and where they stand.
#[derive(Default)]
struct SoundRules {
    tiers: Vec<Tier>,
    kept: Kept,
}

impl RuleSink for SoundRules {
    fn tier(&mut self, name: &str, mode: Mode, default: TierDefault) {
        self.tiers.tier(name, mode, default);
        self.kept.push(Vec::new());
    }

    fn rule(&mut self, rule: Rule, at: &At<'_>, defects: &mut Defects) {
        let place = place_of(at.path().segments());
        if let (Some(place), Some(kept)) = (place, self.kept.last_mut()) {
            kept.push(place);
            self.tiers.rule(rule, at, defects);
        }
    }
}

/// The tier and the rule in which a path lies.
fn place_of(segments: &[Segment]) -> Option<(usize, usize)> {
    match segments {
        [_, _, Segment::Index(tier), _, Segment::Index(rule), ..] => Some((*tier, *rule)),
        _ => None,
    }
}

/// The policy without its rules that have a defect, or a destination that has one.
pub(super) fn sound(mut unit: PolicySource, known: &[Defect]) -> (Policy, PolicySource) {
    let root = unit.root();
    let (mut rules, mut defects) = (SoundRules::default(), Defects::default());
    let head = read_policy(&root, &At::root(), &mut defects, &mut rules);
    let head = head.unwrap_or_else(|| stand_in(root));
    let faulty: HashSet<_> = known
        .iter()
        .filter_map(|defect| place_of(defect.path.segments()))
        .collect();
    let tiers = rules.tiers.into_iter().zip(rules.kept);
    let (tiers, kept) = tiers
        .map(|(mut tier, places)| {
            let sound = std::mem::take(&mut tier.rules).into_iter().zip(places);
            let sound = sound.filter(|(rule, place)| {
                !faulty.contains(place) && is_whole(rule, written(root, *place))
            });
            let (rules, places): (_, Vec<_>) = sound.unzip();
            tier.rules = rules;
            (tier, places)
        })
        .unzip();
    unit.kept = Some(std::sync::Arc::new(kept));
    (Policy { head, tiers }, unit)
}

/// False where a destination with a defect left nothing: the rule would look as if it named none.
fn is_whole(rule: &Rule, written: Option<Node<'_>>) -> bool {
    !rule.to.is_empty() || written.is_none_or(|rule| rule.field("to").is_none())
}

fn written(root: Node<'_>, (tier, rule): (usize, usize)) -> Option<Node<'_>> {
    let tiers = root.field("spec")?.field("tiers")?;
    tiers.items().nth(tier)?.field("rules")?.items().nth(rule)
}

/// Stands for a head that cannot be read.
fn stand_in(root: Node<'_>) -> Head {
    let spec = root.field("spec");
    let applies = spec.and_then(|spec| spec.field("appliesTo"));
    Head {
        name: String::new(),
        trust_domains: Vec::new(),
        allow_plaintext: false,
        applies_to: applies.map(|_| Workloads::default()),
        shadow_workloads: Vec::new(),
        default: DefaultAction::Deny,
    }
}
