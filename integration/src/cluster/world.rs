//! The outside world of the cluster: the bench's hosts at their public-looking addresses and real
//! ports, a resolver that knows their names, and a registry that holds the module.

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use egress_package::image::{self, Image, Variant};
use egress_package::registry::{Access, Registry as Client};
use serde::{Deserialize, Serialize};

use super::{REGISTRY, pki};
use crate::certificates::Authority;
use crate::dns::Dns;
use crate::envoy::eventually;
use crate::hosts::HOSTS;
use crate::registry::Registry;
use crate::{command, mesh, workspace};

/// The resolver of the world.
pub const RESOLVER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 53);
/// The registry's address.
pub const REGISTRY_ADDRESS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
/// The UDP port at which every host echoes.
pub const UDP: u16 = 9999;
/// The file in the node's folder with what reached the world.
const SEEN: &str = "world.json";
/// The file that is there when the module can be fetched.
const READY: &str = "world-ready";

/// What reached the world.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorldRecord {
    /// Address and port of every connection that was taken.
    pub reached: Vec<(IpAddr, u16)>,
    /// The same of UDP packets.
    pub packets: Vec<(Ipv4Addr, u16)>,
    /// The names that the resolver was asked for.
    pub asked: Vec<String>,
}

impl WorldRecord {
    /// What the world of the node in this folder has seen.
    ///
    /// # Errors
    /// If it has not begun yet.
    pub fn read(folder: &Path) -> Result<Self> {
        // It is written a moment after it is seen.
        std::thread::sleep(2 * PAUSE);
        let path = folder.join(SEEN);
        let text = std::fs::read(&path).with_context(|| path.display().to_string())?;
        Ok(serde_json::from_slice(&text)?)
    }
}

const PAUSE: Duration = Duration::from_millis(200);

/// The module's image, and the place that the world's registry has it at.
///
/// # Errors
/// If the module is not built.
pub fn module() -> Result<(String, Image)> {
    let module = workspace::wasm("egress_filter");
    workspace::built(&module)?;
    let image = image::build(&std::fs::read(module)?, Variant::Compat, None)?;
    let place = format!("{REGISTRY}/egress-warden:{}", env!("CARGO_PKG_VERSION"));
    Ok((place, image))
}

/// Waits until the module can be fetched.
///
/// # Errors
/// If it cannot be in time.
pub fn ready(folder: &Path) -> Result<()> {
    let log = folder.join("log/world.log");
    eventually("the world's registry", || folder.join(READY).exists())
        .with_context(|| std::fs::read_to_string(log).unwrap_or_default())
}

/// Is the world, in a network namespace of its own, until the node ends.
///
/// # Errors
/// If a server does not start.
pub fn run(folder: &Path) -> Result<()> {
    let mut addresses: Vec<_> = HOSTS.iter().map(|(_, address)| *address).collect();
    addresses.extend([RESOLVER, REGISTRY_ADDRESS]);
    ip(&["link", "set", "lo", "up"])?;
    for address in addresses {
        ip(&["addr", "add", &format!("{address}/32"), "dev", "lo"])?;
    }
    let kept = folder.parent().context("no folder")?.join(pki::AUTHORITY);
    let authority = Authority::kept("cluster", &kept)?;
    let names = HOSTS.iter().chain(&[(REGISTRY, REGISTRY_ADDRESS)]);
    let names = names.map(|(name, address)| ((*name).to_owned(), IpAddr::V4(*address)));
    let dns = Dns::start(RESOLVER, names)?;
    let outside = mesh::world(&authority)?;
    let packets = Arc::default();
    for (_, address) in HOSTS {
        echo(*address, UDP, &packets)?;
    }
    // A public resolver that nobody may ask.
    Dns::start::<IpAddr>(Ipv4Addr::new(8, 8, 8, 8), [])?;
    let _registry = registry(folder, &authority)?;
    std::fs::write(folder.join(READY), "")?;
    let mut last = WorldRecord::default();
    std::fs::write(folder.join(SEEN), serde_json::to_vec(&last)?)?;
    loop {
        std::thread::sleep(PAUSE);
        let reached = outside.seen().into_iter().filter_map(|seen| seen.address);
        let seen = WorldRecord {
            reached: reached.collect(),
            packets: packets
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
            asked: dns.asked(),
        };
        if seen != last {
            let part = folder.join("world.part");
            std::fs::write(&part, serde_json::to_vec(&seen)?)?;
            std::fs::rename(part, folder.join(SEEN))?;
            last = seen;
        }
    }
}

fn ip(arguments: &[&str]) -> Result<()> {
    command::run(Command::new("ip").args(arguments))
}

/// A UDP server that sends back what it gets.
fn echo(address: Ipv4Addr, port: u16, packets: &Arc<Mutex<Vec<(Ipv4Addr, u16)>>>) -> Result<()> {
    let socket = UdpSocket::bind((address, port))?;
    let packets = Arc::clone(packets);
    std::thread::spawn(move || {
        let mut packet = [0; 1500];
        while let Ok((length, peer)) = socket.recv_from(&mut packet) {
            let mut packets = packets.lock().unwrap_or_else(PoisonError::into_inner);
            packets.push((address, port));
            // Who has gone gets nothing.
            let _ = socket.send_to(packet.get(..length).unwrap_or_default(), peer);
        }
    });
    Ok(())
}

/// A registry over TLS with the module in it.
fn registry(folder: &Path, authority: &Authority) -> Result<Registry> {
    let files = folder.join("registry");
    std::fs::create_dir_all(&files)?;
    let at = SocketAddrV4::new(REGISTRY_ADDRESS, 443);
    let server = authority.server(REGISTRY)?;
    let registry = Registry::start_at(&files, at, Some(&server))?;
    // The node's own names come with its mounts.
    let hosts = PathBuf::from("/etc/hosts");
    eventually("the node's names", || {
        std::fs::read_to_string(&hosts).is_ok_and(|text| text.contains(REGISTRY))
    })?;
    let (place, image) = module()?;
    let access = Access {
        credentials: None,
        plain_http: false,
        authorities: Some(authority.certificate().into_bytes()),
    };
    let mut client = Client::new(place.parse()?, access)?;
    client.push(&image, &[], |_| {})?;
    Ok(registry)
}
