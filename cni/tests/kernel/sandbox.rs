//! Running a test inside network and mount namespaces of its own.

use std::process::{Command, Stdio};

const INSIDE: &str = "EGRESS_CNI_INSIDE";

/// Runs `body` inside fresh namespaces; `name` is the test's full name.
pub(crate) fn sandboxed(name: &str, body: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        sh("mount -t tmpfs tmpfs /run && mkdir -p /run/netns && ip link set lo up");
        body();
        return;
    }
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount"]);
    if !is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    // One processor: a packet that was sent before another is then also handled before it.
    let cpu = usize::try_from(std::process::id()).unwrap()
        % std::thread::available_parallelism().unwrap();
    let output = command
        .args(["--", "taskset", "-c", &cpu.to_string()])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--include-ignored"])
        .env(INSIDE, "1")
        .stdin(Stdio::null())
        .output()
        .expect("`unshare` runs");
    let text = String::from_utf8_lossy(&output.stdout);
    print!("{text}{}", String::from_utf8_lossy(&output.stderr));
    // A name that matches nothing also ends with success: the count tells.
    let ran = output.status.success() && text.contains("test result: ok. 1 passed");
    assert!(ran, "{name} failed inside its namespaces");
}

/// Whether the tests run as the real root; without it, one user id is all there is.
pub(crate) fn is_root() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap();
    let whole = map.split_whitespace().nth(2) == Some("4294967295");
    whole
        && std::fs::read_to_string("/proc/self/status")
            .unwrap()
            .contains("\nUid:\t0\t0")
}

/// Runs a shell script that has to succeed, and returns what it prints on either stream.
pub(crate) fn sh(script: &str) -> String {
    let output = Command::new("bash")
        .args(["-euc", script])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).trim_end().to_owned();
    assert!(output.status.success(), "failed: {script}\n{text}");
    text
}
