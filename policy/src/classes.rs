//! Address classes: which addresses a name may not lead to, for one kind of verdict.
//!
//! Envoy connects to any address of a DNS answer, so what must not be reached is kept out of the
//! answer: the DNS cache of each class leaves it out. A verdict says which class its name belongs
//! to, and the gateway's configuration has a cache for every class that a verdict can have.

use std::cell::RefCell;
use std::fmt;
use std::net::IpAddr;
use std::rc::Rc;

use ipnet::IpNet;
use smallvec::SmallVec;

use crate::address::{Environment, Ranges, SPECIAL, Special, SpecialRange, embeddings};
use crate::model::Policy;

/// Most classes of one gateway. Each is a DNS cache of its own, and a cluster for everything that
/// leads out.
pub const MAX_CLASSES: usize = 32;

/// What a DNS cache leaves out for one kind of verdict.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AddressClass {
    /// Whether names may lead to RFC 1918, unique local and shared (CGNAT) addresses.
    pub allow_private: bool,
    /// The Deny networks that hold, canonical: the fewest networks that make up the set, IPv4
    /// first, ascending, and none that is special for every name of the class anyway. IPv4 networks
    /// stand in their IPv4 form only.
    pub refused: Vec<IpNet>,
}

impl AddressClass {
    /// The class of these Deny networks.
    pub fn new<'n>(allow_private: bool, networks: impl IntoIterator<Item = &'n IpNet>) -> Self {
        // What a stated NAT64 prefix can lie in is not special for every name.
        let always = special_rows(allow_private).filter(|row| match row.network {
            IpNet::V4(_) => true,
            IpNet::V6(_) => !matches!(row.kind, Special::Embedded | Special::Private),
        });
        let always: Ranges = always.map(|row| &row.network).collect();
        let mut refused = networks.into_iter().collect::<Ranges>().networks();
        refused.retain(|net| !always.cover(net));
        Self {
            allow_private,
            refused,
        }
    }

    /// Everything that the DNS cache leaves out, canonical: what no name may lead to, the Deny
    /// networks, the environment's own networks, and the IPv6 forms of the IPv4 ones among them.
    #[must_use]
    pub fn refused_ranges(&self, environment: &Environment) -> Vec<IpNet> {
        let special: Ranges = special_rows(self.allow_private)
            .map(|row| &row.network)
            .collect();
        // A stated NAT64 prefix is seen through, also where it lies in a special range.
        let stated: Vec<IpNet> = environment.nat64.iter().map(IpNet::V6).collect();
        let mut all = special.without(&stated.iter().collect()).networks();
        all.extend(&self.refused);
        all.extend(&environment.networks);
        let forms: Vec<IpNet> = all
            .iter()
            .flat_map(|net| embeddings(net, environment))
            .collect();
        all.extend(forms);
        all.iter().collect::<Ranges>().networks()
    }

    /// Whether a name of this class may lead to the address.
    #[must_use]
    pub fn admits(&self, address: IpAddr, environment: &Environment) -> bool {
        let ranges = self.refused_ranges(environment);
        !ranges.iter().any(|net| net.contains(&address))
    }
}

impl fmt::Display for AddressClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.allow_private {
            "private addresses allowed"
        } else {
            "no private addresses"
        })?;
        for (i, net) in self.refused.iter().enumerate() {
            write!(f, "{}{net}", if i == 0 { ", without " } else { " " })?;
        }
        Ok(())
    }
}

fn special_rows(allow_private: bool) -> impl Iterator<Item = &'static SpecialRange> {
    SPECIAL
        .iter()
        .filter(move |row| !(allow_private && row.kind.opened_by_allow_private()))
}

/// The class of a verdict by number; what it stands for says [`crate::PolicySet::class`]. Keys of one
/// policy set mean the same for as long as it is there. Two keys can stand for one class.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClassKey {
    pub(crate) allow_private: bool,
    pub(crate) held: SmallVec<[Held; 3]>,
}

/// The first so many networks of one run of Deny networks that are alike for every caller and
/// request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Held {
    /// The place of the policy.
    pub(crate) policy: u32,
    /// The number of the run.
    pub(crate) run: u32,
    /// How many of its members.
    pub(crate) count: u32,
}

/// Which addresses a verdict's destination may lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Addresses<C = ClassKey> {
    /// No DNS answer is held against a class: nothing opens, the destination is dialled by its
    /// number, the address is known already, or the configuration checks no addresses.
    NotNamed,
    /// A name opens, and where it leads is still to come: to what this class leaves.
    Class(C),
}

/// The names that a gateway's configuration gives to classes.
#[derive(Debug, Default)]
pub struct ClassNames {
    /// In the classes' order. They are few.
    names: Vec<(AddressClass, Rc<str>)>,
    /// What keys of verdicts stand for, as far as it was asked, in the keys' order. They are few in
    /// practice.
    known: RefCell<Vec<(ClassKey, Option<Rc<str>>)>>,
}

/// Most keys whose names are remembered.
const MAX_KNOWN: usize = 4_096;

impl ClassNames {
    /// Names a class. False if the class or the name is there already.
    pub fn add(&mut self, name: &str, class: AddressClass) -> bool {
        let place = self.names.partition_point(|(known, _)| *known < class);
        let mut all = self.names.iter();
        if all.any(|(known, called)| *known == class || **called == *name) {
            return false;
        }
        self.names.insert(place, (class, name.into()));
        true
    }

    /// The name of the class that a verdict has; `None` if the configuration does not list it, and
    /// then nothing opens. `class_of` is [`crate::PolicySet::class`] of the set that gave the key,
    /// always the same one: what a key stands for is remembered.
    pub fn name(
        &self,
        key: &ClassKey,
        class_of: impl FnOnce(&ClassKey) -> AddressClass,
    ) -> Option<Rc<str>> {
        // Unnamed classes are remembered too. Nothing else borrows while this runs.
        let mut known = self.known.try_borrow_mut().ok()?;
        let place = known.partition_point(|(known, _)| known < key);
        if let Some((_, name)) = known.get(place).filter(|(known, _)| known == key) {
            return name.clone();
        }
        let class = class_of(key);
        let named = self.names.iter().find(|(known, _)| *known == class);
        let name = named.map(|(_, name)| Rc::clone(name));
        if known.len() < MAX_KNOWN {
            known.insert(place, (key.clone(), name.clone()));
        }
        name
    }

    /// Classes and names, in the classes' order.
    pub fn iter(&self) -> impl Iterator<Item = (&AddressClass, &str)> {
        self.names.iter().map(|(class, name)| (class, &**name))
    }
}

/// A gateway's policies need more classes than one gateway can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more than {MAX_CLASSES} different sets of forbidden addresses: {}", .rules.join(", "))]
pub struct TooManyClasses {
    /// The rules whose networks or `allowPrivate` tell them apart, as `policy/tier/rule`.
    pub rules: Vec<String>,
}

/// The classes that verdicts of some policies can have.
#[derive(Clone, Copy, Debug)]
pub struct Classes;

impl Classes {
    /// Every class that a verdict of these policies can have, whatever the facts, in a fixed order.
    ///
    /// # Errors
    /// If they are more than [`MAX_CLASSES`].
    pub fn of(policies: &[Policy]) -> Result<Vec<AddressClass>, TooManyClasses> {
        Self::within(policies, MAX_CLASSES)
    }

    /// As [`Classes::of`], with another limit.
    ///
    /// # Errors
    /// If they are more than that.
    pub fn within(policies: &[Policy], most: usize) -> Result<Vec<AddressClass>, TooManyClasses> {
        of::classes(policies, most)
    }
}

mod of;
