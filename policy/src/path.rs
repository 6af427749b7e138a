//! Request paths: what can be compared safely, and the globs that compare it.

use std::fmt;

use globset::{GlobBuilder, GlobMatcher};

/// A path as the request carries it, already classified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestPath<'a> {
    /// Every server reads it alike; the query is cut off.
    Clean(&'a str),
    /// Servers differ over it (`%2f`, `\`, `;`, `//`, dot segments, escapes of what needs none,
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

/// What may stand in a path as it is (RFC 3986 §3.3, pchar), but for `;`, which starts a path
/// parameter for some servers.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'-' | b'.' | b'_' | b'~' | b':' | b'@')
        || matches!(
            byte,
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'='
        )
}

/// True unless the escape stands for a byte that a server may treat as a separator, or for one
/// that needs no escape: nearly every server reads `%40` as `@`, and one path with two spellings
/// would slip past a Deny that writes the other.
fn is_unambiguous_escape(after_percent: &str) -> bool {
    let Some([high, low]) = after_percent.as_bytes().first_chunk() else {
        return false;
    };
    let digit = |b: u8| {
        char::from(b)
            .to_digit(16)
            .and_then(|d| u8::try_from(d).ok())
    };
    let Some(byte) = digit(*high).zip(digit(*low)).map(|(h, l)| h << 4 | l) else {
        return false;
    };
    let separator = matches!(byte, b'/' | b'\\' | b';' | b'%' | b'?' | b'#');
    !separator && !is_plain(byte) && !byte.is_ascii_control()
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
        let segments = || text.split('/').skip(1);
        if segments().any(|segment| segment.contains("**") && segment != "**") {
            return Err(PathPatternError::DoubleStar);
        }
        // What no clean path holds in one spelling only would make a rule that never matches, or
        // one that an escape slips past.
        let fine = |byte: u8| is_plain(byte) || matches!(byte, b'/' | b'{' | b'}');
        if text.contains("//")
            || segments().any(|segment| matches!(segment, "." | ".."))
            || !text.bytes().all(fine)
        {
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
    /// `**` beside other characters of its segment.
    #[error("`**` is a whole segment")]
    DoubleStar,
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
                "a glob holds what stands in a path unescaped, `*` and `{a,b}`; write `*` where a path holds an escape"
            }
            Self::DoubleStar | Self::Glob(_) => {
                "`*` matches inside a segment, `**` across segments, `{a,b}` either"
            }
        }
    }
}

#[cfg(test)]
mod tests;
