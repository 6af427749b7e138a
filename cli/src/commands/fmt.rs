//! `warden fmt`: names in their normal form, lines in order; comments and layout stay.

use std::sync::Arc;

use egress_policy::model::Policy;
use egress_policy::name::NamePattern;
use egress_policy::read::KINDS;
use schemars::JsonSchema;
use serde::Serialize;

use crate::Console;
use crate::exit::{Exit, Failure};
use egress_analysis::bundle::{self, names_us, parse_strictly};
use egress_analysis::diagnostic::Diagnostic;
use egress_analysis::document::{Documents, Node, Source, to_a_labels};
use egress_analysis::lists::Folder;

use crate::output::{Output, PLAIN, Report};
use crate::progress::Progress;
use crate::report;
use crate::sources::{self, Disk};

/// Format policy files in place: host names in their normal form (lower case, A-labels for Unicode
/// names, no trailing dot), no trailing white space, line feeds, one at the end. Comments, order
/// and layout stay; the meaning is compared before and after.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  warden fmt policy.yaml
  warden fmt --check policy.yaml teams/
  warden fmt - < policy.yaml")]
pub(crate) struct Fmt {
    /// Files, directories (the policies in them), or `-` to write the result to standard output.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<String>,
    /// Change nothing; exit 3 if something would change.
    #[arg(long)]
    check: bool,
    /// How to write which files changed. With `json` the text of `-` is not written.
    #[arg(long, value_parser = Output::among(&PLAIN), default_value = "human")]
    pub(super) output: Output,
}

impl Fmt {
    pub(crate) fn run(self, console: &mut Console<'_>) -> Result<Exit, Failure> {
        let clock = Progress::start("formatting");
        let mut report = FmtReport::default();
        let done = self.format(&mut report, &clock, console);
        clock.finish(console);
        // Files that were changed before another one failed are told, too.
        if done.is_ok() || !report.files.is_empty() {
            self.output.write(&report, console)?;
        }
        done?;
        let changed = report.files.iter().any(|file| file.changed);
        let is_fine = report.diagnostics.is_empty() && !(self.check && changed);
        Ok(if is_fine { Exit::Ok } else { Exit::Defects })
    }

    fn format(
        &self,
        report: &mut FmtReport,
        clock: &Progress,
        console: &mut Console<'_>,
    ) -> Result<(), Failure> {
        for argument in &self.files {
            let folder = argument != "-" && console.directory.join(argument).is_dir();
            for source in sources::read_sources(argument, console)? {
                // A folder may hold manifests of others beside the policies.
                if folder && !holds_policy(&source) {
                    continue;
                }
                match self.one(argument == "-", source, console) {
                    Ok(file) => {
                        clock.report(console, &file.file);
                        report.files.push(file);
                    }
                    Err(failure) if failure.diagnostics().is_empty() => return Err(failure),
                    // The others can be formatted all the same.
                    Err(failure) => report.diagnostics.extend_from_slice(failure.diagnostics()),
                }
            }
        }
        Ok(())
    }

    /// Formats one text.
    fn one(
        &self,
        stdin: bool,
        source: Source,
        console: &Console<'_>,
    ) -> Result<Formatted, Failure> {
        let disk = Disk(console.directory);
        let folder = Folder::of(source.name(), &disk);
        let (before, name) = (source.text().to_owned(), source.name().to_owned());
        let formatted = format(source, &folder)?;
        let changed = formatted != before;
        let said = if stdin && !self.check {
            formatted
        } else if changed && self.check {
            format!("{name} is not formatted\n")
        } else if changed {
            let path = console.directory.join(&name);
            std::fs::write(path, formatted)
                .map_err(|error| Failure::new(format!("`{name}`: {error}")))?;
            format!("{name} formatted\n")
        } else {
            String::new()
        };
        Ok(Formatted {
            file: name,
            changed,
            said,
        })
    }
}

/// The files that were formatted.
#[derive(Default, Serialize, JsonSchema)]
pub(crate) struct FmtReport {
    /// Each file, in order.
    files: Vec<Formatted>,
    /// What keeps other files from being formatted.
    diagnostics: Vec<Diagnostic>,
}

/// A file.
#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
struct Formatted {
    /// As it was named, or `<stdin>`.
    file: String,
    /// It is, or with `--check` would be, another text.
    changed: bool,
    /// What is written for people.
    #[serde(skip)]
    said: String,
}

impl Report for FmtReport {
    fn human(&self, console: &mut Console<'_>) -> Result<(), Failure> {
        for file in &self.files {
            console.stdout.write_all(file.said.as_bytes())?;
        }
        let diagnostics = &self.diagnostics;
        report::Refusal { diagnostics }.human(console)
    }
}

/// Whether one of the documents is a policy, or would be if the text could be read.
fn holds_policy(source: &Source) -> bool {
    let source = Arc::new(Source::new(source.name(), source.text()));
    let Ok(documents) = parse_strictly(&source) else {
        return names_us(source.text());
    };
    let mut kinds = documents
        .roots()
        .filter_map(|root| root.field("kind")?.text());
    kinds.any(|kind| KINDS.contains(&kind))
}

/// The formatted text.
///
/// # Errors
/// The text is no YAML, or would mean something else.
fn format(source: Source, folder: &Folder<'_>) -> Result<String, Failure> {
    let source = Arc::new(source);
    let before = parse_strictly(&source).map_err(Failure::of_files)?;
    let mut edits: Vec<(std::ops::Range<usize>, String)> = Vec::new();
    for root in before.roots() {
        collect(root, &mut edits);
    }
    edits.sort_by_key(|(span, _)| span.start);
    edits.dedup();
    let mut text = source.text().to_owned();
    for (span, replacement) in edits.into_iter().rev() {
        if text.get(span.clone()).is_some() {
            text.replace_range(span, &replacement);
        }
    }
    let text = tidy(&text);
    let changed = Arc::new(Source::new(source.name(), text.as_str()));
    let after = parse_strictly(&changed).map_err(Failure::of_files)?;
    if meaning(before, folder) == meaning(after, folder) {
        Ok(text)
    } else {
        Err(Failure::new(format!(
            "`{}` cannot be formatted without changing what it means",
            source.name()
        ))
        .with_hint("white space inside a block text is part of it"))
    }
}

/// Replaces names by their normal form, quotes kept.
fn collect(node: Node<'_>, edits: &mut Vec<(std::ops::Range<usize>, String)>) {
    for item in node.items() {
        collect(item, edits);
    }
    for (key, value) in node.fields() {
        if key.text() == Some("domainNames") {
            edits.extend(value.items().filter_map(normal_form));
        } else {
            collect(value, edits);
        }
    }
}

fn normal_form(name: Node<'_>) -> Option<(std::ops::Range<usize>, String)> {
    let written = name.text()?;
    let pattern = NamePattern::parse(&to_a_labels(written)?).ok()?;
    let normal = pattern.to_string();
    if normal == written {
        return None;
    }
    let span = name.span();
    let spelt = name.source().text().get(span.clone())?;
    let replaced = spelt.replace(written, &normal);
    (replaced != spelt).then_some((span, replaced))
}

/// Line feeds, no white space at their ends, one at the end of the file.
fn tidy(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    let mut text = lines.join("\n");
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

/// What the documents say, names in their normal form.
fn meaning(documents: Documents, folder: &Folder<'_>) -> Vec<Result<Policy, String>> {
    let mut documents = documents.with_a_labels();
    // A list that cannot be read stands for the same on both sides.
    bundle::expand(&mut documents, folder, &mut Vec::new());
    documents
        .roots()
        .map(|root| Policy::read(&root).map_err(|_| plain(root)))
        .collect()
}

/// A document that is no policy, as it is.
fn plain(root: Node<'_>) -> String {
    egress_analysis::document::to_json(&root).unwrap_or_default()
}
