//! Reading what the configuration says of addresses behind names.

use ipnet::IpNet;

use crate::address::{Nat64Prefixes, parse_network};
use crate::classes::{AddressClass, ClassNames};
use crate::contract::is_class_name;
use crate::decode::{Fields, boolean, each, fitting, items, list, shape, text, word};
use crate::defect::{At, DefectKind, Defects};
use crate::settings::{AddressCheck, Settings};
use crate::tree::{Node, Shape};

/// What verdicts depend on, and the classes that the gateway has.
pub(super) fn read<N: Node>(
    fields: &mut Fields<'_, N>,
    at: &At<'_>,
    defects: &mut Defects,
) -> (Settings, ClassNames) {
    let stated = match fields.take("addressCheck") {
        None => Some(AddressCheck::Unstated),
        Some(node) => check(&node, &at.field("addressCheck"), defects),
    };
    let classes = classes(fields, at, defects, stated);
    let nat64 = fields.take("nat64Prefixes");
    let nat64 = nat64.map(|node| read_nat64(&node, &at.field("nat64Prefixes"), defects));
    let settings = Settings {
        address_check: stated.unwrap_or(AddressCheck::Unstated),
        nat64: nat64.unwrap_or_default(),
    };
    (settings, classes)
}

/// `addressCheck`.
fn check<N: Node>(node: &N, at: &At<'_>, defects: &mut Defects) -> Option<AddressCheck> {
    if matches!(shape(node, at, defects)?, Shape::Text(text) if text == "upstream") {
        let hint = "write `classes`, with the gateway's classes in `addressClasses`: an upstream \
                    filter sees one address, and Envoy connects to any of the answer's";
        let message = "addresses are no longer checked upstream";
        defects.add(DefectKind::BadValue, at, message, hint.to_owned());
        return None;
    }
    let words = [
        ("classes", AddressCheck::Classes),
        ("none", AddressCheck::None),
    ];
    word(node, at, defects, &words)
}

/// `addressClasses`, which goes with `addressCheck: classes` and is there with it.
fn classes<N: Node>(
    fields: &mut Fields<'_, N>,
    at: &At<'_>,
    defects: &mut Defects,
    check: Option<AddressCheck>,
) -> ClassNames {
    let mut names = ClassNames::default();
    let here = at.field("addressClasses");
    let Some(node) = fields.take("addressClasses") else {
        if check == Some(AddressCheck::Classes) {
            let message = "`addressClasses` is missing";
            let hint = "it goes with `addressCheck: classes`; `warden render` writes both";
            defects.add(DefectKind::MissingField, at, message, hint.to_owned());
        }
        return names;
    };
    if check.is_some_and(|check| check != AddressCheck::Classes) {
        let message = "`addressClasses` goes with `addressCheck: classes`";
        defects.add(DefectKind::Conflict, &here, message, None);
    }
    // Policies that open nothing to a name have no class.
    if matches!(shape(&node, &here, defects), Some(Shape::List(items)) if items.is_empty()) {
        return names;
    }
    each(&node, &here, defects, |node, at, defects| {
        let Some((name, class)) = class(node, at, defects) else {
            return;
        };
        if !names.add(&name, class) {
            let message = format!("the name `{name}` or its networks are listed already");
            defects.add(DefectKind::DuplicateName, at, message, None);
        }
    });
    names
}

fn class<N: Node>(node: &N, at: &At<'_>, defects: &mut Defects) -> Option<(String, AddressClass)> {
    let mut fields = Fields::of(node, at, defects)?;
    let here = at.field("name");
    let name = fields.required("name", at, defects, text);
    if let Some(name) = &name
        && !is_class_name(name)
    {
        let message = format!("`{name}` cannot name a class");
        let hint = "one to 32 of a-z, 0-9 and -, but not `literal`".to_owned();
        defects.add(DefectKind::BadValue, &here, message, hint);
    }
    let here = at.field("allowPrivate");
    let allow = fields.take("allowPrivate");
    let allow = allow.map_or(Some(false), |node| boolean(&node, &here, defects));
    let here = at.field("refused");
    let refused = match fields.take("refused") {
        None => Vec::new(),
        Some(node) => items_of(&node, &here, defects),
    };
    fields.finish(at, defects);
    let class = AddressClass::new(allow?, &refused);
    if class.refused != refused {
        let message = "these networks are not in their canonical form";
        let hint = class.to_string();
        defects.add(DefectKind::BadValue, &here, message, hint);
    }
    Some((name?, class))
}

/// Networks, of which there may be none.
fn items_of<N: Node>(node: &N, at: &At<'_>, defects: &mut Defects) -> Vec<IpNet> {
    if matches!(shape(node, at, defects), Some(Shape::List(items)) if items.is_empty()) {
        return Vec::new();
    }
    list(node, at, defects, network)
}

fn network<N: Node>(node: &N, at: &At<'_>, defects: &mut Defects) -> Option<IpNet> {
    let value = text(node, at, defects)?;
    let parsed = parse_network(&value);
    fitting(
        &value,
        parsed,
        crate::address::NetworkError::hint,
        at,
        defects,
    )
}

/// `nat64Prefixes`: network-specific ones (RFC 6052).
pub(crate) fn read_nat64<N: Node>(node: &N, at: &At<'_>, defects: &mut Defects) -> Nat64Prefixes {
    let mut prefixes = Nat64Prefixes::NONE;
    for (i, node) in items(node, at, defects).iter().enumerate() {
        let at = at.index(i);
        let Some(net) = network(node, &at, defects) else {
            continue;
        };
        let IpNet::V6(net) = net else {
            let message = "a NAT64 prefix is an IPv6 network";
            defects.add(DefectKind::BadValue, &at, message, None);
            continue;
        };
        match prefixes.with(net) {
            Ok(with) => prefixes = with,
            Err(error) => defects.add(DefectKind::BadValue, &at, error.to_string(), None),
        }
    }
    prefixes
}
