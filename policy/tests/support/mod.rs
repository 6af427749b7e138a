//! What the integration tests share: YAML as trees, and the case files of the repository.

#![allow(
    dead_code,
    clippy::allow_attributes,
    reason = "every test binary compiles this module and uses a part of it"
)]

use std::path::{Path, PathBuf};

use egress_policy::PolicySet;
use egress_policy::case::{CaseFile, PolicyRef};
use egress_policy::defect::Defect;
use egress_policy::model::Policy;
use egress_policy::tree::Tree;

/// The repository's case files.
pub(crate) fn case_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../cases")
}

/// A YAML document as a tree. serde-saphyr refuses duplicate keys and unknown anchors itself.
pub(crate) fn yaml(text: &str) -> Result<Tree, String> {
    serde_saphyr::from_str(text).map_err(|error| error.to_string())
}

/// Every defect on a line of its own.
pub(crate) fn lines(defects: &[Defect]) -> String {
    let lines: Vec<String> = defects
        .iter()
        .map(|defect| format!("\n  {defect}"))
        .collect();
    lines.concat()
}

/// A policy file.
pub(crate) fn policy(text: &str) -> Result<Policy, String> {
    Policy::read(&&yaml(text)?).map_err(|defects| lines(&defects))
}

/// A case file whose policies are loaded and compiled.
pub(crate) struct Loaded {
    /// The file's name without its extension.
    pub(crate) name: String,
    pub(crate) file: CaseFile,
    pub(crate) policies: Vec<Policy>,
    pub(crate) set: PolicySet,
}

/// All case files, in the order of their names.
pub(crate) fn case_files() -> Vec<Loaded> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(case_folder())
        .expect("the folder of case files")
        .map(|entry| entry.expect("a folder entry").path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "yaml"))
        .collect();
    paths.sort();
    paths
        .iter()
        .map(|path| load(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
        .collect()
}

fn load(path: &Path) -> Result<Loaded, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let folder = path.parent().ok_or("a file has a folder")?;
    let name = path
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    load_text(name, &text, |relative| {
        std::fs::read_to_string(folder.join(relative)).map_err(|error| error.to_string())
    })
}

/// Loads a case file from its text, and its policies by `open`.
pub(crate) fn load_text(
    name: String,
    text: &str,
    open: impl Fn(&str) -> Result<String, String>,
) -> Result<Loaded, String> {
    let file = CaseFile::read(&&yaml(text)?).map_err(|defects| lines(&defects))?;
    let policies = file
        .policies
        .iter()
        .map(|source| match source {
            PolicyRef::Inline(policy) => Ok((**policy).clone()),
            PolicyRef::Path(relative) => open(relative)
                .and_then(|text| policy(&text))
                .map_err(|error| format!("{relative}: {error}")),
        })
        .collect::<Result<Vec<_>, String>>()?;
    let proxies = file
        .gateway
        .inspection
        .iter()
        .map(|proxy| proxy.name.clone());
    let set = PolicySet::compile(&policies, file.gateway.settings, proxies)
        .map_err(|defects| lines(&defects))?;
    Ok(Loaded {
        name,
        file,
        policies,
        set,
    })
}
