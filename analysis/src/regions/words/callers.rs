//! Callers in words.

use std::collections::BTreeMap;

use super::Speech;
use crate::regions::compiled::{NO_CERTIFICATE, PLAINTEXT, WORKLOAD, fresh};
use crate::regions::explore::CLAIMS_KNOWN;
use crate::regions::partition::{Classes, Dimension};
use crate::regions::set::Set;

impl Speech<'_> {
    /// Whether callers are among them that no rule names.
    pub(crate) fn any_other_caller(&self) -> bool {
        let kind = |kind| {
            self.set(&Dimension::Kind)
                .is_some_and(|set| set.contains(kind))
        };
        let (Some(set), Some(Classes::Accounts(accounts))) = (
            self.set(&Dimension::Account),
            self.classes(&Dimension::Account),
        ) else {
            return false;
        };
        // The last class is that of namespaces that no rule names.
        let unnamed = accounts.len().checked_sub(1);
        kind(NO_CERTIFICATE)
            || kind(PLAINTEXT)
            || (kind(WORKLOAD) && unnamed.is_some_and(|last| set.contains(last)))
    }

    /// Who asks; nothing for all whom the question is about.
    pub(crate) fn callers(&self) -> Option<String> {
        let dims = [Dimension::Kind, Dimension::Account];
        if self.asked.is_some() && dims.iter().all(|dim| self.is_as_asked(dim)) {
            return None;
        }
        let (kinds, accounts) = (self.set(&Dimension::Kind)?, self.set(&Dimension::Account)?);
        if kinds.is_all() && accounts.is_all() && self.is_every_identity() {
            return Some("everyone".to_owned());
        }
        let mut parts = Vec::new();
        if kinds.contains(WORKLOAD) {
            parts.push(self.workloads(accounts));
        }
        if kinds.contains(NO_CERTIFICATE) {
            parts.push("callers without a certificate".to_owned());
        }
        if kinds.contains(PLAINTEXT) {
            parts.push("callers in plaintext".to_owned());
        }
        Some(parts.join(", "))
    }

    /// Whether a fact is as wide as the question, which is about some of its values.
    pub(crate) fn is_as_asked(&self, dim: &Dimension) -> bool {
        let asked = self.asked.and_then(|asked| asked.0.get(dim));
        asked.is_some_and(|asked| !asked.is_all() && self.set(dim) == Some(&**asked))
    }

    /// Whether nothing beside namespaces and accounts tells workloads apart here.
    fn is_every_identity(&self) -> bool {
        self.set(&Dimension::TrustDomain).is_none_or(Set::is_all)
    }

    fn workloads(&self, set: &Set) -> String {
        let Some(Classes::Accounts(accounts)) = self.classes(&Dimension::Account) else {
            return String::new();
        };
        if set.is_all() {
            return "every workload".to_owned();
        }
        let unnamed = accounts.len().saturating_sub(1);
        let listed = accounts_in_words(accounts, set);
        if !set.contains(unnamed) {
            return self.list(&listed);
        }
        let missing = accounts_in_words(accounts, &set.complement());
        self.others("everyone else", "any other namespace", &listed, &missing)
    }

    /// A fact of the certificate or of the peer metadata, where it is not any.
    pub(crate) fn claimed(&self, dim: &Dimension) -> Option<String> {
        let set = self.narrower(dim)?;
        match (dim, self.classes(dim)?) {
            (Dimension::Claims, _) if set.contains(CLAIMS_KNOWN) => None,
            (Dimension::Claims, _) => Some("metadata missing".to_owned()),
            // The last text is the one that no rule names; such identities are refused anyway.
            (Dimension::TrustDomain, Classes::Texts(texts)) => (set.len() + 1 != texts.len())
                .then(|| format!("trust domain {}", self.texts(set, texts))),
            (Dimension::Cluster, Classes::Texts(texts)) => {
                Some(format!("cluster {}", self.texts(set, texts)))
            }
            (Dimension::Label(key), Classes::Optional(texts)) => {
                Some(format!("label {key} {}", self.optional(set, texts)))
            }
            _ => None,
        }
    }
}

/// Accounts that rules name, by namespace: a namespace alone where all of it is in the set.
fn accounts_in_words(accounts: &[(String, String)], set: &Set) -> Vec<String> {
    // For each namespace: how many classes it has, and those that are in the set.
    let mut namespaces: BTreeMap<&str, (usize, Vec<&str>)> = BTreeMap::new();
    for (i, (namespace, account)) in accounts.iter().enumerate() {
        let (classes, inside) = namespaces.entry(namespace).or_default();
        *classes += 1;
        if set.contains(i) {
            inside.push(account);
        }
    }
    namespaces.remove(fresh());
    let mut texts = Vec::new();
    for (namespace, (classes, inside)) in namespaces {
        if inside.len() == classes {
            texts.push(namespace.to_owned());
            continue;
        }
        texts.extend(inside.into_iter().map(|account| {
            if account == fresh() {
                format!("{namespace} (every other account)")
            } else {
                format!("{namespace}/{account}")
            }
        }));
    }
    texts
}
