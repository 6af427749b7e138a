//! Reading `inspection`: the inspection proxies that rules name.

use crate::decode::{Fields, list, text, unique};
use crate::defect::{At, Defects};
use crate::read::object_name;
use crate::tree::Node;

/// An inspection proxy, as the gateway reaches it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InspectionProxy {
    /// The name that rules use.
    pub name: String,
    /// The Envoy cluster that leads to it.
    pub cluster: String,
}

pub(crate) fn read_inspection<N: Node>(
    node: &N,
    at: &At<'_>,
    defects: &mut Defects,
) -> Vec<InspectionProxy> {
    let found = list(node, at, defects, |node, at, defects| {
        let mut fields = Fields::of(node, at, defects)?;
        let name = fields.required("name", at, defects, object_name);
        let cluster = fields.required("cluster", at, defects, text);
        fields.finish(at, defects);
        Some(InspectionProxy {
            name: name?,
            cluster: cluster?,
        })
    });
    let names: Vec<&str> = found.iter().map(|proxy| proxy.name.as_str()).collect();
    unique(&names, at, defects);
    found
}
