//! Conditions of rules in words, for pages that people read.

use egress_policy::model::{Hosts, LabelOperator, Source, To, Workloads};

/// A list, of which the first so many entries are written out.
pub fn list_words<'t>(entries: impl ExactSizeIterator<Item = &'t str>, most: usize) -> String {
    let more = entries.len().saturating_sub(most);
    let listed: Vec<&str> = entries.take(most).collect();
    let listed = listed.join(", ");
    match more {
        0 => listed,
        more => format!("{listed} and {more} more"),
    }
}

/// Whom an element of `from` selects.
#[must_use]
pub fn source_words(source: &Source) -> String {
    let mut parts = Vec::new();
    let mut list = |title: &str, entries: &[String]| {
        if !entries.is_empty() {
            parts.push(format!("{title} {}", entries.join(", ")));
        }
    };
    list("trust domain", &source.trust_domains);
    list("namespace", &source.namespaces);
    let accounts: Vec<String> = source
        .service_accounts
        .iter()
        .map(|sa| format!("{}/{}", sa.namespace, sa.name))
        .collect();
    list("service account", &accounts);
    list("cluster", &source.clusters);
    let labels = source
        .match_labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"));
    let expressions = source
        .match_expressions
        .iter()
        .map(|one| match &one.operator {
            LabelOperator::In(values) => format!("{} in ({})", one.key, values.join(", ")),
            LabelOperator::NotIn(values) => format!("{} not in ({})", one.key, values.join(", ")),
            LabelOperator::Exists => format!("{} set", one.key),
            LabelOperator::DoesNotExist => format!("{} not set", one.key),
        });
    let labels: Vec<String> = labels.chain(expressions).collect();
    list("labels", &labels);
    parts.join(", ")
}

/// Workloads that a policy lists outside its rules.
#[must_use]
pub fn workloads_words(workloads: &Workloads) -> String {
    let namespaces = workloads.namespaces.iter();
    let namespaces = namespaces.map(|name| format!("namespace {name}"));
    let accounts = workloads.service_accounts.iter();
    let accounts = accounts.map(|sa| format!("service account {}/{}", sa.namespace, sa.name));
    let all: Vec<String> = namespaces.chain(accounts).collect();
    all.join(", ")
}

/// Where an element of `to` leads, with at most so many names or networks written out.
#[must_use]
pub fn to_words(to: &To, most: usize) -> String {
    let list = |entries: Vec<String>| list_words(entries.iter().map(String::as_str), most);
    let texts = |entries: &[ipnet::IpNet]| list(entries.iter().map(ToString::to_string).collect());
    let mut parts = vec![match &to.hosts {
        Hosts::Anywhere => "anywhere".to_owned(),
        Hosts::Names(patterns) => list(patterns.iter().map(ToString::to_string).collect()),
        Hosts::Networks(networks) if networks.except.is_empty() => texts(&networks.networks),
        Hosts::Networks(networks) => {
            let (inside, except) = (texts(&networks.networks), texts(&networks.except));
            format!("{inside} except {except}")
        }
    }];
    if !to.ports.is_any() {
        parts.push(format!("port {}", to.ports));
    }
    let protocols: Vec<&str> = to.protocols.iter().map(|one| one.as_str()).collect();
    let paths: Vec<String> = to.paths.iter().map(ToString::to_string).collect();
    for (title, text) in [
        ("", protocols.join(", ")),
        ("methods ", to.methods.join(", ")),
        ("paths ", paths.join(", ")),
        ("upgrade to ", to.upgrades.join(", ")),
    ] {
        if !text.is_empty() {
            parts.push(format!("{title}{text}"));
        }
    }
    if to.allow_private {
        parts.push("private addresses too".to_owned());
    }
    if to.tls.is_some() {
        parts.push("TLS by the gateway".to_owned());
    }
    parts.join("; ")
}
