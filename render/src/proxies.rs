//! Which proxies get what is rendered: those of the stated version of Istio and later ones.

use crate::install::Install;

/// A regular expression for the stated version and every later minor one.
pub(crate) fn supported(install: &Install) -> String {
    let minor = install.minor().unwrap_or(NEWEST);
    let (tens, ones) = (minor / 10, minor % 10);
    format!("^1\\.({tens}[{ones}-9]|[{}-9][0-9])([^0-9].*)?$", tens + 1)
}

/// A regular expression for every other version, whatever it looks like.
pub(crate) fn unsupported(install: &Install) -> String {
    let minor = install.minor().unwrap_or(NEWEST);
    let (tens, ones) = (minor / 10, minor % 10);
    let decades = format!("[0-{}][0-9]", tens - 1);
    let below = match ones {
        0 => decades,
        _ => format!("{decades}|{tens}[0-{}]", ones - 1),
    };
    let minors = format!("([0-9]|{below})([^0-9].*)?|[0-9][0-9][0-9].*|[^0-9].*");
    format!("^(|[^1].*|1|1[^.].*|1\\.|1\\.({minors}))$")
}

/// What settings with another version are refused for before anything is rendered.
const NEWEST: u32 = 89;

#[cfg(test)]
mod tests {
    use regex_lite::Regex;

    use super::{supported, unsupported};
    use crate::sample;

    /// The stated version, a proxy's, and whether that gets the way out.
    #[test]
    fn every_proxy_has_the_way_out_or_no_listener() {
        let both = |stated: &str| {
            let mut install = sample::install("");
            install.spec.istio.version = stated.to_owned();
            [supported(&install), unsupported(&install)].map(|text| Regex::new(&text).unwrap())
        };
        for (stated, version, gets) in [
            ("1.31", "1.31.0", true),
            ("1.31", "1.31", true),
            ("1.31", "1.31.4", true),
            ("1.31", "1.31.0-rc.0", true),
            ("1.31", "1.32-dev", true),
            ("1.31", "1.32-alpha.0123abc", true),
            ("1.31", "1.40.0", true),
            ("1.31", "1.99.9", true),
            ("1.32", "1.32.0", true),
            ("1.40", "1.40.0", true),
            ("1.40", "1.41.0", true),
            ("1.31", "1.30.9", false),
            ("1.31", "1.30", false),
            ("1.31", "1.29.31", false),
            ("1.31", "1.9.31", false),
            ("1.31", "1.3.1", false),
            ("1.31", "1.3", false),
            ("1.31", "1.0.31", false),
            ("1.32", "1.31.9", false),
            ("1.40", "1.39.9", false),
            // What nobody can tell the Envoy of.
            ("1.31", "1.310.0", false),
            ("1.31", "2.31.0", false),
            ("1.31", "11.31.0", false),
            ("1.31", "v1.31.0", false),
            ("1.31", "1.", false),
            ("1.31", "1", false),
            ("1.31", "1.x", false),
            ("1.31", "131.0", false),
            ("1.31", "unknown", false),
            ("1.31", " 1.31.0", false),
        ] {
            let found = both(stated).map(|expression| expression.is_match(version));
            assert_eq!(found, [gets, !gets], "{stated}: {version}");
        }
    }
}
