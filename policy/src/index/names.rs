//! From a name to the patterns that match it, in a number of steps that depends on the name's
//! labels and not on how many patterns there are.

use hashbrown::HashMap;

use super::strings::{StrId, Strings};
use crate::name::{GlobPattern, LabelPattern, Name, NamePattern};

/// The number of a destination class: a name pattern or a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ClassId(pub(super) u32);

/// What hangs on one text: the pattern that is it, those that are below it.
#[derive(Clone, Copy, Debug, Default)]
struct Anchored {
    exact: Option<ClassId>,
    suffix: Option<ClassId>,
    one_below: Option<ClassId>,
}

/// All name patterns of a policy.
#[derive(Debug, Default)]
pub(crate) struct NameIndex {
    anchors: HashMap<StrId, Anchored>,
    /// Whether any pattern other than an exact one exists, for policies without wildcards.
    has_below: bool,
    globs: GlobTrie,
}

impl NameIndex {
    /// The class of a pattern, which `new` makes if there is none yet. `None` where `strings` is
    /// full.
    pub(super) fn class_of(
        &mut self,
        pattern: &NamePattern,
        strings: &mut Strings,
        mut new: impl FnMut() -> Option<ClassId>,
    ) -> Option<ClassId> {
        let (name, slot): (&Name, fn(&mut Anchored) -> &mut Option<ClassId>) = match pattern {
            NamePattern::Exact(name) => (name, |anchored| &mut anchored.exact),
            NamePattern::Suffix(name) => (name, |anchored| &mut anchored.suffix),
            NamePattern::OneBelow(name) => (name, |anchored| &mut anchored.one_below),
            NamePattern::Glob(glob) => return self.globs.class_of(glob, strings, new),
        };
        self.has_below |= !matches!(pattern, NamePattern::Exact(_));
        let id = strings.intern(name.as_str())?;
        let slot = slot(self.anchors.entry(id).or_default());
        if slot.is_none() {
            *slot = new();
        }
        *slot
    }

    /// Calls `found` with the class of every pattern that matches.
    pub(super) fn matches(&self, name: &Name, strings: &Strings, mut found: impl FnMut(ClassId)) {
        let text = name.as_str();
        let anchored = |text: &str| strings.find(text).and_then(|id| self.anchors.get(&id));
        if let Some(class) = anchored(text).and_then(|anchored| anchored.exact) {
            found(class);
        }
        if self.has_below {
            let mut rest = text;
            let mut depth = 0_u32;
            while let Some((_, base)) = rest.split_once('.') {
                depth += 1;
                if let Some(anchored) = anchored(base) {
                    anchored.suffix.into_iter().for_each(&mut found);
                    anchored
                        .one_below
                        .into_iter()
                        .filter(|_| depth == 1)
                        .for_each(&mut found);
                }
                rest = base;
            }
        }
        if !self.globs.is_empty() {
            self.globs.matches(text, strings, &mut found);
        }
    }
}

/// Glob patterns as a tree over labels from right to left.
#[derive(Debug, Default)]
struct GlobTrie {
    nodes: Vec<Node>,
    literals: HashMap<(u32, StrId), u32>,
    /// Label globs by node and by the literal text in front of their first and behind their last
    /// star: what is compared star by star is only what shares both.
    globs: HashMap<(u32, StrId, StrId), Vec<(LabelPattern, u32)>>,
}

#[derive(Debug, Default)]
struct Node {
    /// The pattern that ends here.
    exact: Option<ClassId>,
    /// The pattern that ends here below a leading `*.`.
    any_depth: Option<ClassId>,
    /// The child for a whole label `*`.
    star: Option<u32>,
    /// Lengths of the literal text before and after the stars of label globs here.
    lengths: Vec<(u8, u8)>,
}

impl GlobTrie {
    fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    fn add_node(&mut self) -> Option<u32> {
        let id = u32::try_from(self.nodes.len()).ok()?;
        self.nodes.push(Node::default());
        Some(id)
    }

    fn node(&self, id: u32) -> Option<&Node> {
        self.nodes.get(usize::try_from(id).ok()?)
    }

    fn node_mut(&mut self, id: u32) -> Option<&mut Node> {
        self.nodes.get_mut(usize::try_from(id).ok()?)
    }

    fn class_of(
        &mut self,
        glob: &GlobPattern,
        strings: &mut Strings,
        mut new: impl FnMut() -> Option<ClassId>,
    ) -> Option<ClassId> {
        if self.nodes.is_empty() {
            self.add_node()?;
        }
        let mut here = 0;
        for label in glob.labels.iter().rev() {
            here = self.child(here, label, strings)?;
        }
        let node = self.node_mut(here)?;
        let slot = if glob.any_depth {
            &mut node.any_depth
        } else {
            &mut node.exact
        };
        if slot.is_none() {
            *slot = new();
        }
        *slot
    }

    fn child(&mut self, here: u32, label: &LabelPattern, strings: &mut Strings) -> Option<u32> {
        let (Some(first), Some(last)) = (label.parts.first(), label.parts.last()) else {
            return None;
        };
        if label.parts.len() == 1 {
            let key = (here, strings.intern(first)?);
            if let Some(child) = self.literals.get(&key) {
                return Some(*child);
            }
            let child = self.add_node()?;
            self.literals.insert(key, child);
            return Some(child);
        }
        if label.parts.iter().all(|part| part.is_empty()) && label.parts.len() == 2 {
            if let Some(child) = self.node(here)?.star {
                return Some(child);
            }
            let child = self.add_node()?;
            self.node_mut(here)?.star = Some(child);
            return Some(child);
        }
        let key = (here, strings.intern(first)?, strings.intern(last)?);
        if let Some((_, child)) = self
            .globs
            .get(&key)
            .and_then(|with| with.iter().find(|(l, _)| l == label))
        {
            return Some(*child);
        }
        let child = self.add_node()?;
        self.globs
            .entry(key)
            .or_default()
            .push((label.clone(), child));
        // A label has at most 63 octets.
        let lengths = (
            u8::try_from(first.len()).ok()?,
            u8::try_from(last.len()).ok()?,
        );
        let node = self.node_mut(here)?;
        if !node.lengths.contains(&lengths) {
            node.lengths.push(lengths);
        }
        Some(child)
    }

    fn matches(&self, name: &str, strings: &Strings, found: &mut impl FnMut(ClassId)) {
        self.descend(0, Some(name), strings, found);
    }

    /// `rest` is what is left of the name, from the left; `None` once every label is used.
    fn descend(
        &self,
        here: u32,
        rest: Option<&str>,
        strings: &Strings,
        found: &mut impl FnMut(ClassId),
    ) {
        let Some(node) = self.node(here) else { return };
        let Some(rest) = rest else {
            node.exact.into_iter().for_each(found);
            return;
        };
        node.any_depth.into_iter().for_each(&mut *found);
        let (rest, label) = rest
            .rsplit_once('.')
            .map_or((None, rest), |(rest, label)| (Some(rest), label));
        if let Some(child) = strings
            .find(label)
            .and_then(|id| self.literals.get(&(here, id)))
        {
            self.descend(*child, rest, strings, found);
        }
        if let Some(child) = node.star {
            self.descend(child, rest, strings, found);
        }
        for (before, after) in &node.lengths {
            let before = label
                .get(..usize::from(*before))
                .and_then(|text| strings.find(text));
            let tail = label.len().checked_sub(usize::from(*after));
            let after = tail
                .and_then(|at| label.get(at..))
                .and_then(|text| strings.find(text));
            let (Some(before), Some(after)) = (before, after) else {
                continue;
            };
            for (pattern, child) in self.globs.get(&(here, before, after)).into_iter().flatten() {
                if pattern.matches(label) {
                    self.descend(*child, rest, strings, found);
                }
            }
        }
    }
}
