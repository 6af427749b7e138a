//! Reading a case file, with every defect noted.

use std::collections::HashSet;
use std::net::IpAddr;

use crate::config::{read_inspection, read_nat64, read_routes};
use crate::decode::{Fields, boolean, each, list, shape, text, word};
use crate::defect::{At, Defect, DefectKind, Defects};
use crate::facts::{Fact, Protocol, SpiffeId};
use crate::model::{Policy, Tier};
use crate::name::canonical;
use crate::read::{read_policy, timestamp};
use crate::reason::ReasonCode;
use crate::settings::AddressCheck;
use crate::tree::{Node, Shape};
use crate::verdict::DecidedBy;

use super::line::{AskerLine, LineError, TargetLine};
use super::{
    Asker, Case, CaseFile, CaseInput, DEFAULT_TRUST_DOMAIN, ExpectedAnswer, ExpectedDecision,
    Gateway, HelloSeen, Peer, PolicyRef, Step, Subject, Target,
};

impl CaseFile {
    /// Reads a case file.
    ///
    /// # Errors
    /// Everything that is wrong with it, in the order of the document.
    pub fn read(document: &impl Node) -> Result<Self, Vec<Defect>> {
        let mut defects = Defects::default();
        match read_file(document, &At::root(), &mut defects) {
            Some(file) if defects.is_empty() => Ok(file),
            _ => Err(defects.into_vec()),
        }
    }
}

fn read_file<N: Node>(node: &N, at: &At<'_>, defects: &mut Defects) -> Option<CaseFile> {
    let mut fields = Fields::of(node, at, defects)?;
    let policies = fields
        .require("policies", at, defects)
        .map(|node| read_policies(&node, &at.field("policies"), defects));
    let gateway = match fields.take("settings") {
        None => Some(Gateway::default()),
        Some(node) => read_settings(&node, &at.field("settings"), defects),
    };
    let mut names = HashSet::new();
    let cases = fields.require("cases", at, defects).map(|node| {
        list(&node, &at.field("cases"), defects, |node, at, defects| {
            read_case(node, at, defects, &mut names)
        })
    });
    fields.finish(at, defects);
    Some(CaseFile {
        policies: policies?,
        gateway: gateway?,
        cases: cases?,
    })
}

/// Paths and policies. An empty list is a configuration of its own: no policy.
fn read_policies<N: Node>(node: &N, at: &At<'_>, defects: &mut Defects) -> Vec<PolicyRef> {
    let mut policies = Vec::new();
    if matches!(shape(node, at, defects), Some(Shape::List(items)) if items.is_empty()) {
        return policies;
    }
    each(node, at, defects, |node, at, defects| {
        let Some(here) = shape(node, at, defects) else {
            return;
        };
        if let Shape::Text(_) = here {
            policies.extend(text(node, at, defects).map(PolicyRef::Path));
            return;
        }
        let mut tiers: Vec<Tier> = Vec::new();
        if let Some(head) = read_policy(node, at, defects, &mut tiers) {
            policies.push(PolicyRef::Inline(Box::new(Policy { head, tiers })));
        }
    });
    policies
}

fn read_settings<N: Node>(node: &N, at: &At<'_>, defects: &mut Defects) -> Option<Gateway> {
    let mut gateway = Gateway::default();
    let mut fields = Fields::of(node, at, defects)?;
    if let Some(node) = fields.take("addressCheck") {
        let words = [
            ("classes", AddressCheck::Classes),
            ("none", AddressCheck::None),
            ("unstated", AddressCheck::Unstated),
        ];
        gateway.settings.address_check = word(&node, &at.field("addressCheck"), defects, &words)?;
    }
    if let Some(node) = fields.take("nat64Prefixes") {
        let at = at.field("nat64Prefixes");
        gateway.settings.nat64 = read_nat64(&node, &at, defects);
    }
    if let Some(node) = fields.take("refuseEch") {
        gateway.refuse_ech = boolean(&node, &at.field("refuseEch"), defects)?;
    }
    if let Some(node) = fields.take("ports") {
        gateway.routes = read_routes(&node, &at.field("ports"), defects);
    }
    if let Some(node) = fields.take("inspection") {
        gateway.inspection = read_inspection(&node, &at.field("inspection"), defects);
    }
    fields.finish(at, defects);
    Some(gateway)
}

fn read_case<N: Node>(
    node: &N,
    at: &At<'_>,
    defects: &mut Defects,
    names: &mut HashSet<String>,
) -> Option<Case> {
    let line = one_line(node);
    let mut fields = Fields::of(node, at, defects)?;
    let name = match (fields.has("name"), line) {
        // A line of text says itself what it is about.
        (false, Some(line)) => Some(line),
        _ => fields.required("name", at, defects, text),
    };
    if let Some(name) = &name
        && !names.insert(name.clone())
    {
        let message = format!("another case is named `{name}`");
        defects.add(DefectKind::DuplicateName, &at.field("name"), message, None);
    }
    let why = fields.optional("why", at, defects, text);
    let only = fields.take("only").and_then(|node| {
        let words = [("engine", Subject::Engine), ("live", Subject::Live)];
        word(&node, &at.field("only"), defects, &words)
    });
    if only.is_some() && why.is_none() {
        let hint = "say in `why` what keeps the other subjects from answering".to_owned();
        defects.add(DefectKind::MissingField, at, "`only` needs `why`", hint);
    }
    for field in ["from", "to"] {
        if !fields.has(field) {
            let message = format!("`{field}` is missing");
            defects.add(DefectKind::MissingField, at, message, None);
        }
    }
    let first = read_step(&mut fields, at, defects, &CaseInput::default());
    let is_read = first.is_some();
    let mut steps: Vec<Step> = first.into_iter().collect();
    if let Some(node) = fields.take("then") {
        each(&node, &at.field("then"), defects, |node, at, defects| {
            let Some(mut fields) = Fields::of(node, at, defects) else {
                return;
            };
            let base = steps.last().map(|step| step.input.clone());
            let step = read_step(&mut fields, at, defects, &base.unwrap_or_default());
            fields.finish(at, defects);
            steps.extend(step);
        });
    }
    fields.finish(at, defects);
    let name = name.filter(|_| is_read)?;
    Some(Case {
        name,
        only,
        why,
        steps,
    })
}

/// A question whose two sides are texts, in words.
fn one_line<N: Node>(node: &N) -> Option<String> {
    let Ok(Shape::Map(pairs)) = node.shape() else {
        return None;
    };
    let side = |name: &str| {
        let (_, node) = pairs.iter().find(|(key, _)| *key == name)?;
        match node.shape() {
            Ok(Shape::Text(text)) => Some(text.into_owned()),
            _ => None,
        }
    };
    Some(format!("{} to {}", side("from")?, side("to")?))
}

fn read_step<N: Node>(
    fields: &mut Fields<'_, N>,
    at: &At<'_>,
    defects: &mut Defects,
    base: &CaseInput,
) -> Option<Step> {
    let mut input = base.clone();
    if let Some(node) = fields.take("from") {
        read_from(&node, &at.field("from"), defects, &mut input.from);
    }
    if let Some(node) = fields.take("to") {
        read_to(&node, &at.field("to"), defects, &mut input.to);
    }
    if let Some(node) = fields.take("now") {
        let now = or_word(&node, &at.field("now"), defects, timestamp);
        input.now = now.unwrap_or(input.now);
    }
    if let Some(node) = fields.take("refused") {
        input.refused = read_reason(&node, &at.field("refused"), defects);
    }
    let limit = fields
        .optional("limit", at, defects, boolean)
        .unwrap_or(false);
    let expect = fields.required("expect", at, defects, read_expect);
    let (expect, connects) = expect?;
    check_connects(&input.to, &expect, connects.as_deref(), at, defects);
    Some(Step {
        input,
        limit,
        expect,
        connects,
    })
}

/// A value, or `pending` or `missing`.
fn or_word<N: Node, T>(
    node: &N,
    at: &At<'_>,
    defects: &mut Defects,
    decode: impl FnOnce(&N, &At<'_>, &mut Defects) -> Option<T>,
) -> Option<Fact<T>> {
    match shape(node, at, defects)? {
        Shape::Text(word) if word == "pending" => Some(Fact::Pending),
        Shape::Text(word) if word == "missing" => Some(Fact::Missing),
        _ => decode(node, at, defects).map(Fact::Known),
    }
}

/// Bytes: a text as it is, the empty one included, or `{hex: "ff fe"}`.
fn bytes<N: Node>(node: &N, at: &At<'_>, defects: &mut Defects) -> Option<Vec<u8>> {
    match shape(node, at, defects)? {
        Shape::Text(text) => Some(text.as_bytes().to_vec()),
        Shape::Map(_) => {
            let mut fields = Fields::of(node, at, defects)?;
            let hex = fields.require("hex", at, defects)?;
            let hex = text(&hex, &at.field("hex"), defects)?;
            fields.finish(at, defects);
            let decoded: Option<Vec<u8>> = hex
                .split_ascii_whitespace()
                .map(|pair| (pair.len() == 2).then(|| u8::from_str_radix(pair, 16).ok())?)
                .collect();
            if decoded.is_none() {
                let hint = "pairs of digits with spaces between them: \"ff fe\"".to_owned();
                defects.add(DefectKind::BadValue, at, "these are no bytes", hint);
            }
            decoded
        }
        other => {
            let message = format!("expected a text or bytes, found {}", other.describe());
            defects.add(DefectKind::WrongType, at, message, None);
            None
        }
    }
}

/// A side of a question that is one line of text, the default where that has a defect; `None` where it
/// is written in fields.
fn in_line<N: Node, T: Default>(
    node: &N,
    at: &At<'_>,
    defects: &mut Defects,
    parse: impl FnOnce(&str) -> Result<T, LineError>,
) -> Option<T> {
    let Ok(Shape::Text(text)) = node.shape() else {
        return None;
    };
    let read = parse(&text).map_err(|error| {
        defects.add(
            DefectKind::BadValue,
            at,
            error.to_string(),
            error.hint.to_owned(),
        );
    });
    Some(read.unwrap_or_default())
}

fn read_from<N: Node>(node: &N, at: &At<'_>, defects: &mut Defects, from: &mut Asker) {
    let parse = |text: &str| AskerLine::parse(text, DEFAULT_TRUST_DOMAIN).map(Asker::from);
    if let Some(read) = in_line(node, at, defects, parse) {
        *from = read;
        return;
    }
    let Some(mut fields) = Fields::of(node, at, defects) else {
        return;
    };
    let trust_domain = fields.optional("trustDomain", at, defects, text);
    let workload = fields.optional("workload", at, defects, |node, at, defects| {
        let domain = trust_domain.as_deref().unwrap_or(DEFAULT_TRUST_DOMAIN);
        read_workload(node, at, defects, domain)
    });
    let sans = fields.take("uriSans").map(|node| {
        let mut sans = Vec::new();
        // A certificate without any is a case too, so the list may be empty.
        if !matches!(shape(&node, at, defects), Some(Shape::List(items)) if items.is_empty()) {
            sans = list(&node, &at.field("uriSans"), defects, bytes);
        }
        Peer::UriSans(sans)
    });
    let caller = fields.optional("caller", at, defects, |node, at, defects| {
        let words = [
            ("plaintext", 0_u8),
            ("noCertificate", 1),
            ("pending", 2),
            ("missing", 3),
        ];
        Some(match word(node, at, defects, &words)? {
            0 => Peer::Plaintext,
            1 => Peer::NoCertificate,
            2 => Peer::Pending,
            _ => Peer::Missing,
        })
    });
    if let Some(node) = fields.take("labels") {
        let labels = or_word(&node, &at.field("labels"), defects, read_labels);
        from.labels = labels.unwrap_or(Fact::Missing);
    }
    let namespace = fields.optional("metadataNamespace", at, defects, text);
    let cluster = fields.optional("cluster", at, defects, text);
    fields.finish(at, defects);
    let mut peers = [workload, sans, caller].into_iter().flatten();
    if let Some(peer) = peers.next() {
        from.peer = peer;
    }
    if peers.next().is_some() {
        let message = "`workload`, `uriSans` and `caller` exclude each other";
        defects.add(DefectKind::Conflict, at, message, None);
    }
    from.metadata_namespace = namespace.or(from.metadata_namespace.take());
    from.cluster = cluster.or(from.cluster.take());
}

/// `NAMESPACE/SERVICE_ACCOUNT`, for the SPIFFE id that Istio gives it.
fn read_workload<N: Node>(
    node: &N,
    at: &At<'_>,
    defects: &mut Defects,
    trust_domain: &str,
) -> Option<Peer> {
    let workload = text(node, at, defects)?;
    let uri = workload
        .split_once('/')
        .map(|(namespace, account)| format!("spiffe://{trust_domain}/ns/{namespace}/sa/{account}"));
    let peer = uri
        .filter(|uri| SpiffeId::parse(uri.as_bytes()).is_ok())
        .map(|uri| Peer::UriSans(vec![uri.into_bytes()]));
    if peer.is_none() {
        let hint = "NAMESPACE/SERVICE_ACCOUNT; whatever is malformed goes into `uriSans`";
        let message = format!("`{workload}` is not a workload");
        defects.add(DefectKind::BadValue, at, message, hint.to_owned());
    }
    peer
}

/// Labels as they came: any text, also what Kubernetes would not take.
fn read_labels<N: Node>(
    node: &N,
    at: &At<'_>,
    defects: &mut Defects,
) -> Option<Vec<(String, String)>> {
    let Shape::Map(pairs) = shape(node, at, defects)? else {
        let message = "expected a mapping, `pending` or `missing`";
        defects.add(DefectKind::WrongType, at, message, None);
        return None;
    };
    pairs
        .iter()
        .map(|(key, node)| match shape(node, &at.field(key), defects)? {
            Shape::Text(value) => Some((key.to_string(), value.into_owned())),
            other => {
                let message = format!("expected a text, found {}", other.describe());
                defects.add(DefectKind::WrongType, &at.field(key), message, None);
                None
            }
        })
        .collect()
}

fn read_to<N: Node>(node: &N, at: &At<'_>, defects: &mut Defects, to: &mut Target) {
    let parse = |text: &str| {
        let target = TargetLine::parse(text)?.target()?;
        let url = Some(text.to_owned());
        Ok(Target { url, ..target })
    };
    if let Some(read) = in_line(node, at, defects, parse) {
        *to = read;
        return;
    }
    let Some(mut fields) = Fields::of(node, at, defects) else {
        return;
    };
    let protocols = [
        ("HTTP", Protocol::Http),
        ("TLS", Protocol::Tls),
        ("TCP", Protocol::Tcp),
    ];
    if let Some(node) = fields.take("protocol")
        && let Some(protocol) = word(&node, &at.field("protocol"), defects, &protocols)
    {
        to.protocol = protocol;
    }
    set(
        &mut to.authority,
        fields.optional("authority", at, defects, bytes),
    );
    set(
        &mut to.port,
        fields.optional("port", at, defects, read_port),
    );
    set(
        &mut to.cluster,
        fields.optional("cluster", at, defects, bytes),
    );
    set(
        &mut to.app_sni,
        fields.optional("appSni", at, defects, bytes),
    );
    set(
        &mut to.dialled,
        fields.optional("dialled", at, defects, bytes),
    );
    if let Some(hello) = take_hello(&mut fields, at, defects) {
        to.hello = hello;
    }
    let mut fact = |name| fields.take(name).map(|node| (node, at.field(name)));
    if let Some((node, at)) = fact("address")
        && let Some(address) = or_word(&node, &at, defects, read_address)
    {
        to.address = address;
        to.answers = Vec::new();
    }
    let answer =
        |node: &N, at: &At<'_>, defects: &mut Defects| Some(list(node, at, defects, read_exactly));
    let once = fact("addresses");
    let changes = fact("changes");
    if once.is_some() && changes.is_some() {
        let message = "`addresses` is one answer, `changes` are several";
        defects.add(DefectKind::Conflict, at, message, None);
    }
    if let Some((node, at)) = fact("chain") {
        to.chain = list(&node, &at, defects, text);
    }
    if let Some((node, at)) = once {
        to.answers = answer(&node, &at, defects).into_iter().collect();
        to.address = Fact::Pending;
    }
    if let Some((node, at)) = changes {
        to.answers = list(&node, &at, defects, answer);
        to.address = Fact::Pending;
    }
    let mut fact = |name| fields.take(name).map(|node| (node, at.field(name)));
    if let Some((node, at)) = fact("method")
        && let Some(method) = or_word(&node, &at, defects, text)
    {
        to.method = method;
    }
    if let Some((node, at)) = fact("path")
        && let Some(path) = or_word(&node, &at, defects, or_none(bytes))
    {
        to.path = path;
    }
    if let Some((node, at)) = fact("upgrade")
        && let Some(upgrade) = or_word(&node, &at, defects, or_none(text))
    {
        to.upgrade = upgrade;
    }
    fields.finish(at, defects);
    check_to(to, at, defects);
}

fn set<T>(field: &mut Option<T>, value: Option<T>) {
    if value.is_some() {
        *field = value;
    }
}

/// A value, or `none`.
fn or_none<N: Node, T>(
    decode: impl FnOnce(&N, &At<'_>, &mut Defects) -> Option<T>,
) -> impl FnOnce(&N, &At<'_>, &mut Defects) -> Option<Option<T>> {
    move |node, at, defects| match shape(node, at, defects)? {
        Shape::Text(word) if word == "none" => Some(None),
        _ => decode(node, at, defects).map(Some),
    }
}

/// `sni: NAME`, with `ech: true` beside it, or `hello` with a word for everything else.
fn take_hello<N: Node>(
    fields: &mut Fields<'_, N>,
    at: &At<'_>,
    defects: &mut Defects,
) -> Option<Fact<HelloSeen>> {
    let sni = fields.optional("sni", at, defects, bytes);
    let ech = fields.optional("ech", at, defects, boolean);
    let words = [
        ("pending", Fact::Pending),
        ("missing", Fact::Missing),
        ("noName", Fact::Known(0_u8)),
        ("malformed", Fact::Known(1)),
        ("tooLong", Fact::Known(2)),
    ];
    let hello = fields.optional("hello", at, defects, |node, at, defects| {
        word(node, at, defects, &words)
    });
    if (sni.is_some() && hello.is_some()) || (ech.is_some() && sni.is_none()) {
        let message = "`sni` and `hello` exclude each other, and `ech` goes with `sni`";
        defects.add(DefectKind::Conflict, at, message, None);
    }
    match (sni, hello) {
        (Some(sni), _) => Some(Fact::Known(HelloSeen::Name {
            sni,
            ech: ech.unwrap_or(false),
        })),
        (None, Some(hello)) => Some(hello.map(|word| match word {
            0 => HelloSeen::NoName,
            1 => HelloSeen::Malformed,
            _ => HelloSeen::TooLong,
        })),
        (None, None) => None,
    }
}

/// What belongs to one protocol is an error beside another.
fn check_to(to: &Target, at: &At<'_>, defects: &mut Defects) {
    let http = to.protocol == Protocol::Http;
    let defaults = Target::default();
    let request = to.authority.is_some()
        || to.port.is_some()
        || to.app_sni.is_some()
        || to.method != defaults.method
        || to.path != defaults.path
        || to.upgrade != defaults.upgrade;
    let stream = to.dialled.is_some() || to.hello != defaults.hello;
    let stray = if http { stream } else { request };
    if stray || (to.protocol != Protocol::Tls && to.hello != defaults.hello) {
        let hint = "HTTP has authority, port, appSni, method, path, upgrade; TLS and TCP have dialled; TLS has sni or hello";
        let message = format!("a field here does not belong to {}", to.protocol.as_str());
        defects.add(DefectKind::Conflict, at, message, hint.to_owned());
    }
    let placed = to.cluster.is_some() || (http && to.port.is_some());
    if http && (to.authority.is_none() || !placed) {
        let message = "HTTP needs `authority`, and `port` or `cluster`";
        defects.add(DefectKind::MissingField, at, message, None);
    }
}

fn read_port<N: Node>(node: &N, at: &At<'_>, defects: &mut Defects) -> Option<u16> {
    let port = match shape(node, at, defects)? {
        Shape::Number(text) => text.parse().ok().filter(|port| *port != 0),
        _ => None,
    };
    if port.is_none() {
        let message = "expected one port, 1 to 65535";
        defects.add(DefectKind::BadValue, at, message, None);
    }
    port
}

fn read_address<N: Node>(node: &N, at: &At<'_>, defects: &mut Defects) -> Option<IpAddr> {
    let value = text(node, at, defects)?;
    let address = value.parse().ok().map(canonical);
    if address.is_none() {
        let message = format!("`{value}` is not an address");
        defects.add(DefectKind::BadValue, at, message, None);
    }
    address
}

/// An address as it stands in an answer: a mapped form is not the IPv4 address.
fn read_exactly<N: Node>(node: &N, at: &At<'_>, defects: &mut Defects) -> Option<IpAddr> {
    let value = text(node, at, defects)?;
    let address = value.parse().ok();
    if address.is_none() {
        let message = format!("`{value}` is not an address");
        defects.add(DefectKind::BadValue, at, message, None);
    }
    address
}

fn read_reason<N: Node>(node: &N, at: &At<'_>, defects: &mut Defects) -> Option<ReasonCode> {
    let words = ReasonCode::ALL.map(|code| (code.as_str(), code));
    word(node, at, defects, &words)
}

/// Where something opens the case says which of the answers' addresses may be connected to, and
/// they are the answers'.
fn check_connects(
    to: &Target,
    expect: &ExpectedAnswer,
    connects: Option<&[IpAddr]>,
    at: &At<'_>,
    defects: &mut Defects,
) {
    let opens = expect.opens();
    let mut conflict = |message: &str| {
        defects.add(DefectKind::Conflict, at, message, None);
    };
    match connects {
        None if opens && !to.answers.is_empty() => {
            conflict("`connects` says which of the addresses may be connected to");
        }
        Some(_) if !opens || to.answers.is_empty() => {
            conflict("`connects` goes with `addresses` or `changes`, and with what opens");
        }
        Some(connects) => {
            let mut answers = to.answers.iter().flatten();
            if !connects
                .iter()
                .all(|one| answers.clone().any(|address| address == one))
            {
                conflict("`connects` has an address that no answer has");
            }
            if answers.next().is_none() {
                conflict("an answer without addresses is no address to connect to");
            }
        }
        None => {}
    }
}

const VERDICTS: [&str; 4] = ["Accept", "Deny", "Inspect", "Undecided"];

type Expectation = (ExpectedAnswer, Option<Vec<IpAddr>>);

fn read_expect<N: Node>(node: &N, at: &At<'_>, defects: &mut Defects) -> Option<Expectation> {
    if let Ok(Shape::Text(_)) = node.shape() {
        let verdict = word(node, at, defects, &VERDICTS.map(|word| (word, word)))?;
        let expected = match verdict {
            "Undecided" => ExpectedAnswer::Undecided,
            verdict => ExpectedAnswer::Verdict(verdict),
        };
        return Some((expected, None));
    }
    let mut fields = Fields::of(node, at, defects)?;
    let connects = fields.optional("connects", at, defects, |node, at, defects| {
        let mut connects = list(node, at, defects, read_exactly);
        connects.sort_unstable();
        Some(connects)
    });
    let expected = take_ruling(&mut fields, at, defects);
    let lifted = fields.optional("wouldBe", at, defects, |node, at, defects| {
        let mut fields = Fields::of(node, at, defects)?;
        let ruling = take_ruling(&mut fields, at, defects);
        fields.finish(at, defects);
        ruling
    });
    fields.finish(at, defects);
    match (expected?, lifted) {
        (expected, None) => Some((expected, connects)),
        (
            ExpectedAnswer::Final { enforced, .. },
            Some(ExpectedAnswer::Final {
                enforced: lifted, ..
            }),
        ) => {
            let would_be = Some(lifted);
            Some((ExpectedAnswer::Final { enforced, would_be }, connects))
        }
        (_, Some(_)) => {
            let message = "`wouldBe` is a final verdict beside a final verdict";
            defects.add(DefectKind::Conflict, at, message, None);
            None
        }
    }
}

/// The fields of one ruling, `wouldBe` aside.
fn take_ruling<N: Node>(
    fields: &mut Fields<'_, N>,
    at: &At<'_>,
    defects: &mut Defects,
) -> Option<ExpectedAnswer> {
    let words = VERDICTS.map(|word| (word, word));
    let verdict = fields.required("verdict", at, defects, |node, at, defects| {
        word(node, at, defects, &words)
    });
    let reason = fields.optional("reason", at, defects, read_reason);
    let [policy, tier, rule] =
        ["policy", "tier", "rule"].map(|field| fields.optional(field, at, defects, text));
    let inspection = fields.optional("inspection", at, defects, text);
    let verdict = verdict?;
    if (verdict == "Inspect") != inspection.is_some() {
        let message = "Inspect, and only Inspect, names its `inspection`";
        defects.add(DefectKind::Conflict, at, message, None);
    }
    if verdict == "Undecided" {
        if reason.is_some() || policy.is_some() || tier.is_some() || rule.is_some() {
            let message = "Undecided has no reason, and nothing decided";
            defects.add(DefectKind::Conflict, at, message, None);
        }
        return Some(ExpectedAnswer::Undecided);
    }
    if reason.is_none() {
        let message = "`reason` is missing";
        defects.add(DefectKind::MissingField, at, message, None);
    }
    if (rule.is_some() && tier.is_none()) || (tier.is_some() && policy.is_none()) {
        let message = "a `rule` is named with its `tier`, and a `tier` with its `policy`";
        let hint = "write `policy: seed, tier: apps, rule: app1-github` with your names";
        defects.add(DefectKind::Conflict, at, message, Some(hint.to_owned()));
    }
    let enforced = ExpectedDecision {
        verdict,
        inspection,
        decided_by: DecidedBy {
            policy,
            tier,
            rule,
            reason: reason?,
        },
    };
    Some(ExpectedAnswer::Final {
        enforced,
        would_be: None,
    })
}
