//! Renders that were kept, so that the last good one can be put out again: one file per render,
//! `NUMBER.POLICY-HASH.yaml`, in the order in which they were made.

use std::path::{Path, PathBuf};

use egress_policy::contract;
use egress_render::{Earlier, Install, Prepared, Rendered, adopt};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::exit::Failure;

/// What the last line of a whole file begins with: half a file must not be put out.
const END: &str = "# end of render, objects: ";

/// A folder of renders.
#[derive(Debug)]
pub(crate) struct History {
    folder: PathBuf,
    entries: Vec<Entry>,
}

/// One kept render.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    number: u32,
    /// The hash of its policies.
    pub(crate) hash: String,
    path: PathBuf,
}

/// What a kept render holds.
#[derive(Debug)]
pub(crate) struct Kept {
    /// All objects as one YAML stream.
    pub(crate) yaml: String,
    /// What each is called, in the order in which they are applied.
    pub(crate) objects: Vec<ObjectName>,
    /// The objects themselves.
    pub(crate) manifests: Vec<Value>,
}

/// What an object is called.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(inline)]
pub(crate) struct ObjectName {
    /// Its kind.
    kind: String,
    /// Its namespace; empty where it has none.
    namespace: String,
    /// Its name.
    name: String,
}

impl History {
    /// Opens a folder; one that does not exist is empty.
    pub(crate) fn open(folder: &Path) -> Result<Self, Failure> {
        let failure =
            |error: std::io::Error| Failure::new(format!("{}: {error}", folder.display()));
        let mut entries = Vec::new();
        if folder.exists() {
            for entry in std::fs::read_dir(folder).map_err(failure)? {
                let path = entry.map_err(failure)?.path();
                entries.extend(Entry::of(path));
            }
        }
        entries.sort_by_key(|entry| entry.number);
        Ok(Self {
            folder: folder.to_owned(),
            entries,
        })
    }

    /// Keeps a render, unless the newest one is the same.
    pub(crate) fn keep(&mut self, rendered: &Rendered) -> Result<(), Failure> {
        let text = text_of(rendered);
        if let Some(newest) = self.entries.last()
            && newest.text()? == text
        {
            return Ok(());
        }
        let number = self.entries.last().map_or(1, |newest| newest.number + 1);
        let hash = rendered.policy_hash().to_owned();
        let path = self.folder.join(format!("{number:06}.{hash}.yaml"));
        let failure = |error: std::io::Error| Failure::new(format!("{}: {error}", path.display()));
        std::fs::create_dir_all(&self.folder).map_err(failure)?;
        std::fs::write(&path, text).map_err(failure)?;
        self.entries.push(Entry { number, hash, path });
        Ok(())
    }

    /// The newest render, which is taken to be the one in force.
    pub(crate) fn newest(&self) -> Option<&Entry> {
        self.entries.last()
    }

    /// The objects of the newest render that is not this one; none if there is no other.
    pub(crate) fn objects_before(&self, rendered: &Rendered) -> Result<Vec<Value>, Failure> {
        let text = text_of(rendered);
        for entry in self.entries.iter().rev() {
            if entry.text()? != text {
                return Ok(entry.read()?.manifests);
            }
        }
        Ok(Vec::new())
    }

    /// The address classes of the newest render of this gateway that is not the one which is being
    /// made.
    pub(crate) fn before(
        &self,
        install: &Install,
        prepared: &Prepared<'_>,
    ) -> Result<Option<Earlier>, Failure> {
        for entry in self.entries.iter().rev() {
            let earlier = Earlier::read(install, &entry.documents()?.1);
            if let Some(earlier) = earlier.filter(|earlier| !prepared.is(earlier)) {
                return Ok(Some(earlier));
            }
        }
        Ok(None)
    }

    /// The newest render of the policies whose hash begins so.
    pub(crate) fn find(&self, hash: &str) -> Result<&Entry, Failure> {
        let hash = hash.to_ascii_lowercase();
        let begins = |entry: &&Entry| !hash.is_empty() && entry.hash.starts_with(&hash);
        let Some(found) = self.entries.iter().rfind(begins) else {
            let known: Vec<_> = self.entries.iter().map(Entry::to_string).collect();
            let hint = match known.as_slice() {
                [] => "`warden render --history FOLDER` keeps renders there".to_owned(),
                _ => format!("there are: {}", known.join(", ")),
            };
            let folder = self.folder.display();
            return Err(Failure::new(format!("no render of `{hash}` in {folder}")).with_hint(hint));
        };
        if self
            .entries
            .iter()
            .filter(begins)
            .any(|entry| entry.hash != found.hash)
        {
            return Err(
                Failure::new(format!("several policies' hashes begin with `{hash}`"))
                    .with_hint("write more of it"),
            );
        }
        Ok(found)
    }
}

/// A render as it is kept.
fn text_of(rendered: &Rendered) -> String {
    let count = rendered.objects().len();
    format!("{}{END}{count}\n", rendered.yaml())
}

impl std::fmt::Display for Entry {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let short = self.hash.get(..12).unwrap_or(&self.hash);
        write!(formatter, "{short} (render {})", self.number)
    }
}

impl Entry {
    /// What a file's name says, if it is one of a history.
    fn of(path: PathBuf) -> Option<Self> {
        let name = path.file_name()?.to_str()?.strip_suffix(".yaml")?;
        let (number, hash) = name.split_once('.')?;
        let hash = (hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .then(|| hash.to_owned())?;
        Some(Self {
            number: number.parse().ok()?,
            hash,
            path,
        })
    }

    fn text(&self) -> Result<String, Failure> {
        std::fs::read_to_string(&self.path)
            .map_err(|error| Failure::new(format!("{}: {error}", self.path.display())))
    }

    /// Its text and its objects, if it is whole.
    fn documents(&self) -> Result<(String, Vec<Value>), Failure> {
        let text = self.text()?;
        let (yaml, count) = text
            .rsplit_once(END)
            .ok_or_else(|| self.broken("its end is missing"))?;
        let documents = adopt::read(yaml).map_err(|problem| self.broken(problem.message()))?;
        if count.trim().parse() != Ok(documents.len()) {
            return Err(self.broken("objects are missing"));
        }
        Ok((yaml.to_owned(), documents))
    }

    fn broken(&self, what: &str) -> Failure {
        Failure::new(format!("{}: {what}", self.path.display()))
            .with_hint("render the policy's earlier version instead")
    }

    /// Reads it, and makes sure that it is whole and of the policies that its name says.
    pub(crate) fn read(&self) -> Result<Kept, Failure> {
        let (yaml, documents) = self.documents()?;
        let mut objects = Vec::new();
        for document in &documents {
            let text = |pointer: &str| {
                let value = document.pointer(pointer).and_then(Value::as_str);
                value.unwrap_or_default().to_owned()
            };
            if text(contract::POLICY_HASH_POINTER) != self.hash {
                return Err(self.broken("an object is of another policy than the file's name says"));
            }
            objects.push(ObjectName {
                kind: text("/kind"),
                namespace: text("/metadata/namespace"),
                name: text("/metadata/name"),
            });
        }
        Ok(Kept {
            yaml,
            objects,
            manifests: documents,
        })
    }
}
