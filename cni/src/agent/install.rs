//! Putting the plugin in its place on the node, and taking it away again.
//!
//! The place is directly behind the main plugin, which makes the interface; whatever else is
//! chained (portmap, istio-cni) stays where it is. Other installers edit the same files, so
//! this is checked again and again.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use egress_policy::contract::NODE_PLUGIN;
use serde_json::{Value, json};

/// The plugin's type and its executable's name. It is not a short one: nodes may have chained plugins
/// for egress of other products, such as the Amazon VPC CNI's `egress-cni`.
pub const PLUGIN: &str = "egress-warden-cni";

/// The key of an entry that only this plugin's have.
const CONFIG_FILE: &str = "configFile";

/// Why the plugin could not be put in its place.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// A file could not be read or written.
    #[error("`{path}`: {source}")]
    Io {
        /// The file.
        path: String,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// The node's network configuration is not one that can be chained to.
    #[error("`{path}`: {problem}")]
    Unsuitable {
        /// The file.
        path: String,
        /// What is wrong, and what to do instead.
        problem: String,
    },
}

/// Main plugins that give pods something else than a veth, or a datapath that does not pass
/// netfilter's hooks: a guard there would count nothing and promise everything.
const UNSUITABLE: [(&str, &str); 7] = [
    (
        "cilium-cni",
        "Cilium's eBPF datapath skips the forward hook: `warden render` writes policies in its language \
         (spec.cluster.adminPolicies of the install settings)",
    ),
    ("macvlan", "macvlan has no host side"),
    ("ipvlan", "ipvlan has no host side"),
    ("host-device", "a host device has no host side"),
    ("sriov", "an SR-IOV function has no host side"),
    (
        "ovn-k8s-cni-overlay",
        "Open vSwitch forwards without netfilter",
    ),
    ("antrea", "Open vSwitch forwards without netfilter"),
];

/// Where things go.
#[derive(Debug, Clone)]
pub struct NodePaths {
    /// The runtime's network configuration folder, usually `/etc/cni/net.d`.
    pub net_dir: PathBuf,
    /// The runtime's plugin folder, usually `/opt/cni/bin`.
    pub bin_dir: PathBuf,
    /// The plugin's executable in the agent's own image.
    pub plugin_source: PathBuf,
    /// The entry for the chain, without `type`.
    pub entry: Value,
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> InstallError {
    let path = path.display().to_string();
    move |source| InstallError::Io { path, source }
}

impl NodePaths {
    /// Makes the executable and the chain what they should be. Returns whether anything had
    /// to be changed.
    ///
    /// # Errors
    /// [`InstallError`]; nothing is half-written.
    pub fn ensure(&self) -> Result<bool, InstallError> {
        let binary = self.ensure_binary()?;
        Ok(self.ensure_chain()? || binary)
    }

    /// The configuration list that the runtime uses: the first by name that is one, as libcni
    /// chooses.
    ///
    /// # Errors
    /// [`InstallError`], also if there is none yet.
    pub fn active_list(&self) -> Result<PathBuf, InstallError> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.net_dir).map_err(io(&self.net_dir))? {
            let path = entry.map_err(io(&self.net_dir))?.path();
            let extension = path.extension().and_then(|extension| extension.to_str());
            if matches!(extension, Some("conf" | "conflist" | "json")) {
                names.push(path);
            }
        }
        names.sort();
        let unsuitable = |path: &Path, problem: &str| InstallError::Unsuitable {
            path: path.display().to_string(),
            problem: problem.to_owned(),
        };
        match names.into_iter().next() {
            Some(path)
                if path
                    .extension()
                    .is_some_and(|extension| extension == "conflist") =>
            {
                Ok(path)
            }
            Some(path) => Err(unsuitable(
                &path,
                "a single configuration cannot be chained to: make it a .conflist",
            )),
            None => Err(unsuitable(&self.net_dir, "no network configuration yet")),
        }
    }

    fn ensure_binary(&self) -> Result<bool, InstallError> {
        let target = self.bin_dir.join(PLUGIN);
        let wanted = fs::read(&self.plugin_source).map_err(io(&self.plugin_source))?;
        let executable = |path: &Path| {
            fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o777 == 0o755)
        };
        match fs::read(&target) {
            Ok(present) if present == wanted && executable(&target) => return Ok(false),
            Ok(present) if !is_own_program(&present) => {
                return Err(InstallError::Unsuitable {
                    path: target.display().to_string(),
                    problem: "is another program of this name: remove it, then the plugin is \
                              installed"
                        .to_owned(),
                });
            }
            Err(source) if source.kind() != ErrorKind::NotFound => return Err(io(&target)(source)),
            Ok(_) | Err(_) => {}
        }
        replace(&target, &wanted, 0o755)?;
        Ok(true)
    }

    fn ensure_chain(&self) -> Result<bool, InstallError> {
        let path = self.active_list()?;
        let text = fs::read(&path).map_err(io(&path))?;
        let unsuitable = |problem: String| InstallError::Unsuitable {
            path: path.display().to_string(),
            problem,
        };
        let mut list: Value =
            serde_json::from_slice(&text).map_err(|error| unsuitable(error.to_string()))?;
        let plugins = list
            .get_mut("plugins")
            .and_then(Value::as_array_mut)
            .ok_or_else(|| unsuitable("has no `plugins`".to_owned()))?;
        let before = plugins.clone();
        plugins.retain(|plugin| !is_own_entry(plugin));
        if plugins.iter().any(|plugin| type_of(plugin) == Some(PLUGIN)) {
            let problem = format!(
                "has an entry of type `{PLUGIN}` that is not this program's (no `{CONFIG_FILE}`): \
                 remove it"
            );
            return Err(unsuitable(problem));
        }
        let main = plugins
            .first()
            .ok_or_else(|| unsuitable("has no main plugin".to_owned()))?;
        let main =
            type_of(main).ok_or_else(|| unsuitable("its first plugin has no `type`".to_owned()))?;
        if let Some((_, why)) = UNSUITABLE.iter().find(|(name, _)| *name == main) {
            return Err(unsuitable(format!("`{main}` cannot be guarded: {why}")));
        }
        let mut entry = self.entry.clone();
        if let Some(entry) = entry.as_object_mut() {
            entry.insert("type".to_owned(), json!(PLUGIN));
        }
        plugins.insert(1, entry);
        if *plugins == before {
            return Ok(false);
        }
        replace(&path, &pretty(&list), 0o600)?;
        Ok(true)
    }

    /// Takes the entry out of every list, and the executable away. Entries and programs of others
    /// stay, whatever they are called.
    ///
    /// # Errors
    /// [`InstallError`]; what is gone already is no error.
    pub fn remove(&self) -> Result<(), InstallError> {
        for entry in fs::read_dir(&self.net_dir).map_err(io(&self.net_dir))? {
            let path = entry.map_err(io(&self.net_dir))?.path();
            if path
                .extension()
                .is_none_or(|extension| extension != "conflist")
            {
                continue;
            }
            // A list that does not decode is not one this program wrote to.
            let text = fs::read(&path).map_err(io(&path))?;
            let Ok(mut list) = serde_json::from_slice::<Value>(&text) else {
                continue;
            };
            let Some(plugins) = list.get_mut("plugins").and_then(Value::as_array_mut) else {
                continue;
            };
            let before = plugins.len();
            plugins.retain(|plugin| !is_own_entry(plugin));
            if plugins.len() != before {
                replace(&path, &pretty(&list), 0o600)?;
            }
        }
        let program = self.bin_dir.join(PLUGIN);
        match fs::read(&program) {
            Ok(present) if is_own_program(&present) => remove_file(&program),
            Err(source) if source.kind() != ErrorKind::NotFound => Err(io(&program)(source)),
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

/// Removes a file; one that is gone already is no error.
pub(super) fn remove_file(path: &Path) -> Result<(), InstallError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != ErrorKind::NotFound => Err(io(path)(source)),
        _ => Ok(()),
    }
}

/// An entry that this program wrote: each one says where its configuration is.
fn is_own_entry(plugin: &Value) -> bool {
    type_of(plugin) == Some(PLUGIN) && plugin.get(CONFIG_FILE).is_some_and(Value::is_string)
}

/// A version of the plugin: each one has its name among its texts.
fn is_own_program(program: &[u8]) -> bool {
    let name = NODE_PLUGIN.as_bytes();
    program.windows(name.len()).any(|text| text == name)
}

fn type_of(plugin: &Value) -> Option<&str> {
    plugin.get("type").and_then(Value::as_str)
}

fn pretty(value: &Value) -> Vec<u8> {
    format!("{value:#}\n").into_bytes()
}

/// Writes beside, under a name the runtime does not read, and renames.
pub(super) fn replace(path: &Path, content: &[u8], mode: u32) -> Result<(), InstallError> {
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or(PLUGIN);
    let beside = path.with_file_name(format!(".{name}.egress-warden"));
    fs::write(&beside, content).map_err(io(&beside))?;
    fs::set_permissions(&beside, fs::Permissions::from_mode(mode)).map_err(io(&beside))?;
    fs::rename(&beside, path).map_err(io(path))
}

#[cfg(test)]
mod tests;
