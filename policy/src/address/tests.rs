use super::*;

#[test]
fn networks() {
    for (text, expected) in [
        ("192.0.2.0/24", Ok("192.0.2.0/24")),
        ("0.0.0.0/0", Ok("0.0.0.0/0")),
        ("192.0.2.1/32", Ok("192.0.2.1/32")),
        ("2001:DB8::/32", Ok("2001:db8::/32")),
        ("::/0", Ok("::/0")),
        ("192.0.2.1", Err("write `192.0.2.1/32`")),
        ("2001:db8::1", Err("write `2001:db8::1/128`")),
        ("192.0.2.1/24", Err("write `192.0.2.0/24`")),
        ("2001:db8::1/64", Err("write `2001:db8::/64`")),
        ("::ffff:192.0.2.0/120", Err("write the IPv4 network")),
        ("::ffff:0:0/96", Err("write the IPv4 network")),
        (
            "192.0.2.0/33",
            Err("for example 203.0.113.0/24 or 2001:db8::/32"),
        ),
        (
            "192.0.2/24",
            Err("for example 203.0.113.0/24 or 2001:db8::/32"),
        ),
        (
            "192.0.02.0/24",
            Err("for example 203.0.113.0/24 or 2001:db8::/32"),
        ),
        ("10/8", Err("for example 203.0.113.0/24 or 2001:db8::/32")),
        (
            "192.0.2.0/255.255.255.0",
            Err("for example 203.0.113.0/24 or 2001:db8::/32"),
        ),
        (
            "example.com/24",
            Err("for example 203.0.113.0/24 or 2001:db8::/32"),
        ),
        ("", Err("for example 203.0.113.0/24 or 2001:db8::/32")),
    ] {
        let parsed = parse_network(text)
            .map(|net| net.to_string())
            .map_err(|error| error.hint());
        let expected = expected.map(str::to_owned).map_err(str::to_owned);
        assert_eq!(parsed, expected, "{text}");
    }
}

#[test]
fn addresses_that_no_name_may_lead_to() {
    use Special::{
        CloudMetadata, Embedded, LinkLocal, Loopback, Multicast, Private, Reserved, SharedCgnat,
    };
    for (text, expected) in [
        ("0.0.0.0", Some(Reserved)),
        ("0.255.255.255", Some(Reserved)),
        ("1.0.0.0", None),
        ("9.255.255.255", None),
        ("10.0.0.0", Some(Private)),
        ("10.255.255.255", Some(Private)),
        ("11.0.0.0", None),
        ("100.63.255.255", None),
        ("100.64.0.0", Some(SharedCgnat)),
        ("100.127.255.255", Some(SharedCgnat)),
        ("100.128.0.0", None),
        ("127.0.0.1", Some(Loopback)),
        ("127.255.255.255", Some(Loopback)),
        ("128.0.0.0", None),
        ("168.63.129.16", Some(CloudMetadata)),
        ("168.63.129.17", None),
        ("169.253.255.255", None),
        ("169.254.169.254", Some(CloudMetadata)),
        ("169.254.1.1", Some(LinkLocal)),
        ("100.100.100.200", Some(CloudMetadata)),
        ("192.88.99.1", Some(Reserved)),
        ("198.17.255.255", None),
        ("198.18.0.1", Some(Reserved)),
        ("198.19.255.255", Some(Reserved)),
        ("198.20.0.0", None),
        ("169.255.0.0", None),
        ("172.15.255.255", None),
        ("172.16.0.0", Some(Private)),
        ("172.31.255.255", Some(Private)),
        ("172.32.0.0", None),
        ("192.0.0.192", Some(CloudMetadata)),
        ("192.0.0.9", Some(Reserved)),
        ("192.0.1.0", None),
        ("192.0.2.1", None),
        ("192.167.255.255", None),
        ("192.168.0.0", Some(Private)),
        ("192.169.0.0", None),
        ("198.51.100.1", None),
        ("203.0.113.1", None),
        ("223.255.255.255", None),
        ("224.0.0.0", Some(Multicast)),
        ("239.255.255.255", Some(Multicast)),
        ("240.0.0.0", Some(Reserved)),
        ("255.255.255.255", Some(Reserved)),
        ("::", Some(Reserved)),
        ("::1", Some(Loopback)),
        ("fe7f::1", None),
        ("fe80::1", Some(LinkLocal)),
        ("febf::1", Some(LinkLocal)),
        ("fec0::1", Some(Reserved)),
        ("fbff::1", None),
        ("fc00::1", Some(Private)),
        ("fd00:ec2::254", Some(CloudMetadata)),
        ("fd00:ec2::23", Some(CloudMetadata)),
        ("fd20:ce::254", Some(CloudMetadata)),
        ("fd00:42::42", Some(CloudMetadata)),
        ("fd00:42::43", Some(Private)),
        ("fe80::a9fe:a9fe", Some(CloudMetadata)),
        ("100::1", Some(Reserved)),
        ("100:0:0:1::1", Some(Reserved)),
        ("100:0:0:2::1", None),
        ("2001:2::1", Some(Reserved)),
        ("2001:1ff:ffff::1", Some(Reserved)),
        ("2001:200::1", None),
        ("3fff::1", None),
        ("5f00::1", Some(Reserved)),
        ("ff02::1", Some(Multicast)),
        ("2001:db8::1", None),
        ("2606:4700::1", None),
        // IPv4 inside IPv6: mapped, compatible, translated, NAT64, 6to4, Teredo.
        ("::ffff:10.0.0.1", Some(Embedded)),
        ("::ffff:8.8.8.8", Some(Embedded)),
        ("::10.0.0.1", Some(Embedded)),
        ("::8.8.8.8", Some(Embedded)),
        ("::ffff:0:127.0.0.1", Some(Embedded)),
        ("::ffff:0:8.8.8.8", Some(Embedded)),
        ("64:ff9b::169.254.169.254", Some(CloudMetadata)),
        ("64:ff9b::10.0.0.1", Some(Private)),
        ("64:ff9b::8.8.8.8", None),
        ("64:ff9b:1::8.8.8.8", Some(Embedded)),
        ("2002:a00:1::", Some(Private)),
        ("2002:808:808::", None),
        ("2001:0:1:2:3:4:f5ff:fffe", Some(Embedded)),
        ("2001:0:1:2:3:4:f7f7:f7f7", Some(Embedded)),
    ] {
        let address: IpAddr = text.parse().expect(text);
        assert_eq!(special(address), expected, "{text}");
    }
}
