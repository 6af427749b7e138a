//! Install settings, read as the renderer reads them.

use egress_analysis::Diagnostic;
use egress_analysis::document::Node;
use egress_analysis::schema;
use egress_analysis::settings::{ClusterNetworks, Grant, InstallSettings, old_spellings};
use egress_render::{Install, RenderError};

/// What a bundle takes from the settings.
///
/// # Errors
/// Everything that is wrong with them, where it stands.
pub(crate) fn read(document: Node<'_>) -> Result<InstallSettings, Vec<Diagnostic>> {
    let install = decode(document)?;
    let wrong = install.check();
    if !wrong.is_empty() {
        return Err(wrong
            .iter()
            .map(|error| diagnostic(document, error))
            .collect());
    }
    let spec = &install.spec;
    let entries = at(document, "spec.policies");
    let mut entries = entries.into_iter().flat_map(Node::items);
    let grants = spec.policies.iter().map(|grant| Grant {
        name: grant.name.clone(),
        namespaces: grant.namespaces.clone(),
        location: entries.next().unwrap_or(document).into(),
    });
    let policies = grants.collect();
    let stated = at(document, "spec.cluster.networks").zip(spec.cluster.networks.as_ref());
    let cluster = stated.map(|(node, networks)| ClusterNetworks {
        networks: networks.all(),
        location: node.into(),
        too_wide: networks
            .warnings()
            .iter()
            .map(|warning| (warning.path().to_owned(), warning.message().to_owned()))
            .collect(),
    });
    Ok(InstallSettings {
        origin: document.source().name().to_owned(),
        policies,
        inspection: spec.inspection.iter().map(|one| one.name.clone()).collect(),
        protocols: spec.gateway.protocols.stated(),
        cluster,
    })
}

/// The settings themselves, not yet checked against each other.
///
/// # Errors
/// What is wrong with their form, where it stands.
pub(crate) fn decode(document: Node<'_>) -> Result<Install, Vec<Diagnostic>> {
    let old = old_spellings(document);
    if !old.is_empty() {
        return Err(old);
    }
    let form = Install::schema();
    let wrong = schema::check(document, &form);
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let value = schema::value(document, &form);
    let value = value.map_err(|message| vec![located(document, "", message)])?;
    Install::decode(value).map_err(|error| vec![diagnostic(document, &error)])
}

/// What is wrong with the settings, at the part that it is about.
fn diagnostic(document: Node<'_>, error: &RenderError) -> Diagnostic {
    located(document, error.path(), error.message().to_owned())
}

fn located(document: Node<'_>, path: &str, message: String) -> Diagnostic {
    let mut diagnostic = Diagnostic::error("install", nearest(document, path), message, None);
    path.clone_into(&mut diagnostic.path);
    diagnostic
}

/// The node at `a.b[2].c`.
fn at<'d>(document: Node<'d>, path: &str) -> Option<Node<'d>> {
    steps(path).try_fold(document, step)
}

/// The node at a path, or the last one on the way there.
pub(crate) fn nearest<'d>(document: Node<'d>, path: &str) -> Node<'d> {
    let mut node = document;
    for one in steps(path) {
        match step(node, one) {
            Some(next) => node = next,
            None => break,
        }
    }
    node
}

fn steps(path: &str) -> impl Iterator<Item = &str> {
    path.split(['.', '[', ']']).filter(|one| !one.is_empty())
}

fn step<'d>(node: Node<'d>, one: &str) -> Option<Node<'d>> {
    match one.parse() {
        Ok(index) => node.items().nth(index),
        Err(_) => node.field(one),
    }
}
