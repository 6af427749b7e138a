use egress_policy::classes::Addresses;
use egress_policy::name::Name;
use egress_policy::verdict::ReasonCode;

use super::*;
use crate::fake::Fake;
use crate::stream_facts::DestinationState;

fn setting(log_accepts: u32) -> Setting<'static> {
    Setting {
        context: "http",
        policy_hash: "abc",
        log_accepts,
        lines: None,
    }
}

fn accept(rule: &str) -> Verdict<'_> {
    Verdict {
        enforced: Decision {
            action: Action::Accept,
            reason: ReasonCode::Rule,
            rule: RuleRef::Rule {
                policy: "seed",
                tier: "apps",
                rule,
            },
        },
        shadow: None,
        addresses: Addresses::NotNamed,
    }
}

fn nothing() -> StreamFacts {
    StreamFacts::refused(
        egress_policy::facts::Protocol::Http,
        ReasonCode::NameMalformed,
    )
}

#[test]
fn accepts_are_sampled_and_denials_never() {
    for (one_in, accepts, expected) in [(0, 10, 0), (1, 10, 10), (4, 10, 3)] {
        let (fake, record) = (Fake::default(), Record::default());
        for _ in 0..accepts {
            record.verdict(&fake, setting(one_in), &nothing(), &accept("r"));
        }
        assert_eq!(fake.verdicts().len(), expected, "one in {one_in}");
        record.verdict(
            &fake,
            setting(one_in),
            &nothing(),
            &Verdict::refusal(ReasonCode::NoPolicy),
        );
        assert_eq!(fake.verdicts().len(), expected + 1);
        record.flush(&fake);
        assert_eq!(
            fake.metric("warden_verdicts.accept.rule.seed/apps/r"),
            Some(accepts)
        );
        assert_eq!(fake.metric("warden_verdicts.deny.no_policy.none"), Some(1));
    }
}

/// What Envoy drops at its log level is not made. What is denied is handed over always.
#[test]
fn a_line_of_an_accept_is_made_where_the_host_logs_it() {
    for (least, expected) in [
        (Level::Trace, 1),
        (Level::Info, 1),
        (Level::Warn, 0),
        (Level::Error, 0),
    ] {
        let (fake, record) = (Fake::default(), Record::default());
        fake.log_from(least);
        record.verdict(&fake, setting(1), &nothing(), &accept("r"));
        assert_eq!(fake.verdicts().len(), expected, "{least}");
        let denied = Verdict::refusal(ReasonCode::NoPolicy);
        record.verdict(&fake, setting(1), &nothing(), &denied);
        assert_eq!(fake.verdicts().len(), expected + 1, "{least}");
    }
}

#[test]
fn what_shadow_would_do_is_always_told() {
    let (fake, record) = (Fake::default(), Record::default());
    let would_be = Some(Decision::refusal(ReasonCode::Default));
    let verdict = Verdict {
        shadow: would_be,
        ..accept("r")
    };
    record.verdict(&fake, setting(0), &nothing(), &verdict);
    let line = fake.verdict().unwrap();
    assert_eq!(line["wouldBe"]["action"], "Deny");
    assert_eq!(
        fake.metric("warden_shadow_verdicts.deny.default.none"),
        Some(1)
    );
}

#[test]
fn counters_are_bounded() {
    let (fake, record) = (Fake::default(), Record::default());
    let rules = 3 * MAX_RULES;
    for i in 0..rules {
        record.verdict(&fake, setting(0), &nothing(), &accept(&format!("r{i}")));
    }
    record.flush(&fake);
    assert_eq!(fake.metrics(), MAX_RULES + 1);
    let other = i64::try_from(rules - MAX_RULES).unwrap();
    assert_eq!(
        fake.metric("warden_verdicts.accept.rule.other"),
        Some(other)
    );
    // Those that were there keep counting.
    record.verdict(&fake, setting(0), &nothing(), &accept("r0"));
    record.flush(&fake);
    assert_eq!(
        fake.metric("warden_verdicts.accept.rule.seed/apps/r0"),
        Some(2)
    );
}

#[test]
fn what_opens_is_counted_at_its_first_time_and_then_at_the_next_tick() {
    let (fake, record) = (Fake::default(), Record::default());
    let count = || fake.metric("warden_verdicts.accept.rule.seed/apps/r");
    let once = || record.verdict(&fake, setting(0), &nothing(), &accept("r"));
    once();
    assert_eq!(count(), Some(1));
    for _ in 0..5 {
        once();
    }
    assert_eq!(count(), Some(1));
    record.flush(&fake);
    record.flush(&fake);
    assert_eq!(count(), Some(6));
}

#[test]
fn a_line_is_one_line() {
    let (fake, record) = (Fake::default(), Record::default());
    let mut facts = nothing();
    facts.request.path = OwnedPath::Clean("/\n{}\u{2028}\"".to_owned());
    record.verdict(&fake, setting(1), &facts, &accept("r"));
    let (level, line) = fake.lines().pop().unwrap();
    assert_eq!(level, Level::Info);
    assert!(!line.contains('\n'), "{line}");
}

/// The reference page has these fields, and no others.
#[test]
fn lines_are_as_documented() {
    let (fake, record) = (Fake::app1(), Record::default());
    let destination = egress_policy::destination::Destination {
        host: egress_policy::name::Host::Name(Name::parse(b"a.example").unwrap()),
        port: 443,
    };
    let mut gathered = StreamFacts {
        destination: DestinationState::Judged(destination),
        claims: Fact::Known(OwnedClaims::default()),
        ..nothing()
    };
    gathered.request.method = Fact::Known("GET".into());
    gathered.request.path = OwnedPath::Clean("/a".repeat(LONGEST_PATH));
    let verdict = Verdict {
        shadow: Some(Decision::refusal(ReasonCode::Default)),
        ..accept("r")
    };
    record.verdict(&fake, setting(0), &gathered, &verdict);
    let (_, line) = fake.lines().pop().unwrap();
    crate::log_line::tests::check(&line);
    crate::log_line::tests::check(&untold_line(&Untold {
        workload: "w".into(),
        code: "default",
        count: 3,
    }));
}
