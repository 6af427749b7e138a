//! `--to` of a question about everybody who may reach a destination.

use std::net::IpAddr;

use egress_policy::facts::{Fact, Protocol};
use egress_policy::model::{Hosts, Networks};
use egress_policy::name::NamePattern;
use egress_policy::path::PathPattern;
use egress_policy::port::PortSet;
use ipnet::IpNet;

use super::Question;
use crate::carriage::Mesh;
use crate::document::to_a_labels;
use crate::failure::Failure;
use crate::owned_facts::{OwnedFacts, parse_to};

const HINT: &str = "a URL such as https://HOST or http://HOST/PATH, or a name, a pattern such as *.example.com, an address or a network, each with or without :PORT";

/// Reads the text.
pub(super) fn read(text: &str, method: Option<&str>, mesh: &Mesh) -> Result<Question, Failure> {
    let mut question = Question::new(text);
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (Some(scheme), rest),
        None => (None, text),
    };
    let end = rest.find(['/', '?']).filter(|_| scheme.is_some());
    let (authority, path) = rest.split_at(end.unwrap_or(rest.len()));
    let (host, port) = host_and_port(authority);
    match (hosts(host)?, scheme, port) {
        (Hosts::Names(names), scheme, port) if is_one(&names) => {
            let host = names.first().map(ToString::to_string).unwrap_or_default();
            one(&mut question, scheme, &host, port, path, mesh)?;
        }
        (Hosts::Networks(networks), scheme, port) if address(&networks).is_some() => {
            let host = match address(&networks) {
                Some(IpAddr::V6(address)) => format!("[{address}]"),
                Some(IpAddr::V4(address)) => address.to_string(),
                None => String::new(),
            };
            one(&mut question, scheme, &host, port, path, mesh)?;
        }
        (hosts, scheme, port) => {
            question.to.hosts = hosts;
            several(&mut question, scheme, port, path)?;
        }
    }
    if let Some(method) = method {
        if question.to.protocols != [Protocol::Http] {
            let why = "--method is of requests: ask for http://HOST/PATH";
            return Err(Failure::new(why));
        }
        question.to.methods = vec![method.to_owned()];
    }
    Ok(question)
}

/// One host: as `explain` would be asked, where a port or a scheme is stated.
fn one(
    question: &mut Question,
    scheme: Option<&str>,
    host: &str,
    port: Option<u16>,
    path: &str,
    mesh: &Mesh,
) -> Result<(), Failure> {
    let url = match (scheme, port) {
        (None, None) => {
            question.to.hosts = hosts(host.trim_matches(['[', ']']))?;
            return Ok(());
        }
        (Some(scheme), None) => format!("{scheme}://{host}{path}"),
        (Some(scheme), Some(port)) => format!("{scheme}://{host}:{port}{path}"),
        (None, Some(port)) => {
            let scheme = match mesh.protocol(port) {
                Protocol::Http => "http",
                Protocol::Tls => "tls",
                Protocol::Tcp if mesh.names_over_tcp(host, port) => "tcp",
                // By name as a client asks, to see what the sidecar makes of it.
                Protocol::Tcp | Protocol::Udp if host.parse::<IpAddr>().is_err() => "tls",
                Protocol::Tcp | Protocol::Udp => "tcp",
            };
            format!("{scheme}://{host}:{port}{path}")
        }
    };
    let asked = parse_to(&url, None).map_err(|failure| {
        let failure = Failure::new(failure.to_string());
        failure.with_hint(HINT)
    })?;
    let judged = mesh.judged(&asked);
    question.said.extend(judged.said);
    question
        .said
        .extend(mesh.asks_by_name(&judged.facts).map(str::to_owned));
    let hides_path = judged.facts.protocol == Protocol::Tls && !path.trim_matches('/').is_empty();
    if hides_path {
        let said = "the application speaks TLS to the outside, and the gateway sees neither method nor path; where the gateway originates TLS, ask for http://";
        question.said.push(said.to_owned());
    }
    about(question, &judged.facts, path)
}

/// The question is about these facts, as the gateway judges them.
fn about(question: &mut Question, facts: &OwnedFacts, path: &str) -> Result<(), Failure> {
    if let Some(code) = facts.refused {
        question.refused = true;
        question.said.push(format!(
            "the gateway refuses it, whoever asks: {}",
            code.explanation()
        ));
        return Ok(());
    }
    question.to.protocols = vec![facts.protocol];
    question.to.hosts = match (&facts.name, facts.address) {
        (Fact::Known(Some(name)), _) => Hosts::Names(vec![NamePattern::Exact(name.clone())].into()),
        (_, Fact::Known(address)) => networks(IpNet::from(address)),
        (_, Fact::Pending | Fact::Missing) => Hosts::Anywhere,
    };
    question.to.ports = facts
        .port
        .known()
        .map_or_else(PortSet::any, |port| PortSet::new([port..=port]));
    question.by_connect = true;
    if facts.protocol == Protocol::Http {
        set_path(question, path)?;
        question.upgrade.clone_from(&facts.upgrade);
    }
    Ok(())
}

/// A pattern or a network, at any port or one.
fn several(
    question: &mut Question,
    scheme: Option<&str>,
    port: Option<u16>,
    path: &str,
) -> Result<(), Failure> {
    let (protocol, own, upgrade) = match scheme {
        None => (None, None, Fact::Pending),
        Some("http") => (Some(Protocol::Http), Some(80), Fact::Known(None)),
        Some("ws") => (
            Some(Protocol::Http),
            Some(80),
            Fact::Known(Some("websocket".to_owned())),
        ),
        Some("https" | "tls" | "wss") => (Some(Protocol::Tls), Some(443), Fact::Pending),
        Some("tcp") => (Some(Protocol::Tcp), None, Fact::Pending),
        Some("udp") => (Some(Protocol::Udp), None, Fact::Pending),
        Some(other) => {
            return Err(Failure::new(format!("unknown scheme `{other}`")).with_hint(HINT));
        }
    };
    question.to.protocols = protocol.into_iter().collect();
    if let Some(port) = port.or(own) {
        question.to.ports = PortSet::new([port..=port]);
    }
    question.upgrade = upgrade;
    if protocol == Some(Protocol::Http) {
        set_path(question, path)?;
    }
    Ok(())
}

/// A path that is written out; without one the question is about every path.
fn set_path(question: &mut Question, path: &str) -> Result<(), Failure> {
    let path = path.split('?').next().unwrap_or_default();
    if path.trim_matches('/').is_empty() {
        return Ok(());
    }
    let wrong = |error: &dyn std::fmt::Display| Failure::new(format!("`{path}`: {error}"));
    let pattern =
        PathPattern::parse(path).map_err(|error| wrong(&error).with_hint(error.hint()))?;
    question.to.paths = vec![pattern];
    Ok(())
}

/// The host, and the port behind it.
fn host_and_port(authority: &str) -> (&str, Option<u16>) {
    if authority.parse::<IpAddr>().is_ok() || authority.parse::<IpNet>().is_ok() {
        return (authority, None);
    }
    let port = |text: &str| text.parse().ok().filter(|port| *port != 0);
    if let Some((host, rest)) = authority
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
    {
        return (host, rest.strip_prefix(':').and_then(port));
    }
    match authority.rsplit_once(':') {
        Some((host, text)) => match port(text) {
            Some(port) => (host, Some(port)),
            None => (authority, None),
        },
        None => (authority, None),
    }
}

fn hosts(text: &str) -> Result<Hosts, Failure> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(networks(IpNet::from(egress_policy::name::canonical(
            address,
        ))));
    }
    if let Ok(network) = text.parse::<IpNet>() {
        return Ok(networks(network.trunc()));
    }
    let ascii = to_a_labels(text).filter(|_| !text.is_ascii());
    let text = ascii.as_deref().unwrap_or(text);
    let pattern = NamePattern::parse(text)
        .map_err(|error| Failure::new(format!("`{text}`: {error}")).with_hint(HINT))?;
    Ok(Hosts::Names(vec![pattern].into()))
}

fn networks(network: IpNet) -> Hosts {
    let networks = Networks {
        networks: vec![network],
        except: Vec::new(),
    };
    Hosts::Networks(networks.into())
}

fn is_one(names: &[NamePattern]) -> bool {
    matches!(names, [NamePattern::Exact(_)])
}

/// The address, where a network is one.
fn address(networks: &Networks) -> Option<IpAddr> {
    let network = networks.networks.first()?;
    (network.prefix_len() == network.max_prefix_len()).then(|| network.addr())
}
