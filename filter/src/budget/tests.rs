use super::*;

const LIMITS: Limits = Limits {
    streams: 6,
    undecided_tunnels: 4,
    new_names_per_minute: 8,
    names: 12,
    denial_lines_per_minute: 4,
    name_lifetime_seconds: 300,
    workers: 2,
    machines: 1,
    stream_machines: 1,
};

const REQUEST: Wanted<'static> = Wanted {
    stream: true,
    undecided: false,
    name: None,
};
const TUNNEL: Wanted<'static> = Wanted {
    undecided: true,
    ..REQUEST
};

fn named(name: &str) -> Wanted<'_> {
    Wanted {
        name: Some(name),
        ..REQUEST
    }
}

/// What became of so many of the same in a row, all held on to.
fn take(
    budgets: &Rc<Budgets>,
    whose: &str,
    count: usize,
    wanted: Wanted<'_>,
) -> (Vec<Taken>, Option<ReasonCode>) {
    let mut held = Vec::new();
    for _ in 0..count {
        match budgets.take(whose, wanted, &LIMITS, 0) {
            Ok(one) => held.push(one),
            Err(code) => return (held, Some(code)),
        }
    }
    (held, None)
}

#[test]
fn each_identity_has_its_share_of_streams_and_gets_it_back() {
    let budgets = Rc::new(Budgets::default());
    let (mut held, code) = take(&budgets, "a", 10, REQUEST);
    assert_eq!((held.len(), code), (3, Some(ReasonCode::LimitStreams)));
    let (others, code) = take(&budgets, "b", 3, REQUEST);
    assert_eq!((others.len(), code), (3, None), "another identity");
    drop(held.pop());
    let (again, code) = take(&budgets, "a", 2, REQUEST);
    assert_eq!((again.len(), code), (1, Some(ReasonCode::LimitStreams)));
    drop((held, others, again));
    assert_eq!(budgets.held(), [0, 0, 0]);
}

/// Two machines on each thread, one of which has all streams: what both of them give out together is
/// what one would have by itself.
#[test]
fn machines_of_one_worker_share_what_each_of_them_counts() {
    let given = |machines: u32| {
        let limits = Limits { machines, ..LIMITS };
        let mut given = [0, 0, 0];
        for _ in 0..machines {
            let budgets = Rc::new(Budgets::default());
            // Names in a minute, names in their lifetime, lines in a minute.
            for number in 0..100 {
                let name = format!("{number}.example");
                let wanted = Wanted {
                    stream: false,
                    ..named(&name)
                };
                let now = |of: i64| budgets.take("a", wanted, &limits, of).is_ok();
                given[0] += u32::from(now(0));
                given[2] += u32::from(budgets.line("a", "default", &limits, 0));
            }
            let later = Rc::new(Budgets::default());
            for number in 0..100 {
                let name = format!("{number}.example");
                let wanted = Wanted {
                    stream: false,
                    ..named(&name)
                };
                // A minute apart nothing but their lifetime holds them.
                let wide = Limits {
                    name_lifetime_seconds: u32::MAX,
                    ..limits
                };
                let taken = later.take("a", wanted, &wide, 60 * number);
                given[1] += u32::from(taken.is_ok());
            }
        }
        given
    };
    assert_eq!(given(1), [4, 6, 2]);
    assert_eq!(given(2), [4, 6, 2]);
    let streams = Limits {
        machines: 3,
        stream_machines: 3,
        ..LIMITS
    };
    let budgets = Rc::new(Budgets::default());
    let held = budgets.take("a", REQUEST, &streams, 0);
    let more = budgets.take("a", REQUEST, &streams, 0).map(drop);
    assert_eq!((held.is_ok(), more), (true, Err(ReasonCode::LimitStreams)));
}

#[test]
fn a_tunnel_is_undecided_until_something_comes_back() {
    let budgets = Rc::new(Budgets::default());
    let (mut held, code) = take(&budgets, "a", 10, TUNNEL);
    assert_eq!((held.len(), code), (2, Some(ReasonCode::LimitUndecided)));
    held[0].decided();
    held[0].decided();
    let (again, code) = take(&budgets, "a", 2, TUNNEL);
    assert_eq!(
        (again.len(), code),
        (1, Some(ReasonCode::LimitStreams)),
        "decided ones are streams all the same"
    );
    drop((held, again));
    assert_eq!(budgets.held(), [0, 0, 0]);
}

/// Steps in one identity's life: the second, the name, and what becomes of it.
#[test]
fn names_are_limited_in_a_minute_and_within_their_lifetime() {
    let budgets = Rc::new(Budgets::default());
    let refused = Err(ReasonCode::LimitNames);
    let steps: [(i64, &[&str], Result<(), ReasonCode>); 10] = [
        (0, &["1", "2", "3", "4"], Ok(())),
        (1, &["5"], refused),
        (1, &["1", "2", "3", "4"], Ok(())),
        (60, &["5", "6"], Ok(())),
        (61, &["7"], refused),
        (120, &["7"], refused),
        (299, &["1"], Ok(())),
        // Of the first four `1` alone has been asked for since.
        (302, &["7", "8", "9"], Ok(())),
        (303, &["10"], refused),
        (370, &["1", "5", "6", "7", "8", "9"], Ok(())),
    ];
    for (now, names, expected) in steps {
        for name in names {
            let taken = budgets.take("a", named(name), &LIMITS, now).map(drop);
            assert_eq!(taken, expected, "{name} at {now}");
        }
    }
    let taken = budgets.take("b", named("10"), &LIMITS, 370);
    assert!(taken.is_ok(), "another identity");
    drop(taken);
    assert_eq!(budgets.sum_up(&LIMITS, 400), []);
    assert_eq!(budgets.sum_up(&LIMITS, 5_000), []);
    assert_eq!(budgets.held(), [0, 0, 0], "all forgotten");
}

#[test]
fn a_refused_stream_holds_nothing() {
    let budgets = Rc::new(Budgets::default());
    let (held, _) = take(&budgets, "a", 3, REQUEST);
    for name in ["1", "2", "3", "4", "5"] {
        assert_eq!(
            budgets.take("a", named(name), &LIMITS, 0).map(drop),
            Err(ReasonCode::LimitStreams)
        );
    }
    assert_eq!(budgets.held(), [3, 0, 0]);
    assert_eq!(budgets.changes(), [3, 0, 0]);
    drop(held);
    assert_eq!(budgets.changes(), [-3, 0, 0]);
    assert_eq!(budgets.changes(), [0, 0, 0]);
    let (_held, code) = take(&budgets, "a", 1, named("1"));
    assert_eq!(code, None);
}

#[test]
fn lines_beyond_the_budget_are_summed_up_by_identity_and_code() {
    let budgets = Budgets::default();
    assert_eq!(budgets.sum_up(&LIMITS, 0), []);
    let lines = |whose, code, count, now| {
        (0..count)
            .filter(|_| budgets.line(whose, code, &LIMITS, now))
            .count()
    };
    assert_eq!(lines("a", "default", 10, 1), 2);
    assert_eq!(lines("a", "rule", 3, 2), 0);
    assert_eq!(lines("b", "default", 2, 2), 2, "another identity");
    assert_eq!(budgets.sum_up(&LIMITS, 59), []);
    let untold = |workload: &str, code, count| Untold {
        workload: workload.into(),
        code,
        count,
    };
    assert_eq!(
        budgets.sum_up(&LIMITS, 60),
        [untold("a", "default", 8), untold("a", "rule", 3)]
    );
    assert_eq!(budgets.sum_up(&LIMITS, 120), [], "told once");
    assert_eq!(lines("a", "default", 10, 121), 2);
    assert_eq!(budgets.rest(), [untold("a", "default", 8)]);
    assert_eq!(budgets.rest(), []);
}

#[test]
fn the_tables_are_bounded_and_the_rest_shares_one_account() {
    let budgets = Rc::new(Budgets::default());
    let limits = Limits {
        names: u32::MAX,
        new_names_per_minute: u32::MAX,
        ..LIMITS
    };
    let mut held = Vec::new();
    for number in 0..MAX_ACCOUNTS + 3 {
        held.push(
            budgets
                .take(&format!("{number}"), REQUEST, &limits, 0)
                .unwrap(),
        );
    }
    assert_eq!(budgets.book.borrow().accounts.len(), MAX_ACCOUNTS + 1);
    assert_eq!(
        budgets.take("one more", REQUEST, &limits, 0).map(drop),
        Err(ReasonCode::LimitStreams),
        "the others share"
    );
    assert!(budgets.take("7", REQUEST, &limits, 0).is_ok(), "its own");
    drop(held);
    // What is idle makes room.
    assert!(budgets.take("one more", REQUEST, &limits, 0).is_ok());
    assert!(budgets.book.borrow().accounts.len() <= 2);
    for number in 0..MAX_NAMES {
        let name = format!("{number}.example");
        assert!(budgets.take("a", named(&name), &limits, 0).is_ok());
    }
    assert_eq!(
        budgets.take("b", named("b.example"), &limits, 0).map(drop),
        Err(ReasonCode::LimitNames),
        "all identities together"
    );
    assert!(budgets.take("a", named("7.example"), &limits, 0).is_ok());
}

#[test]
fn a_clock_that_is_set_back_locks_nobody_out() {
    let budgets = Rc::new(Budgets::default());
    for name in ["1", "2", "3", "4"] {
        assert!(budgets.take("a", named(name), &LIMITS, 10_000).is_ok());
    }
    assert!(budgets.take("a", named("5"), &LIMITS, 10_000).is_err());
    assert!(budgets.take("a", named("5"), &LIMITS, 5_000).is_ok());
}
