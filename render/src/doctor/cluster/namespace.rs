//! Namespaces: who injects their pods, if anybody does.
//!
//! The labels are read as Istio's webhooks select by them (`istio-discovery`'s
//! `mutatingwebhook.yaml` and `revision-tags.yaml`): `istio-injection` where it is set at all, whatever
//! `istio.io/rev` says beside it; `enabled` is the revision that is tagged `default`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{AMBIENT, Code, Looked, NO_AMBIENT, Trouble, entry, text};
use crate::install::Install;

pub(super) fn look(install: &Install, objects: &[Value]) -> Looked {
    let tags = tags(objects);
    let mut looked = Looked::default();
    for enforced in &install.spec.workloads.namespaces {
        let found = objects.iter().find(|object| {
            text(object, "/kind") == "Namespace" && text(object, "/metadata/name") == enforced
        });
        let trouble = |(code, message, remedy): (Code, String, &'static str)| Trouble {
            kind: "Namespace",
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
                Code::NoNamespace,
                "it is enforced and not among the namespaces that were given".to_owned(),
                "make it before its objects are applied, or give all namespaces",
            ))),
        }
    }
    looked.troubles.sort();
    looked
}

fn judge(
    install: &Install,
    namespace: &Value,
    tags: &BTreeMap<&str, &str>,
) -> Vec<(Code, String, &'static str)> {
    let mut found = Vec::new();
    let label = |key| entry(namespace, "labels", key);
    if label("istio.io/dataplane-mode") == Some("ambient") {
        found.push((Code::Ambient, AMBIENT.to_owned(), NO_AMBIENT));
    }
    let named = match (label("istio-injection"), label("istio.io/rev")) {
        (Some("enabled"), _) => Some("default"),
        (Some(_), _) => None,
        (None, revision) => revision,
    };
    let Some(named) = named else {
        found.push((
            Code::NotInjected,
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
            Code::Revision,
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
