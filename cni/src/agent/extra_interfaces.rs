//! Interfaces of pods that no ADD of this plugin made: a second network, or the work of a
//! process with `NET_ADMIN`. A veth is guarded like the first; what cannot be guarded is refused.

use std::time::Instant;

use super::cluster::{AttemptEvent, Cluster};
use super::metrics::PodName;
use super::{Agent, AgentError, EVENT_INTERVAL};
use crate::attachment::{Attachment, AttachmentId, GuardMode, LinkName};
use crate::config::{Mode, NodeConfig};
use crate::link::{self, LinkError, PodInterface};
use crate::store::{Locked, Record, link_key};

/// What was found in the network namespace of a pod that has a record.
pub(super) struct Found {
    record: Record,
    interface: PodInterface,
}

impl<C: Cluster> Agent<C> {
    /// Looks into every pod. One that is on its way out is passed over; how many could not be
    /// looked into shows in a metric.
    pub(super) fn find_interfaces(&self, known: &[Record]) -> Vec<Found> {
        let (mut all, mut blind) = (Vec::new(), 0);
        for record in known {
            let Some(netns) = &record.netns else { continue };
            match link::pod_interfaces(netns) {
                Ok(interfaces) => all.extend(interfaces.into_iter().map(|interface| Found {
                    record: record.clone(),
                    interface,
                })),
                Err(LinkError::Io { source, .. })
                    if source.kind() == std::io::ErrorKind::NotFound => {}
                Err(_) => blind += 1,
            }
        }
        self.metrics.pods_not_examined.set(blind);
        all
    }

    /// Guards or refuses what was found.
    pub(super) fn keep_interfaces(
        &mut self,
        locked: &Locked,
        config: &NodeConfig,
        found: Vec<Found>,
    ) -> Result<(), AgentError> {
        let mut left = 0;
        for Found { record, interface } in found {
            match interface {
                PodInterface::Veth { host_link } => {
                    let attachment = unnamed(&record.attachment, host_link);
                    let link = link_key(&attachment);
                    let store = self.guard.store();
                    let known = store.get(&attachment.id)?.is_some()
                        || store.used_by_another(&attachment.id, &[&link])?;
                    if !known {
                        self.guard
                            .admit(locked, config, Record::new(attachment, None))?;
                    }
                }
                PodInterface::Beyond {
                    index,
                    ifname,
                    kind,
                } => {
                    let what = format!("interface {} ({kind})", ifname.escape_debug());
                    left += i64::from(!self.refuse(config, &record, index, &what));
                }
            }
        }
        self.metrics.interfaces_beyond_guard.set(left);
        self.told.retain(|_, at| at.elapsed() < EVENT_INTERVAL);
        Ok(())
    }

    /// Takes away an interface beyond the node guard, unless its pod is exempt or only counted.
    /// Returns whether nothing is left to complain of.
    fn refuse(&mut self, config: &NodeConfig, record: &Record, index: u32, what: &str) -> bool {
        let attachment = &record.attachment;
        let count_only = match GuardMode::of(config, attachment, record.identity.as_ref()) {
            GuardMode::Exempt => return true,
            GuardMode::Guarded { count_only, .. } | GuardMode::Gateway { count_only } => {
                count_only || config.mode == Mode::Count
            }
        };
        let outcome = match &record.netns {
            Some(netns) if !count_only => link::remove(netns, index).map(|()| true),
            _ => Ok(false),
        };
        let outcome = match outcome {
            Ok(true) => {
                self.metrics.interfaces_refused.inc();
                "removed".to_owned()
            }
            Ok(false) => "left alone, since this pod is only counted".to_owned(),
            Err(error) => format!("not removed: {error}"),
        };
        let removed = outcome == "removed";
        let uid = record.uid();
        self.tell(
            PodName {
                namespace: attachment.namespace.clone(),
                pod: attachment.pod.clone(),
            },
            uid,
            format!("{what} is beyond the node guard: {outcome}"),
        );
        removed
    }

    /// Once a minute and pod. An event that is lost changes nothing about the node guard.
    fn tell(&mut self, name: PodName, uid: String, message: String) {
        if self.told.contains_key(&name) {
            return;
        }
        self.told.insert(name.clone(), Instant::now());
        let PodName { namespace, pod } = name;
        eprintln!("egress-warden-cni-agent: {namespace}/{pod}: {message}");
        if namespace.is_empty() {
            return;
        }
        let event = AttemptEvent {
            namespace,
            pod,
            uid,
            message,
        };
        if let Err(error) = self.cluster.report(&event) {
            eprintln!("egress-warden-cni-agent: event: {error}");
        }
    }
}

/// The pod's attachment by a host link that no ADD named: no address is known to be its own,
/// so every packet is refused. It is known by the link's name, which a pod cannot choose to
/// be another's, and belongs to no network, so that no GC of one forgets it.
fn unnamed(first: &Attachment, host_link: LinkName) -> Attachment {
    Attachment {
        id: AttachmentId {
            container_id: first.id.container_id.clone(),
            ifname: host_link.to_string(),
        },
        network: String::new(),
        host_link,
        addresses: Vec::new(),
        ..first.clone()
    }
}
