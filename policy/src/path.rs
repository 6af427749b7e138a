//! Request paths: what can be compared safely, and the globs that compare it.

use std::fmt;

use globset::{GlobBuilder, GlobMatcher};

/// A path as the request carries it, already classified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestPath<'a> {
    /// Every server reads it alike; the query is cut off.
    Clean(&'a str),
    /// Servers differ over it (`%2f`, `\`, `;`, `//`, dot segments, escapes of plain letters,
    /// bytes outside printable ASCII), so a rule that compares paths denies it.
    Malformed,
    /// None at all, as in CONNECT.
    Absent,
}

impl<'a> RequestPath<'a> {
    /// Classifies the bytes of `:path`.
    #[must_use]
    pub fn parse(bytes: Option<&'a [u8]>) -> Self {
        let Some(bytes) = bytes else {
            return Self::Absent;
        };
        let Ok(text) = std::str::from_utf8(bytes) else {
            return Self::Malformed;
        };
        let path = text.split_once('?').map_or(text, |(path, _)| path);
        if is_clean(path) {
            Self::Clean(path)
        } else {
            Self::Malformed
        }
    }
}

fn is_clean(path: &str) -> bool {
    path.starts_with('/')
        && !path.contains("//")
        && path
            .bytes()
            .all(|b| b.is_ascii_graphic() && !matches!(b, b'\\' | b';' | b'#'))
        && path
            .split('/')
            .all(|segment| !matches!(segment, "." | ".."))
        && path.split('%').skip(1).all(is_unambiguous_escape)
}

/// True unless the escape stands for a byte that a server may treat as a separator, or for one
/// that needs no escape and so gives one path two spellings (RFC 3986 §2.3).
fn is_unambiguous_escape(after_percent: &str) -> bool {
    let Some(byte) = after_percent
        .get(..2)
        .and_then(|hex| u8::from_str_radix(hex, 16).ok())
    else {
        return false;
    };
    let separator = matches!(byte, b'/' | b'\\' | b';' | b'%' | b'?' | b'#');
    let unreserved = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    !separator && !unreserved && !byte.is_ascii_control()
}

/// A path glob: `*` inside a segment, `**` across segments.
#[derive(Clone, Debug)]
pub struct PathPattern {
    matcher: GlobMatcher,
}

impl PathPattern {
    /// Compiles a glob.
    ///
    /// # Errors
    /// A message for the policy's author.
    pub fn parse(text: &str) -> Result<Self, PathPatternError> {
        if !text.starts_with('/') {
            return Err(PathPatternError::NotAbsolute);
        }
        let literal: String = text.chars().filter(|c| *c != '*').collect();
        // What no clean path can hold would make a rule that never matches.
        if !is_clean(&literal.replace("//", "/")) || text.contains('?') {
            return Err(PathPatternError::NeverMatches);
        }
        GlobBuilder::new(text)
            .literal_separator(true)
            .backslash_escape(false)
            .build()
            .map(|glob| Self {
                matcher: glob.compile_matcher(),
            })
            .map_err(|error| PathPatternError::Glob(error.kind().to_string()))
    }

    /// True if the whole path matches.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        self.matcher.is_match(path)
    }

    /// The glob as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.matcher.glob().glob()
    }
}

impl PartialEq for PathPattern {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for PathPattern {}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a text is not a path glob.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathPatternError {
    /// No leading `/`.
    #[error("a path glob starts with `/`")]
    NotAbsolute,
    /// Characters that are refused in every request path under a path rule.
    #[error("no path that a rule compares holds these characters")]
    NeverMatches,
    /// globset's own complaint.
    #[error("{0}")]
    Glob(String),
}

impl PathPatternError {
    /// What to write instead.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NotAbsolute => "for example `/repos/*/issues` or `/repos/**`",
            Self::NeverMatches => {
                "`?`, `;`, `#`, `\\`, `//`, dot segments and escapes of `/` or of plain letters are denied before globs are compared"
            }
            Self::Glob(_) => "`*` matches inside a segment, `**` across segments, `{a,b}` either",
        }
    }
}

#[cfg(test)]
mod tests;
