//! `warden docs`: who may reach what, as a page.

use std::collections::BTreeMap;

use egress_policy::facts::Fact;
use egress_policy::model::{DefaultAction, From, Mode, Policy, Rule, TierDefault};
use schemars::JsonSchema;
use serde::Serialize;

use crate::Console;
use crate::exit::{Exit, Failure};
use crate::output::{Output, PLAIN, Report};
use crate::progress::Progress;
use crate::sources::{Inputs, load};
use egress_analysis::bundle::PolicyBundle;
use egress_analysis::effective::{Answer, Effective, effective};
use egress_analysis::lint::never_decides;
use egress_analysis::lists::List;
use egress_analysis::owned_facts::time_text;
use egress_analysis::words::{source_words, to_words, workloads_words};

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
    pub(super) output: Output,
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
            return Err(Failure::of_files(loaded.diagnostics));
        }
        let mut sections = Vec::new();
        for bundle in &loaded.bundles {
            let set = match bundle.compile() {
                Ok(set) => set,
                Err(found) => return Err(Failure::of_files(found)),
            };
            let now = console.now.map_or(Fact::Missing, Fact::Known);
            let effective = effective(bundle, &set, now);
            let idle = idle(bundle, &effective);
            sections.push(effective_section(bundle, &effective));
            sections.extend(shadow_section(bundle, console.now));
            let policies = bundle.policies.iter();
            sections.extend(policies.flat_map(|policy| self::sections(policy, &idle)));
        }
        clock.report(console, "answers known");
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

/// What all the policies of one gateway come to.
fn effective_section(bundle: &PolicyBundle, effective: &Effective) -> Section {
    let more = match effective.left_out {
        0 => String::new(),
        more => format!(
            " There are {more} more kinds of workloads than can be asked about: `warden explain` answers \
             for each."
        ),
    };
    let note = if bundle.policies.is_empty() {
        "There is no policy, so everything is denied.".to_owned()
    } else {
        format!(
            "What the gateway answers, with all policies in force together: every policy that is for a \
             workload is asked, and the strictest answer holds. A narrower destination has a row of its \
             own.{more}"
        )
    };
    let rows = effective.groups.iter().flat_map(|group| {
        let who = group.who.join(" or ");
        group.answers.iter().map(move |answer| {
            let Answer {
                to,
                verdict,
                by,
                note,
            } = answer.clone();
            [who.clone(), to, verdict, by, note]
        })
    });
    Section {
        title: "What holds".to_owned(),
        note,
        header: ["who", "to", "answer", "by", "notes"],
        rows: rows.collect(),
    }
}

/// Workloads whose denials are only reported.
fn shadow_section(bundle: &PolicyBundle, now: Option<i64>) -> Option<Section> {
    let mut rows = Vec::new();
    for policy in &bundle.policies {
        for shadow in &policy.head.shadow_workloads {
            let over = now.is_some_and(|now| shadow.expires <= now);
            rows.push([
                policy.head.name.clone(),
                workloads_words(&shadow.workloads),
                time_text(shadow.expires),
                if over { "over" } else { "open" }.to_owned(),
                String::new(),
            ]);
        }
    }
    (!rows.is_empty()).then(|| Section {
        title: "Workloads in shadow".to_owned(),
        note: "What this policy denies them is reported and let through until then; other policies, and \
               addresses that no name may lead to, still hold."
            .to_owned(),
        header: ["policy", "who", "until", "state", "notes"],
        rows,
    })
}

/// A policy as it is written, with what becomes of its rules.
fn sections(policy: &Policy, idle: &Idle) -> Vec<Section> {
    let whom = match &policy.head.applies_to {
        Some(workloads) => format!(" Only for {} (`appliesTo`).", workloads_words(workloads)),
        None => String::new(),
    };
    let mut all: Vec<Section> = policy
        .tiers
        .iter()
        .map(|tier| {
            let note = match (tier.mode, tier.default) {
                (Mode::Shadow, _) => "In shadow: reported, not enforced.",
                (Mode::Enforce, TierDefault::Deny) => "What no rule matches is denied.",
                (Mode::Enforce, TierDefault::Pass) => {
                    "What no rule matches goes on to the next tier."
                }
            };
            let title = format!("{}/{}", policy.head.name, tier.name);
            let rows = tier.rules.iter().map(|rule| {
                let id = format!("{title}/{}", rule.name);
                row(rule, idle.get(&id).map_or(&[], Vec::as_slice))
            });
            Section {
                rows: rows.collect(),
                title: title.clone(),
                note: format!("{note}{whom}"),
                header: HEADER,
            }
        })
        .collect();
    let default = match policy.head.default {
        DefaultAction::Deny => "denied",
        DefaultAction::Accept => "accepted",
    };
    all.push(Section {
        title: format!("{}: everything else", policy.head.name),
        note: format!("What no tier decides is {default}.{whom}"),
        header: HEADER,
        rows: Vec::new(),
    });
    all
}

/// Rules that decide or open nothing, by `POLICY/TIER/RULE`, and why.
type Idle = BTreeMap<String, Vec<String>>;

fn idle(bundle: &PolicyBundle, effective: &Effective) -> Idle {
    let mut idle = Idle::new();
    for (id, why) in never_decides(bundle) {
        idle.entry(id).or_default().push(why);
    }
    for (id, why) in &effective.idle {
        let all = idle.entry(id.clone()).or_default();
        all.push(format!("lets nothing through: {why}"));
    }
    idle
}

fn row(rule: &Rule, idle: &[String]) -> [String; 5] {
    let who = match &rule.from {
        From::Anyone => "anyone".to_owned(),
        From::AnyWorkload => "every workload with an identity".to_owned(),
        From::Sources(sources) => join(sources.iter().map(source_words), " or "),
    };
    let to = if rule.to.is_empty() {
        "anywhere".to_owned()
    } else {
        join(rule.to.iter().map(|to| to_words(to, usize::MAX)), " or ")
    };
    let mut notes = idle.to_vec();
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
