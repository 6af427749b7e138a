//! Classes of names: those written out, and what is below a base, by the globs that match.

use std::collections::BTreeSet;

use egress_policy::name::{Name, NamePattern};

use super::{MAX_GLOBS, UNNAMED, vector_of};

/// A class of destination names.
#[derive(Clone, Debug)]
pub(in crate::diff) enum NameAtom {
    /// An address literal: no name.
    None,
    Exact(Name),
    /// Below a base, one label or more, with the globs (by number) that match.
    Below {
        base: Option<String>,
        deep: bool,
        globs: u32,
        witness: Option<Name>,
    },
}

pub(super) type NameClasses = (Vec<NameAtom>, Vec<NamePattern>, bool);

pub(super) fn name_atoms(patterns: &BTreeSet<&NamePattern>) -> NameClasses {
    let mut bases: BTreeSet<String> = BTreeSet::new();
    let mut globs: Vec<NamePattern> = Vec::new();
    let mut atoms = vec![NameAtom::None];
    for pattern in patterns {
        match pattern {
            NamePattern::Exact(name) => atoms.push(NameAtom::Exact(name.clone())),
            NamePattern::Suffix(base) | NamePattern::OneBelow(base) => {
                bases.insert(base.as_str().to_owned());
            }
            NamePattern::Glob(glob) => {
                bases.insert(glob.literal_tail());
                globs.push((*pattern).clone());
            }
        }
    }
    let too_many = globs.len() > MAX_GLOBS;
    globs.truncate(MAX_GLOBS);
    let candidates = name_candidates(&globs, &bases, patterns);
    for base in bases.iter().map(Some).chain([None]) {
        for deep in [false, true] {
            if base.is_none() && deep {
                continue;
            }
            for vector in 0..(1_u32 << globs.len()) {
                if !possible(&globs, vector, base.map(String::as_str)) {
                    continue;
                }
                let witness = candidates.iter().find(|name| {
                    vector_of(&globs, |glob| glob.matches(name)) == vector
                        && !patterns.contains(&NamePattern::Exact((*name).clone()))
                        && longest_base(name, &bases).as_ref() == base
                        && base.is_none_or(|base| is_deep(name, base) == deep)
                });
                atoms.push(NameAtom::Below {
                    base: base.cloned(),
                    deep,
                    globs: vector,
                    witness: witness.cloned(),
                });
            }
        }
    }
    (atoms, globs, too_many)
}

/// A glob can match below its own literal tail only.
fn possible(globs: &[NamePattern], vector: u32, base: Option<&str>) -> bool {
    globs.iter().enumerate().all(|(i, glob)| {
        let NamePattern::Glob(pattern) = glob else {
            return true;
        };
        let tail = pattern.literal_tail();
        vector >> i & 1 == 0
            || base.is_some_and(|base| base == tail || base.ends_with(&format!(".{tail}")))
    })
}

fn longest_base(name: &Name, bases: &BTreeSet<String>) -> Option<String> {
    let mut rest = name.as_str();
    while let Some((_, parent)) = rest.split_once('.') {
        if bases.contains(parent) {
            return Some(parent.to_owned());
        }
        rest = parent;
    }
    None
}

fn is_deep(name: &Name, base: &str) -> bool {
    name.as_str()
        .strip_suffix(base)
        .and_then(|front| front.strip_suffix('.'))
        .is_some_and(|front| front.contains('.'))
}

/// Names that could stand for the classes.
fn name_candidates(
    globs: &[NamePattern],
    bases: &BTreeSet<String>,
    patterns: &BTreeSet<&NamePattern>,
) -> Vec<Name> {
    let mut texts: BTreeSet<String> = BTreeSet::new();
    texts.insert(format!("{UNNAMED}.example"));
    for base in bases {
        texts.insert(format!("zz9.{base}"));
        texts.insert(format!("zz9.zz9.{base}"));
        texts.insert(format!("zz8.zz9.zz9.{base}"));
    }
    for pattern in patterns {
        if let NamePattern::Exact(name) = pattern {
            texts.insert(format!("zz9.{name}"));
        }
    }
    let fills = |glob: &NamePattern| -> Vec<String> {
        let text = glob.to_string();
        let mut fills: Vec<String> = ["zz9", "", "a", "1"]
            .iter()
            .map(|fill| text.replace('*', fill))
            .collect();
        fills.push(text.replacen("*.", "zz8.zz9.", 1).replace('*', "zz9"));
        fills
    };
    for glob in globs {
        texts.extend(fills(glob));
        // One glob's text inside another's star stands for what both match.
        for other in globs {
            for label in other.to_string().split('.') {
                let inside = label.replace('*', "zz9");
                texts.insert(glob.to_string().replace('*', &inside));
                let ends: Vec<&str> = label.split('*').collect();
                if let (Some(first), Some(last)) = (ends.first(), ends.last()) {
                    texts.insert(glob.to_string().replacen('*', first, 1).replace('*', last));
                    texts.insert(glob.to_string().replacen('*', last, 1).replace('*', first));
                }
            }
        }
    }
    texts
        .iter()
        .filter_map(|text| Name::parse(text.as_bytes()).ok())
        .collect()
}
