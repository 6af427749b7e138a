//! Regions put together again, so that what differs is told in few words: regions that are alike
//! but for one fact become one.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use egress_policy::facts::Protocol;

use super::explore::{CLAIMS_KNOWN, Region};
use super::partition::{Dimension, PROTOCOLS, Partition};
use super::set::Set;

/// How often every fact is tried.
const MAX_ROUNDS: usize = 4;
/// Most regions of which each is held against each.
const MAX_ABSORBED: usize = 512;

/// Facts that only requests have.
const OF_REQUESTS: [Dimension; 3] = [Dimension::Method, Dimension::Upgrade, Dimension::Path];

/// The same facts in fewer regions, which may overlap. Where a protocol does not exist at a port
/// (`exists`), the region may hold both all the same.
pub(crate) fn merged(
    partition: &Partition,
    exists: &dyn Fn(Protocol, u16) -> bool,
    regions: Vec<Region>,
) -> Vec<Region> {
    let mut merger = Merger::new(partition, exists);
    let mut rows: Vec<Vec<u32>> = regions
        .into_iter()
        .map(|region| merger.row(region))
        .collect();
    for _ in 0..MAX_ROUNDS {
        let before = rows.len();
        for place in 0..merger.dims.len() {
            rows = merger.along(place, rows);
        }
        rows = merger.protocols(rows);
        if rows.len() == before {
            break;
        }
    }
    let regions: Vec<Region> = rows.iter().map(|row| merger.region(row)).collect();
    absorbed(regions)
}

/// Without regions that lie in another one.
fn absorbed(regions: Vec<Region>) -> Vec<Region> {
    if regions.len() > MAX_ABSORBED {
        return regions;
    }
    let within = |a: &Region, b: &Region| a.0.values().zip(b.0.values()).all(|(a, b)| a.within(b));
    let mut kept: Vec<Region> = Vec::new();
    for region in regions {
        if kept.iter().any(|other| within(&region, other)) {
            continue;
        }
        kept.retain(|other| !within(other, &region));
        kept.push(region);
    }
    kept
}

/// For every protocol the ports at which it is there, if it is.
type PortsOf = [Option<Set>; 4];

/// Regions as rows of numbers, one number a set.
struct Merger {
    dims: Vec<Dimension>,
    sets: Vec<Rc<Set>>,
    numbers: HashMap<Rc<Set>, u32>,
    all: Vec<u32>,
    /// The ports at which a protocol exists.
    possible: [Set; 4],
}

impl Merger {
    fn new(partition: &Partition, exists: &dyn Fn(Protocol, u16) -> bool) -> Self {
        let possible =
            PROTOCOLS.map(|protocol| Set::clone(&partition.ports(|port| exists(protocol, port))));
        let mut merger = Self {
            dims: partition.dims.keys().cloned().collect(),
            sets: Vec::new(),
            numbers: HashMap::new(),
            all: Vec::new(),
            possible,
        };
        let sizes: Vec<usize> = merger.dims.iter().map(|dim| partition.size(dim)).collect();
        merger.all = sizes
            .into_iter()
            .map(|size| merger.number(Rc::new(Set::all(size))))
            .collect();
        merger
    }

    fn number(&mut self, set: Rc<Set>) -> u32 {
        if let Some(number) = self.numbers.get(&set) {
            return *number;
        }
        // More than four thousand million sets do not fit into memory.
        let number = u32::try_from(self.sets.len()).unwrap_or(u32::MAX);
        self.sets.push(Rc::clone(&set));
        self.numbers.insert(set, number);
        number
    }

    fn set(&self, number: u32) -> Rc<Set> {
        let place = usize::try_from(number).ok();
        let set = place.and_then(|place| self.sets.get(place));
        set.map_or_else(|| Rc::new(Set::none(0)), Rc::clone)
    }

    fn place(&self, dim: &Dimension) -> Option<usize> {
        self.dims.binary_search(dim).ok()
    }

    /// A region's row. Facts that do not exist in it are all alike.
    fn row(&mut self, region: Region) -> Vec<u32> {
        let http = region.0.get(&Dimension::Protocol);
        let http = http.is_some_and(|set| set.contains(0));
        let workloads = region
            .0
            .get(&Dimension::Kind)
            .is_some_and(|set| set.contains(0));
        let claims = region.0.get(&Dimension::Claims);
        let claims = claims.is_some_and(|set| set.contains(CLAIMS_KNOWN));
        let all = self.all.clone();
        let mut row = Vec::with_capacity(all.len());
        for ((dim, set), all) in region.0.into_iter().zip(all) {
            let exists = match &dim {
                Dimension::Method | Dimension::Upgrade | Dimension::Path => http,
                Dimension::TrustDomain | Dimension::Account | Dimension::Claims => workloads,
                Dimension::Cluster | Dimension::Label(_) => workloads && claims,
                _ => true,
            };
            row.push(if exists { self.number(set) } else { all });
        }
        row
    }

    fn region(&self, row: &[u32]) -> Region {
        let sets = row.iter().map(|number| self.set(*number));
        Region(self.dims.iter().cloned().zip(sets).collect())
    }

    /// Puts rows together that differ in one fact alone.
    fn along(&mut self, place: usize, rows: Vec<Vec<u32>>) -> Vec<Vec<u32>> {
        let mut groups: HashMap<Vec<u32>, usize> = HashMap::with_capacity(rows.len());
        let mut kept: Vec<(Vec<u32>, Vec<u32>)> = Vec::new();
        for row in rows {
            let mut key = row.clone();
            let Some(own) = key.get_mut(place) else {
                continue;
            };
            let number = std::mem::replace(own, u32::MAX);
            if let Some((_, numbers)) = groups.get(&key).and_then(|group| kept.get_mut(*group)) {
                numbers.push(number);
            } else {
                groups.insert(key, kept.len());
                kept.push((row, vec![number]));
            }
        }
        kept.into_iter()
            .map(|(mut row, numbers)| {
                if let ([first, more @ ..], Some(own)) = (&numbers[..], row.get_mut(place))
                    && !more.is_empty()
                {
                    let first = Set::clone(&self.set(*first));
                    let union = more
                        .iter()
                        .fold(first, |all, more| all.or(&self.set(*more)));
                    *own = self.number(Rc::new(union));
                }
                row
            })
            .collect()
    }

    /// Puts protocols together that are about the same ports, as far as they exist there.
    fn protocols(&mut self, rows: Vec<Vec<u32>>) -> Vec<Vec<u32>> {
        let (Some(protocol), Some(port)) = (
            self.place(&Dimension::Protocol),
            self.place(&Dimension::Port),
        ) else {
            return rows;
        };
        let requests: Vec<usize> = OF_REQUESTS
            .iter()
            .filter_map(|dim| self.place(dim))
            .collect();
        // By everything else, then by what the requests are: what is not HTTP has none.
        let mut groups: BTreeMap<Vec<u32>, BTreeMap<Vec<u32>, PortsOf>> = BTreeMap::new();
        for row in rows {
            let number = |place: usize| row.get(place).copied().unwrap_or_default();
            let (protocols, ports) = (self.set(number(protocol)), self.set(number(port)));
            let request: Vec<u32> = requests.iter().map(|place| number(*place)).collect();
            let any: Vec<u32> = requests
                .iter()
                .map(|place| self.all.get(*place).copied().unwrap_or_default())
                .collect();
            let mut key = row.clone();
            for place in requests.iter().chain([&protocol, &port]) {
                key.get_mut(*place)
                    .into_iter()
                    .for_each(|own| *own = u32::MAX);
            }
            let group = groups.entry(key).or_default();
            for i in protocols.iter() {
                let kind = if i == 0 { request.clone() } else { any.clone() };
                let own = group.entry(kind).or_default().get_mut(i);
                if let (Some(own), Some(possible)) = (own, self.possible.get(i)) {
                    let exists = ports.and(possible);
                    *own = Some(
                        own.take()
                            .map_or_else(|| exists.clone(), |own| own.or(&exists)),
                    );
                }
            }
        }
        let mut out = Vec::new();
        for (key, mut group) in groups {
            // What is not HTTP joins the requests that it fits.
            let any = requests
                .iter()
                .filter_map(|place| self.all.get(*place).copied());
            let any: Vec<u32> = any.collect();
            let mut rest = group.get(&any).cloned().unwrap_or_default();
            let [http, ..] = &mut rest;
            *http = None;
            if let Some([_, others @ ..]) = group.get_mut(&any) {
                *others = [None, None, None];
            }
            for (request, sets) in group {
                let [Some(http), ..] = sets else { continue };
                let products = self.products([Some(http), None, None, None], &mut rest);
                out.extend(
                    products
                        .into_iter()
                        .map(|product| (key.clone(), request.clone(), product)),
                );
            }
            let products = self.products([None, None, None, None], &mut rest);
            out.extend(
                products
                    .into_iter()
                    .map(|product| (key.clone(), any.clone(), product)),
            );
        }
        out.into_iter()
            .map(|(mut row, request, (protocols, ports))| {
                let numbers = [self.number(Rc::new(protocols)), self.number(Rc::new(ports))];
                let places = requests.iter().copied().zip(request);
                for (place, number) in places.chain([protocol, port].into_iter().zip(numbers)) {
                    row.get_mut(place).into_iter().for_each(|own| *own = number);
                }
                row
            })
            .collect()
    }

    /// Protocols with the ports that they share. With `own` requests, only what joins them is taken
    /// from the rest.
    fn products(&self, own: PortsOf, rest: &mut PortsOf) -> Vec<(Set, Set)> {
        let requests = own.iter().any(Option::is_some);
        let mut left = own;
        for (place, more) in left.iter_mut().zip(rest.iter()) {
            *place = place.take().or_else(|| more.clone());
        }
        let mut products = Vec::new();
        while let Some(ports) = self.widest(&left, requests) {
            let fits = |i: usize| {
                let set = left.get(i).and_then(Option::as_ref);
                let possible = self.possible.get(i);
                set.zip(possible)
                    .is_some_and(|(set, possible)| ports.and(possible) == *set)
            };
            let members = Set::of(PROTOCOLS.len(), fits);
            for i in members.iter() {
                left.get_mut(i).into_iter().for_each(|own| *own = None);
                rest.get_mut(i).into_iter().for_each(|own| *own = None);
            }
            products.push((self.completed(&members, &ports), ports));
            if requests {
                break;
            }
        }
        products
    }

    /// The protocols with those that do not exist at these ports and so change nothing, if that
    /// makes them all of HTTP, TLS and TCP.
    fn completed(&self, members: &Set, ports: &Set) -> Set {
        let holds = |i: usize| {
            let possible = self.possible.get(i);
            let absent = possible.is_some_and(|possible| !possible.meets(ports));
            members.contains(i) || (absent && PROTOCOLS.get(i) != Some(&Protocol::Udp))
        };
        let completed = Set::of(PROTOCOLS.len(), holds);
        let told = |i: usize| PROTOCOLS.get(i) == Some(&Protocol::Udp) || completed.contains(i);
        if (0..PROTOCOLS.len()).all(told) {
            completed
        } else {
            members.clone()
        }
    }

    /// The ports of a product: all ports where every protocol that has some has all of its own, else
    /// those of one protocol and whatever fits beside them.
    fn widest(&self, left: &PortsOf, requests: bool) -> Option<Set> {
        let lead = if requests {
            left.first()?.as_ref()?
        } else {
            left.iter().flatten().next()?
        };
        let i = left.iter().position(|set| set.as_ref() == Some(lead))?;
        let mut ports = lead.clone();
        for (j, set) in left.iter().enumerate() {
            let (Some(set), Some(possible)) = (set, self.possible.get(j)) else {
                continue;
            };
            let own = self.possible.get(i)?;
            let wider = ports.or(set);
            // The leading protocol must not gain ports, and the other one must not either.
            let joined = [i, j].into_iter().all(|k| {
                let (set, possible) = (left.get(k), self.possible.get(k));
                set.and_then(Option::as_ref)
                    .zip(possible)
                    .is_some_and(|(set, possible)| wider.and(possible) == *set)
            });
            if joined && (own.meets(&wider) || possible.meets(&wider)) {
                ports = wider;
            }
        }
        Some(ports)
    }
}
