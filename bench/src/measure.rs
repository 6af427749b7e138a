//! Time per verdict: CPU time of this thread, medians, all sizes interleaved in one run.

use std::hint::black_box;
use std::time::Duration;

use egress_policy::defect::{At, Defects};
use egress_policy::facts::Facts;
use egress_policy::settings::{AddressCheck, Settings};
use egress_policy::tree::Json;
use egress_policy::verdict::{Action, Evaluation};
use egress_policy::{PolicySet, PolicySetBuilder};
use nix::time::{ClockId, clock_gettime};

use crate::{Prepared, Question, Shape};

/// Verdicts in one sample, so that the clock's own cost does not count.
const BATCH: usize = 256;
/// Different questions asked of a policy: enough that a large one does not stay in the caches.
const QUESTIONS: u32 = 8_192;
/// Most that the median at the large size may be of that at the small one.
pub const MAX_RATIO: f64 = 8.0;

/// A policy of one shape and size, compiled, and what it took.
#[derive(Debug)]
pub struct Subject {
    policy: PolicySet,
    /// Length of the policy's JSON.
    pub bytes: usize,
    /// CPU time of reading and compiling it.
    pub load: Duration,
    questions: Vec<Question>,
}

/// What was measured at one size.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// Rules.
    pub rules: usize,
    /// Length of the policy's JSON.
    pub bytes: usize,
    /// CPU time of reading and compiling.
    pub load: Duration,
    /// Median CPU time of one verdict, in nanoseconds.
    pub median: f64,
    /// Share of the questions that are accepted.
    pub accepted: f64,
    /// Share of the questions that stay undecided.
    pub undecided: f64,
}

impl Subject {
    /// Makes and compiles a policy.
    ///
    /// # Errors
    /// The defects of a policy that does not compile.
    pub fn new(shape: Shape, nominal: u32) -> Result<Self, String> {
        let rules = shape.rules(nominal);
        let text = shape.policy(rules);
        let start = cpu_time()?;
        let mut defects = Defects::default();
        let mut builder = PolicySetBuilder::new(Settings::new(AddressCheck::Classes), []);
        builder.read(&Json::parse(&text)?, &At::root(), &mut defects);
        if let Some(defect) = defects.into_vec().first() {
            return Err(defect.to_string());
        }
        let policy = builder.finish();
        let load = cpu_time()?.saturating_sub(start);
        let questions = shape.questions(rules, QUESTIONS);
        Ok(Self {
            policy,
            bytes: text.len(),
            load,
            questions,
        })
    }
}

/// Measures all sizes of one shape, sample by sample in turn, so that a noisy neighbour meets them
/// all alike.
///
/// # Errors
/// A policy that does not compile, or a clock that cannot be read.
pub fn measure(shape: Shape, sizes: &[u32], samples: usize) -> Result<Vec<Figures>, String> {
    let subjects: Result<Vec<Subject>, String> = sizes
        .iter()
        .map(|size| Subject::new(shape, *size))
        .collect();
    let subjects = subjects?;
    let prepared: Vec<Vec<Prepared<'_>>> = subjects
        .iter()
        .map(|subject| subject.questions.iter().map(Question::prepare).collect())
        .collect();
    let facts: Vec<Vec<Facts<'_>>> = prepared
        .iter()
        .map(|prepared| prepared.iter().map(Prepared::facts).collect())
        .collect();
    let mut times: Vec<Vec<f64>> = vec![Vec::with_capacity(samples); subjects.len()];
    for sample in 0..samples {
        for ((subject, facts), times) in subjects.iter().zip(&facts).zip(&mut times) {
            times.push(one_sample(&subject.policy, facts, sample)?);
        }
    }
    Ok(subjects
        .iter()
        .zip(&facts)
        .zip(&mut times)
        .map(|((subject, facts), times)| figures(subject, facts, times))
        .collect())
}

fn one_sample(policy: &PolicySet, facts: &[Facts<'_>], sample: usize) -> Result<f64, String> {
    let batches = facts.chunks_exact(BATCH);
    let batch = batches
        .len()
        .checked_rem_euclid(batches.len().max(1))
        .map(|_| sample % batches.len().max(1));
    let batch = batch
        .and_then(|i| facts.chunks_exact(BATCH).nth(i))
        .unwrap_or(facts);
    let start = cpu_time()?;
    for facts in batch {
        black_box(policy.evaluate(black_box(facts)));
    }
    let spent = cpu_time()?.saturating_sub(start);
    let count = u32::try_from(batch.len()).map_err(|error| error.to_string())?;
    Ok(spent.as_secs_f64() * 1e9 / f64::from(count))
}

fn figures(subject: &Subject, facts: &[Facts<'_>], times: &mut [f64]) -> Figures {
    times.sort_by(f64::total_cmp);
    let share = |wanted: fn(&Evaluation<'_>) -> bool| {
        let hits = facts
            .iter()
            .filter(|facts| wanted(&subject.policy.evaluate(facts)))
            .count();
        let count = |n: usize| u32::try_from(n).map_or(f64::NAN, f64::from);
        count(hits) / count(facts.len())
    };
    Figures {
        rules: subject.policy.rule_count(),
        bytes: subject.bytes,
        load: subject.load,
        median: times.get(times.len() / 2).copied().unwrap_or(f64::NAN),
        accepted: share(
            |e| matches!(e, Evaluation::Final(v) if v.enforced.action == Action::Accept),
        ),
        undecided: share(|e| *e == Evaluation::Undecided),
    }
}

/// CPU time of this thread: what other processes do does not count.
fn cpu_time() -> Result<Duration, String> {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .map(Duration::from)
        .map_err(|error| error.to_string())
}
