//! Tables of admission cases: objects, and what a policy says to them. This crate's tests judge them
//! by an implementation of CEL, those on a cluster hand them to an API server.

use serde::Deserialize;
use serde_json::Value;

use crate::error::RenderError;
use crate::install::Install;
use crate::prepared::render;

const INSTALL: &str = include_str!("../../../istio/reference/install.yaml");
const POLICY: &str = include_str!("../../../cases/policies/reference.yaml");
pub(super) const NODE_GUARD: &str = include_str!("../../../cni/deploy/admission.yaml");

/// Every table, by the name of its file.
const TABLES: [(&str, &str); 11] = [
    ("bindings", include_str!("tests/bindings.yaml")),
    ("cni-agent", include_str!("tests/cni-agent.yaml")),
    ("cni-pods", include_str!("tests/cni-pods.yaml")),
    ("istio", include_str!("tests/istio.yaml")),
    ("names", include_str!("tests/names.yaml")),
    ("names-routes", include_str!("tests/names-routes.yaml")),
    ("namespaces", include_str!("tests/namespaces.yaml")),
    ("pods", include_str!("tests/pods.yaml")),
    ("pods-node", include_str!("tests/pods-node.yaml")),
    ("services", include_str!("tests/services.yaml")),
    ("sidecars", include_str!("tests/sidecars.yaml")),
];

/// What is asked for, and what the policies say.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// The name of its file.
    #[serde(skip)]
    pub name: String,
    /// The admission policies that it is about, by name: rendered ones, and the node guard's.
    pub policies: Vec<String>,
    /// What is set beside the reference case's install settings.
    #[serde(default)]
    settings: Value,
    /// What every object has unless it says otherwise.
    #[serde(default)]
    defaults: Value,
    /// Parts that the rows name.
    #[serde(default, rename = "parts")]
    _parts: Value,
    /// The rows.
    pub cases: Vec<Row>,
}

/// One request, and its answer.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// What it is about.
    pub case: String,
    /// The object that is asked for.
    pub object: Value,
    /// The object that is there before; null where one is made.
    #[serde(default)]
    pub before: Value,
    /// Who asks.
    #[serde(default)]
    pub user: String,
    /// The node that the user's token is bound to.
    #[serde(default)]
    pub node: Option<String>,
    /// Whether the user may change the admission policies themselves.
    #[serde(default)]
    pub admin: bool,
    /// Messages in the order of the policy. One whose expression cannot be evaluated is refused
    /// too, and begins with `cannot be evaluated: `.
    #[serde(default)]
    pub refused: Vec<String>,
    /// Set where an API server does not take the object at all, whatever a policy says: a part of its
    /// answer.
    #[serde(default)]
    pub invalid: Option<String>,
}

/// An admission policy and where it holds.
#[derive(Clone, Debug)]
pub struct Bound {
    /// The `ValidatingAdmissionPolicy`.
    pub policy: Value,
    /// Its `ValidatingAdmissionPolicyBinding`.
    pub binding: Value,
}

/// Every table.
///
/// # Errors
/// If one cannot be read.
pub fn all() -> Result<Vec<Table>, RenderError> {
    let tables = TABLES.iter();
    tables.map(|(name, text)| Table::read(name, text)).collect()
}

impl Table {
    fn read(name: &str, text: &str) -> Result<Self, RenderError> {
        let mut table: Self = serde_saphyr::from_str(text)
            .map_err(|error| RenderError::new(name, error.to_string()))?;
        name.clone_into(&mut table.name);
        for row in &mut table.cases {
            for object in [&mut row.object, &mut row.before] {
                if !object.is_null() {
                    *object = over(&table.defaults, object.take());
                }
            }
        }
        Ok(table)
    }

    /// The install settings that its rendered policies are made with.
    ///
    /// # Errors
    /// If the table sets what there is not.
    pub fn install(&self) -> Result<Install, RenderError> {
        let reference: Value = serde_saphyr::from_str(INSTALL)
            .map_err(|error| RenderError::new("install", error.to_string()))?;
        Install::decode(over(&reference, self.settings.clone()))
    }

    /// The policies that it is about.
    ///
    /// # Errors
    /// If there is none of a name.
    pub fn bound(&self) -> Result<Vec<Bound>, RenderError> {
        let failed = |error: serde_saphyr::Error| RenderError::new(&self.name, error.to_string());
        let policy: Value = serde_saphyr::from_str(POLICY).map_err(failed)?;
        let rendered = render(&self.install()?, &[policy]).map_err(|problems| {
            let problem = problems.into_iter().next();
            problem.unwrap_or_else(|| RenderError::new(&self.name, "it cannot be rendered"))
        })?;
        let mut objects: Vec<Value> = serde_saphyr::from_multiple(NODE_GUARD).map_err(failed)?;
        let manifests = rendered.objects().iter();
        objects.extend(manifests.map(|object| object.manifest().clone()));
        let find = |kind: &str, name: &str| {
            let is = |object: &&Value, pointer: &str, text: &str| {
                object.pointer(pointer).and_then(Value::as_str) == Some(text)
            };
            let mut found = objects
                .iter()
                .filter(|object| is(object, "/kind", kind) && is(object, "/metadata/name", name));
            let found = found.next().cloned();
            found.ok_or_else(|| RenderError::new(name, format!("there is no such {kind}")))
        };
        let bound = |name: &String| {
            Ok(Bound {
                policy: find("ValidatingAdmissionPolicy", name)?,
                binding: find("ValidatingAdmissionPolicyBinding", name)?,
            })
        };
        self.policies.iter().map(bound).collect()
    }
}

/// A value over another one: what it has not is the other's, field by field.
fn over(under: &Value, value: Value) -> Value {
    match (under, value) {
        (Value::Object(under), Value::Object(mut value)) => {
            for (key, under) in under {
                let own = value.remove(key).unwrap_or_default();
                value.insert(key.clone(), over(under, own));
            }
            Value::Object(value)
        }
        (under, Value::Null) => under.clone(),
        (_, value) => value,
    }
}
