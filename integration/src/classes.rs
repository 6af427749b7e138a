//! The address classes of a gateway: what `gateway.yaml` is filled in with for each, and how the
//! module is told which name each has.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use egress_policy::address::Environment;
use egress_policy::canonical;
use egress_policy::classes::{AddressClass, Classes};
use egress_policy::contract::{LITERAL, UNCHECKED};
use egress_policy::model::Policy;
use egress_policy::tree::Json;
use ipnet::IpNet;
use serde_json::{Value, json};

/// A resolver that cannot answer: nobody may send to the broadcast address unasked (ip(7)), so
/// that no name ever resolves in the class of what is dialled by its number.
const NOBODY: Ipv4Addr = Ipv4Addr::BROADCAST;
/// Digits of the hash that names a class.
const DIGITS: usize = 8;

/// One class, as the gateway's configuration has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Class {
    /// Its name; that of another content is another.
    pub name: String,
    /// What the DNS cache leaves out of every answer; `None` leaves nothing out.
    refused: Option<Vec<IpNet>>,
    /// Whether anybody answers.
    resolves: bool,
    /// What the policy says of it.
    content: Option<AddressClass>,
}

impl Class {
    /// A class of this name that refuses these networks, for gateways without a policy.
    #[must_use]
    pub fn named(name: &str, refused: &[&str]) -> Self {
        let networks = refused.iter().filter_map(|network| network.parse().ok());
        Self {
            name: name.to_owned(),
            refused: Some(networks.collect()),
            resolves: true,
            content: None,
        }
    }

    /// That of names where no address is checked.
    #[must_use]
    pub fn unchecked() -> Self {
        Self {
            refused: None,
            ..Self::named(UNCHECKED, &[])
        }
    }

    /// That of what is dialled by its number, which every gateway has.
    #[must_use]
    pub fn literal() -> Self {
        Self {
            refused: None,
            resolves: false,
            ..Self::named(LITERAL, &[])
        }
    }

    fn of(content: AddressClass, environment: &Environment) -> Self {
        let refused = content.refused_ranges(environment);
        let text = json!(refused).to_string();
        // A list of texts has one form.
        let hash = Json::parse(&text)
            .ok()
            .and_then(|tree| canonical::hash(&tree).ok())
            .map_or_else(String::new, |hash| canonical::hex(&hash));
        Self {
            name: hash.chars().take(DIGITS).collect(),
            refused: Some(refused),
            resolves: true,
            content: Some(content),
        }
    }

    /// Whether no Deny on networks is in it.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        let content = self.content.as_ref();
        content.is_none_or(|content| content.refused.is_empty())
    }

    /// What stands in the template for it.
    #[must_use]
    pub fn values(&self, resolver: Ipv4Addr) -> Vec<(&'static str, String)> {
        let range = |network: &IpNet| json!({"address_prefix": network.network(), "prefix_len": network.prefix_len()});
        let refused = self.refused.as_ref().map(|networks| {
            let ranges: Vec<Value> = networks.iter().map(range).collect();
            json!({"ranges": ranges})
        });
        let resolver = if self.resolves { resolver } else { NOBODY };
        vec![
            ("CLASS", self.name.clone()),
            ("REFUSED", json!(refused).to_string()),
            ("RESOLVER", resolver.to_string()),
        ]
    }
}

/// The classes that these policies need; an unreadable one needs none.
#[must_use]
pub fn of(policies: &[Value]) -> Vec<Class> {
    of_in(policies, &Environment::default())
}

/// The same in an environment.
#[must_use]
pub fn of_in(policies: &[Value], environment: &Environment) -> Vec<Class> {
    let read = |policy: &Value| {
        let text = policy.to_string();
        Policy::read(&Json::parse(&text).ok()?).ok()
    };
    let policies: Vec<Policy> = policies.iter().filter_map(read).collect();
    let classes = Classes::of(&policies).unwrap_or_else(|many| {
        // Without a class every name is closed, which a test will notice.
        eprintln!("{many}");
        Vec::new()
    });
    let class = |content| Class::of(content, environment);
    classes.into_iter().map(class).collect()
}

/// The classes of several states of a gateway, which it has all at once.
#[must_use]
pub fn of_each(states: &[&[Value]]) -> Vec<Class> {
    let mut names = BTreeSet::new();
    let mut classes: Vec<Class> = states.iter().flat_map(|policies| of(policies)).collect();
    classes.retain(|class| names.insert(class.name.clone()));
    classes
}

/// `addressClasses` of the module's configuration.
#[must_use]
pub fn listed(classes: &[Class]) -> Value {
    let entry = |class: &Class| {
        let content = class.content.as_ref()?;
        Some(json!({
            "name": class.name,
            "allowPrivate": content.allow_private,
            "refused": content.refused,
        }))
    };
    classes.iter().filter_map(entry).collect()
}
