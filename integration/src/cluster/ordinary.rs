//! Ordinary life in an enforced namespace, which goes on: what stays in the cluster is no egress.

use anyhow::{Result, ensure};

use super::exec::{PodShell, ProbeResult};
use super::kubectl;
use super::matrix::Row;
use super::node::Node;

/// The pod that tries, and its namespace.
const APP1: PodShell<'_> = PodShell {
    namespace: "app1-ns",
    of: "deploy/app1",
};

/// Tries all of it.
///
/// # Errors
/// If something cannot be tried.
pub fn run(node: &Node, mut tell: impl FnMut(&Row)) -> Result<Vec<Row>> {
    let of_app2 = |kind: &str, path: &str| {
        let output = format!("-o=jsonpath={path}");
        let arguments = ["-n", "app2-ns", "get", kind, "-l", "app=app2", &output];
        kubectl::text(node, &arguments)
    };
    let pod = of_app2("pods", "{.items[0].status.podIP}")?;
    let output = "-o=jsonpath={.spec.clusterIP}";
    let service = kubectl::text(node, &["-n", "app2-ns", "get", "service", "app2", output])?;
    ensure!(
        !pod.is_empty() && !service.is_empty(),
        "app2 has no address"
    );
    let mut rows = Vec::new();
    for (about, url) in [
        ("a Service by name", "http://app2.app2-ns/".to_owned()),
        ("a Service by its address", format!("http://{service}/")),
        ("a pod by its address", format!("http://{pod}:8080/")),
    ] {
        let seen = APP1.url(node, &url, None, "app2")?;
        rows.push((about, seen));
    }
    for (about, script, word) in [
        (
            "a name of the cluster",
            "nslookup kubernetes.default.svc.cluster.local",
            "10.96.0.1",
        ),
        (
            "the API server, which wants to know who asks",
            "curl -sk -m 6 -o /dev/null -w '%{http_code}\\n' https://kubernetes.default/",
            "403",
        ),
    ] {
        let said = APP1.bash(node, script)?;
        let reached = said.text.split_whitespace().any(|said| said == word);
        let seen = if reached {
            ProbeResult::Reached
        } else {
            ProbeResult::Status(said.text)
        };
        rows.push((about, seen));
    }
    let rows = rows.into_iter().map(|(about, seen)| {
        let row = Row::new("app1", about.to_owned(), true, &seen, "-".to_owned());
        tell(&row);
        row
    });
    Ok(rows.collect())
}
