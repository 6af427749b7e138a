//! Authorities, server names, clusters and name patterns: total, and stable under their own
//! normal form.
#![no_main]

use egress_policy::destination::RouteTable;
use egress_policy::name::{Authority, Host, Name, NamePattern};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = RouteTable::default().resolve(bytes);
    for host in [
        Authority::parse(bytes).map(|a| a.host),
        Authority::parse_sni(bytes),
    ] {
        if let Ok(Host::Name(name)) = host {
            assert_eq!(Name::parse(name.as_str().as_bytes()).as_ref(), Ok(&name));
        }
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(pattern) = NamePattern::parse(text) {
        assert_eq!(NamePattern::parse(&pattern.to_string()), Ok(pattern));
    }
});
