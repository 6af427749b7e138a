//! `cargo xtask bench commands`: seconds and memory of the `warden` command on a long list, as a
//! release runs it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::run::{cargo, check, progress, say, target};

/// How often a running command is asked for its memory.
const EVERY: Duration = Duration::from_millis(5);
/// How many names the list has, if nobody says.
pub(crate) const NAMES: u32 = 500_000;

/// A module as small as one gets: what is measured is what is put into it.
const MODULE: &[u8] = b"\0asm\x01\0\0\0\x05\x03\x01\0\x02\x06\x07\x01\x7f\0A\x80\x08\x0b\x07\x1c\x01\x18warden_embedded_policies\x03\0\x0b\x07\x01\0A\x10\x0b\x01x";

/// Settings, up to the lines about the image.
const SETTINGS: &str = "apiVersion: egress-warden.io/v1alpha1
kind: EgressGateway
spec:
  istio: {version: \"1.31\"}
  gateway:
    namespace: istio-egress
    service: egress-gateway
    serviceAccount: egress-gateway
    selector: {istio: egressgateway}
  workloads: {namespaces: [shop]}
  cluster:
    networks: {pods: [10.244.0.0/16], services: [10.96.0.0/12], nodes: [172.18.0.0/16]}
  module:
    url: oci://registry.example/egress-warden:1
";

/// The image's digest, which nobody fetches here.
const DIGEST: &str =
    "    sha256: \"0000000000000000000000000000000000000000000000000000000000000000\"\n";

/// Prints a table: every command, on a policy with this many names, and on the same with one name
/// changed.
pub(crate) fn measure(names: u32) -> Result<()> {
    progress("building warden in release");
    check(&mut cargo(&[
        "build",
        "--release",
        "--package=warden",
        "--bin=warden",
    ]))?;
    let warden = target().join("release/warden");
    let folder = target().join("bench-commands");
    write(&folder, names)?;
    say(&format!("{names} names, one of them changed for `diff`\n"));
    say("command                               seconds   CPU seconds   peak MiB");
    let run = |arguments: &[&str]| run(&warden, &folder, arguments);
    run(&["check", "old.yaml"])?;
    run(&["diff", "old.yaml", "new.yaml", "--limit", "600"])?;
    run(&["docs", "old.yaml"])?;
    let lines = run(&[
        "package",
        "--module",
        "module.wasm",
        "--layout",
        "image",
        "--install",
        "install.yaml",
        "old.yaml",
    ])?;
    let policy = lines.lines().find(|line| line.contains("policy:"));
    let policy = policy.context("`warden package` names no policy")?;
    let settings = format!("{SETTINGS}{DIGEST}  {}\n", policy.trim_end());
    std::fs::write(
        folder.join("carried.yaml"),
        settings.replace("    policy", "  policy"),
    )?;
    run(&[
        "render",
        "--install",
        "carried.yaml",
        "--output-dir",
        "rendered",
        "old.yaml",
    ])?;
    Ok(())
}

/// Writes both policies and the settings into a new folder.
fn write(folder: &Path, names: u32) -> Result<()> {
    if folder.exists() {
        std::fs::remove_dir_all(folder)?;
    }
    std::fs::create_dir_all(folder)?;
    for (file, changed) in [("old.yaml", None), ("new.yaml", Some(names / 2))] {
        std::fs::write(folder.join(file), policy(names, changed)?)?;
    }
    std::fs::write(folder.join("install.yaml"), format!("{SETTINGS}{DIGEST}"))?;
    std::fs::write(folder.join("module.wasm"), MODULE)?;
    Ok(())
}

/// A rule that accepts a list, with one of its names changed.
fn policy(names: u32, changed: Option<u32>) -> Result<String> {
    let mut text = String::from(
        "apiVersion: egress-warden.io/v1alpha1\nkind: ClusterEgressPolicy\nmetadata: {name: long}\n\
         spec:\n  identity: {trustDomains: [cluster.local]}\n  tiers:\n  - name: apps\n    rules:\n    \
         - name: partners\n      from: [{namespaces: [shop]}]\n      action: Accept\n      to:\n      \
         - ports: [443]\n        domainNames:\n",
    );
    for i in 0..names {
        let other = if changed == Some(i) { "changed-" } else { "" };
        writeln!(text, "        - {other}host{i}.svc{}.example.com", i % 977)?;
    }
    Ok(text)
}

/// Runs a command, prints its line, and gives what it writes.
fn run(warden: &Path, folder: &Path, arguments: &[&str]) -> Result<String> {
    let written = folder.join("stdout");
    let mut command = Command::new(warden);
    command
        .args(arguments)
        .current_dir(folder)
        .stdout(std::fs::File::create(&written)?)
        .stderr(Stdio::null());
    let start = Instant::now();
    let mut child = command.spawn().context("warden did not start")?;
    let folder = PathBuf::from(format!("/proc/{}", child.id()));
    let (mut memory, mut processor) = (None, None);
    let ended = loop {
        if let Some(ended) = child.try_wait()? {
            break ended;
        }
        memory = peak(&folder).or(memory);
        processor = ticks(&folder).or(processor);
        std::thread::sleep(EVERY);
    };
    let seconds = start.elapsed().as_secs_f64();
    let shown = arguments.iter().take_while(|word| !word.starts_with("--"));
    let shown = shown.copied().collect::<Vec<_>>().join(" ");
    let memory = memory.map_or_else(|| "-".to_owned(), |kib| (kib / 1024).to_string());
    let processor = processor.map_or_else(|| "-".to_owned(), |spent| format!("{spent:.1}"));
    say(&format!(
        "warden {shown:<28} {seconds:>9.1} {processor:>13} {memory:>10}"
    ));
    ensure!(ended.success(), "`warden {shown}` failed: {ended}");
    Ok(std::fs::read_to_string(written)?)
}

/// The peak of a process's memory so far, in KiB (Linux, proc(5): `VmHWM`); `None` elsewhere.
fn peak(process: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(process.join("status")).ok()?;
    let line = text.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// The seconds of processor time that a process has taken (Linux, proc(5): `utime` and `stime`, in
/// hundredths); `None` elsewhere.
fn ticks(process: &Path) -> Option<f64> {
    let text = std::fs::read_to_string(process.join("stat")).ok()?;
    // The name of the program stands in brackets and may hold spaces.
    let (_, fields) = text.rsplit_once(')')?;
    let spent = fields.split_whitespace().skip(11).take(2);
    let spent: Option<f64> = spent.map(|field| field.parse::<f64>().ok()).sum();
    Some(spent? / 100.0)
}

#[cfg(test)]
mod tests {
    use super::{peak, policy, ticks};

    #[test]
    fn the_two_policies_differ_in_one_line() {
        let (old, new) = (policy(100, None).unwrap(), policy(100, Some(50)).unwrap());
        let differ = old.lines().zip(new.lines()).filter(|(a, b)| a != b);
        assert_eq!(differ.count(), 1);
        assert_eq!(old.matches(".example.com").count(), 100);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_process_has_a_peak_and_takes_time() {
        assert!(peak("/proc/self".as_ref()).is_some_and(|kib| kib > 100));
        assert!(ticks("/proc/self".as_ref()).is_some());
        let nowhere = "/nowhere".as_ref();
        assert_eq!((peak(nowhere), ticks(nowhere)), (None, None));
    }
}
