//! Namespaces: who injects their pods, if anybody does.
//!
//! The labels are read as Istio's webhooks select by them (`istio-discovery`'s
//! `mutatingwebhook.yaml` and `revision-tags.yaml`): `istio-injection` where it is set at all, whatever
//! `istio.io/rev` says beside it; `enabled` is the revision that is tagged `default`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    AMBIENT, ClusterFinding, ClusterFindingCode, Looked, NO_AMBIENT, ObjectKind, entry, text,
};
use crate::guardrails::namespaces::is_like_a_domain;
use crate::install::Install;

pub(super) fn look(install: &Install, objects: &[Value]) -> Looked {
    let tags = tags(objects);
    let mut looked = Looked::default();
    for enforced in &install.spec.workloads.namespaces {
        let found = objects.iter().find(|object| {
            text(object, "/kind") == "Namespace" && text(object, "/metadata/name") == enforced
        });
        let trouble =
            |(code, message, remedy): (ClusterFindingCode, String, &'static str)| ClusterFinding {
                kind: ObjectKind::Namespace,
                namespace: String::new(),
                name: enforced.clone(),
                code,
                message,
                remedy,
            };
        match found {
            Some(namespace) => {
                looked.count = looked.count.saturating_add(1);
                let troubles = judge(install, namespace, &tags).into_iter();
                looked.troubles.extend(troubles.map(trouble));
            }
            None => looked.troubles.push(trouble((
                ClusterFindingCode::NoNamespace,
                "it is enforced and not among the namespaces that were given".to_owned(),
                "make it before its objects are applied, or give all namespaces",
            ))),
        }
    }
    let all = objects
        .iter()
        .filter(|one| text(one, "/kind") == "Namespace");
    looked
        .troubles
        .extend(all.flat_map(|one| others(install, one)));
    looked.troubles.sort();
    looked
}

/// What a namespace, enforced or not, would be to the sidecars of enforced ones.
fn others(install: &Install, namespace: &Value) -> Vec<ClusterFinding> {
    let spec = &install.spec;
    let name = text(namespace, "/metadata/name");
    let trouble = |code, message: String, remedy| ClusterFinding {
        kind: ObjectKind::Namespace,
        namespace: String::new(),
        name: name.to_owned(),
        code,
        message,
        remedy,
    };
    let mut found = Vec::new();
    let allowed = &spec.guardrails.top_level_namespaces;
    if is_like_a_domain(name) && !allowed.iter().any(|one| one == name) {
        found.push(trouble(
            ClusterFindingCode::LikeADomain,
            format!(
                "it is called like a top-level domain: its Service `web` answers for `web.{name}` in \
                 the cluster's DNS, and in sidecars that see it"
            ),
            "call it otherwise, or list it in guardrails.topLevelNamespaces",
        ));
    }
    let system = [
        &spec.gateway.namespace,
        &spec.cluster.istio_namespace,
        &spec.cluster.dns_namespace,
    ];
    let label = |key| entry(namespace, "labels", key);
    let in_mesh = label("istio-injection") == Some("enabled")
        || (label("istio-injection").is_none() && label("istio.io/rev").is_some())
        || label("istio.io/dataplane-mode") == Some("ambient");
    if in_mesh && !system.into_iter().any(|one| one == name) && !install.visible().contains(name) {
        // Where the settings list what is seen, what they leave out may be meant.
        let (code, remedy) = if spec.workloads.mesh_hosts.is_none() {
            let remedy = "list it in workloads.meshHosts with the others, or list those without it";
            (ClusterFindingCode::OutOfScope, remedy)
        } else {
            let remedy = "nothing if nobody calls it; else list it in workloads.meshHosts";
            (ClusterFindingCode::LeftOut, remedy)
        };
        found.push(trouble(
            code,
            "its Services are in the mesh, and sidecars of enforced namespaces would not see them: \
             their calls there lose mTLS or go to the gateway, and are refused"
                .to_owned(),
            remedy,
        ));
    }
    found
}

fn judge(
    install: &Install,
    namespace: &Value,
    tags: &BTreeMap<&str, &str>,
) -> Vec<(ClusterFindingCode, String, &'static str)> {
    let mut found = Vec::new();
    let label = |key| entry(namespace, "labels", key);
    if label("istio.io/dataplane-mode") == Some("ambient") {
        found.push((ClusterFindingCode::Ambient, AMBIENT.to_owned(), NO_AMBIENT));
    }
    let named = match (label("istio-injection"), label("istio.io/rev")) {
        (Some("enabled"), _) => Some("default"),
        (Some(_), _) => None,
        (None, revision) => revision,
    };
    let Some(named) = named else {
        found.push((
            ClusterFindingCode::NotInjected,
            "its labels give new pods no sidecar, and a pod without one has no way out".to_owned(),
            "label it istio-injection=enabled, or istio.io/rev=REVISION",
        ));
        return found;
    };
    let revision = tags.get(named).copied().unwrap_or(named);
    if let Some(wanted) = &install.spec.istio.revision
        && revision != wanted
    {
        found.push((
            ClusterFindingCode::Revision,
            format!(
                "its pods are under revision `{revision}`, which reads no object of revision \
                 `{wanted}`: they would not go to the gateway"
            ),
            "label it with spec.istio.revision; if its label is a tag, give the \
             mutatingwebhookconfigurations beside the namespaces",
        ));
    }
    found
}

/// Revision tags are webhook configurations with these two labels, by which `istioctl tag list`
/// finds them too.
fn tags(objects: &[Value]) -> BTreeMap<&str, &str> {
    objects
        .iter()
        .filter(|object| text(object, "/kind") == "MutatingWebhookConfiguration")
        .filter_map(|object| {
            let tag = entry(object, "labels", "istio.io/tag")?;
            Some((tag, entry(object, "labels", "istio.io/rev")?))
        })
        .collect()
}
