//! A folder that holds exactly what was rendered.
//!
//! What is no longer rendered would be applied again with the folder, and open what was taken away.

use std::path::Path;

use egress_policy::contract::{MANAGED_BY, PART_OF};
use egress_render::{NAME, RENDERER};

use super::manifests::write_folder;
use crate::exit::Failure;

/// Writes files, by their names, into a folder, and removes what an earlier render left in it. Gives
/// the names of what was removed. Names that begin with a dot are passed over.
///
/// # Errors
/// Something else is in the folder: then nothing is written.
pub(super) fn write_exactly(
    folder: &Path,
    files: &[(String, String)],
) -> Result<Vec<String>, Failure> {
    let mut there = Vec::new();
    if folder.exists() {
        list(folder, "", &mut there).map_err(|error| at(folder, &error))?;
    }
    there.sort_unstable();
    there.retain(|name| files.iter().all(|(own, _)| own != name));
    let foreign: Vec<&str> = there
        .iter()
        .filter(|name| !was_rendered(&folder.join(name)))
        .map(String::as_str)
        .collect();
    if let Some(first) = foreign.first() {
        let more = match foreign.len() - 1 {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        return Err(Failure::new(format!(
            "{}: `{first}`{more} was not rendered by this command",
            folder.display()
        ))
        .with_hint(
            "the folder is made to hold exactly what is rendered, and only rendered objects are \
             removed from it: give a folder of its own, or move the file",
        ));
    }
    write_folder(folder, files)?;
    for name in &there {
        std::fs::remove_file(folder.join(name)).map_err(|error| at(folder, &error))?;
    }
    Ok(there)
}

fn at(folder: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("{}: {error}", folder.display()))
}

/// The files below a folder, by their names in it. Links are not followed.
fn list(folder: &Path, before: &str, found: &mut Vec<String>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') {
            continue;
        }
        let name = format!("{before}{name}");
        if entry.file_type()?.is_dir() {
            list(&entry.path(), &format!("{name}/"), found)?;
        } else {
            found.push(name);
        }
    }
    Ok(())
}

/// Whether every object of a file carries the labels of what is rendered. What cannot be read was not rendered.
fn was_rendered(path: &Path) -> bool {
    let is_file = std::fs::symlink_metadata(path).is_ok_and(|data| data.is_file());
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let labels = [
        format!("{PART_OF}: {NAME}"),
        format!("{MANAGED_BY}: {RENDERER}"),
    ];
    let labelled = |object: &str| {
        let has = |label: &String| object.lines().any(|line| line.trim() == label);
        labels.iter().all(has)
    };
    is_file && text.split("\n---").all(labelled)
}
