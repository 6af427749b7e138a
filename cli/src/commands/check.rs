//! `warden check`: everything that is wrong, at once.

use std::collections::BTreeSet;

use egress_policy::classes::{Classes, TooManyClasses};
use schemars::JsonSchema;
use serde::Serialize;

use crate::Console;
use crate::exit::{Exit, Failure};
use crate::output::{ANNOTATED, Output, Report};
use crate::progress::Progress;
use crate::report;
use crate::sources::load_any;
use egress_analysis::bundle::{LoadResult, PassedOver, PolicyBundle, PolicySource};
use egress_analysis::diagnostic::{Diagnostic, Location, Severity};
use egress_analysis::document::Node;
use egress_analysis::lint::{ERRORS, Lint, LintContext, lint, port_conflicts};
use egress_analysis::lists::List;

/// Most diagnostics that are drawn for people.
const MAX_SHOWN: usize = 200;
/// Most files that are named as passed over.
const MAX_FILES: usize = 5;

/// Check policies: all defects at once, each with its line and a hint.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  warden check policy.yaml
  warden check install.yaml --strict
  warden check --explain labels_alone
  warden check platform.yaml teams/
  kubectl get wasmplugin warden-http -o json | warden check -")]
pub(crate) struct Check {
    #[command(flatten)]
    inputs: CheckInputs,
    /// Say more about a code, such as `labels_alone`.
    #[arg(long, value_name = "CODE", exclusive = true)]
    explain: Option<String>,
    /// Check every file on its own: do not layer them.
    #[arg(long)]
    each: bool,
    /// Treat warnings as errors.
    #[arg(long)]
    strict: bool,
    /// A network of the cluster's own, which no rule sees, beside those of the install settings
    /// (repeatable).
    #[arg(long, value_name = "CIDR")]
    cluster_network: Vec<ipnet::IpNet>,
    /// How to write the result.
    #[arg(long, value_parser = Output::among(&ANNOTATED), default_value = "human")]
    pub(super) output: Output,
}

/// The files; not required where `--explain` stands alone.
#[derive(Debug, clap::Args)]
struct CheckInputs {
    /// Policies in order, the security team's first: YAML or JSON files, directories, WasmPlugin
    /// manifests, install settings, or `-` for standard input.
    #[arg(value_name = "FILE", required_unless_present = "explain")]
    files: Vec<String>,
}

impl Check {
    pub(crate) fn run(self, console: &mut Console<'_>) -> Result<Exit, Failure> {
        if let Some(code) = &self.explain {
            return explain(code, console);
        }
        let clock = Progress::start("checking");
        let mut loaded = LoadResult::default();
        if self.each {
            for file in &self.inputs.files {
                loaded.append(load_any(std::slice::from_ref(file), console)?);
            }
        } else {
            loaded = load_any(&self.inputs.files, console)?;
        }
        loaded.require_anything();
        clock.report(console, "files read");
        let is_partial = loaded.has_errors();
        let surroundings = LintContext {
            now: console.now,
            cluster_networks: self.cluster_network.clone(),
            are_all: false,
            is_partial,
        };
        let mut found = Vec::new();
        for bundle in &loaded.bundles {
            // Of half of the policies nothing can be said that rests on all.
            if !self.each && !is_partial {
                found.extend(bundle.compile().err().unwrap_or_default());
                found.extend(port_conflicts(bundle));
                if let Err(error) = Classes::of(&bundle.policies) {
                    found.extend(too_many(&error, bundle));
                }
            }
            clock.report(console, "policies compiled");
            found.extend(lint(bundle, &surroundings));
            clock.report(console, "rules compared");
        }
        for rest in &loaded.rest {
            found.extend(lint(rest, &surroundings));
        }
        loaded.diagnostics.append(&mut found);
        loaded.sort();
        let report = CheckReport::of(&loaded);
        self.output.write(&report, console)?;
        clock.finish(console);
        let fine = report.errors == 0 && (report.warnings == 0 || !self.strict);
        Ok(if fine { Exit::Ok } else { Exit::Defects })
    }
}

/// Everything that is wrong or doubtful.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CheckReport<'l> {
    /// Files read.
    files: usize,
    /// Documents read in them.
    documents: usize,
    /// Policies among them.
    policies: usize,
    /// Rules in these.
    rules: usize,
    /// Names and patterns of names as they are written in policies and lists.
    names: usize,
    /// Networks, likewise.
    networks: usize,
    /// Decision cases whose form was checked.
    cases: usize,
    /// Diagnostics that refuse a policy.
    errors: usize,
    /// Diagnostics that do not.
    warnings: usize,
    /// The lists in files that policies take destinations from.
    lists: Vec<&'l List>,
    /// Documents that nothing was read from.
    passed_over: &'l [PassedOver],
    /// In the order of files and lines.
    diagnostics: &'l [Diagnostic],
}

impl<'l> CheckReport<'l> {
    fn of(loaded: &'l LoadResult) -> Self {
        let bundles = || loaded.bundles.iter().chain(&loaded.rest);
        let policies = || bundles().flat_map(|bundle| &bundle.policies);
        let tiers = policies().flat_map(|policy| &policy.tiers);
        let count = |severity| {
            let of = |d: &&Diagnostic| d.severity == severity;
            loaded.diagnostics.iter().filter(of).count()
        };
        let roots = || {
            bundles()
                .flat_map(|bundle| &bundle.sources)
                .map(PolicySource::root)
        };
        Self {
            files: loaded.files,
            documents: loaded.documents,
            policies: policies().count(),
            rules: tiers.map(|tier| tier.rules.len()).sum(),
            names: roots().map(|root| entries(root, "domainNames")).sum(),
            networks: roots().map(|root| entries(root, "networks")).sum(),
            cases: loaded.cases,
            errors: count(Severity::Error),
            warnings: count(Severity::Warning),
            lists: bundles().flat_map(PolicyBundle::lists).collect(),
            passed_over: &loaded.passed_over,
            diagnostics: &loaded.diagnostics,
        }
    }

    fn summary(&self) -> String {
        let always = [
            (self.files, "file"),
            (self.policies, "policy"),
            (self.rules, "rule"),
        ];
        let present = [
            (self.names, "name"),
            (self.networks, "network"),
            (self.cases, "case"),
        ];
        let present = present.into_iter().filter(|(count, _)| *count > 0);
        let read = always.into_iter().chain(present);
        let read: Vec<_> = read.map(|(count, noun)| plural(count, noun)).collect();
        format!(
            "{}: {}, {}",
            read.join(", "),
            plural(self.errors, "error"),
            plural(self.warnings, "warning")
        )
    }

    /// Each file with what was passed over in it.
    fn passed_over(&self) -> Option<String> {
        let mut files: Vec<(&str, Vec<&str>)> = Vec::new();
        for one in self.passed_over {
            let kind = one.kind.as_deref();
            match files.last_mut() {
                Some((file, kinds)) if *file == one.file => kinds.extend(kind),
                _ => files.push((&one.file, kind.into_iter().collect())),
            }
        }
        let more = files.len().saturating_sub(MAX_FILES);
        let told = files.iter().take(MAX_FILES).map(|(file, kinds)| {
            let kinds: BTreeSet<_> = kinds.iter().copied().collect();
            let kinds: Vec<_> = kinds.into_iter().collect();
            match kinds.as_slice() {
                [] => (*file).to_owned(),
                kinds => format!("{file} ({})", kinds.join(", ")),
            }
        });
        let told: Vec<String> = told.collect();
        let more = match more {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let told = told.join(", ");
        (!files.is_empty())
            .then(|| format!("passed over, for there is no policy, settings or case: {told}{more}"))
    }
}

impl Report for CheckReport<'_> {
    fn human(&self, console: &mut Console<'_>) -> Result<(), Failure> {
        for diagnostic in self.diagnostics.iter().take(MAX_SHOWN) {
            let drawn = report::human(diagnostic, console.color);
            writeln!(console.stdout, "{drawn}\n")?;
        }
        let hidden = self.diagnostics.len().saturating_sub(MAX_SHOWN);
        if hidden > 0 {
            writeln!(console.stdout, "... and {hidden} more\n")?;
        }
        for list in &self.lists {
            writeln!(console.stdout, "{list}")?;
        }
        if let Some(passed_over) = self.passed_over() {
            writeln!(console.stdout, "{passed_over}")?;
        }
        Ok(writeln!(console.stdout, "{}", self.summary())?)
    }

    fn github(&self, console: &mut Console<'_>) -> Result<(), Failure> {
        for diagnostic in self.diagnostics {
            writeln!(console.stdout, "{}", report::github(diagnostic))?;
        }
        Ok(writeln!(console.stdout, "{}", self.summary())?)
    }
}

/// The entries of every list of this name in a document.
fn entries(node: Node<'_>, list: &str) -> usize {
    let of_fields = node.fields().map(|(key, value)| {
        if key.text() == Some(list) {
            value.items().count()
        } else {
            entries(value, list)
        }
    });
    of_fields.sum::<usize>() + node.items().map(|item| entries(item, list)).sum::<usize>()
}

/// More classes of addresses than one gateway can have, at the first policy.
fn too_many(error: &TooManyClasses, bundle: &PolicyBundle) -> Option<Diagnostic> {
    let unit = bundle.sources.first()?;
    let root = unit.root();
    Some(Diagnostic {
        severity: Severity::Error,
        code: "too_many_classes",
        message: error.to_string(),
        hint: Some("deny these networks for everybody, before the rules that accept".to_owned()),
        location: Some(Location {
            source: std::sync::Arc::clone(root.source()),
            span: root.first_line(),
        }),
        path: String::new(),
        related: Vec::new(),
    })
}

/// Says more about a code.
fn explain(code: &str, console: &mut Console<'_>) -> Result<Exit, Failure> {
    if let Some(lint) = Lint::ALL.into_iter().find(|lint| lint.code() == code) {
        let (severity, hint) = (lint.severity().as_str(), lint.hint());
        let explanation = lint.explanation();
        writeln!(console.stdout, "{code} ({severity})\n\n{explanation}\n")?;
        writeln!(console.stdout, "What to do: {hint}.")?;
        return Ok(Exit::Ok);
    }
    if let Some((_, explanation)) = ERRORS.iter().find(|(known, _)| *known == code) {
        writeln!(console.stdout, "{code} (error)\n\n{explanation}")?;
        return Ok(Exit::Ok);
    }
    let lints = Lint::ALL.iter().map(|lint| lint.code());
    let known: Vec<&str> = lints.chain(ERRORS.iter().map(|(code, _)| *code)).collect();
    let near = known
        .iter()
        .min_by_key(|known| strsim::damerau_levenshtein(known, code))
        .filter(|known| strsim::damerau_levenshtein(known, code) <= 3);
    let hint = near.map_or_else(
        || format!("one of {}", known.join(", ")),
        |near| format!("did you mean `{near}`?"),
    );
    Err(Failure::new(format!("unknown code `{code}`")).with_hint(hint))
}

/// A count and its noun.
fn plural(count: usize, noun: &str) -> String {
    match (count, noun.strip_suffix('y')) {
        (1, _) => format!("1 {noun}"),
        (_, Some(stem)) => format!("{count} {stem}ies"),
        (_, None) => format!("{count} {noun}s"),
    }
}
