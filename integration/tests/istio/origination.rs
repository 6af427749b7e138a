//! HTTPS whose method and path are judged: the application speaks HTTP to its sidecar, the gateway
//! TLS to the outside, on the configuration that a real control plane makes of the manifests.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use egress_render::Install;
use http::Request;
use integration::certificates::{Authority, Leaf};
use integration::istio::reference;
use integration::istio::testbed::{Bench, Plan, install};
use integration::istio::tools::Program;
use integration::mesh::{HOSTS, address_of};
use integration::{http2, policy, sandbox, workspace};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;

use crate::Case;
use crate::audit::are_found;

pub(crate) const CASES: &[Case] = &[Case {
    name: "https_is_judged_by_method_and_path_and_its_server_verified",
    needs: &[Program::Istiod],
    body: || {
        sandbox::test(
            "https_is_judged_by_method_and_path_and_its_server_verified",
            https_is_judged_by_method_and_path_and_its_server_verified,
        )
    },
}];

const PAYMENTS: &str = "api.payments.example";

/// The policy, without what needs a gateway that ends the applications' TLS.
fn payments() -> Result<Value> {
    let mut policy = policy::read(&workspace::root().join("cases/policies/origination.yaml"))?;
    let rules = policy
        .pointer_mut("/spec/tiers/0/rules")
        .and_then(Value::as_array_mut);
    let rules = rules.context("no rules")?;
    rules.retain(|rule| rule.get("name") != Some(&Value::from("app1-github-ended")));
    Ok(policy)
}

/// The secrets as they are mounted in the gateway's pod.
fn mount(folder: &Path, authority: &Authority, client: &Leaf) -> Result<()> {
    let file = |secret: &str, name: &str, content: &str| -> Result<()> {
        let folder = folder.join(secret);
        std::fs::create_dir_all(&folder)?;
        Ok(std::fs::write(folder.join(name), content)?)
    };
    file("payments-ca", "ca.crt", &authority.certificate())?;
    file("payments-client", "tls.crt", &client.certificate)?;
    file("payments-client", "tls.key", &client.key)
}

fn https_is_judged_by_method_and_path_and_its_server_verified() -> Result<()> {
    let secrets = tempfile::tempdir()?;
    let outside = Authority::new("outside")?;
    let client = outside.server("egress-gateway.customer.example")?;
    mount(secrets.path(), &outside, &client)?;
    let mut install = install()?;
    install.spec.gateway.secrets = secrets.path().display().to_string();
    let policy = payments()?;
    let rendered = reference::of(&install, std::slice::from_ref(&policy))?;
    let bench = Bench::start_before(&Plan::of(&rendered), outside)?;
    nothing_else_is_there(&bench, &install, &policy)?;
    requests_are_judged(&bench)?;
    the_server_saw(&bench, &client)?;
    servers_are_verified(&bench)?;
    http2_and_grpc(&bench)?;
    for (name, address) in HOSTS {
        let plain = bench.outside.seen_at(*address, 80);
        ensure!(plain.is_empty(), "{name} was spoken to in the clear");
    }
    Ok(())
}

fn nothing_else_is_there(bench: &Bench, install: &Install, policy: &Value) -> Result<()> {
    let policies = std::slice::from_ref(policy);
    are_found(&bench.dump()?, install, policies, &["originating"])
}

fn requests_are_judged(bench: &Bench) -> Result<()> {
    let rows = [
        ("app1", "GET", "/v1/ledger", PAYMENTS, 200, ""),
        ("app1", "POST", "/v1/ledger", PAYMENTS, 200, ""),
        ("app1", "GET", "/v1/ledger", "API.payments.example", 200, ""),
        ("app1", "POST", "/v1/refunds/7", PAYMENTS, 403, "no-refunds"),
        ("app1", "DELETE", "/v1/ledger", PAYMENTS, 403, "default"),
        ("app1", "GET", "/admin", PAYMENTS, 403, "default"),
        (
            "app1",
            "GET",
            "/v1/ledger",
            "payments.example",
            403,
            "default",
        ),
        (
            "app1",
            "GET",
            "/v1/ledger",
            "inside.payments.example",
            403,
            "private_address",
        ),
        ("app2", "GET", "/v1/ledger", PAYMENTS, 403, "default"),
    ];
    for (app, method, path, host, status, word) in rows {
        let answer = bench.ask(app, address_of(PAYMENTS)?, host, (method, path))?;
        let answer = answer.context("closed")?;
        ensure!(
            answer.status == status && answer.body.contains(word),
            "{app} {method} {host}{path}: {answer:?}"
        );
    }
    // TLS of its own would come without the client certificate, and nobody would see the path.
    ensure!(
        !bench.tls("app1", address_of(PAYMENTS)?, PAYMENTS)?,
        "TLS passes"
    );
    Ok(())
}

fn the_server_saw(bench: &Bench, client: &Leaf) -> Result<()> {
    let shown = CertificateDer::from_pem_slice(client.certificate.as_bytes())?;
    let seen = bench.outside.seen_at(address_of(PAYMENTS)?, 443);
    ensure!(!seen.is_empty(), "nothing arrived");
    for seen in &seen {
        let right = seen.client_certificate.as_deref() == Some(&*shown)
            && seen
                .server_name
                .as_deref()
                .is_some_and(|name| name.eq_ignore_ascii_case(PAYMENTS));
        ensure!(right, "{:?}", seen.server_name);
        let text = String::from_utf8_lossy(&seen.bytes).to_lowercase();
        for word in ["refunds", "admin", "x-envoy", "spiffe", "warden"] {
            ensure!(!text.contains(word), "{word} in {text}");
        }
    }
    Ok(())
}

/// The right authority for another name, and the right name by an unknown authority: closed, and
/// not a byte of the request is sent.
fn servers_are_verified(bench: &Bench) -> Result<()> {
    for host in ["misnamed.payments.example", "unknown.payments.example"] {
        let address = address_of(host)?;
        let answer = bench.ask("app1", address, host, ("GET", "/v1/ledger"))?;
        let answer = answer.context("closed")?;
        ensure!(answer.status == 503, "{host}: {answer:?}");
        let seen = bench.outside.seen_at(address, 443);
        ensure!(
            seen.iter().all(|seen| seen.bytes.is_empty()),
            "{host}: {seen:?}"
        );
    }
    Ok(())
}

fn http2_and_grpc(bench: &Bench) -> Result<()> {
    let get = Request::get(format!("http://{PAYMENTS}/v1/http2")).body(())?;
    let call = |method: &str| {
        Request::post(format!("http://{PAYMENTS}/{method}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
    };
    let requests = vec![
        get,
        call("payments.Ledger/List")?,
        call("payments.Admin/Drop")?,
    ];
    let answers = bench.http2("app1", address_of(PAYMENTS)?, requests)?;
    let status = |answer: Option<&http2::Answer>| {
        let status = answer.and_then(|answer| answer.headers.get("grpc-status"));
        status.and_then(|status| status.to_str().ok().map(str::to_owned))
    };
    ensure!(
        answers.first().is_some_and(|answer| answer.status == 200),
        "{answers:?}"
    );
    // 7 is PERMISSION_DENIED.
    ensure!(
        status(answers.get(1)).as_deref() == Some("0")
            && status(answers.get(2)).as_deref() == Some("7"),
        "{answers:?}"
    );
    let seen = bench.outside.seen_at(address_of(PAYMENTS)?, 443);
    let arrived = seen.iter().any(|seen| {
        seen.http2 && String::from_utf8_lossy(&seen.bytes).contains("/payments.Ledger/List")
    });
    ensure!(arrived, "gRPC did not arrive over HTTP/2: {seen:?}");
    Ok(())
}
