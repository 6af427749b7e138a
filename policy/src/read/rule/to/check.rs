//! What has to hold between the fields of a finished element.

use super::RuleShape;
use crate::defect::{At, DefectKind, Defects};
use crate::facts::Protocol;
use crate::model::{Hosts, To};

/// Requests, whether in the clear or in TLS that the gateway speaks.
const HTTP_ALONE: &[Protocol] = &[Protocol::Http];

/// Notes what contradicts itself.
pub(super) fn check(to: &To, at: &At<'_>, defects: &mut Defects, rule: RuleShape) {
    let mut element = Element {
        to,
        at,
        defects,
        rule,
    };
    element.check_hosts();
    element.check_tls();
    element.check_request();
    element.check_udp();
    if rule.inspect {
        element.check_inspected();
    }
}

struct Element<'e, 'a, 'd> {
    to: &'e To,
    at: &'e At<'a>,
    defects: &'d mut Defects,
    rule: RuleShape,
}

impl Element<'_, '_, '_> {
    fn conflict(&mut self, field: &'static str, message: &str, hint: &str) {
        let hint = Some(hint.to_owned());
        let at = self.at.field(field);
        self.defects.add(DefectKind::Conflict, &at, message, hint);
    }

    fn has_names(&self) -> bool {
        matches!(self.to.hosts, Hosts::Names(_))
    }

    fn check_hosts(&mut self) {
        if matches!(self.to.hosts, Hosts::Anywhere) && self.to.ports.is_any() {
            self.conflict(
                "ports",
                "an element without names or networks needs `ports`",
                "leave out `to` for any destination",
            );
        }
        if self.to.allow_private && !self.has_names() {
            self.conflict(
                "allowPrivate",
                "`allowPrivate` goes with `domainNames`",
                "a network is what it says",
            );
        }
    }

    /// TLS that the gateway originates.
    fn check_tls(&mut self) {
        if self.to.tls.is_none() {
            return;
        }
        if !self.has_names() {
            self.conflict(
                "tls",
                "`tls` goes with `domainNames`",
                "the server is verified by its name",
            );
        } else if self.to.ports.is_any() {
            self.conflict(
                "ports",
                "`tls` needs `ports`: where the server speaks TLS",
                "`ports: [443]`",
            );
        }
        let protocols = self.to.protocols.as_slice();
        if !self.rule.deny && !protocols.is_empty() && protocols != HTTP_ALONE {
            self.conflict(
                "protocols",
                "where the gateway originates TLS the application speaks HTTP",
                "write `protocols: [HTTP]`, or leave it out",
            );
        }
    }

    /// Methods, paths and upgrades.
    fn check_request(&mut self) {
        if !self.to.compares_requests() {
            return;
        }
        let protocols = self.to.protocols.as_slice();
        if !protocols.is_empty() && protocols != HTTP_ALONE {
            self.conflict(
                "protocols",
                "methods, paths and upgrades make an element HTTP only",
                "write `protocols: [HTTP]`",
            );
        }
        if self.rule.deny && protocols != HTTP_ALONE {
            self.conflict(
                "protocols",
                "methods, paths and upgrades in a Deny rule need `protocols: [HTTP]`",
                "the same destination over TLS has no method or path to deny by; write \
                 `protocols: [HTTP]` to say that you know",
            );
        }
        let ports = &self.to.ports;
        let only_443 = ports.ranges().all(|range| range == (443..=443)) && !ports.is_any();
        if only_443 && self.to.tls.is_none() && protocols.is_empty() {
            self.conflict(
                "ports",
                "port 443 carries TLS, so this never matches",
                "inside TLS there is no method or path; let the gateway originate TLS \
                 (`tls: {originate: true}`)",
            );
        }
    }

    fn check_udp(&mut self) {
        let to = self.to;
        let by_networks = matches!(to.hosts, Hosts::Networks(_));
        if to.protocols.contains(&Protocol::Udp)
            && (!by_networks || to.ports.is_any() || to.compares_requests())
        {
            self.conflict(
                "protocols",
                "UDP needs `networks` and `ports`, and nothing else",
                "UDP is enforced in the kernel, which knows no names",
            );
        }
    }

    /// What no inspection proxy can be given: the gateway denies it, and the rule would only look as
    /// if it opened.
    fn check_inspected(&mut self) {
        if self.to.tls.is_some() {
            let hint = "an inspection proxy would get it in the clear and send it on so; accept it, \
                        or leave out `tls` and have the application's own TLS inspected";
            self.defects.add(
                DefectKind::Conflict,
                self.at,
                "what the gateway sends in TLS of its own cannot be inspected",
                hint.to_owned(),
            );
        }
    }
}
