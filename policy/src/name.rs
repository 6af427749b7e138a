//! Names: one grammar, one normal form, and the patterns that a policy may write.
//!
//! A name is compared only in its normal form: ASCII lower case, one trailing dot and one valid
//! `:port` removed, labels of letters, digits, `-` and `_`. Whatever is not a name under this
//! grammar is refused, never repaired: Envoy hands over authorities with commas (two Host
//! headers), userinfo, percent signs and empty labels, and each of them has fooled a suffix match
//! somewhere.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::Ipv6Net;

use crate::reason::ReasonCode;

/// Longest name, in octets, without the trailing dot (RFC 1035 §2.3.4).
pub const MAX_NAME: usize = 253;
/// Longest label, in octets (RFC 1035 §2.3.4).
pub const MAX_LABEL: usize = 63;
/// Most `*` characters in one pattern.
pub const MAX_STARS: usize = 4;

/// A host name in normal form.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Box<str>);

impl Name {
    /// Parses a bare name: no port, no brackets. One trailing dot is removed.
    ///
    /// # Errors
    /// [`ReasonCode::NameMalformed`] for what is no name, [`ReasonCode::AddressForm`] for what a resolver
    /// could read as an address (last label all digits or starting with `0x`).
    pub fn parse(bytes: &[u8]) -> Result<Self, ReasonCode> {
        let bytes = bytes.strip_suffix(b".").unwrap_or(bytes);
        check_labels(bytes)?;
        let mut text = String::with_capacity(bytes.len());
        text.extend(bytes.iter().map(|b| char::from(b.to_ascii_lowercase())));
        Ok(Self(text.into_boxed_str()))
    }

    /// The normal form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_label_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'-' || b == b'_'
}

fn check_labels(bytes: &[u8]) -> Result<(), ReasonCode> {
    if bytes.is_empty() || bytes.len() > MAX_NAME {
        return Err(ReasonCode::NameMalformed);
    }
    let mut last: &[u8] = &[];
    for label in bytes.split(|b| *b == b'.') {
        if label.is_empty() || label.len() > MAX_LABEL || !label.iter().copied().all(is_label_byte)
        {
            return Err(ReasonCode::NameMalformed);
        }
        last = label;
    }
    if looks_numeric(last) {
        Err(ReasonCode::AddressForm)
    } else {
        Ok(())
    }
}

/// `getaddrinfo` reads a host whose last label is a number as an address, octal, hexadecimal and
/// short forms included; the URL standard calls this "ends in a number".
fn looks_numeric(label: &[u8]) -> bool {
    label.iter().all(u8::is_ascii_digit) || matches!(label, [b'0', b'x' | b'X', ..])
}

/// What an authority, an SNI or a dialled address names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// A name to be resolved.
    Name(Name),
    /// An address literal; IPv4-mapped IPv6 is already that IPv4 address.
    Address(IpAddr),
}

impl Host {
    /// As an authority holds it: an IPv6 address in brackets (RFC 3986 §3.2.2).
    #[must_use]
    pub fn in_authority(&self) -> String {
        match self {
            Self::Address(IpAddr::V6(address)) => format!("[{address}]"),
            host => host.to_string(),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Address(address) => address.fmt(f),
        }
    }
}

/// A host and the port written beside it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Authority {
    /// The host.
    pub host: Host,
    /// The port, if one was written.
    pub port: Option<u16>,
}

impl Authority {
    /// Parses the bytes of a Host header, `:authority` or CONNECT target (RFC 9110 §7.2, RFC 3986
    /// §3.2 without userinfo).
    ///
    /// # Errors
    /// [`ReasonCode::NameMalformed`] or [`ReasonCode::AddressForm`], as [`Name::parse`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ReasonCode> {
        if let Some(rest) = bytes.strip_prefix(b"[") {
            return parse_bracketed(rest);
        }
        let (host, port) = match bytes.iter().position(|b| *b == b':') {
            None => (bytes, None),
            Some(colon) => {
                let (host, port) = bytes.split_at(colon);
                (host, Some(parse_port(port.get(1..).unwrap_or_default())?))
            }
        };
        if let Some(address) = parse_ipv4(host) {
            return Ok(Self {
                host: Host::Address(IpAddr::V4(address)),
                port,
            });
        }
        Ok(Self {
            host: Host::Name(Name::parse(host)?),
            port,
        })
    }

    /// Parses a server name as a ClientHello carries it (RFC 6066 §3): no port, and an address
    /// literal, which the RFC forbids there, is still reported as an address.
    ///
    /// # Errors
    /// As [`Authority::parse`]; a port is malformed here.
    pub fn parse_sni(bytes: &[u8]) -> Result<Host, ReasonCode> {
        if let Some(address) = parse_ipv4(bytes) {
            return Ok(Host::Address(IpAddr::V4(address)));
        }
        Name::parse(bytes).map(Host::Name)
    }
}

/// Teredo hides the IPv4 address that it leads to (RFC 4380 section 4), so no network condition is
/// about it, and it is refused whole.
const TEREDO: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 32);

fn parse_bracketed(rest: &[u8]) -> Result<Authority, ReasonCode> {
    let end = rest
        .iter()
        .position(|b| *b == b']')
        .ok_or(ReasonCode::NameMalformed)?;
    let (inside, after) = rest.split_at(end);
    let port = match after.strip_prefix(b"]") {
        Some([]) => None,
        Some([b':', digits @ ..]) => Some(parse_port(digits)?),
        Some(_) | None => return Err(ReasonCode::NameMalformed),
    };
    // A zone id (`%eth0`) has no meaning off this host, and `[name]` is no name.
    let text = std::str::from_utf8(inside).map_err(|_| ReasonCode::NameMalformed)?;
    let address: Ipv6Addr = text.parse().map_err(|_| {
        if text.contains(':') {
            ReasonCode::AddressForm
        } else {
            ReasonCode::NameMalformed
        }
    })?;
    if TEREDO.contains(&address) {
        return Err(ReasonCode::AddressForm);
    }
    Ok(Authority {
        host: Host::Address(canonical(IpAddr::V6(address))),
        port,
    })
}

fn parse_port(digits: &[u8]) -> Result<u16, ReasonCode> {
    if digits.is_empty() || digits.len() > 5 || !digits.iter().all(u8::is_ascii_digit) {
        return Err(ReasonCode::NameMalformed);
    }
    let value = digits
        .iter()
        .fold(0_u32, |sum, d| sum * 10 + u32::from(d - b'0'));
    u16::try_from(value)
        .ok()
        .filter(|port| *port != 0)
        .ok_or(ReasonCode::NameMalformed)
}

/// Dotted quad, four decimal parts, no leading zeros.
fn parse_ipv4(bytes: &[u8]) -> Option<Ipv4Addr> {
    // Rust's parser has refused octal-looking parts since CVE-2021-29922.
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

/// IPv4-mapped IPv6 as the IPv4 address that it reaches; everything else as it is.
#[must_use]
pub fn canonical(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    }
}

/// A pattern over names, as a policy's `domainNames` writes it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NamePattern {
    /// Exactly this name.
    Exact(Name),
    /// `*.base`: one or more labels below `base`, never `base` itself.
    Suffix(Name),
    /// `+.base`: exactly one label below `base`.
    OneBelow(Name),
    /// Stars inside labels.
    Glob(GlobPattern),
}

/// A pattern with `*` inside labels, optionally below a leading `*.`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GlobPattern {
    /// True if the pattern starts with `*.`: one or more further labels in front.
    pub any_depth: bool,
    /// The labels after a leading `*.`, from left to right.
    pub labels: Box<[LabelPattern]>,
}

impl GlobPattern {
    /// The labels at its end that hold no star, joined by dots; empty if the last one holds one.
    #[must_use]
    pub fn literal_tail(&self) -> String {
        let literal = self.labels.iter().rev();
        let mut labels: Vec<String> = literal
            .take_while(|label| label.parts.len() == 1)
            .map(|label| label.parts.concat())
            .collect();
        labels.reverse();
        labels.join(".")
    }
}

/// One label of a [`GlobPattern`]: the literal parts around its stars, so `a*b` is `["a", "b"]`,
/// `*` is `["", ""]` and `abc` is `["abc"]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LabelPattern {
    /// Literal parts; one more than there are stars.
    pub parts: Box<[Box<str>]>,
}

impl LabelPattern {
    /// True if `label` (already lower case) matches. A star matches any run inside the label, the
    /// empty one included; a label that is only `*` matches any whole label.
    #[must_use]
    pub fn matches(&self, label: &str) -> bool {
        let Some((first, rest)) = self.parts.split_first() else {
            return false;
        };
        let Some(mut left) = label.strip_prefix(&**first) else {
            return false;
        };
        let Some((last, middle)) = rest.split_last() else {
            return left.is_empty();
        };
        for part in middle {
            // Leftmost is enough: stars are greedy over the rest, so matching is linear.
            let Some((_, after)) = left.split_once(&**part) else {
                return false;
            };
            left = after;
        }
        left.ends_with(&**last)
    }
}

impl NamePattern {
    /// Parses a pattern.
    ///
    /// # Errors
    /// What is wrong with it, in words for the policy's author.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if !text.is_ascii() {
            return Err(PatternError::NotAscii);
        }
        if let Some(bad) = text.chars().find(|c| "?[]{}!\\^$()|".contains(*c)) {
            return Err(PatternError::Syntax(bad));
        }
        if text.contains('/') {
            return Err(PatternError::Url);
        }
        if text.contains(':') && !text.contains("::") {
            return Err(PatternError::Port);
        }
        if text.contains("**") {
            return Err(PatternError::DoubleStar);
        }
        let lower = text.to_ascii_lowercase();
        let body = lower.strip_suffix('.').unwrap_or(&lower);
        if body.ends_with('.') {
            return Err(PatternError::NotAName);
        }
        if let Some(base) = body.strip_prefix("+.") {
            return below(base).map(Self::OneBelow);
        }
        if body.contains('+') {
            return Err(PatternError::Plus);
        }
        if !body.contains('*') {
            return plain(body).map(Self::Exact);
        }
        match body.strip_prefix("*.") {
            Some(base) if !base.contains('*') => below(base).map(Self::Suffix),
            _ => glob(body).map(Self::Glob),
        }
    }

    /// True if the pattern matches the name. The compiled index does not call this; the reference
    /// evaluator and the tools do.
    #[must_use]
    pub fn matches(&self, name: &Name) -> bool {
        match self {
            Self::Exact(exact) => exact == name,
            Self::Suffix(base) => labels_below(name, base).is_some(),
            Self::OneBelow(base) => {
                labels_below(name, base).is_some_and(|front| !front.contains('.'))
            }
            Self::Glob(glob) => glob.matches(name),
        }
    }
}

impl GlobPattern {
    fn matches(&self, name: &Name) -> bool {
        let mut labels = name.as_str().rsplit('.');
        let fixed = self
            .labels
            .iter()
            .rev()
            .all(|pattern| labels.next().is_some_and(|label| pattern.matches(label)));
        fixed && (self.any_depth == labels.next().is_some())
    }
}

/// The labels of `name` in front of `base`, if there is at least one.
fn labels_below<'n>(name: &'n Name, base: &Name) -> Option<&'n str> {
    name.as_str().strip_suffix(base.as_str())?.strip_suffix('.')
}

fn plain(text: &str) -> Result<Name, PatternError> {
    if text.parse::<IpAddr>().is_ok() {
        return Err(PatternError::Address);
    }
    Name::parse(text.as_bytes()).map_err(|code| match code {
        ReasonCode::AddressForm => PatternError::Address,
        _ => PatternError::NotAName,
    })
}

/// The base of `*.base` or `+.base`: itself at least two labels, so that no whole top-level domain
/// can be opened.
fn below(base: &str) -> Result<Name, PatternError> {
    let name = plain(base)?;
    // The shortest name below it must still be a name, or the pattern would never match.
    plain(&format!("x.{base}"))?;
    if name.as_str().contains('.') {
        Ok(name)
    } else {
        Err(PatternError::TooWide)
    }
}

fn glob(body: &str) -> Result<GlobPattern, PatternError> {
    let labels: Vec<&str> = body.split('.').collect();
    if body == "*" || labels.len() < 3 {
        return Err(PatternError::TooWide);
    }
    if body.matches('*').count() > MAX_STARS {
        return Err(PatternError::TooManyStars);
    }
    if labels.iter().rev().take(2).any(|label| label.contains('*')) {
        return Err(PatternError::TooWide);
    }
    // With a letter for each star the rest has to be a name by the ordinary grammar.
    plain(&body.replace('*', "x"))?;
    let (any_depth, labels) = match labels.split_first() {
        Some((&"*", rest)) => (true, rest),
        _ => (false, labels.as_slice()),
    };
    let labels = labels
        .iter()
        .map(|label| LabelPattern {
            parts: label.split('*').map(Box::from).collect(),
        })
        .collect();
    Ok(GlobPattern { any_depth, labels })
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => name.fmt(f),
            Self::Suffix(base) => write!(f, "*.{base}"),
            Self::OneBelow(base) => write!(f, "+.{base}"),
            Self::Glob(glob) => {
                if glob.any_depth {
                    f.write_str("*.")?;
                }
                for (i, label) in glob.labels.iter().enumerate() {
                    if i > 0 {
                        f.write_str(".")?;
                    }
                    f.write_str(&label.parts.join("*"))?;
                }
                Ok(())
            }
        }
    }
}

/// Why a text is not a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatternError {
    /// Characters above 0x7F.
    #[error("a name in a compiled policy is ASCII")]
    NotAscii,
    /// A glob or regex character other than `*`.
    #[error("`{0}` has no meaning in a name pattern")]
    Syntax(char),
    /// A port stands in the name.
    #[error("a name carries no port")]
    Port,
    /// A scheme or a path stands there.
    #[error("a name is no URL and no network")]
    Url,
    /// `**` was written.
    #[error("`**` has no meaning in a name pattern")]
    DoubleStar,
    /// A `+` that is not a leading `+.`.
    #[error("`+` stands only in a leading `+.`")]
    Plus,
    /// An address literal, or what a resolver could read as one.
    #[error("this is an address, or reads like one")]
    Address,
    /// The grammar of names.
    #[error("this is not a host name")]
    NotAName,
    /// More than [`MAX_STARS`].
    #[error("more than four `*`")]
    TooManyStars,
    /// A star in the last two labels.
    #[error("a `*` in the last two labels opens a whole domain")]
    TooWide,
}

impl PatternError {
    /// What to write instead.
    #[must_use]
    pub fn hint(self) -> &'static str {
        match self {
            Self::NotAscii => "write the A-label (`xn--...`); `warden fmt` converts it",
            Self::Syntax(_) | Self::DoubleStar => {
                "`*.example.com` is any depth below, `+.example.com` one label, `api-*.example.com` a star inside a label"
            }
            Self::Port => "write it under `ports`",
            Self::Url => {
                "write the host alone; `ports`, `paths` and `networks` are fields of their own"
            }
            Self::Plus => "`+.example.com` is exactly one label below example.com",
            Self::Address => "write it under `networks`, as 192.0.2.1/32",
            Self::NotAName => {
                "labels of letters, digits, `-` and `_`, 1 to 63 octets each, 253 in all, separated by single dots"
            }
            Self::TooManyStars => "split it into several patterns",
            Self::TooWide => "keep the last two labels literal: `*.example.com`",
        }
    }
}

#[cfg(test)]
mod tests;
