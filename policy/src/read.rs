//! Reading a policy file: from a document tree to the checked model.
//!
//! Rules go to a [`RuleSink`] one by one, so that a reader that only compiles them never holds
//! them all.

mod rule;
mod words;

use crate::decode::{Fields, boolean, each, items, list, texts, unique, word};
use crate::defect::{At, Defect, DefectKind, Defects};
use crate::model::{
    DefaultAction, Head, Mode, Policy, Rule, ShadowWorkloads, Tier, TierDefault, Workloads,
};
use crate::tree::Node;

use rule::RuleReader;
use words::UniqueNames;
pub(crate) use words::{object_name, timestamp};

pub use crate::contract::API_VERSION;

/// The `kind` of the platform's policies, which apply to everybody where they do not say otherwise.
pub const KIND: &str = "ClusterEgressPolicy";
/// The `kind` of a team's policies, which say whom they apply to.
pub const TEAM_KIND: &str = "EgressPolicy";
/// Every `kind` of policy files.
pub const KINDS: [&str; 2] = [KIND, TEAM_KIND];

/// Takes a policy's tiers and rules in order.
pub trait RuleSink {
    /// At most so many rules follow in the tier that began last.
    fn expect(&mut self, rules: usize) {
        let _ = rules;
    }
    /// A tier begins. Its rules follow.
    fn tier(&mut self, name: &str, mode: Mode, default: TierDefault);
    /// The next rule of the tier that began last.
    fn rule(&mut self, rule: Rule, at: &At<'_>, defects: &mut Defects);
}

impl RuleSink for Vec<Tier> {
    fn tier(&mut self, name: &str, mode: Mode, default: TierDefault) {
        self.push(Tier {
            name: name.to_owned(),
            mode,
            default,
            rules: Vec::new(),
        });
    }

    fn rule(&mut self, rule: Rule, _: &At<'_>, _: &mut Defects) {
        if let Some(tier) = self.last_mut() {
            tier.rules.push(rule);
        }
    }
}

impl Policy {
    /// Reads one policy file.
    ///
    /// # Errors
    /// Everything that is wrong with it, in the order of the document.
    pub fn read(document: &impl Node) -> Result<Self, Vec<Defect>> {
        let mut defects = Defects::default();
        let mut tiers: Vec<Tier> = Vec::new();
        let head = read_policy(document, &At::root(), &mut defects, &mut tiers);
        match head {
            Some(head) if defects.is_empty() => Ok(Self { head, tiers }),
            _ => Err(defects.into_vec()),
        }
    }
}

/// Reads one policy document, giving its rules to `sink`. `None` only where the head itself could
/// not be read, with defects to say why.
pub fn read_policy(
    document: &impl Node,
    at: &At<'_>,
    defects: &mut Defects,
    sink: &mut impl RuleSink,
) -> Option<Head> {
    let mut fields = Fields::of(document, at, defects)?;
    if let Some(node) = fields.require("apiVersion", at, defects) {
        word(
            &node,
            &at.field("apiVersion"),
            defects,
            &[(API_VERSION, ())],
        );
    }
    let kind = fields.require("kind", at, defects).and_then(|node| {
        let kinds = [(KIND, false), (TEAM_KIND, true)];
        word(&node, &at.field("kind"), defects, &kinds)
    });
    let name = fields.require("metadata", at, defects).and_then(|node| {
        let at = at.field("metadata");
        let mut fields = Fields::of(&node, &at, defects)?;
        let name = fields.require("name", &at, defects);
        let name = name.and_then(|node| object_name(&node, &at.field("name"), defects));
        fields.finish(&at, defects);
        name
    });
    let spec = fields.require("spec", at, defects);
    fields.finish(at, defects);
    let spec = spec?;
    let in_spec = Fields::of(&spec, &at.field("spec"), defects)?;
    if kind == Some(true) && !in_spec.has("appliesTo") {
        defects.add(
            DefectKind::MissingField,
            &at.field("kind"),
            "an `EgressPolicy` is a team's: `spec.appliesTo` says whom it applies to",
            Some("add `appliesTo`, or write `kind: ClusterEgressPolicy`".to_owned()),
        );
    }
    read_spec(in_spec, &at.field("spec"), defects, sink, name)
}

fn read_spec<N: Node>(
    mut fields: Fields<'_, N>,
    at: &At<'_>,
    defects: &mut Defects,
    sink: &mut impl RuleSink,
    name: Option<String>,
) -> Option<Head> {
    let identity = fields.require("identity", at, defects);
    let (trust_domains, allow_plaintext) = identity
        .and_then(|node| read_identity(&node, &at.field("identity"), defects))
        .unzip();
    let applies_to = fields
        .take("appliesTo")
        .map(|node| read_workloads(&node, &at.field("appliesTo"), defects));
    let mut rules = RuleReader::default();
    if let Some(node) = fields.take("destinations") {
        rules.read_destinations(&node, &at.field("destinations"), defects);
    }
    let shadow_workloads = fields.take("shadowWorkloads").map(|node| {
        list(
            &node,
            &at.field("shadowWorkloads"),
            defects,
            read_shadow_workloads,
        )
    });
    let default = fields.take("default").and_then(|node| {
        let words = [
            ("Deny", DefaultAction::Deny),
            ("Accept", DefaultAction::Accept),
        ];
        word(&node, &at.field("default"), defects, &words)
    });
    if let Some(node) = fields.require("tiers", at, defects) {
        read_tiers(&node, &at.field("tiers"), defects, &rules, sink);
    }
    fields.finish(at, defects);
    Some(Head {
        name: name?,
        trust_domains: trust_domains?,
        allow_plaintext: allow_plaintext?,
        applies_to,
        shadow_workloads: shadow_workloads.unwrap_or_default(),
        default: default.unwrap_or(DefaultAction::Deny),
    })
}

fn read_identity<N: Node>(
    node: &N,
    at: &At<'_>,
    defects: &mut Defects,
) -> Option<(Vec<String>, bool)> {
    let mut fields = Fields::of(node, at, defects)?;
    let trust_domains = fields.require("trustDomains", at, defects).map(|node| {
        let at = at.field("trustDomains");
        let found = texts(&node, &at, defects, words::check_spiffe_segment);
        unique(&found, &at, defects);
        found
    });
    let allow_plaintext = fields
        .take("allowPlaintext")
        .and_then(|node| boolean(&node, &at.field("allowPlaintext"), defects));
    fields.finish(at, defects);
    Some((trust_domains?, allow_plaintext.unwrap_or(false)))
}

fn read_workloads<N: Node>(node: &N, at: &At<'_>, defects: &mut Defects) -> Workloads {
    let Some(mut fields) = Fields::of(node, at, defects) else {
        return Workloads::default();
    };
    let workloads = take_workloads(&mut fields, at, defects);
    fields.finish(at, defects);
    workloads
}

fn take_workloads<N: Node>(
    fields: &mut Fields<'_, N>,
    at: &At<'_>,
    defects: &mut Defects,
) -> Workloads {
    Workloads {
        namespaces: words::take_texts(fields, "namespaces", at, defects, words::check_namespace),
        service_accounts: words::take_service_accounts(fields, at, defects),
    }
}

fn read_shadow_workloads<N: Node>(
    node: &N,
    at: &At<'_>,
    defects: &mut Defects,
) -> Option<ShadowWorkloads> {
    let mut fields = Fields::of(node, at, defects)?;
    let workloads = take_workloads(&mut fields, at, defects);
    let expires = fields.require("expires", at, defects);
    let expires = expires.and_then(|node| timestamp(&node, &at.field("expires"), defects));
    fields.finish(at, defects);
    if workloads == Workloads::default() {
        defects.add(
            DefectKind::Empty,
            at,
            "no workload is named",
            "name `namespaces` or `serviceAccounts`".to_owned(),
        );
    }
    Some(ShadowWorkloads {
        workloads,
        expires: expires?,
    })
}

fn read_tiers<N: Node>(
    node: &N,
    at: &At<'_>,
    defects: &mut Defects,
    rules: &RuleReader,
    sink: &mut impl RuleSink,
) {
    let mut names = UniqueNames::default();
    each(node, at, defects, |node, at, defects| {
        let Some(mut fields) = Fields::of(node, at, defects) else {
            return;
        };
        let name = words::take_unique_name(&mut fields, at, defects, &mut names, "tier");
        let mode = words::take_mode(&mut fields, at, defects);
        let default = fields.take("default").and_then(|node| {
            let words = [("Pass", TierDefault::Pass), ("Deny", TierDefault::Deny)];
            word(&node, &at.field("default"), defects, &words)
        });
        sink.tier(
            &name.unwrap_or_default(),
            mode,
            default.unwrap_or(TierDefault::Pass),
        );
        let rule_nodes = fields.take("rules");
        if rule_nodes.is_none() && default.is_none() {
            defects.add(DefectKind::MissingField, at, "`rules` is missing", None);
        }
        fields.finish(at, defects);
        let Some(node) = rule_nodes else { return };
        let at = at.field("rules");
        let items = items(&node, &at, defects);
        sink.expect(items.len());
        let mut rule_names = UniqueNames::default();
        for (i, item) in items.iter().enumerate() {
            let at = at.index(i);
            if let Some(rule) = rules.read(item, &at, defects, &mut rule_names) {
                sink.rule(rule, &at, defects);
            }
        }
    });
}

#[cfg(test)]
mod tests;
