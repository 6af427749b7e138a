//! Install settings, read as the renderer reads them.

use std::sync::Arc;

use egress_analysis::document::{Node, Target};
use egress_analysis::schema;
use egress_analysis::settings::{
    ClusterNetworks, EnforcedNamespaces, Grant, InstallSettings, old_spellings,
};
use egress_analysis::{Diagnostic, Location};
use egress_policy::defect::FieldPath;
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
    let grants = spec.policies.iter().enumerate().map(|(i, grant)| Grant {
        name: grant.name.clone(),
        namespaces: grant.namespaces.clone(),
        location: location(document, &format!("spec.policies[{i}]")),
    });
    let policies = grants.collect();
    let networks = spec.cluster.networks.as_ref();
    let cluster = networks.map(|networks| ClusterNetworks {
        networks: networks.all(),
        location: location(document, "spec.cluster.networks"),
        too_wide: networks
            .warnings()
            .iter()
            .map(|warning| (warning.path().to_owned(), warning.message().to_owned()))
            .collect(),
    });
    let enforced = spec.workloads.namespaces.iter().enumerate();
    let enforced = enforced.map(|(i, name)| {
        let path = format!("spec.workloads.namespaces[{i}]");
        (name.clone(), location(document, &path))
    });
    let enforced = EnforcedNamespaces {
        names: enforced.collect(),
        of_mesh: vec![
            spec.cluster.istio_namespace.clone(),
            spec.gateway.namespace.clone(),
        ],
    };
    Ok(InstallSettings {
        enforced: Some(enforced),
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
    let mut diagnostic = Diagnostic::error("install", location(document, path), message, None);
    path.clone_into(&mut diagnostic.path);
    diagnostic
}

/// Where a setting stands, or as much of the way to it as is there.
pub(crate) fn location(document: Node<'_>, path: &str) -> Location {
    let (source, span) = document.resolve(&FieldPath::read(path), Target::Value);
    Location {
        source: Arc::clone(source),
        span,
    }
}
