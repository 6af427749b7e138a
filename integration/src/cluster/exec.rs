//! Tries from within pods: `kubectl exec` of the tools that an application's image may have.

use std::net::Ipv4Addr;

use anyhow::Result;
use serde::Serialize;

use super::kubectl;
use super::node::Node;

/// A container that things are tried in.
#[derive(Clone, Copy, Debug)]
pub struct PodShell<'p> {
    /// The namespace.
    pub namespace: &'p str,
    /// What has the pod, such as `deploy/app1` or `pod/early`.
    pub of: &'p str,
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ProbeResult {
    /// The right server's answer.
    Reached,
    /// An answer with this status, of somebody else.
    Status(String),
    /// The connection was closed or refused.
    Closed,
    /// Nothing came.
    Silence,
    /// The API server did not let it begin, for this reason.
    Refused(String),
}

impl ProbeResult {
    /// A word or two for tables.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::Reached => "reached".to_owned(),
            Self::Status(status) => format!("denied {status}"),
            Self::Closed => "closed".to_owned(),
            Self::Silence => "no answer".to_owned(),
            Self::Refused(why) => format!("refused: {why}"),
        }
    }
}

/// Seconds after which nothing more is expected.
const SECONDS: &str = "6";

impl PodShell<'_> {
    /// Runs a script of bash.
    ///
    /// # Errors
    /// If `kubectl` does not start.
    pub fn bash(&self, node: &Node, script: &str) -> Result<kubectl::Said> {
        let arguments = ["-n", self.namespace, "exec", self.of, "-c", "app", "--"];
        let arguments = [&arguments[..], &["bash", "-c", script]].concat();
        kubectl::tried(node, &arguments, "")
    }

    /// Asks a URL; the right server answers with this name. `host` is put into the request.
    ///
    /// # Errors
    /// If `kubectl` does not start.
    pub fn url(
        &self,
        node: &Node,
        url: &str,
        host: Option<&str>,
        name: &str,
    ) -> Result<ProbeResult> {
        let host = host.map(|host| format!("-H 'Host: {host}'"));
        let script = format!(
            "curl -s -k -m {SECONDS} {} -w '\\n%{{http_code}}' '{url}'; echo \" $?\"",
            host.unwrap_or_default()
        );
        let said = self.bash(node, &script)?;
        let body = said.text.lines().next().unwrap_or_default();
        if body == name {
            return Ok(ProbeResult::Reached);
        }
        let mut lines = said
            .text
            .lines()
            .filter(|line| !line.starts_with("command terminated"));
        let (status, code) = lines
            .next_back()
            .and_then(|line| line.split_once(' '))
            .unwrap_or_default();
        Ok(match (status, code) {
            ("000", "28") => ProbeResult::Silence,
            ("000", _) => ProbeResult::Closed,
            ("", _) => ProbeResult::Refused(said.text.clone()),
            (status, _) => ProbeResult::Status(status.to_owned()),
        })
    }

    /// Opens a connection and reads the server's first line.
    ///
    /// # Errors
    /// If `kubectl` does not start.
    pub fn banner(&self, node: &Node, to: Ipv4Addr, port: u16, line: &str) -> Result<ProbeResult> {
        self.line(node, &format!("exec 3<>/dev/tcp/{to}/{port}"), line)
    }

    /// Sends a UDP packet to a server that sends it back.
    ///
    /// # Errors
    /// If `kubectl` does not start.
    pub fn packet(&self, node: &Node, to: Ipv4Addr, port: u16) -> Result<ProbeResult> {
        self.line(
            node,
            &format!("exec 3<>/dev/udp/{to}/{port}; echo hello >&3"),
            "hello",
        )
    }

    fn line(&self, node: &Node, open: &str, line: &str) -> Result<ProbeResult> {
        // `read` ends with more than 128 when its time is over.
        let script = format!(
            "{{ {open}; }} 2>/dev/null || {{ echo closed; exit; }}\n\
             read -r -t {SECONDS} line <&3; code=$?\n\
             if [ -n \"$line\" ]; then echo \"got $line\"; \
             elif [ $code -gt 128 ]; then echo silence; else echo closed; fi"
        );
        let script = format!(
            "timeout() {{ sleep 9; kill $1 2>/dev/null; }}; timeout $$ >/dev/null 2>&1 & {script}; kill %1 2>/dev/null"
        );
        let said = self.bash(node, &script)?;
        let first = said.text.lines().next().unwrap_or_default();
        Ok(match first.trim_end().strip_prefix("got ") {
            Some(got) if got == line.trim_end() => ProbeResult::Reached,
            Some(got) => ProbeResult::Status(got.to_owned()),
            None if first == "closed" => ProbeResult::Closed,
            None => ProbeResult::Silence,
        })
    }
}
