//! The gateway declared by the Kubernetes Gateway API: the same matrix, the same audit, closed in
//! the same way.

use anyhow::{Result, ensure};
use egress_render::install::GatewayApi;
use egress_render::{Install, Rendered};
use integration::istio::testbed::{self, Bench, Plan};
use integration::istio::tools::Program;
use integration::istio::{matrix, reference};

use crate::audit::are_found;

cases!(
    &[Program::Istiod];
    the_matrix_holds_with_a_gateway_of_the_gateway_api,
    pods_without_the_gateways_name_are_closed,
    a_tenants_gateway_on_the_same_service_takes_no_name,
    a_second_gateway_beside_the_first_is_found,
);

fn install() -> Result<Install> {
    let mut install = testbed::install()?;
    install.spec.gateway.api = GatewayApi::Kubernetes;
    Ok(install)
}

fn rendered() -> Result<Rendered> {
    reference::of(&install()?, &[reference::policy()?])
}

fn sound(bench: &Bench) -> Result<()> {
    let found = reference::audited(&bench.dump()?, &install()?, &[reference::policy()?])?;
    ensure!(found.is_empty(), "{found:?}");
    Ok(())
}

fn the_matrix_holds_with_a_gateway_of_the_gateway_api() -> Result<()> {
    let bench = Bench::start(&Plan::of(&rendered()?))?;
    let policies = [reference::policy()?];
    are_found(
        &bench.dump()?,
        &install()?,
        &policies,
        &["chains", "filters", "routes"],
    )?;
    let outcomes = matrix::run(&bench)?;
    let mut differ = outcomes.iter();
    let differs = differ.find(|outcome| outcome.came != outcome.expected);
    ensure!(differs.is_none(), "{differs:?}");
    let leaks = matrix::leaks(&bench)?;
    ensure!(leaks.is_empty(), "{leaks:?}");
    Ok(())
}

/// The policy, the lock and the routes are attached by that name, so all of them are missing.
fn pods_without_the_gateways_name_are_closed() -> Result<()> {
    let mut plan = Plan::of(&rendered()?);
    (plan.gateway_name, plan.sound) = (false, false);
    let bench = Bench::start(&plan)?;
    for outcome in matrix::run(&bench)? {
        ensure!(!outcome.came, "{outcome:?}");
    }
    let seen = bench.outside.seen();
    ensure!(seen.is_empty(), "{seen:?}");
    Ok(())
}

/// Istio takes a Service as an address only from its own namespace.
fn a_tenants_gateway_on_the_same_service_takes_no_name() -> Result<()> {
    let mut plan = Plan::of(&rendered()?);
    TENANT_GATEWAY.clone_into(&mut plan.others);
    sound(&Bench::start(&plan)?)
}

/// The same objects in that namespace do get in, and are found.
fn a_second_gateway_beside_the_first_is_found() -> Result<()> {
    let mut plan = Plan::of(&rendered()?);
    plan.others = TENANT_GATEWAY.replace("app1-ns", "istio-egress");
    let found = sound(&Bench::start(&plan)?);
    ensure!(found.is_err(), "the other gateway is not found");
    Ok(())
}

/// The same port and a narrower name, with a route to a server of the tenant's.
const TENANT_GATEWAY: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: mine, namespace: app1-ns}
spec:
  gatewayClassName: istio
  addresses: [{type: Hostname, value: egress-gateway.istio-egress.svc.cluster.local}]
  listeners:
  - name: http
    port: 8080
    hostname: api.github.com
    protocol: HTTPS
    tls: {mode: Terminate, options: {gateway.istio.io/tls-terminate-mode: ISTIO_MUTUAL}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: mine, namespace: app1-ns}
spec:
  parentRefs: [{name: mine}]
  rules:
  - backendRefs: [{name: evil, port: 80}]
";
