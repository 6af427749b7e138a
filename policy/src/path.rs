//! Request paths: what can be compared safely, and the globs that compare it.

use std::fmt;

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

/// A path glob: `*` inside a segment, `**` for whole segments, `{a,b}` for either.
#[derive(Clone, Debug)]
pub struct PathPattern {
    text: Box<str>,
    /// One for each choice of what stands in braces.
    alternatives: Box<[Box<[Segment]>]>,
}

/// What stands between two slashes of a glob.
#[derive(Clone, Debug)]
enum Segment {
    /// `**`: any number of segments.
    Any,
    /// Text with `*`.
    Text(Box<str>),
}

impl PathPattern {
    /// How many globs without braces one with braces may stand for.
    pub const MAX_ALTERNATIVES: usize = 64;

    /// Compiles a glob.
    ///
    /// # Errors
    /// A message for the policy's author.
    pub fn parse(text: &str) -> Result<Self, PathPatternError> {
        if !text.starts_with('/') {
            return Err(PathPatternError::NotAbsolute);
        }
        let alternatives: Result<_, _> = expand(text)?.iter().map(|glob| segments(glob)).collect();
        Ok(Self {
            text: text.into(),
            alternatives: alternatives?,
        })
    }

    /// True if the whole path matches. The time is at most the product of the lengths.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        let mut alternatives = self.alternatives.iter();
        alternatives.any(|segments| matches(segments, path))
    }

    /// The glob as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// Writes out what braces stand for, the innermost first.
fn expand(text: &str) -> Result<Vec<String>, PathPatternError> {
    let (mut plain, mut open) = (Vec::new(), vec![text.to_owned()]);
    while let Some(text) = open.pop() {
        let Some((head, rest)) = text.split_once('}') else {
            if text.contains('{') {
                return Err(PathPatternError::Braces);
            }
            if plain.len() == PathPattern::MAX_ALTERNATIVES {
                return Err(PathPatternError::Alternatives);
            }
            plain.push(text);
            continue;
        };
        let (before, choices) = head.rsplit_once('{').ok_or(PathPatternError::Braces)?;
        for choice in choices.split(',') {
            if choice.is_empty() {
                return Err(PathPatternError::Braces);
            }
            // `**` is written out, and does not come about.
            let joined = |left: &str, right: &str| left.ends_with('*') && right.starts_with('*');
            if choice.contains("**") || joined(before, choice) || joined(choice, rest) {
                return Err(PathPatternError::DoubleStar);
            }
            open.push(format!("{before}{choice}{rest}"));
        }
    }
    Ok(plain)
}

/// The segments of a glob without braces.
fn segments(glob: &str) -> Result<Box<[Segment]>, PathPatternError> {
    // What no clean path holds in one spelling only would make a rule that never matches, or one
    // that an escape slips past.
    let fine = |byte: u8| is_plain(byte) || byte == b'/';
    if glob.contains("//") || !glob.bytes().all(fine) {
        return Err(PathPatternError::NeverMatches);
    }
    let mut segments = Vec::new();
    for segment in glob.split('/').skip(1) {
        segments.push(match segment {
            "." | ".." => return Err(PathPatternError::NeverMatches),
            "**" => Segment::Any,
            text if text.contains("**") => return Err(PathPatternError::DoubleStar),
            text => Segment::Text(text.into()),
        });
    }
    // At the end it stands for what is below, and not for the path itself.
    if matches!(segments.last(), Some(Segment::Any)) {
        segments.push(Segment::Text("*".into()));
    }
    Ok(segments.into())
}

/// Whether segments stand for this path. A mismatch goes back to the last `**` alone: what an
/// earlier one could take besides, the last can take too.
fn matches(segments: &[Segment], path: &str) -> bool {
    let mut left = path.split('/');
    // What is before the first slash.
    left.next();
    let (mut pattern, mut retry) = (segments, None);
    loop {
        let mut after = left.clone();
        match (pattern.split_first(), after.next()) {
            (None, None) => return true,
            (Some((Segment::Any, rest)), _) => {
                pattern = rest;
                retry = Some((rest, left.clone()));
                continue;
            }
            (Some((Segment::Text(text), rest)), Some(segment))
                if in_segment(text.as_bytes(), segment.as_bytes()) =>
            {
                (pattern, left) = (rest, after);
                continue;
            }
            _ => {}
        }
        let Some((rest, from)) = &mut retry else {
            return false;
        };
        if from.next().is_none() {
            return false;
        }
        (pattern, left) = (rest, from.clone());
    }
}

/// The same inside a segment, with `*` and bytes.
fn in_segment(mut pattern: &[u8], mut text: &[u8]) -> bool {
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => return true,
            (Some((b'*', rest)), _) => {
                pattern = rest;
                retry = Some((rest, text));
                continue;
            }
            (Some((wanted, rest)), Some((found, after))) if wanted == found => {
                (pattern, text) = (rest, after);
                continue;
            }
            _ => {}
        }
        let Some((rest, from)) = retry else {
            return false;
        };
        let Some((_, after)) = from.split_first() else {
            return false;
        };
        retry = Some((rest, after));
        (pattern, text) = (rest, after);
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
    /// A brace without its other one, or nothing between two commas.
    #[error("braces stand around alternatives: `{{a,b}}`")]
    Braces,
    /// More than [`PathPattern::MAX_ALTERNATIVES`].
    #[error(
        "braces that stand for more than {} globs",
        PathPattern::MAX_ALTERNATIVES
    )]
    Alternatives,
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
            Self::DoubleStar | Self::Braces => {
                "`*` matches inside a segment, `**` across segments, `{a,b}` either"
            }
            Self::Alternatives => "write several globs, or `*`",
        }
    }
}

#[cfg(test)]
mod tests;
