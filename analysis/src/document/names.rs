//! Unicode host names become A-labels before the engine sees them; the gateway never maps.

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};

use super::{Documents, Value};

/// The A-label form of a name or pattern by UTS 46, stars kept. `None` where there is none.
#[must_use]
pub fn to_a_labels(text: &str) -> Option<String> {
    let mapped = Uts46::new().to_ascii(
        text.as_bytes(),
        AsciiDenyList::EMPTY,
        Hyphens::Allow,
        DnsLength::Ignore,
    );
    mapped.ok().map(std::borrow::Cow::into_owned)
}

impl Documents {
    /// Replaces Unicode names under every `domainNames`. What has no A-label form stays, and the
    /// engine refuses it.
    #[must_use]
    pub fn with_a_labels(mut self) -> Self {
        let mut names = Vec::new();
        for entry in &self.entries {
            let Value::Map(pairs) = &entry.value else {
                continue;
            };
            for (key, value) in pairs {
                if self.place(*key).text() == Some("domainNames") {
                    names.extend(self.place(*value).items().map(super::Node::id));
                }
            }
        }
        for id in names {
            let entry = usize::try_from(id)
                .ok()
                .and_then(|i| self.entries.get_mut(i));
            if let Some(entry) = entry
                && let Value::Text(text) = &mut entry.value
                && !text.is_ascii()
                && let Some(mapped) = to_a_labels(text)
            {
                *text = mapped.into();
            }
        }
        self
    }
}
