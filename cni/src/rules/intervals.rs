//! Overlapping destinations made disjoint.
//!
//! nftables refuses overlapping elements in a set of concatenated intervals, while an
//! administrator may well write `10.0.0.0/8` and `10.1.2.3/32` for the same port.

use std::collections::BTreeMap;

use ipnet::IpNet;

use crate::config::PortRange;

/// Disjoint triples that cover exactly what `entries` cover, in a stable order. Networks are
/// either nested or disjoint, so it is enough to take from each network's ports those of the
/// networks around it.
pub(super) fn disjoint<K: Ord + Clone>(
    entries: impl IntoIterator<Item = (K, IpNet, PortRange)>,
) -> Vec<(K, IpNet, PortRange)> {
    let mut ports: BTreeMap<(K, IpNet), Vec<(u16, u16)>> = BTreeMap::new();
    for (key, network, range) in entries {
        ports
            .entry((key, network.trunc()))
            .or_default()
            .push(range.bounds());
    }
    let mut result = Vec::new();
    for ((key, network), own) in &ports {
        let around: Vec<(u16, u16)> = ports
            .iter()
            .filter(|((other, wider), _)| {
                other == key && wider != network && wider.contains(network)
            })
            .flat_map(|(_, ranges)| ranges.iter().copied())
            .collect();
        for range in subtract(&merge(own), &merge(&around)) {
            result.push((key.clone(), *network, range));
        }
    }
    result
}

/// Sorted ranges without overlap or adjacency.
fn merge(ranges: &[(u16, u16)]) -> Vec<(u16, u16)> {
    let mut sorted = ranges.to_vec();
    sorted.sort_unstable();
    let mut merged: Vec<(u16, u16)> = Vec::with_capacity(sorted.len());
    for (start, end) in sorted {
        match merged.last_mut() {
            Some(last) if start <= last.1.saturating_add(1) => last.1 = last.1.max(end),
            _ => merged.push((start, end)),
        }
    }
    merged
}

/// What is in `from` and not in `without`; both merged.
fn subtract(from: &[(u16, u16)], without: &[(u16, u16)]) -> Vec<PortRange> {
    let mut left = Vec::new();
    for &(start, end) in from {
        let mut start = Some(start);
        for &(hole_start, hole_end) in without {
            let Some(at) = start else { break };
            if hole_end < at || hole_start > end {
                continue;
            }
            if hole_start > at {
                left.extend(PortRange::bounded(at, hole_start - 1));
            }
            start = hole_end.checked_add(1).filter(|next| *next <= end);
        }
        left.extend(start.and_then(|at| PortRange::bounded(at, end)));
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    fn triples(list: &[(&str, &str)]) -> Vec<String> {
        disjoint(
            list.iter()
                .map(|(network, ports)| ((), network.parse().unwrap(), ports.parse().unwrap())),
        )
        .iter()
        .map(|((), network, ports)| format!("{network} {ports}"))
        .collect()
    }

    #[test]
    fn overlaps_become_disjoint_and_nothing_is_lost_or_gained() {
        for (input, expected) in [
            (
                vec![("10.0.0.0/8", "443"), ("10.1.2.3/32", "443")],
                vec!["10.0.0.0/8 443"],
            ),
            (
                vec![("10.0.0.0/8", "400-500"), ("10.1.0.0/16", "450-600")],
                vec!["10.0.0.0/8 400-500", "10.1.0.0/16 501-600"],
            ),
            (
                vec![("10.0.0.0/8", "450-460"), ("10.1.0.0/16", "1-65535")],
                vec![
                    "10.0.0.0/8 450-460",
                    "10.1.0.0/16 1-449",
                    "10.1.0.0/16 461-65535",
                ],
            ),
            (
                vec![("10.0.0.0/8", "65535"), ("10.1.0.0/16", "1-65535")],
                vec!["10.0.0.0/8 65535", "10.1.0.0/16 1-65534"],
            ),
            (
                vec![
                    ("10.0.0.9/8", "80-81"),
                    ("10.0.0.0/8", "82"),
                    ("10.0.0.0/8", "81-90"),
                ],
                vec!["10.0.0.0/8 80-90"],
            ),
            (
                vec![("fd00::/64", "53"), ("10.0.0.0/8", "53")],
                vec!["10.0.0.0/8 53", "fd00::/64 53"],
            ),
        ] {
            assert_eq!(triples(&input), expected, "{input:?}");
        }
    }
}
