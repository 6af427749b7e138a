//! Sets of ports.

use std::fmt;
use std::ops::RangeInclusive;

/// UDP ports of overlays: VXLAN (RFC 7348), VXLAN-GPE, Geneve (RFC 8926), and VXLAN on Linux's own
/// port. Another node unpacks what it gets there and sends it on under another source address.
pub const OVERLAY_PORTS: [u16; 4] = [4789, 4790, 6081, 8472];

/// Ports as a policy lists them; empty means every port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PortSet {
    ranges: Box<[(u16, u16)]>,
}

impl PortSet {
    /// Every port.
    #[must_use]
    pub fn any() -> Self {
        Self::default()
    }

    /// These ranges, sorted and merged. An empty iterator is every port.
    pub fn new(ranges: impl IntoIterator<Item = RangeInclusive<u16>>) -> Self {
        // As one number each: every further type that is sorted costs the module ten kilobytes.
        let mut sorted: Vec<u32> = ranges
            .into_iter()
            .map(|range| u32::from(*range.start()) << 16 | u32::from(*range.end()))
            .collect();
        sorted.sort_unstable();
        let mut merged: Vec<(u16, u16)> = Vec::with_capacity(sorted.len());
        for range in sorted {
            let [a, b, c, d] = range.to_be_bytes();
            let (first, last) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            match merged.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
                _ => merged.push((first, last)),
            }
        }
        Self {
            ranges: merged.into_boxed_slice(),
        }
    }

    /// True if every port is in it.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.ranges.is_empty()
    }

    /// True if the port is in it.
    #[must_use]
    pub fn contains(&self, port: u16) -> bool {
        self.is_any()
            || self
                .ranges
                .iter()
                .any(|(first, last)| (*first..=*last).contains(&port))
    }

    /// The ports in both, or `None` where there are none.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Option<Self> {
        if self.is_any() {
            return Some(other.clone());
        }
        if other.is_any() {
            return Some(self.clone());
        }
        let both = self.ranges.iter().flat_map(|(a, b)| {
            other.ranges.iter().filter_map(move |(c, d)| {
                let (first, last) = (*a.max(c), *b.min(d));
                (first <= last).then_some(first..=last)
            })
        });
        let both = Self::new(both);
        (!both.is_any()).then_some(both)
    }

    /// The ranges, sorted and disjoint; empty for every port.
    pub fn ranges(&self) -> impl Iterator<Item = RangeInclusive<u16>> {
        self.ranges.iter().map(|(first, last)| *first..=*last)
    }
}

impl fmt::Display for PortSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (first, last)) in self.ranges.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            if first == last {
                write!(f, "{comma}{first}")?;
            } else {
                write!(f, "{comma}{first}-{last}")?;
            }
        }
        Ok(())
    }
}

/// Parses `443` or `8000-8999` as text.
///
/// # Errors
/// What is wrong, for the policy's author.
pub fn parse_ports(text: &str) -> Result<RangeInclusive<u16>, PortError> {
    let port = |digits: &str| -> Result<u16, PortError> {
        if digits.is_empty()
            || !digits.bytes().all(|b| b.is_ascii_digit())
            || digits.starts_with('0')
        {
            return Err(PortError::Syntax);
        }
        digits.parse().map_err(|_| PortError::OutOfRange)
    };
    let Some((first, last)) = text.split_once('-') else {
        return port(text).map(|p| p..=p);
    };
    let (first, last) = (port(first)?, port(last)?);
    if first < last {
        Ok(first..=last)
    } else {
        Err(PortError::Reversed)
    }
}

/// Why a text is neither a port nor a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PortError {
    /// Not digits, or digits with a leading zero.
    #[error("this is neither a port nor a range of ports")]
    Syntax,
    /// Above 65535.
    #[error("a port is at most 65535")]
    OutOfRange,
    /// The end is not above the start.
    #[error("the end of a range lies above its start")]
    Reversed,
}

#[cfg(test)]
mod tests;
