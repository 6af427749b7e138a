//! What usually answers at a port, where it decides what a rule can be about.

use egress_policy::facts::Protocol;
use egress_policy::model::To;

/// Ports on which the server usually speaks first.
const SERVER_FIRST: [u16; 11] = [21, 22, 25, 110, 119, 143, 587, 3306, 5222, 5900, 6667];

/// Ports on which a connection does not begin with a ClientHello, and what is spoken there: the
/// server speaks first, or TLS begins after something else.
const NO_HELLO: [(u16, &str); 13] = [
    (21, "FTP"),
    (22, "SSH"),
    (25, "SMTP"),
    (110, "POP3"),
    (143, "IMAP"),
    (389, "LDAP"),
    (587, "SMTP"),
    (1433, "SQL Server"),
    (1521, "Oracle"),
    (3306, "MySQL"),
    (5222, "XMPP"),
    (5432, "PostgreSQL"),
    (5900, "VNC"),
];

/// A listed port on which the server speaks first, unless the element is HTTP or TLS.
pub(super) fn server_first(to: &To) -> Option<u16> {
    let opaque = to.protocols().contains(&Protocol::Tcp);
    SERVER_FIRST
        .into_iter()
        .find(|port| opaque && !to.ports.is_any() && to.ports.contains(*port))
}

/// A listed port of an element that is TLS alone where no connection begins with TLS, and what is
/// spoken there.
pub(super) fn tls_after_plaintext(to: &To) -> Option<(u16, &'static str)> {
    let tls = to.protocols == [Protocol::Tls] && !to.ports.is_any();
    NO_HELLO
        .into_iter()
        .find(|(port, _)| tls && to.ports.contains(*port))
}
