use super::*;
use crate::tree::Json;

fn read_text(text: &str) -> (Limits, Vec<String>) {
    let document = Json::parse(text).unwrap();
    let mut defects = Defects::default();
    let limits = read(&document, &At::root(), &mut defects);
    let defects = defects.into_vec();
    (limits, defects.iter().map(ToString::to_string).collect())
}

#[test]
fn what_is_not_stated_has_its_default() {
    for (text, expected) in [
        (
            r#"{"streams": 7}"#,
            Limits {
                streams: 7,
                ..Limits::DEFAULT
            },
        ),
        (
            r#"{"undecidedTunnels": 1, "newNamesPerMinute": 2, "names": 3, "denialLinesPerMinute": 4, "nameLifetimeSeconds": 5, "workers": 6, "machines": 7, "streamMachines": 9, "streams": 8}"#,
            Limits {
                streams: 8,
                undecided_tunnels: 1,
                new_names_per_minute: 2,
                names: 3,
                denial_lines_per_minute: 4,
                name_lifetime_seconds: 5,
                workers: 6,
                machines: 7,
                stream_machines: 9,
            },
        ),
    ] {
        assert_eq!(read_text(text), (expected, Vec::new()), "{text}");
    }
}

#[test]
fn what_limits_nothing_or_everything_is_a_defect() {
    for (text, word) in [
        (r#"{"streams": 0}"#, "one or more"),
        (r#"{"names": -1}"#, "one or more"),
        (r#"{"names": "many"}"#, "one or more"),
        (r#"{"names": 1.5}"#, "one or more"),
        (r#"{"stream": 1}"#, "stream"),
        ("{}", "empty"),
        ("[]", "mapping"),
    ] {
        let (_, defects) = read_text(text);
        assert!(
            defects.iter().any(|defect| defect.contains(word)),
            "{text}: {defects:?}"
        );
    }
}

#[test]
fn shares_never_exceed_the_setting_and_are_never_none() {
    for (setting, workers, share) in [
        (1_000, 1, 1_000),
        (1_000, 2, 500),
        (1_000, 3, 333),
        (1_000, 16, 62),
        (3, 16, 1),
    ] {
        let limits = Limits {
            workers,
            ..Limits::DEFAULT
        };
        assert_eq!(limits.share(setting, 1), share, "{setting} / {workers}");
    }
}

/// What all machines of all workers hold together is at most the setting.
#[test]
fn each_setting_is_divided_by_the_machines_that_count_it() {
    for (machines, stream_machines, shares) in [
        (1, 1, [500, 100, 150, 1_000, 150]),
        (2, 1, [500, 100, 75, 500, 75]),
        (3, 2, [250, 100, 50, 333, 50]),
    ] {
        let limits = Limits {
            workers: 2,
            machines,
            stream_machines,
            ..Limits::DEFAULT
        };
        let seen = [
            limits.streams_share(),
            limits.undecided_share(),
            limits.new_names_share(),
            limits.names_share(),
            limits.lines_share(),
        ];
        assert_eq!(seen, shares, "{machines} {stream_machines}");
    }
}
