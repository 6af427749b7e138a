//! Names that a provider gives to whoever asks.
//!
//! `psl` says which names are public suffixes. What it cannot say are their parents, so those are a
//! file made of the same rules (`cargo xtask suffixes`); what the list does not have is kept by hand.

use std::collections::HashMap;
use std::sync::LazyLock;

/// A parent of public suffixes and one of them on each line.
const PARENTS: &str = include_str!("shared/parents.txt");
/// Suffixes, and after `=` whole hosts that serve every customer. A `*` is any one label.
const KEPT: &str = include_str!("shared/kept.txt");

/// Each parent and the public suffix that is given as an example.
static BY_PARENT: LazyLock<HashMap<&str, &str>> = LazyLock::new(|| {
    let lines = entries(PARENTS);
    lines.filter_map(|line| line.split_once(' ')).collect()
});

/// The kept suffixes by their last two labels, so that few are compared.
static BY_DOMAIN: LazyLock<HashMap<String, Vec<Kept>>> = LazyLock::new(|| {
    let mut all: HashMap<String, Vec<Kept>> = HashMap::new();
    for line in entries(KEPT) {
        let (whole_host, pattern) = match line.strip_prefix('=') {
            Some(host) => (true, host),
            None => (false, line),
        };
        let kept = Kept {
            whole_host,
            pattern,
        };
        all.entry(domain(pattern)).or_default().push(kept);
    }
    all
});

/// A line of [`KEPT`].
struct Kept {
    /// The host itself serves every customer, told apart by the path.
    whole_host: bool,
    pattern: &'static str,
}

fn entries(text: &'static str) -> impl Iterator<Item = &'static str> {
    let lines = text.lines().map(str::trim);
    lines.filter(|line| !line.is_empty() && !line.starts_with('#'))
}

fn domain(name: &str) -> String {
    let mut labels: Vec<&str> = name.rsplit('.').take(2).collect();
    labels.reverse();
    labels.join(".")
}

/// What everybody can have below `base`: the end of a sentence about it.
pub(super) fn below(base: &str) -> Option<String> {
    if let Some(example) = BY_PARENT.get(base) {
        return Some(format!("holds public suffixes, such as `{example}`"));
    }
    kept(base, false).then(|| "is shared by all customers of a provider".to_owned())
}

/// Whether one host serves what any customer put there.
pub(super) fn serves_everybody(host: &str) -> bool {
    kept(host, true)
}

fn kept(name: &str, whole_host: bool) -> bool {
    let candidates = BY_DOMAIN.get(&domain(name)).into_iter().flatten();
    let mut same = candidates.filter(|kept| kept.whole_host == whole_host);
    same.any(|kept| fits(kept.pattern, name))
}

fn fits(pattern: &str, name: &str) -> bool {
    let (mut wanted, mut labels) = (pattern.split('.'), name.split('.'));
    loop {
        match (wanted.next(), labels.next()) {
            (None, None) => return true,
            (Some(one), Some(label)) if one == "*" || one == label => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pattern's base and whether names below it are anybody's.
    #[test]
    fn which_bases_are_shared() {
        for (base, shared) in [
            ("amazonaws.com", true),
            ("windows.net", true),
            ("core.windows.net", true),
            ("eu-central-1.amazonaws.com", true),
            ("compute.amazonaws.com", true),
            ("fastly.net", true),
            ("storage.googleapis.com", true),
            ("s3.eu-central-003.backblazeb2.com", true),
            ("r2.cloudflarestorage.com", true),
            ("github.com", false),
            ("my-bucket.s3.amazonaws.com", false),
            ("example.com", false),
            ("net", false),
        ] {
            assert_eq!(below(base).is_some(), shared, "{base}");
        }
    }

    /// A host and whether it serves every customer's buckets.
    #[test]
    fn which_hosts_serve_everybody() {
        for (host, shared) in [
            ("s3.amazonaws.com", true),
            ("s3.eu-central-1.amazonaws.com", true),
            ("storage.googleapis.com", true),
            ("my-bucket.s3.eu-central-1.amazonaws.com", false),
            ("sts.amazonaws.com", false),
            ("api.github.com", false),
        ] {
            assert_eq!(serves_everybody(host), shared, "{host}");
        }
    }

    #[test]
    fn no_kept_suffix_is_a_public_one_or_a_parent() {
        for line in entries(KEPT).filter(|line| !line.starts_with('=') && !line.contains('*')) {
            assert_ne!(psl::suffix_str(line), Some(line), "{line}: the list has it");
            assert!(!BY_PARENT.contains_key(line), "{line}: the list has it");
        }
    }
}
