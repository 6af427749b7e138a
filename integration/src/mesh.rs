//! The whole bench: gateway, sidecars, outside world.

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4, TcpStream};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;
use tempfile::TempDir;

use crate::certificates::{Authority, Leaf};
use crate::classes::Class;
use crate::client::{self, Tls};
use crate::dns::{Answer, Dns};
use crate::envoy::{Envoy, eventually};
use crate::extension::Extension;
pub use crate::hosts::{HOSTS, address_of};
use crate::inspection_proxy::InspectionProxy;
use crate::outside::{Outside, Speech};
use crate::peer::Peer;
use crate::{sandbox, template, workspace};

/// Where the gateway listens.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// Where its admin listener is: on loopback alone.
pub const ADMIN: Ipv4Addr = Ipv4Addr::LOCALHOST;
/// The name in its certificate.
pub const GATEWAY_NAME: &str = "egress-gateway.istio-egress.svc.cluster.local";
/// Where the gateway asks for names.
pub const DNS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 53);

/// Where the inspection proxy listens: inside the mesh, as inspection proxies do.
pub const INSPECTION_PROXY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 99);
/// The inspection proxy's port.
pub const INSPECTION_PORT: u16 = 3128;

/// Where nobody is.
pub const NOBODY: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 29);

/// Names with two addresses: nobody and somebody inside; somebody inside and a public host.
pub const SEVERAL: &[(&str, [Ipv4Addr; 2])] = &[
    ("half.github.com", [NOBODY, Ipv4Addr::new(10, 0, 0, 5)]),
    (
        "both.github.com",
        [Ipv4Addr::new(10, 0, 0, 5), Ipv4Addr::new(140, 82, 112, 5)],
    ),
];

/// What SSH servers say first.
pub const SSH_BANNER: &str = "SSH-2.0-outside\r\n";
/// What SMTP servers say first.
pub const SMTP_BANNER: &str = "220 outside ESMTP\r\n";

/// A workload with its sidecar.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Its name, which is also the last part of its sidecar's file names.
    pub name: &'static str,
    /// Where its sidecar listens.
    pub sidecar: Ipv4Addr,
    /// The identity in its certificate.
    pub identity: &'static str,
    /// What its sidecar claims.
    pub peer: Peer<'static>,
}

impl Workload {
    /// Where its sidecar's admin interface listens: on loopback, where sidecars that share one have
    /// addresses of their own.
    #[must_use]
    pub const fn admin(&self) -> Ipv4Addr {
        if self.sidecar.is_loopback() {
            self.sidecar
        } else {
            Ipv4Addr::LOCALHOST
        }
    }
}

/// The first workload of the reference case.
pub const APP1: Workload = Workload {
    name: "app1",
    sidecar: Ipv4Addr::new(127, 0, 1, 1),
    identity: "spiffe://cluster.local/ns/app1-ns/sa/app1",
    peer: Peer {
        workload: "app1",
        namespace: "app1-ns",
        labels: &[("app", "app1"), ("egress-ruleset", "app1")],
        cluster: Some("Kubernetes"),
    },
};

/// The second workload of the reference case.
pub const APP2: Workload = Workload {
    name: "app2",
    sidecar: Ipv4Addr::new(127, 0, 2, 1),
    identity: "spiffe://cluster.local/ns/app2-ns/sa/app2",
    peer: Peer {
        workload: "app2",
        namespace: "app2-ns",
        labels: &[("app", "app2"), ("egress-ruleset", "app2")],
        cluster: Some("Kubernetes"),
    },
};

/// A workload whose traffic is inspected.
pub const APP3: Workload = Workload {
    name: "app3",
    sidecar: Ipv4Addr::new(127, 0, 5, 1),
    identity: "spiffe://cluster.local/ns/app3-ns/sa/app3",
    peer: Peer {
        workload: "app3",
        namespace: "app3-ns",
        labels: &[("app", "app3"), ("egress-ruleset", "app3")],
        cluster: Some("Kubernetes"),
    },
};

/// What to start.
pub struct Plan<'a> {
    /// The policy, wherever the gateway looks for it.
    pub extensions: &'a [Extension],
    /// The workloads.
    pub workloads: &'a [Workload],
    /// The address classes that the gateway knows.
    pub classes: &'a [Class],
    /// How many workers the gateway has.
    pub workers: u8,
    /// Whether the gateway reads listeners and clusters from files, so that they can change.
    pub discovered: bool,
    /// Changes to the gateway's bootstrap.
    pub change: &'a dyn Fn(&mut Value),
}

/// The running bench. Everything ends when this value does.
pub struct Mesh {
    /// The gateway.
    pub gateway: Envoy,
    /// The sidecars, in the order of the workloads.
    pub sidecars: Vec<Envoy>,
    /// The outside servers.
    pub outside: Outside,
    /// The inspection proxy.
    pub inspection_proxy: InspectionProxy,
    /// The name server.
    pub dns: Dns,
    /// The mesh's authority.
    pub mesh_authority: Authority,
    /// The outside world's authority.
    pub outside_authority: Authority,
    /// The authority under which the gateway ends the applications' TLS.
    pub ending_authority: Authority,
    files: TempDir,
}

impl Mesh {
    /// Starts everything; must be called inside a [`sandbox`].
    ///
    /// # Errors
    /// If a part does not start.
    pub fn start(plan: &Plan<'_>) -> Result<Self> {
        sandbox::assign(HOSTS.iter().map(|(_, address)| *address))?;
        let files = tempfile::tempdir()?;
        let mesh_authority = Authority::new("mesh")?;
        let outside_authority = Authority::new("outside")?;
        let ending_authority = Authority::new("ending")?;
        let names = HOSTS
            .iter()
            .map(|(name, address)| ((*name).to_owned(), IpAddr::V4(*address)));
        let dns = Dns::start(DNS, names)?;
        for (name, addresses) in SEVERAL {
            dns.add(name, Answer::of(&addresses.map(IpAddr::V4)));
        }
        let outside = world(&outside_authority)?;
        let inspection_proxy = InspectionProxy::start(INSPECTION_PROXY, INSPECTION_PORT)?;
        write_certificates(files.path(), &mesh_authority, plan.workloads)?;
        write_outside_certificates(files.path(), &outside_authority, &ending_authority)?;
        for extension in plan.extensions {
            extension.write(files.path())?;
        }
        let folder = files.path();
        let config = if plan.discovered {
            discovered_config(folder, plan.classes, plan.change, || Ok(()))?
        } else {
            gateway_config(folder, plan.classes, plan.change)?
        };
        let log = files.path().join("gateway.log");
        let mut gateway = Envoy::start_with(&config, ADMIN, log, plan.workers)?;
        let mut sidecars = Vec::new();
        for workload in plan.workloads {
            let config = sidecar_config(files.path(), workload)?;
            let log = files.path().join(format!("{}.log", workload.name));
            sidecars.push(Envoy::start(&config, workload.admin(), log)?);
        }
        gateway.ready().context("gateway")?;
        for sidecar in &mut sidecars {
            sidecar.ready().context("sidecar")?;
        }
        Ok(Self {
            gateway,
            sidecars,
            outside,
            inspection_proxy,
            dns,
            mesh_authority,
            outside_authority,
            ending_authority,
            files,
        })
    }

    /// Gives the gateway a new configuration of the module; whether Envoy took it.
    ///
    /// # Errors
    /// If Envoy does neither take nor refuse it.
    pub fn update(&self, extension: &Extension) -> Result<bool> {
        let statistics = extension.statistics();
        let count = |what: &str| self.gateway.stat(&format!("{statistics}.{what}"));
        let (taken, refused) = (count("update_success")?, count("update_rejected")?);
        extension.write(self.files.path())?;
        let mut accepted = false;
        eventually("an update of the module's configuration", || {
            accepted = count("update_success").is_ok_and(|now| now > taken);
            accepted || count("update_rejected").is_ok_and(|now| now > refused)
        })?;
        Ok(accepted)
    }

    /// Gives a gateway that reads listeners and clusters from files those of other classes. The
    /// bootstrap does not change.
    ///
    /// # Errors
    /// If they cannot be written, or are not taken.
    pub fn reconfigure(&self, classes: &[Class], change: &dyn Fn(&mut Value)) -> Result<()> {
        let taken = || self.gateway.stat("cluster_manager.cds.update_success");
        let before = taken()?;
        let between = || {
            eventually("the clusters to be taken", || {
                taken().is_ok_and(|now| now > before)
            })
        };
        discovered_config(self.files.path(), classes, change, between).map(drop)
    }

    /// Dials `destination` through a workload's sidecar.
    ///
    /// # Errors
    /// If the sidecar does not accept.
    pub fn dial(&self, workload: &Workload, destination: SocketAddrV4) -> Result<TcpStream> {
        client::dial(workload.sidecar, destination)
    }

    /// Dials `address` port 443 through a workload's sidecar and shakes hands for `name`; `None`
    /// if it was closed instead.
    ///
    /// # Errors
    /// If somebody else answers.
    pub fn dial_tls(
        &self,
        workload: &Workload,
        address: Ipv4Addr,
        name: &str,
    ) -> Result<Option<Tls>> {
        let stream = self.dial(workload, SocketAddrV4::new(address, 443))?;
        let config = client::tls_config(&self.outside_authority.certificate(), None)?;
        client::tls(stream, config, name)
    }

    /// Connects to a port of the gateway as somebody with this certificate, without a sidecar.
    ///
    /// # Errors
    /// If the gateway is somebody else.
    pub fn gateway_tls(&self, port: u16, identity: Option<&Leaf>) -> Result<Option<Tls>> {
        let stream = client::connect(SocketAddrV4::new(GATEWAY, port))?;
        let config = client::tls_config(&self.mesh_authority.certificate(), identity)?;
        client::tls(stream, config, GATEWAY_NAME)
    }

    /// The folder with everything that was written: bootstraps, certificates, logs.
    #[must_use]
    pub fn files(&self) -> &Path {
        self.files.path()
    }
}

/// Starts every outside server.
///
/// # Errors
/// If a port is taken.
pub fn world(authority: &Authority) -> Result<Outside> {
    let outside = Outside::default();
    let stranger = Authority::new("nobody's")?;
    for (name, address) in HOSTS {
        // What a server's certificate says, and who signed it.
        let (signer, shown) = match *name {
            "misnamed.payments.example" => (authority, "other.example"),
            "unknown.payments.example" => (&stranger, *name),
            name => (authority, name),
        };
        for (port, speech) in [
            (80, Speech::Http(name)),
            (443, Speech::Https(shown)),
            (9443, Speech::Https(shown)),
            (22, Speech::Banner(SSH_BANNER)),
            (25, Speech::Banner(SMTP_BANNER)),
            (23, Speech::Echo),
        ] {
            outside.serve(signer, *address, port, &speech)?;
        }
    }
    Ok(outside)
}

/// Writes what the gateway needs to speak TLS to the outside, and to end an application's.
///
/// # Errors
/// If a file cannot be written.
pub fn write_outside_certificates(
    directory: &Path,
    outside: &Authority,
    ending: &Authority,
) -> Result<()> {
    std::fs::write(directory.join("outside-ca.pem"), outside.certificate())?;
    let client = outside.server("egress-gateway.customer.example")?;
    client.write(directory, "payments-client")?;
    // For both names, so that a client may put both on one HTTP/2 connection.
    let names = ["api.github.com", "codeload.github.com", "*.web.example"];
    let ended = ending.server_of(&names)?;
    ended.write(directory, "ended")
}

/// Writes the mesh's certificates where the bootstraps look for them.
///
/// # Errors
/// If a file cannot be written.
pub fn write_certificates(directory: &Path, authority: &Authority, all: &[Workload]) -> Result<()> {
    std::fs::write(directory.join("mesh-ca.pem"), authority.certificate())?;
    let gateway = "spiffe://cluster.local/ns/istio-egress/sa/egress-gateway";
    authority
        .workload_named(gateway, GATEWAY_NAME)?
        .write(directory, "gateway")?;
    for workload in all {
        let leaf = authority.workload(workload.identity)?;
        leaf.write(directory, workload.name)?;
    }
    Ok(())
}

/// Fills in the gateway's bootstrap and writes it as JSON.
///
/// # Errors
/// If the template cannot be read or is no YAML.
pub fn gateway_config(
    directory: &Path,
    classes: &[Class],
    change: &dyn Fn(&mut Value),
) -> Result<PathBuf> {
    let folder = directory.to_string_lossy();
    let fixture = workspace::wasm("fixture_peer_metadata");
    workspace::built(&fixture)?;
    let values = [
        ("CERTS", &*folder),
        ("POLICY", &*folder),
        ("PEER_METADATA_WASM", &*fixture.to_string_lossy()),
        ("GATEWAY", &GATEWAY.to_string()),
        ("INSPECTION_PROXY", &INSPECTION_PROXY.to_string()),
    ];
    let classes: Vec<_> = classes
        .iter()
        .chain([&Class::literal()])
        .map(|class| class.values(DNS))
        .collect();
    write_config(("gateway", &classes), directory, "gateway", &values, change)
}

/// The same with listeners and clusters in files of their own.
fn discovered_config(
    directory: &Path,
    classes: &[Class],
    change: &dyn Fn(&mut Value),
    between: impl FnOnce() -> Result<()>,
) -> Result<PathBuf> {
    let path = gateway_config(directory, classes, change)?;
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
    template::discovered(&mut config, directory, between)?;
    std::fs::write(&path, serde_json::to_vec_pretty(&config)?)?;
    Ok(path)
}

/// Fills in a sidecar's bootstrap and writes it as JSON.
///
/// # Errors
/// As [`gateway_config`].
pub fn sidecar_config(directory: &Path, workload: &Workload) -> Result<PathBuf> {
    let folder = directory.to_string_lossy();
    let fixture = workspace::wasm("fixture_peer_metadata");
    workspace::built(&fixture)?;
    let values = [
        ("CERTS", &*folder),
        ("PEER_METADATA_WASM", &*fixture.to_string_lossy()),
        ("PEER_METADATA", &workload.peer.header()),
        ("WORKLOAD", workload.name),
        ("GATEWAY", &GATEWAY.to_string()),
        ("SIDECAR", &workload.sidecar.to_string()),
        ("ADMIN", &workload.admin().to_string()),
    ];
    write_config(("sidecar", &[]), directory, workload.name, &values, &|_| {})
}

fn write_config(
    (template, classes): (&str, &[Vec<(&str, String)>]),
    directory: &Path,
    name: &str,
    values: &[(&str, &str)],
    change: &dyn Fn(&mut Value),
) -> Result<PathBuf> {
    let path = workspace::root().join(format!("envoy-config/{template}.yaml"));
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let text = template::repeat(&text, classes)?;
    let mut config = template::parse(&template::fill(&text, values)?)?;
    change(&mut config);
    let path = directory.join(format!("{name}.json"));
    std::fs::write(&path, serde_json::to_vec_pretty(&config)?)?;
    Ok(path)
}
