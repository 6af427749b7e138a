//! What is wrong or doubtful, and where, in one form for every output.

use std::ops::Range;
use std::sync::Arc;

use egress_policy::contract::INSTALL_KIND;
use egress_policy::defect::{Defect, DefectKind, Segment};
use egress_policy::name::PatternError;
use schemars::JsonSchema;
use serde::Serialize;

use crate::coming_from;
use crate::document::{self, Source, Target};

/// How serious a diagnostic is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Severity {
    /// Nothing to do, good to know.
    Note,
    /// Probably not what was meant, or not safe to rest on.
    Warning,
    /// The policy is refused.
    Error,
}

impl Severity {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// A part of a source.
#[derive(Clone, Debug, Serialize)]
#[serde(into = "Written")]
pub struct Location {
    /// The text.
    pub source: Arc<Source>,
    /// Bytes in it.
    pub span: Range<usize>,
}

impl Location {
    /// Line and column of the start, both from 1; the column counts characters.
    #[must_use]
    pub fn line_column(&self) -> (usize, usize) {
        self.source.line_column(self.span.start)
    }

    /// Line and column of the end, exclusive.
    #[must_use]
    pub fn end_line_column(&self) -> (usize, usize) {
        self.source.line_column(self.span.end)
    }
}

impl From<document::Node<'_>> for Location {
    /// Its first line.
    fn from(at: document::Node<'_>) -> Self {
        Self {
            source: Arc::clone(at.source()),
            span: at.first_line(),
        }
    }
}

/// A part of a file. Lines and columns count from 1, columns in characters.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "place")]
struct Written {
    /// The file as it was named, or `<stdin>`.
    file: String,
    /// First line.
    line: usize,
    /// First column.
    column: usize,
    /// Last line.
    end_line: usize,
    /// The column behind the last.
    end_column: usize,
}

impl From<Location> for Written {
    fn from(location: Location) -> Self {
        let (line, column) = location.line_column();
        let (end_line, end_column) = location.end_line_column();
        Self {
            file: location.source.name().to_owned(),
            line,
            column,
            end_line,
            end_column,
        }
    }
}

/// One thing to tell about the files that were read.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(rename = "diagnostic")]
pub struct Diagnostic {
    /// How serious it is.
    pub severity: Severity,
    /// A stable word: a defect's kind or a lint's code. `warden check --explain CODE` says more.
    pub code: &'static str,
    /// What: lower case, no full stop.
    pub message: String,
    /// What to write instead.
    pub hint: Option<String>,
    /// The path in the document, such as `spec.tiers[0]`; empty if there is none.
    pub path: String,
    /// Where, if anywhere.
    #[serde(rename = "place")]
    #[schemars(with = "Option<Written>")]
    pub location: Option<Location>,
    /// Other places that belong to it.
    pub related: Vec<Related>,
}

/// True if anything among these is refused.
#[must_use]
pub fn has_errors(diagnostics: &[Diagnostic]) -> bool {
    let mut severities = diagnostics.iter().map(|one| one.severity);
    severities.any(|severity| severity == Severity::Error)
}

/// A place that belongs to a diagnostic, and what it is.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(inline)]
pub struct Related {
    /// Where.
    #[serde(rename = "place")]
    #[schemars(with = "Written")]
    pub location: Location,
    /// What it is.
    pub label: String,
}

impl Diagnostic {
    /// An error that is the command's own to find.
    #[must_use]
    pub fn error(
        code: &'static str,
        place: impl Into<Location>,
        message: impl Into<String>,
        hint: Option<&str>,
    ) -> Self {
        Self {
            severity: Severity::Error,
            code,
            message: message.into(),
            hint: hint.map(str::to_owned),
            location: Some(place.into()),
            path: String::new(),
            related: Vec::new(),
        }
    }

    /// A file with nothing in it that the command reads.
    #[must_use]
    pub fn foreign_file(source: &Arc<Source>, message: impl Into<String>, hint: &str) -> Self {
        let place = Location {
            source: Arc::clone(source),
            span: 0..source.text().lines().next().map_or(0, str::len),
        };
        Self::error("foreign_file", place, message, Some(hint))
    }

    /// A defect that the engine found in the document at `root`.
    #[must_use]
    pub fn of_defect(defect: &Defect, root: document::Node<'_>) -> Self {
        let target = match defect.kind {
            DefectKind::UnknownField => Target::Key,
            DefectKind::DuplicateField => Target::LastKey,
            DefectKind::BadValue if is_about_key(defect) => Target::Key,
            _ => Target::Value,
        };
        let (source, span) = root.resolve(&defect.path, target);
        let source = Arc::clone(source);
        let written = source.text().get(span.clone()).unwrap_or_default();
        // Where the words are others.
        let kind = root.field("kind").and_then(document::Node::text);
        let is_case = root.field("cases").is_some() && defect.kind == DefectKind::UnknownField;
        let of_settings = kind == Some(INSTALL_KIND) || is_case;
        let hint = unicode_hint(defect, written)
            .or_else(|| coming_from::hint(defect, written).filter(|_| !of_settings))
            .or_else(|| defect.hint.clone())
            .or_else(|| coming_from::missing(defect))
            .or_else(|| coming_from::as_list(defect, written));
        Self {
            severity: Severity::Error,
            code: defect.kind.as_str(),
            message: defect.message.clone(),
            hint,
            location: Some(Location { source, span }),
            path: defect.path.to_string(),
            related: Vec::new(),
        }
    }

    /// A mistake of syntax.
    #[must_use]
    pub fn of_syntax(error: document::SyntaxError, source: &Arc<Source>) -> Self {
        let document::SyntaxError {
            span,
            message,
            hint,
        } = error;
        Self {
            severity: Severity::Error,
            code: DefectKind::Syntax.as_str(),
            message,
            hint,
            location: Some(Location {
                source: Arc::clone(source),
                span,
            }),
            path: String::new(),
            related: Vec::new(),
        }
    }
}

/// What the engine, which knows ASCII alone, cannot say of a text.
fn unicode_hint(defect: &Defect, written: &str) -> Option<String> {
    if defect.kind != DefectKind::BadValue || written.is_ascii() {
        return None;
    }
    if let Some((sign, what)) = document::pasted_sign(written) {
        let code = u32::from(sign);
        return Some(format!("U+{code:04X} in it is {what}: type it anew"));
    }
    let is_name = defect
        .message
        .ends_with(&PatternError::NotAscii.to_string());
    is_name.then(|| "this Unicode name has no A-label form (UTS 46)".to_owned())
}

/// A message starts with the author's own text: here with the key itself.
fn is_about_key(defect: &Defect) -> bool {
    let quoted = defect.message.strip_prefix('`');
    match (defect.path.segments().last(), quoted) {
        (Some(Segment::Field(key)), Some(text)) => text
            .strip_prefix(key.as_str())
            .is_some_and(|rest| rest.starts_with('`')),
        _ => false,
    }
}
