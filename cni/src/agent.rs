//! The node agent: keeps the node guard what it should be while pods run.
//!
//! One pass ([`Agent::pass`]) compares everything with everything and repairs what differs:
//! the plugin's place on the node, the configuration, the rules, what Services and pods are,
//! pods that were running before the plugin came. Passes come whenever something rings and
//! every few seconds anyway. The node is ready, and loses its taint, only when a canary's
//! forbidden packet has been counted by this kernel.

pub mod canary;
pub mod cluster;
pub mod exporter;
mod extra_interfaces;
pub mod flow;
pub mod install;
pub mod metrics;
pub mod nflog;
pub mod recover_running;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::attachment::{GuardMode, PodIdentity};
use crate::config::NodeConfig;
use crate::guard::{Guard, GuardError};
use crate::link;
use crate::nft::NftError;
use crate::rules::{self, Counted, ElementKey, ServiceEndpoints};
use crate::store::{Locked, Record, Store, StoreError};
use canary::{Canary, CanaryError};
use cluster::{Cluster, ClusterError, PodView};
use install::{InstallError, NodePaths};
use metrics::{Metrics, PodName};

/// How long a proof by the canary is good for.
const PROOF_LIFE: Duration = Duration::from_mins(5);

/// Between two events about the same pod.
pub const EVENT_INTERVAL: Duration = Duration::from_mins(1);

/// Why the node is not ready.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The configuration was refused; the one before stays in force.
    #[error("configuration: {0}")]
    Config(#[from] crate::config::ConfigError),
    /// The plugin is not in its place.
    #[error("installation: {0}")]
    Install(#[from] InstallError),
    /// Records or rules could not be read or written.
    #[error("node guard: {0}")]
    Guard(#[from] GuardError),
    /// The API server could not be asked; what was known stays in force.
    #[error("API server: {0}")]
    Cluster(#[from] ClusterError),
    /// The node guard did not prove itself.
    #[error("canary: {0}")]
    Canary(#[from] CanaryError),
}

impl From<StoreError> for AgentError {
    fn from(error: StoreError) -> Self {
        Self::Guard(error.into())
    }
}

impl From<NftError> for AgentError {
    fn from(error: NftError) -> Self {
        Self::Guard(error.into())
    }
}

/// Where the agent finds what it works on.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The configuration as the administrator wrote it (a mounted `ConfigMap`).
    pub config_source: PathBuf,
    /// Where the plugin reads it.
    pub config_file: PathBuf,
    /// The runtime's cache of results, usually `/var/lib/cni/results`.
    pub results_dir: PathBuf,
    /// The plugin's place.
    pub paths: NodePaths,
}

/// The agent of one node.
pub struct Agent<C> {
    settings: Settings,
    guard: Guard,
    cluster: C,
    metrics: Arc<Metrics>,
    loaded: Option<(NodeConfig, ServiceEndpoints)>,
    proven: Option<Instant>,
    /// When a pod's interface beyond the node guard was last reported.
    told: BTreeMap<PodName, Instant>,
}

impl<C: Cluster> Agent<C> {
    /// An agent that has done nothing yet.
    pub fn new(settings: Settings, guard: Guard, cluster: C, metrics: Arc<Metrics>) -> Self {
        Self {
            settings,
            guard,
            cluster,
            metrics,
            loaded: None,
            proven: None,
            told: BTreeMap::new(),
        }
    }

    /// One pass. Each step is tried whatever became of the others, so that a broken one does
    /// not keep the rest from being repaired. Returns why the node is not ready; ready if
    /// empty. The taint is set accordingly.
    pub fn pass(&mut self) -> Vec<AgentError> {
        let mut errors = Vec::new();
        match self.read_config() {
            Ok(config) => {
                errors.extend(self.keep(&config).err());
                errors.extend(self.settings.paths.ensure().err().map(AgentError::from));
                if errors.is_empty() {
                    errors.extend(self.prove().err());
                }
            }
            Err(error) => errors.push(error),
        }
        errors.extend(self.export().err());
        self.metrics.ready.set(i64::from(errors.is_empty()));
        errors.extend(
            self.cluster
                .set_tainted(!errors.is_empty())
                .err()
                .map(AgentError::from),
        );
        errors
    }

    /// The agent's view of the API server.
    pub fn cluster(&self) -> &C {
        &self.cluster
    }

    /// Takes a good new configuration over to where the plugin reads it; a bad one never
    /// replaces a good one.
    fn read_config(&self) -> Result<NodeConfig, AgentError> {
        let loaded = NodeConfig::load_text(&self.settings.config_source);
        self.metrics.config_rejected.set(i64::from(loaded.is_err()));
        match loaded {
            Ok((config, text)) => {
                let text = text.as_bytes();
                if std::fs::read(&self.settings.config_file).ok().as_deref() != Some(text) {
                    install::replace(&self.settings.config_file, text, 0o600)?;
                }
                Ok(config)
            }
            Err(error) => match NodeConfig::load(&self.settings.config_file) {
                Ok(config) => {
                    // The node stays guarded as before; that the new file was refused shows
                    // in the metric and on the agent's standard error.
                    eprintln!("egress-warden-cni-agent: {error}; the configuration in force stays");
                    Ok(config)
                }
                Err(_) => Err(error.into()),
            },
        }
    }

    /// Rules, destinations, identities, records: as they should be.
    fn keep(&mut self, config: &NodeConfig) -> Result<(), AgentError> {
        // Records first: what the API server says afterwards is at least as new as they are.
        let known = self.guard.store().all()?;
        let interfaces = self.find_interfaces(&known);
        let asked = self.ask(config);
        let followed = match &asked {
            Ok((followed, _)) => followed.clone(),
            Err(_) => self.guard.store().followed()?,
        };
        let locked = self.guard.store().lock()?;
        self.keep_rules(&locked, config, &followed)?;
        for record in recover_running::running(&self.settings.results_dir, &self.guard)? {
            self.guard.admit(&locked, config, record)?;
        }
        let pods = asked.as_ref().ok().map(|(_, pods)| pods.as_slice());
        self.keep_identities(&locked, config, &known, pods)?;
        self.keep_interfaces(&locked, config, interfaces)?;
        self.forget_vanished(&locked)?;
        self.keep_elements(&locked, config)?;
        asked.map(drop)
    }

    fn ask(&self, config: &NodeConfig) -> Result<(ServiceEndpoints, Vec<PodView>), AgentError> {
        let mut followed = ServiceEndpoints::default();
        for service in config.dns.services.iter().chain(&config.reach_services) {
            followed.reach.extend(self.cluster.endpoints(service)?);
        }
        if let Some(gateway) = &config.gateway {
            for service in &gateway.services {
                followed.gateway.extend(
                    self.cluster
                        .endpoints(service)?
                        .iter()
                        .map(|endpoint| endpoint.address),
                );
            }
            for service in config.dns.services.iter().chain(&gateway.reach_services) {
                followed
                    .gateway_reach
                    .extend(self.cluster.endpoints(service)?);
            }
        }
        Ok((followed, self.cluster.pods()?))
    }

    fn keep_rules(
        &mut self,
        locked: &Locked,
        config: &NodeConfig,
        followed: &ServiceEndpoints,
    ) -> Result<(), AgentError> {
        let intact = match self.guard.tables_in_kernel() {
            Ok(tables) => tables == self.guard.store().baseline()?,
            Err(NftError::Missing(_)) => false,
            Err(error) => return Err(error.into()),
        };
        let current = self
            .loaded
            .as_ref()
            .is_some_and(|(loaded, known)| loaded == config && known == followed);
        if intact && current {
            return Ok(());
        }
        // An older version's sets, or none at all: everything anew.
        if let Err(error) = self.guard.refresh(locked, config, followed) {
            match error {
                GuardError::Nft(NftError::Refused(_) | NftError::Missing(_)) => {
                    self.guard.rebuild(locked, config)?;
                }
                GuardError::Nft(NftError::Run { .. }) | GuardError::Store(_) => {
                    return Err(error.into());
                }
            }
        }
        self.loaded = Some((config.clone(), followed.clone()));
        Ok(())
    }

    /// Applies what the API server says of pods (`None`: it did not answer, and what it said
    /// last stays), and UDP exceptions that the configuration added or took away.
    fn keep_identities(
        &self,
        locked: &Locked,
        config: &NodeConfig,
        known: &[Record],
        pods: Option<&[PodView]>,
    ) -> Result<(), AgentError> {
        let by_name: Option<BTreeMap<(&str, &str), &PodIdentity>> = pods.map(|pods| {
            pods.iter()
                .map(|pod| ((pod.namespace.as_str(), pod.name.as_str()), &pod.identity))
                .collect()
        });
        for before in known {
            let Some(record) = self.guard.store().get(&before.attachment.id)? else {
                continue;
            };
            let name = (
                record.attachment.namespace.as_str(),
                record.attachment.pod.as_str(),
            );
            let identity = match &by_name {
                // A pod that is no longer listed keeps nothing that was granted to it.
                Some(by_name) => by_name.get(&name).copied().cloned(),
                None => record.identity.clone(),
            };
            let mode = GuardMode::of(config, &record.attachment, identity.as_ref());
            if identity != record.identity || mode.udp() != record.grants {
                self.guard
                    .admit(locked, config, Record { identity, ..record })?;
            }
        }
        Ok(())
    }

    /// Forgets interfaces that are gone and whose DEL never came. A pod may delete its own
    /// interface, so as long as its network namespace is there it is looked into.
    fn forget_vanished(&self, locked: &Locked) -> Result<(), AgentError> {
        for record in self.guard.store().all()? {
            let inhabited = record.netns.as_ref().is_some_and(|path| path.exists());
            if !inhabited && !link::exists(&record.attachment.host_link) {
                self.guard.withdraw(locked, &record.attachment.id)?;
            }
        }
        Ok(())
    }

    /// Elements that somebody took or put there.
    fn keep_elements(&self, locked: &Locked, config: &NodeConfig) -> Result<(), AgentError> {
        let wanted = self.guard.elements_wanted(config)?;
        let present = self.guard.elements_in_kernel()?;
        let surplus: Vec<_> = present.difference(&wanted).cloned().collect();
        let missing: Vec<_> = wanted.difference(&present).cloned().collect();
        if surplus.is_empty() && missing.is_empty() {
            return Ok(());
        }
        let mut script = String::new();
        rules::delete(&mut script, &surplus);
        rules::add(&mut script, &missing);
        Ok(self.guard.apply(locked, &script)?)
    }

    fn prove(&mut self) -> Result<(), AgentError> {
        if self.proven.is_some_and(|at| at.elapsed() < PROOF_LIFE) {
            return Ok(());
        }
        self.proven = None;
        let proof = Canary::new(&self.settings.paths, &self.guard).and_then(Canary::prove);
        self.metrics.canary_counted.set(i64::from(proof.is_ok()));
        proof?;
        self.proven = Some(Instant::now());
        Ok(())
    }

    fn export(&self) -> Result<(), AgentError> {
        let records = self.guard.store().all()?;
        self.metrics.set_dropped(
            self.by_pod(&records, Counted::Refused)?,
            self.by_pod(&records, Counted::Limited)?,
        );
        let interfaces = i64::try_from(records.len()).unwrap_or(i64::MAX);
        self.metrics.pod_interfaces.set(interfaces);
        Ok(())
    }

    /// What the kernel counted of each pod.
    fn by_pod(
        &self,
        records: &[Record],
        counted: Counted,
    ) -> Result<BTreeMap<PodName, u64>, AgentError> {
        let counters = self.guard.counted_in_kernel(counted)?;
        let mut all: BTreeMap<PodName, u64> = BTreeMap::new();
        for record in records {
            let attachment = &record.attachment;
            let name = PodName {
                namespace: attachment.namespace.clone(),
                pod: attachment.pod.clone(),
            };
            let link = ElementKey::Link(attachment.host_link.clone());
            let addresses = attachment.addresses.iter().copied();
            let keys = addresses.map(ElementKey::Address).chain([link]);
            *all.entry(name).or_default() += keys.filter_map(|key| counters.get(&key)).sum::<u64>();
        }
        Ok(all)
    }
}

/// Tells the plugin what the API server says of the node's pods, so that each is treated by it from its
/// first packet. A pass would tell too late where it takes long: pods start meanwhile.
///
/// # Errors
/// [`StoreError::Io`].
pub fn tell_plugin(store: &Store, pods: &[PodView]) -> Result<(), StoreError> {
    let identities = pods.iter().map(|pod| &pod.identity);
    let expected: BTreeMap<_, _> = identities
        .filter(|identity| !identity.uid.is_empty())
        .map(|identity| (identity.uid.clone(), identity.clone()))
        .collect();
    // One that does not decode is written anew.
    if store.expected().ok().as_ref() == Some(&expected) {
        return Ok(());
    }
    store.set_expected(&expected)
}

/// Whose packet a refusal was: by the veth it came in on, else by the source address, which
/// is proven where the refusal is not about the source.
#[must_use]
pub fn attribute(records: &[Record], refusal: &nflog::Refusal) -> Option<PodName> {
    let link = refusal.interface.and_then(link::name_of);
    let by_link = |record: &&Record| link.as_ref() == Some(&record.attachment.host_link);
    let by_address = |record: &&Record| record.attachment.addresses.contains(&refusal.flow.source);
    let found = records.iter().find(by_link).or_else(|| {
        (refusal.reason == "destination")
            .then(|| records.iter().find(by_address))
            .flatten()
    })?;
    Some(PodName {
        namespace: found.attachment.namespace.clone(),
        pod: found.attachment.pod.clone(),
    })
}

/// Takes everything off the node: chain entry, executable, configuration, rules, records.
///
/// # Errors
/// [`AgentError`]; calling again continues.
pub fn uninstall(paths: &NodePaths, config_file: &Path, guard: Guard) -> Result<(), AgentError> {
    paths.remove()?;
    install::remove_file(config_file)?;
    Ok(guard.uninstall()?)
}
