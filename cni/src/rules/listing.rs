//! Reading back what the kernel holds of pods, from `nft -j list table`.

use serde::Deserialize;

use super::{Element, ElementKey, Family, TABLE};

/// The sets whose elements stand for pods.
const POD_SETS: [&str; 24] = [
    "guarded_if",
    "gateway_if",
    "dropped_if",
    "logged_if",
    "count_only_if",
    "own4",
    "own6",
    "advertised6",
    "pod4",
    "pod6",
    "gateway_pod4",
    "gateway_pod6",
    "dropped4",
    "dropped6",
    "logged4",
    "logged6",
    "count_only4",
    "count_only6",
    "gateway_new4",
    "gateway_new6",
    "gateway_new_if",
    "limited4",
    "limited6",
    "limited_if",
];

/// What the kernel counts of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// Packets to where it may not send, or from an address that is not its own.
    Refused,
    /// Packets that would have begun a connection to the gateway beyond the pod's limits.
    Limited,
}

impl Counted {
    /// The sets that hold the counters, by address and by link.
    fn sets(self) -> [&'static str; 3] {
        match self {
            Self::Refused => ["dropped_if", "dropped4", "dropped6"],
            Self::Limited => ["limited_if", "limited4", "limited6"],
        }
    }
}

#[derive(Deserialize)]
struct Listing {
    nftables: Vec<Object>,
}

#[derive(Deserialize)]
struct Object {
    set: Option<Set>,
}

#[derive(Deserialize)]
struct Set {
    name: String,
    #[serde(default)]
    stmt: Vec<Statement>,
    #[serde(default)]
    elem: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct Statement {
    limit: Option<Rate>,
}

#[derive(Deserialize)]
struct Rate {
    rate: u32,
    #[serde(default = "usual_burst")]
    burst: u32,
}

/// `nft` leaves its default out.
fn usual_burst() -> u32 {
    5
}

/// The node guard's own table in `nft list ruleset FAMILY`.
#[must_use]
pub fn own_table(family: Family, ruleset: &str) -> Option<&str> {
    let head = format!("table {family} {TABLE} {{\n");
    let start = if ruleset.starts_with(&head) {
        0
    } else {
        ruleset.find(&format!("\n{head}"))? + 1
    };
    let own = ruleset.get(start..)?;
    let end = own.find("\n}")?;
    own.get(..=end)
}

/// The elements of a set in `nft list set`, in an order of their own: the kernel's depends on when
/// they were written.
#[must_use]
pub fn set_elements(text: &str) -> Vec<&str> {
    let elements = text.split_once("elements = {").map_or("", |(_, rest)| rest);
    let elements = elements.split_once('}').map_or("", |(inside, _)| inside);
    let mut elements: Vec<_> = elements.split(',').map(str::trim).collect();
    elements.retain(|element| !element.is_empty());
    elements.sort_unstable();
    elements
}

/// The elements of pods in the listing of one table.
///
/// # Errors
/// If the text is not what `nft -j` prints.
pub fn parse_listing(family: Family, text: &str) -> Result<Vec<Element>, serde_json::Error> {
    let listing: Listing = serde_json::from_str(text)?;
    let mut all = Vec::new();
    for set in listing.nftables.into_iter().filter_map(|object| object.set) {
        let Some(name) = POD_SETS.iter().copied().find(|name| *name == set.name) else {
            continue;
        };
        all.extend(set.elem.iter().filter_map(|element| {
            Some(Element {
                family,
                set: name,
                key: key(name, element)?,
            })
        }));
    }
    Ok(all)
}

/// Packets that were counted, by key, from the listing of one table.
///
/// # Errors
/// If the text is not what `nft -j` prints.
pub fn parse_counters(
    counted: Counted,
    text: &str,
) -> Result<Vec<(ElementKey, u64)>, serde_json::Error> {
    let listing: Listing = serde_json::from_str(text)?;
    let mut all = Vec::new();
    for set in listing.nftables.into_iter().filter_map(|object| object.set) {
        let Some(name) = counted.sets().into_iter().find(|name| *name == set.name) else {
            continue;
        };
        let packets = |element: &serde_json::Value| {
            element
                .get("elem")?
                .get("counter")?
                .get("packets")?
                .as_u64()
        };
        all.extend(
            set.elem
                .iter()
                .filter_map(|element| Some((key(name, element)?, packets(element)?))),
        );
    }
    Ok(all)
}

/// How many new connections a second, and at once, one set's elements let pass, from the set's own
/// listing. `None` if they limit nothing.
///
/// # Errors
/// If the text is not what `nft -j` prints.
pub(crate) fn parse_rate(text: &str) -> Result<Option<(u32, u32)>, serde_json::Error> {
    let listing: Listing = serde_json::from_str(text)?;
    let sets = listing.nftables.into_iter().filter_map(|object| object.set);
    let mut rates = sets
        .flat_map(|set| set.stmt)
        .filter_map(|statement| statement.limit);
    Ok(rates.next().map(|rate| (rate.rate, rate.burst)))
}

/// The key of an element, whether statements are attached to it or not.
fn key(set: &str, element: &serde_json::Value) -> Option<ElementKey> {
    let value = element
        .get("elem")
        .and_then(|element| element.get("val"))
        .unwrap_or(element);
    let parts: Vec<&str> = match value.get("concat") {
        Some(parts) => parts
            .as_array()?
            .iter()
            .map(serde_json::Value::as_str)
            .collect::<Option<_>>()?,
        None => vec![value.as_str()?],
    };
    Some(ElementKey::parse(set, &parts))
}
