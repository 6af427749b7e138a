//! What is listed against brute force: every combination of a small universe of callers and
//! destinations, and the engine's answer for each as the mesh carries it.

mod examples;

use std::cell::Cell;
use std::net::IpAddr;
use std::rc::Rc;

use egress_policy::facts::{Fact, Protocol};
use egress_policy::name::Name;
use egress_policy::verdict::{Action, Evaluation};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::explored::{Explored, Explorer};
use super::{Inquiry, Question, destination, origin};
use crate::bundle::PolicyBundle;
use crate::carriage::Mesh;
use crate::owned_facts::{OwnedFacts, Who, parse_to};
use crate::regions::compiled::{NO_CERTIFICATE, PLAINTEXT, WORKLOAD};
use crate::regions::explore::{CLAIMS_KNOWN, Region};
use crate::regions::partition::{Classes, Dimension, NameAtom, PROTOCOLS, Partition, PathAtom};
use crate::regions::set::Set;
use crate::tests::NOW;
use crate::tests::random::{layers, shapes, universe};

fn never() -> bool {
    false
}

/// What a question comes to, before it is told in words.
fn explored(bundle: &PolicyBundle, question: &Question) -> Explored {
    let set = bundle.compile().unwrap();
    let inquiry = Inquiry {
        bundle,
        set: &set,
        now: NOW,
        stop: &never,
        all: true,
    };
    let mesh = Mesh::of(bundle);
    let rule = question.as_rule();
    Explorer::new(&inquiry, &mesh, question, &rule).explored()
}

/// Whether a region of the classes holds these facts, all known.
fn holds(partition: &Partition, region: &Region, facts: &OwnedFacts) -> bool {
    region.0.iter().all(|(dim, set)| {
        let own = class(partition, dim, facts);
        own.is_none_or(|own| own.meets(set))
    })
}

/// The class of a fact; `None` where the facts have no such fact.
fn class(partition: &Partition, dim: &Dimension, facts: &OwnedFacts) -> Option<Rc<Set>> {
    let workload = match facts.caller.as_ref().known() {
        Some(Who::Workload {
            namespace,
            service_account,
            ..
        }) => Some((namespace.as_str(), service_account.as_str())),
        _ => None,
    };
    let claims = facts.claims.as_ref().known();
    let http = facts.protocol == Protocol::Http;
    let nth = |i: usize| Rc::new(Set::of(partition.size(dim), |one| one == i));
    let text = |value: &str| {
        let known = partition.texts(dim, |one| one == value);
        if known.is_empty() {
            partition.texts(dim, |one| one == crate::regions::compiled::fresh())
        } else {
            known
        }
    };
    let optional = |value: Option<&str>| {
        let known = partition.optional(dim, |one| one == value);
        if known.is_empty() {
            partition.optional(dim, |one| one == Some(crate::regions::compiled::fresh()))
        } else {
            known
        }
    };
    match (dim, &partition.dims[dim]) {
        (Dimension::Kind, _) => Some(nth(match facts.caller.as_ref().known() {
            Some(Who::Workload { .. }) => WORKLOAD,
            Some(Who::NoCertificate) => NO_CERTIFICATE,
            _ => PLAINTEXT,
        })),
        (Dimension::TrustDomain, _) => workload.map(|_| text("cluster.local")),
        (Dimension::Account, Classes::Accounts(accounts)) => {
            let (namespace, account) = workload?;
            let fresh = crate::regions::compiled::fresh();
            let place = |wanted: (&str, &str)| {
                let same = |(namespace, account): &(String, String)| {
                    (namespace.as_str(), account.as_str()) == wanted
                };
                accounts.iter().position(same)
            };
            let found = place((namespace, account))
                .or_else(|| place((namespace, fresh)))
                .or_else(|| place((fresh, fresh)));
            found.map(nth)
        }
        (Dimension::Claims, _) => {
            workload.map(|_| Rc::new(Set::of(2, |i| (i == CLAIMS_KNOWN) == claims.is_some())))
        }
        (Dimension::Cluster, _) => {
            let cluster = claims?.cluster.clone().unwrap_or_default();
            workload.map(|_| text(&cluster))
        }
        (Dimension::Label(key), _) => {
            let value = claims?.labels.iter().find(|(own, _)| own == key);
            workload.map(|_| optional(value.map(|(_, value)| value.as_str())))
        }
        (Dimension::Protocol, _) => {
            let place = PROTOCOLS.iter().position(|one| *one == facts.protocol);
            place.map(nth)
        }
        (Dimension::Name, Classes::Names(names)) => Some(match facts.name.as_ref().known()? {
            None => partition.named(false),
            Some(name) => {
                let own = [egress_policy::name::NamePattern::Exact(name.clone())];
                let exact = partition.names_under(&own);
                if !exact.is_empty() {
                    return Some(exact);
                }
                nth(names
                    .atoms
                    .iter()
                    .position(|atom| below(partition, atom, name))?)
            }
        }),
        (Dimension::Address, _) => {
            let address = facts.address.known()?;
            Some(partition.addresses(|atom| {
                atom.first <= address
                    && address <= atom.last
                    && atom.first.is_ipv4() == address.is_ipv4()
            }))
        }
        (Dimension::Port, Classes::Ports(ports)) => {
            let port = facts.port.known()?;
            let place = ports
                .iter()
                .position(|(first, last)| (*first..=*last).contains(&port));
            place.map(nth)
        }
        (Dimension::Method, _) if http => Some(text(facts.method.as_ref().known()?)),
        (Dimension::Upgrade, _) if http => {
            Some(optional(facts.upgrade.as_ref().known()?.as_deref()))
        }
        (Dimension::Path, Classes::Paths(atoms)) if http => {
            let path = facts.path.as_ref().known()?;
            let own = atoms.iter().position(|atom| match (atom, path) {
                (PathAtom::Absent, None) => true,
                (PathAtom::Malformed, Some(path)) => path.contains(".."),
                (
                    PathAtom::Clean {
                        witness: Some(witness),
                        ..
                    },
                    Some(path),
                ) => path == witness,
                _ => false,
            });
            // Else the class whose globs are those that match.
            own.map(nth).or_else(|| {
                let path = path.as_deref().unwrap_or_default();
                let globs = partition.globs_of(path);
                let fits = |atom: &PathAtom| matches!(atom, PathAtom::Clean { globs: own, .. } if *own == globs);
                atoms.iter().rposition(fits).map(nth)
            })
        }
        (Dimension::Time, Classes::Times(times)) => {
            let now = facts.now.known()?;
            times.iter().rposition(|start| *start <= now).map(nth)
        }
        _ => None,
    }
}

/// Whether a name that no policy writes out is of a class.
fn below(partition: &Partition, atom: &NameAtom, name: &Name) -> bool {
    let NameAtom::Below {
        base, deep, globs, ..
    } = atom
    else {
        return false;
    };
    let Some(Classes::Names(names)) = partition.dims.get(&Dimension::Name) else {
        return false;
    };
    names.class_of(name) == (base.clone(), *deep, *globs)
}

/// What becomes of facts in the mesh: they come as they are, or other facts stand for them.
fn comes(mesh: &Mesh, facts: &OwnedFacts) -> bool {
    let port = facts.port.known().unwrap();
    let named = matches!(facts.name, Fact::Known(Some(_)));
    let by_name = facts.protocol != Protocol::Tcp || !named;
    mesh.carries(facts.protocol, port) && by_name
}

fn accepted(evaluation: &Evaluation<'_>) -> bool {
    matches!(evaluation, Evaluation::Final(verdict) if verdict.enforced.action != Action::Deny)
}

/// A destination of the universe as `--to` names it.
fn url(facts: &OwnedFacts) -> String {
    let host = match facts.name.as_ref().known().unwrap() {
        Some(name) => name.to_string(),
        None => match facts.address.known().unwrap() {
            IpAddr::V6(address) => format!("[{address}]"),
            IpAddr::V4(address) => address.to_string(),
        },
    };
    let scheme = match facts.protocol {
        Protocol::Http => "http",
        Protocol::Tls => "tls",
        Protocol::Tcp | Protocol::Udp => "tcp",
    };
    format!("{scheme}://{host}:{}", facts.port.known().unwrap())
}

/// Every fact of the universe is listed for its destination, for its pattern and for its caller exactly
/// if the engine lets it through.
#[test]
fn what_is_listed_is_what_the_engine_accepts() {
    let all = universe();
    let config = Config {
        cases: 60,
        ..Config::default()
    };
    let (opened, closed) = (Cell::new(0), Cell::new(0));
    let mut runner = TestRunner::new(config);
    let rows = (
        shapes(),
        prop::collection::vec(any::<prop::sample::Index>(), 100),
    );
    runner
        .run(&rows, |(shapes, picked)| {
            let bundle = layers(&shapes);
            let set = bundle.compile().unwrap();
            let mesh = Mesh::of(&bundle);
            for facts in picked.iter().map(|index| index.get(&all)) {
                if !comes(&mesh, facts) {
                    continue;
                }
                let accepted = accepted(&facts.with_facts(|facts| set.evaluate(facts)));
                opened.set(opened.get() + usize::from(accepted));
                closed.set(closed.get() + usize::from(!accepted));
                for question in questions(facts, &bundle, &mesh) {
                    if question.refused {
                        continue;
                    }
                    let explored = explored(&bundle, &question);
                    prop_assert!(
                        !explored
                            .undecided
                            .iter()
                            .any(|why| why.contains("contradicts")),
                        "{}: {:?}",
                        question.text,
                        explored.undecided
                    );
                    if !explored.undecided.is_empty() {
                        continue;
                    }
                    let partition = &explored.partition;
                    if !holds(partition, &explored.asked, facts) {
                        continue;
                    }
                    let mut regions = explored.openings.values().flatten();
                    let listed = regions.any(|region| holds(partition, region, facts));
                    prop_assert_eq!(listed, accepted, "{}: {:?}", question.text, facts);
                }
            }
            Ok(())
        })
        .unwrap();
    let (opened, closed) = (opened.get(), closed.get());
    assert!(
        opened > 50 && closed > 100,
        "{opened} accepted, {closed} denied"
    );
}

/// The questions to which these facts belong.
fn questions(facts: &OwnedFacts, bundle: &PolicyBundle, mesh: &Mesh) -> Vec<Question> {
    let from = match facts.caller.as_ref().known().unwrap() {
        Who::Workload {
            namespace,
            service_account,
            ..
        } => format!("{namespace}/{service_account}"),
        Who::Plaintext => "plaintext".to_owned(),
        _ => "no-certificate".to_owned(),
    };
    let claims = match facts.claims.as_ref().known() {
        None => ",claims=missing".to_owned(),
        Some(claims) => {
            let labels = claims.labels.iter();
            let labels = labels.map(|(key, value)| format!(",label={key}={value}"));
            format!(",cluster=c{}", labels.collect::<String>())
        }
    };
    let namespace = from.split('/').next().unwrap().to_owned();
    let url = url(facts);
    let host = url.split_once("://").unwrap().1;
    let host = host.rsplit_once(':').unwrap().0;
    let mut destinations = vec![url.clone(), host.to_owned()];
    match facts.name.as_ref().known().unwrap() {
        Some(_) => destinations.push("*.test.example".to_owned()),
        None => destinations.extend(["203.0.113.0/24".to_owned(), "0.0.0.0/0".to_owned()]),
    }
    let origins = [from.clone(), namespace, format!("{from}{claims}")];
    let workload = facts.namespace().is_some();
    let origins = origins
        .iter()
        .filter(|text| workload || !text.contains(','));
    let who = destinations.iter().map(|to| {
        destination::read(to, None, mesh).unwrap_or_else(|error| panic!("{to}: {error}"))
    });
    let what = origins
        .map(|from| origin::read(from, bundle).unwrap_or_else(|error| panic!("{from}: {error}")));
    who.chain(what).collect()
}

/// `who` and `explain` read a URL alike, and carry it alike.
#[test]
fn a_url_is_judged_as_explain_judges_it() {
    let bundle = examples::bundle(&[examples::TEAM]);
    let mesh = Mesh::of(&bundle);
    for to in [
        "https://api.github.com/x",
        "http://api.github.com",
        "https://api.github.com:9080",
        "http://api.payments.example/v1",
        "tcp://203.0.113.7:22",
        "tcp://203.0.113.7:443",
        "http://203.0.113.7:443",
        "https://203.0.113.7:80",
        "https://203.0.113.7",
    ] {
        let judged = mesh.judged(&parse_to(to, None).unwrap()).facts;
        let question = destination::read(to, None, &mesh).unwrap();
        assert_eq!(question.refused, judged.refused.is_some(), "{to}");
        if question.refused {
            continue;
        }
        assert_eq!(question.to.protocols, [judged.protocol], "{to}");
        let ports: Vec<u16> = question.to.ports.ranges().flatten().collect();
        assert_eq!(
            Some(ports),
            judged.port.known().map(|port| vec![port]),
            "{to}"
        );
    }
}
