//! The configuration of an instance that judges nothing: it tells a probe whether the instances
//! that do have their policies.

use crate::canonical::is_digest;
use crate::decode::{Fields, each, text};
use crate::defect::{At, DefectKind, Defects};
use crate::read::object_name;
use crate::tree::Json;

/// What a probe waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// The hash of the policies that every place is to have.
    pub policy_hash: String,
    /// The names of the places.
    pub places: Vec<String>,
}

pub(super) fn read(
    mut fields: Fields<'_, Json<'_>>,
    at: &At<'_>,
    defects: &mut Defects,
) -> Option<Readiness> {
    let hash = fields.required("policyHash", at, defects, read_hash);
    let mut places = Vec::new();
    // An empty list is a defect to `each`: it would wait for nothing.
    if let Some(node) = fields.require("places", at, defects) {
        each(&node, &at.field("places"), defects, |node, at, defects| {
            places.extend(object_name(node, at, defects));
        });
    }
    fields.finish(at, defects);
    Some(Readiness {
        policy_hash: hash?,
        places,
    })
}

fn read_hash(node: &Json<'_>, at: &At<'_>, defects: &mut Defects) -> Option<String> {
    let hash = text(node, at, defects)?;
    if !is_digest(&hash) {
        let message = "expected 64 hexadecimal digits in lower case";
        defects.add(DefectKind::BadValue, at, message, None);
        return None;
    }
    Some(hash)
}
