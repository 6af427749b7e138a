//! A pod's network: a thread with a network namespace of its own.
//!
//! A thread that leaves its network namespace keeps the new one for every socket it opens and
//! every program it starts, so a pod is a thread that is handed work. The kernel redirects what
//! the pod sends to its sidecar, as `istio-init` has it do.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};

use anyhow::{Context, Result, ensure};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Pid, Uid, gettid, setfsuid};

use crate::sandbox::nft;
use crate::{command, sandbox};

type Work = Box<dyn FnOnce() + Send>;

/// Everything in the mesh, which is not redirected.
pub const MESH: &str = "10.244.0.0/16";

/// The application's user, which is not the sidecar's.
const APPLICATION: u32 = 1000;

/// Gives this thread the application's user, by which the kernel knows the sockets that it makes
/// (nft, `skuid`): the one for files, which is a thread's own. Whether there is such a user.
fn become_application() -> bool {
    let application = Uid::from(APPLICATION);
    // Each call says who it was before, and nothing else.
    let _ = setfsuid(application);
    setfsuid(application) == application
}

/// Whether applications can have a user of their own: not where an ordinary user has no other.
#[must_use]
pub fn has_applications() -> bool {
    let asked = std::thread::spawn(become_application);
    asked.join().unwrap_or(false)
}

/// What of a pod's traffic its sidecar gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Capture {
    /// Nothing: there is no sidecar.
    Nothing,
    /// What leaves the mesh, whoever sends it.
    #[default]
    Outside,
    /// All that the application sends and all that it is sent, as `istio-init` sets it up, with
    /// none of the cluster's networks left out.
    Everything,
}

/// A pod's network.
pub struct Pod {
    work: Sender<Work>,
    address: Ipv4Addr,
    address_v6: Ipv6Addr,
    capture: Capture,
}

impl Pod {
    /// Makes one, with the addresses 10.244.`number`.2 and `fd00:10:244:NUMBER::2`, connected to
    /// the sandbox's own network.
    ///
    /// # Errors
    /// If this is no sandbox, or the kernel refuses.
    pub fn start(number: u8, capture: Capture) -> Result<Self> {
        ensure!(sandbox::inside(), "not in a sandbox");
        let (work, queue) = channel::<Work>();
        let (report, reports) = channel();
        std::thread::spawn(move || {
            let left = unshare(CloneFlags::CLONE_NEWNET).map(|()| gettid());
            let ready = left.is_ok();
            // The starter waits for this.
            let _ = report.send(left);
            if ready {
                serve(&queue);
            }
        });
        let thread = reports.recv()?.context("no network namespace for a pod")?;
        let pod = Self {
            work,
            address: Ipv4Addr::new(10, 244, number, 2),
            address_v6: Ipv6Addr::new(0xfd00, 0x10, 0x244, number.into(), 0, 0, 0, 2),
            capture,
        };
        pod.connect(number, thread)?;
        Ok(pod)
    }

    /// The pod's address.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// The pod's IPv6 address.
    #[must_use]
    pub fn address_v6(&self) -> Ipv6Addr {
        self.address_v6
    }

    /// Does something inside the pod as its application.
    ///
    /// # Errors
    /// What it returns, or that it panicked.
    pub fn run<T: Send + 'static>(
        &self,
        body: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        if self.capture != Capture::Everything {
            return self.run_as_sidecar(body);
        }
        self.run_as_sidecar(|| {
            ensure!(
                become_application(),
                "an application with a user of its own needs root, or a range of users (newuidmap)"
            );
            let result = body();
            let _ = setfsuid(Uid::from(0));
            result
        })
    }

    /// Does something inside the pod as its sidecar's user, which is not redirected.
    ///
    /// # Errors
    /// As [`Pod::run`].
    pub fn run_as_sidecar<T: Send + 'static>(
        &self,
        body: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (answer, answers) = channel();
        let work = Box::new(move || {
            // The asker waits for this.
            let _ = answer.send(body());
        });
        self.work.send(work).ok().context("the pod is gone")?;
        answers.recv().context("the pod's work panicked")?
    }

    fn connect(&self, number: u8, thread: Pid) -> Result<()> {
        let outer = format!("pod{number}");
        run(
            "ip",
            &format!("link add {outer} type veth peer name eth0 netns {thread}"),
        )?;
        run("ip", &format!("addr add 10.244.{number}.1/24 dev {outer}"))?;
        run("ip", &format!("link set {outer} up"))?;
        let v6 = format!("fd00:10:244:{number}::");
        let (address, capture) = (self.address, self.capture);
        // Most tests need no IPv6 of the machine.
        let has_v6 = capture != Capture::Outside;
        if has_v6 {
            run("ip", &format!("addr add {v6}1/64 dev {outer} nodad"))?;
        }
        self.run_as_sidecar(move || {
            run("ip", "link set lo up")?;
            run("ip", &format!("addr add {address}/24 dev eth0"))?;
            run("ip", "link set eth0 up")?;
            run("ip", &format!("route add default via 10.244.{number}.1"))?;
            if has_v6 {
                run("ip", &format!("addr add {v6}2/64 dev eth0 nodad"))?;
                run("ip", &format!("route add default via {v6}1"))?;
            }
            match capture {
                Capture::Nothing => Ok(()),
                Capture::Outside => nft(&outside()),
                Capture::Everything => {
                    // Where the sidecar comes from when it hands on what the pod is sent.
                    run("ip", "addr add ::6/128 dev lo nodad")?;
                    nft(EVERYTHING)
                }
            }
        })
    }
}

fn serve(queue: &Receiver<Work>) {
    while let Ok(work) = queue.recv() {
        work();
    }
}

/// What `istio-init` sets up, as far as most tests need it.
fn outside() -> String {
    format!(
        "table ip capture {{ chain output {{ type nat hook output priority -100; \
         ip daddr != {{ {MESH}, 127.0.0.0/8 }} meta l4proto tcp redirect to :15001 ; }} ; }}"
    )
}

/// The rules of `istio-init` with its defaults (istio/tools/istio-iptables: `ISTIO_OUTPUT` and
/// `ISTIO_INBOUND`), the sidecar being user 0. The bench itself asks for Envoy's port 15000.
const EVERYTHING: &str = "
table inet capture {
  chain output {
    type nat hook output priority -100;
    oifname lo ip saddr 127.0.0.6 return
    oifname lo ip6 saddr ::6 return
    oifname lo meta skuid 0 ip daddr != 127.0.0.1 tcp dport != 15008 redirect to :15006
    oifname lo meta skuid 0 ip6 daddr != ::1 tcp dport != 15008 redirect to :15006
    oifname lo meta skuid != 0 return
    meta skuid 0 return
    ip daddr 127.0.0.1 return
    ip6 daddr ::1 return
    meta l4proto tcp redirect to :15001
  }
  chain prerouting {
    type nat hook prerouting priority -100;
    tcp dport { 15000, 15008, 15020, 15021, 15090 } return
    meta l4proto tcp redirect to :15006
  }
}
";

fn run(program: &str, arguments: &str) -> Result<()> {
    command::run(Command::new(program).args(arguments.split(' ')))
}
