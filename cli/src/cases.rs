//! Case files with their policies, for the commands that put cases to the engine.

use std::sync::Arc;

use egress_policy::PolicySet;
use egress_policy::case::{Case, CaseFile, PolicyRef};

use crate::Console;
use crate::exit::Failure;
use egress_analysis::bundle::{PolicyBundle, PolicySource, Reader, inline_policies, parse};
use egress_analysis::carriage::Mesh;
use egress_analysis::diagnostic::{Diagnostic, Location};
use egress_analysis::document::{self, Documents, Source};
use egress_analysis::lists::{self, Folder};

use crate::sources::{Disk, read_into};

/// A case file, read, with its policies.
pub(crate) struct Ready {
    pub(crate) source: Arc<Source>,
    pub(crate) file: CaseFile,
    pub(crate) bundle: PolicyBundle,
    pub(crate) set: PolicySet,
    documents: Arc<Documents>,
}

impl Ready {
    /// Where a case stands, by its number.
    pub(crate) fn location(&self, case: usize) -> Location {
        let root = self.documents.roots().next();
        let cases = root.and_then(|root| root.field("cases"));
        let case = cases.and_then(|cases| cases.items().nth(case));
        case.map_or_else(
            || Location {
                source: Arc::clone(&self.source),
                span: 0..0,
            },
            Location::from,
        )
    }

    /// A case by its name, or the only one.
    pub(crate) fn find(&self, name: Option<&str>) -> Result<&Case, Failure> {
        let cases = &self.file.cases;
        let found = match name {
            Some(name) => cases.iter().find(|case| case.name == name),
            None if cases.len() > 1 => {
                return Err(Failure::new("the file holds several cases")
                    .with_hint("choose one with --case-name"));
            }
            None => cases.first(),
        };
        found
            .ok_or_else(|| Failure::new(format!("no case is named `{}`", name.unwrap_or_default())))
    }
}

/// What is wrong inside files, if anything.
pub(crate) type Checked<T> = Result<T, Vec<Diagnostic>>;

/// Reads a case file and the policies that it names; `None` if it is no case file at all.
///
/// # Errors
/// A file that cannot be read.
pub(crate) fn read_cases(
    source: Source,
    install: Option<&str>,
    console: &mut Console<'_>,
) -> Result<Checked<Option<Ready>>, Failure> {
    let source = Arc::new(source);
    let mut documents = match parse(&source) {
        Ok(documents) => documents,
        Err(found) => return Ok(Err(found)),
    };
    let is_case_file = |root: document::Node<'_>| root.field("cases").is_some();
    if !documents.roots().next().is_some_and(is_case_file) {
        return Ok(Ok(None));
    }
    let disk = Disk(console.directory);
    let folder = Folder::of(source.name(), &disk);
    let mut found = Vec::new();
    let mut lists = Vec::new();
    for policy in inline(&documents) {
        lists.push(lists::expand(&mut documents, policy, &folder, &mut found));
    }
    let documents = Arc::new(documents);
    let Some(root) = documents.roots().next() else {
        return Ok(Ok(None));
    };
    let mut file = match CaseFile::read(&root) {
        Ok(file) if found.is_empty() => file,
        Ok(_) => return Ok(Err(found)),
        Err(defects) => {
            let defects = defects.iter();
            found.extend(defects.map(|defect| Diagnostic::of_defect(defect, root)));
            return Ok(Err(found));
        }
    };
    let mut reader = Reader::new(&disk);
    if let Some(install) = install {
        read_into(&mut reader, install, console)?;
    }
    let mut inline = inline(&documents).into_iter().zip(lists);
    for policy in &file.policies {
        match policy {
            PolicyRef::Path(path) => read_into(&mut reader, &folder.shown(path), console)?,
            PolicyRef::Inline(_) => {
                if let Some((root, lists)) = inline.next() {
                    reader.read_unit(PolicySource::new(&documents, root, lists));
                }
            }
        }
    }
    let loaded = reader.finish();
    if loaded.has_errors() {
        return Ok(Err(loaded.diagnostics));
    }
    let together = PolicyBundle::new(source.name());
    let mut bundle = loaded
        .bundles
        .into_iter()
        .fold(together, PolicyBundle::joined);
    bundle.settings = file.gateway.settings;
    if bundle.inspection.is_none() || !file.gateway.inspection.is_empty() {
        let names = file
            .gateway
            .inspection
            .iter()
            .map(|proxy| proxy.name.clone());
        bundle.inspection = Some(names.collect());
    }
    let mesh = Mesh::of(&bundle);
    let steps = file.cases.iter_mut().flat_map(|case| &mut case.steps);
    steps.for_each(|step| mesh.carry_target(&mut step.input.to));
    Ok(match bundle.compile() {
        Ok(set) => Ok(Some(Ready {
            source,
            file,
            bundle,
            set,
            documents,
        })),
        Err(found) => Err(found),
    })
}

/// The policies that are written out in a case file.
fn inline(documents: &Documents) -> Vec<u32> {
    let roots = documents.roots().take(1);
    let policies = roots.flat_map(inline_policies);
    policies.map(document::Node::id).collect()
}

/// A file that was named as one of cases, and is none, by its first line.
pub(crate) fn no_case_file(name: &str, first_line: &str) -> Failure {
    let source = Arc::new(Source::new(name, first_line));
    let message = format!("`{name}` is no case file");
    let hint = "a case file has `policies` and `cases`";
    Failure::of_files(vec![Diagnostic::foreign_file(&source, message, hint)])
}

/// What is shown of a file that is none of cases.
pub(crate) fn first_line(source: &Source) -> String {
    source.text().lines().next().unwrap_or_default().to_owned()
}
