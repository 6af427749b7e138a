//! Address classes: for each a DNS cache that leaves the addresses out that the class refuses, the
//! clusters that resolve by it, and the routes that its word opens.
//!
//! Each class is an object of its own, so that it can come before the policy that names it, and stay
//! until no stream of an older one is left.

use std::collections::BTreeSet;

use egress_policy::canonical;
use egress_policy::classes::{AddressClass, Classes as Needed};
use egress_policy::contract::LITERAL;
use egress_policy::model::Policy;
use egress_policy::tree::Json;
use ipnet::IpNet;
use serde_json::{Value, json};

use super::named;
use crate::error::RenderError;
use crate::install::{Family, Install};
use crate::object::{canonical, set};

/// Names that the gateway keeps at a time, for all workloads and classes together. Envoy's default
/// of 1,024 is filled by one workload whose rule takes a wildcard, and further names are then
/// answered with 503.
const MOST_NAMES: usize = 16_384;
/// Digits of the hash that names a class.
const DIGITS: usize = 8;
/// A resolver that cannot answer: nobody may send to the broadcast address unasked (ip(7)), so that
/// no name ever resolves in the class of what is dialled by its number.
const NOBODY: &str = "255.255.255.255";

/// A class of the gateway.
#[derive(Clone, Debug)]
pub(crate) struct Class {
    /// What the verdict's word and the clusters end in. Another content has another name.
    name: String,
    /// The whole DNS cache.
    cache: Value,
    /// What the module knows it by; nothing for what is dialled by its number.
    content: Option<AddressClass>,
}

/// The classes of a gateway.
#[derive(Clone, Debug)]
pub(crate) struct Classes {
    named: Vec<Class>,
    literal: Class,
}

impl Class {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The cache, which every cluster of the class has.
    pub(super) fn cache(&self) -> &Value {
        &self.cache
    }

    /// Whether names resolve in it.
    pub(super) fn resolves(&self) -> bool {
        self.content.is_some()
    }

    fn new(
        name: Option<&str>,
        cache: &Value,
        content: Option<AddressClass>,
    ) -> Result<Self, RenderError> {
        let hash = hash(cache)?;
        // All users of one cache have the same settings, or Envoy refuses the later one and goes on
        // with the older.
        let (name, cache_name) = match name {
            Some(name) => (name.to_owned(), format!("egress-warden-{name}-{hash}")),
            None => (hash.clone(), format!("egress-warden-{hash}")),
        };
        let mut cache = cache.clone();
        set(&mut cache, "name", json!(cache_name));
        Ok(Self {
            name,
            cache,
            content,
        })
    }
}

impl Classes {
    /// The classes that verdicts of these policies can have, and that of what is dialled by its
    /// number.
    ///
    /// # Errors
    /// If they are more than a gateway has.
    pub(crate) fn of(install: &Install, policies: &[Policy]) -> Result<Self, RenderError> {
        let contents = Needed::of(policies).map_err(|many| {
            let message = format!(
                "{many}: each is a DNS cache and clusters of its own; give networks that several \
                 of these rules deny to one rule before them, for everybody, or spread the \
                 workloads over several gateways"
            );
            RenderError::new("spec.tiers", message)
        })?;
        let environment = install.spec.cluster.environment();
        // Together they keep no more names than one would. By powers of two, so that a class more
        // is seldom another cache for all.
        let most = MOST_NAMES / (contents.len() + 1).next_power_of_two();
        let cache = |content: &AddressClass, resolvers: &[String]| {
            let refused = content.refused_ranges(&environment);
            dns_cache(install, &refused, resolvers, most)
        };
        let resolvers = install.spec.dns.resolvers.iter();
        let resolvers: Vec<_> = resolvers.map(ToString::to_string).collect();
        let named = contents.into_iter().map(|content| {
            let cache = cache(&content, &resolvers);
            Class::new(None, &cache, Some(content))
        });
        let named = named.collect::<Result<_, _>>()?;
        // The module has judged the number itself. What no rule can open is left out here too, and
        // so are the cluster's own networks, of which only the settings know.
        let literal = cache(&AddressClass::new(true, &[]), &[NOBODY.to_owned()]);
        let literal = Class::new(Some(LITERAL), &literal, None)?;
        Ok(Self { named, literal })
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Class> {
        self.named.iter().chain([&self.literal])
    }

    /// The caches of all of them, by their names.
    pub(crate) fn caches(&self) -> Vec<(String, Value)> {
        let caches = self.iter();
        caches
            .map(|class| (class.name.clone(), class.cache.clone()))
            .collect()
    }

    /// The names of those that the policies need.
    pub(crate) fn names(&self) -> BTreeSet<String> {
        self.named.iter().map(|class| class.name.clone()).collect()
    }

    /// How many caches there are.
    pub(crate) fn count(&self) -> usize {
        self.named.len() + 1
    }

    /// `addressClasses` of the module's configuration.
    pub(crate) fn listed(&self) -> Value {
        let entry = |class: &Class| {
            let content = class.content.as_ref()?;
            Some(json!({
                "name": class.name,
                "allowPrivate": content.allow_private,
                "refused": content.refused,
            }))
        };
        self.named.iter().filter_map(entry).collect()
    }
}

/// The class that a cluster of ours is of, by its name.
pub(crate) fn of_cluster(name: &str) -> Option<&str> {
    let (_, class) = name.strip_prefix("warden-")?.rsplit_once('-')?;
    let digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    (class.len() == DIGITS && class.bytes().all(digit)).then_some(class)
}

/// SHA-256 of a cache's settings, shortened.
fn hash(cache: &Value) -> Result<String, RenderError> {
    let text = canonical(cache).to_string();
    let hash = Json::parse(&text).and_then(|tree| canonical::hash(&tree));
    let hash = hash.map_err(|message| RenderError::new("dns", message))?;
    Ok(canonical::hex(&hash).chars().take(DIGITS).collect())
}

/// A cache without its name.
fn dns_cache(install: &Install, refused: &[IpNet], resolvers: &[String], most: usize) -> Value {
    let family = match install.spec.dns.family {
        Family::All => "ALL",
        Family::V4 => "V4_ONLY",
        Family::V6 => "V6_ONLY",
    };
    let ranges: Vec<_> = refused
        .iter()
        .map(|net| json!({"address_prefix": net.network(), "prefix_len": net.prefix_len()}))
        .collect();
    let mut cache = json!({
        "dns_lookup_family": family,
        "max_hosts": most,
        // One that fails is asked for again soon; Envoy keeps it for a minute otherwise.
        "dns_failure_refresh_rate": {"base_interval": "1s", "max_interval": "5s"},
        // As long as the module counts the name.
        "host_ttl": format!("{}s", install.spec.limits.name_lifetime_seconds),
        "resolved_address_filter": {"ranges": ranges},
    });
    if !resolvers.is_empty() {
        let resolvers: Vec<_> = resolvers
            .iter()
            .map(|address| json!({"socket_address": {"address": address, "port_value": 53}}))
            .collect();
        let resolver = named(
            "envoy.network.dns_resolver.cares",
            "envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
            json!({
                "resolvers": resolvers,
                "dns_resolver_options": {"no_default_search_domain": true},
            }),
        );
        set(&mut cache, "typed_dns_resolver_config", resolver);
    }
    cache
}

#[cfg(test)]
mod tests;
