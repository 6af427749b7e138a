//! Sending probes from one network namespace and looking for them in another.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use socket2::{Domain, Protocol, Socket, Type};

/// How long something that should arrive may take. Nothing waits this long for something
/// that should not arrive.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Runs `body` on a thread inside the network namespace `netns` (a name under `/run/netns`).
pub(crate) fn inside<T: Send>(netns: &str, body: impl FnOnce() -> T + Send) -> T {
    let path = netns_path(netns);
    std::thread::scope(|scope| {
        let work = || {
            setns(File::open(&path).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
            body()
        };
        scope.spawn(work).join().unwrap()
    })
}

/// The path of a network namespace; `node` is the test's own.
pub(crate) fn netns_path(netns: &str) -> PathBuf {
    if netns == "node" {
        PathBuf::from("/proc/self/ns/net")
    } else {
        Path::new("/run/netns").join(netns)
    }
}

/// Sends complete IP packets from inside `netns`, routed by that namespace's own tables. What
/// its kernel refuses to send is an error: a probe must really have left.
pub(crate) fn send(netns: &str, destination: IpAddr, packets: &[Vec<u8>]) {
    inside(netns, || {
        let domain = if destination.is_ipv4() {
            Domain::IPV4
        } else {
            Domain::IPV6
        };
        let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(255))).unwrap();
        if destination.is_ipv4() {
            socket.set_header_included_v4(true).unwrap();
        }
        for packet in packets {
            socket
                .send_to(packet, &SocketAddr::new(destination, 0).into())
                .unwrap();
        }
    });
}

/// Everything that arrives in a network namespace, by the tokens in it.
pub(crate) struct Capture {
    socket: Socket,
    seen: BTreeSet<u64>,
}

const ETH_P_ALL: u16 = 0x0003;

impl Capture {
    /// Starts capturing in `netns`.
    pub(crate) fn start(netns: &str) -> Self {
        inside(netns, || {
            let protocol = Protocol::from(i32::from(ETH_P_ALL.to_be()));
            let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(protocol)).unwrap();
            socket.set_recv_buffer_size(8 << 20).unwrap();
            socket.set_nonblocking(true).unwrap();
            Self {
                socket,
                seen: BTreeSet::new(),
            }
        })
    }

    /// Whether `token` has arrived by now.
    pub(crate) fn has(&mut self, token: u64) -> bool {
        let mut buffer = vec![0; 65_536];
        loop {
            match (&self.socket).read(&mut buffer) {
                Ok(length) => self.seen.extend(tokens(&buffer[..length])),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return self.seen.contains(&token);
                }
                Err(error) => panic!("capture: {error}"),
            }
        }
    }

    /// Waits for `token`.
    pub(crate) fn wait(&mut self, token: u64) -> bool {
        let end = Instant::now() + DEADLINE;
        while Instant::now() < end {
            if self.has(token) {
                return true;
            }
            std::thread::yield_now();
        }
        false
    }
}

/// All tokens in a packet.
pub(crate) fn tokens(packet: &[u8]) -> Vec<u64> {
    let marker = b"egress-warden-probe-";
    packet
        .windows(marker.len() + 8)
        .filter(|window| window.starts_with(marker))
        .map(|window| u64::from_be_bytes(window[marker.len()..].try_into().unwrap()))
        .collect()
}
