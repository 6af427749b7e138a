//! Names over opaque TCP, on what a real control plane makes of the rendered objects: the real agent's
//! DNS proxy tells an application the name's address, the sidecar asks for the name, the gateway judges
//! the name whole.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use egress_render::install::Names;
use integration::client::{self, Heard};
use integration::envoy::{eventually, eventually_within};
use integration::istio::reference;
use integration::istio::testbed::{Bench, CLUSTER_DNS, Plan, install};
use integration::istio::tools::Program;
use integration::mesh::address_of;
use integration::outside::Speech;
use integration::{dns, verdicts};
use serde_json::{Value, json};

cases!(
    &[Program::Istiod, Program::PilotAgent];
    names_over_opaque_tcp_are_judged_as_names,
    without_the_patch_a_names_address_leads_nowhere,
);

const PORT: u16 = 5432;

/// Names of the outside for this test, where they lead, and what the server there says first.
const LEFT: &str = "db.partner.example";
const RIGHT: &str = "db.other-partner.example";
const INSIDE: &str = "db.inside.example";
const APP2S: &str = "db.app2.example";
const DENIED: &str = "db.denied.example";
const BANNERS: [(&str, &str); 2] = [
    ("partner.example", "left"),
    ("other-partner.example", "right"),
];

fn policy() -> Value {
    let app1 = json!({"namespaces": ["app1-ns"], "matchLabels": {"egress-ruleset": "app1"}});
    let rule = |name: &str, from: &Value, names: &[&str]| {
        json!({
            "name": name,
            "from": [from],
            "to": [{"domainNames": names, "ports": [PORT], "protocols": ["TCP"]}],
            "action": "Accept",
        })
    };
    let rules = [
        rule("databases", &app1, &[LEFT, RIGHT, INSIDE]),
        rule("app2s", &json!({"namespaces": ["app2-ns"]}), &[APP2S, LEFT]),
        // Registered in app1's namespace, for another workload of it.
        rule(
            "others",
            &json!({"serviceAccounts": ["app1-ns/other"]}),
            &[DENIED],
        ),
    ];
    json!({
        "apiVersion": "egress-warden.io/v1alpha1",
        "kind": "ClusterEgressPolicy",
        "metadata": {"name": "names"},
        "spec": {
            "identity": {"trustDomains": ["cluster.local"]},
            "tiers": [{"name": "t", "rules": rules}],
        },
    })
}

/// Where the names lead; `left` is where [`LEFT`] does.
fn outside(left: &str) -> Result<BTreeMap<String, IpAddr>> {
    let to = |name: &str, host: &str| -> Result<(String, IpAddr)> {
        Ok((name.to_owned(), address_of(host)?.into()))
    };
    Ok(BTreeMap::from([
        to(LEFT, left)?,
        to(RIGHT, "other-partner.example")?,
        to(INSIDE, "rebind.github.com")?,
        to(APP2S, "partner.example")?,
        to(DENIED, "partner.example")?,
    ]))
}

fn start(change: impl FnOnce(&mut Plan)) -> Result<Bench> {
    let mut install = install()?;
    install.spec.tunnel.names = Some(Names::DnsCapture);
    let policies = [policy()];
    let mut plan = Plan::of(&reference::of(&install, &policies)?);
    plan.dns_capture = true;
    change(&mut plan);
    let bench = Bench::start(&plan)?;
    let found = reference::audited(&bench.dump()?, &install, &policies)?;
    ensure!(found.is_empty(), "{found:?}");
    bench.dns.set(outside("partner.example")?);
    let authority = &bench.outside_authority;
    for (host, banner) in BANNERS {
        let address = address_of(host)?;
        bench
            .outside
            .serve(authority, address, PORT, &Speech::Banner(banner))?;
    }
    let inside = address_of("rebind.github.com")?;
    bench
        .outside
        .serve(authority, inside, PORT, &Speech::Banner("inside"))?;
    Ok(bench)
}

/// What a pod's resolver is told of a name.
fn resolved(bench: &Bench, app: &str, name: &'static str) -> Result<Option<Ipv4Addr>> {
    bench.inside(app, move || dns::ask(CLUSTER_DNS, name))
}

/// Resolves a name as an application does, dials it, and listens.
fn heard(bench: &Bench, app: &str, name: &'static str) -> Result<Heard> {
    let address = resolved(bench, app, name)?.with_context(|| format!("{app} has no {name}"))?;
    ensure!(
        address.octets()[..2] == [240, 241],
        "{name} is at {address}"
    );
    bench.inside(app, move || {
        let mut stream = client::connect(SocketAddrV4::new(address, PORT))?;
        client::hear(&mut stream)
    })
}

fn said(banner: &str) -> Heard {
    Heard::Bytes(banner.as_bytes().to_vec())
}

fn names_over_opaque_tcp_are_judged_as_names() -> Result<()> {
    let bench = start(|_| {})?;
    eventually("the agents to know the names", || {
        let known = |app, name| resolved(&bench, app, name).is_ok_and(|found| found.is_some());
        known("app1", LEFT) && known("app2", APP2S)
    })?;
    // Two names at one port, and servers that speak first.
    ensure!(heard(&bench, "app1", LEFT)? == said("left"));
    ensure!(heard(&bench, "app1", RIGHT)? == said("right"));
    let line = verdicts::last_since(&bench.gateway, 0).context("no verdict")?;
    ensure!(line.rule_path() == "names/t/databases", "{line:?}");

    // Denied, and nobody is asked for the name.
    let reached = bench.outside.seen().len();
    ensure!(heard(&bench, "app1", DENIED)? == Heard::Closed);
    ensure!(
        bench.outside.seen().len() == reached,
        "{:?}",
        bench.outside.seen()
    );
    ensure!(!bench.dns.asked().iter().any(|asked| asked == DENIED));
    // Accepted by name, so that it is asked for, and refused where it leads.
    ensure!(heard(&bench, "app1", INSIDE)? == Heard::Closed);
    ensure!(bench.dns.asked().iter().any(|asked| asked == INSIDE));
    let inside = bench
        .outside
        .seen_at(address_of("rebind.github.com")?, PORT);
    ensure!(inside.is_empty(), "{inside:?}");

    // Registered where it may be used, and nowhere else.
    ensure!(heard(&bench, "app2", APP2S)? == said("left"));
    ensure!(resolved(&bench, "app1", APP2S)?.is_none());
    ensure!(resolved(&bench, "app2", RIGHT)?.is_none());
    // One address for everybody, and its other ports are nobody's.
    let address = resolved(&bench, "app1", LEFT)?;
    ensure!(resolved(&bench, "app2", LEFT)? == address);
    let other = bench.tcp("app1", address.context("no address")?, 22)?;
    ensure!(other == Heard::Closed, "{other:?}");
    // The real address over opaque TCP is what it was: no rule names it.
    let real = bench.tcp("app1", address_of("partner.example")?, PORT)?;
    ensure!(real == Heard::Closed, "{real:?}");

    // Where the name leads may change at any time.
    bench.dns.set(outside("other-partner.example")?);
    eventually_within(
        Duration::from_mins(4),
        "the changed address to be followed",
        || heard(&bench, "app1", LEFT).is_ok_and(|heard| heard == said("right")),
    )?;
    ensure!(
        resolved(&bench, "app1", LEFT)? == address,
        "the name's own address has changed"
    );
    Ok(())
}

/// The patch and the entry are two objects; what one of them alone does is refused.
fn without_the_patch_a_names_address_leads_nowhere() -> Result<()> {
    let bench = start(|plan| {
        let objects: Vec<_> = plan.manifests.split("---\n").collect();
        let kept = objects
            .iter()
            .filter(|object| !object.contains("name: egress-warden-names"));
        plan.manifests = kept.copied().collect::<Vec<_>>().join("---\n");
    })?;
    eventually("the agents to know the names", || {
        resolved(&bench, "app1", LEFT).is_ok_and(|found| found.is_some())
    })?;
    // The sidecar goes straight to an address that nobody has, or is refused.
    let address = resolved(&bench, "app1", LEFT)?.context("no address")?;
    let heard = bench.inside("app1", move || {
        let mut stream = client::connect(SocketAddrV4::new(address, PORT))?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        Ok(client::hear(&mut stream).unwrap_or(Heard::Closed))
    })?;
    ensure!(heard == Heard::Closed, "{heard:?}");
    ensure!(bench.outside.seen().is_empty());
    Ok(())
}
