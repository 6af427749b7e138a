//! Policies as the module's image carries them, beside the module.

use egress_policy::canonical;
use egress_policy::tree::Json;
use serde_json::Value;

use crate::documents::{in_order, read};
use crate::error::RenderError;
use crate::error::problems;
use crate::install::Install;
use crate::object::canonical;

/// The policies in their order as canonical JSON, and its hash: the same hash that a gateway
/// reports for policies in its configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmbeddedPolicies {
    text: String,
    hash: String,
}

impl EmbeddedPolicies {
    /// The policies that go into the image for one gateway, in the order of the install settings
    /// and within what these grant. What the settings say of the image itself is not looked at:
    /// it is yet to be made.
    ///
    /// # Errors
    /// Everything that keeps the policies from being enforced as they are written.
    pub fn of(install: &Install, documents: &[Value]) -> Result<Self, Vec<RenderError>> {
        let mut found = install.check();
        found.retain(|problem| !problem.path().starts_with("spec.module"));
        let documents = in_order(install, documents, &mut found);
        let policies = read(&documents, &mut found);
        install.check_grants(&policies, &mut found);
        if !found.is_empty() {
            return Err(found);
        }
        let carried = Self::written(&documents)?;
        // What is only wrong between policies comes out where they are compiled.
        egress_policy::PolicySet::compile(&policies, SETTINGS, [])
            .map_err(|defects| problems(&defects))?;
        Ok(carried)
    }

    pub(crate) fn written(documents: &[Value]) -> Result<Self, Vec<RenderError>> {
        let wrong = |message| vec![RenderError::new("policies", message)];
        let list: Value = documents.iter().map(canonical).collect();
        let list = list.to_string();
        let tree = Json::parse(&list).map_err(wrong)?;
        let text = canonical::text(&tree).map_err(wrong)?;
        let hash = canonical::digest(text.as_bytes());
        Ok(Self { text, hash })
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.text.as_bytes()
    }

    /// Their SHA-256.
    #[must_use]
    pub fn hash(&self) -> &str {
        &self.hash
    }
}

/// As every rendering says.
const SETTINGS: egress_policy::settings::Settings =
    egress_policy::settings::Settings::new(egress_policy::settings::AddressCheck::Classes);
