//! Named destinations whose names and networks stand in a file of their own.
//!
//! `{file: partners.txt, sha256: ..., date: 2026-11-20, ports: [443]}` becomes the element that the
//! file writes out, before anything else reads the policy: the engine and the gateway read no
//! files. What was reviewed is the digest, so a list that has another one is an error.

mod text;
mod write;

use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use egress_policy::defect::DefectKind;
use schemars::JsonSchema;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::diagnostic::{Diagnostic, Location};
use crate::document::{self, Documents, Source};
use crate::files::Files;
use crate::owned_facts::parse_time;

use text::Entries;
use write::write_out;

/// Largest list that is read: some hundred thousand names.
pub const MAX_BYTES: u64 = 16 * 1024 * 1024;
/// The fields of a destination that say which list it is.
const FIELDS: [&str; 3] = ["file", "sha256", "date"];

/// The fields that name a destination otherwise.
const PLACES: [&str; 4] = ["domainNames", "networks", "except", "destination"];

/// The folder that a document's lists are read from.
pub struct Folder<'f> {
    shown: PathBuf,
    files: &'f dyn Files,
}

impl<'f> Folder<'f> {
    /// The folder of a file that messages call so.
    #[must_use]
    pub fn of(file: &str, files: &'f dyn Files) -> Self {
        let shown = Path::new(file).parent().unwrap_or(Path::new(""));
        Self {
            shown: shown.to_owned(),
            files,
        }
    }

    /// What messages call a file in it, and what [`Files`] finds it by.
    #[must_use]
    pub fn shown(&self, file: &str) -> String {
        self.shown.join(file).display().to_string()
    }
}

/// A list in a file, which a policy takes a destination from.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(rename = "list")]
pub struct List {
    /// The destination that takes it.
    pub destination: String,
    /// The file.
    pub file: String,
    /// The day on which it was taken, as the policy says.
    pub date: String,
    /// The digest of its bytes.
    pub sha256: String,
    /// Names and networks in it.
    pub entries: usize,
    /// The first second of the day on which it was taken.
    #[serde(skip)]
    pub taken: i64,
    /// Where the policy says the date.
    #[serde(skip)]
    pub place: Location,
    /// Addresses in it that became networks of one address.
    #[serde(skip)]
    pub bare: usize,
    /// Entries that were left out, for they stand in it before.
    #[serde(skip)]
    pub duplicates: usize,
}

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            destination,
            file,
            sha256,
            date,
            entries,
            taken: _,
            place: _,
            bare: _,
            duplicates: _,
        } = self;
        let short = sha256.get(..12).unwrap_or(sha256);
        let noun = if *entries == 1 { "entry" } else { "entries" };
        write!(
            f,
            "list {file} of {date}: {entries} {noun}, destination {destination}, sha256 {short}..."
        )
    }
}

/// A destination's element that is to be written out.
#[derive(Clone, Copy)]
struct Wanted {
    /// The destination's value: the element itself or the list that holds it.
    holder: u32,
    element: u32,
}

/// Writes out the lists of the policy at `root`. What keeps one from being read is noted, and then
/// the policy must not be used.
pub fn expand(
    documents: &mut Documents,
    root: u32,
    folder: &Folder<'_>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<List> {
    let mut lists = Vec::new();
    for (destination, wanted) in wanted(documents.place(root)) {
        let element = documents.place(wanted.element);
        // An alias may have led here before.
        let Some(file) = element.field("file") else {
            continue;
        };
        let before = diagnostics.len();
        let (entries, list) = read(element, file, &destination, folder, diagnostics).unzip();
        lists.extend(list.flatten().filter(|_| diagnostics.len() == before));
        // So that what else is wrong with the policy is found, and nothing that is not.
        let entries = entries.unwrap_or_else(Entries::stand_in);
        if write_out(documents, wanted, &entries).is_none() {
            let message = "this document has too many parts";
            let place = documents.place(root);
            diagnostics.push(error(DefectKind::Syntax, place, message, None));
        }
    }
    lists
}

fn wanted(root: document::Node<'_>) -> Vec<(String, Wanted)> {
    let spec = root.field("spec");
    let Some(destinations) = spec.and_then(|spec| spec.field("destinations")) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for (key, value) in destinations.fields() {
        let name = key.text().unwrap_or_default();
        for element in std::iter::once(value).chain(value.items()) {
            if element.field("file").is_some() {
                let (holder, element) = (value.id(), element.id());
                found.push((name.to_owned(), Wanted { holder, element }));
            }
        }
    }
    found
}

fn error(
    kind: DefectKind,
    place: document::Node<'_>,
    message: impl Into<String>,
    hint: Option<&str>,
) -> Diagnostic {
    Diagnostic::error(kind.as_str(), place, message, hint)
}

/// The entries of the list that an element names, if they can be read, and what is known of it.
fn read(
    element: document::Node<'_>,
    file: document::Node<'_>,
    destination: &str,
    folder: &Folder<'_>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<(Entries, Option<List>)> {
    check_fields(element, diagnostics);
    let source = read_file(file, folder, diagnostics);
    let date = read_date(element, diagnostics);
    let Some((source, sha256)) = source else {
        require_digest(element, None, diagnostics);
        return None;
    };
    check_digest(element, file, &sha256, diagnostics);
    let entries = Entries::of(source);
    if entries.is_empty() {
        let message = "this list names nothing";
        diagnostics.push(error(DefectKind::Empty, file, message, None));
        return None;
    }
    let list = date.map(|(date, taken)| List {
        destination: destination.to_owned(),
        file: entries.source.name().to_owned(),
        sha256,
        date: date.text().unwrap_or_default().to_owned(),
        taken,
        entries: entries.len(),
        place: date.into(),
        bare: entries.bare,
        duplicates: entries.duplicates,
    });
    Some((entries, list))
}

/// A list is the destination's whole name, and each field stands once.
fn check_fields(element: document::Node<'_>, diagnostics: &mut Vec<Diagnostic>) {
    let named = |name: &'static str| {
        element
            .fields()
            .filter(move |(key, _)| key.text() == Some(name))
    };
    for name in FIELDS {
        if let Some((key, _)) = named(name).nth(1) {
            let message = format!("`{name}` is given twice");
            diagnostics.push(error(DefectKind::DuplicateField, key, message, None));
        }
    }
    for name in PLACES {
        if let Some((key, _)) = named(name).next() {
            let message = format!("`{name}` stands beside `file`, which names the destination");
            let hint = "write two elements: elements are alternatives";
            diagnostics.push(error(DefectKind::Conflict, key, message, Some(hint)));
        }
    }
}

/// The list's text and its digest.
fn read_file(
    file: document::Node<'_>,
    folder: &Folder<'_>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<(Arc<Source>, String)> {
    let Some(name) = file.text() else {
        let message = "expected the name of a file";
        diagnostics.push(error(DefectKind::WrongType, file, message, None));
        return None;
    };
    if name.contains("://") {
        let message = format!("`{name}` is a URL, and no command fetches lists");
        let hint = "put what it serves into a file beside the policy, and review it";
        diagnostics.push(error(DefectKind::BadValue, file, message, Some(hint)));
        return None;
    }
    // A policy that is proposed by somebody else must not make a reviewer's machine print its files.
    let parts: Vec<Component<'_>> = Path::new(name).components().collect();
    if parts.is_empty()
        || !parts
            .iter()
            .all(|part| matches!(part, Component::Normal(_)))
    {
        let message = format!("`{name}` does not lie beside the policy or below it");
        let hint = "name it from the policy's folder on, without `..`";
        diagnostics.push(error(DefectKind::BadValue, file, message, Some(hint)));
        return None;
    }
    let shown = folder.shown(name);
    match folder.files.list(&shown) {
        Ok(bytes) => {
            let digest = format!("{:x}", Sha256::digest(&bytes));
            match String::from_utf8(bytes) {
                Ok(text) => Some((Arc::new(Source::new(shown, text)), digest)),
                Err(wrong) => {
                    let at = wrong.utf8_error().valid_up_to();
                    let message = format!("`{shown}` is not UTF-8 (byte {at})");
                    diagnostics.push(Diagnostic::error("list_unreadable", file, message, None));
                    None
                }
            }
        }
        Err(wrong) => {
            let message = format!("`{shown}`: {wrong}");
            let hint = "lists are read from the policy's folder on";
            diagnostics.push(Diagnostic::error(
                "list_unreadable",
                file,
                message,
                Some(hint),
            ));
            None
        }
    }
}

/// The place of the date, and its first second.
fn read_date<'d>(
    element: document::Node<'d>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<(document::Node<'d>, i64)> {
    let hint = "write the day on which the list was taken: `date: 2026-11-20`";
    let Some(date) = element.field("date") else {
        let message = "`date` is missing";
        diagnostics.push(error(
            DefectKind::MissingField,
            element,
            message,
            Some(hint),
        ));
        return None;
    };
    let text = date.text().unwrap_or_default();
    let taken = parse_time(&format!("{text}T00:00:00Z"))
        .ok()
        .and_then(egress_policy::facts::Fact::known);
    if taken.is_none() {
        let message = format!("`{text}` is no day");
        diagnostics.push(error(DefectKind::BadValue, date, message, Some(hint)));
    }
    Some((date, taken?))
}

/// The stated digest; the actual one goes into the hint.
fn require_digest<'d>(
    element: document::Node<'d>,
    actual: Option<&str>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<document::Node<'d>> {
    let stated = element.field("sha256");
    if stated.is_none() {
        let digest = actual.unwrap_or("DIGEST");
        let hint = format!("review the list, then write `sha256: {digest}`");
        let message = "`sha256` is missing";
        diagnostics.push(error(
            DefectKind::MissingField,
            element,
            message,
            Some(&hint),
        ));
    }
    stated
}

fn check_digest(
    element: document::Node<'_>,
    file: document::Node<'_>,
    actual: &str,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let Some(stated) = require_digest(element, Some(actual), diagnostics) else {
        return;
    };
    let name = file.text().unwrap_or_default();
    if stated.text() != Some(actual) {
        let message = format!("`{name}` is not the list that was reviewed: its digest is another");
        let hint = format!("review what changed, then write `sha256: {actual}` and a new date");
        diagnostics.push(Diagnostic::error(
            "list_changed",
            stated,
            message,
            Some(&hint),
        ));
    }
}
