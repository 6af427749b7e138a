//! Trying one row.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::Result;
use egress_policy::limits::Limits;
use egress_policy::verdict::ReasonCode;
use serde_json::Value;

use crate::certificates::{Authority, Leaf};
use crate::client::{self, Heard, Response, Tls};
use crate::envoy::eventually;
use crate::mesh::{APP1, HOSTS, Mesh, SMTP_BANNER, SSH_BANNER, address_of};
use crate::verdicts::{self, Line};

use super::rows::{Certificate, Expect, Row, What, Who};
use super::{DemoOutcome, Module};

/// What the caller saw.
enum AttemptResult {
    Reached,
    /// By way of the inspection proxy, which was told everything.
    Inspected,
    /// With the body of a 403, if one came.
    Denied(Option<Value>),
    /// No handshake with the gateway.
    Refused,
    /// The gateway did not believe the server, or found nobody.
    Unproven,
    Else(String),
}

/// Tries a row and says what came of it.
pub(super) fn attempt(mesh: &Mesh, module: Module, row: &Row) -> Result<DemoOutcome> {
    let log_before = mesh.gateway.log()?.len();
    let bytes_before = bytes_outside(mesh);
    let tunnels_before = mesh.inspection_proxy.seen().len();
    let seen = match row.what {
        What::Http(host, headers) => http(mesh, row.who, (host, "/"), headers)?,
        What::Path(host, path) => http(mesh, row.who, (host, path), &[])?,
        What::Ended(name, host) => ended(mesh, row.who, name, host)?,
        What::Tls(address, name) => tls(mesh, row.who, address, name)?,
        What::Tcp(address, port) => tcp(mesh, row.who, address, port)?,
        What::NotTls(address) => not_tls(mesh, row.who, address)?,
        What::OneTooMany(address, name) => one_too_many(mesh, module, row.who, (address, name))?,
    };
    let seen = by_inspection_proxy(mesh, row, seen, tunnels_before);
    let asked = module == Module::Present && !matches!(seen, AttemptResult::Refused);
    let (line, no_address_left) = if asked {
        verdicts::told_since(&mesh.gateway, log_before)
    } else {
        (None, false)
    };
    let said = match &seen {
        AttemptResult::Denied(Some(body)) => body.get("reason").and_then(Value::as_str),
        // TLS is closed before its ClientHello is looked at: only Envoy's own line tells.
        AttemptResult::Denied(None) if no_address_left => Some(ReasonCode::PrivateAddress.as_str()),
        _ => None,
    };
    // What was denied must not have arrived either.
    let leaked = bytes_outside(mesh) - bytes_before;
    Ok(outcome(row, &seen, line, said, leaked))
}

/// `said` is Envoy's own denial, of a name that the module accepted and whose addresses are all
/// refused.
fn outcome(
    row: &Row,
    seen: &AttemptResult,
    line: Option<Line>,
    said: Option<&str>,
    leaked: usize,
) -> DemoOutcome {
    let said = said.filter(|_| line.as_ref().is_none_or(|line| line.action != "Deny"));
    let (rule, code) = line.map_or(("-".to_owned(), "-".to_owned()), |line| {
        let rule = match line.rule_path() {
            path if path.is_empty() => "-".to_owned(),
            path => path,
        };
        (rule, line.reason)
    });
    let code = said.map_or(code, str::to_owned);
    let seen = match seen {
        AttemptResult::Denied(_) | AttemptResult::Refused | AttemptResult::Unproven
            if leaked > 0 =>
        {
            format!("denied, {leaked} bytes arrived")
        }
        AttemptResult::Denied(Some(body))
            if body.get("reason").and_then(Value::as_str) != Some(&code) =>
        {
            format!("denied, but the log says {code} and the body {body}")
        }
        AttemptResult::Reached => "reached".to_owned(),
        AttemptResult::Inspected => "inspected".to_owned(),
        AttemptResult::Denied(_) => "denied".to_owned(),
        AttemptResult::Refused => "refused".to_owned(),
        // The gateway says the same of both.
        AttemptResult::Unproven if matches!(row.expect, Expect::Nobody(_)) => "nobody".to_owned(),
        AttemptResult::Unproven => "unproven".to_owned(),
        AttemptResult::Else(what) => what.clone(),
    };
    let (expected, wanted) = match row.expect {
        Expect::Reached(rule) => ("reached", (Some(rule), "rule")),
        Expect::Inspected(rule) => ("inspected", (Some(rule), "rule")),
        Expect::ProxyDown(rule) | Expect::DeniedBy(rule) => ("denied", (Some(rule), "rule")),
        Expect::Denied(code) => ("denied", (None, code)),
        Expect::Refused => ("refused", (None, "-")),
        Expect::Unproven(rule) => ("unproven", (Some(rule), "rule")),
        Expect::Nobody(rule) => ("nobody", (Some(rule), "rule")),
    };
    let as_expected = seen == expected && code == wanted.1 && {
        // A refusal that is not a rule's may still name the rule it came after.
        wanted.0.is_none_or(|wanted| rule == wanted)
    };
    DemoOutcome {
        workload: match row.who {
            Who::Workload(workload) => workload.name,
            Who::Stranger(Certificate::None) => "no certificate",
            Who::Stranger(Certificate::UnknownAuthority) => "unknown authority",
            Who::Stranger(Certificate::OtherTrustDomain) => "other trust domain",
            Who::Stranger(Certificate::NoIdentity) => "no identity",
        },
        destination: match row.what {
            What::Http(host, []) => format!("http://{host}"),
            What::Http(host, [("x-envoy-peer-metadata", _)]) => {
                format!("http://{host} with app1's metadata")
            }
            What::Http(host, _) => format!("http://{host} with a rule of its own"),
            What::Path(host, path) => format!("http://{host}{path}"),
            What::Ended(name, host) if name == host => format!("https://{host}:9443"),
            What::Ended(name, host) => format!("https://{name}:9443, Host {host}"),
            What::Tls(_, Some(name)) => format!("https://{name}"),
            What::Tls(address, None) => format!("tls {address}:443 without SNI"),
            What::Tcp(address, port) => format!("tcp {address}:{port}"),
            What::NotTls(address) => format!("tcp {address}:443, no TLS"),
            What::OneTooMany(_, name) => format!("https://{name}, with 200 silent tunnels open"),
        },
        expected: match row.expect {
            Expect::Denied(code) => format!("denied ({code})"),
            Expect::ProxyDown(_) => "denied (proxy down)".to_owned(),
            Expect::Reached(_)
            | Expect::Inspected(_)
            | Expect::DeniedBy(_)
            | Expect::Refused
            | Expect::Unproven(_)
            | Expect::Nobody(_) => expected.to_owned(),
        },
        seen,
        rule,
        code,
        as_expected,
    }
}

/// The same, if the inspection proxy was asked for nothing; else whether it was told what it has to
/// be told.
fn by_inspection_proxy(
    mesh: &Mesh,
    row: &Row,
    seen: AttemptResult,
    before: usize,
) -> AttemptResult {
    let tunnels = mesh.inspection_proxy.seen();
    let Some(tunnel) = tunnels.get(before..).and_then(<[_]>::last) else {
        return seen;
    };
    let (Who::Workload(workload), Expect::Inspected(rule)) = (row.who, row.expect) else {
        return AttemptResult::Else(format!("the inspection proxy was asked: {tunnel:?}"));
    };
    let destination = match row.what {
        What::Http(host, _) | What::Path(host, _) => format!("{host}:80"),
        What::Tls(address, host) => format!("{}:443", host.unwrap_or(&address.to_string())),
        What::Tcp(address, port) => format!("{address}:{port}"),
        What::NotTls(address) => format!("{address}:443"),
        What::Ended(name, _) => format!("{name}:9443"),
        What::OneTooMany(_, name) => format!("{name}:443"),
    };
    let told = tunnel.destination == destination
        && tunnel.rule.as_deref() == Some(rule)
        && tunnel.workload.as_deref() == Some(workload.identity)
        && !tunnel.bytes.is_empty();
    match seen {
        AttemptResult::Reached if told => AttemptResult::Inspected,
        AttemptResult::Reached => {
            AttemptResult::Else(format!("the inspection proxy was told: {tunnel:?}"))
        }
        seen => seen,
    }
}

/// Bytes of clients that all outside servers have seen.
fn bytes_outside(mesh: &Mesh) -> usize {
    mesh.outside
        .seen()
        .iter()
        .map(|seen| seen.bytes.len())
        .sum()
}

fn http(
    mesh: &Mesh,
    who: Who,
    (host, path): (&str, &str),
    extra: &[(&str, &str)],
) -> Result<AttemptResult> {
    let claim = APP1.peer.header();
    let mut headers = vec![
        ("Host", host.as_bytes()),
        ("Accept", b"application/json".as_slice()),
    ];
    for (name, value) in extra {
        let value = if *value == "APP1" { &claim } else { *value };
        headers.push((name, value.as_bytes()));
    }
    let answer = match who {
        Who::Workload(workload) => {
            // An application dials what its resolver says; the gateway resolves for itself.
            let name = host
                .trim_end_matches(":80")
                .trim_end_matches('.')
                .to_lowercase();
            let address = address_of(&name).unwrap_or(Ipv4Addr::new(203, 0, 113, 7));
            let mut stream = mesh.dial(workload, SocketAddrV4::new(address, 80))?;
            client::request(&mut stream, "GET", path, &headers)?
        }
        Who::Stranger(certificate) => {
            headers.push(("x-envoy-peer-metadata", claim.as_bytes()));
            let Some(mut session) = stranger(mesh, certificate)? else {
                return Ok(AttemptResult::Refused);
            };
            match client::request(&mut session, "GET", path, &headers) {
                Ok(answer) => answer,
                // TLS 1.3 tells a client that its certificate is unwelcome after the handshake.
                Err(_) => return Ok(AttemptResult::Refused),
            }
        }
    };
    Ok(match answer {
        None => AttemptResult::Denied(None),
        Some(answer) => judge(&answer),
    })
}

fn judge(answer: &Response) -> AttemptResult {
    let known = |body: &str| HOSTS.iter().any(|(name, _)| body.trim_end() == *name);
    match answer.status {
        200 if known(&answer.body) => AttemptResult::Reached,
        403 => AttemptResult::Denied(serde_json::from_str(&answer.body).ok()),
        503 if answer.body.contains("remote connection failure") => AttemptResult::Unproven,
        // Envoy's own: no way on.
        503 => AttemptResult::Denied(None),
        status => AttemptResult::Else(format!("{status} {}", answer.body.trim_end())),
    }
}

fn stranger(mesh: &Mesh, certificate: Certificate) -> Result<Option<Tls>> {
    let leaf: Option<Leaf> = match certificate {
        Certificate::None => None,
        Certificate::UnknownAuthority => {
            Some(Authority::new("another mesh")?.workload(APP1.identity)?)
        }
        Certificate::OtherTrustDomain => Some(
            mesh.mesh_authority
                .workload("spiffe://other.example/ns/app1-ns/sa/app1")?,
        ),
        Certificate::NoIdentity => Some(mesh.mesh_authority.server("app1.app1-ns.svc")?),
    };
    mesh.gateway_tls(8080, leaf.as_ref())
}

/// Holds as many tunnels open as one workload may without a word, then tries TLS.
fn one_too_many(
    mesh: &Mesh,
    module: Module,
    who: Who,
    (address, name): (Ipv4Addr, &str),
) -> Result<AttemptResult> {
    let Who::Workload(workload) = who else {
        return Ok(AttemptResult::Else("not tried".to_owned()));
    };
    let most = Limits::DEFAULT.undecided_tunnels;
    let gauge = "wasmcustom.warden_tunnels_undecided";
    let open = |wanted: u64| {
        eventually("the silent tunnels", || {
            mesh.gateway.stat(gauge).is_ok_and(|open| open == wanted)
        })
    };
    let held = (0..most)
        .map(|_| mesh.dial(workload, SocketAddrV4::new(address, 443)))
        .collect::<Result<Vec<_>>>()?;
    if module == Module::Present {
        open(most.into())?;
    }
    let seen = tls(mesh, who, address, Some(name))?;
    drop(held);
    if module == Module::Present {
        open(0)?;
    }
    Ok(seen)
}

fn tls(mesh: &Mesh, who: Who, address: Ipv4Addr, name: Option<&str>) -> Result<AttemptResult> {
    let Who::Workload(workload) = who else {
        return Ok(AttemptResult::Else("not tried".to_owned()));
    };
    // Without a name there is none to send: an address is no SNI (RFC 6066 §3).
    let literal = address.to_string();
    let Some(mut session) = mesh.dial_tls(workload, address, name.unwrap_or(&literal))? else {
        return Ok(AttemptResult::Denied(None));
    };
    let host = name.unwrap_or(&literal);
    let answer = client::request(&mut session, "GET", "/", &[("Host", host.as_bytes())])?;
    Ok(match answer {
        Some(answer) if answer.body == format!("{host}\n") => AttemptResult::Reached,
        other => AttemptResult::Else(format!("{other:?}")),
    })
}

fn ended(mesh: &Mesh, who: Who, name: &str, host: &str) -> Result<AttemptResult> {
    let Who::Workload(workload) = who else {
        return Ok(AttemptResult::Else("not tried".to_owned()));
    };
    let stream = mesh.dial(workload, SocketAddrV4::new(address_of(name)?, 9443))?;
    let config = client::tls_config(&mesh.ending_authority.certificate(), None)?;
    let Some(mut session) = client::tls(stream, config, name)? else {
        return Ok(AttemptResult::Denied(None));
    };
    let headers = [
        ("Host", host.as_bytes()),
        ("Accept", b"application/json".as_slice()),
    ];
    let answer = client::request(&mut session, "GET", "/", &headers)?;
    Ok(answer.map_or(AttemptResult::Denied(None), |answer| judge(&answer)))
}

fn tcp(mesh: &Mesh, who: Who, address: Ipv4Addr, port: u16) -> Result<AttemptResult> {
    let Who::Workload(workload) = who else {
        return Ok(AttemptResult::Else("not tried".to_owned()));
    };
    let mut stream = mesh.dial(workload, SocketAddrV4::new(address, port))?;
    let banner = match port {
        22 => Some(SSH_BANNER),
        25 => Some(SMTP_BANNER),
        _ => None,
    };
    if let Some(banner) = banner {
        match client::hear(&mut stream)? {
            Heard::Closed => return Ok(AttemptResult::Denied(None)),
            Heard::Bytes(bytes) if bytes == banner.as_bytes() => {}
            Heard::Bytes(bytes) => {
                return Ok(AttemptResult::Else(
                    String::from_utf8_lossy(&bytes).into_owned(),
                ));
            }
        }
    }
    // A closed connection shows itself when the answer is missing.
    let _ = stream.write_all(b"hello\r\n");
    Ok(match client::hear(&mut stream)? {
        Heard::Closed => AttemptResult::Denied(None),
        Heard::Bytes(bytes) if bytes == b"hello\r\n" => AttemptResult::Reached,
        Heard::Bytes(bytes) => AttemptResult::Else(String::from_utf8_lossy(&bytes).into_owned()),
    })
}

fn not_tls(mesh: &Mesh, who: Who, address: Ipv4Addr) -> Result<AttemptResult> {
    let Who::Workload(workload) = who else {
        return Ok(AttemptResult::Else("not tried".to_owned()));
    };
    let mut stream = mesh.dial(workload, SocketAddrV4::new(address, 443))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: api.github.com\r\n\r\n")?;
    Ok(match client::hear(&mut stream)? {
        Heard::Closed => AttemptResult::Denied(None),
        Heard::Bytes(bytes) => AttemptResult::Else(String::from_utf8_lossy(&bytes).into_owned()),
    })
}
