//! The node agent's executable.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand};
use egress_cni::agent::cluster::{Access, ApiServer, AttemptEvent, Cluster as _, ClusterError};
use egress_cni::agent::exporter::Exporter;
use egress_cni::agent::install::NodePaths;
use egress_cni::agent::metrics::{Metrics, PodName};
use egress_cni::agent::nflog::{Log, Refusal};
use egress_cni::agent::{Agent, EVENT_INTERVAL, Settings, attribute, tell_plugin, uninstall};
use egress_cni::guard::Guard;
use egress_cni::link::LinkNews;
use egress_cni::nft::Nft;
use egress_cni::store::{Record, Store};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};

/// Between passes when nothing rings.
const TICK: Duration = Duration::from_secs(10);
/// Between two looks at the node's pods for the plugin, which waits for them for two seconds.
const NEWS_OF_PODS: Duration = Duration::from_millis(200);
/// Between passes however much rings: a busy node changes pods many times a second.
const BREATH: Duration = Duration::from_millis(500);
/// How old the agent's view of the records may be when a refusal is attributed.
const RECORDS_LIFE: Duration = Duration::from_secs(1);

#[derive(Parser)]
#[command(about = "Keeps the node guard installed, intact and visible.")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install, watch and repair, until stopped. The node guard stays when the agent stops.
    Run(Node),
    /// Take chain entry, executable, configuration, rules and records off the node.
    Uninstall(Node),
}

#[derive(Args)]
struct Node {
    /// The configuration as the administrator wrote it.
    #[arg(long, default_value = "/etc/egress-warden/config.json")]
    config_source: PathBuf,
    /// Where the plugin reads it on the node.
    #[arg(long, default_value = "/etc/egress-warden-cni/config.json")]
    config_file: PathBuf,
    /// Records of pod interfaces; the same path for plugin and agent.
    #[arg(long, default_value = "/run/egress-warden-cni")]
    state_dir: PathBuf,
    /// The runtime's network configuration folder.
    #[arg(long, default_value = "/etc/cni/net.d")]
    net_dir: PathBuf,
    /// The runtime's plugin folder.
    #[arg(long, default_value = "/opt/cni/bin")]
    bin_dir: PathBuf,
    /// The runtime's cache of results.
    #[arg(long, default_value = "/var/lib/cni/results")]
    results_dir: PathBuf,
    /// The plugin's executable in this image.
    #[arg(long, default_value = "/usr/local/bin/egress-warden-cni")]
    plugin: PathBuf,
    /// `nft` for the agent.
    #[arg(long, default_value = "/usr/sbin/nft")]
    nft: PathBuf,
    /// `nft` for the plugin, as the runtime sees it on the node.
    #[arg(long, default_value = "/usr/sbin/nft")]
    plugin_nft: PathBuf,
    /// Where metrics and probes are served.
    #[arg(long, default_value = "127.0.0.1:9460")]
    metrics: SocketAddr,
    /// This node's name.
    #[arg(long = "node-name", default_value = "")]
    name: String,
    /// The API server, `https://HOST:PORT`.
    #[arg(long, default_value = "https://kubernetes.default.svc")]
    api_server: String,
    /// The folder with `token` and `ca.crt`.
    #[arg(long, default_value = "/var/run/secrets/kubernetes.io/serviceaccount")]
    service_account: PathBuf,
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Run(node) => run(&node),
        Command::Uninstall(node) => node.guard().and_then(|guard| {
            uninstall(&node.paths(), &node.config_file, guard).map_err(|error| error.to_string())
        }),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("egress-warden-cni-agent: {error}");
            ExitCode::FAILURE
        }
    }
}

impl Node {
    fn guard(&self) -> Result<Guard, String> {
        let store = Store::open(&self.state_dir).map_err(|error| error.to_string())?;
        Ok(Guard::new(store, Nft::new(self.nft.clone())))
    }

    fn paths(&self) -> NodePaths {
        NodePaths {
            net_dir: self.net_dir.clone(),
            bin_dir: self.bin_dir.clone(),
            plugin_source: self.plugin.clone(),
            entry: serde_json::json!({
                "configFile": self.config_file, "stateDir": self.state_dir, "nft": self.plugin_nft,
            }),
        }
    }

    fn api_server(&self, runtime: &Runtime, bell: Sender<()>) -> Result<ApiServer, String> {
        let access = Access {
            server: self.api_server.clone(),
            ca_file: self.service_account.join("ca.crt"),
            token_file: self.service_account.join("token"),
        };
        ApiServer::new(runtime.handle().clone(), access, self.name.clone(), bell)
            .map_err(|error| error.to_string())
    }
}

fn run(node: &Node) -> Result<(), String> {
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| format!("runtime: {error}"))?;
    let exporter = Exporter::default();
    let listener = runtime
        .block_on(TcpListener::bind(node.metrics))
        .map_err(|error| format!("{}: {error}", node.metrics))?;
    let (bell, doorbell) = channel();
    let server = node.api_server(&runtime, bell.clone())?;
    let settings = Settings {
        config_source: node.config_source.clone(),
        config_file: node.config_file.clone(),
        results_dir: node.results_dir.clone(),
        paths: node.paths(),
    };
    let metrics = Arc::clone(&exporter.metrics);
    let mut agent = Agent::new(settings, node.guard()?, server.clone(), metrics);
    runtime.spawn(exporter.clone().serve(listener));
    tell_of_pods(node, server.clone())?;
    listen(node, server, Arc::clone(&exporter.metrics))?;
    listen_to_links(bell);
    let mut last = String::new();
    loop {
        let errors: Vec<String> = agent.pass().iter().map(ToString::to_string).collect();
        exporter.ready.store(errors.is_empty(), Ordering::Release);
        let state = if errors.is_empty() {
            "the node is guarded".to_owned()
        } else {
            errors.join("; ")
        };
        if state != last {
            eprintln!("egress-warden-cni-agent: {state}");
            last = state;
        }
        std::thread::sleep(BREATH);
        match doorbell.recv_timeout(TICK) {
            // One pass answers all that rang meanwhile.
            Ok(()) => while doorbell.try_recv().is_ok() {},
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}

/// Rings when an interface appears anywhere on the node. Without it the next pass finds the
/// interface, later.
fn listen_to_links(bell: Sender<()>) {
    std::thread::spawn(move || {
        let heard = LinkNews::open().and_then(|news| {
            loop {
                news.next()?;
                // A receiver that is gone means that the agent ends.
                if bell.send(()).is_err() {
                    return Ok(());
                }
            }
        });
        if let Err(error) = heard {
            eprintln!("egress-warden-cni-agent: news of interfaces: {error}");
        }
    });
}

/// Tells the plugin of the node's pods, on a thread of its own: it does not wait for passes.
fn tell_of_pods(node: &Node, server: ApiServer) -> Result<(), String> {
    let guard = node.guard()?;
    std::thread::spawn(move || {
        let mut last = String::new();
        loop {
            // That the API server does not answer is what passes tell of.
            if let Ok(pods) = server.pods() {
                let told = tell_plugin(guard.store(), &pods);
                let state = told
                    .err()
                    .map_or_else(String::new, |error| error.to_string());
                if state != last {
                    eprintln!("egress-warden-cni-agent: pods for the plugin: {state}");
                    last = state;
                }
            }
            std::thread::sleep(NEWS_OF_PODS);
        }
    });
    Ok(())
}

/// Reads the kernel's log on a thread of its own.
fn listen(node: &Node, server: ApiServer, metrics: Arc<Metrics>) -> Result<(), String> {
    let log = Log::open().map_err(|error| format!("nflog: {error}"))?;
    let mut reporter = RefusalReporter {
        guard: node.guard()?,
        server,
        metrics,
        told: BTreeMap::new(),
        records: Vec::new(),
        read: None,
    };
    std::thread::spawn(move || {
        loop {
            match log.next() {
                Ok(refusals) => {
                    for refusal in refusals {
                        if let Err(error) = reporter.tell(&refusal) {
                            eprintln!("egress-warden-cni-agent: event: {error}");
                        }
                    }
                }
                Err(error) => eprintln!("egress-warden-cni-agent: nflog: {error}"),
            }
        }
    });
    Ok(())
}

/// Makes refusals known.
struct RefusalReporter {
    guard: Guard,
    server: ApiServer,
    metrics: Arc<Metrics>,
    /// When an event was last sent about a pod.
    told: BTreeMap<PodName, Instant>,
    records: Vec<Record>,
    /// When the records were read.
    read: Option<Instant>,
}

impl RefusalReporter {
    /// Whose refusal it was. The records are read at most once a second: refusals may come
    /// much faster.
    fn attribute(&mut self, refusal: &Refusal) -> Result<Option<PodName>, ClusterError> {
        if self.read.is_none_or(|at| at.elapsed() > RECORDS_LIFE) {
            let records = self.guard.store().all();
            self.records = records.map_err(|error| ClusterError::Decode(error.to_string()))?;
            self.read = Some(Instant::now());
        }
        Ok(attribute(&self.records, refusal))
    }

    /// One line, one count and, once a minute and pod, one event per refusal.
    fn tell(&mut self, refusal: &Refusal) -> Result<(), ClusterError> {
        let Some(pod) = self.attribute(refusal)? else {
            return Ok(());
        };
        let flow = &refusal.flow;
        self.metrics.attempt(&pod, flow);
        let port = flow
            .port
            .map_or_else(String::new, |port| format!(" port {port}"));
        let message = format!(
            "{} to {}{port} refused ({})",
            flow.protocol_name(),
            flow.destination,
            refusal.reason
        );
        eprintln!(
            "egress-warden-cni-agent: {}/{}: {message}",
            pod.namespace, pod.pod
        );
        self.told.retain(|_, at| at.elapsed() < EVENT_INTERVAL);
        if pod.namespace.is_empty() || self.told.contains_key(&pod) {
            return Ok(());
        }
        self.told.insert(pod.clone(), Instant::now());
        let own = |record: &&Record| {
            record.attachment.namespace == pod.namespace && record.attachment.pod == pod.pod
        };
        let uid = self.records.iter().find(own).map(Record::uid);
        self.server.report(&AttemptEvent {
            uid: uid.unwrap_or_default(),
            namespace: pod.namespace,
            pod: pod.pod,
            message,
        })
    }
}
