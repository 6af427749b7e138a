//! The goals, and how far a run is from them.

use super::results::Results;

/// A figure and the most that it should be.
pub(super) struct Goal {
    /// What is measured.
    pub(super) what: &'static str,
    /// The most that it should be; `None` where nothing of it is measured here, with the reason in
    /// `missing`.
    pub(super) most: f64,
    /// How figures are written.
    pub(super) unit: Unit,
    /// The figure of a run.
    pub(super) value: fn(&Results) -> Option<f64>,
    /// What is said without a figure.
    pub(super) missing: &'static str,
}

/// What a figure is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Unit {
    /// A share of something else.
    Ratio,
    /// Milliseconds.
    Milliseconds,
    /// Seconds.
    Seconds,
    /// Mebibytes.
    Mebibytes,
}

impl Unit {
    /// A figure for people.
    pub(super) fn write(self, value: f64) -> String {
        match self {
            Self::Ratio => format!("{value:.2}"),
            Self::Milliseconds => format!("{value:.0} ms"),
            Self::Seconds => format!("{value:.1} s"),
            Self::Mebibytes => format!("{value:.0} MiB"),
        }
    }
}

/// Sizes of the policies.
const SIZES: [u32; 4] = [10, 1_000, 10_000, 100_000];
const NOT_IN_RUN: &str = "not in this run";
const NO_DYNAMIC: &str = "there is no dynamic module yet";
const NO_OPA: &str = "not run: OPA is not among the rivals yet";
const ELSEWHERE: &str = "not measured here";

/// The goals. Those of what another command measures are on the page too, without a figure.
pub(super) const GOALS: [Goal; 16] = [
    Goal {
        what: "accepted request, the dearest of 10 to 100,000 rules, to the bare gateway",
        most: 1.5,
        unit: Unit::Ratio,
        value: |run| worst(run, "http1/module", ""),
        missing: NOT_IN_RUN,
    },
    Goal {
        what: "the same as a dynamic module",
        most: 1.2,
        unit: Unit::Ratio,
        value: |_| None,
        missing: NO_DYNAMIC,
    },
    Goal {
        what: "denied request, to an accepted one of the bare gateway",
        most: 0.75,
        unit: Unit::Ratio,
        value: |run| ratio(run, "http1/module/10/denied"),
        missing: NOT_IN_RUN,
    },
    Goal {
        what: "the same as a dynamic module",
        most: 0.6,
        unit: Unit::Ratio,
        value: |_| None,
        missing: NO_DYNAMIC,
    },
    Goal {
        what: "set-up of a tunnel, the dearest of the sizes, to the bare gateway",
        most: 1.2,
        unit: Unit::Ratio,
        value: |run| worst(run, "tunnel/module", ""),
        missing: NOT_IN_RUN,
    },
    Goal {
        what: "the same as a dynamic module",
        most: 1.1,
        unit: Unit::Ratio,
        value: |_| None,
        missing: NO_DYNAMIC,
    },
    Goal {
        what: "accepted request at 1,000 rules, to Envoy's RBAC of 1,000 policies",
        most: 1.0,
        unit: Unit::Ratio,
        value: |run| beside(run, 1_000),
        missing: NOT_IN_RUN,
    },
    Goal {
        what: "accepted request at 10,000 rules, to Envoy's RBAC of 10,000 policies",
        most: 0.1,
        unit: Unit::Ratio,
        value: |run| beside(run, 10_000),
        missing: NOT_IN_RUN,
    },
    Goal {
        what: "accepted request, to OPA by `ext_authz`, at every size",
        most: 0.167,
        unit: Unit::Ratio,
        value: |_| None,
        missing: NO_OPA,
    },
    Goal {
        what: "worst latency that an update of 10,000 rules adds under load",
        most: 20.0,
        unit: Unit::Milliseconds,
        value: |run| added(run, 10_000),
        missing: NOT_IN_RUN,
    },
    Goal {
        what: "worst latency that an update of 100,000 rules adds under load",
        most: 50.0,
        unit: Unit::Milliseconds,
        value: |run| added(run, 100_000),
        missing: NOT_IN_RUN,
    },
    Goal {
        what: "gateway from its start until ready, 100,000 rules in one place",
        most: 2.0,
        unit: Unit::Seconds,
        value: |run| Some(run.row("http1/module/100000")?.start_seconds),
        missing: NOT_IN_RUN,
    },
    Goal {
        what: "memory of the VM, 100,000 rules in one place",
        most: 40.0,
        unit: Unit::Mebibytes,
        value: |run| Some(run.row("http1/module/100000")?.module_mebibytes),
        missing: NOT_IN_RUN,
    },
    Goal {
        what: "`evaluate`, median of every shape: 0.3 µs at 100 rules, 1 µs at 100,000, growth at most 3 times",
        most: 3.0,
        unit: Unit::Ratio,
        value: |_| None,
        missing: "not measured here: `cargo xtask bench`",
    },
    Goal {
        what: "`warden check` of 100,000 rules: 1 s and 200 MiB",
        most: 1.0,
        unit: Unit::Seconds,
        value: |_| None,
        missing: ELSEWHERE,
    },
    Goal {
        what: "`warden diff`, `render` and `package` of 100,000 rules: 2 s and 400 MiB",
        most: 2.0,
        unit: Unit::Seconds,
        value: |_| None,
        missing: ELSEWHERE,
    },
];

fn ratio(run: &Results, id: &str) -> Option<f64> {
    Some(run.row(id)?.ratio.median)
}

/// The largest of all sizes that were measured.
fn worst(run: &Results, kind: &str, ending: &str) -> Option<f64> {
    let sizes = SIZES.iter();
    let ratios = sizes.filter_map(|rules| ratio(run, &format!("{kind}/{rules}{ending}")));
    ratios.reduce(f64::max)
}

/// This module by Envoy's RBAC.
fn beside(run: &Results, rules: u32) -> Option<f64> {
    let rbac = ratio(run, &format!("http1/rbac/{rules}"))?;
    Some(ratio(run, &format!("http1/module/{rules}"))? / rbac)
}

/// What an update makes the slowest request slower.
fn added(run: &Results, rules: u32) -> Option<f64> {
    let update = run.update(rules)?;
    let added = update.worst_milliseconds.median - update.calm_worst_milliseconds.median;
    Some(added.max(0.0))
}

/// Most that a ratio may be in any run: several times what was measured when this was written. It
/// fails on a fault of another order, not on a machine that has other things to do.
const GROSS: [(&str, f64); 5] = [
    ("http1/natives", 2.0),
    ("http1/module/10", 4.0),
    ("http1/module/1000", 4.0),
    ("http1/module/10/denied", 3.0),
    ("tunnel/module/10", 4.0),
];
/// What a row may have become dearer since the committed run: beyond what two runs of the same differ by.
const DEARER: f64 = 1.3;

/// What is wrong with a run: ratios of another order, and, where a committed run is given, rows that have
/// become dearer.
#[must_use]
pub fn judge(run: &Results, committed: Option<&Results>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (id, most) in GROSS {
        if let Some(ratio) = ratio(run, id)
            && (ratio.is_nan() || ratio > most)
        {
            wrong.push(format!(
                "{id}: {ratio:.2} times the bare gateway, at most {most}"
            ));
        }
    }
    for before in committed.iter().flat_map(|committed| &committed.rows) {
        let before_ratio = before.ratio.median;
        if let Some(now) = ratio(run, &before.id)
            && now > before_ratio * DEARER
        {
            wrong.push(format!(
                "{}: {now:.2}, committed {before_ratio:.2}",
                before.id
            ));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway_bench::results::{Figure, Machine, RowResult};

    fn run(rows: &[(&str, f64)]) -> Results {
        let row = |(id, ratio): &(&str, f64)| RowResult {
            id: (*id).to_owned(),
            ratio: Figure::of(vec![*ratio]),
            by_other: None,
            cpu_microseconds: Figure::of(vec![100.0]),
            p50_milliseconds: 0.0,
            p99_milliseconds: 0.0,
            resident_mebibytes: 0.0,
            module_mebibytes: 0.0,
            start_seconds: 0.0,
            start_cpu_seconds: 0.0,
        };
        Results {
            machine: Machine {
                processor: String::new(),
                processors: 2,
                load_before: 0.0,
                load_after: 0.0,
                envoy: String::new(),
                commit: String::new(),
                module_bytes: 0,
            },
            rounds: 1,
            batch_seconds: 0.0,
            connections: 1,
            rows: rows.iter().map(row).collect(),
            updates: Vec::new(),
        }
    }

    #[test]
    fn what_is_of_another_order_or_dearer_than_committed_is_wrong() {
        let committed = run(&[("http1/module/10", 1.8), ("http1/lua/10", 1.2)]);
        for (now, expected) in [
            (&[("http1/module/10", 1.8)][..], ""),
            (&[("http1/module/10", 2.3)], ""),
            (
                &[("http1/module/10", 2.4)],
                "http1/module/10: 2.40, committed 1.80",
            ),
            (
                &[("http1/natives", 2.1)],
                "http1/natives: 2.10 times the bare gateway, at most 2",
            ),
            (
                &[("http1/natives", f64::NAN)],
                "http1/natives: NaN times the bare gateway, at most 2",
            ),
            (
                &[("http1/lua/10", 1.7)],
                "http1/lua/10: 1.70, committed 1.20",
            ),
        ] {
            assert_eq!(judge(&run(now), Some(&committed)).join("\n"), expected);
        }
        let gross = judge(&run(&[("http1/module/10", 9.0)]), None);
        assert_eq!(
            gross.join("\n"),
            "http1/module/10: 9.00 times the bare gateway, at most 4"
        );
    }

    #[test]
    fn the_dearest_size_counts() {
        let run = run(&[
            ("http1/module/10", 1.8),
            ("http1/module/10000", 2.0),
            ("http1/rbac/10000", 10.0),
            ("http1/module/10/denied", 5.0),
        ]);
        assert_eq!(worst(&run, "http1/module", ""), Some(2.0));
        assert_eq!(beside(&run, 10_000), Some(0.2));
        assert_eq!(beside(&run, 1_000), None);
    }
}
