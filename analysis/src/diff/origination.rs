//! Where the gateway speaks TLS itself, before and after: no verdict changes with it, but what
//! leaves does.

use std::collections::{BTreeMap, BTreeSet};

use egress_policy::model::{CaCertificates, Policy, TlsOrigination};
use egress_policy::ports::originations;
use schemars::JsonSchema;
use serde::Serialize;

/// Names that are spoken to in another way than before: a change without a verdict that changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct TlsChange {
    /// The names' pattern.
    pub names: String,
    /// The port at the outside.
    pub port: u16,
    /// How before, in words; null where requests leave as the application wrote them.
    pub old: Option<String>,
    /// How after.
    pub new: Option<String>,
}

impl TlsChange {
    /// In words.
    #[must_use]
    pub fn words(&self) -> String {
        let in_words = |tls: &Option<String>| match tls {
            Some(tls) => format!("TLS {tls}"),
            None => "as the application sends them".to_owned(),
        };
        format!(
            "requests to {} port {}: {} -> {}",
            self.names,
            self.port,
            in_words(&self.old),
            in_words(&self.new)
        )
    }
}

/// What differs, by name and port.
pub(super) fn changes(old: &[Policy], new: &[Policy]) -> Vec<TlsChange> {
    let (old, new) = (spoken(old), spoken(new));
    let all: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    all.into_iter()
        .map(|key| TlsChange {
            names: key.0.clone(),
            port: key.1,
            old: old.get(key).cloned(),
            new: new.get(key).cloned(),
        })
        .filter(|change| change.old != change.new)
        .collect()
}

fn spoken(policies: &[Policy]) -> BTreeMap<(String, u16), String> {
    let mut all: BTreeMap<(String, u16), String> = BTreeMap::new();
    for origination in originations(policies) {
        let text = words(&origination.tls);
        for names in origination.names {
            // Rendering refuses two ways to one name; here both are told.
            all.entry((names, origination.port))
                .and_modify(|known| *known = format!("{known} or {text}"))
                .or_insert_with(|| text.clone());
        }
    }
    all
}

fn words(tls: &TlsOrigination) -> String {
    let authorities = match &tls.ca_certificates {
        CaCertificates::System => "the system's authorities".to_owned(),
        CaCertificates::File(path) => path.clone(),
        CaCertificates::Secret(name) => format!("secret {name}"),
    };
    let name = tls.sni.as_ref().map(|name| format!(", as {name}"));
    let secret = tls.client_certificate.as_ref();
    let certificate = secret.map(|name| format!(", with the certificate of secret {name}"));
    format!(
        "verified by {authorities}{}{}",
        name.unwrap_or_default(),
        certificate.unwrap_or_default()
    )
}
