//! The whole mesh: a real control plane fed with the rendered manifests, and stock Envoys as the
//! gateway and as the sidecars of the reference case.

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use egress_render::{Install, Rendered};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::agent::{Agent, DNS_PROXY, Proxy};
use super::control_plane::{ADDRESS, ControlPlane, DEBUG, Feed, XDS};
use super::dump;
use super::pod::{Capture, Pod};
use super::reference;
use crate::certificates::{Authority, Leaf};
use crate::client::{self, Heard, Response};
use crate::dns::Dns;
use crate::envoy::{Envoy, eventually};
use crate::mesh::{self, APP1, APP2, DNS, HOSTS, Workload, world};
use crate::outside::Outside;
use crate::{http2, sandbox, template, workspace};

pub use super::GATEWAY;

const GATEWAY_IDENTITY: &str = "spiffe://cluster.local/ns/istio-egress/sa/egress-gateway";

/// What to start.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of its own, and every combination starts"
)]
pub struct Plan {
    /// The manifests, as rendered.
    pub manifests: String,
    /// Istio's own metadata filters in the generated configuration. A stock Envoy cannot load it,
    /// but it can be read.
    pub metadata_exchange: bool,
    /// Whether to wait until every proxy has the listeners that a sound rendering gives it.
    pub sound: bool,
    /// Whether to wait until the gateway's Envoy has all that its configuration names. One that
    /// lacks a part of it waits for ever, and takes no connection.
    pub whole: bool,
    /// Objects beside the rendered ones, such as a tenant's.
    pub others: String,
    /// Whether the gateway's pods say that they belong to a Gateway of the Gateway API.
    pub gateway_name: bool,
    /// Istio's agent between the control plane and the gateway: it fetches modules.
    pub agent: bool,
    /// The version of Istio that the gateway's proxy says it is of.
    pub gateway_version: &'static str,
    /// What the workloads' sidecars get.
    pub capture: Capture,
    /// The address families that the workloads' pods have, as Istio is told.
    pub families: Families,
    /// Istio's agent beside every sidecar, which answers what its pod asks the cluster's name server
    /// ([`CLUSTER_DNS`]).
    pub dns_capture: bool,
}

/// Address families of pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Families {
    /// IPv4.
    #[default]
    V4,
    /// Both.
    Dual,
    /// IPv6.
    V6,
}

/// The version that every proxy of the bench says it is of.
const VERSION: &str = "1.32.0";

/// The cluster's name server, as pods know it.
pub const CLUSTER_DNS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);

impl Plan {
    /// The rendered manifests and nothing else.
    #[must_use]
    pub fn of(rendered: &Rendered) -> Self {
        Self {
            sound: true,
            gateway_name: rendered
                .objects()
                .iter()
                .any(|object| is_gateway_api(&object.yaml())),
            ..Self::changed(rendered.yaml())
        }
    }

    /// Manifests that are not as rendered, so that a proxy may lack listeners.
    #[must_use]
    pub const fn changed(manifests: String) -> Self {
        Self {
            manifests,
            metadata_exchange: false,
            sound: false,
            whole: true,
            others: String::new(),
            agent: false,
            gateway_version: VERSION,
            capture: Capture::Outside,
            families: Families::V4,
            dns_capture: false,
            gateway_name: false,
        }
    }
}

/// The install settings of this bench: those of the reference case, with the module from a file,
/// the bench's name server, and limits that no loop of a test reaches.
///
/// A test that asks until something holds asks the oftener the faster the machine is, for a new
/// name or to be denied each time. The limits have tests of their own.
///
/// # Errors
/// If the module is not built.
pub fn install() -> Result<Install> {
    Ok(serde_saphyr::from_str(&install_file()?)?)
}

/// The same as a file, for the command.
///
/// # Errors
/// As [`install`].
pub fn install_file() -> Result<String> {
    let module = workspace::wasm("egress_filter");
    workspace::built(&module)?;
    let text = std::fs::read_to_string(reference::folder().join("install.yaml"))?;
    let lines = text.lines().filter_map(|line| {
        if line.trim_start().starts_with("sha256:") {
            None
        } else if line.trim_start().starts_with("url:") {
            Some(format!("    url: file://{}", module.display()))
        } else {
            Some(line.to_owned())
        }
    });
    let lines: Vec<_> = lines.collect();
    let dns = format!("  dns: {{resolvers: [{DNS}], family: V4}}");
    let limits =
        "  limits: {newNamesPerMinute: 100000, names: 100000, denialLinesPerMinute: 100000}";
    Ok(format!("{}\n{dns}\n{limits}\n", lines.join("\n")))
}

/// The running mesh. Everything ends when this value does.
pub struct Bench {
    /// The gateway.
    pub gateway: Envoy,
    /// The outside servers.
    pub outside: Outside,
    /// The name server.
    pub dns: Dns,
    /// The outside world's authority.
    pub outside_authority: Authority,
    apps: Vec<(Workload, Pod, Envoy)>,
    control_plane: Option<ControlPlane>,
    agent: Option<Agent>,
    _agents: Vec<Agent>,
    _certificates: Vec<ControlPlane>,
    files: TempDir,
    manifests: String,
}

impl Bench {
    /// Starts everything; must be called inside a [`sandbox`].
    ///
    /// # Errors
    /// If a part does not start.
    pub fn start(plan: &Plan) -> Result<Self> {
        Self::start_before(plan, Authority::new("outside")?)
    }

    /// The same with an outside world that this authority vouches for.
    ///
    /// # Errors
    /// As [`Bench::start`].
    pub fn start_before(plan: &Plan, outside_authority: Authority) -> Result<Self> {
        let addresses = HOSTS.iter().map(|(_, address)| *address);
        sandbox::assign(addresses.chain([GATEWAY, ADDRESS]))?;
        let files = tempfile::tempdir()?;
        let folder = files.path();
        let names = HOSTS
            .iter()
            .map(|(name, address)| ((*name).to_owned(), IpAddr::from(*address)));
        let dns = Dns::start(DNS, names)?;
        let outside = world(&outside_authority)?;
        let certificates = certificates(folder)?;
        let control_plane = Some(feed(folder, plan)?);
        let agent = if plan.agent {
            Some(Agent::start(folder)?)
        } else {
            None
        };
        let config = bootstrap(folder, &Node::gateway(plan), agent.as_ref())?;
        let mut gateway = Envoy::start(&config, GATEWAY, folder.join("gateway.log"))?;
        let (mut apps, mut agents) = (Vec::new(), Vec::new());
        for (workload, number) in [(APP1, 1), (APP2, 2)] {
            let pod = Pod::start(number, plan.capture)?;
            let node = Node::workload(&workload, &pod, plan.families);
            let beside = if plan.dns_capture {
                Some(captured(&workload, &pod, folder)?)
            } else {
                None
            };
            let config = bootstrap(folder, &node, beside.as_ref())?;
            agents.extend(beside);
            let log = folder.join(format!("{}.log", workload.name));
            let address = pod.address();
            let sidecar = pod.run_as_sidecar(move || Envoy::start(&config, address, log))?;
            apps.push((workload, pod, sidecar));
        }
        if plan.whole {
            gateway.ready().context("gateway")?;
        }
        for (workload, _, sidecar) in &mut apps {
            sidecar.ready().context(workload.name)?;
        }
        let bench = Self {
            gateway,
            outside,
            dns,
            outside_authority,
            apps,
            control_plane,
            agent,
            _agents: agents,
            _certificates: certificates,
            files,
            manifests: plan.manifests.clone(),
        };
        if plan.sound && !plan.metadata_exchange {
            bench.listening()?;
        }
        Ok(bench)
    }

    /// Waits until every proxy has the listeners that it needs.
    fn listening(&self) -> Result<()> {
        let has = |envoy: &Envoy, names: &[&str]| {
            let listeners = envoy.get("/listeners").unwrap_or_default();
            names.iter().all(|name| listeners.contains(name))
        };
        let gateway = eventually("the gateway's listeners", || {
            has(
                &self.gateway,
                &["0.0.0.0_8080", "0.0.0.0_8443", "egress-warden-tls"],
            )
        });
        gateway.with_context(|| {
            let log = self.gateway.log().unwrap_or_default();
            let told = |line: &&str| line.contains("[warning]") || line.contains("[error]");
            log.lines().filter(told).collect::<Vec<_>>().join("\n")
        })?;
        for (workload, _, sidecar) in &self.apps {
            let sidecar_listens = eventually("a sidecar's listeners", || {
                has(sidecar, &["virtualOutbound", "0.0.0.0_80"])
            });
            sidecar_listens.context(workload.name)?;
        }
        Ok(())
    }

    /// Gives the control plane new manifests: it starts again, and the proxies, which go on
    /// running, come back to it.
    ///
    /// # Errors
    /// If it does not start.
    pub fn update(&mut self, plan: &Plan) -> Result<()> {
        // The old one has to give its port back first.
        drop(self.control_plane.take());
        self.control_plane = Some(feed(self.files.path(), plan)?);
        self.manifests.clone_from(&plan.manifests);
        Ok(())
    }

    /// What Istio's agent has printed; nothing if there is none.
    #[must_use]
    pub fn agent_log(&self) -> String {
        self.agent.as_ref().map(Agent::log).unwrap_or_default()
    }

    /// The folder with everything that was written.
    #[must_use]
    pub fn files(&self) -> &Path {
        self.files.path()
    }

    /// The gateway's configuration as Envoy has it, with the test-only patches taken back.
    ///
    /// # Errors
    /// If Envoy does not say.
    pub fn dump(&self) -> Result<Value> {
        self.as_rendered(dump::of(SocketAddrV4::new(GATEWAY, 15000), "/config_dump")?)
    }

    /// The gateway's configuration as the control plane generates it, with the test-only patches
    /// taken back.
    ///
    /// # Errors
    /// If the gateway is not known there.
    pub fn generated(&self) -> Result<Value> {
        self.as_rendered(self.served("egress-0.istio-egress")?)
    }

    /// A proxy's configuration as the control plane serves it.
    ///
    /// # Errors
    /// If the proxy is not known there.
    pub fn served(&self, proxy: &str) -> Result<Value> {
        let address = SocketAddrV4::new(ADDRESS, DEBUG);
        dump::of(address, &format!("/debug/config_dump?proxyID={proxy}"))
    }

    /// Filters that a test-only patch has replaced, as they were rendered.
    fn as_rendered(&self, mut dump: Value) -> Result<Value> {
        let manifests: Vec<Value> = serde_saphyr::from_multiple(&self.manifests)?;
        for (name, fixture) in replaced(&test_patches()?)? {
            let rendered = patches(&manifests).find_map(|patch| {
                let value = patch.pointer("/patch/value")?;
                (value.get("name")? == &*name).then(|| value.clone())
            });
            if let Some(rendered) = rendered {
                put_back(&mut dump, &fixture, &rendered);
            }
        }
        Ok(dump)
    }

    /// Does something as a workload would, in its pod's network.
    ///
    /// # Errors
    /// What it returns.
    pub fn inside<T: Send + 'static>(
        &self,
        app: &str,
        body: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.pod(app)?.run(body)
    }

    /// The address of a workload's pod.
    ///
    /// # Errors
    /// If there is no such workload.
    pub fn address(&self, app: &str) -> Result<Ipv4Addr> {
        Ok(self.pod(app)?.address())
    }

    fn pod(&self, name: &str) -> Result<&Pod> {
        let app = self
            .apps
            .iter()
            .find(|(workload, ..)| workload.name == name);
        app.map(|(_, pod, _)| pod)
            .with_context(|| format!("no workload {name}"))
    }

    /// Does something in a workload's pod that is not redirected to its sidecar.
    ///
    /// # Errors
    /// What it returns.
    pub fn beside<T: Send + 'static>(
        &self,
        app: &str,
        body: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.pod(app)?.run_as_sidecar(body)
    }

    /// One HTTP request of a workload to `address`, port 80, for `authority`.
    ///
    /// # Errors
    /// If it is neither answered nor closed.
    pub fn http(&self, app: &str, address: Ipv4Addr, authority: &str) -> Result<Option<Response>> {
        self.ask(app, address, authority, ("GET", "/"))
    }

    /// The same with a method and a path.
    ///
    /// # Errors
    /// As [`Bench::http`].
    pub fn ask(
        &self,
        app: &str,
        address: Ipv4Addr,
        authority: &str,
        (method, path): (&'static str, &'static str),
    ) -> Result<Option<Response>> {
        let authority = authority.to_owned();
        self.pod(app)?.run(move || {
            let mut stream = client::connect(SocketAddrV4::new(address, 80))?;
            let headers = [
                ("Host", authority.as_bytes()),
                ("Accept", b"application/json"),
            ];
            client::request(&mut stream, method, path, &headers)
        })
    }

    /// Requests over one HTTP/2 connection to `address`, port 80.
    ///
    /// # Errors
    /// If the connection or a stream is reset.
    pub fn http2(
        &self,
        app: &str,
        address: Ipv4Addr,
        requests: Vec<http::Request<()>>,
    ) -> Result<Vec<http2::Answer>> {
        self.pod(app)?.run(move || {
            let stream = client::connect(SocketAddrV4::new(address, 80))?;
            http2::send_all(stream, &requests)
        })
    }

    /// Shakes hands for `name` with `address`, port 443; whether that server answered.
    ///
    /// # Errors
    /// If somebody else answers.
    pub fn tls(&self, app: &str, address: Ipv4Addr, name: &str) -> Result<bool> {
        let (name, authority) = (name.to_owned(), self.outside_authority.certificate());
        self.pod(app)?.run(move || {
            let stream = client::connect(SocketAddrV4::new(address, 443))?;
            let config = client::tls_config(&authority, None)?;
            Ok(client::tls(stream, config, &name)?.is_some())
        })
    }

    /// A tunnel to a name, for which the workload asks the gateway itself, with its own certificate;
    /// the status of the gateway's answer.
    ///
    /// # Errors
    /// If it is neither answered nor closed.
    pub fn tunnel(&self, app: &str, name: &str, port: u16) -> Result<Option<u16>> {
        let answer = self.ask_for_tunnel(app, name, port)?;
        Ok(answer.map(|answer| answer.status))
    }

    /// The same with the whole answer.
    ///
    /// # Errors
    /// As [`Bench::tunnel`].
    pub fn ask_for_tunnel(&self, app: &str, name: &str, port: u16) -> Result<Option<Response>> {
        let asked = format!("{name}:{port}");
        let headers = [("Host", asked.as_bytes())];
        self.ask_gateway(app, 8443, ("CONNECT", &asked), &headers)
    }

    /// What a workload asks of a port of the gateway itself, with its own certificate; the answer.
    ///
    /// # Errors
    /// If it is neither answered nor closed.
    pub fn ask_gateway(
        &self,
        app: &str,
        port: u16,
        (method, target): (&str, &str),
        headers: &[(&str, &[u8])],
    ) -> Result<Option<Response>> {
        let read = |file: String| std::fs::read_to_string(self.files().join(file));
        let authority = read("mesh-ca.pem".to_owned())?;
        let leaf = Leaf {
            certificate: read(format!("{app}.pem"))?,
            key: read(format!("{app}.key"))?,
        };
        let stream = client::connect(SocketAddrV4::new(GATEWAY, port))?;
        let config = client::tls_config(&authority, Some(&leaf))?;
        let Some(mut session) = client::tls(stream, config, mesh::GATEWAY_NAME)? else {
            return Ok(None);
        };
        client::request(&mut session, method, target, headers)
    }

    /// The first line of the gateway's access log in which a field begins so, when it is there.
    ///
    /// # Errors
    /// If there is none.
    pub fn access_line(&self, field: &str, begins: &str) -> Result<Value> {
        let line = self.access_line_of(|line| {
            let text = line.get(field).and_then(Value::as_str);
            text.is_some_and(|text| text.starts_with(begins))
        });
        line.with_context(|| format!("{field}: {begins}"))
    }

    /// The first line of this verdict, of a stream that another listener of the gateway goes on with.
    ///
    /// # Errors
    /// If there is none, or it leads elsewhere.
    pub fn access_line_inward(&self, verdict: &str) -> Result<Value> {
        let line = self.access_line("verdict", verdict)?;
        let to = line.get("connectedTo").and_then(Value::as_str);
        ensure!(to.is_some_and(|to| to.starts_with("envoy://")), "{line}");
        Ok(line)
    }

    /// The first line of the gateway's access log for which this holds, when it is there.
    ///
    /// # Errors
    /// If there is none.
    pub fn access_line_of(&self, is_it: impl Fn(&Value) -> bool) -> Result<Value> {
        let mut found = None;
        eventually("the access log", || {
            let log = self.gateway.log().unwrap_or_default();
            let lines = log.lines().filter(|line| line.starts_with('{'));
            let mut lines = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
            found = lines.find(|line| line.get("event") == Some(&json!("access")) && is_it(line));
            found.is_some()
        })?;
        found.context("no line")
    }

    /// Dials an address and listens: the server's first bytes, or that it was closed.
    ///
    /// # Errors
    /// If neither comes.
    pub fn tcp(&self, app: &str, address: Ipv4Addr, port: u16) -> Result<Heard> {
        self.pod(app)?.run(move || {
            let mut stream = client::connect(SocketAddrV4::new(address, port))?;
            client::hear(&mut stream)
        })
    }
}

/// The test-only patches, filled in. Their file says why each is there.
///
/// # Errors
/// If the file cannot be read.
pub fn test_patches() -> Result<String> {
    let fixture = workspace::wasm("fixture_peer_metadata");
    workspace::built(&fixture)?;
    test_patches_with(&fixture)
}

/// The same for a gateway that has the fixture at this path.
///
/// # Errors
/// If the file cannot be read.
pub fn test_patches_with(fixture: &Path) -> Result<String> {
    let path = workspace::root().join("integration/fixtures/istio/test-patches.yaml");
    let text = std::fs::read_to_string(&path)?;
    template::fill(
        &text,
        &[
            ("PEER_METADATA_WASM", &*fixture.to_string_lossy()),
            ("APP1_METADATA", &APP1.peer.header()),
            ("APP2_METADATA", &APP2.peer.header()),
        ],
    )
}

/// All patches of the objects that patch.
fn patches(objects: &[Value]) -> impl Iterator<Item = &Value> {
    let lists = objects
        .iter()
        .filter_map(|object| object.pointer("/spec/configPatches")?.as_array());
    lists.flatten()
}

/// The filters that test-only patches put in the place of others, by these others' names.
fn replaced(patches: &str) -> Result<Vec<(String, Value)>> {
    let objects: Vec<Value> = serde_saphyr::from_multiple(patches)?;
    let replaced = self::patches(&objects).filter_map(|patch| {
        let operation = patch.pointer("/patch/operation")?;
        let filter = "/match/listener/filterChain/filter/subFilter/name";
        let filter = patch.pointer(filter)?.as_str()?;
        let value = patch.pointer("/patch/value")?;
        (operation == "REPLACE").then(|| (filter.to_owned(), value.clone()))
    });
    Ok(replaced.collect())
}

/// Puts `rendered` wherever `fixture` stands, in either spelling of field names.
fn put_back(value: &mut Value, fixture: &Value, rendered: &Value) {
    if plain(value) == plain(fixture) {
        value.clone_from(rendered);
        return;
    }
    match value {
        Value::Array(items) => {
            for item in items {
                put_back(item, fixture, rendered);
            }
        }
        Value::Object(fields) => {
            for (_, field) in fields.iter_mut() {
                put_back(field, fixture, rendered);
            }
        }
        _ => {}
    }
}

/// The same value with field names that both spellings share.
fn plain(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(plain).collect(),
        Value::Object(fields) => {
            let fields = fields.iter();
            let fields =
                fields.map(|(key, value)| (key.replace('_', "").to_lowercase(), plain(value)));
            Value::Object(fields.collect())
        }
        other => other.clone(),
    }
}

fn feed(folder: &Path, plan: &Plan) -> Result<ControlPlane> {
    let mut istio = Vec::new();
    let mut cluster = vec![cluster_of(folder, plan)?];
    for (name, text) in [("manifests", &plan.manifests), ("others", &plan.others)] {
        // Istio reads Kubernetes' objects and the Gateway API's from Kubernetes, not from its own
        // store.
        let (kubernetes, own): (Vec<_>, Vec<_>) = text
            .split("---\n")
            .partition(|object| is_gateway_api(object) || is_kubernetes(object));
        for (suffix, objects, list) in [
            ("", own, &mut istio),
            ("-kubernetes", kubernetes, &mut cluster),
        ] {
            if objects.iter().any(|object| !object.trim().is_empty()) {
                let file = folder.join(format!("{name}{suffix}.yaml"));
                std::fs::write(&file, objects.join("---\n"))?;
                list.push(file);
            }
        }
    }
    if !plan.metadata_exchange {
        let patches = folder.join("test-patches.yaml");
        std::fs::write(&patches, test_patches()?)?;
        istio.push(patches);
    }
    ControlPlane::start(&Feed {
        folder,
        istio: &istio,
        cluster: &cluster,
        labels: "egress-ruleset",
        metadata_exchange: plan.metadata_exchange,
        dual_stack: plan.families == Families::Dual,
    })
}

fn is_gateway_api(object: &str) -> bool {
    object.contains("apiVersion: gateway.networking.k8s.io/")
}

/// Kinds of Kubernetes' own that a tenant may write.
fn is_kubernetes(object: &str) -> bool {
    ["apiVersion: v1\n", "apiVersion: discovery.k8s.io/v1\n"]
        .iter()
        .any(|version| object.contains(version))
}

/// The label by which policies find the pods of a Gateway of the Gateway API.
const GATEWAY_NAME: (&str, &str) = ("gateway.networking.k8s.io/gateway-name", "egress-warden");

/// What the cluster holds, with the gateway's pods labelled as the Gateway API asks for.
fn cluster_of(folder: &Path, plan: &Plan) -> Result<PathBuf> {
    let cluster = reference::cluster();
    if !plan.gateway_name {
        return Ok(cluster);
    }
    let text = std::fs::read_to_string(cluster)?;
    let labels = "labels: {istio: egressgateway, ";
    ensure!(text.contains(labels), "the gateway's pod has other labels");
    let (key, value) = GATEWAY_NAME;
    let file = folder.join("cluster.yaml");
    std::fs::write(
        &file,
        text.replace(labels, &format!("{labels}{key}: {value}, ")),
    )?;
    Ok(file)
}

/// Istio's agent beside a sidecar, and what `istio-init` redirects to it where DNS is captured.
fn captured(workload: &Workload, pod: &Pod, folder: &Path) -> Result<Agent> {
    let proxy = Proxy {
        role: "sidecar",
        pod: format!("{}-0", workload.name),
        namespace: workload.peer.namespace.to_owned(),
        address: pod.address(),
        dns_capture: true,
    };
    let folder = folder.join(format!("agent-{}", workload.name));
    // Agent and proxy have one user.
    pod.run_as_sidecar(move || {
        let rules = format!(
            "table ip names {{ chain output {{ type nat hook output priority -100; \
             ip daddr {CLUSTER_DNS} udp dport 53 redirect to :{DNS_PROXY} ; }} ; }}"
        );
        sandbox::nft(&rules)?;
        Agent::beside(&proxy, &folder)
    })
}

fn certificates(folder: &Path) -> Result<Vec<ControlPlane>> {
    let authority = Authority::new("mesh")?;
    std::fs::write(folder.join("mesh-ca.pem"), authority.certificate())?;
    let everyone = [
        ("gateway", GATEWAY_IDENTITY),
        (APP1.name, APP1.identity),
        (APP2.name, APP2.identity),
    ];
    let mut servers = Vec::new();
    for (port, (name, identity)) in (15110..).zip(everyone) {
        // Clients that ask the gateway themselves check a name.
        let leaf = authority.workload_named(identity, mesh::GATEWAY_NAME)?;
        leaf.write(folder, name)?;
        servers.push(ControlPlane::certificates(folder, name, port)?);
    }
    Ok(servers)
}

/// A proxy as Istio knows it.
struct Node {
    role: &'static str,
    name: String,
    pod: String,
    namespace: String,
    account: String,
    address: Ipv4Addr,
    /// As Istio is told.
    addresses: Vec<IpAddr>,
    labels: Value,
    version: &'static str,
}

impl Node {
    fn gateway(plan: &Plan) -> Self {
        let mut labels = json!({"istio": "egressgateway", "app": "egress-gateway"});
        if let (true, Some(labels)) = (plan.gateway_name, labels.as_object_mut()) {
            let (key, value) = GATEWAY_NAME;
            labels.insert(key.to_owned(), json!(value));
        }
        Self {
            role: "router",
            name: "gateway".to_owned(),
            pod: "egress-0".to_owned(),
            namespace: "istio-egress".to_owned(),
            account: "egress-gateway".to_owned(),
            address: GATEWAY,
            addresses: vec![GATEWAY.into()],
            labels,
            version: plan.gateway_version,
        }
    }

    fn workload(workload: &Workload, pod: &Pod, families: Families) -> Self {
        let (v4, v6) = (pod.address().into(), pod.address_v6().into());
        let labels: serde_json::Map<_, _> = workload
            .peer
            .labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), json!(value)))
            .collect();
        Self {
            role: "sidecar",
            name: workload.name.to_owned(),
            pod: format!("{}-0", workload.name),
            namespace: workload.peer.namespace.to_owned(),
            account: workload.name.to_owned(),
            address: pod.address(),
            addresses: match families {
                Families::V4 => vec![v4],
                Families::Dual => vec![v4, v6],
                Families::V6 => vec![v6],
            },
            labels: Value::Object(labels),
            version: VERSION,
        }
    }
}

/// Writes a bootstrap as Istio's agent would, as far as a stock Envoy takes it.
fn bootstrap(folder: &Path, node: &Node, agent: Option<&Agent>) -> Result<PathBuf> {
    let socket = folder.join(format!("{}.sds", node.name));
    let addresses: Vec<_> = node.addresses.iter().map(IpAddr::to_string).collect();
    let values = [
        ("ROLE", node.role),
        ("POD", &node.pod),
        ("NAMESPACE", &node.namespace),
        ("ACCOUNT", &node.account),
        ("ADMIN", &node.address.to_string()),
        ("ADDRESS", &addresses.first().cloned().unwrap_or_default()),
        ("ADDRESSES", &addresses.join(",")),
        ("LABELS", &node.labels.to_string()),
        ("VERSION", node.version),
        ("XDS_ADDRESS", &ADDRESS.to_string()),
        ("XDS_PORT", &XDS.to_string()),
        ("SDS", &*socket.to_string_lossy()),
    ];
    let path = workspace::root().join("integration/fixtures/istio/bootstrap.yaml");
    let text = std::fs::read_to_string(path)?;
    let mut config = template::parse(&template::fill(&text, &values)?)?;
    if let Some(agent) = agent {
        let control_plane = "/static_resources/clusters/0/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address";
        let address = config.pointer_mut(control_plane);
        *address.context("the bootstrap has no control plane")? =
            json!({"pipe": {"path": agent.socket()}});
    }
    let path = folder.join(format!("{}.json", node.name));
    std::fs::write(&path, serde_json::to_vec_pretty(&config)?)?;
    Ok(path)
}
