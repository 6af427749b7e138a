//! Reading `policies`, in a configuration or in a module's image.

use super::inspection::InspectionProxy;
use crate::decode::{each, shape};
use crate::defect::{At, Defects};
use crate::policy_set::{PolicySet, PolicySetBuilder};
use crate::settings::Settings;
use crate::tree::{Json, Shape};

/// An empty list is a configuration of its own: no policy, so everything is denied.
pub(crate) fn read_policies(
    node: &Json<'_>,
    at: &At<'_>,
    defects: &mut Defects,
    settings: Settings,
    inspection: &[InspectionProxy],
) -> Option<PolicySet> {
    let mut builder =
        PolicySetBuilder::new(settings, inspection.iter().map(|proxy| proxy.name.clone()));
    match shape(node, at, defects)? {
        Shape::List(documents) if documents.is_empty() => {}
        _ => each(node, at, defects, |node, at, defects| {
            builder.read(node, at, defects);
        }),
    }
    defects.is_empty().then(|| builder.finish())
}
