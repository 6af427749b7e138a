//! Diagnostics drawn: for people in the manner of rustc, and as GitHub annotations.

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

use schemars::JsonSchema;
use serde::Serialize;

use crate::Console;
use crate::exit::Failure;
use crate::output::Report;
use egress_analysis::diagnostic::{Diagnostic, Location, Severity};

/// Widest part of a line that is drawn: a minified file is one line of megabytes.
const MAX_LINE: usize = 400;

/// One diagnostic for people.
#[must_use]
pub(crate) fn human(diagnostic: &Diagnostic, color: bool) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
        Severity::Note => Level::NOTE,
    };
    let title = level
        .primary_title(diagnostic.message.as_str())
        .id(diagnostic.code);
    let mut group = annotate_snippets::Group::with_title(title);
    if let Some(location) = &diagnostic.location {
        group = group.element(snippet(location, AnnotationKind::Primary, None));
    }
    for related in &diagnostic.related {
        let (location, label) = (&related.location, Some(&related.label));
        group = group.element(snippet(location, AnnotationKind::Context, label));
    }
    if let Some(hint) = &diagnostic.hint {
        group = group.element(Level::HELP.message(hint.as_str()));
    }
    let renderer = if color {
        Renderer::styled()
    } else {
        Renderer::plain()
    };
    renderer.render(&[group])
}

/// Why a command goes no further: what is wrong inside the files that it read.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "refusal")]
pub(crate) struct Refusal<'d> {
    /// Never empty.
    pub(crate) diagnostics: &'d [Diagnostic],
}

impl Report for Refusal<'_> {
    fn human(&self, console: &mut Console<'_>) -> Result<(), Failure> {
        for diagnostic in self.diagnostics {
            writeln!(console.stderr, "{}\n", human(diagnostic, false))?;
        }
        Ok(())
    }

    fn github(&self, console: &mut Console<'_>) -> Result<(), Failure> {
        for diagnostic in self.diagnostics {
            writeln!(console.stdout, "{}", github(diagnostic))?;
        }
        Ok(())
    }
}

/// The lines of a location, cut to a window if they are very long.
fn snippet<'a>(
    location: &'a Location,
    kind: AnnotationKind,
    label: Option<&'a String>,
) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
    let text = location.source.text();
    let window = window(text, &location.span);
    let (line, _) = location.source.line_column(window.start);
    let inside = location.span.start.saturating_sub(window.start)
        ..location
            .span
            .end
            .min(window.end)
            .saturating_sub(window.start);
    let mut annotation = kind.span(inside);
    if let Some(label) = label {
        annotation = annotation.label(label.as_str());
    }
    Snippet::source(text.get(window).unwrap_or_default())
        .line_start(line)
        .path(location.source.name())
        .annotation(annotation)
}

fn window(text: &str, span: &Range<usize>) -> Range<usize> {
    let before = text.get(..span.start).unwrap_or(text);
    let mut start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let after = text.get(span.end..).unwrap_or_default();
    let line = after.split('\n').next().unwrap_or_default();
    let line = line.strip_suffix('\r').unwrap_or(line);
    let mut end = span.end.min(text.len()) + line.len();
    if end - start > MAX_LINE {
        start = start.max(span.start.saturating_sub(MAX_LINE / 4));
        end = end.min(span.end.min(span.start + MAX_LINE) + MAX_LINE / 4);
        while !text.is_char_boundary(start) {
            start += 1;
        }
        while !text.is_char_boundary(end) {
            end += 1;
        }
    }
    start..end.max(start)
}

/// One diagnostic as a GitHub workflow command.
#[must_use]
pub(crate) fn github(diagnostic: &Diagnostic) -> String {
    let level = match diagnostic.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "notice",
    };
    let mut properties = String::new();
    if let Some(location) = &diagnostic.location {
        let (line, column) = location.line_column();
        let (end_line, end_column) = location.end_line_column();
        let file = escape(location.source.name(), true);
        properties = format!("file={file},line={line},endLine={end_line},");
        // GitHub takes columns only for annotations of a single line.
        if line == end_line {
            properties = format!("{properties}col={column},endColumn={end_column},");
        }
    }
    let mut message = diagnostic.message.clone();
    if let Some(hint) = &diagnostic.hint {
        message = format!("{message}\nhelp: {hint}");
    }
    format!(
        "::{level} {properties}title={}::{}",
        escape(diagnostic.code, true),
        escape(&message, false)
    )
}

/// The escapes of GitHub's runner (actions/toolkit, packages/core: `escapeData`,
/// `escapeProperty`).
fn escape(text: &str, property: bool) -> String {
    let text = text
        .replace('%', "%25")
        .replace('\r', "%0D")
        .replace('\n', "%0A");
    if property {
        text.replace(':', "%3A").replace(',', "%2C")
    } else {
        text
    }
}
