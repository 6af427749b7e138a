//! What Istio itself puts at a gateway, from `istio.yaml`.

use serde_json::Value;

use super::dump::snake_case;
use crate::error::RenderError;

const KNOWN: &str = include_str!("istio.yaml");

/// The list.
pub(super) struct Istio(Value);

impl Istio {
    pub(super) fn read() -> Result<Self, RenderError> {
        let known = serde_saphyr::from_str::<Value>(KNOWN);
        known
            .map(|known| Self(snake_case(&known)))
            .map_err(|error| RenderError::new("istio.yaml", error.to_string()))
    }

    /// An entry; where there is none nothing compares with it.
    pub(super) fn get(&self, entry: &str) -> &Value {
        self.0.get(entry).unwrap_or(&Value::Null)
    }

    pub(super) fn list(&self, entry: &str) -> &[Value] {
        self.get(entry)
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default()
    }
}
