//! Why a question could not be answered.

use crate::diagnostic::Diagnostic;

/// Why a question could not be answered: a message and what to do about it, or what is wrong inside
/// the files that were read.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    message: String,
    hint: Option<String>,
    diagnostics: Vec<Diagnostic>,
}

impl Failure {
    /// A failure with its message: lower case, no full stop.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
            diagnostics: Vec::new(),
        }
    }

    /// The files that were read have these defects.
    #[must_use]
    pub fn of_files(diagnostics: Vec<Diagnostic>) -> Self {
        let first = diagnostics.first().map(|one| one.message.clone());
        Self {
            message: first.unwrap_or_default(),
            hint: None,
            diagnostics,
        }
    }

    /// What is wrong inside the files that were read; empty where that is not the reason.
    #[must_use]
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }

    /// With what to do instead.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What to do instead.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(error.to_string())
    }
}
