//! `--output`: the forms of a command's result, and what writes them.

use clap::ValueEnum;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde::Serialize;

use crate::Console;
use crate::exit::Failure;

/// A form of a command's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Human,
    /// One JSON object.
    Json,
    /// GitHub workflow commands, which become annotations on a pull request.
    Github,
    /// For a pull request.
    Markdown,
}

/// The forms of every result.
pub(crate) const PLAIN: [Output; 2] = [Output::Human, Output::Json];
/// The forms of a result that is about lines of files.
pub(crate) const ANNOTATED: [Output; 3] = [Output::Human, Output::Json, Output::Github];

impl Output {
    /// Parses one of these forms, which the help lists.
    pub(crate) fn among(forms: &[Self]) -> impl TypedValueParser<Value = Self> + use<> {
        let words = forms.iter().filter_map(Self::to_possible_value);
        PossibleValuesParser::new(words).try_map(|word| Self::from_str(&word, false))
    }

    /// Writes a result in this form.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn write(
        self,
        report: &impl Report,
        console: &mut Console<'_>,
    ) -> Result<(), Failure> {
        match self {
            Self::Human => report.human(console),
            Self::Github => report.github(console),
            Self::Markdown => report.markdown(console),
            Self::Json => {
                let text = serde_json::to_string_pretty(report)
                    .map_err(|error| Failure::new(error.to_string()))?;
                Ok(writeln!(console.stdout, "{text}")?)
            }
        }
    }
}

/// A command's result. What it serializes to is its JSON, whose schema is made from the same type
/// ([`crate::commands::schema::output_schemas`]).
pub(crate) trait Report: Serialize {
    /// Writes it for people: the result to standard output, remarks to standard error.
    ///
    /// # Errors
    /// It cannot be written.
    fn human(&self, console: &mut Console<'_>) -> Result<(), Failure>;

    /// Writes it as annotations. Results of commands without that form are written for people.
    ///
    /// # Errors
    /// It cannot be written.
    fn github(&self, console: &mut Console<'_>) -> Result<(), Failure> {
        self.human(console)
    }

    /// Writes it as Markdown. Results of commands without that form are written for people.
    ///
    /// # Errors
    /// It cannot be written.
    fn markdown(&self, console: &mut Console<'_>) -> Result<(), Failure> {
        self.human(console)
    }
}
