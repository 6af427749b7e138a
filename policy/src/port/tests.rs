use super::*;

#[test]
fn ports_and_ranges() {
    for (text, expected) in [
        ("443", Ok(443..=443)),
        ("1", Ok(1..=1)),
        ("65535", Ok(65535..=65535)),
        ("8000-8999", Ok(8000..=8999)),
        ("1-65535", Ok(1..=65535)),
        ("", Err(PortError::Syntax)),
        ("0", Err(PortError::Syntax)),
        ("080", Err(PortError::Syntax)),
        ("+80", Err(PortError::Syntax)),
        ("-80", Err(PortError::Syntax)),
        ("80-", Err(PortError::Syntax)),
        ("80 - 90", Err(PortError::Syntax)),
        ("80-90-100", Err(PortError::Syntax)),
        ("80.0", Err(PortError::Syntax)),
        ("http", Err(PortError::Syntax)),
        ("0-10", Err(PortError::Syntax)),
        ("65536", Err(PortError::OutOfRange)),
        ("1-65536", Err(PortError::OutOfRange)),
        ("99999999999999999999", Err(PortError::OutOfRange)),
        ("90-80", Err(PortError::Reversed)),
        ("80-80", Err(PortError::Reversed)),
    ] {
        assert_eq!(parse_ports(text), expected, "{text}");
    }
}

#[test]
fn sets_are_sorted_and_merged() {
    for (ranges, shown) in [
        (vec![80..=80, 443..=443], "80,443"),
        (vec![443..=443, 80..=80], "80,443"),
        (vec![80..=80, 81..=90], "80-90"),
        (vec![80..=100, 90..=95], "80-100"),
        (vec![1..=65535, 80..=80], "1-65535"),
        (vec![65535..=65535, 65534..=65534], "65534-65535"),
    ] {
        let set = PortSet::new(ranges.clone());
        assert_eq!(set.to_string(), shown);
        for port in 0..=u16::MAX {
            let listed = ranges.iter().any(|range| range.contains(&port));
            assert_eq!(set.contains(port), listed, "{shown} {port}");
        }
    }
}

#[test]
fn empty_is_every_port() {
    assert!(PortSet::any().is_any());
    assert!(PortSet::any().contains(0) && PortSet::any().contains(65535));
}

#[test]
fn intersections() {
    let set = |text: &str| match text {
        "any" => PortSet::any(),
        text => PortSet::new(text.split(',').map(|part| parse_ports(part).expect(part))),
    };
    for (left, right, both) in [
        ("any", "any", Some("")),
        ("any", "80", Some("80")),
        ("80,443", "443,8080", Some("443")),
        ("1-100,200-300", "50-250", Some("50-100,200-250")),
        ("80", "443", None),
        ("1-79,81-65535", "80", None),
    ] {
        let found = set(left).intersect(&set(right)).map(|set| set.to_string());
        assert_eq!(found.as_deref(), both, "{left} and {right}");
        let swapped = set(right).intersect(&set(left)).map(|set| set.to_string());
        assert_eq!(swapped, found);
    }
}
