//! `spec.guardrails`: entries that go into expressions.

use super::words::is_image;
use crate::error::RenderError;
use crate::install::Guardrails;

pub(super) fn check(guardrails: &Guardrails, problems: &mut Vec<RenderError>) {
    let images = &guardrails.proxy_images;
    if images.is_empty() || !images.iter().all(|image| is_image(image)) {
        problems.push(RenderError::new(
            "spec.guardrails.proxyImages",
            "expected images as `REGISTRY/NAME`, in full, without tag and digest",
        ));
    }
    for (place, list) in [
        (
            "spec.guardrails.endpointWriters",
            &guardrails.endpoint_writers,
        ),
        ("spec.guardrails.csiDrivers", &guardrails.csi_drivers),
        (
            "spec.guardrails.imageRegistries",
            &guardrails.image_registries,
        ),
        ("spec.guardrails.jwksUris", &guardrails.jwks_uris),
    ] {
        for entry in list {
            let plain = |byte: u8| byte.is_ascii_graphic() && !b"'\"\\".contains(&byte);
            if entry.is_empty() || entry.ends_with('/') || !entry.bytes().all(plain) {
                let message = format!("`{entry}` is none: letters, digits and signs, no quotes");
                problems.push(RenderError::new(place, message));
            }
        }
    }
    let registries = guardrails.image_registries.iter();
    for entry in registries.filter(|entry| !entry.contains(['.', ':', '/'])) {
        let message = format!("`{entry}` is no registry: state its host name");
        problems.push(RenderError::new("spec.guardrails.imageRegistries", message));
    }
    for entry in &guardrails.jwks_uris {
        if !entry.starts_with("https://") {
            let message = format!("`{entry}` is no https address");
            problems.push(RenderError::new("spec.guardrails.jwksUris", message));
        }
    }
}
