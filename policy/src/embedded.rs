//! Policies that are too large for a configuration and travel in the module's own binary.
//!
//! The configuration names them by their hash, which is their version: a module that carries
//! others, or none, refuses its configuration, and what refuses stays closed.

use std::cell::RefCell;
use std::rc::{Rc, Weak};

use crate::canonical;
use crate::config::inspection::InspectionProxy;
use crate::config::policies::read_policies;
use crate::decode::{Fields, text};
use crate::defect::{At, DefectKind, Defects};
use crate::policy_set::PolicySet;
use crate::settings::Settings;
use crate::tree::Json;

/// What a module carries: the canonical JSON of a list of policies.
///
/// All places of one module judge by the same policies, so they are compiled once and shared while
/// any place uses them.
#[derive(Debug, Default)]
pub struct Embedded<'b> {
    bytes: Option<&'b [u8]>,
    compiled: RefCell<Vec<Compiled>>,
}

/// Compiled policies, and the SHA-256 over their canonical JSON.
#[derive(Debug)]
pub(crate) struct HashedPolicies {
    /// Shared by the plugin instances that name the same embedded policies.
    pub(crate) policies: Rc<PolicySet>,
    /// In lower-case hexadecimal.
    pub(crate) hash: String,
}

/// Embedded policies, compiled for one combination of what verdicts depend on beside them.
#[derive(Debug)]
struct Compiled {
    digest: String,
    settings: Settings,
    proxies: Vec<String>,
    policies: Weak<PolicySet>,
}

impl<'b> Embedded<'b> {
    /// These bytes, or none. They are not looked at before a configuration names them.
    #[must_use]
    pub fn new(bytes: Option<&'b [u8]>) -> Self {
        Self {
            bytes,
            compiled: RefCell::default(),
        }
    }

    /// Reads `{embedded: SHA256}`: the policies that are carried, if they are the ones named.
    pub(crate) fn read(
        &self,
        node: &Json<'_>,
        at: &At<'_>,
        defects: &mut Defects,
        settings: Settings,
        inspection: &[InspectionProxy],
    ) -> Option<HashedPolicies> {
        let mut fields = Fields::of(node, at, defects)?;
        let here = at.field("embedded");
        let named = fields.required("embedded", at, defects, text);
        fields.finish(at, defects);
        let named = named?;
        let proxies: Vec<String> = inspection.iter().map(|proxy| proxy.name.clone()).collect();
        if let Some(policies) = self.shared(&named, settings, &proxies) {
            return Some(HashedPolicies {
                policies,
                hash: named,
            });
        }
        let carried = self.verified(&named, &here, defects)?;
        let document = match Json::parse(carried) {
            Ok(document) => document,
            Err(message) => {
                defects.add(DefectKind::Syntax, &here, message, None);
                return None;
            }
        };
        let policies = Rc::new(read_policies(&document, at, defects, settings, inspection)?);
        if let Ok(mut compiled) = self.compiled.try_borrow_mut() {
            compiled.retain(|entry| entry.policies.strong_count() > 0);
            compiled.push(Compiled {
                digest: named.clone(),
                settings,
                proxies,
                policies: Rc::downgrade(&policies),
            });
        }
        Some(HashedPolicies {
            policies,
            hash: named,
        })
    }

    fn shared(&self, named: &str, settings: Settings, proxies: &[String]) -> Option<Rc<PolicySet>> {
        let compiled = self.compiled.try_borrow().ok()?;
        let mut entries = compiled.iter();
        let entry = entries.find(|entry| {
            entry.digest == named && entry.settings == settings && entry.proxies == proxies
        })?;
        entry.policies.upgrade()
    }

    /// The carried text, if its hash is the one named.
    fn verified(&self, named: &str, at: &At<'_>, defects: &mut Defects) -> Option<&'b str> {
        let Some(bytes) = self.bytes else {
            let hint = "make the image with `warden package` and the policies".to_owned();
            let message = "this module carries no policies";
            defects.add(DefectKind::UnknownReference, at, message, hint);
            return None;
        };
        let digest = canonical::digest(bytes);
        if digest != named {
            let hint = "apply the image and the manifests of one version".to_owned();
            let message = format!("this module carries the policies {digest}, not {named}");
            defects.add(DefectKind::Conflict, at, message, hint);
            return None;
        }
        match std::str::from_utf8(bytes) {
            Ok(text) => Some(text),
            Err(error) => {
                defects.add(DefectKind::Syntax, at, error.to_string(), None);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests;
