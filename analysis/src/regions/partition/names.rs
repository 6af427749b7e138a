//! Classes of names: those written out, and what is below a base, by the globs that match.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Range;

use egress_policy::name::{Name, NamePattern};

use super::{MAX_GLOBS, UNNAMED, vector_of};
use crate::regions::set::Set;

/// A class of destination names.
#[derive(Clone, Debug)]
pub(crate) enum NameAtom {
    /// An address literal: no name.
    None,
    Exact(Name),
    /// Below a base, one label or more, with the globs (by number) that match. Without a base: names
    /// that no pattern is about.
    Below {
        base: Option<String>,
        deep: bool,
        globs: u32,
        witness: Option<Name>,
    },
}

/// All classes, and an index over them.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    pub(crate) atoms: Vec<NameAtom>,
    globs: Vec<NamePattern>,
    /// Globs beyond the bound.
    pub(crate) too_many: bool,
    /// The classes of the names that are written out.
    exact: HashMap<Name, usize>,
    /// The classes by their reversed labels, so that what is below a base stands together.
    order: Vec<(String, usize)>,
}

impl Names {
    pub(crate) fn of(mut patterns: Vec<&NamePattern>) -> Self {
        patterns.sort_unstable();
        patterns.dedup();
        let mut bases: HashSet<String> = HashSet::new();
        let mut globs: Vec<NamePattern> = Vec::new();
        let mut atoms = vec![NameAtom::None];
        for pattern in &patterns {
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
        let witnesses = witnesses(&globs, &bases, &patterns);
        let mut bases: Vec<String> = bases.into_iter().collect();
        bases.sort_unstable();
        for base in bases.iter().map(Some).chain([None]) {
            for deep in [false, true] {
                if base.is_none() && deep {
                    continue;
                }
                for vector in 0..(1_u32 << globs.len()) {
                    if !possible(&globs, vector, base.map(String::as_str), deep) {
                        continue;
                    }
                    let key = (base.cloned(), deep, vector);
                    atoms.push(NameAtom::Below {
                        witness: witnesses.get(&key).cloned(),
                        base: key.0,
                        deep,
                        globs: vector,
                    });
                }
            }
        }
        let keys = atoms.iter().enumerate().filter_map(|(i, atom)| match atom {
            NameAtom::Exact(name) => Some((reversed(name.as_str()), i)),
            NameAtom::Below {
                base: Some(base), ..
            } => Some((format!("{}.", reversed(base)), i)),
            NameAtom::None | NameAtom::Below { base: None, .. } => None,
        });
        let mut order: Vec<(String, usize)> = keys.collect();
        order.sort_unstable();
        let exact = atoms.iter().enumerate().filter_map(|(i, atom)| match atom {
            NameAtom::Exact(name) => Some((name.clone(), i)),
            NameAtom::Below { .. } | NameAtom::None => None,
        });
        Self {
            exact: exact.collect(),
            atoms,
            globs,
            too_many,
            order,
        }
    }

    /// The classes of names that one of the patterns matches.
    pub(crate) fn under(&self, patterns: &[NamePattern]) -> Set {
        let mut set = Set::none(self.atoms.len());
        for pattern in patterns {
            match pattern {
                NamePattern::Exact(name) => {
                    if let Some(i) = self.exact.get(name) {
                        set.insert(*i);
                    }
                }
                NamePattern::Suffix(base) => {
                    self.below(base.as_str()).for_each(|(i, _)| set.insert(i));
                }
                NamePattern::OneBelow(base) => {
                    for (i, atom) in self.below(base.as_str()) {
                        let holds = match atom {
                            NameAtom::Exact(name) => pattern.matches(name),
                            NameAtom::Below {
                                base: own, deep, ..
                            } => !deep && own.as_deref() == Some(base.as_str()),
                            NameAtom::None => false,
                        };
                        if holds {
                            set.insert(i);
                        }
                    }
                }
                NamePattern::Glob(glob) => {
                    let number = self.globs.iter().position(|known| known == pattern);
                    for (i, atom) in self.below(&glob.literal_tail()) {
                        let holds = match atom {
                            NameAtom::Exact(name) => pattern.matches(name),
                            NameAtom::Below { globs, .. } => {
                                number.is_some_and(|number| globs >> number & 1 == 1)
                            }
                            NameAtom::None => false,
                        };
                        if holds {
                            set.insert(i);
                        }
                    }
                }
            }
        }
        set
    }

    /// Base, depth and globs of the class of a name that no pattern writes out.
    #[cfg(test)]
    pub(crate) fn class_of(&self, name: &Name) -> (Option<String>, bool, u32) {
        let bases: HashSet<String> = self
            .atoms
            .iter()
            .filter_map(|atom| match atom {
                NameAtom::Below { base, .. } => base.clone(),
                _ => None,
            })
            .collect();
        let base = longest_base(name, &bases).map(str::to_owned);
        let deep = base.as_deref().is_some_and(|base| is_deep(name, base));
        (
            base,
            deep,
            vector_of(&self.globs, |glob| glob.matches(name)),
        )
    }

    /// The classes strictly below a base, by number.
    pub(crate) fn below(&self, base: &str) -> impl Iterator<Item = (usize, &NameAtom)> {
        let places = self.order.get(self.places(base)).unwrap_or_default();
        places
            .iter()
            .filter_map(|(_, i)| Some((*i, self.atoms.get(*i)?)))
    }

    /// Where the classes below a base stand in the order.
    fn places(&self, base: &str) -> Range<usize> {
        if base.is_empty() {
            return 0..self.order.len();
        }
        let base = reversed(base);
        // `/` is the character behind the dot.
        let (first, end) = (format!("{base}."), format!("{base}/"));
        let place = |key: &str| {
            self.order
                .partition_point(|(known, _)| known.as_str() < key)
        };
        place(&first)..place(&end)
    }
}

fn reversed(name: &str) -> String {
    let mut text = String::with_capacity(name.len() + 1);
    for (i, label) in name.rsplit('.').enumerate() {
        if i > 0 {
            text.push('.');
        }
        text.push_str(label);
    }
    text
}

/// A name for each class for which one is found, by its base, depth and globs.
fn witnesses(
    globs: &[NamePattern],
    bases: &HashSet<String>,
    patterns: &[&NamePattern],
) -> HashMap<(Option<String>, bool, u32), Name> {
    let mut found = HashMap::new();
    for name in name_candidates(globs, bases, patterns) {
        let exact = NamePattern::Exact(name);
        if patterns.binary_search(&&exact).is_ok() {
            continue;
        }
        let NamePattern::Exact(name) = exact else {
            continue;
        };
        let base = longest_base(&name, bases).map(str::to_owned);
        let deep = base.as_deref().is_some_and(|base| is_deep(&name, base));
        let vector = vector_of(globs, |glob| glob.matches(&name));
        found.entry((base, deep, vector)).or_insert(name);
    }
    found
}

/// A glob can match below its own literal tail only, and without `*.` only as many labels as it has.
fn possible(globs: &[NamePattern], vector: u32, base: Option<&str>, deep: bool) -> bool {
    globs.iter().enumerate().all(|(i, glob)| {
        let NamePattern::Glob(pattern) = glob else {
            return true;
        };
        if vector >> i & 1 == 0 {
            return true;
        }
        let Some(base) = base else {
            return false;
        };
        let tail = pattern.literal_tail();
        let least =
            base.split('.').filter(|label| !label.is_empty()).count() + 1 + usize::from(deep);
        let labels = pattern.labels.len();
        let fits = pattern.any_depth
            || if deep {
                least <= labels
            } else {
                least == labels
            };
        fits && (tail.is_empty() || base == tail || base.ends_with(&format!(".{tail}")))
    })
}

fn longest_base<'n>(name: &'n Name, bases: &HashSet<String>) -> Option<&'n str> {
    let mut rest = name.as_str();
    while let Some((_, parent)) = rest.split_once('.') {
        if bases.contains(parent) {
            return Some(parent);
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
    bases: &HashSet<String>,
    patterns: &[&NamePattern],
) -> Vec<Name> {
    let mut texts: BTreeSet<String> = BTreeSet::new();
    texts.insert(format!("{UNNAMED}.example"));
    for base in bases {
        texts.insert(format!("zz9.{base}"));
        texts.insert(format!("zz9.zz9.{base}"));
        texts.insert(format!("zz8.zz9.zz9.{base}"));
    }
    for pattern in patterns {
        if let (NamePattern::Exact(name), false) = (pattern, globs.is_empty()) {
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
