//! Building the index of one policy, rule by rule.

use hashbrown::HashMap;

use super::held::RunsBuilder;
use super::names::ClassId;
use super::pool::{Distinct, Numbers, Pool, Slice};
use super::postings::{
    Family, FromFamily, MAX_CLASSES, MAX_RULES, PlaceFamily, PlaceKey, PostingsBuilder, SourceKey,
    ToFamily,
};
use super::rules::{
    Claimed, Effect, Expression, From, HostSet, Narrowing, Operator, Proven, Rule, Source, Store,
    Term, Tier, To, protocol_bit,
};
use super::strings::StrId;
use super::{Index, Tables};
use crate::facts::Protocol;
use crate::model;
use crate::port::PortSet;

/// Most pairs under which one rule is posted. A rule with more is posted under the longer of its
/// two lists alone, and the other is compared.
const MAX_PAIRS: usize = 64;

/// Collects one policy.
#[derive(Debug, Default)]
pub(crate) struct IndexBuilder {
    store: Store,
    postings: PostingsBuilder,
    families: Families,
    runs: RunsBuilder,
    tiers: Vec<Tier>,
    classes: u32,
    path_ids: HashMap<String, u32>,
    /// How often each label has been chosen as a rule's source class; the rarest separates best.
    label_uses: HashMap<(StrId, StrId), u32>,
    shadows: bool,
}

/// The policy has more texts, rules or classes than the index can number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

impl IndexBuilder {
    /// A tier begins.
    pub(crate) fn tier(&mut self, name: &str, mode: model::Mode, default: model::TierDefault) {
        self.shadows |= mode == model::Mode::Shadow;
        let end = u32::try_from(self.store.rules.len()).unwrap_or(MAX_RULES);
        self.tiers.push(Tier::new(name, mode, default, end));
    }

    /// So many rules follow at most: growing step by step would need the old and the new at once.
    pub(crate) fn expect(&mut self, rules: usize) {
        self.store.rules.reserve_exact(rules);
        self.postings.expect(rules);
    }

    /// Adds the next rule of the tier that began last. `proxy` is the action of an Inspect rule.
    pub(crate) fn rule(&mut self, rule: &model::Rule, proxy: Option<u8>) -> Result<(), Full> {
        self.add(rule, proxy).ok_or(Full)
    }

    /// The finished index.
    pub(crate) fn finish(mut self) -> Result<Index, Full> {
        self.store.strings.shrink();
        self.store.rules.shrink_to_fit();
        self.store.seal();
        let postings = self.postings.finish().ok_or(Full)?;
        Ok(Index {
            tables: Tables {
                store: self.store,
                postings,
                runs: self.runs.finish(),
            },
            tiers: self.tiers,
            shadows: self.shadows,
        })
    }

    fn add(&mut self, rule: &model::Rule, proxy: Option<u8>) -> Option<()> {
        let number = u32::try_from(self.store.rules.len())
            .ok()
            .filter(|number| *number < MAX_RULES)?;
        let effect = match &rule.action {
            model::RuleAction::Accept => Effect::Accept,
            model::RuleAction::Deny => Effect::Deny,
            model::RuleAction::Pass => Effect::Pass,
            model::RuleAction::Inspect(_) => Effect::Inspect(proxy?),
        };
        let shadow = rule.mode == model::Mode::Shadow;
        self.shadows |= shadow;
        let expires = match rule.expires {
            Some(time) => Some(self.store.expiries.intern_nonzero(time)?),
            None => None,
        };
        let sources = self.sources(&rule.from)?;
        let tos = self.tos(&rule.to)?;
        let from = match &rule.from {
            model::From::Anyone => From::Anyone,
            model::From::AnyWorkload => From::AnyWorkload,
            model::From::Sources(_) => {
                let ids: Option<Vec<u32>> = sources
                    .iter()
                    .map(|source| self.store.sources.intern(*source))
                    .collect();
                From::Sources(Numbers::intern(&ids?, &mut self.store.numbers)?)
            }
        };
        let ids: Option<Vec<u32>> = tos.iter().map(|to| self.store.tos.intern(*to)).collect();
        let to = Numbers::intern(&ids?, &mut self.store.numbers)?;
        let name = self.store.strings.intern(&rule.name)?;
        let compiled = Rule {
            name,
            from,
            to,
            term: Term {
                effect,
                shadow,
                expires,
            },
        };
        self.post(number, &compiled, &sources, &tos)?;
        self.note_networks(number, &compiled, &sources, &tos)?;
        self.store.rules.push(compiled);
        self.tiers.last_mut()?.end = number + 1;
        Some(())
    }
}

impl IndexBuilder {
    /// Notes what a Deny rule keeps names from. What is in shadow keeps nobody from anything.
    fn note_networks(
        &mut self,
        number: u32,
        rule: &Rule,
        sources: &[Source],
        tos: &[To],
    ) -> Option<()> {
        let tier = self.tiers.last()?;
        if rule.term.effect != Effect::Deny || rule.term.shadow || tier.shadow {
            return Some(());
        }
        let tier = u32::try_from(self.tiers.len()).ok()?;
        let networks = tos
            .iter()
            .filter(|to| matches!(to.place, HostSet::Networks(..)));
        for to in networks {
            let claimed = sources.iter().any(|source| source.claimed.is_some());
            let proven = if claimed {
                match self.families.unclaimed(sources)? {
                    FromFamily::Unclaimed(proven) => Some(proven),
                    FromFamily::Exact(_) => None,
                }
            } else {
                None
            };
            self.runs
                .note((tier, rule.from, to.narrowing), proven, number)?;
        }
        Some(())
    }
}

/// The classes of a rule's callers: with the claims known, and without.
struct SourceKeys {
    known: Vec<SourceKey>,
    unclaimed: Vec<SourceKey>,
}

impl IndexBuilder {
    fn texts<'t>(&mut self, texts: impl IntoIterator<Item = &'t String>) -> Option<Slice<StrId>> {
        let strings = &mut self.store.strings;
        let ids: Option<Vec<StrId>> = texts.into_iter().map(|text| strings.intern(text)).collect();
        self.store.texts.intern(&ids?)
    }

    fn pairs<'t>(
        &mut self,
        pairs: impl Iterator<Item = (&'t String, &'t String)>,
    ) -> Option<Slice<(StrId, StrId)>> {
        let strings = &mut self.store.strings;
        let ids: Option<Vec<(StrId, StrId)>> = pairs
            .map(|(a, b)| Some((strings.intern(a)?, strings.intern(b)?)))
            .collect();
        self.store.pairs.intern(&ids?)
    }

    fn sources(&mut self, from: &model::From) -> Option<Vec<Source>> {
        match from {
            model::From::Anyone | model::From::AnyWorkload => Some(Vec::new()),
            model::From::Sources(sources) => {
                sources.iter().map(|source| self.source(source)).collect()
            }
        }
    }

    fn source(&mut self, source: &model::Source) -> Option<Source> {
        let proven = Proven {
            trust_domains: self.texts(&source.trust_domains)?,
            namespaces: self.texts(&source.namespaces)?,
            accounts: self.pairs(
                source
                    .service_accounts
                    .iter()
                    .map(|sa| (&sa.namespace, &sa.name)),
            )?,
        };
        let mut expressions = Vec::with_capacity(source.match_expressions.len());
        for expression in &source.match_expressions {
            let operator = match &expression.operator {
                model::LabelOperator::In(values) => Operator::In(self.texts(values)?),
                model::LabelOperator::NotIn(values) => Operator::NotIn(self.texts(values)?),
                model::LabelOperator::Exists => Operator::Exists,
                model::LabelOperator::DoesNotExist => Operator::DoesNotExist,
            };
            expressions.push(Expression {
                key: self.store.strings.intern(&expression.key)?,
                operator,
            });
        }
        let claimed = Claimed {
            clusters: self.texts(&source.clusters)?,
            labels: self.pairs(source.match_labels.iter().map(|(key, value)| (key, value)))?,
            expressions: self.store.expressions.intern(&expressions)?,
        };
        let claimed = if source.uses_claims() {
            Some(self.store.claimed.intern_nonzero(claimed)?)
        } else {
            None
        };
        Some(Source {
            proven: self.store.proven.intern(proven)?,
            claimed,
        })
    }

    /// No `to` is one element without conditions.
    fn tos(&mut self, elements: &[model::To]) -> Option<Vec<To>> {
        if elements.is_empty() {
            let narrowing = Narrowing {
                ports: Slice::EMPTY,
                protocols: protocols(&[]),
                methods: Slice::EMPTY,
                upgrades: Slice::EMPTY,
                paths: Numbers::NONE,
                allow_private: false,
            };
            let narrowing = self.store.narrowings.intern(narrowing)?;
            return Some(vec![To {
                place: HostSet::Anywhere,
                narrowing,
            }]);
        }
        elements.iter().map(|element| self.to(element)).collect()
    }

    fn to(&mut self, element: &model::To) -> Option<To> {
        let place = match &element.hosts {
            model::Hosts::Anywhere => HostSet::Anywhere,
            model::Hosts::Names(patterns) => {
                let Self { store, classes, .. } = self;
                let found: Option<Vec<ClassId>> = patterns
                    .iter()
                    .map(|pattern| {
                        store
                            .names
                            .class_of(pattern, &mut store.strings, || next_class(classes))
                    })
                    .collect();
                HostSet::Names(self.classes(found?)?)
            }
            model::Hosts::Networks(networks) => {
                let Self { store, classes, .. } = self;
                let found: Option<Vec<ClassId>> = networks
                    .networks
                    .iter()
                    .map(|net| store.networks.class_of(*net, || next_class(classes)))
                    .collect();
                HostSet::Networks(
                    self.classes(found?)?,
                    self.store.exceptions.intern(&networks.except)?,
                )
            }
        };
        let listed = if element.compares_requests() {
            &[Protocol::Http]
        } else {
            element.protocols.as_slice()
        };
        let mut paths = Vec::with_capacity(element.paths.len());
        for pattern in &element.paths {
            let next = u32::try_from(self.store.paths.len()).ok()?;
            let id = *self
                .path_ids
                .entry(pattern.as_str().to_owned())
                .or_insert(next);
            if id == next {
                self.store.paths.push(pattern.clone());
            }
            paths.push(id);
        }
        let narrowing = Narrowing {
            ports: self.ports(&element.ports)?,
            protocols: protocols(listed),
            methods: self.texts(&element.methods)?,
            upgrades: self.texts(&element.upgrades)?,
            paths: Numbers::intern(&paths, &mut self.store.numbers)?,
            allow_private: element.allow_private,
        };
        Some(To {
            place,
            narrowing: self.store.narrowings.intern(narrowing)?,
        })
    }

    /// Class lists are sorted, for binary search.
    fn classes(&mut self, classes: Vec<ClassId>) -> Option<Slice<ClassId>> {
        let mut numbers: Vec<u32> = classes.into_iter().map(|ClassId(number)| number).collect();
        numbers.sort_unstable();
        let classes: Vec<ClassId> = numbers.into_iter().map(ClassId).collect();
        self.store.classes.intern(&classes)
    }

    fn ports(&mut self, ports: &PortSet) -> Option<Slice<(u16, u16)>> {
        let ranges: Vec<(u16, u16)> = ports
            .ranges()
            .map(|range| (*range.start(), *range.end()))
            .collect();
        self.store.ports.intern(&ranges)
    }

    fn source_keys(&mut self, sources: &[Source], from: From) -> SourceKeys {
        let mut keys = SourceKeys {
            known: Vec::new(),
            unclaimed: Vec::new(),
        };
        if !matches!(from, From::Sources(_)) {
            keys.known.push(SourceKey::Any);
        }
        for source in sources {
            let label = self.separating_label(*source);
            let Some(proven) = self.store.proven.get(source.proven) else {
                continue;
            };
            let namespaces = self.store.texts.get(proven.namespaces);
            let accounts = self.store.pairs.get(proven.accounts);
            match (accounts, namespaces, label) {
                ([_, ..], ..) => keys.known.extend(
                    accounts
                        .iter()
                        .map(|(ns, name)| SourceKey::Account(*ns, *name)),
                ),
                ([], [_, ..], None) => keys
                    .known
                    .extend(namespaces.iter().map(|ns| SourceKey::Namespace(*ns))),
                ([], [_, ..], Some((key, value))) => {
                    keys.known.extend(
                        namespaces
                            .iter()
                            .map(|ns| SourceKey::NamespaceLabel(*ns, key, value)),
                    );
                    keys.unclaimed.extend(
                        namespaces
                            .iter()
                            .map(|ns| SourceKey::NamespaceUnclaimed(*ns)),
                    );
                }
                ([], [], Some((key, value))) => {
                    keys.known.push(SourceKey::Label(key, value));
                    keys.unclaimed.push(SourceKey::Unclaimed);
                }
                ([], [], None) => keys.known.push(SourceKey::Any),
            }
        }
        for list in [&mut keys.known, &mut keys.unclaimed] {
            list.sort_unstable();
            list.dedup();
        }
        keys
    }

    /// The label that fewest rules were posted under so far.
    fn separating_label(&mut self, source: Source) -> Option<(StrId, StrId)> {
        let claimed = self.store.claimed.get_nonzero(source.claimed?)?;
        let labels = self.store.pairs.get(claimed.labels);
        let uses = |label: &(StrId, StrId)| self.label_uses.get(label).copied().unwrap_or(0);
        let label = *labels.iter().min_by_key(|label| uses(label))?;
        *self.label_uses.entry(label).or_insert(0) += 1;
        Some(label)
    }

    fn place_keys(&self, tos: &[To]) -> Vec<PlaceKey> {
        let mut numbers = Vec::new();
        for to in tos {
            match to.place {
                HostSet::Anywhere => numbers.push(PlaceKey::Any.number()),
                HostSet::Names(classes) | HostSet::Networks(classes, _) => {
                    let classes = self.store.classes.get(classes).iter().copied();
                    numbers.extend(classes.map(|class| PlaceKey::Class(class).number()));
                }
            }
        }
        numbers.sort_unstable();
        numbers.dedup();
        numbers.into_iter().map(PlaceKey::numbered).collect()
    }

    fn post(&mut self, number: u32, rule: &Rule, sources: &[Source], tos: &[To]) -> Option<()> {
        let keys = self.source_keys(sources, rule.from);
        let places = self.place_keys(tos);
        if keys.known.len().saturating_mul(places.len()) <= MAX_PAIRS {
            for source in &keys.known {
                for place in &places {
                    self.postings.post(*source, *place, number)?;
                }
            }
        } else if places.len() >= keys.known.len() {
            for place in &places {
                self.postings.post(SourceKey::Any, *place, number)?;
            }
        } else {
            for source in &keys.known {
                self.postings.post(*source, PlaceKey::Any, number)?;
            }
        }
        self.post_families(number, rule, sources, tos, &keys, &places)
    }

    /// Posts the rule where facts are unknown, once for each family.
    fn post_families(
        &mut self,
        number: u32,
        rule: &Rule,
        sources: &[Source],
        tos: &[To],
        keys: &SourceKeys,
        places: &[PlaceKey],
    ) -> Option<()> {
        let unread = self.families.unknown(tos, |place| match place {
            HostSet::Anywhere => PlaceFamily::Exact(place),
            HostSet::Names(_) => PlaceFamily::AnyNames,
            HostSet::Networks(..) => PlaceFamily::AnyNetworks,
        })?;
        let mut unknown = vec![(PlaceKey::Unread, unread)];
        // With the name known, only what denies by address still waits for the address.
        let denies = rule.term.effect == Effect::Deny;
        if denies
            && tos
                .iter()
                .any(|to| matches!(to.place, HostSet::Networks(..)))
        {
            let unresolved = self.families.unknown(tos, |place| match place {
                HostSet::Anywhere | HostSet::Names(_) => PlaceFamily::Exact(place),
                HostSet::Networks(..) => PlaceFamily::AnyNetworks,
            })?;
            unknown.push((PlaceKey::Unresolved, unresolved));
        }
        let term = self.families.terms.intern((self.tiers.len(), rule.term))?;
        let from = FromFamily::Exact(rule.from);
        for source in &keys.known {
            for (place, to) in &unknown {
                self.postings.post_family(
                    *source,
                    *place,
                    number,
                    Family {
                        from,
                        to: *to,
                        term,
                    },
                )?;
            }
        }
        if keys.unclaimed.is_empty() {
            return Some(());
        }
        let from = self.families.unclaimed(sources)?;
        let many = keys.unclaimed.len().saturating_mul(places.len()) > MAX_PAIRS;
        for source in &keys.unclaimed {
            for (place, to) in &unknown {
                self.postings.post_family(
                    *source,
                    *place,
                    number,
                    Family {
                        from,
                        to: *to,
                        term,
                    },
                )?;
            }
            let to = ToFamily::Exact(rule.to);
            for place in if many { &[PlaceKey::Any] } else { places } {
                self.postings
                    .post_family(*source, *place, number, Family { from, to, term })?;
            }
        }
        Some(())
    }
}

/// What makes families, held once. Needed only while building.
#[derive(Debug, Default)]
struct Families {
    proven: Pool<(u32, bool)>,
    places: Pool<(PlaceFamily, u32)>,
    terms: Distinct<(usize, Term)>,
}

impl Families {
    fn unclaimed(&mut self, sources: &[Source]) -> Option<FromFamily> {
        let proven: Vec<(u32, bool)> = sources
            .iter()
            .map(|source| (source.proven, source.claimed.is_some()))
            .collect();
        self.proven.intern(&proven).map(FromFamily::Unclaimed)
    }

    fn unknown(&mut self, tos: &[To], place: impl Fn(HostSet) -> PlaceFamily) -> Option<ToFamily> {
        let places: Vec<(PlaceFamily, u32)> = tos
            .iter()
            .map(|to| (place(to.place), to.narrowing))
            .collect();
        self.places.intern(&places).map(ToFamily::Unknown)
    }
}

fn next_class(classes: &mut u32) -> Option<ClassId> {
    let id = *classes;
    *classes = id.checked_add(1).filter(|next| *next < MAX_CLASSES)?;
    Some(ClassId(id))
}

/// Absent protocols are any of the three that the gateway carries, never UDP.
fn protocols(listed: &[Protocol]) -> u8 {
    let any = [Protocol::Http, Protocol::Tls, Protocol::Tcp];
    let listed = if listed.is_empty() {
        any.as_slice()
    } else {
        listed
    };
    listed
        .iter()
        .fold(0, |bits, protocol| bits | protocol_bit(*protocol))
}
