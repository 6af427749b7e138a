//! One configured instance of the module: what all its streams share.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use egress_policy::canonical::short;
use egress_policy::classes::Addresses;
use egress_policy::config::{Context, LabelSource, PluginConfig};
use egress_policy::contract::{LITERAL, UNCHECKED};
use egress_policy::defect::{Defect, DefectKind, FieldPath};
use egress_policy::facts::{Fact, OwnedClaims, Protocol};
use egress_policy::name::Host as Target;
use egress_policy::settings::AddressCheck;
use egress_policy::verdict::{Evaluation, ReasonCode, Verdict};

use crate::budget::{Budgets, Taken, Untold, Wanted};
use crate::caller::{Identity, identity};
use crate::claims::{self, ClaimHeaders};
use crate::connections::{Connections, Peer};
use crate::host::{Host, Level};
use crate::metric::MetricFamily;
use crate::record::{Lines, Record, Setting, gauge, untold_line, workload};
use crate::revalidation::{Revalidation, StreamEpoch};
use crate::state;
use crate::stream_facts::StreamFacts;

/// How often the clock is read. `expires` counts in seconds.
const TICK_MILLISECONDS: u32 = 1_000;
/// How many ticks a connection may stay undecided: 15 seconds, whatever the clock does meanwhile.
const UNDECIDED_TICKS: u64 = 15;
const NANOSECONDS: u64 = 1_000_000_000;

/// One configured instance.
#[derive(Debug)]
pub struct Plugin<H: Host> {
    /// The host.
    pub host: H,
    /// The configuration in force.
    pub config: PluginConfig,
    /// Log and counters.
    pub record: Record,
    /// What each identity has of this worker.
    budgets: Rc<Budgets>,
    recheck: Revalidation,
    connections: RefCell<Connections>,
    now: Cell<Option<i64>>,
    ticks: Cell<u64>,
    pending: RefCell<BTreeMap<u32, PendingConnection>>,
}

/// A connection without a verdict.
#[derive(Debug)]
struct PendingConnection {
    since: u64,
    facts: StreamFacts,
    overdue: bool,
}

impl<H: Host> Plugin<H> {
    /// A plugin instance of this configuration, under its name.
    ///
    /// # Errors
    /// If the host lacks what it needs.
    pub fn configure(host: H, config: PluginConfig, name: &str) -> Result<Self, Vec<Defect>> {
        let hash = short(&config.policy_hash);
        let ticking = host.set_tick_period(TICK_MILLISECONDS);
        let recheck =
            ticking.and_then(|()| Revalidation::new(&host, name, hash, config.recheck_on_update));
        let Ok(recheck) = recheck else {
            return Err(vec![Defect {
                kind: DefectKind::Conflict,
                path: FieldPath::default(),
                message: "the host gives no ticks or no gauges, so no stream would end in time"
                    .to_owned(),
                hint: None,
            }]);
        };
        let plugin = Self {
            host,
            config,
            record: Record::default(),
            budgets: Budgets::of_vm(),
            recheck,
            connections: RefCell::default(),
            now: Cell::new(None),
            ticks: Cell::new(0),
            pending: RefCell::default(),
        };
        // Not a tick: what its predecessor said would end its own streams.
        plugin.now.set(plugin.read_clock());
        Ok(plugin)
    }

    /// Reads the clock for the next second, counts what was accepted in the last, ends what
    /// has waited too long, and listens for a newer policy.
    pub fn tick(&self) {
        self.record.flush(&self.host);
        self.recheck.tick(&self.host);
        self.now.set(self.read_clock());
        self.ticks.set(self.ticks.get().saturating_add(1));
        self.end_overdue();
        if let Some(now) = self.now.get() {
            self.sum_up(&self.budgets.sum_up(&self.config.limits, now));
        }
        self.show_budgets();
    }

    /// Gives a stream what it takes of its workload's budget, or says which limit it is beyond.
    /// `resolved` says whether Envoy's DNS cache is asked for its name.
    ///
    /// # Errors
    /// The limit's code.
    pub fn take(
        &self,
        facts: &StreamFacts,
        stream: bool,
        undecided: bool,
        resolved: bool,
    ) -> Result<Taken, ReasonCode> {
        let name = facts.destination.known().filter(|_| resolved);
        let name = name.and_then(|destination| match &destination.host {
            Target::Name(name) => Some(name.to_string()),
            Target::Address(_) => None,
        });
        let wanted = Wanted {
            stream,
            undecided,
            name: name.as_deref(),
        };
        let (whose, limits) = (workload(facts), &self.config.limits);
        self.budgets.take(whose, wanted, limits, self.seconds())
    }

    /// The time by which budgets are kept. Without a clock it stands still, which only narrows them.
    fn seconds(&self) -> i64 {
        self.now().known().unwrap_or_default()
    }

    fn sum_up(&self, untold: &[Untold]) {
        for untold in untold {
            self.host.log(Level::Warn, &untold_line(untold));
        }
    }

    /// Tells the gauges what has changed. All workers add to them.
    fn show_budgets(&self) {
        let gauges = [
            MetricFamily::StreamsOpen,
            MetricFamily::TunnelsUndecided,
            MetricFamily::NamesHeld,
        ];
        for (gauge, change) in gauges.into_iter().zip(self.budgets.changes()) {
            if change != 0
                && let Ok(gauge) = self.host.define_metric(gauge.kind(), gauge.name())
            {
                // Visibility only.
                let _ = self.host.increment(gauge, change);
            }
        }
    }

    /// Seconds since the Unix epoch, as of the last tick. Envoy's ticks and callbacks run on one
    /// event loop, so a tick cannot fall behind the callbacks.
    pub fn now(&self) -> Fact<i64> {
        let now = self.now.get().or_else(|| self.read_clock());
        now.map_or(Fact::Missing, Fact::Known)
    }

    fn read_clock(&self) -> Option<i64> {
        let nanoseconds = self.host.now().ok()?;
        i64::try_from(nanoseconds / NANOSECONDS).ok()
    }

    /// The peer of the current connection. What comes from the connection is remembered for its
    /// later requests, under Envoy's number for it; claims in headers are read anew with each,
    /// where the configuration says that they count.
    pub fn peer(&self, connection: Option<u64>, headers: ClaimHeaders<'_>) -> Rc<Peer> {
        let remembered = connection.and_then(|id| {
            let mut connections = self.connections.try_borrow_mut().ok()?;
            connections.get(id)
        });
        // Istio's filter has read one of several and nothing says which: whoever writes two may have
        // put another's beside his own.
        if headers.peer_metadata == Fact::Missing {
            let known = remembered.map(|peer| peer.identity.clone());
            return Rc::new(Peer {
                identity: known.unwrap_or_else(|| identity(&self.host)),
                claims: Fact::Missing,
            });
        }
        let by_header = self.config.labels == LabelSource::Header;
        match remembered {
            Some(peer) if by_header => {
                return Rc::new(Peer {
                    identity: peer.identity.clone(),
                    claims: self.claims(headers),
                });
            }
            Some(peer) => return peer,
            None => {}
        }
        let peer = Rc::new(Peer {
            identity: identity(&self.host),
            claims: self.claims(headers),
        });
        // What is missing may come with the next request.
        let whole = matches!(peer.identity, Fact::Known(_))
            && (matches!(peer.claims, Fact::Known(_))
                || self.config.labels != LabelSource::FilterState);
        if let (true, Some(id), Ok(mut connections)) =
            (whole, connection, self.connections.try_borrow_mut())
        {
            connections.insert(id, Rc::clone(&peer));
        }
        peer
    }

    fn claims(&self, headers: ClaimHeaders<'_>) -> Fact<OwnedClaims> {
        let keys = self.config.policies.label_keys();
        let found = match self.config.labels {
            LabelSource::None => None,
            LabelSource::FilterState => claims::from_filter_state(&self.host, keys).ok().flatten(),
            LabelSource::Header => claims::from_headers(headers, keys),
        };
        found.map_or(Fact::Missing, Fact::Known)
    }

    /// The claims that filter state holds by now; none may still come until `last`.
    pub fn claims_so_far(&self, last: bool) -> Fact<OwnedClaims> {
        if self.config.labels != LabelSource::FilterState {
            return Fact::Missing;
        }
        match claims::from_filter_state(&self.host, self.config.policies.label_keys()) {
            Ok(Some(claims)) => Fact::Known(claims),
            Ok(None) if !last => Fact::Pending,
            Ok(None) | Err(_) => Fact::Missing,
        }
    }

    /// Notes that a connection waits for its verdict, and with which facts. False if it cannot be
    /// noted, and so would never be ended.
    pub fn hold(&self, id: u32, facts: StreamFacts) -> bool {
        let Ok(mut pending) = self.pending.try_borrow_mut() else {
            return false;
        };
        let since = pending.get(&id).map_or(self.ticks.get(), |held| held.since);
        let held = PendingConnection {
            since,
            facts,
            overdue: false,
        };
        pending.insert(id, held);
        true
    }

    /// Whether a connection has waited too long and been ended.
    pub fn is_overdue(&self, id: u32) -> bool {
        self.pending.try_borrow().map_or(true, |pending| {
            pending.get(&id).is_some_and(|held| held.overdue)
        })
    }

    /// The connection has its verdict, or is gone.
    pub fn forget(&self, id: u32) {
        if let Ok(mut pending) = self.pending.try_borrow_mut() {
            pending.remove(&id);
        }
    }

    /// Ends the connections that have waited too long.
    fn end_overdue(&self) {
        let mut ended = Vec::new();
        if let Ok(mut pending) = self.pending.try_borrow_mut() {
            let now = self.ticks.get();
            for (id, held) in pending.iter_mut() {
                if !held.overdue && now.saturating_sub(held.since) > UNDECIDED_TICKS {
                    held.overdue = true;
                    ended.push((*id, held.facts.clone()));
                }
            }
        }
        let verdict = Verdict::refusal(ReasonCode::UndecidedLimit);
        for (id, facts) in ended {
            if self.host.set_effective_context(id).is_ok() {
                state::store_denial(&self.host, &verdict.enforced);
                // Its own next event closes it, should this fail.
                let _ = self.host.close_downstream();
            }
            self.note(&facts, &verdict);
        }
    }

    /// Tells what is in force from now on.
    pub fn publish(&self) {
        self.recheck.publish(&self.host);
        let rules = u64::try_from(self.config.policies.rule_count()).unwrap_or(u64::MAX);
        gauge(&self.host, MetricFamily::Rules.name(), rules);
        let memory = MetricFamily::MemoryBytes.name();
        gauge(&self.host, memory, self.host.memory());
    }

    /// A stream begins.
    pub fn begin(&self) -> StreamEpoch {
        self.recheck.begin(&self.host)
    }

    /// Whether a stream has to end because the policy that it began under has been replaced. Then it
    /// is noted, with whose it is.
    pub fn ends(
        &self,
        began: StreamEpoch,
        protocol: Protocol,
        whose: impl FnOnce() -> Fact<Identity>,
    ) -> bool {
        let ends = self.recheck.ends(began);
        if ends {
            let verdict = Verdict::refusal(ReasonCode::PolicyReplaced);
            state::store_denial(&self.host, &verdict.enforced);
            let facts = StreamFacts {
                identity: whose(),
                ..StreamFacts::refused(protocol, ReasonCode::PolicyReplaced)
            };
            self.note(&facts, &verdict);
        }
        ends
    }

    /// Asks the engine.
    pub fn evaluate(&self, facts: &StreamFacts) -> Evaluation<'_> {
        facts.lend(|facts| self.config.policies.evaluate(facts))
    }

    /// The name of the address class that a verdict opens; `by_class`: whether its cluster comes
    /// once for each class.
    ///
    /// # Errors
    /// [`ReasonCode::AddressUnchecked`] for a name where the cluster resolves by itself,
    /// [`ReasonCode::RouteMismatch`] for a class that the gateway does not have, or not yet.
    pub fn class_of(
        &self,
        facts: &StreamFacts,
        verdict: &Verdict<'_>,
        by_class: bool,
    ) -> Result<Rc<str>, ReasonCode> {
        let config = &self.config;
        match (&verdict.addresses, facts.destination.is_named()) {
            (Addresses::Class(key), true) if by_class => {
                let name = config.classes.name(key, |key| config.policies.class(key));
                name.ok_or(ReasonCode::RouteMismatch)
            }
            (Addresses::NotNamed, true) if config.address_check == AddressCheck::None => {
                Ok(Rc::from(UNCHECKED))
            }
            (Addresses::Class(_) | Addresses::NotNamed, true) => Err(ReasonCode::AddressUnchecked),
            (Addresses::Class(_) | Addresses::NotNamed, false) => Ok(Rc::from(LITERAL)),
        }
    }

    /// Envoy's cluster for an inspection proxy.
    pub fn proxy_cluster(&self, proxy: &str) -> Option<&str> {
        let mut known = self.config.inspection.iter();
        let found = known.find(|known| known.name == proxy)?;
        Some(&found.cluster)
    }

    /// Asks the engine where no further fact can come.
    pub fn conclude(&self, facts: &StreamFacts, otherwise: ReasonCode) -> Verdict<'_> {
        match self.evaluate(facts) {
            Evaluation::Final(verdict) => verdict,
            Evaluation::Undecided => Verdict::refusal(otherwise),
        }
    }

    /// Counts and logs a final verdict.
    pub fn note(&self, facts: &StreamFacts, verdict: &Verdict<'_>) {
        if facts.lend(|facts| {
            facts
                .caller
                .known()
                .and_then(egress_policy::facts::Caller::workload)
                .is_some()
                && facts.claims.known().is_some()
                && facts.counting_claims().known().is_none()
        }) {
            self.record.event(&self.host, MetricFamily::ClaimsDiscarded);
        }
        let setting = Setting {
            context: context_word(self.config.context),
            policy_hash: &self.config.policy_hash,
            log_accepts: self.config.log_accepts,
            lines: Some(Lines {
                budgets: &self.budgets,
                limits: &self.config.limits,
                now: self.seconds(),
            }),
        };
        self.record.verdict(&self.host, setting, facts, verdict);
    }
}

impl<H: Host> Drop for Plugin<H> {
    /// What was not counted yet is counted before this configuration goes.
    fn drop(&mut self) {
        self.record.flush(&self.host);
        self.sum_up(&self.budgets.rest());
    }
}

/// The configuration's word for a context.
#[must_use]
pub const fn context_word(context: Context) -> &'static str {
    match context {
        Context::Http => "http",
        Context::Network => "network",
    }
}

#[cfg(test)]
mod tests;
