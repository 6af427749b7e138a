//! Reading rules and named destinations.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::decode::{Fields, boolean, each, list, shape, text, texts, unique, word};
use crate::defect::suggestion;
use crate::defect::{At, DefectKind, Defects};
use crate::facts::Protocol;
use crate::model::{From, LabelExpression, LabelOperator, Rule, RuleAction, Source, To};
use crate::tree::{Node, Shape};

use super::words::{self, UniqueNames};

mod to;

use to::{RuleShape, read_to};

/// Reads rules, knowing the named destinations.
#[derive(Default)]
pub(super) struct RuleReader {
    destinations: BTreeMap<String, Vec<To>>,
}

impl RuleReader {
    pub(super) fn read_destinations<N: Node>(
        &mut self,
        node: &N,
        at: &At<'_>,
        defects: &mut Defects,
    ) {
        let Some(Shape::Map(pairs)) = shape(node, at, defects) else {
            defects.add(
                DefectKind::WrongType,
                at,
                "expected a mapping of names to destinations",
                "write `destinations: {NAME: {domainNames: [...], ports: [443]}}`".to_owned(),
            );
            return;
        };
        if pairs.is_empty() {
            defects.add(DefectKind::Empty, at, "this mapping is empty", None);
        }
        for (name, node) in &pairs {
            let at = at.field(name);
            words::check_object_name(name, &at, defects);
            let before = defects.len();
            let mut elements = read_destination(name, node, &at, defects);
            if defects.len() > before {
                // What is wrong with it is said here, and not for each rule that uses it.
                elements.clear();
            }
            if self
                .destinations
                .insert(name.to_string(), elements)
                .is_some()
            {
                defects.add(
                    DefectKind::DuplicateField,
                    &at,
                    format!("`{name}` is given twice"),
                    None,
                );
            }
        }
    }

    pub(super) fn read<N: Node>(
        &self,
        node: &N,
        at: &At<'_>,
        defects: &mut Defects,
        names: &mut UniqueNames,
    ) -> Option<Rule> {
        let mut fields = Fields::of(node, at, defects)?;
        let name = words::take_unique_name(&mut fields, at, defects, names, "rule of this tier");
        let mode = words::take_mode(&mut fields, at, defects);
        let action = take_action(&mut fields, at, defects);
        let rule_shape = RuleShape {
            deny: matches!(action, Some(RuleAction::Deny)),
            inspect: matches!(action, Some(RuleAction::Inspect(_))),
        };
        let from = take_from(&mut fields, at, defects, action.as_ref());
        let to = fields.take("to").map(|node| {
            let mut elements = Vec::new();
            each(&node, &at.field("to"), defects, |node, at, defects| {
                let found = read_to(node, at, defects, rule_shape, Some(&self.destinations));
                elements.extend(found.unwrap_or_default());
            });
            elements
        });
        let expires = take_expires(&mut fields, at, defects, action.as_ref());
        let mut take_text = |field: &'static str| {
            fields
                .take(field)
                .and_then(|node| text(&node, &at.field(field), defects))
        };
        let (owner, reason, ticket) =
            (take_text("owner"), take_text("reason"), take_text("ticket"));
        fields.finish(at, defects);
        let rule = Rule {
            name: name?,
            mode,
            from,
            to: to.unwrap_or_default(),
            action: action?,
            expires,
            owner,
            reason,
            ticket,
        };
        check_udp(&rule, at, defects);
        Some(rule)
    }
}

/// A named destination: one element or a list of them. It refers to no other.
fn read_destination<N: Node>(name: &str, node: &N, at: &At<'_>, defects: &mut Defects) -> Vec<To> {
    let mut elements = Vec::new();
    let label: Arc<str> = Arc::from(name);
    let any = RuleShape {
        deny: false,
        inspect: false,
    };
    let mut one = |node: &N, at: &At<'_>, defects: &mut Defects| {
        for mut element in read_to(node, at, defects, any, None).unwrap_or_default() {
            element.destination = Some(Arc::clone(&label));
            elements.push(element);
        }
    };
    match shape(node, at, defects) {
        Some(Shape::List(_)) => each(node, at, defects, one),
        Some(_) => one(node, at, defects),
        None => {}
    }
    elements
}

#[derive(Clone, Copy)]
enum ActionWord {
    Accept,
    Deny,
    Pass,
    Inspect,
}

fn take_action<N: Node>(
    fields: &mut Fields<'_, N>,
    at: &At<'_>,
    defects: &mut Defects,
) -> Option<RuleAction> {
    let words = [
        ("Accept", ActionWord::Accept),
        ("Deny", ActionWord::Deny),
        ("Pass", ActionWord::Pass),
        ("Inspect", ActionWord::Inspect),
    ];
    let action = fields.require("action", at, defects);
    let action = action.and_then(|node| word(&node, &at.field("action"), defects, &words));
    let cluster = fields.take("inspection");
    let at_cluster = at.field("inspection");
    match (action?, cluster) {
        (ActionWord::Inspect, Some(node)) => words::object_name(&node, &at_cluster, defects)
            .map(|name| RuleAction::Inspect(name.into())),
        (ActionWord::Inspect, None) => {
            let hint =
                "`inspection` names a cluster that the gateway's configuration declares".to_owned();
            defects.add(
                DefectKind::MissingField,
                at,
                "Inspect needs `inspection`",
                hint,
            );
            None
        }
        (_, Some(_)) => {
            defects.add(
                DefectKind::Conflict,
                &at_cluster,
                "`inspection` goes with Inspect only",
                None,
            );
            None
        }
        (ActionWord::Accept, None) => Some(RuleAction::Accept),
        (ActionWord::Deny, None) => Some(RuleAction::Deny),
        (ActionWord::Pass, None) => Some(RuleAction::Pass),
    }
}

/// `expires` can only tighten, so it goes with what opens.
fn take_expires<N: Node>(
    fields: &mut Fields<'_, N>,
    at: &At<'_>,
    defects: &mut Defects,
    action: Option<&RuleAction>,
) -> Option<i64> {
    let node = fields.take("expires")?;
    let at = at.field("expires");
    if action.is_some_and(|action| *action != RuleAction::Accept) {
        let hint =
            "when a Deny or Pass lapses, something opens; only Accept rules expire".to_owned();
        defects.add(
            DefectKind::Conflict,
            &at,
            "`expires` goes with Accept only",
            hint,
        );
    }
    words::timestamp(&node, &at, defects)
}

fn take_from<N: Node>(
    fields: &mut Fields<'_, N>,
    at: &At<'_>,
    defects: &mut Defects,
    action: Option<&RuleAction>,
) -> From {
    let deny = matches!(action, Some(RuleAction::Deny));
    let Some(node) = fields.take("from") else {
        return if deny {
            From::Anyone
        } else {
            From::AnyWorkload
        };
    };
    let at = at.field("from");
    let mut anyone = false;
    let mut count = 0_usize;
    let sources = list(&node, &at, defects, |node, at, defects| {
        count += 1;
        let mut fields = Fields::of(node, at, defects)?;
        let is_anyone = fields
            .take("anyone")
            .and_then(|node| boolean(&node, &at.field("anyone"), defects));
        let source = take_source(&mut fields, at, defects, deny);
        fields.finish(at, defects);
        match is_anyone {
            Some(true) if source == Source::default() => anyone = true,
            Some(true) => {
                defects.add(
                    DefectKind::Conflict,
                    at,
                    "`anyone` stands alone in its element",
                    None,
                );
            }
            Some(false) => {
                let hint = "leave it out".to_owned();
                defects.add(
                    DefectKind::Conflict,
                    &at.field("anyone"),
                    "`anyone` is true or absent",
                    hint,
                );
            }
            None => return Some(source),
        }
        None
    });
    if anyone && count > 1 {
        let hint = "`anyone` already covers the other elements".to_owned();
        defects.add(
            DefectKind::Conflict,
            &at,
            "elements beside `anyone` have no effect",
            hint,
        );
    }
    if anyone {
        From::Anyone
    } else {
        From::Sources(sources.into())
    }
}

fn take_source<N: Node>(
    fields: &mut Fields<'_, N>,
    at: &At<'_>,
    defects: &mut Defects,
    deny: bool,
) -> Source {
    let source = Source {
        trust_domains: words::take_texts(
            fields,
            "trustDomains",
            at,
            defects,
            words::check_spiffe_segment,
        ),
        namespaces: words::take_texts(fields, "namespaces", at, defects, words::check_namespace),
        service_accounts: words::take_service_accounts(fields, at, defects),
        clusters: words::take_texts(fields, "clusters", at, defects, words::check_spiffe_segment),
        match_labels: fields
            .take("matchLabels")
            .map(|node| read_match_labels(&node, &at.field("matchLabels"), defects))
            .unwrap_or_default(),
        match_expressions: fields
            .take("matchExpressions")
            .map(|node| {
                list(
                    &node,
                    &at.field("matchExpressions"),
                    defects,
                    read_expression,
                )
            })
            .unwrap_or_default(),
    };
    if !deny {
        check_negative_operators(&source, &at.field("matchExpressions"), defects);
    }
    check_namespaces_meet(&source, at, defects);
    source
}

fn read_match_labels<N: Node>(
    node: &N,
    at: &At<'_>,
    defects: &mut Defects,
) -> Vec<(String, String)> {
    let Some(Shape::Map(pairs)) = shape(node, at, defects) else {
        defects.add(
            DefectKind::WrongType,
            at,
            "expected a mapping of labels to values",
            None,
        );
        return Vec::new();
    };
    if pairs.is_empty() {
        let hint = "an empty selector would match everything; leave it out".to_owned();
        defects.add(DefectKind::Empty, at, "this selector is empty", hint);
    }
    let mut labels: Vec<(String, String)> = Vec::with_capacity(pairs.len());
    for (key, node) in &pairs {
        let at = at.field(key);
        if labels.iter().any(|(seen, _)| *seen == **key) {
            defects.add(
                DefectKind::DuplicateField,
                &at,
                format!("`{key}` is given twice"),
                None,
            );
        }
        if let Err(hint) = words::check_label_key(key) {
            defects.add(
                DefectKind::BadValue,
                &at,
                format!("`{key}` is no label key"),
                hint,
            );
        }
        if let Some(value) = label_value(node, &at, defects) {
            labels.push((key.to_string(), value));
        }
    }
    labels.sort();
    labels
}

fn label_value<N: Node>(node: &N, at: &At<'_>, defects: &mut Defects) -> Option<String> {
    match shape(node, at, defects)? {
        Shape::Text(value) => match words::check_label_value(&value) {
            Ok(()) => Some(value.into_owned()),
            Err(hint) => {
                defects.add(
                    DefectKind::BadValue,
                    at,
                    format!("`{value}` is no label value"),
                    hint,
                );
                None
            }
        },
        other => {
            let message = format!("expected a text, found {}", other.describe());
            defects.add(
                DefectKind::WrongType,
                at,
                message,
                "label values are texts: quote it".to_owned(),
            );
            None
        }
    }
}

fn read_expression<N: Node>(
    node: &N,
    at: &At<'_>,
    defects: &mut Defects,
) -> Option<LabelExpression> {
    #[derive(Clone, Copy, PartialEq)]
    enum Word {
        In,
        NotIn,
        Exists,
        DoesNotExist,
    }
    let mut fields = Fields::of(node, at, defects)?;
    let key = fields.require("key", at, defects).and_then(|node| {
        let key = text(&node, &at.field("key"), defects)?;
        if let Err(hint) = words::check_label_key(&key) {
            defects.add(
                DefectKind::BadValue,
                &at.field("key"),
                format!("`{key}` is no label key"),
                hint,
            );
        }
        Some(key)
    });
    let words = [
        ("In", Word::In),
        ("NotIn", Word::NotIn),
        ("Exists", Word::Exists),
        ("DoesNotExist", Word::DoesNotExist),
    ];
    let operator = fields.require("operator", at, defects);
    let operator = operator.and_then(|node| word(&node, &at.field("operator"), defects, &words));
    let values = fields.take("values").map(|node| {
        let at = at.field("values");
        let values = texts(&node, &at, defects, words::check_label_value);
        unique(&values, &at, defects);
        values
    });
    fields.finish(at, defects);
    let operator = match (operator?, values) {
        (Word::In, Some(values)) => LabelOperator::In(values),
        (Word::NotIn, Some(values)) => LabelOperator::NotIn(values),
        (Word::Exists, None) => LabelOperator::Exists,
        (Word::DoesNotExist, None) => LabelOperator::DoesNotExist,
        (Word::In | Word::NotIn, None) => {
            defects.add(
                DefectKind::MissingField,
                at,
                "In and NotIn need `values`",
                "add `values: [...]`; `Exists` and `DoesNotExist` need none".to_owned(),
            );
            return None;
        }
        (Word::Exists | Word::DoesNotExist, Some(_)) => {
            defects.add(
                DefectKind::Conflict,
                at,
                "Exists and DoesNotExist take no `values`",
                None,
            );
            return None;
        }
    };
    Some(LabelExpression {
        key: key?,
        operator,
    })
}

/// A label that the mesh does not carry looks absent, so a negative operator alone would accept
/// everybody.
fn check_negative_operators(source: &Source, at: &At<'_>, defects: &mut Defects) {
    for (i, expression) in source.match_expressions.iter().enumerate() {
        let negative = matches!(
            expression.operator,
            LabelOperator::NotIn(_) | LabelOperator::DoesNotExist
        );
        let positive = source
            .match_labels
            .iter()
            .any(|(key, _)| *key == expression.key)
            || source.match_expressions.iter().any(|other| {
                other.key == expression.key
                    && matches!(other.operator, LabelOperator::In(_) | LabelOperator::Exists)
            });
        if negative && !positive {
            let hint = format!(
                "add `{{key: {}, operator: Exists}}`: a label that the mesh does not carry looks absent",
                expression.key
            );
            defects.add(
                DefectKind::Conflict,
                &at.index(i),
                "NotIn and DoesNotExist open only beside Exists or In on the same key",
                hint,
            );
        }
    }
}

fn check_namespaces_meet(source: &Source, at: &At<'_>, defects: &mut Defects) {
    let apart = !source.namespaces.is_empty()
        && !source.service_accounts.is_empty()
        && source
            .service_accounts
            .iter()
            .all(|sa| !source.namespaces.contains(&sa.namespace));
    if apart {
        let hint = "all fields of an element must hold; write two elements for either".to_owned();
        defects.add(
            DefectKind::NeverMatches,
            at,
            "no service account here lies in one of the namespaces",
            hint,
        );
    }
}

/// UDP never reaches the gateway. The node guard knows a pod by what the API server says of it.
fn check_udp(rule: &Rule, at: &At<'_>, defects: &mut Defects) {
    let udp = |to: &To| to.protocols.contains(&Protocol::Udp);
    if !rule.to.iter().any(udp) {
        return;
    }
    let named = match &rule.from {
        From::Anyone | From::AnyWorkload => rule.action == RuleAction::Deny,
        From::Sources(sources) => sources
            .iter()
            .all(|source| !source.namespaces.is_empty() && source.clusters.is_empty()),
    };
    if !named {
        let hint = "the node guard knows a pod by its namespace first; service accounts or labels alone are not enough".to_owned();
        defects.add(
            DefectKind::Conflict,
            &at.field("from"),
            "a UDP rule names `namespaces` in every element of `from`",
            hint,
        );
    }
    if !matches!(rule.action, RuleAction::Accept | RuleAction::Deny) {
        defects.add(
            DefectKind::Conflict,
            &at.field("action"),
            "a UDP rule accepts or denies",
            None,
        );
    }
}

pub(super) fn unknown_destination(
    name: &str,
    known: &BTreeMap<String, Vec<To>>,
    at: &At<'_>,
    defects: &mut Defects,
) {
    let hint = suggestion(name, known.keys().map(String::as_str));
    defects.add(
        DefectKind::UnknownReference,
        at,
        format!("no destination is named `{name}`"),
        hint,
    );
}
