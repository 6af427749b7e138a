//! The CNI wire protocol: environment, standard input, results and errors.
//!
//! Written to the CNI specification 1.1.0, section 2 ("Execution protocol"), and the older
//! versions of it that know plugin chains (0.3.0 and later).

use std::collections::BTreeMap;
use std::path::PathBuf;

use egress_policy::contract::NODE_PLUGIN;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The protocol versions this plugin speaks. 0.1.0 and 0.2.0 have no chains.
pub const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// The version used in answers when the caller's is unknown.
pub const LATEST: &str = "1.1.0";

/// Error codes of the specification (1 to 99) and of this plugin (100 and more).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CniErrorCode {
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
    /// STATUS: the plugin cannot serve ADD. Never 51 ("existing containers may have limited
    /// connectivity"): what keeps ADD from being served takes nothing from running pods.
    NotAvailable,
    /// The interface cannot be guarded by this plugin.
    Unguardable,
    /// CHECK: what the kernel holds is not what it should hold. Also for an interface that has
    /// no record: 3 would tell the runtime that there is nothing to clean up.
    Drift,
}

impl CniErrorCode {
    /// Every code, by number.
    pub const ALL: [Self; 10] = [
        Self::IncompatibleVersion,
        Self::UnsupportedField,
        Self::InvalidEnvironment,
        Self::Io,
        Self::Decode,
        Self::InvalidConfig,
        Self::TryAgain,
        Self::NotAvailable,
        Self::Unguardable,
        Self::Drift,
    ];

    /// What it means, for the reference page.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::IncompatibleVersion => {
                "The plugin does not support the CNI version, or the version does not have the command."
            }
            Self::UnsupportedField => "A field of the network configuration is not supported.",
            Self::InvalidEnvironment => "An environment variable is missing or invalid.",
            Self::Io => "The plugin cannot read its input, its files or the pod's interfaces.",
            Self::Decode => "The previous plugin's result cannot be decoded.",
            Self::InvalidConfig => {
                "The network configuration or the node configuration is invalid."
            }
            Self::TryAgain => "A temporary failure.",
            Self::NotAvailable => "STATUS: the plugin cannot add pods at present.",
            Self::Unguardable => {
                "The pod's interface cannot be guarded: it is no veth pair, or is in the host's network."
            }
            Self::Drift => {
                "CHECK: the kernel's rules for the interface differ from those that ADD made."
            }
        }
    }

    /// What to do about it, for the reference page.
    #[must_use]
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::IncompatibleVersion => {
                "Use a CNI version from 0.3.0 to 1.1.0 in the network's `conflist`."
            }
            Self::UnsupportedField | Self::InvalidEnvironment => {
                "Correct the network's `conflist`, or report the runtime's fault."
            }
            Self::Io => "Read `details`, and check the node's disk and the plugin's permissions.",
            Self::Decode => "Check the plugin before this one in the chain.",
            Self::InvalidConfig => "Correct the field that the message names.",
            Self::TryAgain => "Nothing: the runtime tries again.",
            Self::NotAvailable => "Read the message and the agent's log. New pods wait meanwhile.",
            Self::Unguardable => {
                "Use a network plugin that makes veth pairs, or list the namespace in `exemptNamespaces`."
            }
            Self::Drift => {
                "Look for what changes the tables `egress_warden`. The agent restores them."
            }
        }
    }

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
pub struct CniError {
    /// The error code.
    pub code: CniErrorCode,
    /// One line that says what went wrong.
    pub message: String,
    /// More about it; may be empty.
    pub details: String,
}

impl CniError {
    /// A failure without details.
    pub fn new(code: CniErrorCode, message: impl Into<String>) -> Self {
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
    /// `CNI_NETNS`; for ADD and CHECK only.
    pub netns: Option<PathBuf>,
    /// `K8S_POD_NAMESPACE` out of `CNI_ARGS`; empty if not given.
    pub namespace: String,
    /// `K8S_POD_NAME` out of `CNI_ARGS`; empty if not given.
    pub pod: String,
    /// `K8S_POD_UID` out of `CNI_ARGS`; empty if not given.
    pub uid: String,
}

impl Environment {
    /// Reads and validates the variables through `get`.
    ///
    /// # Errors
    /// [`CniErrorCode::InvalidEnvironment`] with the variable's name.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Result<Self, CniError> {
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
            None => {
                let why = format!("is not set: {NODE_PLUGIN} is called by a container runtime");
                return Err(invalid("CNI_COMMAND", &why));
            }
        };
        let mut environment = Self {
            verb,
            container_id: String::new(),
            ifname: String::new(),
            netns: None,
            namespace: String::new(),
            pod: String::new(),
            uid: String::new(),
        };
        // CNI_PATH is for plugins that call others; this one calls none, so it is not judged.
        if matches!(verb, Verb::Add | Verb::Del | Verb::Check) {
            environment.attached(&get)?;
        }
        Ok(environment)
    }

    /// The variables of one attachment. All that are wrong are named, as the specification
    /// asks of code 4.
    fn attached(&mut self, get: &impl Fn(&str) -> Option<String>) -> Result<(), CniError> {
        let container_id = container_id(get("CNI_CONTAINERID"));
        let ifname = ifname(get("CNI_IFNAME"));
        // DEL needs neither: what made ADD fail must not keep the pod from being deleted.
        let (netns, pod) = if self.verb == Verb::Del {
            (Ok(None), Ok(Default::default()))
        } else {
            (
                netns(get("CNI_NETNS")),
                pod_of(get("CNI_ARGS").as_deref().unwrap_or("")),
            )
        };
        match (container_id, ifname, netns, pod) {
            (Ok(container_id), Ok(ifname), Ok(netns), Ok([namespace, pod, uid])) => {
                *self = Self {
                    verb: self.verb,
                    container_id,
                    ifname,
                    netns,
                    namespace,
                    pod,
                    uid,
                };
                Ok(())
            }
            (container_id, ifname, netns, pod) => {
                let wrong = [container_id.err(), ifname.err(), netns.err(), pod.err()];
                let wrong: Vec<String> = wrong.into_iter().flatten().map(|f| f.message).collect();
                Err(CniError::new(
                    CniErrorCode::InvalidEnvironment,
                    wrong.join("; "),
                ))
            }
        }
    }
}

fn invalid(variable: &str, problem: &str) -> CniError {
    CniError::new(
        CniErrorCode::InvalidEnvironment,
        format!("{variable} {problem}"),
    )
}

/// "Must start with an alphanumeric character, optionally followed by any combination of one
/// or more alphanumeric characters, underscore, dot or hyphen." The length bound keeps it a
/// file name.
fn container_id(value: Option<String>) -> Result<String, CniError> {
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
fn ifname(value: Option<String>) -> Result<String, CniError> {
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

fn netns(value: Option<String>) -> Result<Option<PathBuf>, CniError> {
    match value.filter(|value| !value.is_empty()) {
        Some(path) if path.starts_with('/') => Ok(Some(PathBuf::from(path))),
        Some(_) => Err(invalid("CNI_NETNS", "must be an absolute path")),
        None => Err(invalid("CNI_NETNS", "is not set")),
    }
}

/// Namespace, name and UID of the pod from `CNI_ARGS`, "KEY=VALUE" pairs separated by semicolons. A key
/// that is given twice is refused: which of the two counts must not be a guess.
fn pod_of(args: &str) -> Result<[String; 3], CniError> {
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
    let name = |key: &str, longest: usize| -> Result<String, CniError> {
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
    // It is only ever looked up.
    let uid = pairs.get("K8S_POD_UID").copied().unwrap_or_default();
    Ok([
        name("K8S_POD_NAMESPACE", 63)?,
        name("K8S_POD_NAME", 253)?,
        uid.to_owned(),
    ])
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

/// The plugin's network configuration. Keys that are not known are refused in
/// [`NetworkConfig::parse`].
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkConfig {
    /// The protocol version of this call.
    #[serde(default)]
    pub cni_version: String,
    /// The network's name.
    #[serde(default)]
    pub name: String,
    /// The plugin type, `egress-warden-cni`.
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
    /// GC: all attachments that are still valid; `None` if the runtime does not say.
    #[serde(skip)]
    pub valid_attachments: Option<Vec<ValidAttachment>>,
}

fn default_config_file() -> PathBuf {
    PathBuf::from("/etc/egress-warden-cni/config.json")
}

fn default_state_dir() -> PathBuf {
    PathBuf::from("/run/egress-warden-cni")
}

fn default_nft() -> PathBuf {
    PathBuf::from("/usr/sbin/nft")
}

/// Keys that may stand in a network configuration: the specification's own and this
/// plugin's. Those under [`RESERVED`] may, too.
const KNOWN_KEYS: [&str; 12] = [
    "cniVersion",
    "name",
    "type",
    "args",
    "capabilities",
    "runtimeConfig",
    "ipMasq",
    "prevResult",
    "configFile",
    "stateDir",
    "nft",
    "onUnguardable",
];

/// What keys that the runtime adds begin with.
const RESERVED: &str = "cni.dev/";

/// Where GC's list may stand. The second is what libcni 1.2.0 called it.
const VALID_ATTACHMENTS: [&str; 2] = ["cni.dev/valid-attachments", "cni.dev/attachments"];

impl NetworkConfig {
    /// Parses and checks standard input for `verb`.
    ///
    /// # Errors
    /// [`CniErrorCode::Decode`], [`CniErrorCode::UnsupportedField`], [`CniErrorCode::IncompatibleVersion`] or
    /// [`CniErrorCode::InvalidConfig`].
    pub fn parse(input: &[u8], verb: Verb) -> Result<Self, CniError> {
        let decode = |error: serde_json::Error| CniError {
            details: error.to_string(),
            ..CniError::new(
                CniErrorCode::Decode,
                "the network configuration does not decode",
            )
        };
        let keys: BTreeMap<String, Box<RawValue>> =
            serde_json::from_slice(input).map_err(decode)?;
        let known = |key: &str| KNOWN_KEYS.contains(&key) || key.starts_with(RESERVED);
        // A mistake in the configuration keeps pods from starting, not from being deleted.
        let strict = !matches!(verb, Verb::Del | Verb::Gc | Verb::Version);
        if let Some((key, value)) = keys.iter().find(|(key, _)| strict && !known(key)) {
            return Err(CniError::new(
                CniErrorCode::UnsupportedField,
                format!("unsupported field `{key}`: {}", value.get()),
            ));
        }
        let mut config: Self = serde_json::from_slice(input).map_err(decode)?;
        if verb == Verb::Version {
            return Ok(config);
        }
        let rank = |version: &str| VERSIONS.iter().position(|known| *known == version);
        match (rank(&config.cni_version), rank(verb.since())) {
            (Some(have), Some(need)) if have >= need => {}
            _ => {
                return Err(CniError::new(
                    CniErrorCode::IncompatibleVersion,
                    format!(
                        "cniVersion `{}` is not supported for {verb:?}; supported: {}",
                        config.cni_version.escape_debug(),
                        VERSIONS.join(", ")
                    ),
                ));
            }
        }
        if !is_network_name(&config.name) {
            return Err(CniError::new(
                CniErrorCode::InvalidConfig,
                format!("`{}` is not a network name", config.name.escape_debug()),
            ));
        }
        if verb == Verb::Gc {
            let list = VALID_ATTACHMENTS.iter().find_map(|key| keys.get(*key));
            // libcni writes an empty list as null.
            config.valid_attachments = list
                .map(|list| serde_json::from_str::<Option<Vec<_>>>(list.get()))
                .transpose()
                .map_err(decode)?
                .map(Option::unwrap_or_default);
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
    #[serde(default, deserialize_with = "null_is_empty")]
    pub interfaces: Vec<Interface>,
    /// Addresses assigned so far.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub ips: Vec<Ip>,
}

/// Plugins in Go that do not leave an empty list out write it as null.
fn null_is_empty<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// The result that ADD hands on: `previous` as it is, saying `version`, which "must be the same
/// version supplied on input". A result without a version is the caller's; one of another form
/// (0.3.0 to 0.4.0, 1.0.0 and later) is not, as for the reference plugins.
///
/// # Errors
/// [`CniErrorCode::Decode`].
pub fn pass_through(previous: &RawValue, version: &str) -> Result<String, CniError> {
    let decode = |details: String| CniError {
        details,
        ..CniError::new(CniErrorCode::Decode, "prevResult does not decode")
    };
    let mut parts: BTreeMap<String, Box<RawValue>> =
        serde_json::from_str(previous.get()).map_err(|error| decode(error.to_string()))?;
    let said: Option<String> = parts
        .get("cniVersion")
        .map(|said| serde_json::from_str(said.get()))
        .transpose()
        .map_err(|error| decode(error.to_string()))?
        .filter(|said: &String| !said.is_empty());
    let of_zero = |version: &str| version.starts_with("0.");
    match said.as_deref() {
        Some(said) if said == version => return Ok(previous.get().to_owned()),
        Some(said) if !VERSIONS.contains(&said) || of_zero(said) != of_zero(version) => {
            return Err(decode(format!(
                "it is of version `{}`, the configuration of {version}",
                said.escape_debug()
            )));
        }
        Some(_) | None => {}
    }
    let version = serde_json::value::to_raw_value(version);
    let version = version.map_err(|error| decode(error.to_string()))?;
    parts.insert("cniVersion".to_owned(), version);
    serde_json::to_string(&parts).map_err(|error| decode(error.to_string()))
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
mod tests;
