//! What people write who come from other tools, and what it is here.
//!
//! One table: the reader's hints are taken from it, and so is `docs/reference/coming-from.md`.

use egress_policy::defect::{Defect, DefectKind, Segment};

/// Where a row's word stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WordKind {
    /// The name of a field.
    Field,
    /// A value.
    Value,
    /// The meaning of a pattern, which no reader can notice.
    Meaning,
}

/// A row of [`ROWS`].
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The tools whose word it is.
    pub tools: &'static str,
    /// Where it stands.
    pub kind: WordKind,
    /// The words as they are written there.
    pub written: &'static [&'static str],
    /// What it is here: the hint, lower case, no full stop.
    pub here: &'static str,
}

const fn row(
    tools: &'static str,
    kind: WordKind,
    written: &'static [&'static str],
    here: &'static str,
) -> Row {
    Row {
        tools,
        kind,
        written,
        here,
    }
}

/// Every row.
pub const ROWS: &[Row] = &[
    row(
        "Istio",
        WordKind::Field,
        &["hosts", "host"],
        "names are `domainNames` here, addresses `networks`",
    ),
    row(
        "Calico, Squid",
        WordKind::Field,
        &["domains", "domain", "dstdomain", "domainName"],
        "names are `domainNames` here",
    ),
    row(
        "Cilium, GKE, AWS",
        WordKind::Field,
        &[
            "fqdns",
            "fqdn",
            "toFQDNs",
            "matchName",
            "matchPattern",
            "targets",
        ],
        "names are `domainNames` here; `*.example.com` is any depth below, `+.example.com` one label",
    ),
    row(
        "Kubernetes, Cilium",
        WordKind::Field,
        &[
            "cidr",
            "cidrs",
            "ipBlock",
            "ipBlocks",
            "toCIDR",
            "toCIDRSet",
            "nets",
            "addresses",
            "ips",
        ],
        "addresses are `networks: [203.0.113.0/24]` here, and `except` beside it takes some out",
    ),
    row(
        "Kubernetes, Cilium",
        WordKind::Field,
        &["egress", "toPorts", "toEndpoints"],
        "an opening is a rule here: `spec.tiers[].rules[]` with `from`, `to` and `action`",
    ),
    row(
        "Istio, Calico",
        WordKind::Field,
        &["rules"],
        "rules stand in a tier: `tiers: [{name: main, rules: [...]}]`",
    ),
    row(
        "Kubernetes, Istio, Cilium",
        WordKind::Field,
        &[
            "podSelector",
            "endpointSelector",
            "workloadSelector",
            "selector",
            "labels",
            "podLabels",
        ],
        "callers are `from` of a rule: `from: [{namespaces: [...], matchLabels: {...}}]`",
    ),
    row(
        "Kubernetes, Calico",
        WordKind::Field,
        &["namespaceSelector", "namespace"],
        "namespaces are listed by name: `namespaces: [shop]`",
    ),
    row(
        "Istio, Kubernetes",
        WordKind::Field,
        &[
            "serviceAccount",
            "principals",
            "principal",
            "spiffe",
            "serviceAccountSelector",
        ],
        "a caller's account is `serviceAccounts: [NAMESPACE/NAME]`",
    ),
    row(
        "Calico, Istio, AWS",
        WordKind::Field,
        &["source", "sources", "src"],
        "callers are `from`, a list",
    ),
    row(
        "Calico, Istio, AWS",
        WordKind::Field,
        &["destination", "dst", "dest"],
        "destinations are `to`, a list; a named one is `to: [{destination: NAME}]`",
    ),
    row(
        "Kubernetes, AWS",
        WordKind::Field,
        &[
            "port",
            "endPort",
            "toPort",
            "fromPort",
            "portRange",
            "destinationPorts",
        ],
        "ports are a list of numbers and ranges: `ports: [443, \"8000-8999\"]`",
    ),
    row(
        "Kubernetes, Istio",
        WordKind::Field,
        &["protocol"],
        "protocols are a list: `protocols: [TLS]`",
    ),
    row(
        "Istio",
        WordKind::Field,
        &["method", "path"],
        "methods and paths are lists: `methods: [GET]`, `paths: [/v1/**]`",
    ),
    row(
        "Kubernetes, Squid",
        WordKind::Field,
        &["schedule", "time", "activeTime"],
        "there are no hours of the day; an opening that ends has `expires`",
    ),
    row(
        "Istio",
        WordKind::Field,
        &["resolution", "location", "exportTo"],
        "how a name is resolved is not a policy's to say: leave it out",
    ),
    row(
        "Calico",
        WordKind::Field,
        &["order", "priority"],
        "rules and tiers hold in the order in which they stand",
    ),
    row(
        "Calico",
        WordKind::Field,
        &["types", "policyTypes", "ingress"],
        "a policy here is about egress alone: leave it out",
    ),
    row(
        "Istio",
        WordKind::Field,
        &["operation"],
        "its fields stand in the element itself: `to: [{domainNames: [...], ports: [443]}]`",
    ),
    row(
        "AWS, Calico",
        WordKind::Field,
        &["comment", "description", "annotations"],
        "`reason`, `owner` and `ticket` say why a rule is there",
    ),
    row(
        "AWS, Cilium",
        WordKind::Field,
        &["enabled", "disabled", "enableDefaultDeny"],
        "take the rule out, or have it only reported: `mode: Shadow`",
    ),
    row(
        "Calico, Squid",
        WordKind::Field,
        &["log", "logging", "access_log"],
        "every decision is in the gateway's log: leave it out",
    ),
    row(
        "Vault, AWS",
        WordKind::Field,
        &["ttl", "until", "expiry", "validUntil"],
        "an opening ends with `expires: \"2027-01-31T00:00:00Z\"`",
    ),
    row(
        "YAML 1.1",
        WordKind::Field,
        &["<<"],
        "merge keys are not in YAML 1.2: write the fields out, or use a named destination",
    ),
    row(
        "Calico, AWS, Squid, Istio",
        WordKind::Value,
        &["Allow", "allow", "ALLOW", "PASS", "permit", "Permit"],
        "the word is `Accept`",
    ),
    row(
        "AWS, Squid",
        WordKind::Value,
        &[
            "Block", "block", "DROP", "Drop", "drop", "Reject", "REJECT", "deny",
        ],
        "the word is `Deny`",
    ),
    row(
        "Istio, AWS",
        WordKind::Value,
        &["HTTPS", "https", "SSL"],
        "HTTPS is `TLS` here: the gateway sees the server name and not the request, unless it \
         originates TLS itself (`tls: {originate: true}` with `HTTP`)",
    ),
    row(
        "Istio",
        WordKind::Value,
        &["HTTP2", "GRPC", "GRPC-WEB", "http2", "grpc"],
        "in the clear it is `HTTP`, in TLS it is `TLS`",
    ),
    row(
        "Calico, Cilium, AWS",
        WordKind::Value,
        &["ICMP", "ICMPv6", "SCTP", "IP", "icmp"],
        "there are `HTTP`, `TLS`, `TCP` and `UDP`; nothing else leaves the mesh",
    ),
    row(
        "Istio",
        WordKind::Value,
        &["MONGO", "MYSQL", "REDIS", "POSTGRES"],
        "it is `TCP` here, with `networks`: opaque bytes show no name",
    ),
    row(
        "Istio, Cilium",
        WordKind::Value,
        &["Audit", "audit", "Log", "AUDIT", "DryRun", "Monitor"],
        "`mode: Shadow` evaluates a rule and only reports it",
    ),
    row(
        "Cilium, GKE",
        WordKind::Meaning,
        &["*.example.com"],
        "there it is one label; here it is any depth below, and `+.example.com` is one label",
    ),
    row(
        "AWS Network Firewall, Squid",
        WordKind::Meaning,
        &[".example.com"],
        "there it includes example.com itself; here write `example.com` and `*.example.com`",
    ),
];

/// What a defect's author needs, coming from elsewhere.
#[must_use]
pub fn hint(defect: &Defect, written: &str) -> Option<String> {
    let table = |kind, word: &str| {
        let fits = |row: &&Row| row.kind == kind && row.written.contains(&word);
        ROWS.iter().find(fits).map(|row| row.here.to_owned())
    };
    match defect.kind {
        DefectKind::UnknownField => match defect.path.segments() {
            // A policy's metadata are a name, whatever other tools put there.
            [Segment::Field(first), _, ..] if first == "metadata" => None,
            [_, Segment::Field(second), _, .., Segment::Field(name)]
                if second == "destinations" && name == "destination" =>
            {
                Some("a named destination refers to no other: write its elements out".to_owned())
            }
            [.., Segment::Field(name)] => table(WordKind::Field, name),
            _ => None,
        },
        DefectKind::BadValue => {
            let word = defect.message.strip_prefix("unknown value `");
            let word = word.and_then(|rest| rest.strip_suffix('`'));
            match word {
                // What a tier does by default is to go on, not to accept.
                Some(_) if is_default_of_tier(defect) => None,
                Some(word) => table(WordKind::Value, word),
                None => in_list(defect, written),
            }
        }
        _ => None,
    }
}

fn is_default_of_tier(defect: &Defect) -> bool {
    let field = |segment: Option<&Segment>, name: &str| matches!(segment, Some(Segment::Field(field)) if field == name);
    let segments = defect.path.segments();
    field(segments.get(1), "tiers") && field(segments.last(), "default")
}

/// Entries of lists that are spelt as elsewhere.
fn in_list(defect: &Defect, written: &str) -> Option<String> {
    let segments = defect.path.segments();
    let [.., Segment::Field(field), Segment::Index(_)] = segments else {
        return None;
    };
    let text = written.trim_matches(['"', '\'']);
    match field.as_str() {
        "domainNames" => of_name(text),
        "networks" | "except" => text
            .split_once('-')
            .filter(|(from, to)| {
                let address = |text: &str| text.parse::<std::net::IpAddr>().is_ok();
                address(from) && address(to)
            })
            .map(|_| {
                "write the networks that make up the range, such as 203.0.113.0/24".to_owned()
            }),
        "serviceAccounts" | "namespaces" => {
            let (_, path) = text.strip_prefix("spiffe://")?.split_once("/ns/")?;
            let (namespace, account) = path.split_once("/sa/")?;
            Some(format!(
                "write `serviceAccounts: [{namespace}/{account}]`; the trust domain is in `identity`"
            ))
        }
        _ => None,
    }
}

fn of_name(text: &str) -> Option<String> {
    if let Some(name) = text.strip_prefix('.') {
        return Some(format!(
            "write `{name}` for the name itself and `*.{name}` for what is below it"
        ));
    }
    let several: Vec<&str> = text
        .split([' ', ',', '\t'])
        .filter(|one| one.contains('.') && one.parse::<std::net::IpAddr>().is_err())
        .collect();
    if text.contains([' ', ',', '\t']) && !several.is_empty() {
        let several: Vec<String> = several.iter().map(|one| format!("`{one}`")).collect();
        return Some(format!(
            "one name an entry: write {}",
            several.join(" and ")
        ));
    }
    let (scheme, rest) = text.split_once("://")?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (host, port) = authority.split_once(':').unwrap_or((authority, ""));
    let port = match (port, scheme) {
        ("", "https") => "443",
        ("", "http") => "80",
        ("", _) => return None,
        (port, _) => port,
    };
    let path = if path.is_empty() || scheme != "http" {
        String::new()
    } else {
        format!(", paths: [/{path}]")
    };
    Some(format!(
        "write `{{domainNames: [{host}], ports: [{port}]{path}}}`"
    ))
}

/// What a missing field could be.
#[must_use]
pub fn missing(defect: &Defect) -> Option<String> {
    let name = defect
        .message
        .strip_prefix('`')?
        .strip_suffix("` is missing")?;
    let example = match name {
        "apiVersion" => "`apiVersion: egress-warden.io/v1alpha1`",
        "kind" => "`kind: ClusterEgressPolicy`, or `EgressPolicy` for a team's",
        "metadata" => "`metadata: {name: NAME}`",
        "spec" => "`spec:` with `identity` and `tiers`",
        "identity" => "`identity: {trustDomains: [cluster.local]}`, with the mesh's trust domain",
        "trustDomains" => "`trustDomains: [cluster.local]`, with the mesh's trust domain",
        "tiers" => "`tiers: [{name: main, rules: [...]}]`",
        "rules" => "`rules: [...]`, or `default: Deny` for a tier that ends the walk",
        "action" => "`action: Accept`, `Deny`, `Pass` or `Inspect`",
        "originate" => "`originate: true`: the gateway speaks TLS to the server",
        "name" => "`name: NAME`: lower-case letters, digits and `-`",
        "key" => "`key: LABEL`",
        "operator" => "`operator: In`, `NotIn`, `Exists` or `DoesNotExist`",
        "policies" => "`policies: [policy.yaml]`, from the file's folder on",
        "cases" => "`cases: [{name: ..., from: ..., to: ..., expect: ...}]`",
        "from" => "`from: {workload: NAMESPACE/SERVICE-ACCOUNT}`",
        "to" => "`to: {authority: HOST, port: 80}`",
        "expect" => "`expect: {verdict: Accept, policy: POLICY, tier: TIER, rule: RULE}`",
        "expires" => "`expires: \"2027-01-31T00:00:00Z\"`: a shadow ends",
        _ => return None,
    };
    Some(format!("add {example}"))
}

/// What stands alone where a list is wanted, as a list; a text for a destination, as a destination.
#[must_use]
pub fn as_list(defect: &Defect, written: &str) -> Option<String> {
    let segments = defect.path.segments();
    if segments.is_empty() && defect.message == "expected a mapping, found a text" {
        return Some("a policy begins with `apiVersion: egress-warden.io/v1alpha1`".to_owned());
    }
    if let Some(hint) = as_mapping(defect, written) {
        return Some(hint);
    }
    if defect.message == "expected a mapping, found a text" {
        let [.., Segment::Field(field), Segment::Index(_)] = segments else {
            return None;
        };
        return match field.as_str() {
            "to" => Some(format!(
                "write `{{domainNames: [{written}], ports: [443]}}`"
            )),
            "from" => Some(format!("write `{{namespaces: [{written}]}}`")),
            "rules" => {
                Some("a rule is a mapping: `{name: NAME, to: [...], action: Accept}`".to_owned())
            }
            "tiers" => Some("a tier is a mapping: `{name: NAME, rules: [...]}`".to_owned()),
            _ => None,
        };
    }
    let found = defect.message.strip_prefix("expected a list, found ")?;
    let Segment::Field(field) = segments.last()? else {
        return None;
    };
    if found == "nothing" {
        return Some(format!("fill `{field}` in, or leave it out"));
    }
    if found == "a mapping" {
        // Its elements are mappings, or there is nothing to make of it.
        let of_mappings = ["to", "from", "tiers", "rules", "shadowWorkloads"];
        if !of_mappings.contains(&field.as_str()) {
            return Some(values(written).map_or_else(
                || format!("each entry of `{field}` begins with `- `, without a name before it"),
                |values| format!("write `{field}: [{}]`", values.join(", ")),
            ));
        }
        return Some(match written.strip_prefix('{') {
            Some(inside)
                if inside
                    .split_once(':')
                    .is_some_and(|(_, value)| value.trim_start().starts_with('{')) =>
            {
                let name = inside.split_once(':').map_or("", |(name, _)| name.trim());
                format!("names stand inside the elements: `{field}: [{{name: {name}, ...}}]`")
            }
            Some(_) if written.ends_with('}') => format!("write `{field}: [{written}]`"),
            _ => format!("each element of `{field}` begins with `- `"),
        });
    }
    let text = written.trim_matches(['"', '\'']);
    // Where several stand in one text, each is an entry.
    let entries: Vec<&str> = text
        .split([',', ' '])
        .filter(|one| !one.is_empty())
        .collect();
    match entries.as_slice() {
        [] => None,
        [_] => Some(format!("write `{field}: [{written}]`")),
        several => Some(format!("write `{field}: [{}]`", several.join(", "))),
    }
}

/// The values of a mapping in one line that holds nothing but texts.
fn values(written: &str) -> Option<Vec<&str>> {
    let inside = written.strip_prefix('{')?.strip_suffix('}')?;
    if inside.contains(['{', '[', '"', '\'']) {
        return None;
    }
    let pairs = inside.split(',').map(|pair| pair.split_once(':'));
    let values = pairs.map(|pair| pair.map(|(_, value)| value.trim()));
    values
        .map(|value| value.filter(|value| !value.is_empty()))
        .collect()
}

/// What stands alone where a mapping is wanted, or in brackets where it stands alone.
fn as_mapping(defect: &Defect, written: &str) -> Option<String> {
    let Segment::Field(field) = defect.path.segments().last()? else {
        return None;
    };
    let text = written.trim_matches(['[', ']']);
    match (defect.message.as_str(), field.as_str()) {
        ("expected a text, found a list", field) if !text.contains([',', '[', '{']) => {
            Some(format!("write `{field}: {text}`"))
        }
        ("expected a mapping, found a boolean", "tls") => {
            Some("write `tls: {originate: true}`, or leave it out for TLS of the client".to_owned())
        }
        ("expected a mapping, found a text", "identity") => {
            Some(format!("write `identity: {{trustDomains: [{text}]}}`"))
        }
        ("expected a mapping, found a text", "selector") => {
            Some(format!("write labels: `selector: {{app: {text}}}`"))
        }
        ("expected a mapping, found a list", "workloads" | "appliesTo") => {
            Some(format!("write `{field}: {{namespaces: {written}}}`"))
        }
        _ => None,
    }
}
