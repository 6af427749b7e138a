//! Whether what a cluster already has keeps its way out once the rendered objects are there:
//! namespaces whose pods would get no sidecar, and pods that would lose their outside traffic or
//! not be let in again.

mod namespace;
mod pod;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::Health;
use crate::error::RenderError;
use crate::guardrails::{self, admission::Admission};
use crate::install::Install;

pub use crate::adopt::read;

/// Something about a namespace or a pod by which it loses its way out, or goes past the gateway.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(into = "WrittenFinding")]
pub struct ClusterFinding {
    /// Its kind.
    pub kind: ObjectKind,
    /// A pod's namespace; empty for a namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The machine's word.
    pub code: ClusterFindingCode,
    /// What would happen.
    pub message: String,
    /// What to do about it.
    pub remedy: &'static str,
}

/// A kind of object that a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[schemars(inline)]
pub enum ObjectKind {
    /// A namespace.
    Namespace,
    /// A pod.
    Pod,
}

impl ObjectKind {
    /// The word in a manifest.
    const fn word(self) -> &'static str {
        match self {
            Self::Namespace => "Namespace",
            Self::Pod => "Pod",
        }
    }
}

/// Something that loses its way out, or goes past the gateway.
#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
pub struct WrittenFinding {
    /// Its kind.
    kind: ObjectKind,
    /// A pod's namespace; empty for a namespace.
    namespace: String,
    /// Its name.
    name: String,
    /// A stable word.
    code: ClusterFindingCode,
    /// Whether it is a reason to stop.
    health: Health,
    /// What would happen.
    message: String,
    /// What to do about it.
    remedy: &'static str,
}

impl From<ClusterFinding> for WrittenFinding {
    fn from(finding: ClusterFinding) -> Self {
        Self {
            health: finding.code.health(),
            kind: finding.kind,
            namespace: finding.namespace,
            name: finding.name,
            code: finding.code,
            message: finding.message,
            remedy: finding.remedy,
        }
    }
}

impl ClusterFinding {
    /// `KIND NAMESPACE/NAME`.
    #[must_use]
    pub fn object(&self) -> String {
        if self.namespace.is_empty() {
            format!("{} {}", self.kind.word(), self.name)
        } else {
            format!("{} {}/{}", self.kind.word(), self.namespace, self.name)
        }
    }
}

/// Kinds of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(into = "&'static str")]
#[schemars(inline, with = "String", extend("enum" = Self::ALL.map(Self::word)))]
pub enum ClusterFindingCode {
    /// In ambient mode, where nothing rendered holds but the guards.
    Ambient,
    /// An enforced namespace that is not among those that were given.
    NoNamespace,
    /// A namespace where pods get no sidecar.
    NotInjected,
    /// Under another revision of the control plane than the rendered objects.
    Revision,
    /// A pod without a sidecar.
    NoSidecar,
    /// Init containers that run before the sidecar.
    InitBeforeSidecar,
    /// A pod that the rendered admission policy refuses.
    Refused,
    /// A namespace of the mesh that the sidecars of enforced ones would not see any more.
    OutOfScope,
    /// The same where the settings say so themselves.
    LeftOut,
    /// A namespace whose Services have outside names.
    LikeADomain,
    /// A pod of the gateway whose proxy is older than what is rendered is for.
    OldProxy,
}

impl ClusterFindingCode {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Ambient,
        Self::NoNamespace,
        Self::NotInjected,
        Self::Revision,
        Self::NoSidecar,
        Self::InitBeforeSidecar,
        Self::Refused,
        Self::OutOfScope,
        Self::LeftOut,
        Self::LikeADomain,
        Self::OldProxy,
    ];

    /// How it stands: what may be meant is worth knowing, and no reason to stop.
    #[must_use]
    pub const fn health(self) -> Health {
        match self {
            Self::LeftOut => Health::Advice,
            _ => Health::Bad,
        }
    }

    /// The word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ambient => "ambient",
            Self::NoNamespace => "no_namespace",
            Self::NotInjected => "not_injected",
            Self::Revision => "revision",
            Self::NoSidecar => "no_sidecar",
            Self::InitBeforeSidecar => "init_before_sidecar",
            Self::Refused => "refused",
            Self::OutOfScope => "out_of_scope",
            Self::LeftOut => "left_out",
            Self::LikeADomain => "like_a_domain",
            Self::OldProxy => "old_proxy",
        }
    }
}

impl From<ClusterFindingCode> for &'static str {
    fn from(code: ClusterFindingCode) -> Self {
        code.word()
    }
}

impl ClusterFindingCode {
    /// What it means, for the reference page.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Ambient => {
                "The namespace or pod is in ambient mode. What it sends outside is dropped."
            }
            Self::NoNamespace => "An enforced namespace is missing from the given objects.",
            Self::NotInjected => "The namespace's labels give new pods no sidecar.",
            Self::Revision => {
                "The namespace or sidecar belongs to another revision than `istio.revision`, which does not read the rendered objects. Tags are resolved by the given webhook configurations."
            }
            Self::NoSidecar => "The pod has no sidecar. What it sends outside is dropped.",
            Self::InitBeforeSidecar => {
                "Init containers run before the sidecar. What they send outside is dropped. Init containers after a native sidecar are not listed."
            }
            Self::Refused => {
                "The rendered admission policies refuse the pod when it is created again. Each reason is listed."
            }
            Self::OutOfScope => {
                "Enforced sidecars would no longer see this namespace of the mesh. Their calls to its Services lose mTLS or go to the gateway."
            }
            Self::LeftOut => {
                "As `out_of_scope`, but `workloads.meshHosts` leaves the namespace out explicitly. This is advice and does not affect the exit code."
            }
            Self::LikeADomain => {
                "The namespace has the name of a top-level domain. Its Service `web` answers for `web.NAMESPACE`."
            }
            Self::OldProxy => {
                "The image of the gateway pod's proxy is older than `istio.version`. The pod has no listener."
            }
        }
    }

    /// What to do about it, for the reference page.
    #[must_use]
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::Ambient => {
                "Remove the label `istio.io/dataplane-mode` and use sidecars, or remove the namespace from `workloads.namespaces`."
            }
            Self::NoNamespace => "Create the namespace, or give all namespaces to the command.",
            Self::NotInjected => "Enable injection for the namespace.",
            Self::Revision => {
                "Label the namespace with the revision and restart its pods, or use install settings for its revision."
            }
            Self::NoSidecar => "Enable injection for the pod and restart it.",
            Self::InitBeforeSidecar => {
                "Use native sidecars, or move what needs the outside into the application."
            }
            Self::Refused => "Change the pod's template, or list what it needs in `guardrails`.",
            Self::OutOfScope => "List the namespaces that are called in `workloads.meshHosts`.",
            Self::LeftOut => {
                "Nothing if no enforced workload calls it. Else list it in `workloads.meshHosts`."
            }
            Self::LikeADomain => {
                "Leave it out of `workloads.meshHosts`, or list it in `guardrails.topLevelNamespaces`."
            }
            Self::OldProxy => "Restart the gateway's pods with a newer proxy first.",
        }
    }
}

/// What was looked at, and the trouble with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Looked {
    /// How many of the enforced namespaces, or of their pods.
    pub count: usize,
    /// The trouble, sorted by object.
    pub troubles: Vec<ClusterFinding>,
}

/// Checks the enforced namespaces among these objects, and what others would be to them. Webhook configurations that stand beside
/// them say which revision a tag is of.
#[must_use]
pub fn namespaces(install: &Install, objects: &[Value]) -> Looked {
    namespace::look(install, objects)
}

/// Checks the pods of enforced namespaces among these objects, and of the gateway's the version of
/// their proxy as far as its image says one. Pods that have ended are passed over: nothing of them
/// runs again.
///
/// # Errors
/// If the rendered admission policy cannot be read.
pub fn pods(install: &Install, objects: &[Value]) -> Result<Looked, RenderError> {
    let admission = Admission::new(guardrails::pods(install).manifest())?;
    Ok(pod::look(install, &admission, objects))
}

fn text<'v>(object: &'v Value, pointer: &str) -> &'v str {
    let found = object.pointer(pointer).and_then(Value::as_str);
    found.unwrap_or_default()
}

/// A label or an annotation.
fn entry<'v>(object: &'v Value, map: &str, key: &str) -> Option<&'v str> {
    object.pointer("/metadata")?.get(map)?.get(key)?.as_str()
}

const AMBIENT: &str = "ambient mode has no way to the gateway: what it sends outside is dropped";
const NO_AMBIENT: &str = "take the label istio.io/dataplane-mode away and use sidecars, or take the \
                          namespace out of spec.workloads.namespaces";

#[cfg(test)]
mod tests;
