//! The configuration that a real control plane makes of the manifests: audited as it runs, with
//! parts left out, and with a tenant's objects beside it.

use anyhow::{Context, Result, ensure};
use egress_render::{RenderError, Rendered};
use integration::envoy::eventually;
use integration::istio::reference;
use integration::istio::testbed::{Bench, Plan, install};
use integration::istio::tools::Program;
use integration::mesh::address_of;
use serde_json::Value;

cases!(
    &[Program::Istiod];
    the_live_configuration_is_what_was_rendered,
    with_metadata_exchange_every_filter_is_in_its_place,
    a_plugin_whose_port_matches_nothing_is_found_and_closes,
    without_the_plugins_the_gateway_is_closed,
    without_the_policy_inside_tunnels_the_gateway_is_closed,
    without_the_routes_and_lock_the_gateway_is_closed,
    a_gateway_of_an_older_version_has_no_listener,
    without_peer_metadata_rules_with_labels_accept_nothing,
    without_the_sidecar_patch_tcp_is_closed,
    a_tenants_gateway_adds_no_port,
    a_tenants_route_takes_no_name,
    a_tenants_route_that_gets_in_is_found_and_refused,
);

fn rendered() -> Result<Rendered> {
    reference::of(&install()?, &[reference::policy()?])
}

fn audited(dump: &Value) -> Result<Vec<RenderError>> {
    reference::audited(dump, &install()?, &[reference::policy()?])
}

/// The manifests without some objects.
fn without(rendered: &Rendered, left_out: &[(&str, &str)]) -> String {
    let stays = |kind: &str, name: &str| !left_out.contains(&(kind, name));
    let objects = rendered.objects().iter();
    let texts: Vec<_> = objects
        .filter(|object| stays(object.kind(), object.name()))
        .map(egress_render::Object::yaml)
        .collect();
    texts.join("---\n")
}

/// What the reference case allows, by its three ways, and whether each works.
fn allowed(bench: &Bench) -> Result<[bool; 3]> {
    let github = address_of("api.github.com")?;
    let http = bench.http("app1", github, "api.github.com")?;
    let tcp = bench.tcp("app1", address_of("partner.example")?, 22)?;
    Ok([
        http.is_some_and(|answer| answer.status == 200),
        bench.tls("app1", github, "api.github.com")?,
        matches!(tcp, integration::client::Heard::Bytes(_)),
    ])
}

/// Without some objects: what still works of what is allowed.
fn left(left_out: &[(&str, &str)]) -> Result<([bool; 3], Bench)> {
    let bench = Bench::start(&Plan::changed(without(&rendered()?, left_out)))?;
    // The proxies say that they are ready when they have what the control plane sends them.
    let works = allowed(&bench)?;
    Ok((works, bench))
}

fn nothing_arrived(bench: &Bench) -> Result<()> {
    let seen = bench.outside.seen();
    ensure!(seen.is_empty(), "{seen:?}");
    Ok(())
}

fn the_live_configuration_is_what_was_rendered() -> Result<()> {
    let bench = Bench::start(&Plan::of(&rendered()?))?;
    for dump in [bench.dump()?, bench.generated()?] {
        let found = audited(&dump)?;
        ensure!(found.is_empty(), "{found:?}");
    }
    let works = allowed(&bench)?;
    if works != [true; 3] {
        let log = bench.gateway.log()?;
        let told = |line: &&str| line.contains("verdict") || line.contains("[warning]");
        let lines: Vec<_> = log.lines().filter(told).collect();
        anyhow::bail!("{works:?}\n{}", lines.join("\n"));
    }
    Ok(())
}

/// A stock Envoy refuses this configuration, and goes on asking for the routes and configurations of
/// the one before.
fn with_metadata_exchange_every_filter_is_in_its_place() -> Result<()> {
    let mut plan = Plan::of(&rendered()?);
    let mut bench = Bench::start(&plan)?;
    plan.metadata_exchange = true;
    bench.update(&plan)?;
    let mut found = Vec::new();
    let mut text = String::new();
    eventually(
        "the control plane to know all that the gateway asks for",
        || {
            let dump = bench.generated().unwrap_or_default();
            text = dump.to_string();
            found = audited(&dump).unwrap_or_default();
            found.is_empty() && text.contains("istio.metadata_exchange")
        },
    )
    .with_context(|| format!("{found:#?}"))?;
    for filter in ["istio.alpn", "istio.stats"] {
        ensure!(text.contains(filter), "no {filter}");
    }
    ensure!(
        text.contains(r#""additional_labels":["egress-ruleset"]"#),
        "the label does not travel"
    );
    Ok(())
}

fn a_plugin_whose_port_matches_nothing_is_found_and_closes() -> Result<()> {
    let sound = rendered()?.yaml();
    let port = "  match:\n  - ports:\n    - number: 8080\n";
    ensure!(
        sound.contains(port),
        "the plugin's port is written otherwise"
    );
    let elsewhere = sound.replace(port, "  match:\n  - ports:\n    - number: 8081\n");
    let mut plan = Plan::changed(elsewhere);
    plan.sound = true;
    let bench = Bench::start(&plan)?;
    let found = audited(&bench.dump()?)?;
    ensure!(
        found
            .iter()
            .any(|problem| problem.message().starts_with("the policy is missing")),
        "{found:?}"
    );
    let [http, ..] = allowed(&bench)?;
    ensure!(!http, "HTTP passes without the policy");
    Ok(())
}

fn without_the_plugins_the_gateway_is_closed() -> Result<()> {
    let plugins = [
        ("WasmPlugin", "egress-warden-http"),
        ("WasmPlugin", "egress-warden-tunnel"),
    ];
    let (works, bench) = left(&plugins)?;
    ensure!(works == [false; 3], "{works:?}");
    nothing_arrived(&bench)
}

/// A gateway that starts without one of the module's own configurations waits for it, and takes no
/// connection meanwhile. One that runs when the object is deleted keeps what it has.
fn without_a_policy_of_the_modules_own(object: &str, extension: &str) -> Result<()> {
    let sound = Plan::of(&rendered()?);
    let mut plan = Plan::changed(without(&rendered()?, &[("EnvoyFilter", object)]));
    plan.whole = false;
    let mut bench = Bench::start(&plan)?;
    eventually("the gateway to wait for it", || {
        let asked = bench
            .gateway
            .get("/stats?filter=extension_config.*update_attempt");
        let ready = bench.gateway.get("/ready");
        asked.is_ok_and(|asked| asked.contains(extension))
            && ready.is_ok_and(|ready| !ready.contains("LIVE"))
    })?;
    let works = allowed(&bench);
    ensure!(
        works.as_ref().map_or(true, |works| *works == [false; 3]),
        "{works:?}"
    );
    nothing_arrived(&bench)?;
    let found = audited(&bench.dump()?)?;
    ensure!(
        found
            .iter()
            .any(|problem| problem.message().contains("refused, or not arrived")),
        "{found:#?}"
    );

    bench.update(&sound)?;
    bench.gateway.ready()?;
    eventually("what is allowed to work", || {
        allowed(&bench).is_ok_and(|works| works == [true; 3])
    })?;
    bench.update(&plan)?;
    eventually("the control plane to be without it", || {
        bench
            .generated()
            .is_ok_and(|dump| !extensions(&dump).contains(extension))
    })?;
    ensure!(allowed(&bench)? == [true; 3], "what ran does not go on");
    let evil = address_of("evilgithub.com")?;
    let answer = bench.http("app1", evil, "evilgithub.com")?;
    ensure!(answer.is_some_and(|answer| answer.status == 403), "HTTP");
    ensure!(!bench.tls("app1", evil, "evilgithub.com")?, "TLS");
    Ok(())
}

/// What a dump has of configurations that filters discover by name.
fn extensions(dump: &Value) -> String {
    let configs = dump.get("configs").and_then(Value::as_array);
    let ours = configs.into_iter().flatten().filter(|config| {
        let kind = config.get("@type").and_then(Value::as_str);
        kind.is_some_and(|kind| kind.ends_with("EcdsConfigDump"))
    });
    ours.map(Value::to_string).collect()
}

fn without_the_policy_inside_tunnels_the_gateway_is_closed() -> Result<()> {
    without_a_policy_of_the_modules_own("egress-warden-policy-tls", "egress-warden.tls")
}

fn without_the_routes_and_lock_the_gateway_is_closed() -> Result<()> {
    let (works, bench) = left(&[("EnvoyFilter", "egress-warden")])?;
    ensure!(works == [false; 3], "{works:?}");
    nothing_arrived(&bench)
}

/// Its Envoy would leave out, without a word, what keeps forbidden addresses away.
fn a_gateway_of_an_older_version_has_no_listener() -> Result<()> {
    let mut plan = Plan::of(&rendered()?);
    plan.gateway_version = "1.30.3";
    plan.sound = false;
    let bench = Bench::start(&plan)?;
    // It is up, and has taken what the control plane sent: only the bootstrap's own listeners.
    let listeners = bench.gateway.get("/listeners")?;
    let names = listeners.lines().filter(|line| line.contains("::0.0.0.0:"));
    ensure!(
        names.count() == 2 && !listeners.contains("8080") && !listeners.contains("egress-warden"),
        "{listeners}"
    );
    ensure!(allowed(&bench)? == [false; 3], "an old gateway lets out");
    nothing_arrived(&bench)
}

fn without_peer_metadata_rules_with_labels_accept_nothing() -> Result<()> {
    let (works, _bench) = left(&[("EnvoyFilter", "egress-warden-peer-metadata")])?;
    // Tunnels carry their labels themselves.
    ensure!(works == [false, true, true], "{works:?}");
    Ok(())
}

fn without_the_sidecar_patch_tcp_is_closed() -> Result<()> {
    let left_out = [("EnvoyFilter", "egress-warden-tunnel")];
    let bench = Bench::start(&Plan::changed(without(&rendered()?, &left_out)))?;
    let github = address_of("api.github.com")?;
    // The gateway's answer to what is no HTTP is no TLS either.
    let came = bench.tls("app1", github, "api.github.com").unwrap_or(false);
    ensure!(!came, "TLS passes without a tunnel");
    nothing_arrived(&bench)
}

fn a_tenants_gateway_adds_no_port() -> Result<()> {
    let mut plan = Plan::of(&rendered()?);
    TENANT_GATEWAY.clone_into(&mut plan.others);
    let bench = Bench::start(&plan)?;
    let found = audited(&bench.dump()?)?;
    ensure!(found.is_empty(), "{found:?}");
    ensure!(
        !bench.gateway.get("/listeners")?.contains("22022"),
        "the port is there"
    );
    Ok(())
}

fn a_tenants_route_takes_no_name() -> Result<()> {
    let mut plan = Plan::of(&rendered()?);
    TENANT_ROUTE.clone_into(&mut plan.others);
    let bench = Bench::start(&plan)?;
    let found = audited(&bench.dump()?)?;
    ensure!(found.is_empty(), "{found:?}");
    ensure!(
        allowed(&bench)? == [true; 3],
        "what is allowed does not work"
    );
    Ok(())
}

/// The same with the one word that keeps tenants out taken away: the audit sees it, and the module
/// refuses a route that was not rendered.
fn a_tenants_route_that_gets_in_is_found_and_refused() -> Result<()> {
    let mut plan = Plan::of(&rendered()?);
    let own = "    - ./*\n";
    ensure!(
        plan.manifests.contains(own),
        "the Gateway's hosts are written otherwise"
    );
    plan.manifests = plan.manifests.replace(own, "    - '*/*'\n");
    TENANT_ROUTE.clone_into(&mut plan.others);
    let bench = Bench::start(&plan)?;
    let found = audited(&bench.dump()?)?;
    ensure!(!found.is_empty(), "the tenant's route is not found");
    let github = address_of("api.github.com")?;
    let answer = bench.http("app1", github, "api.github.com")?;
    ensure!(
        answer.is_some_and(|answer| answer.status == 403),
        "it is not refused"
    );
    nothing_arrived(&bench)
}

/// Plaintext TCP on a port of its own at the egress gateway's pods.
const TENANT_GATEWAY: &str = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: mine, namespace: app1-ns}
spec:
  selector: {istio: egressgateway}
  servers:
  - {port: {number: 22022, name: tcp, protocol: TCP}, hosts: ['*']}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: mine, namespace: app1-ns}
spec:
  hosts: ['*']
  gateways: [mine]
  tcp:
  - route: [{destination: {host: egress-gateway.istio-egress.svc.cluster.local, port: {number: 8080}}}]
";

/// A narrower route for a name that the policy allows, to a server of the tenant's.
const TENANT_ROUTE: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: mine, namespace: app1-ns}
spec:
  hosts: [evil.example]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 198.51.100.66}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: mine, namespace: app1-ns}
spec:
  hosts: [api.github.com]
  gateways: [istio-egress/egress-warden]
  http:
  - route: [{destination: {host: evil.example, port: {number: 80}}}]
";
