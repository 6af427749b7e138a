//! Clusters: the rendered ones as rendered, and beside them only those that Istio has at every
//! gateway.

use serde_json::Value;

use super::compare::{sentence, with_known, with_rendered};
use super::dump::Dump;
use super::istio::Istio;
use super::wanted::Wanted;
use super::{missing, name};
use crate::envoy::classes;
use crate::error::RenderError;
use crate::object::CLASS_OBJECT;

pub(super) fn check(
    dump: &Dump<'_>,
    wanted: &Wanted,
    istio: &Istio,
    problems: &mut Vec<RenderError>,
) {
    missing("cluster", &wanted.clusters, &dump.clusters, problems);
    for (place, cluster) in &dump.clusters {
        problems.extend(
            wrong(cluster, wanted, istio).map(|message| RenderError::new(&**place, message)),
        );
    }
    let known = istio.list("static_clusters");
    for (place, cluster) in &dump.static_clusters {
        if let Some(message) = unknown(cluster, known) {
            problems.push(RenderError::new(&**place, message));
        }
    }
}

fn wrong(cluster: &Value, wanted: &Wanted, istio: &Istio) -> Option<String> {
    if let Some(rendered) = wanted.clusters.get(name(cluster)) {
        let differences = with_rendered(cluster, rendered);
        return (!differences.is_empty())
            .then(|| format!("not as rendered: {}", sentence(&differences)));
    }
    if wanted.keeps(cluster) {
        return None;
    }
    if let Some(class) = classes::of_cluster(name(cluster)) {
        return Some(format!(
            "it is of the address class {class}, which these policies do not have: of an older \
             render, whose object {CLASS_OBJECT}{class} can be deleted"
        ));
    }
    // Of the registry: no route leads to one.
    if name(cluster).starts_with("outbound|") {
        return None;
    }
    unknown(cluster, std::slice::from_ref(istio.get("black_hole")))
}

fn unknown(cluster: &Value, known: &[Value]) -> Option<String> {
    let differences = known.iter().map(|known| with_known(cluster, known));
    let closest = differences.min_by_key(Vec::len)?;
    if closest.is_empty() {
        return None;
    }
    let of_that_name = known
        .iter()
        .any(|known| known.get("name") == cluster.get("name"));
    Some(if of_that_name {
        format!("not as Istio has it: {}", sentence(&closest))
    } else {
        "it was not rendered, nor is it Istio's own".to_owned()
    })
}
