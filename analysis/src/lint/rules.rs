//! Lints that look at one rule.

use egress_policy::address::{SPECIAL, Special, special};
use egress_policy::facts::Protocol;
use egress_policy::model::{
    DefaultAction, From, Hosts, Mode, Networks, Policy, Rule, RuleAction, Source, To,
};
use egress_policy::name::{Name, NamePattern};
use ipnet::IpNet;

use super::services::{server_first, tls_after_plaintext};
use super::{Findings, Lint, LintContext, rule_path, shared, spelling};
use crate::owned_facts::time_text;

/// Days ahead in which an expiry is announced.
pub(super) const SOON: i64 = 30 * 24 * 60 * 60;
/// Top-level labels that are never delegated (RFC 6761, RFC 6762, RFC 9476, ICANN's `internal`).
const NEVER_PUBLIC: [&str; 8] = [
    "local",
    "localhost",
    "internal",
    "invalid",
    "test",
    "onion",
    "alt",
    "lan",
];

pub(super) fn lint(policy: &Policy, surroundings: &LintContext, found: &mut Findings) {
    if policy.head.default == DefaultAction::Accept && policy.head.applies_to.is_none() {
        let root = egress_policy::defect::At::root();
        let spec = root.field("spec");
        let path = spec.field("default").path();
        found.add(
            Lint::DefaultAccept,
            &path,
            "what no rule names is accepted".to_owned(),
        );
    }
    for (t, tier) in policy.tiers.iter().enumerate() {
        for (r, rule) in tier.rules.iter().enumerate() {
            let here = Here {
                tier: t,
                rule: r,
                opens: matches!(rule.action, RuleAction::Accept | RuleAction::Inspect(_)),
                shadow: tier.mode == Mode::Shadow || rule.mode == Mode::Shadow,
            };
            lint_expiry(rule, &here, surroundings, found);
            lint_from(rule, &here, found);
            if here.opens && policy.head.applies_to.is_none() {
                lint_anywhere(rule, &here, found);
            }
            for to in &rule.to {
                lint_to(rule, to, &here, surroundings, found);
            }
        }
    }
}

struct Here {
    tier: usize,
    rule: usize,
    opens: bool,
    shadow: bool,
}

impl Here {
    const fn rule(&self) -> (usize, usize) {
        (self.tier, self.rule)
    }

    fn path(&self, field: &str) -> egress_policy::defect::FieldPath {
        rule_path(self.tier, self.rule, field)
    }
}

fn lint_expiry(rule: &Rule, here: &Here, surroundings: &LintContext, found: &mut Findings) {
    let Some(expires) = rule.expires else { return };
    let path = here.path("expires");
    if rule.owner.is_none() {
        let message = format!("the exception `{}` has no owner", rule.name);
        found.add(Lint::NoOwner, &here.path("name"), message);
    }
    let Some(now) = surroundings.now else { return };
    let when = time_text(expires);
    if expires <= now {
        let message = format!("`{}` expired at {when} and accepts nothing", rule.name);
        found.add(Lint::Expired, &path, message);
    } else if expires - now < SOON {
        let message = format!("`{}` expires at {when}", rule.name);
        found.add(Lint::ExpiresSoon, &path, message);
    }
}

fn lint_from(rule: &Rule, here: &Here, found: &mut Findings) {
    let From::Sources(sources) = &rule.from else {
        return;
    };
    let proven =
        |source: &Source| !(source.namespaces.is_empty() && source.service_accounts.is_empty());
    let by_labels =
        |source: &Source| !(source.match_labels.is_empty() && source.match_expressions.is_empty());
    if here.opens && sources.iter().any(|s| by_labels(s) && !proven(s)) {
        let message = format!("`{}` selects by labels alone", rule.name);
        found.add(Lint::LabelsAlone, &here.path("from"), message);
    }
    if rule.action == RuleAction::Deny && !here.shadow && sources.iter().any(by_labels) {
        let message = format!(
            "`{}` denies by labels, which a caller can withhold",
            rule.name
        );
        found.add(Lint::DenyByLabels, &here.path("from"), message);
    }
    if sources.iter().any(|source| !source.clusters.is_empty()) {
        let message = format!("`{}` selects by cluster", rule.name);
        found.add(Lint::ClusterIsAClaim, &here.path("from"), message);
    }
    let udp = |to: &To| to.protocols.contains(&Protocol::Udp);
    if sources.iter().any(by_labels) && rule.to.iter().any(udp) {
        let message = format!("`{}` opens UDP by labels", rule.name);
        found.add(Lint::UdpLabels, &here.path("from"), message);
    }
    let unbound = |source: &Source| by_labels(source) && source.service_accounts.is_empty();
    let port = rule.to.iter().find_map(server_first);
    if let Some(port) = port.filter(|_| here.opens && sources.iter().any(unbound)) {
        let message = format!(
            "`{}` selects by labels on port {port}, where the server speaks first",
            rule.name
        );
        found.add(Lint::LabelsOnServerFirst, &here.path("from"), message);
    }
}

/// A rule that opens every destination. What a team opens so, the platform's policy bounds.
fn lint_anywhere(rule: &Rule, here: &Here, found: &mut Findings) {
    let anywhere = |to: &&To| matches!(to.hosts, Hosts::Anywhere);
    let (path, ports) = match rule.to.iter().find(anywhere) {
        Some(to) => (here.path("to"), format!(" at port {}", to.ports)),
        None if rule.to.is_empty() => (here.path("name"), String::new()),
        None => return,
    };
    let message = format!("`{}` opens every destination{ports}", rule.name);
    found.add(Lint::AnyDestination, &path, message);
}

fn lint_to(rule: &Rule, to: &To, here: &Here, surroundings: &LintContext, found: &mut Findings) {
    if here.opens {
        lint_ports(rule, to, here, found);
    }
    match &to.hosts {
        Hosts::Names(patterns) => {
            if rule.action == RuleAction::Deny {
                let message = format!("`{}` denies by name", rule.name);
                found.add(Lint::DenyByName, &here.path("to"), message);
            }
            for pattern in &**patterns {
                lint_pattern(pattern, to, here, found);
            }
        }
        Hosts::Networks(networks) if here.opens => {
            for network in &networks.networks {
                lint_network(network, here, surroundings, found);
                lint_metadata(network, networks, here, found);
            }
        }
        Hosts::Anywhere | Hosts::Networks(_) => {}
    }
}

fn lint_ports(rule: &Rule, to: &To, here: &Here, found: &mut Findings) {
    let first = match &to.hosts {
        Hosts::Names(names) => names.first().map(ToString::to_string),
        Hosts::Networks(all) => all.networks.first().map(ToString::to_string),
        Hosts::Anywhere => None,
    };
    let entry = |text: &str| match &to.hosts {
        Hosts::Names(names) => NamePattern::parse(text).ok().as_ref() == names.first(),
        Hosts::Networks(all) => text.parse().ok().as_ref() == all.networks.first(),
        Hosts::Anywhere => false,
    };
    // Of names at every port over opaque TCP another lint says it already.
    let names = matches!(to.hosts, Hosts::Names(_)) && to.protocols().contains(&Protocol::Tcp);
    if let Some(first) = first.filter(|_| to.ports.is_any() && !names) {
        let message = format!("`{}` opens every port of `{first}`", rule.name);
        found.add_entry(Lint::AnyPort, here.rule(), &entry, message);
    }
    if let Some((port, spoken)) = tls_after_plaintext(to) {
        let message = format!(
            "`{}` expects TLS at port {port}, where {spoken} does not begin with it",
            rule.name
        );
        found.add_entry(Lint::TlsAfterPlaintext, here.rule(), &entry, message);
    }
}

fn lint_pattern(pattern: &NamePattern, to: &To, here: &Here, found: &mut Findings) {
    let written = |text: &str| NamePattern::parse(text).is_ok_and(|one| one == *pattern);
    if let Some(oddity) = spelling::oddity(&pattern.to_string()) {
        let message = format!("`{pattern}` {oddity}");
        found.add_entry(Lint::ConfusableName, here.rule(), &written, message);
    }
    let base = match pattern {
        NamePattern::Exact(name) => {
            lint_exact(name, here, &written, found);
            if here.opens && to.paths.is_empty() && shared::serves_everybody(name.as_str()) {
                let message =
                    format!("`{name}` serves what any customer of its provider put there");
                found.add_entry(Lint::SharedHosting, here.rule(), &written, message);
            }
            return;
        }
        NamePattern::Suffix(base) | NamePattern::OneBelow(base) => base.as_str().to_owned(),
        NamePattern::Glob(glob) => glob.literal_tail(),
    };
    let is_suffix = psl::suffix_str(&base).is_some_and(|suffix| suffix == base);
    let listed = psl::suffix(base.as_bytes()).is_some_and(|suffix| suffix.is_known());
    if here.opens && is_suffix && listed {
        let message = format!("`{pattern}`: `{base}` is a public suffix");
        found.add_entry(Lint::WideName, here.rule(), &written, message);
    } else if here.opens
        && let Some(shared) = shared::below(&base)
    {
        let message = format!("`{pattern}`: `{base}` {shared}");
        found.add_entry(Lint::SharedHosting, here.rule(), &written, message);
    }
    if to.allow_private {
        let message = format!("`{pattern}` may lead to private addresses");
        found.add_entry(Lint::PrivateAllowed, here.rule(), &written, message);
    }
}

fn lint_exact(name: &Name, here: &Here, written: &dyn Fn(&str) -> bool, found: &mut Findings) {
    let text = name.as_str();
    let last = text.rsplit('.').next().unwrap_or(text);
    if !text.contains('.') || NEVER_PUBLIC.contains(&last) {
        let message = format!("no public resolver knows `{text}`");
        found.add_entry(Lint::NeverResolves, here.rule(), written, message);
    }
}

/// A metadata address of a cloud in a network, unless it is excepted.
fn lint_metadata(network: &IpNet, all: &Networks, here: &Here, found: &mut Findings) {
    let written = |text: &str| text.parse::<IpNet>().is_ok_and(|one| one == *network);
    let metadata = SPECIAL
        .iter()
        .filter(|row| row.kind == Special::CloudMetadata);
    let excepted = |row: &IpNet| all.except.iter().any(|hole| hole.contains(row));
    let mut within = metadata.filter(|row| network.contains(&row.network));
    if let Some(row) = within.find(|row| !excepted(&row.network)) {
        let (address, source) = (row.network.addr(), row.source);
        let holds = if network.prefix_len() == network.max_prefix_len() {
            format!("`{network}` is a metadata address")
        } else {
            format!("`{network}` holds the metadata address {address}")
        };
        let message = format!("{holds} ({source}), where the gateway's own node would answer");
        found.add_entry(Lint::MetadataAddress, here.rule(), &written, message);
    }
}

fn lint_network(network: &IpNet, here: &Here, surroundings: &LintContext, found: &mut Findings) {
    let written = |text: &str| text.parse::<IpNet>().is_ok_and(|one| one == *network);
    let wide = match network {
        IpNet::V4(v4) => v4.prefix_len() < 8,
        IpNet::V6(v6) => v6.prefix_len() < 20,
    };
    if wide {
        let message = format!("`{network}` is a good part of the internet");
        found.add_entry(Lint::WideNetwork, here.rule(), &written, message);
        return;
    }
    let own = &surroundings.cluster_networks;
    let relation = |own: &IpNet| {
        if own.contains(network) {
            Some("lies in")
        } else if network.contains(own) {
            Some("holds")
        } else {
            None
        }
    };
    let found_in = own.iter().find_map(|own| Some((own, relation(own)?)));
    let message = match (found_in, special(network.addr())) {
        (Some((own, relation)), _) => format!(
            "`{network}` {relation} the cluster's network `{own}`, where nothing goes through the gateway"
        ),
        // What is not the cluster's is judged like any other.
        (None, Some(kind)) if !surroundings.are_all => {
            format!("`{network}` holds {kind} addresses")
        }
        _ => return,
    };
    found.add_entry(Lint::InsideNetwork, here.rule(), &written, message);
}
