//! Rules in compiled form, and their conditions over facts that were looked up once.

use std::net::IpAddr;
use std::num::NonZeroU32;

use ipnet::IpNet;
use smallvec::SmallVec;

use super::names::{ClassId, NameIndex};
use super::networks::NetworkIndex;
use super::pool::{Distinct, Numbers, Pool, Slice};
use super::strings::{StrId, Strings};
use super::truth::Truth;
use crate::facts::{Caller, Fact, Facts, Protocol};
use crate::model::{Mode, TierDefault};
use crate::name::canonical;
use crate::path::{PathPattern, RequestPath};
use crate::settings::{AddressCheck, Settings};

/// A set of actions, and one action as a set of one: bit 0 is Deny, bit 1 Accept, the bits above
/// the inspection proxies in the order of their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Actions(u64);

/// Most inspection proxies that a gateway can declare.
pub(crate) const MAX_INSPECTION_PROXIES: usize = 62;

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Effect {
    Pass,
    Deny,
    Accept,
    /// The place of an inspection proxy in the order of their names.
    Inspect(u8),
}

/// A rule. There can be hundreds of thousands, so what few of them have stands elsewhere.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    pub(super) name: StrId,
    pub(super) from: From,
    /// Numbers of [`To`] elements.
    pub(super) to: Numbers,
    pub(super) term: Term,
}

/// What a rule does, and until when. Few differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Term {
    pub(super) effect: Effect,
    pub(super) shadow: bool,
    /// The number of the time after which it no longer accepts.
    pub(super) expires: Option<NonZeroU32>,
}

/// Whom a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum From {
    Anyone,
    AnyWorkload,
    /// Numbers of [`Source`] elements.
    Sources(Numbers),
}

/// A tier: a run of rules.
#[derive(Clone, Debug)]
pub(crate) struct Tier {
    pub(super) name: String,
    pub(super) shadow: bool,
    pub(super) default: TierDefault,
    /// The number behind its last rule.
    pub(super) end: u32,
}

impl Tier {
    pub(super) fn new(name: &str, mode: Mode, default: TierDefault, end: u32) -> Self {
        Self {
            name: name.to_owned(),
            shadow: mode == Mode::Shadow,
            default,
            end,
        }
    }
}

/// An element of `from`: numbers of its two parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Source {
    /// Of a [`Proven`].
    pub(super) proven: u32,
    /// Of a [`Claimed`].
    pub(super) claimed: Option<NonZeroU32>,
}

/// The part of a [`Source`] that the caller claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Claimed {
    pub(super) clusters: Slice<StrId>,
    pub(super) labels: Slice<(StrId, StrId)>,
    pub(super) expressions: Slice<Expression>,
}

/// The part of a [`Source`] that the certificate proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Proven {
    pub(super) trust_domains: Slice<StrId>,
    pub(super) namespaces: Slice<StrId>,
    /// Namespace and name.
    pub(super) accounts: Slice<(StrId, StrId)>,
}

/// A label expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Expression {
    pub(super) key: StrId,
    pub(super) operator: Operator,
}

/// Its operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Operator {
    In(Slice<StrId>),
    NotIn(Slice<StrId>),
    Exists,
    DoesNotExist,
}

/// An element of `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct To {
    pub(super) place: HostSet,
    /// The number of a [`Narrowing`].
    pub(super) narrowing: u32,
}

/// What an element of `to` says beside its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Narrowing {
    /// First and last.
    pub(super) ports: Slice<(u16, u16)>,
    /// One bit for each [`Protocol`].
    pub(super) protocols: u8,
    pub(super) methods: Slice<StrId>,
    pub(super) upgrades: Slice<StrId>,
    /// Numbers of path patterns.
    pub(super) paths: Numbers,
    pub(super) allow_private: bool,
}

/// Names or networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum HostSet {
    Anywhere,
    Names(Slice<ClassId>),
    Networks(Slice<ClassId>, Slice<IpNet>),
}

pub(super) const fn protocol_bit(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Http => 1,
        Protocol::Tls => 2,
        Protocol::Tcp => 4,
        Protocol::Udp => 8,
    }
}

/// Everything that rules refer to by number.
#[derive(Debug, Default)]
pub(crate) struct Store {
    pub(super) strings: Strings,
    pub(super) names: NameIndex,
    pub(super) networks: NetworkIndex,
    pub(super) rules: Vec<Rule>,
    pub(super) sources: Distinct<Source>,
    pub(super) proven: Distinct<Proven>,
    /// Counted from one.
    pub(super) claimed: Distinct<Claimed>,
    pub(super) narrowings: Distinct<Narrowing>,
    /// Counted from one; seconds since the Unix epoch.
    pub(super) expiries: Distinct<i64>,
    pub(super) tos: Distinct<To>,
    pub(super) paths: Vec<PathPattern>,
    pub(super) numbers: Pool<u32>,
    pub(super) texts: Pool<StrId>,
    pub(super) pairs: Pool<(StrId, StrId)>,
    pub(super) expressions: Pool<Expression>,
    pub(super) classes: Pool<ClassId>,
    pub(super) ports: Pool<(u16, u16)>,
    pub(super) exceptions: Pool<IpNet>,
}

/// The caller by number: trust domain, namespace, account.
#[derive(Clone, Copy, Debug)]
pub(super) struct CallerIds {
    pub(super) trust_domain: StrId,
    pub(super) namespace: StrId,
    pub(super) account: StrId,
}

/// Classes that a destination is in.
pub(super) type InClasses = SmallVec<[ClassId; 12]>;

/// Labels by number.
pub(super) type Labels = SmallVec<[(StrId, StrId); 8]>;

/// What the caller claims, by number.
#[derive(Clone, Debug)]
pub(super) struct ClaimIds {
    cluster: Option<StrId>,
    pub(super) labels: Labels,
}

impl ClaimIds {
    fn label(&self, key: StrId) -> Option<StrId> {
        self.labels
            .iter()
            .find(|(k, _)| *k == key)
            .map(|(_, value)| *value)
    }
}

/// The facts, looked up in the store once for all rules.
pub(super) struct ResolvedFacts<'f> {
    pub(super) facts: &'f Facts<'f>,
    /// `Known(None)` is the known fact that there is no identity.
    pub(super) caller: Fact<Option<CallerIds>>,
    pub(super) claims: Fact<ClaimIds>,
    pub(super) address: Fact<IpAddr>,
    /// A name's answers are held against a class of addresses.
    pub(super) by_classes: bool,
    /// The caller is in `shadowWorkloads`, and this view regards it.
    pub(super) in_shadow: Truth,
    /// Classes that the name and the address are in.
    pub(super) classes: InClasses,
    /// The IPv4 addresses behind a form of IPv6 with their classes, which only a Deny looks at.
    pub(super) translated: SmallVec<[(IpAddr, InClasses); 1]>,
    method: Fact<StrId>,
    is_connect: Fact<bool>,
    upgrade: Fact<Option<StrId>>,
}

impl ResolvedFacts<'_> {
    /// A name whose answers are held against a class of addresses.
    pub(super) const fn is_classed(&self) -> bool {
        self.by_classes && matches!(self.facts.destination.name, Fact::Known(Some(_)))
    }

    /// The same, and where it leads is not known.
    pub(super) const fn is_unresolved(&self) -> bool {
        self.is_classed() && !matches!(self.address, Fact::Known(_))
    }
}

impl Store {
    /// Gives back what only building needed.
    pub(super) fn seal(&mut self) {
        self.sources.seal();
        self.proven.seal();
        self.claimed.seal();
        self.narrowings.seal();
        self.expiries.seal();
        self.tos.seal();
        self.numbers.seal();
        self.texts.seal();
        self.pairs.seal();
        self.expressions.seal();
        self.classes.seal();
        self.ports.seal();
        self.exceptions.seal();
    }

    pub(super) fn rule(&self, number: u32) -> Option<&Rule> {
        self.rules.get(usize::try_from(number).ok()?)
    }

    /// Looks the facts up.
    pub(super) fn see<'f>(
        &self,
        facts: &'f Facts<'f>,
        settings: Settings,
        in_shadow: Truth,
    ) -> ResolvedFacts<'f> {
        let strings = &self.strings;
        let caller = facts.caller.map(|caller: Caller<'_>| {
            caller.workload().map(|id| CallerIds {
                trust_domain: strings.known(id.trust_domain),
                namespace: strings.known(id.namespace),
                account: strings.known(id.service_account),
            })
        });
        let claims = facts.counting_claims().map(|claims| ClaimIds {
            cluster: claims.cluster.map(|cluster| strings.known(cluster)),
            labels: claims
                .labels
                .iter()
                .filter_map(|(key, value)| Some((strings.find(key)?, strings.known(value))))
                .collect(),
        });
        let address = facts.destination.address.map(canonical);
        let mut classes = InClasses::new();
        if let Fact::Known(Some(name)) = facts.destination.name {
            self.names
                .matches(name, strings, |class| classes.push(class));
        }
        let mut translated = SmallVec::new();
        if let Some(address) = address.known() {
            self.networks.matches(address, |class| classes.push(class));
            for v4 in settings.nat64.behind(address).into_iter().map(IpAddr::V4) {
                let mut within = InClasses::new();
                self.networks.matches(v4, |class| within.push(class));
                translated.push((v4, within));
            }
        }
        let http = facts.protocol == Protocol::Http;
        let method = if http {
            facts.request.method
        } else {
            Fact::Known("")
        };
        ResolvedFacts {
            facts,
            caller,
            claims,
            address,
            by_classes: settings.address_check == AddressCheck::Classes,
            in_shadow,
            classes,
            translated,
            method: method.map(|method| strings.known(method)),
            is_connect: method.map(|method| method == "CONNECT"),
            upgrade: facts
                .request
                .upgrade
                .map(|token| token.map(|token| strings.known(token))),
        }
    }

    pub(super) fn caller_holds(&self, from: From, seen: &ResolvedFacts<'_>) -> Truth {
        let identity = || Truth::on(seen.caller, |caller| caller.is_some());
        match from {
            From::Anyone => Truth::True,
            From::AnyWorkload => identity(),
            From::Sources(sources) => {
                let identity = identity();
                let mut any = Truth::False;
                for id in sources.get(&self.numbers) {
                    if any == Truth::True || identity == Truth::False {
                        break;
                    }
                    let Some(source) = self.sources.get(*id) else {
                        continue;
                    };
                    any = any.or(self.source_holds(*source, seen));
                }
                identity.and(any)
            }
        }
    }

    fn source_holds(&self, source: Source, seen: &ResolvedFacts<'_>) -> Truth {
        // A number that stands for nothing matches nothing that opens, and may match a denial.
        let Some(proven) = self.proven.get(source.proven) else {
            return Truth::Missing;
        };
        let proven = self.proven_holds(proven, seen);
        let Some(claimed) = source.claimed.filter(|_| proven != Truth::False) else {
            return proven;
        };
        let claimed = match (&seen.claims, self.claimed.get_nonzero(claimed)) {
            (Fact::Known(claims), Some(claimed)) => self.claims_hold(claimed, claims),
            (Fact::Pending, _) => Truth::Pending,
            (Fact::Missing, _) | (Fact::Known(_), None) => Truth::Missing,
        };
        proven.and(claimed)
    }

    fn proven_holds(&self, proven: &Proven, seen: &ResolvedFacts<'_>) -> Truth {
        Truth::on(seen.caller, |caller| {
            let Some(caller) = caller else { return false };
            let among =
                |texts: Slice<StrId>, id| texts.is_empty() || self.texts.get(texts).contains(&id);
            among(proven.trust_domains, caller.trust_domain)
                && among(proven.namespaces, caller.namespace)
                && (proven.accounts.is_empty()
                    || self
                        .pairs
                        .get(proven.accounts)
                        .contains(&(caller.namespace, caller.account)))
        })
    }

    fn claims_hold(&self, wanted: &Claimed, claims: &ClaimIds) -> Truth {
        let labels = self
            .pairs
            .get(wanted.labels)
            .iter()
            .all(|(key, value)| claims.label(*key) == Some(*value))
            && self
                .expressions
                .get(wanted.expressions)
                .iter()
                .all(|expression| {
                    let found = claims.label(expression.key);
                    match expression.operator {
                        Operator::In(values) => {
                            found.is_some_and(|found| self.texts.get(values).contains(&found))
                        }
                        Operator::NotIn(values) => {
                            found.is_none_or(|found| !self.texts.get(values).contains(&found))
                        }
                        Operator::Exists => found.is_some(),
                        Operator::DoesNotExist => found.is_none(),
                    }
                });
        let cluster = match claims.cluster {
            _ if wanted.clusters.is_empty() => Truth::True,
            None => Truth::Missing,
            Some(cluster) => Truth::of(self.texts.get(wanted.clusters).contains(&cluster)),
        };
        Truth::of(labels).and(cluster)
    }

    /// Whether an element of `to` holds, and whether it compares a path that it must not.
    pub(super) fn to_holds(&self, to: &To, denies: bool, seen: &ResolvedFacts<'_>) -> ToTruth {
        let Some(narrowing) = self.narrowings.get(to.narrowing) else {
            return ToTruth {
                holds: Truth::Missing,
                malformed: Truth::False,
                exempt: Truth::False,
            };
        };
        if narrowing.protocols & protocol_bit(seen.facts.protocol) == 0 {
            return ToTruth::NONE;
        }
        let base = self
            .place_holds(to.place, denies, seen)
            .and(self.port_holds(narrowing.ports, seen))
            .and(self.request_holds(narrowing, denies, seen));
        if base == Truth::False || narrowing.paths.is_empty() {
            return ToTruth::new(base, Truth::False, narrowing);
        }
        let path = seen.facts.request.path;
        let matched = Truth::on(path, |path| match path {
            RequestPath::Clean(path) => self.path_matches(narrowing.paths, path),
            RequestPath::Malformed | RequestPath::Absent => false,
        });
        let malformed = Truth::on(path, |path| path == RequestPath::Malformed);
        ToTruth::new(base.and(matched), base.and(malformed), narrowing)
    }

    fn path_matches(&self, patterns: Numbers, path: &str) -> bool {
        patterns.get(&self.numbers).iter().any(|id| {
            usize::try_from(*id)
                .ok()
                .and_then(|i| self.paths.get(i))
                .is_some_and(|pattern| pattern.matches(path))
        })
    }

    fn place_holds(&self, place: HostSet, denies: bool, seen: &ResolvedFacts<'_>) -> Truth {
        let name = seen.facts.destination.name;
        match place {
            HostSet::Anywhere => Truth::True,
            HostSet::Names(classes) => Truth::on(name, |name| {
                name.is_some() && self.in_one_of(classes, &seen.classes)
            }),
            HostSet::Networks(classes, except) => {
                if denies {
                    self.denied_holds(classes, except, seen)
                } else {
                    let nameless = Truth::on(name, |name| name.is_none());
                    nameless.and(Truth::on(seen.address, |address| {
                        self.within(classes, except, address, &seen.classes)
                    }))
                }
            }
        }
    }

    /// The networks of a Deny. Where a name leads does not decide but is left out of its answers,
    /// and a workload in shadow is not held by it.
    fn denied_holds(
        &self,
        classes: Slice<ClassId>,
        except: Slice<IpNet>,
        seen: &ResolvedFacts<'_>,
    ) -> Truth {
        let name = seen.facts.destination.name;
        let by_class = seen.is_classed();
        match seen.address {
            Fact::Known(address) => {
                let mut translated = seen.translated.iter();
                let inside = self.within(classes, except, address, &seen.classes)
                    || translated.any(|(v4, within)| self.within(classes, except, *v4, within));
                let inside = Truth::of(inside);
                if by_class {
                    inside.and(seen.in_shadow.not())
                } else {
                    inside
                }
            }
            Fact::Pending | Fact::Missing if by_class => Truth::False,
            Fact::Pending => Truth::Pending,
            Fact::Missing if seen.by_classes && name == Fact::Pending => Truth::Pending,
            Fact::Missing => Truth::Missing,
        }
    }

    /// Whether an element of a Deny with networks would hold for some address. What is not known
    /// counts as matching, a path that must not be compared too.
    pub(super) fn holds_somewhere(&self, to: &To, seen: &ResolvedFacts<'_>) -> bool {
        let Some(narrowing) = self.narrowings.get(to.narrowing) else {
            return true;
        };
        if narrowing.protocols & protocol_bit(seen.facts.protocol) == 0 {
            return false;
        }
        let base = self
            .port_holds(narrowing.ports, seen)
            .and(self.request_holds(narrowing, true, seen));
        let path = narrowing.paths.is_empty()
            || match seen.facts.request.path {
                Fact::Known(RequestPath::Clean(path)) => self.path_matches(narrowing.paths, path),
                Fact::Known(RequestPath::Absent) => false,
                Fact::Known(RequestPath::Malformed) | Fact::Pending | Fact::Missing => true,
            };
        base != Truth::False && path
    }

    /// In the networks, and in none of their exceptions. Once in the module.
    #[inline(never)]
    fn within(
        &self,
        classes: Slice<ClassId>,
        except: Slice<IpNet>,
        address: IpAddr,
        seen: &[ClassId],
    ) -> bool {
        let except = self.exceptions.get(except);
        self.in_one_of(classes, seen) && !except.iter().any(|net| net.contains(&address))
    }

    /// Class lists are sorted; a destination is in few classes.
    fn in_one_of(&self, classes: Slice<ClassId>, seen: &[ClassId]) -> bool {
        let classes = self.classes.get(classes);
        seen.iter()
            .any(|class| classes.binary_search(class).is_ok())
    }

    fn port_holds(&self, ports: Slice<(u16, u16)>, seen: &ResolvedFacts<'_>) -> Truth {
        if ports.is_empty() {
            return Truth::True;
        }
        Truth::on(seen.facts.destination.port, |port| {
            self.ports
                .get(ports)
                .iter()
                .any(|(first, last)| (*first..=*last).contains(&port))
        })
    }

    fn request_holds(
        &self,
        narrowing: &Narrowing,
        denies: bool,
        seen: &ResolvedFacts<'_>,
    ) -> Truth {
        if seen.facts.protocol != Protocol::Http {
            return Truth::True;
        }
        // CONNECT and upgrades need to be listed by what opens; a Deny covers them unasked.
        let method = if narrowing.methods.is_empty() {
            if denies {
                Truth::True
            } else {
                Truth::on(seen.is_connect, |connect| !connect)
            }
        } else {
            Truth::on(seen.method, |method| {
                self.texts.get(narrowing.methods).contains(&method)
            })
        };
        let upgrade = if narrowing.upgrades.is_empty() {
            if denies {
                Truth::True
            } else {
                Truth::on(seen.upgrade, |token| token.is_none())
            }
        } else {
            Truth::on(seen.upgrade, |token| {
                token.is_some_and(|token| self.texts.get(narrowing.upgrades).contains(&token))
            })
        };
        method.and(upgrade)
    }
}

/// What [`Store::to_holds`] found.
#[derive(Clone, Copy)]
pub(super) struct ToTruth {
    pub(super) holds: Truth,
    /// It compares paths, and this one must not be compared.
    pub(super) malformed: Truth,
    /// It holds and says `allowPrivate`.
    pub(super) exempt: Truth,
}

impl ToTruth {
    pub(super) const NONE: Self = Self {
        holds: Truth::False,
        malformed: Truth::False,
        exempt: Truth::False,
    };

    const fn new(holds: Truth, malformed: Truth, narrowing: &Narrowing) -> Self {
        Self {
            holds,
            malformed,
            exempt: if narrowing.allow_private {
                holds
            } else {
                Truth::False
            },
        }
    }

    pub(super) fn or(self, other: Self) -> Self {
        Self {
            holds: self.holds.or(other.holds),
            malformed: self.malformed.or(other.malformed),
            exempt: self.exempt.or(other.exempt),
        }
    }
}

impl Actions {
    pub(crate) const NONE: Self = Self(0);
    pub(crate) const DENY: Self = Self(1);
    pub(crate) const ACCEPT: Self = Self(2);

    /// The inspection proxy with this place in the order of names.
    pub(crate) fn inspect(place: usize) -> Option<Self> {
        let bit = u32::try_from(place)
            .ok()
            .filter(|_| place < MAX_INSPECTION_PROXIES)?
            + 2;
        1_u64.checked_shl(bit).map(Self)
    }

    pub(crate) const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Anything but Deny is in it.
    pub(crate) const fn has_opening(self) -> bool {
        self.0 & !Self::DENY.0 != 0
    }

    /// Exactly one is in it.
    pub(crate) const fn is_single(self) -> bool {
        self.0.is_power_of_two()
    }

    pub(crate) fn each(self) -> impl Iterator<Item = Self> {
        let mut left = self.0;
        std::iter::from_fn(move || {
            let lowest = left & left.wrapping_neg();
            left &= !lowest;
            (lowest != 0).then_some(Self(lowest))
        })
    }

    /// The more restrictive of two single actions: Deny, then inspection, then Accept. Of two
    /// inspections the first argument's.
    pub(crate) fn stricter(self, other: Self) -> Self {
        if self == Self::DENY || other == Self::DENY {
            Self::DENY
        } else if self == Self::ACCEPT {
            other
        } else {
            self
        }
    }

    /// What can come of two policies together.
    pub(crate) fn together(self, other: Self) -> Self {
        let mut both = Self::NONE;
        for left in self.each() {
            for right in other.each() {
                both = both.with(left.stricter(right));
            }
        }
        both
    }

    /// The most restrictive in it.
    pub(crate) fn strictest(self) -> Option<Self> {
        self.each().reduce(|a, b| {
            if b.0 > Self::ACCEPT.0 && a == Self::ACCEPT {
                b
            } else {
                a
            }
        })
    }

    /// The place of the inspection proxy, if this is one.
    pub(crate) fn inspection_proxy(self) -> Option<usize> {
        self.0
            .trailing_zeros()
            .checked_sub(2)
            .filter(|_| self.is_single())
            .and_then(|p| usize::try_from(p).ok())
    }
}
