//! `warden revoke`: everything denied to one workload, at the front of a policy.

use std::fmt::Write as _;
use std::sync::Arc;

use egress_policy::model::{Policy, REVOKED_TIER};
use schemars::JsonSchema;
use serde::Serialize;

use crate::Console;
use crate::exit::{Exit, Failure};
use egress_analysis::bundle;
use egress_analysis::diagnostic::{Diagnostic, has_errors};
use egress_analysis::document::{Documents, Node, Source};
use egress_analysis::lists::Folder;

use crate::output::{Output, PLAIN, Report};
use crate::sources::{self, Disk};

/// Deny everything to one workload, in front of all other rules of a policy.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The policy's text is changed and nothing else: comments, order and layout stay. A revocation does not
expire, because its end would open; --review says by when somebody has to look at it.

Example:
  warden revoke app1-ns/app1 --owner soc --reason 'stolen key' --ticket INC-7 --write policy.yaml
  warden render --install install.yaml policy.yaml | kubectl apply --server-side -f -")]
pub(crate) struct Revoke {
    /// The workload: NAMESPACE/SERVICE-ACCOUNT.
    #[arg(value_name = "NAMESPACE/ACCOUNT")]
    workload: String,
    /// Who decided it.
    #[arg(long)]
    owner: String,
    /// Why.
    #[arg(long)]
    reason: String,
    /// Where it is tracked.
    #[arg(long)]
    ticket: Option<String>,
    /// The day by which somebody has to look at it, such as 2026-12-24.
    #[arg(long, value_name = "DAY")]
    review: Option<String>,
    /// Change the file instead of printing the changed text.
    #[arg(long)]
    write: bool,
    /// How to write it: `json` has the rule beside the changed text.
    #[arg(long, value_parser = Output::among(&PLAIN), default_value = "human")]
    pub(super) output: Output,
    /// The policy that stands first; `-` is standard input.
    #[arg(value_name = "FILE")]
    file: String,
}

impl Revoke {
    pub(crate) fn run(self, console: &mut Console<'_>) -> Result<Exit, Failure> {
        let Some((namespace, account)) = self.workload.split_once('/') else {
            return Err(Failure::new(format!("`{}` is no workload", self.workload))
                .with_hint("write NAMESPACE/SERVICE-ACCOUNT"));
        };
        let source = sources::read_one(&self.file, console)?;
        let disk = Disk(console.directory);
        let folder = Folder::of(source.name(), &disk);
        let text = self.changed(source, &folder)?;
        let write = self.write && self.file != "-";
        if write {
            let path = console.directory.join(&self.file);
            std::fs::write(path, &text)
                .map_err(|error| Failure::new(format!("`{}`: {error}", self.file)))?;
        }
        let report = RevokeReport {
            workload: self.workload.clone(),
            rule: format!("{REVOKED_TIER}/{}", self.rule_name()),
            text: (!write).then_some(text),
        };
        self.output.write(&report, console)?;
        writeln!(
            console.stderr,
            "{} is denied everything once this policy is rendered and applied. Its running streams end \
             within about three seconds after that, at their next byte; with \
             `gateway.recheckOnUpdate: false` in the install settings they end after \
             `gateway.maxStreamSeconds`.\nTo end them now, and what its node lets out \
             by itself (UDP rules):\n  kubectl -n {namespace} delete pod --field-selector \
             spec.serviceAccountName={account}",
            self.workload
        )?;
        Ok(Exit::Ok)
    }

    /// The policy's text with one more rule, which is read again before it is believed.
    fn changed(&self, source: Source, folder: &Folder<'_>) -> Result<String, Failure> {
        let source = Arc::new(source);
        let before = parse(&source, folder)?;
        let roots: Vec<_> = before.roots().collect();
        let [root] = roots.as_slice() else {
            let message = format!("`{}` is not one policy", source.name());
            let hint = "give the file of the policy that stands first";
            let error = Diagnostic::foreign_file(&source, message, hint);
            return Err(Failure::of_files(vec![error]));
        };
        let old = policy(*root)?;
        let name = self.rule_name();
        let tiers = root.field("spec").and_then(|spec| spec.field("tiers"));
        let first = tiers.and_then(|tiers| tiers.items().next());
        let first = first.ok_or_else(|| Failure::new("the policy has no tiers"))?;
        let reuse = old
            .tiers
            .first()
            .is_some_and(|tier| &*tier.name == REVOKED_TIER);
        let known = old.tiers.first().into_iter().flat_map(|tier| &tier.rules);
        if reuse && known.into_iter().any(|rule| *rule.name == *name) {
            return Err(Failure::new(format!(
                "`{}` is revoked already",
                self.workload
            )));
        }
        let (at, lines) = if reuse {
            let rule = first.field("rules").and_then(|rules| rules.items().next());
            let rule = rule.ok_or_else(|| Failure::new("the tier `revoked` has no rules"))?;
            (insertion(rule)?, self.rule(&name))
        } else {
            let mut lines = vec![format!("- name: {REVOKED_TIER}"), "  rules:".to_owned()];
            lines.extend(self.rule(&name).iter().map(|line| format!("  {line}")));
            (insertion(first)?, lines)
        };
        let (at, indent) = at;
        let mut text = source.text().to_owned();
        let mut added = String::new();
        for line in &lines {
            // Writing to a String does not fail.
            let _ = writeln!(added, "{indent}{line}");
        }
        text.insert_str(at, &added);
        let after = parse(&Arc::new(Source::new(source.name(), text.as_str())), folder)?;
        let root = after.roots().next();
        let new = root.ok_or_else(|| Failure::new("the changed policy cannot be read"))?;
        let new = policy(new).map_err(|failure| Failure::new(failure.to_string()))?;
        let count =
            |policy: &Policy| -> usize { policy.tiers.iter().map(|tier| tier.rules.len()).sum() };
        if count(&new) == count(&old) + 1 {
            Ok(text)
        } else {
            Err(
                Failure::new("the rule does not fit into this file's layout")
                    .with_hint("write one tier a line, each beginning with `- `"),
            )
        }
    }

    fn rule(&self, name: &str) -> Vec<String> {
        // A JSON text is a YAML text in double quotes.
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let reason = match &self.review {
            Some(day) => format!("{} (review by {day})", self.reason),
            None => self.reason.clone(),
        };
        let mut lines = vec![
            format!("- name: {name}"),
            format!(
                "  from: [{{serviceAccounts: [{}]}}]",
                quoted(&self.workload)
            ),
            "  action: Deny".to_owned(),
            format!("  owner: {}", quoted(&self.owner)),
            format!("  reason: {}", quoted(&reason)),
        ];
        if let Some(ticket) = &self.ticket {
            lines.push(format!("  ticket: {}", quoted(ticket)));
        }
        lines
    }

    /// A rule's name holds 63 letters, digits and dashes.
    fn rule_name(&self) -> String {
        let fits = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit();
        let letters = self.workload.chars().take(63);
        letters
            .map(|letter| if fits(letter) { letter } else { '-' })
            .collect()
    }
}

/// Everything denied to a workload.
#[derive(Serialize, JsonSchema)]
pub(crate) struct RevokeReport {
    /// Namespace and service account.
    workload: String,
    /// Tier and name of the new rule.
    rule: String,
    /// The changed policy; null where the file was changed.
    text: Option<String>,
}

impl Report for RevokeReport {
    fn human(&self, console: &mut Console<'_>) -> Result<(), Failure> {
        let text = self.text.as_deref().unwrap_or_default();
        Ok(write!(console.stdout, "{text}")?)
    }
}

/// Where a line goes in front of an item of a block list, and how far it is indented.
fn insertion(item: Node<'_>) -> Result<(usize, String), Failure> {
    let text = item.source().text();
    let at = item.span().start;
    let start = text.get(..at).and_then(|before| before.rfind('\n'));
    let start = start.map_or(0, |newline| newline + 1);
    let before = text.get(start..at).unwrap_or_default();
    let dash = before.trim_end();
    match dash.strip_suffix('-') {
        Some(indent) if indent.trim().is_empty() => Ok((start, indent.to_owned())),
        _ => Err(Failure::new("tiers and rules are written in one line")
            .with_hint("write one a line, each beginning with `- `")),
    }
}

/// The documents with the policies' lists written out.
fn parse(source: &Arc<Source>, folder: &Folder<'_>) -> Result<Documents, Failure> {
    let mut documents = bundle::parse(source).map_err(Failure::of_files)?;
    let mut found = Vec::new();
    bundle::expand(&mut documents, folder, &mut found);
    if has_errors(&found) {
        return Err(Failure::of_files(found));
    }
    Ok(documents)
}

fn policy(root: Node<'_>) -> Result<Policy, Failure> {
    Policy::read(&root).map_err(|defects| {
        let defects = defects.iter();
        let defects = defects.map(|defect| Diagnostic::of_defect(defect, root));
        Failure::of_files(defects.collect())
    })
}
