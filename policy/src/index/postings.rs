//! From who and where to the rules that could match, by classes of callers and destinations.
//!
//! Every caller is in a few source classes and every destination in a few destination classes; a
//! rule is posted under the pairs of classes that its elements select. Where facts are unknown,
//! whole families of rules are unknown alike, and one of each family is posted for all of them: a
//! second one with the same conditions and the same effect could not change any outcome.

use hashbrown::{HashMap, HashSet};

use super::names::ClassId;
use super::pool::{Numbers, Slice};
use super::rules::{From, HostSet};
use super::strings::StrId;

/// A class of callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum SourceKey {
    /// Every caller.
    Any,
    /// One service account: namespace and name.
    Account(StrId, StrId),
    /// One namespace.
    Namespace(StrId),
    /// One namespace and one label: key and value.
    NamespaceLabel(StrId, StrId, StrId),
    /// One label.
    Label(StrId, StrId),
    /// One namespace, the claims unknown.
    NamespaceUnclaimed(StrId),
    /// Any namespace, the claims unknown.
    Unclaimed,
}

/// A class of destinations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum PlaceKey {
    /// Every destination.
    Any,
    /// A name pattern or a network.
    Class(ClassId),
    /// The name is known and the address is not.
    Unresolved,
    /// Neither name nor address is known.
    Unread,
}

impl PlaceKey {
    /// Classes count from zero, so the three others come last.
    pub(super) const fn number(self) -> u32 {
        match self {
            Self::Class(ClassId(id)) => id,
            Self::Any => u32::MAX,
            Self::Unresolved => u32::MAX - 1,
            Self::Unread => u32::MAX - 2,
        }
    }

    pub(super) const fn numbered(number: u32) -> Self {
        const UNRESOLVED: u32 = u32::MAX - 1;
        const UNREAD: u32 = u32::MAX - 2;
        match number {
            u32::MAX => Self::Any,
            UNRESOLVED => Self::Unresolved,
            UNREAD => Self::Unread,
            id => Self::Class(ClassId(id)),
        }
    }
}

/// Most destination classes, so that their numbers stay below those of the other keys.
pub(super) const MAX_CLASSES: u32 = u32::MAX - 3;

/// Lists of rule numbers, ascending, by class pairs.
#[derive(Debug, Default)]
pub(crate) struct Postings {
    sources: HashMap<SourceKey, u32>,
    /// One rule where [`SINGLE`] is set, else the start of a list whose first entry is its length.
    lists: HashMap<(u32, u32), u32>,
    entries: Vec<u32>,
}

/// Marks a list of one rule. Rule numbers stay below it.
const SINGLE: u32 = 1 << 31;
/// Most rules in one policy.
pub(super) const MAX_RULES: u32 = SINGLE - 1;

/// One of the lists.
#[derive(Clone, Copy, Debug)]
pub(super) enum List<'i> {
    One(u32),
    Many(&'i [u32]),
}

impl Postings {
    pub(super) fn source(&self, key: SourceKey) -> Option<u32> {
        self.sources.get(&key).copied()
    }

    pub(super) fn list(&self, source: u32, place: PlaceKey) -> Option<List<'_>> {
        let head = *self.lists.get(&(source, place.number()))?;
        if head & SINGLE != 0 {
            return Some(List::One(head & !SINGLE));
        }
        let start = usize::try_from(head).ok()?;
        let len = usize::try_from(*self.entries.get(start)?).ok()?;
        self.entries.get(start + 1..)?.get(..len).map(List::Many)
    }
}

/// What two rules must share for one to stand for both where facts are unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Family {
    pub(super) from: FromFamily,
    pub(super) to: ToFamily,
    /// The number of their tier and [`super::rules::Term`].
    pub(super) term: u32,
}

/// Callers as far as two rules are alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum FromFamily {
    Exact(From),
    /// The claims are unknown: what is proven, and whether there are claims.
    Unclaimed(Slice<(u32, bool)>),
}

/// Destinations as far as two rules are alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum ToFamily {
    Exact(Numbers),
    /// The place is unknown: its kind, and the number of what narrows it.
    Unknown(Slice<(PlaceFamily, u32)>),
}

/// An element's place as far as two are alike where it is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum PlaceFamily {
    Exact(HostSet),
    AnyNames,
    AnyNetworks,
}

/// Collects postings; rules come in ascending order.
#[derive(Debug, Default)]
pub(super) struct PostingsBuilder {
    sources: HashMap<SourceKey, u32>,
    postings: Vec<(u32, u32, u32)>,
    families: HashSet<(u32, u32, Family)>,
}

impl PostingsBuilder {
    /// Makes room for so many more rules, by what is common: a pair or two, a family or two each.
    pub(super) fn expect(&mut self, rules: usize) {
        self.postings.reserve_exact(rules.saturating_mul(4));
        self.families.reserve(rules.saturating_add(rules / 2));
    }

    fn source(&mut self, key: SourceKey) -> Option<u32> {
        let next = u32::try_from(self.sources.len()).ok()?;
        Some(*self.sources.entry(key).or_insert(next))
    }

    /// Posts a rule under a pair.
    pub(super) fn post(&mut self, source: SourceKey, place: PlaceKey, rule: u32) -> Option<()> {
        let source = self.source(source)?;
        self.postings.push((source, place.number(), rule));
        Some(())
    }

    /// Posts a rule under a pair unless one of its family is there.
    pub(super) fn post_family(
        &mut self,
        source: SourceKey,
        place: PlaceKey,
        rule: u32,
        family: Family,
    ) -> Option<()> {
        let source = self.source(source)?;
        if self.families.insert((source, place.number(), family)) {
            self.postings.push((source, place.number(), rule));
        }
        Some(())
    }

    /// The finished lists; `None` where they are too long for their numbers.
    pub(super) fn finish(self) -> Option<Postings> {
        let Self {
            mut sources,
            mut postings,
            families,
        } = self;
        drop(families);
        postings.sort_unstable();
        postings.dedup();
        sources.shrink_to_fit();
        let pair = |posting: &(u32, u32, u32)| (posting.0, posting.1);
        let runs = || postings.chunk_by(|a, b| pair(a) == pair(b));
        let mut lists = HashMap::with_capacity(runs().count());
        let mut entries = Vec::new();
        for run in runs() {
            let head = match run {
                [] => continue,
                [(_, _, rule)] => rule | SINGLE,
                _ => {
                    let start = u32::try_from(entries.len())
                        .ok()
                        .filter(|start| start & SINGLE == 0)?;
                    entries.push(u32::try_from(run.len()).ok()?);
                    entries.extend(run.iter().map(|(_, _, rule)| *rule));
                    start
                }
            };
            run.first().map(|first| lists.insert(pair(first), head));
        }
        entries.shrink_to_fit();
        Some(Postings {
            sources,
            lists,
            entries,
        })
    }
}
