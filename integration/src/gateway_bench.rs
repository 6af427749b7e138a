//! What a verdict costs in a real Envoy, beside other ways to judge a request.
//!
//! Every row has a gateway of its own, the one of `envoy-config/gateway.yaml` with another filter where
//! the module stands, one worker, the same callers with certificates of the mesh, the same headers and
//! the same server behind it. All rows take their turn in each round, in an order that moves on, and a
//! row is compared with the bare gateway of the same round: what else the machine does then falls on
//! both.

mod gateway;
mod goals;
mod load;
mod markdown;
mod plot;
mod results;
mod rivals;
mod rows;
mod upstream;
mod workload;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use egress_bench::Shape;
use serde_json::Value;

use crate::certificates::Authority;
use crate::dns::{Answer, Dns};
use crate::{command, envoy, mesh, policy, sandbox};

use gateway::Gateway;
use load::{Batch, Clients};
use results::percentile;
use rows::{Row, Variant};
use workload::Target;

pub use goals::judge;
pub use markdown::page;
pub use plot::plots;
pub use results::{Figure, Machine, Results, RowResult, UpdateResult};

/// Where every name leads.
const SERVER: Ipv4Addr = Ipv4Addr::new(140, 82, 112, 3);
/// Connections of each row.
const CONNECTIONS: u32 = 4;

/// How much is measured.
#[derive(Clone, Debug)]
pub struct Options {
    /// The short form.
    pub short: bool,
    /// Rounds; every row has one batch in each.
    pub rounds: u32,
    /// How long a batch lasts.
    pub batch: Duration,
    /// Another build of the module, which is measured beside the present one and nothing else.
    pub other: Option<PathBuf>,
    /// Only rows whose name contains this, and what they are compared with.
    pub only: Option<String>,
}

impl Options {
    /// The short form, which is a test too.
    pub const SHORT: Self = Self {
        short: true,
        rounds: 7,
        batch: Duration::from_millis(300),
        other: None,
        only: None,
    };
    /// The whole.
    pub const WHOLE: Self = Self {
        short: false,
        rounds: 15,
        batch: Duration::from_millis(400),
        ..Self::SHORT
    };

    fn rows(&self) -> Vec<Row> {
        let mut rows = match (&self.other, self.short) {
            (Some(_), _) => rows::two_builds(),
            (None, true) => rows::short(),
            (None, false) => rows::all(),
        };
        if let Some(only) = &self.only {
            let wanted: Vec<Row> = rows
                .iter()
                .copied()
                .filter(|row| row.id().contains(only))
                .collect();
            rows.retain(|row| {
                wanted.contains(row) || wanted.iter().any(|wanted| wanted.bare() == *row)
            });
        }
        rows
    }

    /// Sizes of the policies that are replaced under load, and how often.
    fn updates(&self) -> &'static [(u32, u32)] {
        if self.short || self.other.is_some() || self.only.is_some() {
            return &[];
        }
        &[(10_000, 5), (100_000, 3)]
    }
}

/// A gateway under measurement.
struct Subject {
    row: Row,
    gateway: Gateway,
    clients: Clients,
    /// CPU time per exchange of each round, in microseconds.
    costs: Vec<f64>,
    /// How long one exchange took that nobody else's waited for.
    times: Vec<Duration>,
}

/// Measures. Must be called in a sandbox.
///
/// # Errors
/// If a gateway does not start or answers otherwise than expected.
pub fn run(options: &Options, mut progress: impl FnMut(&str)) -> Result<Results> {
    // That of this process namespace, by which the gateways are asked.
    command::run(Command::new("mount").args(["-t", "proc", "proc", "/proc"]))?;
    let machine = Machine::here()?;
    sandbox::assign([SERVER])?;
    upstream::start(SERVER)?;
    let authority = Authority::new("mesh")?;
    let rows = options.rows();
    let dns = Dns::start(mesh::DNS, std::iter::empty::<(String, IpAddr)>())?;
    let policies = policies(&rows, options)?;
    for rules in policies.keys() {
        for target in Target::spread(*rules, CONNECTIONS) {
            dns.add(&target.host, Answer::of(&[IpAddr::V4(SERVER)]));
        }
    }
    let mut subjects = Vec::new();
    for (number, row) in (1_u8..).zip(&rows) {
        progress(&format!("starting {}", row.id()));
        let policy = policies.get(&row.rules).context("no policy")?;
        subjects.push(Subject::start(*row, number, &authority, policy, options)?);
    }
    for round in 0..options.rounds {
        progress(&format!("round {} of {}", round + 1, options.rounds));
        let first = usize::try_from(round)? % subjects.len().max(1);
        subjects.rotate_left(first);
        for subject in &mut subjects {
            subject.measure(options.batch)?;
        }
        subjects.rotate_right(first);
    }
    let mut updates = Vec::new();
    for (rules, times) in options.updates() {
        progress(&format!("updates of {rules} rules under load"));
        let wanted = |subject: &&Subject| {
            subject.row.variant == Variant::Module
                && subject.row.rules == *rules
                && subject.row.exchange == load::Exchange::Http1
        };
        let subject = subjects.iter().find(wanted).context("no such row")?;
        let policy = policies.get(rules).context("no policy")?;
        updates.push(updated(subject, &authority, policy, *times)?);
    }
    let rows = results(&subjects)?;
    Ok(Results {
        machine: machine.after()?,
        rounds: options.rounds,
        batch_seconds: options.batch.as_secs_f64(),
        connections: CONNECTIONS,
        rows,
        updates,
    })
}

/// The realistic policy of each size.
fn policies(rows: &[Row], options: &Options) -> Result<HashMap<u32, Value>> {
    let updated = options.updates().iter().map(|(rules, _)| *rules);
    let sizes = rows.iter().map(|row| row.rules).chain(updated);
    sizes
        .map(|rules| {
            Ok((
                rules,
                serde_json::from_str(&Shape::Realistic.policy(rules))?,
            ))
        })
        .collect()
}

impl Subject {
    fn start(
        row: Row,
        number: u8,
        authority: &Authority,
        policy: &Value,
        options: &Options,
    ) -> Result<Self> {
        let address = Ipv4Addr::new(127, 0, 20, number);
        let other = options.other.as_deref();
        let gateway = Gateway::start(row, address, authority, policy, other)?;
        let targets = Target::spread(row.rules, CONNECTIONS);
        let (targets, status) = if row.admitted {
            (targets, 200)
        } else {
            (targets.into_iter().map(Target::denied).collect(), 403)
        };
        let clients = Clients::open(address, authority, row.exchange, &targets, status);
        let clients = clients.or_else(|error| {
            let log = gateway.envoy.log().unwrap_or_default();
            bail!("{}: {error:#}\n{log}", row.id())
        })?;
        let mut subject = Self {
            row,
            gateway,
            clients,
            costs: Vec::new(),
            times: Vec::new(),
        };
        // Nothing of what is measured is a first time.
        subject.clients.batch(options.batch).context(row.id())?;
        Ok(subject)
    }

    /// One batch of all connections for the cost, and then one connection by itself for the time.
    fn measure(&mut self, batch: Duration) -> Result<()> {
        let before = self.gateway.cpu()?;
        let Batch { count, .. } = self.clients.batch(batch).context(self.row.id())?;
        let spent = self.gateway.cpu()?.saturating_sub(before);
        self.costs
            .push(spent.as_secs_f64() * 1e6 / f64::from(count.max(1)));
        let alone = self.clients.alone(batch / 4).context(self.row.id())?;
        self.times.extend(alone.times);
        Ok(())
    }
}

/// Every row's figures, as ratios to the bare gateway of the same round.
fn results(subjects: &[Subject]) -> Result<Vec<RowResult>> {
    let costs: HashMap<Row, &[f64]> = subjects
        .iter()
        .map(|subject| (subject.row, subject.costs.as_slice()))
        .collect();
    let figures = subjects.iter().map(|subject| {
        let bare = costs.get(&subject.row.bare()).context("no bare gateway")?;
        let by = |other: &[f64]| {
            let ratios = subject.costs.iter().zip(other);
            Figure::of(ratios.map(|(cost, other)| cost / other).collect())
        };
        let other = Row {
            variant: Variant::OtherModule,
            ..subject.row
        };
        let other = costs.get(&other);
        let other = other.filter(|_| subject.row.variant == Variant::Module);
        let milliseconds = subject.times.iter().map(|time| time.as_secs_f64() * 1e3);
        let milliseconds = milliseconds.collect::<Vec<_>>();
        Ok(RowResult {
            id: subject.row.id(),
            ratio: by(bare),
            by_other: other.map(|other| by(other)),
            cpu_microseconds: Figure::of(subject.costs.clone()),
            p50_milliseconds: percentile(&milliseconds, 50.0),
            p99_milliseconds: percentile(&milliseconds, 99.0),
            resident_mebibytes: mebibytes(subject.gateway.resident()?),
            module_mebibytes: mebibytes(subject.gateway.module_memory()?),
            start_seconds: subject.gateway.start.as_secs_f64(),
            start_cpu_seconds: subject.gateway.start_cpu.as_secs_f64(),
        })
    });
    figures.collect()
}

fn mebibytes(bytes: u64) -> f64 {
    u32::try_from(bytes >> 10).map_or(f64::NAN, |kibibytes| f64::from(kibibytes) / 1024.0)
}

/// The worst that a request waits while the policy is replaced, and without that.
fn updated(
    subject: &Subject,
    authority: &Authority,
    policy: &Value,
    times: u32,
) -> Result<UpdateResult> {
    /// How long requests go on after an update is in force: its predecessor goes then.
    const AFTER: Duration = Duration::from_secs(2);
    let targets = Target::spread(subject.row.rules, 2);
    let (address, exchange) = (subject.gateway.address, subject.row.exchange);
    let Clients::One(mut clients) = Clients::open(address, authority, exchange, &targets, 200)?
    else {
        bail!("updates are measured with HTTP/1.1");
    };
    let mut worst = Vec::new();
    let mut calm = Vec::new();
    let mut taken = Vec::new();
    for round in 0..times {
        let extension = policy::at("warden-http", &[gateway::changed(policy, round)?]);
        let quiet = watched(&mut clients, || {
            std::thread::sleep(AFTER);
            Ok(())
        })?;
        let began = Instant::now();
        let mut until = Duration::ZERO;
        let during = watched(&mut clients, || {
            subject.gateway.update(&extension)?;
            until = began.elapsed();
            std::thread::sleep(AFTER);
            Ok(())
        })?;
        calm.push(quiet);
        worst.push(during);
        taken.push(until.as_secs_f64());
    }
    Ok(UpdateResult {
        rules: subject.row.rules,
        updates: times,
        worst_milliseconds: Figure::of(worst),
        calm_worst_milliseconds: Figure::of(calm),
        in_force_after_seconds: Figure::of(taken),
    })
}

/// The longest that one of many requests took while something was done, in milliseconds.
fn watched(clients: &mut [load::Http1], what: impl FnOnce() -> Result<()>) -> Result<f64> {
    const PAUSE: Duration = Duration::from_millis(2);
    let stop = AtomicBool::new(false);
    let stop = &stop;
    std::thread::scope(|scope| {
        let threads: Vec<_> = clients
            .iter_mut()
            .map(|client| {
                scope.spawn(move || {
                    let mut worst = Duration::ZERO;
                    while !stop.load(Ordering::Relaxed) {
                        worst = worst.max(client.timed()?);
                        std::thread::sleep(PAUSE);
                    }
                    anyhow::Ok(worst)
                })
            })
            .collect();
        let done = what();
        stop.store(true, Ordering::Relaxed);
        let mut worst = Duration::ZERO;
        for thread in threads {
            let one = thread.join().map_err(|_| anyhow::anyhow!("a client"))??;
            worst = worst.max(one);
        }
        done?;
        Ok(worst.as_secs_f64() * 1e3)
    })
}

/// The version of the Envoy that is measured, in its own words.
fn envoy_version() -> Result<String> {
    let said = command::text(Command::new(envoy::binary()?).arg("--version"))?;
    // `PATH version: COMMIT/VERSION/…`
    let version = said.split('/').rev().nth(3).unwrap_or_default();
    Ok(version.trim().to_owned())
}
