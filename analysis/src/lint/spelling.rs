//! Names that look like others (UTS 39), label by label.

use unicode_security::{GeneralSecurityProfile as _, MixedScript as _, skeleton};

use crate::document::to_unicode;

/// What is odd about a name or pattern, as the end of a sentence about it: `None` for what is in
/// ASCII, and for what people write in one script.
pub(super) fn oddity(name: &str) -> Option<String> {
    if !name.contains("xn--") {
        return None;
    }
    let mut labels = name.split('.').filter_map(to_unicode);
    labels.find_map(|label| in_label(&label))
}

fn in_label(label: &str) -> Option<String> {
    let plain = |c: &char| c.is_ascii() || c.identifier_allowed();
    if let Some(sign) = label.chars().find(|c| !plain(c)) {
        let code = u32::from(sign);
        return Some(format!(
            "reads `{label}`, and U+{code:04X} in it is no letter that names are written in"
        ));
    }
    let looks: String = label.chars().flat_map(in_ascii).collect();
    if looks.is_ascii() {
        return Some(format!("reads `{label}`, which looks like `{looks}`"));
    }
    (!label.is_single_script())
        .then(|| format!("reads `{label}`, whose letters are of several scripts"))
}

/// What a character looks like; one of ASCII is itself, although `m` looks like `rn`.
fn in_ascii(c: char) -> Vec<char> {
    if c.is_ascii() {
        return vec![c];
    }
    skeleton(c.encode_utf8(&mut [0; 4])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::to_a_labels;

    /// A name as it was written, and what is odd about it.
    #[test]
    fn names_that_look_like_others() {
        for (written, odd) in [
            ("api.example.com", None),
            ("*.m\u{fc}nchen.example", None),
            ("\u{43f}\u{440}\u{438}\u{43c}\u{435}\u{440}.example", None),
            ("\u{4f8b}\u{3048}.example", None),
            (
                "\u{430}\u{440}\u{440}\u{4cf}\u{435}.com",
                Some("looks like `apple`"),
            ),
            ("g\u{456}thub.com", Some("looks like `github`")),
            ("*.g\u{456}thub.com", Some("looks like `github`")),
            ("\u{43f}\u{440}mer.example", Some("of several scripts")),
            ("i\u{2764}.example", Some("U+2764 in it is no letter")),
        ] {
            let name = to_a_labels(written).unwrap();
            let found = oddity(&name);
            let fits = match (&found, odd) {
                (None, None) => true,
                (Some(found), Some(odd)) => found.contains(odd),
                _ => false,
            };
            assert!(fits, "{written}: {found:?}");
        }
    }
}
