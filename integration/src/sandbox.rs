//! A private network for one process: outside hosts have their real ports and public-looking
//! addresses there, and nothing leaves it.
//!
//! The process starts itself again through `unshare`, in network, mount and process namespaces of
//! its own. An ordinary user needs a user namespace for that; where the kernel refuses one, root
//! does without. When the outer process ends, everything inside ends with it.

use std::ffi::OsStr;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::command;

const INSIDE: &str = "EGRESS_SANDBOX";
const SHARED: [&str; 5] = ["--net", "--mount", "--pid", "--fork", "--kill-child"];
const SETUP: &str = include_str!("sandbox.py");

/// Whether this process already is inside.
#[must_use]
pub fn inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// A test that runs in a network of its own.
///
/// ```text
/// sandboxed! {
///     fn a_denied_name_is_never_resolved() -> Result<()> { ... }
/// }
/// ```
#[macro_export]
macro_rules! sandboxed {
    ($($(#[$attribute:meta])* fn $name:ident() -> $result:ty $body:block)+) => {$(
        #[test]
        $(#[$attribute])*
        fn $name() {
            fn body() -> $result $body
            if let Err(error) = $crate::sandbox::test(stringify!($name), body) {
                panic!("{error:#}");
            }
        }
    )+};
}

/// How a line on standard error begins that is shown even if its test passes.
pub const FIGURE: &str = "figure: ";

/// Runs `body` inside: the test binary starts itself again for this one test.
///
/// # Errors
/// What `body` returns, or that no namespace can be made.
pub fn test(name: &str, body: fn() -> Result<()>) -> Result<()> {
    if inside() {
        return body();
    }
    let output = command::one_test(this_program()?.args([
        name,
        "--exact",
        "--nocapture",
        "--include-ignored",
    ]))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    // What was measured is shown of passing tests too, past the test harness's capture.
    for line in errors.lines().filter(|line| line.starts_with(FIGURE)) {
        writeln!(std::io::stderr(), "{line}")?;
    }
    Ok(())
}

/// Starts this program again inside, with the same arguments, and waits for it.
///
/// # Errors
/// If no namespace can be made.
pub fn reenter() -> Result<ExitCode> {
    command::exit_code(this_program()?.args(std::env::args_os().skip(1)))
}

/// This program, inside.
fn this_program() -> Result<Command> {
    let mut command = Command::new("unshare");
    command
        .args(flags()?)
        .args(SHARED)
        .arg("--")
        .arg(std::env::current_exe()?)
        .env(INSIDE, "1");
    Ok(command)
}

/// The first form that works: as root, which has all users; else with a range of users; else with
/// one, which is all that an ordinary user has.
fn flags() -> Result<&'static [&'static str]> {
    const FORMS: [&[&str]; 3] = [
        &[],
        &["--user", "--map-root-user", "--map-auto"],
        &["--user", "--map-root-user"],
    ];
    for form in FORMS {
        let works = Command::new("unshare")
            .args(form)
            .args(SHARED)
            .arg("true")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .context("`unshare` (util-linux) is needed")?
            .success();
        if works {
            return Ok(form);
        }
    }
    bail!(
        "the kernel allows no network namespace here; run as root, or allow it with:\n  \
         sudo sysctl -w kernel.unprivileged_userns_clone=1 \
         kernel.apparmor_restrict_unprivileged_userns=0"
    )
}

/// Brings the loopback device up and gives it these addresses.
///
/// # Errors
/// If this process is not inside, or the kernel refuses.
pub fn assign(addresses: impl IntoIterator<Item = Ipv4Addr>) -> Result<()> {
    set_up(addresses.into_iter().map(|address| address.to_string()))
}

/// Gives the loopback device this address too, of either family.
///
/// # Errors
/// As [`assign`].
pub fn assign_also(address: IpAddr) -> Result<()> {
    set_up([address.to_string()])
}

/// Has nothing that begins a connection to these addresses arrive, until [`open`] is called: a
/// client hears neither yes nor no.
///
/// # Errors
/// If this process is not inside, or the kernel refuses.
pub fn black_hole(addresses: &[IpAddr]) -> Result<()> {
    let mut rules = String::from(
        "add table inet holes\n\
         add chain inet holes out { type filter hook output priority 0; policy accept; }\n",
    );
    for address in addresses {
        let family = if address.is_ipv4() { "ip" } else { "ip6" };
        let rule = format!("add rule inet holes out {family} daddr {address} tcp flags syn drop\n");
        rules.push_str(&rule);
    }
    nft(&rules)
}

/// Fills every black hole.
///
/// # Errors
/// As [`black_hole`].
pub fn open() -> Result<()> {
    nft("delete table inet holes\n")
}

/// Loads rules into the kernel of this namespace.
///
/// # Errors
/// Outside a sandbox, or if `nft` refuses them.
pub fn nft(rules: &str) -> Result<()> {
    ensure!(
        inside(),
        "not in a sandbox: the host's network stays as it is"
    );
    command::run(Command::new("nft").arg(rules))
}

/// Brings the loopback device up and makes every address, of both families, lead to it.
///
/// # Errors
/// As [`assign`].
pub fn assign_everything() -> Result<()> {
    set_up(["everything".to_owned()])
}

fn set_up(arguments: impl IntoIterator<Item = String>) -> Result<()> {
    ensure!(
        inside(),
        "not in a sandbox: the host's network stays as it is"
    );
    command::run(Command::new("python3").args(["-c", SETUP]).args(arguments))
        .context("network set-up failed")
}

/// Lets packets of one pod reach another.
///
/// # Errors
/// As [`assign`].
pub fn forward() -> Result<()> {
    ensure!(inside(), "not in a sandbox");
    for switch in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        let path = format!("/proc/sys/net/{switch}");
        std::fs::write(&path, "1").context(path)?;
    }
    Ok(())
}

/// Makes every program inside ask this server for names.
///
/// # Errors
/// If the file cannot be written or mounted.
pub fn resolve_with(server: Ipv4Addr, file: &std::path::Path) -> Result<()> {
    ensure!(
        inside(),
        "not in a sandbox: the host's resolver stays as it is"
    );
    std::fs::write(file, format!("nameserver {server}\n"))?;
    let arguments = [
        OsStr::new("--bind"),
        file.as_os_str(),
        OsStr::new("/etc/resolv.conf"),
    ];
    command::run(Command::new("mount").args(arguments)).context("resolv.conf could not be mounted")
}

/// The command that runs another program in this process's network, from outside.
///
/// # Errors
/// If `/proc` does not say who this is.
pub fn enter_with() -> Result<String> {
    // /proc belongs to the outer process namespace and so gives the outer number.
    let process = std::fs::read_link("/proc/self")?;
    // In the initial user namespace every id maps to itself, and there is none to enter.
    let own_users = !std::fs::read_to_string("/proc/self/uid_map")?.contains("4294967295");
    let users = if own_users {
        " --user --preserve-credentials"
    } else {
        ""
    };
    Ok(format!(
        "nsenter --target {}{users} --net --mount",
        process.display()
    ))
}
