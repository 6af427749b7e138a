//! What was measured, as `results.json` holds it.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::{command, workspace};

/// The file's name.
pub(super) const FILE: &str = "results.json";

/// A run.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Results {
    /// On what.
    pub machine: Machine,
    /// Rounds; every row has one batch in each.
    pub rounds: u32,
    /// How long a batch lasts.
    pub batch_seconds: f64,
    /// Connections of each row.
    pub connections: u32,
    /// The rows.
    pub rows: Vec<RowResult>,
    /// Updates of the policy under load.
    pub updates: Vec<UpdateResult>,
}

/// The machine, and what it ran.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Machine {
    /// The processor's name.
    pub processor: String,
    /// How many there are.
    pub processors: u32,
    /// Programs that wanted a processor before the run, on an average of a minute.
    pub load_before: f64,
    /// The same after it.
    pub load_after: f64,
    /// Envoy's version.
    pub envoy: String,
    /// The commit, with `+` behind it if files were changed since.
    pub commit: String,
    /// Bytes of the module.
    pub module_bytes: u64,
}

/// A median, with the quarters beside it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Figure {
    /// The median.
    pub median: f64,
    /// A quarter of what was seen is below.
    pub low: f64,
    /// A quarter of it is above.
    pub high: f64,
    /// The largest.
    pub most: f64,
}

/// One row.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RowResult {
    /// Its name.
    pub id: String,
    /// Processor time for each exchange, by that of the bare gateway in the same round.
    pub ratio: Figure,
    /// The same by that of the other build of the module, where one was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_other: Option<Figure>,
    /// Processor time of the gateway's process for each exchange.
    pub cpu_microseconds: Figure,
    /// How long an exchange takes that waits for no other: half take less.
    pub p50_milliseconds: f64,
    /// The same of 99 in 100.
    pub p99_milliseconds: f64,
    /// Memory of the gateway's process after the run.
    pub resident_mebibytes: f64,
    /// Of that, what the module's VM has grown to; 0 without one.
    pub module_mebibytes: f64,
    /// From its start until the gateway was ready.
    pub start_seconds: f64,
    /// Processor time until then.
    pub start_cpu_seconds: f64,
}

/// Updates of the policy under load.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UpdateResult {
    /// Rules of the policy.
    pub rules: u32,
    /// How many updates.
    pub updates: u32,
    /// The longest that a request took while one was made.
    pub worst_milliseconds: Figure,
    /// The longest that a request took in as much time before.
    pub calm_worst_milliseconds: Figure,
    /// From the file's change until Envoy counts it.
    pub in_force_after_seconds: Figure,
}

impl Results {
    /// The figures of a row.
    #[must_use]
    pub fn row(&self, id: &str) -> Option<&RowResult> {
        self.rows.iter().find(|row| row.id == id)
    }

    /// The figures of updates of so many rules.
    #[must_use]
    pub fn update(&self, rules: u32) -> Option<&UpdateResult> {
        self.updates.iter().find(|update| update.rules == rules)
    }

    /// Reads what was written to a folder.
    ///
    /// # Errors
    /// If there is none, or it is no such file.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        let text = std::fs::read(&path).with_context(|| path.display().to_string())?;
        serde_json::from_slice(&text).with_context(|| path.display().to_string())
    }

    /// Writes it to a folder, with the page and the plots made of it.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder)?;
        let text = serde_json::to_string_pretty(self)? + "\n";
        std::fs::write(folder.join(FILE), text)?;
        self.write_page(folder)
    }

    /// Writes the page and the plots alone.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write_page(&self, folder: &Path) -> Result<()> {
        std::fs::write(folder.join("README.md"), super::page(self))?;
        for (name, plot) in super::plots(self) {
            std::fs::write(folder.join(name), plot)?;
        }
        Ok(())
    }
}

impl Machine {
    /// This one, before the run.
    ///
    /// # Errors
    /// If the system does not say.
    pub(super) fn here() -> Result<Self> {
        let about = std::fs::read_to_string("/proc/cpuinfo")?;
        let names = about.lines().filter_map(|line| line.split_once(':'));
        let names: Vec<_> = names
            .filter(|(key, _)| key.trim() == "model name")
            .map(|(_, name)| name.trim())
            .collect();
        let module = workspace::wasm("egress_filter");
        workspace::built(&module)?;
        Ok(Self {
            processor: names.first().copied().unwrap_or("unknown").to_owned(),
            processors: u32::try_from(names.len())?,
            load_before: load()?,
            load_after: 0.0,
            envoy: super::envoy_version()?,
            commit: commit()?,
            module_bytes: std::fs::metadata(module)?.len(),
        })
    }

    pub(super) fn after(self) -> Result<Self> {
        Ok(Self {
            load_after: load()?,
            ..self
        })
    }
}

fn load() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/loadavg")?;
    let first = text.split(' ').next().context("no load")?;
    Ok(first.parse()?)
}

fn commit() -> Result<String> {
    let git = |arguments: &[&str]| {
        let mut git = Command::new("git");
        command::text(git.args(arguments).current_dir(workspace::root()))
    };
    let hash = git(&["rev-parse", "--short=9", "HEAD"])?;
    let changed = git(&["status", "--porcelain", "--untracked-files=no"])?;
    let mark = if changed.trim().is_empty() { "" } else { "+" };
    Ok(format!("{}{mark}", hash.trim()))
}

impl Figure {
    pub(super) fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |percent| rounded(percentile_of_sorted(&values, percent));
        Self {
            median: at(50.0),
            low: at(25.0),
            high: at(75.0),
            most: at(100.0),
        }
    }
}

/// The value below which so many in a hundred are; 0 of nothing.
pub(super) fn percentile(values: &[f64], percent: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    rounded(percentile_of_sorted(&sorted, percent))
}

fn percentile_of_sorted(sorted: &[f64], percent: f64) -> f64 {
    let at = |(index, _): &(usize, &f64)| {
        let beyond = u32::try_from(index + 1).map_or(f64::MAX, f64::from);
        let count = u32::try_from(sorted.len()).map_or(f64::MAX, f64::from);
        beyond / count * 100.0 >= percent
    };
    let found = sorted.iter().enumerate().find(at);
    found.map_or(0.0, |(_, value)| *value)
}

/// Four digits behind the point: more is noise.
fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_seen() {
        let values = [5.0, 1.0, 3.0, 2.0, 4.0];
        for (percent, expected) in [(0.0, 1.0), (20.0, 1.0), (50.0, 3.0), (99.0, 5.0)] {
            assert_eq!(
                percentile(&values, percent).to_string(),
                expected.to_string()
            );
        }
        assert_eq!(percentile(&[], 50.0).to_string(), "0");
        let figure = Figure::of(values.to_vec());
        assert_eq!(
            format!("{figure:?}"),
            "Figure { median: 3.0, low: 2.0, high: 4.0, most: 5.0 }"
        );
    }
}
