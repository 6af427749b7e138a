//! The CNI wire protocol: environment, standard input, results and errors.
//!
//! Written to the CNI specification 1.1.0, section 2 ("Execution protocol"), and the older
//! versions of it that know plugin chains (0.3.0 and later).

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The protocol versions this plugin speaks. 0.1.0 and 0.2.0 have no chains.
pub const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// The version used in answers when the caller's is unknown.
pub const LATEST: &str = "1.1.0";

/// Error codes of the specification (1 to 99) and of this plugin (100 and more).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// The configuration's version is not one of [`VERSIONS`], or the verb is newer than it.
    IncompatibleVersion,
    /// A field of the network configuration is not supported.
    UnsupportedField,
    /// An environment variable is missing or invalid.
    InvalidEnvironment,
    /// Input or output failed.
    Io,
    /// Something that was read does not decode.
    Decode,
    /// The network or node configuration is invalid.
    InvalidConfig,
    /// A passing condition: the runtime may try again.
    TryAgain,
    /// STATUS: the plugin cannot serve ADD.
    NotAvailable,
    /// The interface cannot be guarded by this plugin.
    Unguardable,
    /// CHECK: what the kernel holds is not what it should hold.
    Drift,
}

impl Code {
    /// The number on the wire.
    #[must_use]
    pub fn number(self) -> u32 {
        match self {
            Self::IncompatibleVersion => 1,
            Self::UnsupportedField => 2,
            Self::InvalidEnvironment => 4,
            Self::Io => 5,
            Self::Decode => 6,
            Self::InvalidConfig => 7,
            Self::TryAgain => 11,
            Self::NotAvailable => 50,
            Self::Unguardable => 100,
            Self::Drift => 101,
        }
    }
}

/// A failure as the runtime sees it.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The error code.
    pub code: Code,
    /// One line that says what went wrong.
    pub message: String,
    /// More about it; may be empty.
    pub details: String,
}

impl Failure {
    /// A failure without details.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            details: String::new(),
        }
    }

    /// The error object that is printed to standard output.
    #[must_use]
    pub fn json(&self, version: &str) -> String {
        let cni_version = if VERSIONS.contains(&version) {
            version
        } else {
            LATEST
        };
        serde_json::json!({
            "cniVersion": cni_version,
            "code": self.code.number(),
            "msg": self.message,
            "details": self.details,
        })
        .to_string()
    }
}

/// A CNI command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Guard an interface.
    Add,
    /// Forget an interface.
    Del,
    /// Compare an interface's guard with what it should be.
    Check,
    /// Forget all interfaces that are not listed.
    Gc,
    /// Say whether ADD can be served.
    Status,
    /// List the protocol versions.
    Version,
}

impl Verb {
    /// The first protocol version that has the verb.
    fn since(self) -> &'static str {
        match self {
            Self::Add | Self::Del | Self::Version => "0.3.0",
            Self::Check => "0.4.0",
            Self::Gc | Self::Status => "1.1.0",
        }
    }
}

/// The environment of one call, validated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    /// `CNI_COMMAND`.
    pub verb: Verb,
    /// `CNI_CONTAINERID`; empty for verbs without a container.
    pub container_id: String,
    /// `CNI_IFNAME`; empty for verbs without a container.
    pub ifname: String,
    /// `CNI_NETNS`, if given.
    pub netns: Option<PathBuf>,
    /// `K8S_POD_NAMESPACE` out of `CNI_ARGS`; empty if not given.
    pub namespace: String,
    /// `K8S_POD_NAME` out of `CNI_ARGS`; empty if not given.
    pub pod: String,
}

impl Environment {
    /// Reads and validates the variables through `get`.
    ///
    /// # Errors
    /// [`Code::InvalidEnvironment`] with the variable's name.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Result<Self, Failure> {
        let verb = match get("CNI_COMMAND").as_deref() {
            Some("ADD") => Verb::Add,
            Some("DEL") => Verb::Del,
            Some("CHECK") => Verb::Check,
            Some("GC") => Verb::Gc,
            Some("STATUS") => Verb::Status,
            Some("VERSION") => Verb::Version,
            Some(other) => {
                return Err(invalid(
                    "CNI_COMMAND",
                    &format!("`{}` is not a command", other.escape_debug()),
                ));
            }
            None => return Err(invalid("CNI_COMMAND", "is not set")),
        };
        let mut environment = Self {
            verb,
            container_id: String::new(),
            ifname: String::new(),
            netns: None,
            namespace: String::new(),
            pod: String::new(),
        };
        if matches!(verb, Verb::Add | Verb::Del | Verb::Check) {
            environment.container_id = container_id(get("CNI_CONTAINERID"))?;
            environment.ifname = ifname(get("CNI_IFNAME"))?;
            environment.netns = netns(get("CNI_NETNS"), verb)?;
            (environment.namespace, environment.pod) =
                pod_of(get("CNI_ARGS").as_deref().unwrap_or(""))?;
        }
        if let Some(path) = get("CNI_PATH")
            && path.split(':').any(|part| !part.starts_with('/'))
        {
            return Err(invalid("CNI_PATH", "must be a list of absolute paths"));
        }
        Ok(environment)
    }
}

fn invalid(variable: &str, problem: &str) -> Failure {
    Failure::new(Code::InvalidEnvironment, format!("{variable} {problem}"))
}

/// "Must start with an alphanumeric character, optionally followed by any combination of one
/// or more alphanumeric characters, underscore, dot or hyphen." The length bound keeps it a
/// file name.
fn container_id(value: Option<String>) -> Result<String, Failure> {
    let value = value
        .filter(|value| !value.is_empty())
        .ok_or_else(|| invalid("CNI_CONTAINERID", "is not set"))?;
    let tail = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    let valid = value.len() <= 200
        && value
            .as_bytes()
            .first()
            .is_some_and(u8::is_ascii_alphanumeric)
        && value.bytes().all(tail);
    if valid {
        Ok(value)
    } else {
        Err(invalid("CNI_CONTAINERID", "is not a container id"))
    }
}

/// At most 15 bytes, not `.` or `..`, without `/`, `:` or white space.
fn ifname(value: Option<String>) -> Result<String, Failure> {
    let value = value
        .filter(|value| !value.is_empty())
        .ok_or_else(|| invalid("CNI_IFNAME", "is not set"))?;
    let forbidden = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
    if value.len() > 15 || value == "." || value == ".." || value.contains(forbidden) {
        return Err(invalid("CNI_IFNAME", "is not an interface name"));
    }
    Ok(value)
}

/// Whether both parts of `id` are what the protocol allows.
#[must_use]
pub fn is_attachment(id: &crate::attachment::AttachmentId) -> bool {
    container_id(Some(id.container_id.clone())).is_ok() && ifname(Some(id.ifname.clone())).is_ok()
}

fn netns(value: Option<String>, verb: Verb) -> Result<Option<PathBuf>, Failure> {
    match value.filter(|value| !value.is_empty()) {
        Some(path) if path.starts_with('/') => Ok(Some(PathBuf::from(path))),
        Some(_) => Err(invalid("CNI_NETNS", "must be an absolute path")),
        None if verb == Verb::Del => Ok(None),
        None => Err(invalid("CNI_NETNS", "is not set")),
    }
}

/// Namespace and pod name from `CNI_ARGS`, "KEY=VALUE" pairs separated by semicolons. A key
/// that is given twice is refused: which of the two counts must not be a guess.
fn pod_of(args: &str) -> Result<(String, String), Failure> {
    let mut pairs = BTreeMap::new();
    for pair in args.split(';').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair
            .split_once('=')
            .ok_or_else(|| invalid("CNI_ARGS", "is not a list of KEY=VALUE"))?;
        if pairs.insert(key, value).is_some() {
            return Err(invalid(
                "CNI_ARGS",
                &format!("names `{}` twice", key.escape_debug()),
            ));
        }
    }
    let name = |key: &str, longest: usize| -> Result<String, Failure> {
        let value = pairs.get(key).copied().unwrap_or("");
        let plain = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.')
        };
        if value.len() <= longest && value.bytes().all(plain) {
            Ok(value.to_owned())
        } else {
            Err(invalid(
                "CNI_ARGS",
                &format!("has a value for {key} that is not a Kubernetes name"),
            ))
        }
    };
    Ok((name("K8S_POD_NAMESPACE", 63)?, name("K8S_POD_NAME", 253)?))
}

/// What to do with an interface that cannot be guarded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OnUnguardable {
    /// ADD fails: the pod does not start.
    #[default]
    Fail,
    /// A warning on standard error; the pod starts without a guard.
    Warn,
}

/// One attachment as GC lists it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct ValidAttachment {
    /// The container.
    #[serde(rename = "containerID")]
    pub container_id: String,
    /// The interface inside the container.
    pub ifname: String,
}

/// The plugin's network configuration. `K` is the type of keys that are not known: refused
/// in [`NetworkConfig::parse`].
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkConfig {
    /// The protocol version of this call.
    #[serde(default)]
    pub cni_version: String,
    /// The network's name.
    #[serde(default)]
    pub name: String,
    /// The plugin type, `egress-cni`.
    #[serde(default, rename = "type")]
    _type: String,
    /// The node configuration.
    #[serde(default = "default_config_file")]
    pub config_file: PathBuf,
    /// Where records of attachments are kept; cleared at boot, like the kernel's rules.
    #[serde(default = "default_state_dir")]
    pub state_dir: PathBuf,
    /// The `nft` program.
    #[serde(default = "default_nft")]
    pub nft: PathBuf,
    /// What to do with an interface that cannot be guarded.
    #[serde(default)]
    pub on_unguardable: OnUnguardable,
    /// The result of the plugin before this one.
    #[serde(default)]
    pub prev_result: Option<Box<RawValue>>,
    /// GC: all attachments that are still valid.
    #[serde(default, rename = "cni.dev/valid-attachments")]
    pub valid_attachments: Option<Vec<ValidAttachment>>,
}

fn default_config_file() -> PathBuf {
    PathBuf::from("/etc/egress-cni/config.json")
}

fn default_state_dir() -> PathBuf {
    PathBuf::from("/run/egress-cni")
}

fn default_nft() -> PathBuf {
    PathBuf::from("/usr/sbin/nft")
}

/// Keys that may stand in a network configuration: the specification's own and this
/// plugin's.
const KNOWN_KEYS: [&str; 14] = [
    "cniVersion",
    "name",
    "type",
    "args",
    "capabilities",
    "runtimeConfig",
    "ipMasq",
    "prevResult",
    "cni.dev/valid-attachments",
    "cni.dev/attachments",
    "configFile",
    "stateDir",
    "nft",
    "onUnguardable",
];

impl NetworkConfig {
    /// Parses and checks standard input for `verb`.
    ///
    /// # Errors
    /// [`Code::Decode`], [`Code::UnsupportedField`], [`Code::IncompatibleVersion`] or
    /// [`Code::InvalidConfig`].
    pub fn parse(input: &[u8], verb: Verb) -> Result<Self, Failure> {
        let decode = |error: serde_json::Error| Failure {
            details: error.to_string(),
            ..Failure::new(Code::Decode, "the network configuration does not decode")
        };
        let keys: BTreeMap<String, Box<RawValue>> =
            serde_json::from_slice(input).map_err(decode)?;
        if let Some((key, value)) = keys
            .iter()
            .find(|(key, _)| !KNOWN_KEYS.contains(&key.as_str()))
        {
            return Err(Failure::new(
                Code::UnsupportedField,
                format!("unsupported field `{key}`: {}", value.get()),
            ));
        }
        let config: Self = serde_json::from_slice(input).map_err(decode)?;
        if verb == Verb::Version {
            return Ok(config);
        }
        let rank = |version: &str| VERSIONS.iter().position(|known| *known == version);
        match (rank(&config.cni_version), rank(verb.since())) {
            (Some(have), Some(need)) if have >= need => {}
            _ => {
                return Err(Failure::new(
                    Code::IncompatibleVersion,
                    format!(
                        "cniVersion `{}` is not supported for {verb:?}; supported: {}",
                        config.cni_version.escape_debug(),
                        VERSIONS.join(", ")
                    ),
                ));
            }
        }
        if !is_network_name(&config.name) {
            return Err(Failure::new(
                Code::InvalidConfig,
                format!("`{}` is not a network name", config.name.escape_debug()),
            ));
        }
        Ok(config)
    }
}

/// Network names follow the same rule as container ids.
fn is_network_name(name: &str) -> bool {
    name.as_bytes()
        .first()
        .is_some_and(u8::is_ascii_alphanumeric)
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

/// The parts of a previous result that this plugin reads (specification, section 5).
#[derive(Debug, Clone, Default, Deserialize)]
pub struct PrevResult {
    /// Interfaces made so far, on the host and in the pod.
    #[serde(default)]
    pub interfaces: Vec<Interface>,
    /// Addresses assigned so far.
    #[serde(default)]
    pub ips: Vec<Ip>,
}

/// One interface of a result.
#[derive(Debug, Clone, Deserialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// The network namespace it is in; empty or absent on the host.
    #[serde(default)]
    pub sandbox: String,
}

/// One address of a result.
#[derive(Debug, Clone, Deserialize)]
pub struct Ip {
    /// Address with prefix length.
    pub address: ipnet::IpNet,
    /// Index into the interfaces.
    #[serde(default)]
    pub interface: Option<usize>,
}

/// The answer to VERSION.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VersionResult<'a> {
    /// The caller's version.
    pub cni_version: &'a str,
    /// [`VERSIONS`].
    pub supported_versions: [&'a str; 5],
}

#[cfg(test)]
#[path = "protocol/tests.rs"]
mod tests;
