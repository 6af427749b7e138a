//! The names of the outside world and their addresses.

use std::net::Ipv4Addr;

use anyhow::{Context, Result};

/// The outside hosts that exist: name and address. Each speaks HTTP on 80, TLS on 443 and 9443,
/// SSH on 22, SMTP on 25 and echoes on 23, so that whatever is let through by mistake arrives.
pub const HOSTS: &[(&str, Ipv4Addr)] = &[
    ("github.com", Ipv4Addr::new(140, 82, 112, 3)),
    ("api.github.com", Ipv4Addr::new(140, 82, 112, 5)),
    ("codeload.github.com", Ipv4Addr::new(140, 82, 112, 9)),
    ("evilgithub.com", Ipv4Addr::new(198, 51, 100, 66)),
    (
        "api.github.com.evil.example",
        Ipv4Addr::new(198, 51, 100, 67),
    ),
    ("api.weather.gov", Ipv4Addr::new(198, 51, 100, 20)),
    ("alerts.weather.gov", Ipv4Addr::new(198, 51, 100, 21)),
    ("partner.example", Ipv4Addr::new(203, 0, 113, 7)),
    ("other-partner.example", Ipv4Addr::new(203, 0, 113, 8)),
    ("mail.example", Ipv4Addr::new(8, 8, 8, 8)),
    ("metadata.example", Ipv4Addr::new(169, 254, 169, 254)),
    // What the gateway speaks TLS to.
    ("api.payments.example", Ipv4Addr::new(198, 51, 100, 30)),
    ("misnamed.payments.example", Ipv4Addr::new(198, 51, 100, 31)),
    ("unknown.payments.example", Ipv4Addr::new(198, 51, 100, 32)),
    ("inside.payments.example", Ipv4Addr::new(10, 0, 0, 6)),
    // A public name that leads into the private network.
    ("rebind.github.com", Ipv4Addr::new(10, 0, 0, 5)),
];

/// The address of an outside host.
///
/// # Errors
/// If there is no such host.
pub fn address_of(name: &str) -> Result<Ipv4Addr> {
    let host = HOSTS.iter().find(|(known, _)| *known == name);
    let (_, address) = host.with_context(|| format!("no host {name}"))?;
    Ok(*address)
}
