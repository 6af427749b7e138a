use super::*;

#[test]
fn a_map_is_read_back_as_it_was_written() {
    let pairs = [
        ("content-type", "text/plain"),
        ("", ""),
        ("x", "a\0b"),
        ("x", "again"),
    ];
    let bytes = write_pairs(&pairs.map(|(key, value)| (key.as_bytes(), value.as_bytes()))).unwrap();
    let read = Headers::parse(bytes).unwrap();
    let expected = pairs.map(|(key, value)| (key.as_bytes(), value.as_bytes()));
    assert_eq!(read.iter().collect::<Vec<_>>(), expected);
}

#[test]
fn what_is_no_map_is_refused() {
    let good = write_pairs(&[(b"name", b"value"), (b"n", b"v")]).unwrap();
    for end in 0..good.len() {
        assert_eq!(Headers::parse(good[..end].to_vec()), None, "{end} octets");
    }
    assert_eq!(
        Headers::parse([&good[..], b"x"].concat()),
        None,
        "octets behind"
    );
    // A count that no memory holds.
    assert_eq!(Headers::parse(vec![0xff; 64]), None);
    assert_eq!(Headers::parse(vec![0xff, 0xff, 0xff, 0x1f]), None);
    // Sizes that do not end at the NUL.
    let mut shifted = good;
    shifted[4] += 1;
    assert_eq!(Headers::parse(shifted), None);
}

#[test]
fn the_facade_drops_what_the_host_does_not_log() {
    let rows = [
        (0, LevelFilter::Trace),
        (1, LevelFilter::Debug),
        (2, LevelFilter::Info),
        (3, LevelFilter::Warn),
        (4, LevelFilter::Error),
        (5, LevelFilter::Off),
        // spdlog's `off`, which the SDK's enum does not have.
        (6, LevelFilter::Off),
        (7, LevelFilter::Trace),
        (u32::MAX, LevelFilter::Trace),
    ];
    for (number, expected) in rows {
        assert_eq!(level_filter(number), expected, "{number}");
    }
}
