//! Destinations in words: names as patterns, addresses as networks.

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::Speech;
use crate::regions::partition::{AddressAtom, Classes, Dimension, NameAtom, Names, cover};
use crate::regions::set::Set;

impl Speech<'_> {
    /// Whether names or addresses are among them that no rule names.
    pub(crate) fn any_other_destination(&self) -> bool {
        let (Some(set), Some(Classes::Names(names))) =
            (self.set(&Dimension::Name), self.classes(&Dimension::Name))
        else {
            return false;
        };
        if set.iter().any(|i| is_any_other(names, i)) {
            return true;
        }
        let (Some(addresses), Some(Classes::Addresses(atoms))) = (
            self.set(&Dimension::Address),
            self.classes(&Dimension::Address),
        ) else {
            return false;
        };
        let unlisted = |atom: &AddressAtom| !atom.listed && atom.special.is_none();
        set.contains(0) && addresses.iter().filter_map(|i| atoms.get(i)).any(unlisted)
    }

    /// Names and addresses, as `to ...`; nothing for all that the question is about.
    pub(crate) fn destinations(&self) -> Option<String> {
        let set = self.set(&Dimension::Name)?;
        let Some(Classes::Names(names)) = self.classes(&Dimension::Name) else {
            return None;
        };
        let places = self.places();
        let where_names_lead = matches!(places, Places::Any | Places::Ordinary);
        if self.is_as_asked(&Dimension::Name)
            && (where_names_lead || self.is_as_asked(&Dimension::Address))
        {
            return None;
        }
        // The first class is that of destinations without a name.
        let literal = set.contains(0);
        let has_names = set.iter().any(|i| i > 0);
        let names = has_names.then(|| self.names(names, set));
        Some(match (names, literal) {
            (None, _) => match places {
                Places::Any => "to any address".to_owned(),
                Places::Ordinary => "to any public address".to_owned(),
                Places::Private => "to any public or private address".to_owned(),
                Places::Networks(text) => format!("to {text}"),
            },
            (Some(names), false) => match places {
                // That is where names may lead anyway.
                Places::Any | Places::Ordinary => format!("to {names}"),
                Places::Private => format!("to {names}, private addresses too"),
                Places::Networks(text) => format!("to {names} at {text}"),
            },
            (Some(names), true) => match places {
                Places::Any => format!("to {names}, any address"),
                Places::Ordinary => format!("to {names}, any public address"),
                Places::Private => format!("to {names}, any public or private address"),
                Places::Networks(text) => format!("to {names} or by address, at {text}"),
            },
        })
    }

    fn places(&self) -> Places {
        let (Some(set), Some(Classes::Addresses(atoms))) = (
            self.set(&Dimension::Address),
            self.classes(&Dimension::Address),
        ) else {
            return Places::Any;
        };
        if set.is_all() {
            return Places::Any;
        }
        if *set == self.partition.refused(false).complement() {
            return Places::Ordinary;
        }
        if *set == self.partition.refused(true).complement() {
            return Places::Private;
        }
        let families = [IpAddr::is_ipv4, IpAddr::is_ipv6];
        let texts = families
            .iter()
            .flat_map(|family| self.family(atoms, set, *family));
        let texts: Vec<String> = texts.collect();
        Places::Networks(format!("networks {}", texts.join(", ")))
    }

    /// The networks of one family: those in the set, or everything without those that are not,
    /// whatever is shorter.
    fn family(&self, atoms: &[AddressAtom], set: &Set, family: fn(&IpAddr) -> bool) -> Vec<String> {
        let own = |inside: bool| {
            let atoms = atoms.iter().enumerate();
            cover(
                atoms
                    .filter(|(i, atom)| family(&atom.first) && set.contains(*i) == inside)
                    .map(|(_, atom)| atom),
            )
        };
        let inside = own(true);
        if inside.is_empty() {
            return Vec::new();
        }
        let texts = |networks: &[IpNet]| -> Vec<String> {
            networks.iter().map(ToString::to_string).collect()
        };
        let outside = own(false);
        if outside.is_empty() || inside.len() <= outside.len() + 1 {
            return vec![self.list(&texts(&inside))];
        }
        let every = if family(&IpAddr::from([0; 4])) {
            "0.0.0.0/0"
        } else {
            "::/0"
        };
        vec![format!("{every} except {}", self.list(&texts(&outside)))]
    }

    fn names(&self, names: &Names, set: &Set) -> String {
        let missing = set.complement();
        if !(0..names.atoms.len()).any(|i| is_any_other(names, i) && set.contains(i)) {
            return self.list(&in_words(names, set));
        }
        // A class without a witness is none.
        let missing = in_words(names, &missing);
        if missing.is_empty() {
            return "any name".to_owned();
        }
        self.others(
            "every other name",
            "every other name",
            &in_words(names, set),
            &missing,
        )
    }
}

enum Places {
    Any,
    /// Public ones.
    Ordinary,
    /// Those, and what `allowPrivate` opens.
    Private,
    Networks(String),
}

fn is_any_other(names: &Names, i: usize) -> bool {
    matches!(names.atoms.get(i), Some(NameAtom::Below { base: None, .. }))
}

/// The names of a set, without those that no pattern is about: wildcards, then what is left.
fn in_words(names: &Names, set: &Set) -> Vec<String> {
    let mut told = HashSet::new();
    let mut texts = Vec::new();
    let empty = |atom: &NameAtom| matches!(atom, NameAtom::Below { witness: None, .. });
    let bases = set.iter().filter_map(|i| match names.atoms.get(i) {
        Some(NameAtom::Below {
            base: Some(base), ..
        }) if !base.is_empty() => Some((base.len(), base)),
        _ => None,
    });
    // Shorter ones first: they may hold the others.
    for (_, base) in bases.collect::<BTreeSet<_>>() {
        let own = |atom: &NameAtom, wanted: bool| matches!(atom, NameAtom::Below { base: Some(own), deep, .. } if own == base && *deep == wanted);
        let holds = |keep: &dyn Fn(&NameAtom) -> bool| {
            let mut some = false;
            let all = names
                .below(base)
                .filter(|(_, atom)| keep(atom) && !empty(atom))
                .all(|(i, _)| {
                    some = true;
                    set.contains(i)
                });
            all && some
        };
        let first = names.below(base).find(|(_, atom)| own(atom, false));
        if first.is_none_or(|(i, _)| told.contains(&i)) {
            continue;
        }
        let (near, far) = (
            holds(&|atom| own(atom, false)),
            holds(&|atom| own(atom, true)),
        );
        if near && far && holds(&|_| true) {
            texts.push(format!("*.{base}"));
            told.extend(names.below(base).map(|(i, _)| i));
        } else {
            let text = match (near, far) {
                (true, true) => format!("every other name below {base}"),
                (true, false) => format!("every other name one label below {base}"),
                (false, true) => format!("every name two or more labels below {base}"),
                (false, false) => continue,
            };
            texts.push(text);
            let held = names
                .below(base)
                .filter(|(_, atom)| (near && own(atom, false)) || (far && own(atom, true)));
            told.extend(held.map(|(i, _)| i));
        }
    }
    for i in set.iter().filter(|i| !told.contains(i)) {
        match names.atoms.get(i) {
            Some(NameAtom::Exact(name)) => texts.push(name.to_string()),
            Some(NameAtom::Below {
                base: Some(_),
                witness: Some(name),
                ..
            }) => texts.push(format!("names like {name}")),
            Some(NameAtom::Below { .. } | NameAtom::None) | None => {}
        }
    }
    texts
}
