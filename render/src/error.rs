//! What keeps something from being rendered.

use std::fmt;

use egress_policy::defect::Defect;
use egress_policy::ports::PortDefect;
use schemars::JsonSchema;
use serde::Serialize;

/// Where and why something cannot be rendered, or is not as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(inline)]
pub struct RenderError {
    /// The rule or field.
    #[serde(rename = "place")]
    path: String,
    /// What is wrong, and what would be right.
    message: String,
}

impl RenderError {
    pub(crate) fn new(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            path: place.into(),
            message: message.into(),
        }
    }

    /// The field or rule that it is about.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What is wrong, and what would be right.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for RenderError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.path, self.message)
    }
}

impl std::error::Error for RenderError {}

impl From<PortDefect> for RenderError {
    fn from(defect: PortDefect) -> Self {
        Self::new(defect.at, defect.message)
    }
}

/// Defects of a document as what keeps it from being rendered.
pub(crate) fn problems(defects: &[Defect]) -> Vec<RenderError> {
    let problem =
        |defect: &Defect| RenderError::new(defect.path.to_string(), defect.message.clone());
    defects.iter().map(problem).collect()
}
