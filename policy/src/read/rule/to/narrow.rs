//! What is left of a named destination by what stands beside it.

use crate::defect::{At, DefectKind, Defects};
use crate::model::To;

pub(super) fn narrow_all(
    elements: &[To],
    by: &To,
    at: &At<'_>,
    defects: &mut Defects,
) -> Option<Vec<To>> {
    if by.tls.is_some() {
        defects.add(
            DefectKind::Conflict,
            &at.field("tls"),
            "`tls` belongs to the destination itself",
            None,
        );
    }
    if !by.paths.is_empty() && elements.iter().any(|element| !element.paths.is_empty()) {
        let hint = "two sets of globs have no intersection to write down; keep one".to_owned();
        defects.add(
            DefectKind::Conflict,
            &at.field("paths"),
            "the destination already says `paths`",
            hint,
        );
        return None;
    }
    let narrowed: Vec<To> = elements
        .iter()
        .filter_map(|element| narrow(element, by))
        .collect();
    if narrowed.is_empty() && !elements.is_empty() {
        let hint = "what stands beside `destination` narrows it".to_owned();
        defects.add(
            DefectKind::NeverMatches,
            at,
            "nothing is left of the destination",
            hint,
        );
        return None;
    }
    Some(narrowed)
}

fn narrow(element: &To, by: &To) -> Option<To> {
    let paths = if by.paths.is_empty() {
        &element.paths
    } else {
        &by.paths
    };
    Some(To {
        destination: element.destination.clone(),
        hosts: element.hosts.clone(),
        ports: element.ports.intersect(&by.ports)?,
        protocols: narrow_list(&element.protocols, &by.protocols)?,
        methods: narrow_list(&element.methods, &by.methods)?,
        paths: paths.clone(),
        upgrades: narrow_list(&element.upgrades, &by.upgrades)?,
        allow_private: element.allow_private || by.allow_private,
        tls: element.tls.clone(),
    })
}

/// The entries in both, where an empty list stands for no restriction.
fn narrow_list<T: Clone + PartialEq>(left: &[T], right: &[T]) -> Option<Vec<T>> {
    if left.is_empty() || right.is_empty() {
        return Some([left, right].concat());
    }
    let both: Vec<T> = left
        .iter()
        .filter(|entry| right.contains(entry))
        .cloned()
        .collect();
    (!both.is_empty()).then_some(both)
}
