//! The policies behind the arguments: files, directories, standard input.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use egress_analysis::bundle::{LoadResult, Reader};
use egress_analysis::document::{Node, Source};
use egress_analysis::files::Files;
use egress_analysis::lists::MAX_BYTES;
use egress_analysis::settings::InstallSettings;
use egress_analysis::{Diagnostic, Failure};

use crate::{Console, settings};

/// The policies to read, for every subcommand that reads policies.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Inputs {
    /// Policies in order, the security team's first: YAML or JSON files, directories, WasmPlugin
    /// manifests, or `-` for standard input.
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<String>,
}

/// The files of a folder.
pub(crate) struct Disk<'d>(pub(crate) &'d Path);

impl Files for Disk<'_> {
    fn list(&self, path: &str) -> Result<Vec<u8>, String> {
        let path = self.0.join(path);
        let metadata = std::fs::metadata(&path).map_err(|error| error.to_string())?;
        // A device or a pipe would never end.
        if !metadata.is_file() {
            return Err("is no file".to_owned());
        }
        if metadata.len() > MAX_BYTES {
            return Err(format!("is larger than {} MiB", MAX_BYTES / 1024 / 1024));
        }
        std::fs::read(path).map_err(|error| error.to_string())
    }

    fn settings(&self, document: Node<'_>) -> Result<InstallSettings, Vec<Diagnostic>> {
        settings::read(document)
    }
}

/// Reads policies.
///
/// # Errors
/// A file that cannot be read. That there is no policy is among what is wrong.
pub(crate) fn load(inputs: &Inputs, console: &mut Console<'_>) -> Result<LoadResult, Failure> {
    let mut loaded = load_any(&inputs.files, console)?;
    loaded.require_policy();
    Ok(loaded)
}

/// Reads what is there, be it only settings or cases.
///
/// # Errors
/// A file that cannot be read.
pub(crate) fn load_any(files: &[String], console: &mut Console<'_>) -> Result<LoadResult, Failure> {
    let disk = Disk(console.directory);
    let mut reader = Reader::new(&disk);
    for input in files {
        read_into(&mut reader, input, console)?;
    }
    Ok(reader.finish())
}

/// Reads a file, a directory, or standard input.
pub(crate) fn read_into(
    reader: &mut Reader<'_>,
    input: &str,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let is_folder = input != "-" && console.directory.join(input).is_dir();
    for source in read_sources(input, console)? {
        if is_folder {
            reader.read_found(source)?;
        } else {
            reader.read(source)?;
        }
    }
    Ok(())
}

/// The texts behind one argument: a file, a directory, or standard input.
pub(crate) fn read_sources(input: &str, console: &mut Console<'_>) -> Result<Vec<Source>, Failure> {
    let path = console.directory.join(input);
    if input == "-" || !path.is_dir() {
        return Ok(vec![read_one(input, console)?]);
    }
    let mut files = Vec::new();
    list_directory(&path, Path::new(input), &mut files)?;
    files.sort();
    if files.is_empty() {
        return Err(Failure::new(format!(
            "`{input}` holds no YAML or JSON file"
        )));
    }
    files
        .iter()
        .map(|(shown, path)| read_file(path, shown))
        .collect()
}

/// One file, or standard input as `-`.
pub(crate) fn read_one(input: &str, console: &mut Console<'_>) -> Result<Source, Failure> {
    if input == "-" {
        read_stdin(console)
    } else {
        read_file(&console.directory.join(input), input)
    }
}

fn list_directory(
    path: &Path,
    shown: &Path,
    files: &mut Vec<(String, PathBuf)>,
) -> Result<(), Failure> {
    let failure = |error: std::io::Error| Failure::new(format!("{}: {error}", shown.display()));
    for entry in std::fs::read_dir(path).map_err(failure)? {
        let entry = entry.map_err(failure)?;
        let (path, name) = (entry.path(), entry.file_name());
        if name.to_string_lossy().starts_with('.') {
            continue;
        }
        let shown = shown.join(&name);
        // A link to a directory could lead back here.
        if entry.file_type().map_err(failure)?.is_dir() {
            list_directory(&path, &shown, files)?;
        } else if path
            .extension()
            .is_some_and(|e| e == "yaml" || e == "yml" || e == "json")
        {
            files.push((shown.display().to_string(), path));
        }
    }
    Ok(())
}

/// Reads standard input.
///
/// # Errors
/// It cannot be read or is not UTF-8.
pub(crate) fn read_stdin(console: &mut Console<'_>) -> Result<Source, Failure> {
    let mut bytes = Vec::new();
    console.stdin.read_to_end(&mut bytes)?;
    decode("<stdin>", bytes)
}

/// Reads one file, under the name that messages call it by.
///
/// # Errors
/// The file cannot be read or is not UTF-8.
pub(crate) fn read_file(path: &Path, shown: &str) -> Result<Source, Failure> {
    let bytes = std::fs::read(path).map_err(|error| {
        let failure = Failure::new(format!("`{shown}`: {error}"));
        match error.kind() {
            ErrorKind::IsADirectory => failure.with_hint("name the files in it"),
            _ => failure,
        }
    })?;
    decode(shown, bytes)
}

fn decode(name: &str, bytes: Vec<u8>) -> Result<Source, Failure> {
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Failure::new(format!("`{name}` is not UTF-8 (byte {at})"))
            .with_hint("policies are text: save it as UTF-8")
    })?;
    // A byte order mark is no part of the text.
    let text = text
        .strip_prefix('\u{feff}')
        .map(str::to_owned)
        .unwrap_or(text);
    Ok(Source::new(name, text))
}
