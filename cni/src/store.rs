//! What the host remembers of pod interfaces, in files under one directory in `/run`.
//!
//! ```text
//! lock                          held by whoever changes anything
//! pods/CONTAINER@IFNAME.json    one record per interface
//! keys/KEY/CONTAINER@IFNAME     who uses a host link or an address
//! followed.json                 what the agent last learnt about Services
//! expected.json                 what it last learnt about pods
//! baseline.json                 what the kernel printed of the tables when they were loaded
//! ```
//! A record is written before its keys and rules and removed after them, so whatever is killed
//! in between, DEL, GC or the agent find it again. `keys` makes it a look-up, not a scan, to
//! know whether an element of the kernel's sets still has another user (an address handed
//! out again before a lost DEL): such an element stays, because removing it would open the
//! other pod.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use crate::attachment::{Attachment, AttachmentId, PodIdentity, UdpGrant};
use crate::rules::ServiceEndpoints;

/// Why the store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file could not be read or written.
    #[error("`{path}`: {source}")]
    Io {
        /// The file.
        path: String,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// A file holds something else than this program wrote.
    #[error("`{path}` does not decode: {source}")]
    Decode {
        /// The file.
        path: String,
        /// Where and why.
        source: serde_json::Error,
    },
}

/// Both tables as the kernel prints them, without the elements that stand for pods.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Baseline {
    /// Everything that is declared, and the rules.
    pub rules: String,
    /// The elements of sets of destinations.
    pub destinations: String,
    /// The elements of the sets of UDP grants.
    pub grants: String,
}

/// A remembered interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The facts.
    pub attachment: Attachment,
    /// What the API server last said of the pod, if the agent has asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<PodIdentity>,
    /// UDP destinations that the kernel grants to this pod.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grants: Vec<UdpGrant>,
    /// Where the pod's network namespace is to be found, if ADD or the runtime's cache named
    /// it: the agent looks there for interfaces that nobody told it of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<PathBuf>,
}

impl Record {
    /// A record of what is known before the API server has been asked.
    #[must_use]
    pub fn new(attachment: Attachment, netns: Option<PathBuf>) -> Self {
        Self {
            attachment,
            identity: None,
            grants: Vec::new(),
            netns,
        }
    }

    /// The pod's UID; empty if it is not known.
    #[must_use]
    pub fn uid(&self) -> String {
        self.identity
            .as_ref()
            .map_or_else(String::new, |identity| identity.uid.clone())
    }
}

/// The directory.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

/// Proof that the lock is held.
#[derive(Debug)]
pub struct Locked {
    lock: Flock<File>,
}

impl Locked {
    /// The lock's file, for children that must keep it.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.lock
    }
}

impl Store {
    /// Opens `root`, creating it if needed, readable by root only.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        use std::os::unix::fs::DirBuilderExt as _;
        for path in [root.to_path_buf(), root.join("pods"), root.join("keys")] {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&path)
                .map_err(|source| io(&path, source))?;
        }
        Ok(Self {
            root: root.to_path_buf(),
        })
    }

    /// Waits for the lock. It ends with the last process that inherited it.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn lock(&self) -> Result<Locked, StoreError> {
        let path = self.root.join("lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|source| io(&path, source))?;
        let lock = Flock::lock(file, FlockArg::LockExclusive)
            .map_err(|(_, errno)| io(&path, errno.into()))?;
        Ok(Locked { lock })
    }

    /// The record of `id`, if there is one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn get(&self, id: &AttachmentId) -> Result<Option<Record>, StoreError> {
        read(&self.record_path(id))
    }

    /// Writes `record` and its keys; the old record of the same id is replaced.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn put(&self, _: &Locked, record: &Record) -> Result<(), StoreError> {
        let id = &record.attachment.id;
        write(&self.record_path(id), record)?;
        for key in keys(&record.attachment) {
            let directory = self.key_path(&key);
            fs::create_dir_all(&directory).map_err(|source| io(&directory, source))?;
            let holder = directory.join(file_name(id));
            File::create(&holder).map_err(|source| io(&holder, source))?;
        }
        Ok(())
    }

    /// Removes `record` and its keys; what is missing already is no error.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn remove(&self, _: &Locked, record: &Record) -> Result<(), StoreError> {
        let id = &record.attachment.id;
        for key in keys(&record.attachment) {
            let directory = self.key_path(&key);
            gone(&directory.join(file_name(id)), fs::remove_file)?;
            match fs::remove_dir(&directory) {
                Err(source)
                    if !matches!(
                        source.kind(),
                        ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty
                    ) =>
                {
                    return Err(io(&directory, source));
                }
                _ => {}
            }
        }
        gone(&self.record_path(id), fs::remove_file)
    }

    /// Removes what there is of `id` where no record says what that is: after a killed
    /// [`Store::put`], or with a record that does not decode.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn sweep(&self, _: &Locked, id: &AttachmentId) -> Result<(), StoreError> {
        let record = self.record_path(id);
        gone(&beside(&record), fs::remove_file)?;
        if !record.exists() {
            return Ok(());
        }
        let directory = self.root.join("keys");
        for key in fs::read_dir(&directory).map_err(|source| io(&directory, source))? {
            let key = key.map_err(|source| io(&directory, source))?.path();
            gone(&key.join(file_name(id)), fs::remove_file)?;
            // Refused while anybody else uses the key.
            let _ = fs::remove_dir(&key);
        }
        gone(&record, fs::remove_file)
    }

    /// Whether another record than `id` uses all of `keys` together.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn used_by_another(&self, id: &AttachmentId, keys: &[&str]) -> Result<bool, StoreError> {
        let Some((first, rest)) = keys.split_first() else {
            return Ok(false);
        };
        let directory = self.key_path(first);
        let holders = match fs::read_dir(&directory) {
            Ok(holders) => holders,
            Err(source) if source.kind() == ErrorKind::NotFound => return Ok(false),
            Err(source) => return Err(io(&directory, source)),
        };
        for holder in holders {
            let name = holder.map_err(|source| io(&directory, source))?.file_name();
            let other = name != *file_name(id);
            if other
                && rest
                    .iter()
                    .all(|key| self.key_path(key).join(&name).exists())
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// All records, in a stable order.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn all(&self) -> Result<Vec<Record>, StoreError> {
        let directory = self.root.join("pods");
        let mut paths = Vec::new();
        for entry in fs::read_dir(&directory).map_err(|source| io(&directory, source))? {
            let path = entry.map_err(|source| io(&directory, source))?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "json")
            {
                paths.push(path);
            }
        }
        paths.sort();
        let mut records = Vec::with_capacity(paths.len());
        for path in paths {
            records.extend(read(&path)?);
        }
        Ok(records)
    }

    /// What the agent last learnt about Services; empty before it has.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn followed(&self) -> Result<ServiceEndpoints, StoreError> {
        Ok(read(&self.root.join("followed.json"))?.unwrap_or_default())
    }

    /// Keeps what the agent learnt.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn set_followed(&self, _: &Locked, followed: &ServiceEndpoints) -> Result<(), StoreError> {
        write(&self.root.join("followed.json"), followed)
    }

    /// What the agent last learnt about the node's pods, by their UIDs; empty before it has.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn expected(&self) -> Result<BTreeMap<String, PodIdentity>, StoreError> {
        Ok(read(&self.root.join("expected.json"))?.unwrap_or_default())
    }

    /// Keeps what the agent learnt about them. It alone writes this, from one thread.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn set_expected(&self, expected: &BTreeMap<String, PodIdentity>) -> Result<(), StoreError> {
        write(&self.root.join("expected.json"), expected)
    }

    /// What the kernel printed of the tables when they were loaded; empty before that.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn baseline(&self) -> Result<Baseline, StoreError> {
        Ok(read(&self.root.join("baseline.json"))?.unwrap_or_default())
    }

    /// Keeps what the kernel prints now.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn set_baseline(&self, _: &Locked, baseline: &Baseline) -> Result<(), StoreError> {
        write(&self.root.join("baseline.json"), baseline)
    }

    /// Removes the whole directory: the last step of uninstalling.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn destroy(self, _: Locked) -> Result<(), StoreError> {
        gone(&self.root, fs::remove_dir_all)
    }

    fn record_path(&self, id: &AttachmentId) -> PathBuf {
        self.root
            .join("pods")
            .join(format!("{}.json", file_name(id)))
    }

    fn key_path(&self, key: &str) -> PathBuf {
        self.root.join("keys").join(key)
    }
}

/// `CONTAINER@IFNAME`: neither part may contain `/`, and a container id no `@`.
fn file_name(id: &AttachmentId) -> String {
    format!("{}@{}", id.container_id, id.ifname)
}

/// The keys of an attachment: its link and its addresses.
fn keys(attachment: &Attachment) -> Vec<String> {
    let mut keys = vec![link_key(attachment)];
    keys.extend(attachment.addresses.iter().map(ToString::to_string));
    keys
}

/// The key of the host link; the prefix keeps it apart from addresses.
#[must_use]
pub fn link_key(attachment: &Attachment) -> String {
    format!("link-{}", attachment.host_link)
}

fn io(path: &Path, source: std::io::Error) -> StoreError {
    StoreError::Io {
        path: path.display().to_string(),
        source,
    }
}

fn gone(path: &Path, remove: impl Fn(PathBuf) -> std::io::Result<()>) -> Result<(), StoreError> {
    match remove(path.to_path_buf()) {
        Err(source) if source.kind() != ErrorKind::NotFound => Err(io(path, source)),
        _ => Ok(()),
    }
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>, StoreError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(source) if source.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(io(path, source)),
    };
    let decoded = serde_json::from_slice(&text).map_err(|source| StoreError::Decode {
        path: path.display().to_string(),
        source,
    })?;
    Ok(Some(decoded))
}

fn beside(path: &Path) -> PathBuf {
    path.with_extension("new")
}

/// Writes beside and renames, so that a reader never sees half a file.
fn write<T: Serialize>(path: &Path, value: &T) -> Result<(), StoreError> {
    let text = serde_json::to_vec(value).map_err(|source| StoreError::Decode {
        path: path.display().to_string(),
        source,
    })?;
    let beside = beside(path);
    let mut file = File::create(&beside).map_err(|source| io(&beside, source))?;
    file.write_all(&text)
        .map_err(|source| io(&beside, source))?;
    fs::rename(&beside, path).map_err(|source| io(path, source))
}
