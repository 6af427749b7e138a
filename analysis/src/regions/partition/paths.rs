//! Classes of request paths: those written out, and the rest by the globs that match.

use std::collections::{BTreeMap, BTreeSet};

use egress_policy::path::{PathPattern, RequestPath};

use super::{MAX_GLOBS, vector_of};

/// Most paths and path globs in one comparison.
const MAX_PATHS: usize = 30;

/// A class of request paths.
#[derive(Clone, Debug)]
pub(crate) enum PathAtom {
    Absent,
    Malformed,
    Clean { globs: u32, witness: Option<String> },
}

pub(crate) type PathClasses = (Vec<PathAtom>, Vec<PathPattern>, bool);

pub(crate) fn path_atoms(listed: &BTreeMap<&str, &PathPattern>) -> PathClasses {
    let is_wild = |path: &&&PathPattern| path.as_str().contains(['*', '{']);
    let mut globs: Vec<PathPattern> = listed
        .values()
        .filter(is_wild)
        .map(|p| (*p).clone())
        .collect();
    let wild = globs.len().min(MAX_GLOBS);
    let mut too_many = globs.len() > MAX_GLOBS;
    globs.truncate(MAX_GLOBS);
    globs.extend(
        listed
            .values()
            .filter(|p| !is_wild(p))
            .map(|p| (*p).clone()),
    );
    too_many |= globs.len() > MAX_PATHS;
    globs.truncate(MAX_PATHS);
    let mut candidates: BTreeSet<String> =
        ["/".to_owned(), "/zz9".to_owned(), "/zz9/zz8".to_owned()].into();
    for glob in &globs {
        for text in alternatives(glob.as_str()) {
            for (double, single) in [
                ("zz9", "zz9"),
                ("zz9/zz8", "zz7"),
                ("zz9", ""),
                ("zz9/zz8/zz7", "a"),
            ] {
                let filled = text.replace("**", double).replace('*', single);
                candidates.insert(format!("{filled}/zz9"));
                candidates.insert(filled);
            }
            for other in &globs {
                let inside = other
                    .as_str()
                    .trim_start_matches('/')
                    .replace("**", "zz9")
                    .replace('*', "zz9");
                candidates.insert(text.replace("**", &inside).replace('*', "zz9"));
                let segment = inside.split('/').next().unwrap_or_default();
                candidates.insert(text.replace('*', segment));
            }
        }
    }
    let clean = |path: &&String| matches!(RequestPath::parse(Some(path.as_bytes())), RequestPath::Clean(clean) if clean == path.as_str());
    let candidates: Vec<&String> = candidates.iter().filter(clean).collect();
    let mut atoms = vec![PathAtom::Absent, PathAtom::Malformed];
    // A path that is written out is a class of its own; what globs say of it is known.
    for literal in globs.iter().skip(wild) {
        atoms.push(PathAtom::Clean {
            globs: vector_of(&globs, |glob| glob.matches(literal.as_str())),
            witness: Some(literal.as_str().to_owned()),
        });
    }
    for vector in 0..(1_u32 << wild) {
        let found = candidates
            .iter()
            .find(|path| vector_of(&globs, |glob| glob.matches(path)) == vector);
        atoms.push(PathAtom::Clean {
            globs: vector,
            witness: found.map(|path| (*path).clone()),
        });
    }
    (atoms, globs, too_many)
}

/// The first and last choice of every `{a,b}`.
fn alternatives(glob: &str) -> Vec<String> {
    let Some((front, rest)) = glob.split_once('{') else {
        return vec![glob.to_owned()];
    };
    let Some((choices, back)) = rest.split_once('}') else {
        return vec![glob.to_owned()];
    };
    choices
        .split(',')
        .flat_map(|choice| alternatives(&format!("{front}{choice}{back}")))
        .take(16)
        .collect()
}
