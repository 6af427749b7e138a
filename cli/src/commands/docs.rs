//! `warden docs`: who may reach what, as a page.

use egress_policy::model::{
    DefaultAction, From, Hosts, LabelOperator, Mode, Policy, Rule, Source, TierDefault, To,
};
use schemars::JsonSchema;
use serde::Serialize;

use crate::Console;
use crate::exit::{Exit, Failure};
use crate::output::{Output, PLAIN, Report};
use crate::progress::Progress;
use crate::report;
use crate::sources::{Inputs, load};
use egress_analysis::bundle::PolicyBundle;
use egress_analysis::lists::List;
use egress_analysis::owned_facts::time_text;

/// Write a readable page of who may reach what.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  warden docs policy.yaml > egress.md
  warden docs policy.yaml --format html > egress.html")]
pub(crate) struct Docs {
    #[command(flatten)]
    inputs: Inputs,
    /// The page's format.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// `json` writes what is on the page instead of the page.
    #[arg(long, value_parser = Output::among(&PLAIN), default_value = "human", conflicts_with = "format")]
    output: Output,
}

/// `--format`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For a repository.
    #[default]
    Markdown,
    /// A page of its own.
    Html,
}

impl Docs {
    pub(crate) fn run(self, console: &mut Console<'_>) -> Result<Exit, Failure> {
        let clock = Progress::start("writing");
        let loaded = load(&self.inputs, console)?;
        clock.report(console, "files read");
        if loaded.has_errors() {
            return report::refuse(&loaded.diagnostics, console);
        }
        let policies = loaded.bundles.iter().flat_map(|bundle| &bundle.policies);
        let mut sections: Vec<Section> = policies.flat_map(sections).collect();
        sections.extend(lists(loaded.bundles.iter().flat_map(PolicyBundle::lists)));
        let page = Page {
            sections,
            format: self.format,
        };
        self.output.write(&page, console)?;
        clock.finish(console);
        Ok(Exit::Ok)
    }
}

/// Who may reach what, in words.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Page {
    /// In the order of the policies.
    sections: Vec<Section>,
    #[serde(skip)]
    format: Format,
}

impl Report for Page {
    fn human(&self, console: &mut Console<'_>) -> Result<(), Failure> {
        let page = match self.format {
            Format::Markdown => markdown(&self.sections),
            Format::Html => html(&self.sections),
        };
        Ok(console.stdout.write_all(page.as_bytes())?)
    }
}

/// A tier of a policy, its default, or the lists in files.
#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
struct Section {
    /// `policy/tier`, or what it is.
    title: String,
    /// What holds beside the rows.
    note: String,
    /// What each cell of a row is.
    header: [&'static str; 5],
    /// One a rule, in order; its cells in words.
    rows: Vec<[String; 5]>,
}

const HEADER: [&str; 5] = ["rule", "who", "may reach", "action", "notes"];

/// The lists in files that the destinations above come from.
fn lists<'l>(lists: impl Iterator<Item = &'l List>) -> Option<Section> {
    let rows: Vec<[String; 5]> = lists
        .map(|list| {
            [
                list.destination.clone(),
                list.file.clone(),
                list.date.clone(),
                list.entries.to_string(),
                list.sha256.clone(),
            ]
        })
        .collect();
    (!rows.is_empty()).then(|| Section {
        title: "Lists".to_owned(),
        note: "Destinations that stand in files of their own, as they were reviewed.".to_owned(),
        header: ["destination", "file", "of", "entries", "SHA-256"],
        rows,
    })
}

fn sections(policy: &Policy) -> Vec<Section> {
    let mut all: Vec<Section> = policy
        .tiers
        .iter()
        .map(|tier| Section {
            title: format!("{}/{}", policy.head.name, tier.name),
            note: match (tier.mode, tier.default) {
                (Mode::Shadow, _) => "In shadow: reported, not enforced.".to_owned(),
                (Mode::Enforce, TierDefault::Deny) => "What no rule matches is denied.".to_owned(),
                (Mode::Enforce, TierDefault::Pass) => {
                    "What no rule matches goes on to the next tier.".to_owned()
                }
            },
            header: HEADER,
            rows: tier.rules.iter().map(row).collect(),
        })
        .collect();
    let default = match policy.head.default {
        DefaultAction::Deny => "denied",
        DefaultAction::Accept => "accepted",
    };
    all.push(Section {
        title: format!("{}: everything else", policy.head.name),
        note: format!("What no tier decides is {default}."),
        header: HEADER,
        rows: Vec::new(),
    });
    all
}

fn row(rule: &Rule) -> [String; 5] {
    let who = match &rule.from {
        From::Anyone => "anyone".to_owned(),
        From::AnyWorkload => "every workload with an identity".to_owned(),
        From::Sources(sources) => join(sources.iter().map(source), " or "),
    };
    let to = if rule.to.is_empty() {
        "anywhere".to_owned()
    } else {
        join(rule.to.iter().map(destination), " or ")
    };
    let mut notes = Vec::new();
    if rule.mode == Mode::Shadow {
        notes.push("shadow".to_owned());
    }
    notes.extend(rule.expires.map(|end| format!("until {}", time_text(end))));
    notes.extend(rule.owner.iter().map(|owner| format!("owner {owner}")));
    notes.extend(rule.reason.clone());
    notes.extend(rule.ticket.clone());
    let action = rule.action.as_str().to_owned();
    [rule.name.clone(), who, to, action, notes.join("; ")]
}

fn join(parts: impl Iterator<Item = String>, by: &str) -> String {
    parts.collect::<Vec<_>>().join(by)
}

fn source(source: &Source) -> String {
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

fn destination(to: &To) -> String {
    let mut parts = vec![match &to.hosts {
        Hosts::Anywhere => "anywhere".to_owned(),
        Hosts::Names(patterns) => join(patterns.iter().map(ToString::to_string), ", "),
        Hosts::Networks(networks) => {
            let mut text = join(networks.networks.iter().map(ToString::to_string), ", ");
            if !networks.except.is_empty() {
                let except = join(networks.except.iter().map(ToString::to_string), ", ");
                text = format!("{text} except {except}");
            }
            text
        }
    }];
    if !to.ports.is_any() {
        parts.push(format!("port {}", to.ports));
    }
    let protocols = join(to.protocols.iter().map(|p| p.as_str().to_owned()), ", ");
    for (title, text) in [
        ("", protocols),
        ("methods ", to.methods.join(", ")),
        (
            "paths ",
            join(to.paths.iter().map(ToString::to_string), ", "),
        ),
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

fn markdown(sections: &[Section]) -> String {
    let mut lines = vec!["# Who may reach what".to_owned()];
    for section in sections {
        lines.push(format!("\n## {}\n\n{}", section.title, section.note));
        if section.rows.is_empty() {
            continue;
        }
        lines.push(format!(
            "\n| {} |\n|{}",
            section.header.join(" | "),
            "---|".repeat(section.header.len())
        ));
        for row in &section.rows {
            let cells: Vec<String> = row.iter().map(|cell| markdown_text(cell)).collect();
            lines.push(format!("| {} |", cells.join(" | ")));
        }
    }
    lines.push(String::new());
    lines.join("\n")
}

/// Whatever an author wrote, as text: no markup of it becomes markup of the page.
fn markdown_text(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' => escaped.push(' '),
            '<' => escaped.push_str("&lt;"),
            '&' => escaped.push_str("&amp;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' | '!' => {
                escaped.push('\\');
                escaped.push(c);
            }
            _ => escaped.push(c),
        }
    }
    escaped
}

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:80rem;margin:2rem auto;padding:0 1rem}\
table{border-collapse:collapse;width:100%}th,td{border:1px solid #bbb;padding:.3rem .6rem;text-align:left;vertical-align:top}\
th{background:#f2f2f2}";

fn html(sections: &[Section]) -> String {
    let mut lines = vec![format!(
        "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>Who may reach what</title><style>{STYLE}</style></head>\n<body>\n<h1>Who may reach what</h1>"
    )];
    for section in sections {
        lines.push(format!(
            "<h2>{}</h2>\n<p>{}</p>",
            html_text(&section.title),
            html_text(&section.note)
        ));
        if section.rows.is_empty() {
            continue;
        }
        let header: Vec<String> = section
            .header
            .iter()
            .map(|title| format!("<th>{title}</th>"))
            .collect();
        lines.push(format!("<table>\n<tr>{}</tr>", header.concat()));
        for row in &section.rows {
            let cells: Vec<String> = row
                .iter()
                .map(|cell| format!("<td>{}</td>", html_text(cell)))
                .collect();
            lines.push(format!("<tr>{}</tr>", cells.concat()));
        }
        lines.push("</table>".to_owned());
    }
    lines.push("</body>\n</html>\n".to_owned());
    lines.join("\n")
}

fn html_text(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
