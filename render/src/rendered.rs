//! Everything that one rendering applies.

use std::collections::BTreeSet;

use crate::error::RenderError;
use crate::install::Install;
use crate::module::{Module, PluginSite};
use crate::object::{CLASS_OBJECT, LARGEST, Object, canonical, stamp, written};
use crate::removal;

/// Everything that one rendering applies, in order.
#[derive(Clone, Debug, PartialEq)]
pub struct Rendered {
    objects: Vec<Object>,
    policy_hash: String,
    /// Bytes of the module's configuration in every push to a gateway pod.
    push: usize,
    carried: bool,
}

impl Rendered {
    pub(crate) fn new(
        install: &Install,
        module: &Module,
        mut objects: Vec<Object>,
    ) -> Result<Self, Vec<RenderError>> {
        for object in &mut objects {
            stamp(&mut object.manifest, install, module.policy_hash());
            object.written = written(object.file_name(), &canonical(&object.manifest))?;
        }
        objects.sort_by(|a, b| a.key().cmp(&b.key()));
        Ok(Self {
            objects,
            policy_hash: module.policy_hash().to_owned(),
            push: PluginSite::ALL
                .map(|place| module.text(place).len())
                .iter()
                .sum(),
            carried: module.is_carried(),
        })
    }

    /// The objects, in the order in which they are applied.
    #[must_use]
    pub fn objects(&self) -> &[Object] {
        &self.objects
    }

    /// SHA-256 of the policies, as the gateway reports it.
    #[must_use]
    pub fn policy_hash(&self) -> &str {
        &self.policy_hash
    }

    /// All objects as one YAML stream.
    #[must_use]
    pub fn yaml(&self) -> String {
        let texts: Vec<_> = self.objects.iter().map(Object::yaml).collect();
        texts.join("---\n")
    }

    /// What to remove to take everything back, and in which order: routes first, the lock and the
    /// guards last. One [`removal::line`] per line.
    #[must_use]
    pub fn prune_list(&self) -> Vec<String> {
        let all = self.objects.iter().map(Object::manifest);
        removal::between(all, std::iter::empty())
    }

    /// Every object's file name and its size, the largest first. Client-side `kubectl apply` refuses
    /// objects above 256 KiB.
    #[must_use]
    pub fn sizes(&self) -> Vec<(String, usize)> {
        let mut sizes: Vec<_> = self
            .objects
            .iter()
            .map(|object| (object.file_name(), object.size()))
            .collect();
        sizes.sort_by(|(a, left), (b, right)| right.cmp(left).then(a.cmp(b)));
        sizes
    }

    /// Bytes of the module's configuration that Istio sends to a gateway pod at once: one for each
    /// place where the module stands.
    #[must_use]
    pub fn push(&self) -> usize {
        self.push
    }

    /// How many address classes have an object.
    pub(crate) fn classes(&self) -> usize {
        let names = self.objects.iter().map(Object::name);
        names.filter(|name| name.starts_with(CLASS_OBJECT)).count()
    }

    /// Whether the objects only name the policies, which are in the module's image.
    #[must_use]
    pub fn is_carried(&self) -> bool {
        self.carried
    }

    /// Two objects of one kind, namespace and name: the later one would replace the other, on the
    /// disk and in the cluster.
    pub(crate) fn check_names(&self) -> Result<(), Vec<RenderError>> {
        let mut seen = BTreeSet::new();
        let names = self.objects.iter().map(Object::file_name);
        let twice = names.filter(|name| !seen.insert(name.clone()));
        let problems: Vec<_> = twice
            .map(|name| {
                let message = "two objects would have this kind, namespace and name: rename a \
                               policy, tier, rule or proxy";
                RenderError::new(name, message)
            })
            .collect();
        none(problems)
    }

    /// What the API server would refuse.
    pub(crate) fn check_sizes(&self) -> Result<(), Vec<RenderError>> {
        let large = self.sizes().into_iter().filter(|(_, size)| *size > LARGEST);
        let problems: Vec<_> = large
            .map(|(name, size)| {
                let message = format!(
                    "{} KiB, and an object takes {} KiB: put the policies into the module's image \
                     with `warden package`",
                    size / 1024,
                    LARGEST / 1024
                );
                RenderError::new(name, message)
            })
            .collect();
        none(problems)
    }
}

fn none(problems: Vec<RenderError>) -> Result<(), Vec<RenderError>> {
    if problems.is_empty() {
        Ok(())
    } else {
        Err(problems)
    }
}
