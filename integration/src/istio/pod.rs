//! A pod's network: a thread with a network namespace of its own.
//!
//! A thread that leaves its network namespace keeps the new one for every socket it opens and
//! every program it starts, so a pod is a thread that is handed work. The kernel redirects what
//! the pod sends to its sidecar, as `istio-init` has it do.

use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};

use anyhow::{Context, Result, ensure};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Pid, gettid};

use crate::sandbox;

type Work = Box<dyn FnOnce() + Send>;

/// Everything in the mesh, which is not redirected.
pub const MESH: &str = "10.244.0.0/16";

/// A pod's network.
pub struct Pod {
    work: Sender<Work>,
    address: Ipv4Addr,
}

impl Pod {
    /// Makes one, with the address 10.244.`number`.2, connected to the sandbox's own network.
    ///
    /// # Errors
    /// If this is no sandbox, or the kernel refuses.
    pub fn start(number: u8) -> Result<Self> {
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
        };
        pod.connect(number, thread)?;
        Ok(pod)
    }

    /// The pod's address.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Does something inside the pod.
    ///
    /// # Errors
    /// What it returns, or that it panicked.
    pub fn run<T: Send + 'static>(
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
        let address = self.address;
        self.run(move || {
            run("ip", "link set lo up")?;
            run("ip", &format!("addr add {address}/24 dev eth0"))?;
            run("ip", "link set eth0 up")?;
            run("ip", &format!("route add default via 10.244.{number}.1"))?;
            redirect()
        })
    }
}

fn serve(queue: &Receiver<Work>) {
    while let Ok(work) = queue.recv() {
        work();
    }
}

/// What `istio-init` sets up, as far as this bench needs it.
fn redirect() -> Result<()> {
    let rules = format!(
        "table ip capture {{ chain output {{ type nat hook output priority -100; \
         ip daddr != {{ {MESH}, 127.0.0.0/8 }} meta l4proto tcp redirect to :15001 ; }} ; }}"
    );
    let output = Command::new("nft")
        .arg(rules)
        .output()
        .context("`nft` is needed")?;
    ensure!(
        output.status.success(),
        "nft: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

fn run(program: &str, arguments: &str) -> Result<()> {
    let output = Command::new(program)
        .args(arguments.split(' '))
        .output()
        .with_context(|| format!("`{program}` is needed"))?;
    ensure!(
        output.status.success(),
        "{program} {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
