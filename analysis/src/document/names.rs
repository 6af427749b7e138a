//! Unicode host names become A-labels before the engine sees them; the gateway never maps.

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};

use super::{Documents, Node, Value};

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

/// What an A-label stands for. `None` for any other label, and for one that stands for nothing.
#[must_use]
pub fn to_unicode(label: &str) -> Option<String> {
    if !has_prefix(label) {
        return None;
    }
    let (text, fine) =
        Uts46::new().to_unicode(label.as_bytes(), AsciiDenyList::EMPTY, Hyphens::Allow);
    fine.is_ok().then(|| text.into_owned())
}

fn has_prefix(label: &str) -> bool {
    let prefix = label.get(..4);
    prefix.is_some_and(|prefix| prefix.eq_ignore_ascii_case("xn--"))
}

/// The entries of `domainNames` below a node with a label that looks like an A-label and is none,
/// each with that label.
#[must_use]
pub fn undecodable(root: Node<'_>) -> Vec<(Node<'_>, String)> {
    let mut found = Vec::new();
    let mut left = vec![root];
    while let Some(node) = left.pop() {
        for (key, value) in node.fields() {
            if key.text() == Some("domainNames") {
                found.extend(value.items().filter_map(|name| {
                    let mut labels = name.text()?.split('.');
                    let bad = labels.find(|one| has_prefix(one) && to_unicode(one).is_none())?;
                    Some((name, bad.to_owned()))
                }));
            } else {
                left.push(value);
            }
        }
        left.extend(node.items());
    }
    found
}

/// A sign that came into a text by a word processor or from a web page, and what it is.
#[must_use]
pub fn pasted_sign(text: &str) -> Option<(char, &'static str)> {
    let what = |c: char| match c {
        '\u{2018}'..='\u{201f}' | '\u{ab}' | '\u{bb}' => Some("a typographic quote"),
        '\u{2010}'..='\u{2015}' | '\u{2212}' => Some("a dash that is no `-`"),
        '\u{a0}' | '\u{2000}'..='\u{200a}' | '\u{202f}' => Some("a space that is no plain one"),
        '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}' => Some("invisible"),
        _ => None,
    };
    text.chars().find_map(|c| Some((c, what(c)?)))
}

impl Documents {
    /// Replaces Unicode names under every `domainNames`. What has no A-label form, and what holds a
    /// [pasted sign](pasted_sign), stays, and the engine refuses it.
    #[must_use]
    pub fn with_a_labels(mut self) -> Self {
        let mut names = Vec::new();
        for entry in &self.entries {
            let Value::Map(pairs) = &entry.value else {
                continue;
            };
            for (key, value) in pairs {
                if self.place(*key).text() == Some("domainNames") {
                    names.extend(self.place(*value).items().map(Node::id));
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
                && pasted_sign(text).is_none()
                && let Some(mapped) = to_a_labels(text)
            {
                *text = mapped.into();
            }
        }
        self
    }
}
