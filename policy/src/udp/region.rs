//! Sets of (pod, address, port), and what is left of one without another.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::address::{Environment, embeddings};
use crate::model::{Hosts, LabelExpression, LabelOperator, Networks, Source, To};
use crate::port::PortSet;

/// Pods by their labels, times addresses, times ports. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Region {
    /// All must hold.
    pub(super) pods: Vec<LabelExpression>,
    pub(super) networks: Networks,
    pub(super) ports: PortSet,
}

impl Region {
    /// What a rule's element is about, for the pods of a source; `None` if nothing.
    pub(super) fn of(source: Option<&Source>, to: &To) -> Option<Self> {
        let networks = match &to.hosts {
            Hosts::Networks(networks) => Networks::clone(networks),
            Hosts::Anywhere => everywhere(),
            // What is dialled by UDP has no name.
            Hosts::Names(_) => return None,
        };
        // No datagram goes to port 0.
        let ports = to.ports.intersect(&PortSet::new([1..=u16::MAX]))?;
        let pods = source.map(labels).unwrap_or_default();
        Self {
            pods,
            networks,
            ports,
        }
        .tidy()
    }

    /// The part of both.
    pub(super) fn and(&self, other: &Self) -> Option<Self> {
        let pods = self.pods.iter().chain(&other.pods).cloned().collect();
        let networks = Networks {
            networks: both(&self.networks.networks, &other.networks.networks),
            except: [&*self.networks.except, &*other.networks.except].concat(),
        };
        let ports = self.ports.intersect(&other.ports)?;
        Self {
            pods,
            networks,
            ports,
        }
        .tidy()
    }

    /// What is left without the other: parts that may overlap.
    pub(super) fn without(&self, other: &Self) -> Vec<Self> {
        if self.and(other).is_none() {
            return vec![self.clone()];
        }
        let mut left = Vec::new();
        for wanted in &other.pods {
            let pods = [&*self.pods, &[negated(wanted)]].concat();
            left.push(Self {
                pods,
                ..self.clone()
            });
        }
        let Networks { networks, except } = &self.networks;
        left.push(Self {
            networks: Networks {
                networks: networks.clone(),
                except: [&**except, &*other.networks.networks].concat(),
            },
            ..self.clone()
        });
        // What the other leaves out of its own networks stays.
        left.push(Self {
            networks: Networks {
                networks: both(networks, &other.networks.except),
                except: except.clone(),
            },
            ..self.clone()
        });
        if let Some(ports) = ports_without(&self.ports, &other.ports) {
            left.push(Self {
                ports,
                ..self.clone()
            });
        }
        left.into_iter().filter_map(Self::tidy).collect()
    }

    /// The same in the forms of IPv6 that lead to it; `None` if nothing does.
    pub(super) fn in_ipv6(&self) -> Option<Self> {
        let environment = Environment::default();
        let translated = |networks: &[IpNet]| {
            let forms = networks.iter().map(|net| embeddings(net, &environment));
            forms.flatten().collect()
        };
        let networks = Networks {
            networks: translated(&self.networks.networks),
            except: translated(&self.networks.except),
        };
        Self {
            networks,
            ..self.clone()
        }
        .tidy()
    }

    /// Without the IPv4-mapped addresses of IPv6, which are compared as IPv4.
    pub(super) fn unmapped(mut self) -> Option<Self> {
        let mapped = IpNet::new(IpAddr::V6(Ipv4Addr::UNSPECIFIED.to_ipv6_mapped()), 96);
        self.networks.except.extend(mapped);
        self.tidy()
    }

    /// In one form: exceptions lie strictly inside the networks. `None` if it is empty.
    fn tidy(mut self) -> Option<Self> {
        let Networks { networks, except } = &mut self.networks;
        // Two exceptions may cover a network that neither covers.
        *except = IpNet::aggregate(except);
        networks.retain(|network| !except.iter().any(|out| out.contains(network)));
        except.retain(|out| networks.iter().any(|network| network.contains(out)));
        *networks = distinct(std::mem::take(networks));
        self.pods = distinct(self.pods);
        (!self.networks.networks.is_empty() && satisfiable(&self.pods)).then_some(self)
    }
}

fn distinct<T: PartialEq>(list: Vec<T>) -> Vec<T> {
    let mut kept = Vec::with_capacity(list.len());
    for one in list {
        if !kept.contains(&one) {
            kept.push(one);
        }
    }
    kept
}

fn everywhere() -> Networks {
    Networks {
        networks: vec![Ipv4Net::default().into(), Ipv6Net::default().into()],
        except: Vec::new(),
    }
}

/// The networks that lie in both lists: of two networks one holds the other, or they are apart.
fn both(left: &[IpNet], right: &[IpNet]) -> Vec<IpNet> {
    let narrower = |a: &IpNet, b: &IpNet| match (a.contains(b), b.contains(a)) {
        (true, _) => Some(*b),
        (false, true) => Some(*a),
        (false, false) => None,
    };
    left.iter()
        .flat_map(|a| right.iter().filter_map(move |b| narrower(a, b)))
        .collect()
}

fn ports_without(ports: &PortSet, other: &PortSet) -> Option<PortSet> {
    if other.is_any() {
        return None;
    }
    let mut left: Vec<_> = ports.ranges().collect();
    if ports.is_any() {
        left.push(0..=u16::MAX);
    }
    for out in other.ranges() {
        let beside = |range: std::ops::RangeInclusive<u16>| {
            let (first, last) = range.into_inner();
            let before = (first < *out.start()).then(|| first..=last.min(out.start() - 1));
            let behind = (last > *out.end()).then(|| first.max(out.end() + 1)..=last);
            before.into_iter().chain(behind)
        };
        left = left.into_iter().flat_map(beside).collect();
    }
    (!left.is_empty()).then(|| PortSet::new(left))
}

fn labels(source: &Source) -> Vec<LabelExpression> {
    let stated = source.match_labels.iter().map(|(key, value)| {
        let operator = LabelOperator::In(vec![value.clone()]);
        let key = key.clone();
        LabelExpression { key, operator }
    });
    stated
        .chain(source.match_expressions.iter().cloned())
        .collect()
}

/// A selector has the opposite of each of its conditions.
fn negated(expression: &LabelExpression) -> LabelExpression {
    let operator = match &expression.operator {
        LabelOperator::In(values) => LabelOperator::NotIn(values.clone()),
        LabelOperator::NotIn(values) => LabelOperator::In(values.clone()),
        LabelOperator::Exists => LabelOperator::DoesNotExist,
        LabelOperator::DoesNotExist => LabelOperator::Exists,
    };
    LabelExpression {
        key: expression.key.clone(),
        operator,
    }
}

/// Whether some pod has such labels.
fn satisfiable(pods: &[LabelExpression]) -> bool {
    pods.iter().all(|expression| {
        let of_key = || pods.iter().filter(|other| other.key == expression.key);
        let holds = |value: Option<&str>| of_key().all(|other| fits(&other.operator, value));
        let listed = of_key().flat_map(|other| match &other.operator {
            LabelOperator::In(values) => values.as_slice(),
            LabelOperator::NotIn(_) | LabelOperator::Exists | LabelOperator::DoesNotExist => &[],
        });
        // There is always a value that nothing lists.
        let other_value = of_key().all(|other| {
            matches!(
                other.operator,
                LabelOperator::NotIn(_) | LabelOperator::Exists
            )
        });
        other_value || holds(None) || listed.map(String::as_str).any(|value| holds(Some(value)))
    })
}

fn fits(operator: &LabelOperator, value: Option<&str>) -> bool {
    let among = |values: &[String]| value.is_some_and(|value| values.iter().any(|v| v == value));
    match operator {
        LabelOperator::In(values) => among(values),
        LabelOperator::NotIn(values) => !among(values),
        LabelOperator::Exists => value.is_some(),
        LabelOperator::DoesNotExist => value.is_none(),
    }
}
