//! Claims that own what they say.

use super::{Claims, Fact};

/// What a caller claims of itself, owned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnedClaims {
    /// The claimed namespace.
    pub namespace: String,
    /// The claimed cluster, if any.
    pub cluster: Option<String>,
    /// Labels, at least those that the policies select by and the workload has.
    pub labels: Vec<(String, String)>,
}

impl OwnedClaims {
    /// The labels in the form that [`Claims`] borrows.
    #[must_use]
    pub fn pairs(&self) -> Vec<(&str, &str)> {
        self.labels
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect()
    }
}

impl Fact<OwnedClaims> {
    /// The labels in the form that [`Claims`] borrows: none where the claims are not known.
    #[must_use]
    pub fn pairs(&self) -> Vec<(&str, &str)> {
        let known = self.as_ref().known();
        known.map(OwnedClaims::pairs).unwrap_or_default()
    }

    /// Borrowed claims over `labels`, which [`Self::pairs`] made.
    #[must_use]
    pub fn lend<'a>(&'a self, labels: &'a [(&'a str, &'a str)]) -> Fact<Claims<'a>> {
        self.as_ref().map(|claims| Claims {
            namespace: &claims.namespace,
            cluster: claims.cluster.as_deref(),
            labels,
        })
    }
}

impl From<Claims<'_>> for OwnedClaims {
    fn from(claims: Claims<'_>) -> Self {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        Self {
            namespace: claims.namespace.to_owned(),
            cluster: claims.cluster.map(str::to_owned),
            labels: claims.labels.iter().map(owned).collect(),
        }
    }
}
