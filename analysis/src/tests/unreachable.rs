//! A rule that `check` calls unreachable decides nothing but what the message says is left to it:
//! without it every other answer is the same.

use egress_policy::PolicySet;
use egress_policy::facts::Fact;
use egress_policy::verdict::{Action, Evaluation};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::random::{Shape, document, layers, shapes, universe};
use super::{NOW, NoFiles};
use crate::bundle::Reader;
use crate::document::Source;
use crate::lint::{LintContext, lint};
use crate::owned_facts::{OwnedFacts, Who};

/// Tier, rule and message of every rule of the policy that is called unreachable.
fn unreachable(shape: &Shape) -> Vec<(usize, usize, String)> {
    let mut reader = Reader::new(&NoFiles);
    let text = document(0, shape).to_string();
    reader.read(Source::new("policy.json", text)).unwrap();
    let loaded = reader.finish();
    let context = LintContext {
        now: Some(NOW),
        ..LintContext::default()
    };
    let found = loaded.bundles.iter().flat_map(|one| lint(one, &context));
    found
        .filter(|one| one.code == "unreachable_rule")
        .map(|one| {
            let mut numbers = one
                .path
                .split(|c: char| !c.is_ascii_digit())
                .filter(|digits| !digits.is_empty())
                .map(|digits| digits.parse().unwrap());
            (
                numbers.next().unwrap(),
                numbers.next().unwrap(),
                one.message,
            )
        })
        .collect()
}

/// Whether the message says that these facts are left to the rule.
fn left(message: &str, facts: &OwnedFacts) -> bool {
    let connect = facts.method == Fact::Known("CONNECT".into());
    let upgrade = matches!(facts.upgrade, Fact::Known(Some(_)));
    let workload = matches!(facts.caller, Fact::Known(Who::Workload { .. }));
    let says = |words| message.contains(words);
    says("CONNECT and upgrades") && (connect || upgrade)
        || says("without an identity") && !workload
        || says("labels are missing") && facts.claims == Fact::Missing
}

fn action<'s>(set: &'s PolicySet, facts: &OwnedFacts) -> Option<Action<'s>> {
    match facts.with_facts(|facts| set.evaluate(facts)) {
        Evaluation::Final(verdict) => Some(verdict.enforced.action),
        Evaluation::Undecided => None,
    }
}

#[test]
fn what_check_calls_unreachable_decides_nothing() {
    let facts = universe();
    let found = std::cell::Cell::new(0_usize);
    let mut runner = TestRunner::new(Config {
        failure_persistence: None,
        ..Config::default()
    });
    runner
        .run(&shapes(), |mut shapes| {
            shapes.truncate(1);
            let rules = unreachable(&shapes[0]);
            let with = layers(&shapes).compile().unwrap();
            for (tier, rule, message) in rules {
                found.set(found.get() + 1);
                let mut shapes = shapes.clone();
                // A tier may not be empty, and what is in shadow is not enforced.
                shapes[0].tiers[tier].rules[rule]["mode"] = "Shadow".into();
                let without = layers(&shapes).compile().unwrap();
                let differs = facts
                    .iter()
                    .filter(|facts| !left(&message, facts))
                    .find(|facts| action(&with, facts) != action(&without, facts));
                if let Some(facts) = differs {
                    let facts = facts.to_json();
                    prop_assert!(false, "{message}, and it decides {facts:#}");
                }
            }
            Ok(())
        })
        .unwrap();
    println!("{} rules", found.get());
    assert!(found.get() > 8, "{}", found.get());
}
