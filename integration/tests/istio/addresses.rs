//! Names with several addresses, on the configuration that a real control plane makes of the
//! manifests: what is connected to is what the policy leaves of an answer, by every way out.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context, Result, ensure};
use egress_render::{Install, Rendered};
use integration::certificates::Authority;
use integration::dns::Answer;
use integration::envoy::eventually;
use integration::istio::reference;
use integration::istio::testbed::{Bench, Plan, install};
use integration::istio::tools::Program;
use integration::mesh::{APP1, SSH_BANNER};
use integration::outside::Speech;
use integration::sandbox;
use serde_json::{Value, json};

use crate::ready::{becomes_ready, probe};

cases!(
    &[Program::Istiod];
    names_lead_to_what_the_policy_leaves_of_their_addresses,
    with_another_network_left_out_names_lead_inside,
    classes_and_policy_in_either_order,
    the_access_log_has_the_address_that_was_connected_to,
);

/// What the words of a row stand for. Somebody answers everywhere but at `dead`.
const PLACES: [(&str, Ipv4Addr); 9] = [
    ("dead", Ipv4Addr::new(203, 0, 113, 29)),
    ("public", Ipv4Addr::new(203, 0, 113, 110)),
    ("public2", Ipv4Addr::new(203, 0, 113, 111)),
    ("denied", Ipv4Addr::new(203, 0, 113, 130)),
    ("private", Ipv4Addr::new(10, 1, 2, 3)),
    ("shared", Ipv4Addr::new(100, 64, 1, 1)),
    ("metadata", Ipv4Addr::new(169, 254, 169, 253)),
    // A pod's.
    ("own", Ipv4Addr::new(10, 244, 0, 77)),
    // The API server's.
    ("api", Ipv4Addr::new(203, 0, 113, 1)),
];

fn at(word: &str) -> Result<IpAddr> {
    let place = PLACES.iter().find(|(known, _)| *known == word);
    Ok(place
        .with_context(|| format!("nowhere is called {word}"))?
        .1
        .into())
}

/// Caller, the name's answer, whether its rule allows private addresses, and where a connection
/// may arrive.
const ROWS: [(&str, &str, bool, &str); 20] = [
    ("app1", "public", false, "public"),
    ("app1", "private", false, ""),
    ("app1", "dead private", false, ""),
    ("app1", "private dead", false, ""),
    ("app1", "private public", false, "public"),
    ("app1", "public private", false, "public"),
    ("app1", "dead metadata own shared api", false, ""),
    ("app1", "metadata public2", false, "public2"),
    // Denied to app2 alone.
    ("app1", "denied", false, "denied"),
    ("app1", "dead denied", false, "denied"),
    ("app2", "denied", false, ""),
    ("app2", "dead denied", false, ""),
    ("app2", "denied public", false, "public"),
    ("app2", "dead denied private", false, ""),
    ("app1", "private", true, "private"),
    ("app1", "dead shared", true, "shared"),
    ("app1", "own", true, ""),
    ("app1", "dead own", true, ""),
    ("app1", "dead metadata api", true, ""),
    ("app1", "metadata private", true, "private"),
];

/// A way out of the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transport {
    Http,
    Originate,
    Tls,
    Tunnel,
}

const WAYS: [Transport; 4] = [
    Transport::Http,
    Transport::Originate,
    Transport::Tls,
    Transport::Tunnel,
];

impl Transport {
    const fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Originate | Self::Tls => 443,
            Self::Tunnel => 22,
        }
    }

    /// A name of its own for each row: no answer is remembered.
    fn name(self, row: usize, allowed: bool) -> String {
        let (way, domain) = match self {
            Self::Originate => ("o", "paid"),
            Self::Http => ("h", "web"),
            Self::Tls => ("t", "web"),
            Self::Tunnel => ("c", "web"),
        };
        let inner = if allowed { "inner-" } else { "" };
        format!("{way}{row}.{inner}{domain}.example")
    }
}

fn rules(denied: &Value) -> Value {
    let plain = |name: &str, label: &str, allowed: bool| {
        let web = format!("*.{label}web.example");
        let paid = format!("*.{label}paid.example");
        let to = [
            json!({"domainNames": [web], "ports": [80, 443], "allowPrivate": allowed}),
            json!({"domainNames": [web], "ports": [22], "protocols": ["TCP"], "allowPrivate": allowed}),
            json!({"domainNames": [paid], "ports": [443], "allowPrivate": allowed,
                   "tls": {"originate": true, "caCertificates": "ca"}}),
        ];
        json!({"name": name, "to": to, "action": "Accept"})
    };
    let outer = plain("outer", "", false);
    let inner = plain("inner", "inner-", true);
    let mut rules = vec![inner, outer];
    rules.insert(
        0,
        json!({
            "name": "not-there",
            "from": [{"namespaces": ["app2-ns"]}],
            "to": [{"networks": denied}],
            "action": "Deny",
        }),
    );
    json!({
        "apiVersion": "egress-warden.io/v1alpha1",
        "kind": "ClusterEgressPolicy",
        "metadata": {"name": "seed"},
        "spec": {
            "identity": {"trustDomains": ["cluster.local"]},
            "tiers": [{"name": "t", "rules": rules}],
            "default": "Deny",
        },
    })
}

/// Servers everywhere that a row can lead to.
fn serve(bench: &Bench) -> Result<()> {
    for (word, address) in PLACES.iter().filter(|(word, _)| *word != "dead") {
        sandbox::assign([*address])?;
        for (port, speech) in [
            (80, Speech::Http(word)),
            (443, Speech::Https(word)),
            (22, Speech::Banner(SSH_BANNER)),
        ] {
            let authority = &bench.outside_authority;
            bench.outside.serve(authority, *address, port, &speech)?;
        }
    }
    Ok(())
}

fn settings() -> Result<(Install, tempfile::TempDir, Authority)> {
    let secrets = tempfile::tempdir()?;
    let outside = Authority::new("outside")?;
    std::fs::create_dir_all(secrets.path().join("ca"))?;
    std::fs::write(secrets.path().join("ca/ca.crt"), outside.certificate())?;
    let mut install = install()?;
    install.spec.gateway.secrets = secrets.path().display().to_string();
    install.spec.cluster.api_server = vec!["203.0.113.1/32".parse()?];
    Ok((install, secrets, outside))
}

/// Tries a way; the status that the gateway answered, if it was one.
fn attempt(bench: &Bench, app: &str, way: Transport, name: &str) -> Result<Option<u16>> {
    // Sidecars do not go by the dialled address.
    let dialled = Ipv4Addr::new(203, 0, 113, 200);
    Ok(match way {
        Transport::Http | Transport::Originate => {
            let answer = bench.http(app, dialled, name)?;
            answer.map(|answer| {
                let private = answer.body.contains("(private_address)")
                    || answer.body.contains("\"reason\":\"private_address\"");
                if answer.status == 403 && !private {
                    999
                } else {
                    answer.status
                }
            })
        }
        Transport::Tls => {
            // The certificate is for another name, if there is one at all.
            drop(bench.tls(app, dialled, name));
            None
        }
        Transport::Tunnel => bench.tunnel(app, name, 22)?,
    })
}

fn names_lead_to_what_the_policy_leaves_of_their_addresses() -> Result<()> {
    let wrong = wrong(|manifests| manifests)?;
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// The rows above notice it: with another network in the place of 10.0.0.0/8 names lead there, by
/// every way.
fn with_another_network_left_out_names_lead_inside() -> Result<()> {
    let wrong = wrong(|manifests| {
        let left_out = "address_prefix: \"10.0.0.0\"\n";
        manifests.replace(left_out, "address_prefix: \"11.0.0.0\"\n")
    })?;
    for way in WAYS {
        // A server may note a connection a row later.
        let (row, arrival) = (
            format!("app1 {way:?} ["),
            format!("(10.1.2.3, {})", way.port()),
        );
        let mut rows = wrong.iter().filter(|found| found.starts_with(&row));
        ensure!(
            rows.any(|found| found.contains(&arrival)),
            "{way:?}: {wrong:#?}"
        );
    }
    Ok(())
}

/// The rows that do not come true with manifests that are changed so.
fn wrong(change: impl Fn(String) -> String) -> Result<Vec<String>> {
    let (install, _secrets, outside) = settings()?;
    let policy = rules(&json!(["203.0.113.130/32"]));
    let rendered = reference::of(&install, std::slice::from_ref(&policy))?;
    let mut plan = Plan::of(&rendered);
    let changed = change(plan.manifests.clone());
    let sound = changed == plan.manifests;
    plan.manifests = changed;
    let bench = Bench::start_before(&plan, outside)?;
    becomes_ready(&install, &rendered)?;
    serve(&bench)?;
    let found = reference::audited(&bench.dump()?, &install, &[policy])?;
    ensure!(found.is_empty() == sound, "{found:#?}");
    let (mut wrong, mut expected) = (Vec::new(), Vec::new());
    for (i, (app, words, allowed, reached)) in ROWS.iter().enumerate() {
        for way in WAYS {
            let name = way.name(i, *allowed);
            let addresses: Result<Vec<_>> = words.split(' ').map(at).collect();
            bench.dns.add(&name, Answer::of(&addresses?).living(0));
            let before = bench.outside.seen().len();
            let status = attempt(&bench, app, way, &name)?;
            let wanted: Vec<_> = match *reached {
                "" => Vec::new(),
                word => vec![(at(word)?, way.port())],
            };
            expected.extend(wanted.iter().copied());
            let arrived = || -> Vec<(IpAddr, u16)> {
                let seen = bench.outside.seen();
                let new = seen.get(before..).unwrap_or_default();
                new.iter().filter_map(|seen| seen.address).collect()
            };
            if !wanted.is_empty() {
                // A server may note it a moment later; one that does not is said below.
                let _ = eventually("a connection", || !arrived().is_empty());
            }
            let arrived = arrived();
            // Nothing left of the answer is the policy's refusal; what is left and dead is not.
            let left = words.split(' ').any(|word| word == "dead") || !reached.is_empty();
            let told = match (way, left) {
                (Transport::Http | Transport::Originate | Transport::Tunnel, false) => {
                    status == Some(403)
                }
                (Transport::Http, true) if !reached.is_empty() => status == Some(200),
                (Transport::Http | Transport::Originate | Transport::Tunnel, true) => {
                    status != Some(403)
                }
                (Transport::Tls, _) => true,
            };
            // A request that found nobody or no handshake is tried again, where it may go.
            let same = arrived.iter().all(|one| wanted.contains(one))
                && arrived.is_empty() == wanted.is_empty();
            if !same || !told {
                wrong.push(format!(
                    "{app} {way:?} [{words}]: {status:?}, arrived {arrived:?}, not {wanted:?}"
                ));
            }
        }
    }
    // Nothing has come elsewhere later either; what failed may have been tried again where it may.
    let mut arrived: Vec<_> = bench
        .outside
        .seen()
        .iter()
        .filter_map(|seen| seen.address)
        .collect();
    for list in [&mut arrived, &mut expected] {
        list.sort_unstable();
        list.dedup();
    }
    if arrived != expected {
        wrong.push(format!("all: {arrived:?}, not {expected:?}"));
    }
    Ok(wrong)
}

/// The manifests of one render with the objects of another, where `of_other` says so.
fn mixed(one: &Rendered, other: &Rendered, of_other: impl Fn(&str) -> bool) -> String {
    let of = |rendered: &Rendered, wanted: bool| -> Vec<String> {
        let objects = rendered.objects().iter();
        objects
            .filter(|object| of_other(object.name()) == wanted)
            .map(egress_render::Object::yaml)
            .collect()
    };
    [of(one, false), of(other, true)].concat().join("---\n")
}

fn is_class(name: &str) -> bool {
    name.starts_with("egress-warden-class-")
}

/// What names lead to changes; the policy comes first, then the classes do.
fn classes_and_policy_in_either_order() -> Result<()> {
    let (install, _secrets, outside) = settings()?;
    // Of the two addresses of every name app2 may have one, then the other.
    let old_policy = rules(&json!(["203.0.113.110/32"]));
    let new_policy = rules(&json!(["203.0.113.111/32"]));
    let render = |policy: &Value| reference::of(&install, std::slice::from_ref(policy));
    let (old, new) = (render(&old_policy)?, render(&new_policy)?);
    let mut bench = Bench::start_before(&Plan::of(&old), outside)?;
    becomes_ready(&install, &old)?;
    serve(&bench)?;
    let (public, public2) = (at("public")?, at("public2")?);
    let addresses = [at("private")?, public, public2];
    let mut asked = 0;
    // A name never asked for before; where its request went, and what came of it.
    let mut ask = |bench: &Bench| -> Result<(Option<IpAddr>, Option<u16>)> {
        asked += 1;
        let name = format!("n{asked}.web.example");
        bench.dns.add(&name, Answer::of(&addresses).living(0));
        let before = bench.outside.seen().len();
        let answer = bench.http("app2", Ipv4Addr::new(203, 0, 113, 200), &name)?;
        let seen = bench.outside.seen();
        let new = seen.get(before..).unwrap_or_default();
        let arrived: Vec<_> = new.iter().filter_map(|seen| seen.address).collect();
        ensure!(arrived.len() <= 1, "{arrived:?}");
        let address = arrived.first().map(|(address, _)| *address);
        Ok((address, answer.map(|answer| answer.status)))
    };
    ensure!(ask(&bench)? == (Some(public2), Some(200)), "at first");

    // The policy first: its class is not there, and nothing opens.
    let mut plan = Plan::of(&new);
    plan.manifests = mixed(&new, &old, is_class);
    bench.update(&plan)?;
    let in_force = |rendered: &Rendered| {
        let hash = rendered
            .policy_hash()
            .get(..12)
            .unwrap_or_default()
            .to_owned();
        probe(&install).is_some_and(|(status, body)| {
            status == 200 && body.lines().all(|line| line.ends_with(&hash))
        })
    };
    let mut seen = Vec::new();
    eventually("the new policy", || {
        let done = in_force(&new);
        seen.extend(ask(&bench));
        done
    })?;
    for _ in 0..20 {
        seen.push(ask(&bench)?);
    }
    for (address, status) in &seen {
        let old_way = (*address, *status) == (Some(public2), Some(200));
        let denied = address.is_none() && status.is_none_or(|status| status == 403);
        ensure!(old_way || denied, "policy first: {address:?} {status:?}");
    }
    ensure!(
        seen.last() == Some(&(None, Some(403))),
        "a class that is not there opens: {seen:?}"
    );
    // Then the classes, and it recovers by itself.
    bench.update(&Plan::of(&new))?;
    eventually("the new classes", || {
        ask(&bench).is_ok_and(|came| came == (Some(public), Some(200)))
    })?;

    // Back, the classes of both first, as `--history` renders them: nothing is denied.
    let mut plan = Plan::of(&new);
    let both = mixed(&old, &new, |name| !is_class(name));
    let own = new.objects().iter().filter(|object| {
        is_class(object.name())
            && old
                .objects()
                .iter()
                .all(|other| other.name() != object.name())
    });
    let own: Vec<_> = own.map(egress_render::Object::yaml).collect();
    plan.manifests = [vec![both], own].concat().join("---\n");
    let mut seen = Vec::new();
    bench.update(&plan)?;
    let class = old
        .objects()
        .iter()
        .filter_map(|object| object.name().strip_prefix("egress-warden-class-"))
        .find(|class| !new.yaml().contains(&format!("warden-tls-{class}")))
        .context("no class of its own")?
        .to_owned();
    eventually("the old classes beside the new ones", || {
        seen.extend(ask(&bench));
        let clusters = bench.gateway.get("/clusters").unwrap_or_default();
        clusters.contains(&format!("warden-tls-{class}::"))
    })?;
    for (address, status) in &seen {
        ensure!(
            (*address, *status) == (Some(public), Some(200)),
            "classes first: {address:?} {status:?}"
        );
    }
    let mut plan = Plan::of(&old);
    let others = new.objects().iter().filter(|object| {
        is_class(object.name())
            && old
                .objects()
                .iter()
                .all(|other| other.name() != object.name())
    });
    let others: Vec<_> = others.map(egress_render::Object::yaml).collect();
    plan.manifests = [vec![plan.manifests], others].concat().join("---\n");
    bench.update(&plan)?;
    let mut seen = Vec::new();
    eventually("the old policy", || {
        seen.extend(ask(&bench));
        in_force(&old)
    })?;
    for (address, status) in &seen {
        let came = (*address, *status);
        ensure!(
            came == (Some(public), Some(200)) || came == (Some(public2), Some(200)),
            "policy after the classes: {address:?} {status:?}"
        );
    }
    ensure!(ask(&bench)? == (Some(public2), Some(200)), "in the end");
    // The audit names what is left over.
    let found = reference::audited(&bench.dump()?, &install, &[old_policy])?;
    ensure!(
        found.iter().any(|problem| problem
            .message()
            .contains("which these policies do not have")),
        "{found:#?}"
    );
    Ok(())
}

/// Two addresses, and nobody at the first, which is what `%UPSTREAM_HOST%` says.
fn the_access_log_has_the_address_that_was_connected_to() -> Result<()> {
    let (install, _secrets, outside) = settings()?;
    let policy = rules(&json!(["203.0.113.130/32"]));
    let rendered = reference::of(&install, std::slice::from_ref(&policy))?;
    let bench = Bench::start_before(&Plan::of(&rendered), outside)?;
    becomes_ready(&install, &rendered)?;
    let public = at("public")?;
    sandbox::assign_also(public)?;
    for (port, speech) in [
        (80, Speech::Http("public")),
        (443, Speech::Https("o0.paid.example")),
        (22, Speech::Banner(SSH_BANNER)),
    ] {
        bench
            .outside
            .serve(&bench.outside_authority, public, port, &speech)?;
    }
    for way in WAYS {
        let name = way.name(0, false);
        let addresses = [at("dead")?, public];
        bench.dns.add(&name, Answer::of(&addresses).living(0));
        attempt(&bench, "app1", way, &name)?;
        let field = match way {
            Transport::Tls => "serverName",
            _ => "authority",
        };
        let asked = match way {
            Transport::Tunnel => format!("{name}:22"),
            _ => name,
        };
        let line = bench.access_line(field, &asked)?;
        let seen: Vec<_> = bench.outside.seen();
        let arrived = seen.last().and_then(|seen| seen.address);
        let (address, port) = arrived.context("nobody came")?;
        ensure!((address, port) == (public, way.port()), "{arrived:?}");
        let method = match way {
            Transport::Http | Transport::Originate => json!("GET"),
            Transport::Tunnel => json!("CONNECT"),
            Transport::Tls => Value::Null,
        };
        for (field, expected) in [
            ("connectedTo", json!(format!("{address}:{port}"))),
            ("workload", json!(APP1.identity)),
            ("verdict", json!("accept")),
            ("method", method),
            ("ruling", Value::Null),
        ] {
            ensure!(
                line.get(field) == Some(&expected),
                "{way:?} {field}: {line}"
            );
        }
        let cluster = line.get("cluster").and_then(Value::as_str);
        ensure!(
            cluster.is_some_and(|name| name.starts_with("warden-")),
            "{line}"
        );
    }
    // The tunnel in which the TLS came.
    let outer = bench.access_line_inward("forward")?;
    ensure!(
        outer.get("workload") == Some(&json!(APP1.identity)),
        "{outer}"
    );
    // A denial has a line too, which is no longer for a caller who writes much.
    let long = "a".repeat(8000);
    attempt(&bench, "app1", Transport::Http, &long)?;
    let denied = bench.access_line("verdict", "deny")?;
    let status = denied.get("status").and_then(Value::as_u64);
    ensure!(
        status == Some(403) && denied.get("connectedTo") == Some(&Value::Null),
        "{denied}"
    );
    for field in ["ruling", "details"] {
        ensure!(denied.get(field).is_some_and(Value::is_string), "{denied}");
    }
    ensure!(denied.to_string().len() < 2048, "{denied}");
    Ok(())
}
