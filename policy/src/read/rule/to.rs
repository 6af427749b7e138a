//! Reading `to` elements, and narrowing named destinations by what stands beside them.

mod check;
mod narrow;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use ipnet::IpNet;

use crate::address::{NetworkError, parse_network};
use crate::decode::{Fields, boolean, fitting, list, name_pattern, shape, text, unique, word};
use crate::defect::{At, DefectKind, Defects};
use crate::facts::Protocol;
use crate::model::{CaCertificates, Hosts, Networks, TlsOrigination, To};
use crate::name::{Name, NamePattern};
use crate::path::{PathPattern, PathPatternError};
use crate::port::{PortSet, parse_ports};
use crate::read::words;
use crate::tree::{Node, Shape};

use check::check;
use narrow::narrow_all;

const PORTS_HINT: &str = "443 or \"8000-8999\"";

/// What a `to` element has to know of its rule.
#[derive(Clone, Copy)]
pub(super) struct RuleShape {
    /// The rule denies.
    pub(super) deny: bool,
    /// The rule hands over to an inspection proxy.
    pub(super) inspect: bool,
}

/// Reads one element. With `named`, it may refer to a destination and then becomes that
/// destination's elements, narrowed.
pub(super) fn read_to<N: Node>(
    node: &N,
    at: &At<'_>,
    defects: &mut Defects,
    rule: RuleShape,
    named: Option<&BTreeMap<String, Vec<To>>>,
) -> Option<Vec<To>> {
    let before = defects.len();
    let mut fields = Fields::of(node, at, defects)?;
    let destination = named
        .is_some()
        .then(|| fields.take("destination"))
        .flatten();
    let destination = destination.map(|node| text(&node, &at.field("destination"), defects));
    if named.is_none() {
        refuse_file(&mut fields, at, defects);
    }
    let hosts = take_hosts(&mut fields, at, defects);
    let mut element = take_narrowing(&mut fields, at, defects);
    fields.finish(at, defects);
    if defects.len() > before {
        return None;
    }
    match (destination, hosts) {
        (Some(name), None) => {
            let (name, known) = (name?, named?);
            let Some(elements) = known.get(&name) else {
                super::unknown_destination(&name, known, &at.field("destination"), defects);
                return None;
            };
            if elements.is_empty() {
                return None;
            }
            let mut found = narrow_all(elements, &element, at, defects)?;
            for to in &mut found {
                check(to, at, defects, rule);
                carry_http(to, rule);
            }
            Some(found)
        }
        (Some(_), Some(_)) => {
            let hint = "write two elements: elements are alternatives".to_owned();
            defects.add(
                DefectKind::Conflict,
                at,
                "an element names its destination once",
                hint,
            );
            None
        }
        (None, hosts) => {
            element.hosts = hosts.unwrap_or(Hosts::Anywhere);
            check(&element, at, defects, rule);
            if named.is_some() {
                carry_http(&mut element, rule);
            }
            Some(vec![element])
        }
    }
}

/// Where the gateway speaks TLS itself, what opens opens requests and nothing else: TLS of the
/// caller's own would come without the client certificate, and past a server nobody verified. A
/// Deny covers the destination whatever carries it.
fn carry_http(to: &mut To, rule: RuleShape) {
    if to.tls.is_some() && !rule.deny {
        to.protocols = vec![Protocol::Http];
    }
}

/// A list in a file is written out by the command that reads the policy file. Here it would be a
/// destination that nobody knows.
fn refuse_file<N: Node>(fields: &mut Fields<'_, N>, at: &At<'_>, defects: &mut Defects) {
    for name in ["file", "sha256", "date"] {
        if fields.take(name).is_some() {
            defects.add(
                DefectKind::UnknownField,
                &at.field(name),
                format!("`{name}`: the gateway reads no lists from files"),
                "give it what `warden render` writes, where the list is written out".to_owned(),
            );
        }
    }
}

fn take_hosts<N: Node>(
    fields: &mut Fields<'_, N>,
    at: &At<'_>,
    defects: &mut Defects,
) -> Option<Hosts> {
    let names = fields.take("domainNames").map(|node| {
        let at = at.field("domainNames");
        let names = list(&node, &at, defects, name_pattern);
        unique(&names, &at, defects);
        names
    });
    let networks = fields
        .take("networks")
        .map(|node| read_networks(&node, &at.field("networks"), defects));
    let except = fields
        .take("except")
        .map(|node| read_networks(&node, &at.field("except"), defects));
    match (names, networks, except) {
        (Some(_), Some(_), _) => {
            let hint = "write two elements: elements are alternatives".to_owned();
            defects.add(
                DefectKind::Conflict,
                at,
                "an element names its destination by `domainNames` or by `networks`",
                hint,
            );
            None
        }
        (names, None, Some(_)) => {
            defects.add(
                DefectKind::Conflict,
                &at.field("except"),
                "`except` belongs to `networks`",
                None,
            );
            names.map(|names| Hosts::Names(names.into()))
        }
        (Some(names), None, None) => Some(Hosts::Names(names.into())),
        (None, Some(networks), except) => {
            let except = except.unwrap_or_default();
            check_except(&networks, &except, &at.field("except"), defects);
            Some(Hosts::Networks(Arc::new(Networks { networks, except })))
        }
        (None, None, None) => None,
    }
}

fn read_networks<N: Node>(node: &N, at: &At<'_>, defects: &mut Defects) -> Vec<IpNet> {
    let networks = list(node, at, defects, |node, at, defects| {
        let value = text(node, at, defects)?;
        let parsed = parse_network(&value);
        fitting(&value, parsed, NetworkError::hint, at, defects)
    });
    unique(&networks, at, defects);
    networks
}

fn check_except(networks: &[IpNet], except: &[IpNet], at: &At<'_>, defects: &mut Defects) {
    for (i, hole) in except.iter().enumerate() {
        if !networks.iter().any(|net| net.contains(hole)) {
            let hint = "an exception lies inside one of the element's own networks".to_owned();
            defects.add(
                DefectKind::NeverMatches,
                &at.index(i),
                format!("`{hole}` is in none of the networks"),
                hint,
            );
        }
    }
    if let Some(net) = networks.iter().find(|net| except.contains(net)) {
        defects.add(
            DefectKind::NeverMatches,
            at,
            format!("`{net}` is excepted whole"),
            None,
        );
    }
}

fn take_narrowing<N: Node>(fields: &mut Fields<'_, N>, at: &At<'_>, defects: &mut Defects) -> To {
    let ports = fields
        .take("ports")
        .map(|node| PortSet::new(list(&node, &at.field("ports"), defects, read_port)));
    let protocols = fields.take("protocols").map(|node| {
        let at = at.field("protocols");
        let words = [
            ("HTTP", Protocol::Http),
            ("TLS", Protocol::Tls),
            ("TCP", Protocol::Tcp),
            ("UDP", Protocol::Udp),
        ];
        let found = list(&node, &at, defects, |node, at, defects| {
            word(node, at, defects, &words)
        });
        let spelt: Vec<&str> = found.iter().map(|protocol| protocol.as_str()).collect();
        unique(&spelt, &at, defects);
        let all = words.into_iter().map(|(_, protocol)| protocol);
        all.filter(|protocol| found.contains(protocol)).collect()
    });
    let paths = fields.take("paths").map(|node| {
        let at = at.field("paths");
        let paths = list(&node, &at, defects, read_path);
        let spelt: Vec<&str> = paths.iter().map(PathPattern::as_str).collect();
        unique(&spelt, &at, defects);
        paths
    });
    To {
        destination: None,
        hosts: Hosts::Anywhere,
        ports: ports.unwrap_or_default(),
        protocols: protocols.unwrap_or_default(),
        methods: words::take_texts(fields, "methods", at, defects, words::check_method),
        paths: paths.unwrap_or_default(),
        upgrades: words::take_texts(fields, "upgrades", at, defects, words::check_upgrade),
        allow_private: fields
            .take("allowPrivate")
            .and_then(|node| boolean(&node, &at.field("allowPrivate"), defects))
            .unwrap_or(false),
        tls: fields
            .take("tls")
            .and_then(|node| read_tls(&node, &at.field("tls"), defects)),
    }
}

fn read_port<N: Node>(node: &N, at: &At<'_>, defects: &mut Defects) -> Option<RangeInclusive<u16>> {
    let text = match shape(node, at, defects)? {
        Shape::Number(text) | Shape::Text(text) => text.into_owned(),
        other => {
            let message = format!("expected a port or a range, found {}", other.describe());
            defects.add(DefectKind::WrongType, at, message, PORTS_HINT.to_owned());
            return None;
        }
    };
    let parsed = parse_ports(&text);
    fitting(&text, parsed, |_| PORTS_HINT, at, defects)
}

fn read_path<N: Node>(node: &N, at: &At<'_>, defects: &mut Defects) -> Option<PathPattern> {
    let value = text(node, at, defects)?;
    let parsed = PathPattern::parse(&value);
    fitting(&value, parsed, PathPatternError::hint, at, defects)
}

fn read_tls<N: Node>(node: &N, at: &At<'_>, defects: &mut Defects) -> Option<Arc<TlsOrigination>> {
    let mut fields = Fields::of(node, at, defects)?;
    let originate = fields.require("originate", at, defects);
    let originate = originate.and_then(|node| boolean(&node, &at.field("originate"), defects));
    if originate == Some(false) {
        defects.add(
            DefectKind::Conflict,
            &at.field("originate"),
            "`originate` is true, or `tls` is left out",
            None,
        );
    }
    let ca = fields.take("caCertificates");
    let client = fields.take("clientCertificate");
    let sni = fields.take("sni");
    let tls = TlsOrigination {
        ca_certificates: ca
            .and_then(|node| read_ca(&node, &at.field("caCertificates"), defects))
            .unwrap_or(CaCertificates::System),
        client_certificate: client
            .and_then(|node| read_secret(&node, &at.field("clientCertificate"), defects)),
        sni: sni.and_then(|node| read_server_name(&node, &at.field("sni"), defects)),
    };
    fields.finish(at, defects);
    Some(Arc::new(tls))
}

fn read_ca<N: Node>(node: &N, at: &At<'_>, defects: &mut Defects) -> Option<CaCertificates> {
    let value = text(node, at, defects)?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/._-".contains(&b);
    if value.starts_with('/') && value.bytes().all(plain) && !value.contains("..") {
        return Some(CaCertificates::File(value));
    }
    if is_object_name(&value) {
        return Some(CaCertificates::Secret(value));
    }
    let hint = "the path of a bundle at the gateway, `/etc/...`, or the name of a secret that holds `ca.crt`; left out, it is the system's bundle".to_owned();
    let message = format!("`{value}` is neither");
    defects.add(DefectKind::BadValue, at, message, hint);
    None
}

fn read_secret<N: Node>(node: &N, at: &At<'_>, defects: &mut Defects) -> Option<String> {
    let value = text(node, at, defects)?;
    if is_object_name(&value) {
        return Some(value);
    }
    let hint = "a secret of the gateway's namespace, by its name".to_owned();
    let message = format!("`{value}` is no name of a secret");
    defects.add(DefectKind::BadValue, at, message, hint);
    None
}

/// Kubernetes' names of objects (RFC 1123 subdomains).
fn is_object_name(value: &str) -> bool {
    let fine = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    value.len() <= 253
        && value.split('.').all(|label| {
            !label.is_empty()
                && label.bytes().all(fine)
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

fn read_server_name<N: Node>(node: &N, at: &At<'_>, defects: &mut Defects) -> Option<Name> {
    match name_pattern(node, at, defects)? {
        NamePattern::Exact(name) => Some(name),
        pattern => {
            let hint = "one name: it is asked for and verified".to_owned();
            let message = format!("`{pattern}` is a pattern");
            defects.add(DefectKind::BadValue, at, message, hint);
            None
        }
    }
}
