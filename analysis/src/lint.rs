//! What is allowed but probably not meant, or not safe to rest on.

mod codes;
mod covers;
mod errors;
mod layers;
mod reach;
mod rules;
mod services;
mod shared;
mod spelling;

use std::collections::{BTreeSet, HashMap};

use egress_policy::defect::{At, Defect, FieldPath, Segment};
use egress_policy::facts::Protocol;
use egress_policy::model::{From, Hosts as EnginePlace, Mode, Policy, RuleAction, To};
use egress_policy::name::NamePattern;
use egress_policy::port::{PortSet, parse_ports};
use egress_policy::ports;
use egress_policy::tree::{Node as _, Shape};
use egress_policy::udp::{Inexpressible, Pods, openings};
use egress_policy::verdict::RuleRef;

use crate::bundle::{PolicyBundle, PolicySource};
use crate::diagnostic::{Diagnostic, Location, Related, Severity};
use crate::document::{self, Target};

pub use codes::{CodeText, Lint, lint_codes};
pub use errors::{ERRORS, error_codes};

/// What a lint needs to know beside the policies.
#[derive(Clone, Debug, Default)]
pub struct LintContext {
    /// The time, for expiry.
    pub now: Option<i64>,
    /// The cluster's own networks, as far as they are stated.
    pub cluster_networks: Vec<ipnet::IpNet>,
    /// Whether these are all of them, as install settings say.
    pub are_all: bool,
    /// Whether policies or rules are missing that could not be read: what holds between rules is
    /// then not known.
    pub is_partial: bool,
}

/// Everything doubtful about these policies.
#[must_use]
pub fn lint(bundle: &PolicyBundle, surroundings: &LintContext) -> Vec<Diagnostic> {
    let mut found = Findings::default();
    // What a port carries the policies say together.
    let all: &[Policy] = if surroundings.is_partial {
        &[]
    } else {
        &bundle.policies
    };
    let opaque = bundle.ports().opaque_names(all);
    let in_tls = ports::inspected_in_tls(all);
    let udp = udp_inexpressible(all);
    let mut surroundings = surroundings.clone();
    if let Some(cluster) = &bundle.cluster {
        surroundings.cluster_networks.extend(&cluster.networks);
        surroundings.are_all = true;
        for (path, message) in &cluster.too_wide {
            let (at, path, message) = (cluster.location.clone(), path.clone(), message.clone());
            found.place(Lint::WideCluster, at, path, message, Vec::new());
        }
    }
    if let Some(enforced) = &bundle.enforced {
        layers::system_namespaces(enforced, &mut found);
    }
    let surroundings = &surroundings;
    for (p, (policy, unit)) in bundle.policies.iter().zip(&bundle.sources).enumerate() {
        found.unit = Some(unit.clone());
        rules::lint(policy, surroundings, &mut found);
        for names in opaque.iter().filter(|names| names.policy == p) {
            let written = |text: &str| NamePattern::parse(text).is_ok_and(|one| one == names.name);
            let rule = (names.tier, names.rule);
            let at_port = |element: document::Node<'_>| is_at_port(element, &names.ports);
            found.add_entry_of(Lint::NamedTcp, rule, &written, &at_port, names.message());
        }
        for rule in in_tls.iter().filter(|rule| rule.policy == p) {
            let path = rule_path(rule.tier, rule.rule, "to");
            found.add(Lint::InspectedInTls, &path, rule.message());
        }
        for defect in udp
            .iter()
            .filter(|(of, _)| *of == p)
            .map(|(_, defect)| defect)
        {
            found.add(Lint::UdpInexpressible, &defect.path, defect.message.clone());
        }
        shadow_networks(policy, &mut found);
        reach::lint(policy, &mut found);
        if !unit.is_rest() {
            layers::lint(policy, surroundings.now, &mut found);
        }
        duplicate_destinations(unit, &mut found);
        list_dates(unit, surroundings.now, &mut found);
        list_entries(unit, &mut found);
    }
    found.diagnostics
}

/// Rules that earlier ones hide or names that nobody can ask for, by their `POLICY/TIER/RULE`, and why.
#[must_use]
pub fn never_decides(layers: &PolicyBundle) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for (policy, unit) in layers.policies.iter().zip(&layers.sources) {
        let mut found = Findings {
            unit: Some(unit.clone()),
            ..Findings::default()
        };
        reach::lint(policy, &mut found);
        let mut hidden: HashMap<String, String> = found
            .diagnostics
            .into_iter()
            .map(|one| (one.path, one.message))
            .collect();
        for placed in policy.rules() {
            let path = rule_path(placed.tier_index, placed.rule_index, "name").to_string();
            let message = hidden.remove(&path);
            all.extend(message.map(|message| (placed.basis().to_string(), message)));
        }
    }
    let opaque = layers.ports().opaque_names(&layers.policies).into_iter();
    all.extend(opaque.map(|names| (names.id.clone(), names.message())));
    let in_tls = ports::inspected_in_tls(&layers.policies).into_iter();
    all.extend(in_tls.map(|rule| (rule.id.clone(), rule.message())));
    all
}

/// Rules that say of a port what it cannot carry.
#[must_use]
pub fn port_conflicts(layers: &PolicyBundle) -> Vec<Diagnostic> {
    if layers.rendered {
        return Vec::new();
    }
    let conflicts = layers
        .ports()
        .conflicts(&layers.policies, &layers.protocols)
        .into_iter();
    let conflicts = conflicts.filter_map(|conflict| {
        let unit = layers.sources.get(conflict.policy)?;
        let root = At::root();
        let spec = root.field("spec");
        let tiers = spec.field("tiers");
        let tier = tiers.index(conflict.tier);
        let rules = tier.field("rules");
        let rule = rules.index(conflict.rule);
        let path = rule.field("to").index(conflict.to).path();
        let (source, span) = unit.root().resolve(&path, Target::Value);
        let source = std::sync::Arc::clone(source);
        let mut diagnostic = Diagnostic::error(
            "port_protocol",
            Location { source, span },
            conflict.message(),
            Some(conflict.hint()),
        );
        diagnostic.path = path.to_string();
        Some(diagnostic)
    });
    conflicts.collect()
}

/// What rendering would refuse of UDP rules, each with the policy that it is in. The cluster is not
/// known here: every namespace that the rules name is looked at.
fn udp_inexpressible(policies: &[Policy]) -> Vec<(usize, Defect)> {
    let rules = policies.iter().flat_map(Policy::rules);
    let sources = rules.flat_map(|placed| match &placed.rule.from {
        From::Sources(sources) => sources.iter(),
        From::Anyone | From::AnyWorkload => [].iter(),
    });
    let namespaces: BTreeSet<_> = sources.flat_map(|source| &source.namespaces).collect();
    let namespaces: Vec<_> = namespaces.into_iter().cloned().collect();
    let Some(trust_domain) = policies
        .iter()
        .flat_map(|one| &one.head.trust_domains)
        .next()
    else {
        return Vec::new();
    };
    let pods = Pods {
        trust_domain,
        namespaces: &namespaces,
    };
    let (_, refused) = openings(policies, pods);
    let place = |refused: Inexpressible<'_>| {
        let RuleRef::Rule { policy, .. } = refused.rule else {
            return None;
        };
        let index = policies.iter().position(|one| one.head.name == policy)?;
        Some((index, refused.defect))
    };
    refused.into_iter().filter_map(place).collect()
}

/// Deny networks in shadow, as far as a gateway's traffic goes to names.
fn shadow_networks(policy: &Policy, found: &mut Findings) {
    for placed in policy.rules() {
        let rule = placed.rule;
        let shadow = placed.tier.mode == Mode::Shadow || rule.mode == Mode::Shadow;
        if !shadow || rule.action != RuleAction::Deny {
            continue;
        }
        let udp_alone = |to: &To| to.protocols == [Protocol::Udp];
        let networks = |to: &&To| matches!(to.hosts, EnginePlace::Networks(_)) && !udp_alone(to);
        if rule.to.iter().any(|to| networks(&to)) {
            let message = format!(
                "where names lead, what `{}` would deny is not counted",
                rule.name
            );
            let path = rule_path(placed.tier_index, placed.rule_index, "to");
            found.add(Lint::ShadowNetworks, &path, message);
        }
    }
}

/// Days after which a list is old.
const OLD_LIST: i64 = 90;

fn list_dates(unit: &PolicySource, now: Option<i64>, found: &mut Findings) {
    let Some(now) = now else { return };
    for list in unit.lists() {
        let days = (now - list.taken).div_euclid(24 * 60 * 60);
        let message = if days > OLD_LIST {
            format!("`{}` was taken {days} days ago", list.file)
            // Where it is tomorrow already, today's list is no surprise.
        } else if days < -1 {
            format!("`{}` was taken on a day that is yet to come", list.file)
        } else {
            continue;
        };
        let place = list.place.clone();
        found.place(Lint::ListDate, place, String::new(), message, Vec::new());
    }
}

/// What was made of entries that stand in a list otherwise than in a policy.
fn list_entries(unit: &PolicySource, found: &mut Findings) {
    for list in unit.lists() {
        let taken = [
            (list.bare, "of one address"),
            (list.duplicates, "listed before and left out"),
        ];
        let taken: Vec<String> = taken
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        if !taken.is_empty() {
            let message = format!("`{}`: {}", list.file, taken.join(", "));
            let place = list.place.clone();
            found.place(Lint::ListEntries, place, String::new(), message, Vec::new());
        }
    }
}

/// Collects findings about one policy after the other.
#[derive(Default)]
pub struct Findings {
    unit: Option<PolicySource>,
    diagnostics: Vec<Diagnostic>,
    /// Findings about entries of named destinations, which several rules may use.
    of_entries: HashMap<EntryKey, usize>,
}

/// The code, the source's address and the place in it, and the message without the rule's name.
type EntryKey = (&'static str, usize, usize, String);

/// Most rules that are shown with a finding about a destination's entry.
const MOST_RULES: usize = 3;

impl Findings {
    /// Notes a finding at a path of the policy.
    fn add(&mut self, lint: Lint, path: &FieldPath, message: String) {
        self.add_related(lint, path, message, &[]);
    }

    /// The same, with other places in the same policy.
    fn add_related(
        &mut self,
        lint: Lint,
        path: &FieldPath,
        message: String,
        related: &[(FieldPath, &str)],
    ) {
        let Some(unit) = &self.unit else { return };
        let place = |path: &FieldPath| {
            let (source, span) = unit.root().resolve(path, Target::Value);
            let source = std::sync::Arc::clone(source);
            Location { source, span }
        };
        let path = &written_path(unit, path);
        let related = related.iter();
        let related = related
            .map(|(path, label)| Related {
                location: place(&written_path(unit, path)),
                label: (*label).to_owned(),
            })
            .collect();
        self.place(lint, place(path), path.to_string(), message, related);
    }

    /// Notes a finding about an entry of the rule's destination: where the entry is written, be it
    /// in the rule, in a named destination, or in a list.
    fn add_entry(
        &mut self,
        lint: Lint,
        rule: (usize, usize),
        is_entry: &dyn Fn(&str) -> bool,
        message: String,
    ) {
        self.add_entry_of(lint, rule, is_entry, &|_| true, message);
    }

    /// The same, of an element that fits. What is wrong with a named destination is said once, with
    /// the rules that use it.
    fn add_entry_of(
        &mut self,
        lint: Lint,
        (tier, rule): (usize, usize),
        is_entry: &dyn Fn(&str) -> bool,
        is_element: &dyn Fn(document::Node<'_>) -> bool,
        message: String,
    ) {
        let path = rule_path(tier, rule, "to");
        let Some(unit) = self.unit.clone() else {
            return;
        };
        let place = unit.written(tier, rule);
        let Some(written) = entry(unit.root(), place, is_entry, is_element) else {
            return self.add(lint, &path, message);
        };
        let location = Location::from(written.entry);
        let related = written.reference.map(|to| Related {
            location: to.into(),
            label: "for this rule".to_owned(),
        });
        if let Some(related) = &related {
            let source = std::sync::Arc::as_ptr(&location.source).addr();
            let what = message.replacen(&format!("`{}`", written.rule), "", 1);
            let key = (lint.code(), source, location.span.start, what);
            if let Some(first) = self.of_entries.get(&key) {
                let known = self.diagnostics.get_mut(*first);
                if let Some(known) = known.filter(|known| known.related.len() < MOST_RULES) {
                    known.related.push(related.clone());
                }
                return;
            }
            self.of_entries.insert(key, self.diagnostics.len());
        }
        let path = written_path(&unit, &path).to_string();
        self.place(lint, location, path, message, related.into_iter().collect());
    }

    /// Notes a finding at a place.
    fn place(
        &mut self,
        lint: Lint,
        place: Location,
        path: String,
        message: String,
        related: Vec<Related>,
    ) {
        self.diagnostics.push(Diagnostic {
            severity: lint.severity(),
            code: lint.code(),
            message,
            hint: Some(lint.hint().to_owned()),
            location: Some(place),
            path,
            related,
        });
    }
}

/// The path of a field of a tier.
fn tier_path(tier: usize, field: &str) -> FieldPath {
    let root = At::root();
    let spec = root.field("spec");
    let tiers = spec.field("tiers");
    tiers.index(tier).field(field).path()
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

/// The path in the document of what has this path in the policy.
fn written_path(unit: &PolicySource, path: &FieldPath) -> FieldPath {
    let mut segments = path.segments().to_vec();
    if let [_, _, Segment::Index(tier), _, Segment::Index(rule), ..] = segments.as_mut_slice() {
        (*tier, *rule) = unit.written(*tier, *rule);
    }
    segments.into_iter().collect()
}

/// Where an entry of a rule's destination is written.
struct Written<'d> {
    entry: document::Node<'d>,
    /// The element that refers to its destination, if that is another place.
    reference: Option<document::Node<'d>>,
    /// The rule's name.
    rule: &'d str,
}

fn entry<'d>(
    root: document::Node<'d>,
    (tier, rule): (usize, usize),
    is_entry: &dyn Fn(&str) -> bool,
    is_element: &dyn Fn(document::Node<'_>) -> bool,
) -> Option<Written<'d>> {
    let nth = |place: document::Node<'d>, field: &str, n: usize| place.field(field)?.items().nth(n);
    let spec = root.field("spec")?;
    let rule = nth(nth(spec, "tiers", tier)?, "rules", rule)?;
    let name = rule.field("name").and_then(document::Node::text);
    let named = |to: document::Node<'d>| {
        let name = to.field("destination")?.text()?;
        spec.field("destinations")?.field(name)
    };
    let entry_of = |element: document::Node<'d>| {
        let lists = ["domainNames", "networks"].into_iter();
        lists
            .filter(|_| is_element(element))
            .filter_map(|field| element.field(field))
            .flat_map(document::Node::items)
            .find(|item| item.text().is_some_and(is_entry))
    };
    let (entry, reference) = rule.field("to")?.items().find_map(|to| match named(to) {
        None => entry_of(to).map(|entry| (entry, None)),
        Some(_) if !is_element(to) => None,
        Some(value) => std::iter::once(value)
            .chain(value.items())
            .find_map(entry_of)
            .map(|entry| (entry, Some(to))),
    })?;
    Some(Written {
        entry,
        reference,
        rule: name.unwrap_or_default(),
    })
}

/// Whether a written element is about one of these ports.
fn is_at_port(element: document::Node<'_>, ports: &PortSet) -> bool {
    let Some(written) = element.field("ports") else {
        return true;
    };
    let range = |item: document::Node<'_>| match item.shape() {
        Ok(Shape::Number(text) | Shape::Text(text)) => parse_ports(&text).ok(),
        _ => None,
    };
    let written = PortSet::new(written.items().filter_map(range));
    written.intersect(ports).is_some()
}

/// Two names for one destination are two places to change.
fn duplicate_destinations(unit: &PolicySource, found: &mut Findings) {
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
                &[(other, "the first")],
            );
        } else {
            seen.insert(meaning, name);
        }
    }
}

impl Lint {
    /// How serious it is.
    #[must_use]
    pub const fn severity(self) -> Severity {
        match self {
            Self::ExpiresSoon
            | Self::NoOwner
            | Self::DenyByName
            | Self::DuplicateDestination
            | Self::ListEntries
            | Self::ClusterIsAClaim => Severity::Note,
            Self::UnreachableRule
            | Self::LabelsAlone
            | Self::WideName
            | Self::WideNetwork
            | Self::Expired
            | Self::LabelsOnServerFirst
            | Self::NeverResolves
            | Self::InsideNetwork
            | Self::WideCluster
            | Self::DenyByLabels
            | Self::UdpLabels
            | Self::PrivateAllowed
            | Self::DefaultAccept
            | Self::NamedTcp
            | Self::InspectedInTls
            | Self::UdpInexpressible
            | Self::ShadowNetworks
            | Self::ListDate
            | Self::AnyDestination
            | Self::AnyPort
            | Self::SharedHosting
            | Self::ConfusableName
            | Self::TlsAfterPlaintext
            | Self::ShadowWorkloads
            | Self::SystemNamespace
            | Self::PassToDefault
            | Self::OutsideAppliesTo
            | Self::MetadataAddress => Severity::Warning,
        }
    }
}
