//! A list's text: a name pattern, a network or an address on each line, with comments as in lists
//! that others publish.

use std::collections::HashSet;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;

use ipnet::IpNet;

use crate::document::{Source, to_a_labels};

/// A line that names something.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// As the policy would write it: a Unicode name as its A-label.
    pub(super) text: String,
    /// Where it stands.
    pub(super) span: Range<usize>,
}

/// What a list names, in its order.
#[derive(Debug)]
pub(super) struct Entries {
    /// The list.
    pub(super) source: Arc<Source>,
    names: Vec<Entry>,
    networks: Vec<Entry>,
    /// Addresses without a prefix length, each a network of one address.
    pub(super) bare: usize,
    /// Entries that stand in the list before.
    pub(super) duplicates: usize,
}

impl Entries {
    /// Reads a list. Whether an entry is a good name or network is the engine's to say.
    pub(super) fn of(source: Arc<Source>) -> Self {
        let (mut names, mut networks) = (Vec::new(), Vec::new());
        let (mut bare, mut duplicates) = (0, 0);
        let mut seen = HashSet::new();
        let mut start = 0;
        for line in source.text().split_inclusive('\n') {
            let lead = start;
            start += line.len();
            // A byte order mark is no part of the text.
            let text = line.strip_prefix('\u{feff}').unwrap_or(line);
            let content = without_comment(text);
            let entry = content.trim();
            if entry.is_empty() {
                continue;
            }
            let indent = content.len() - content.trim_start().len();
            let from = lead + (line.len() - text.len()) + indent;
            let span = from..from + entry.len();
            let address = entry.parse::<IpAddr>().ok();
            let is_network = address.is_some() || is_like_a_network(entry);
            let text = if let Some(address) = address {
                IpNet::from(address).to_string()
            } else if entry.is_ascii() || is_network {
                entry.to_owned()
            } else {
                to_a_labels(entry).unwrap_or_else(|| entry.to_owned())
            };
            if !seen.insert(normal_form(&text)) {
                duplicates += 1;
                continue;
            }
            bare += usize::from(address.is_some());
            let kind = if is_network {
                &mut networks
            } else {
                &mut names
            };
            kind.push(Entry { text, span });
        }
        Self {
            source,
            names,
            networks,
            bare,
            duplicates,
        }
    }

    /// What stands in for a list that cannot be read, so that the rest of the policy can be: the
    /// policy is refused all the same.
    pub(super) fn stand_in() -> Self {
        Self::of(Arc::new(Source::new("unread", "unread.example\n")))
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.names.len() + self.networks.len()
    }

    /// True if there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The fields that they become, those that are not empty.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&'static str, &[Entry])> {
        [
            ("domainNames", self.names.as_slice()),
            ("networks", self.networks.as_slice()),
        ]
        .into_iter()
        .filter(|(_, entries)| !entries.is_empty())
    }
}

/// Whether an entry is meant to be a network, or a range of addresses, which no list holds.
fn is_like_a_network(entry: &str) -> bool {
    let is_address = |text: &str| text.parse::<IpAddr>().is_ok();
    let range = entry.split_once('-');
    (entry.contains('/') && !entry.contains("://"))
        || range.is_some_and(|(from, to)| is_address(from) && is_address(to))
}

/// What is the same for two spellings of one name or network.
fn normal_form(entry: &str) -> String {
    match entry.parse::<IpNet>() {
        Ok(network) => network.to_string(),
        Err(_) => entry.trim_end_matches('.').to_ascii_lowercase(),
    }
}

/// What begins a comment where a word could begin.
const COMMENTS: [&str; 3] = ["#", ";", "//"];

/// A `#` inside a word is no comment: the engine then refuses the word instead of half of it
/// being taken.
fn without_comment(line: &str) -> &str {
    let starts = |at: &usize| {
        let before = line
            .get(..*at)
            .and_then(|before| before.chars().next_back());
        before.is_none_or(char::is_whitespace)
    };
    let marks = COMMENTS.into_iter();
    let marks = marks.flat_map(|mark| line.match_indices(mark).map(|(at, _)| at));
    let comment = marks.filter(starts).min();
    comment.and_then(|at| line.get(..at)).unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_what_they_become() {
        for (text, names, networks) in [
            ("a.example\n", &["a.example"][..], &[][..]),
            (
                "# all\n\n  *.b.example  # why\r\nc.example",
                &["*.b.example", "c.example"],
                &[],
            ),
            (
                "\u{feff}m\u{fc}nchen.example\n",
                &["xn--mnchen-3ya.example"],
                &[],
            ),
            (
                "203.0.113.0/24\n2001:db8::/32\n",
                &[],
                &["203.0.113.0/24", "2001:db8::/32"],
            ),
            (
                "203.0.113.7\n2001:db8::1\nd.example",
                &["d.example"],
                &["203.0.113.7/32", "2001:db8::1/128"],
            ),
            (
                "; Spamhaus DROP\n192.0.2.0/24 ; SBL1\n// all\ne.example // why",
                &["e.example"],
                &["192.0.2.0/24"],
            ),
            (
                "e.example\nE.example.\n203.0.113.7\n203.0.113.7/32\n2001:DB8:0::/32\n2001:db8::/32",
                &["e.example"],
                &["203.0.113.7/32", "2001:DB8:0::/32"],
            ),
            ("a;b.example", &["a;b.example"], &[]),
            ("#\n \n", &[], &[]),
            ("a#b.example\tcd #e\n", &["a#b.example\tcd"], &[]),
        ] {
            let entries = Entries::of(Arc::new(Source::new("list", text)));
            let texts = |entries: &[Entry]| -> Vec<String> {
                entries.iter().map(|entry| entry.text.clone()).collect()
            };
            assert_eq!(texts(&entries.names), names, "{text:?}");
            assert_eq!(texts(&entries.networks), networks, "{text:?}");
            for entry in entries.names.iter().filter(|entry| entry.text.is_ascii()) {
                let spelt = text.get(entry.span.clone()).unwrap();
                assert_eq!(to_a_labels(spelt).as_ref(), Some(&entry.text), "{text:?}");
            }
        }
    }
}
