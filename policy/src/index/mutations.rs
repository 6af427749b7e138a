//! Faults put into a compiled index on purpose, for the test that the laws would notice them.

use super::Index;
use super::pool::Pool;
use super::rules::{Effect, From};
use crate::model::TierDefault;

/// A fault of the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    ShadowIsEnforced,
    ExpiredRulesAccept,
    ExceptIsIgnored,
    TierDefaultDenyPasses,
    PassAccepts,
    InspectAccepts,
    NoIdentityIsNeeded,
    LastRuleOfATierIsLost,
    RuleMovesToTheNextTier,
    PortsAreIgnored,
    NetworksHoldNobody,
    NetworksBehindTheEndHold,
    NetworksOfUnknownClaimsAreForgotten,
    TheFirstNetworkOfARunIsForgotten,
}

impl Index {
    pub(crate) fn spoil(&mut self, fault: Fault) {
        let Self {
            tables,
            tiers,
            shadows: _,
        } = self;
        let store = &mut tables.store;
        match fault {
            Fault::ShadowIsEnforced => {
                for rule in &mut store.rules {
                    rule.term.shadow = false;
                }
                for tier in tiers {
                    tier.shadow = false;
                }
            }
            Fault::ExpiredRulesAccept => {
                for rule in &mut store.rules {
                    rule.term.expires = None;
                }
            }
            Fault::ExceptIsIgnored => store.exceptions = Pool::default(),
            Fault::TierDefaultDenyPasses => {
                for tier in tiers {
                    tier.default = TierDefault::Pass;
                }
            }
            Fault::PassAccepts => {
                for rule in &mut store.rules {
                    if rule.term.effect == Effect::Pass {
                        rule.term.effect = Effect::Accept;
                    }
                }
            }
            Fault::InspectAccepts => {
                for rule in &mut store.rules {
                    if matches!(rule.term.effect, Effect::Inspect(_)) {
                        rule.term.effect = Effect::Accept;
                    }
                }
            }
            Fault::NoIdentityIsNeeded => {
                for rule in &mut store.rules {
                    if rule.from == From::AnyWorkload {
                        rule.from = From::Anyone;
                    }
                }
            }
            Fault::LastRuleOfATierIsLost => {
                let expired = store.expiries.intern_nonzero(i64::MIN);
                let mut start = 0;
                for tier in tiers.iter_mut() {
                    let end = tier.end;
                    if let Some(rule) = end
                        .checked_sub(1)
                        .filter(|last| *last >= start)
                        .and_then(|last| store.rules.get_mut(usize::try_from(last).ok()?))
                    {
                        rule.term.expires = expired;
                    }
                    start = end;
                }
            }
            Fault::RuleMovesToTheNextTier => {
                let count = tiers.len();
                for tier in tiers.iter_mut().take(count.saturating_sub(1)) {
                    tier.end = tier.end.saturating_sub(1);
                }
            }
            Fault::PortsAreIgnored => store.ports = Pool::default(),
            Fault::NetworksHoldNobody => tables.runs.of.clear(),
            Fault::NetworksBehindTheEndHold => {
                // Only how many of them come before the end is asked of a run's numbers.
                tables.runs.all_before_everything = true;
            }
            Fault::NetworksOfUnknownClaimsAreForgotten => {
                for (_, unclaimed) in tables.runs.of.values_mut() {
                    *unclaimed = None;
                }
            }
            Fault::TheFirstNetworkOfARunIsForgotten => {
                for run in &mut tables.runs.runs {
                    if !run.rules.is_empty() {
                        run.rules.remove(0);
                    }
                }
            }
        }
    }
}
