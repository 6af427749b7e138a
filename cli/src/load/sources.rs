//! The texts behind the arguments: files, directories, standard input.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::Console;
use crate::document::Source;
use crate::exit::Failure;

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
pub fn read_stdin(console: &mut Console<'_>) -> Result<Source, Failure> {
    let mut bytes = Vec::new();
    console.stdin.read_to_end(&mut bytes)?;
    decode("<stdin>", bytes)
}

/// Reads one file, under the name that messages call it by.
///
/// # Errors
/// The file cannot be read or is not UTF-8.
pub fn read_file(path: &Path, shown: &str) -> Result<Source, Failure> {
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
