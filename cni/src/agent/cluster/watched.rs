//! A copy of what the API server has, kept up to date by a watch.

use std::fmt::Debug;
use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::core::NamespaceResourceScope;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::reflector::{self, Store};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::{Access, ClusterError};

/// How long the server keeps a watch open. It is taken up again where it ended; a connection that
/// died unnoticed is found out about after that time.
pub(super) const WATCH_SECONDS: u64 = 60;
const WATCH_TIMEOUT: u32 = 60;

/// How long the first list may take before that is an error.
const FIRST_LIST: Duration = Duration::from_secs(10);

/// How long a copy that is not kept up to date is as good as one that is.
const FRESH: Duration = Duration::from_secs(10);

/// A watch that has stood for this long says that nothing has changed.
const STANDING: Duration = Duration::from_secs(5);

/// After so many errors without any news the copy is listed anew.
const MOST_ERRORS: u32 = 5;

/// Before everything is begun anew.
const PAUSE: Duration = Duration::from_secs(2);

/// Which objects of a kind are watched.
pub(super) struct Selection {
    /// What they are called in messages.
    pub(super) what: String,
    /// Where they are; everywhere if `None`.
    pub(super) namespace: Option<String>,
    /// By labels or fields.
    pub(super) config: watcher::Config,
}

/// A kind of object that is watched.
pub(super) trait Trimmed:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
    /// Drops what nobody asks about: a node's copy stays small.
    fn trim(&mut self);
}

impl Trimmed for Pod {
    fn trim(&mut self) {
        self.metadata.annotations = None;
        self.metadata.managed_fields = None;
        self.metadata.owner_references = None;
        self.status = None;
        self.spec = self.spec.take().map(|spec| PodSpec {
            host_network: spec.host_network,
            service_account_name: spec.service_account_name,
            ..PodSpec::default()
        });
    }
}

impl Trimmed for EndpointSlice {
    fn trim(&mut self) {
        self.metadata.annotations = None;
        self.metadata.managed_fields = None;
        self.metadata.owner_references = None;
    }
}

/// How it stands with a copy.
#[derive(Debug, Default)]
struct Health {
    /// Whether everything has been listed once.
    listed: bool,
    /// Since when it is not kept up to date, and why.
    failing: Option<(Instant, ClusterError)>,
    /// Since when a watch stands.
    watching: Option<Instant>,
}

impl Health {
    /// Something was heard.
    fn heard(&mut self) {
        self.listed = true;
        self.failing = None;
    }

    /// A watch begins; it says nothing until something changes.
    fn begun(&mut self, what: &str) {
        let before = self.watching.replace(Instant::now());
        if before.is_some_and(|before| before.elapsed() < STANDING) {
            self.failed(ClusterError::Transport {
                request: what.to_owned(),
                reason: "watches end at once".to_owned(),
            });
        }
    }

    /// Keeps since when, and the latest reason.
    fn failed(&mut self, error: ClusterError) {
        let since = self
            .failing
            .take()
            .map_or_else(Instant::now, |(since, _)| since);
        self.failing = Some((since, error));
    }

    /// Why the copy is no longer as good as what the server has.
    fn out_of_date(&self) -> Option<&ClusterError> {
        let (since, error) = self.failing.as_ref()?;
        let stands = self
            .watching
            .is_some_and(|since| since.elapsed() >= STANDING);
        (!self.listed || (!stands && since.elapsed() >= FRESH)).then_some(error)
    }
}

/// The copy; the watch ends with it.
pub(super) struct Watched<K: Trimmed> {
    what: String,
    store: Store<K>,
    health: watch::Receiver<Health>,
    task: AbortHandle,
}

impl<K: Trimmed> Drop for Watched<K> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<K: Trimmed> Watched<K> {
    /// Begins to follow these objects, and rings `bell` at each change.
    pub(super) fn start(
        runtime: &Handle,
        access: Access,
        mut selection: Selection,
        bell: Sender<()>,
    ) -> Self {
        let (store, writer) = reflector::store();
        let (told, health) = watch::channel(Health::default());
        selection.config.timeout = Some(WATCH_TIMEOUT);
        let what = selection.what.clone();
        let watch = Follower {
            access,
            followed: selection,
            writer,
            health: Arc::new(told),
            bell,
        };
        Self {
            what,
            store,
            health,
            task: runtime.spawn(watch.run()).abort_handle(),
        }
    }

    /// The objects, as of a moment ago at most.
    pub(super) fn read(&self, runtime: &Handle) -> Result<Vec<Arc<K>>, ClusterError> {
        let mut health = self.health.clone();
        runtime.block_on(async {
            let known = health.wait_for(|health| health.listed || health.failing.is_some());
            // What became of it is looked at below.
            let _ = tokio::time::timeout(FIRST_LIST, known).await;
        });
        let health = self.health.borrow();
        match health.out_of_date() {
            Some(error) => Err(error.clone()),
            None if !health.listed => Err(ClusterError::Transport {
                request: self.what.clone(),
                reason: "no answer yet".to_owned(),
            }),
            None => Ok(self.store.state()),
        }
    }
}

struct Follower<K: Trimmed> {
    access: Access,
    followed: Selection,
    writer: reflector::store::Writer<K>,
    health: Arc<watch::Sender<Health>>,
    bell: Sender<()>,
}

impl<K: Trimmed> Follower<K> {
    async fn run(mut self) {
        loop {
            let (health, what) = (Arc::clone(&self.health), self.followed.what.clone());
            let begun = move || health.send_modify(|health| health.begun(&what));
            match self.access.connect_watch(begun) {
                Ok((authorities, client)) => {
                    if !self.follow(&authorities, client).await {
                        return;
                    }
                }
                Err(error) => self.failed(error),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Follows until it has to be begun anew. False when nobody listens any more.
    async fn follow(&mut self, authorities: &[u8], client: Client) -> bool {
        let objects: Api<K> = match &self.followed.namespace {
            Some(namespace) => Api::namespaced(client, namespace),
            None => Api::all(client),
        };
        let mut events = pin!(watcher(objects, self.followed.config.clone()).default_backoff());
        let mut errors = 0;
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    let news = !matches!(event, Event::Init | Event::InitApply(_));
                    self.writer.apply_watcher_event(&event.modify(K::trim));
                    if !news {
                        continue;
                    }
                    errors = 0;
                    self.health.send_modify(Health::heard);
                    if self.bell.send(()).is_err() {
                        return false;
                    }
                }
                Err(error) => {
                    errors += 1;
                    self.failed(self.error(&error));
                    let changed = self
                        .access
                        .authorities()
                        .is_ok_and(|now| now != authorities);
                    if changed || errors >= MOST_ERRORS {
                        return true;
                    }
                }
            }
        }
        true
    }

    fn error(&self, error: &watcher::Error) -> ClusterError {
        match error {
            watcher::Error::InitialListFailed(error)
            | watcher::Error::WatchStartFailed(error)
            | watcher::Error::WatchFailed(error) => ClusterError::of(&self.followed.what, error),
            watcher::Error::WatchError(status) => ClusterError::Status {
                request: self.followed.what.clone(),
                status: status.code,
                message: status.message.clone(),
            },
            watcher::Error::NoResourceVersion => {
                ClusterError::transport(&self.followed.what, error)
            }
        }
    }

    fn failed(&self, error: ClusterError) {
        self.health.send_modify(|health| {
            health.watching = None;
            health.failed(error);
        });
    }
}
