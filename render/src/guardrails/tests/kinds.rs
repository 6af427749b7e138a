//! Whether `kinds.yaml` has a verdict for every kind and field of the pinned Istio, Gateway API and
//! Kubernetes, and a case that is refused for each that is judged.

#![expect(
    clippy::string_slice,
    clippy::struct_field_names,
    reason = "the project's own ASCII data, in its own words"
)]

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::rows;

const VERDICTS: &str = include_str!("../kinds.yaml");
const ISTIO: &str = include_str!("../kinds/istio.txt");
const GATEWAY_API: &str = include_str!("../kinds/gateway-api.txt");
const KUBERNETES: &str = include_str!("../kinds/kubernetes.txt");
/// What the project's own control plane is built with.
const PINNED: &str = include_str!("../../../../integration/istiod/go.mod");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Verdicts {
    everywhere: Vec<Harmless>,
    kinds: Vec<Kind>,
    parts: Vec<Part>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Harmless {
    why: String,
    fields: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Kind {
    kind: String,
    /// Why nothing of it matters.
    whole: Option<String>,
    /// Why no tenant writes it: the kind is of the whole cluster.
    cluster: Option<String>,
    by: Option<String>,
    #[serde(default)]
    judged: BTreeMap<String, String>,
    #[serde(default)]
    harmless: Vec<Harmless>,
}

/// A definition that kinds of Kubernetes are made of.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    part: String,
    by: Option<String>,
    #[serde(default)]
    judged: BTreeMap<String, String>,
    #[serde(default)]
    harmless: Vec<Harmless>,
}

/// What is pinned: kinds with their scope, and the fields or the definition of each.
struct Pinned {
    fields: BTreeMap<String, (String, BTreeSet<String>)>,
    definitions: BTreeMap<String, (String, String)>,
    /// The texts of a definition, and the definitions that it has further.
    parts: BTreeMap<String, (BTreeSet<String>, Vec<String>)>,
}

impl Pinned {
    fn read(resources: &[&str], kubernetes: &str) -> Self {
        let mut pinned = Self {
            fields: BTreeMap::new(),
            definitions: BTreeMap::new(),
            parts: BTreeMap::new(),
        };
        let mut kind = String::new();
        for line in resources.iter().flat_map(|text| text.lines()) {
            if line.starts_with('#') {
                continue;
            }
            if let Some(field) = line.strip_prefix("  ") {
                let (_, fields) = pinned.fields.get_mut(&kind).unwrap();
                fields.insert(field.to_owned());
            } else {
                let (name, scope) = line.split_once(' ').unwrap();
                name.clone_into(&mut kind);
                let entry = (scope.to_owned(), BTreeSet::new());
                pinned.fields.insert(name.to_owned(), entry);
            }
        }
        for line in kubernetes.lines().filter(|line| !line.starts_with('#')) {
            let words: Vec<_> = line.split(' ').collect();
            let short = |name: &str| name.trim_start_matches("api.").to_owned();
            if words[0].contains('/') {
                let definition = short(words.get(2).copied().unwrap_or_default());
                let entry = (words[1].to_owned(), definition);
                pinned.definitions.insert(words[0].to_owned(), entry);
            } else {
                let texts = words[1..].iter().filter(|word| !word.contains('>'));
                let texts = texts.map(|&word| word.to_owned()).collect();
                let further = words[1..].iter().filter_map(|word| word.split_once('>'));
                let further = further.map(|(_, name)| short(name)).collect();
                pinned.parts.insert(short(words[0]), (texts, further));
            }
        }
        pinned
    }

    fn real() -> Self {
        Self::read(&[ISTIO, GATEWAY_API], KUBERNETES)
    }

    fn scopes(&self) -> BTreeMap<&String, &String> {
        let fields = self.fields.iter().map(|(kind, (scope, _))| (kind, scope));
        let definitions = self.definitions.iter();
        fields
            .chain(definitions.map(|(kind, (scope, _))| (kind, scope)))
            .collect()
    }
}

/// `a{b,c}d` is `abd` and `acd`; `{}` stands for itself.
fn expand(pattern: &str) -> Vec<String> {
    let bytes = pattern.as_bytes();
    let open = (0..bytes.len()).find(|&i| bytes[i] == b'{' && bytes.get(i + 1) != Some(&b'}'));
    let Some(open) = open else {
        return vec![pattern.to_owned()];
    };
    let (mut depth, mut start, mut parts) = (0, open + 1, Vec::new());
    for i in open..bytes.len() {
        match bytes[i] {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            b',' if depth == 1 => {
                parts.push(&pattern[start..i]);
                start = i + 1;
            }
            _ => {}
        }
        if depth == 0 {
            parts.push(&pattern[start..i]);
            let (before, behind) = (&pattern[..open], &pattern[i + 1..]);
            let each = parts.iter();
            return each
                .flat_map(|part| expand(&format!("{before}{part}{behind}")))
                .collect();
        }
    }
    panic!("{pattern}: a brace is open");
}

/// Whether a kind is meant: `*` is any version.
fn is_meant(pattern: &str, kind: &str) -> bool {
    match pattern.split_once('*') {
        Some((before, behind)) => {
            let version = kind
                .strip_prefix(before)
                .and_then(|rest| rest.strip_suffix(behind));
            version.is_some_and(|version| !version.contains('/'))
        }
        None => pattern == kind,
    }
}

/// The cases of a policy's tables that are refused.
fn refused(policy: &str) -> BTreeSet<String> {
    let rows = rows(&format!("egress-warden-{policy}.istio-egress")).into_iter();
    let refused = rows.filter(|row| !row.refused.is_empty());
    refused.map(|row| row.case).collect()
}

/// The fields with a verdict; what is wrong with the verdicts themselves is noted.
fn judged(
    name: &str,
    by: Option<&String>,
    judged: &BTreeMap<String, String>,
    harmless: &[Harmless],
    wrong: &mut Vec<String>,
) -> BTreeSet<String> {
    let mut fields = BTreeSet::new();
    let mut take = |pattern: &str, wrong: &mut Vec<String>| {
        for field in expand(pattern) {
            if !fields.insert(field.clone()) {
                wrong.push(format!("{name}: two verdicts for {field}"));
            }
        }
    };
    if !judged.is_empty() {
        let refused = refused(by.map_or("", String::as_str));
        for (pattern, case) in judged {
            take(pattern, wrong);
            if !refused.contains(case) {
                wrong.push(format!("{name}: no case `{case}` is refused"));
            }
        }
    }
    for one in harmless {
        if one.why.is_empty() {
            wrong.push(format!("{name}: harmless, and not why"));
        }
        for pattern in &one.fields {
            take(pattern, wrong);
        }
    }
    fields
}

/// Everything that is wrong between verdicts and lists.
fn compare(verdicts: &Verdicts, pinned: &Pinned) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    let mut wanted = BTreeSet::new();
    let none = BTreeMap::new();
    let everywhere = judged("everywhere", None, &none, &verdicts.everywhere, &mut wrong);
    let mut used = BTreeSet::new();
    for verdict in &verdicts.kinds {
        let name = &verdict.kind;
        let scopes = pinned.scopes();
        let meant: Vec<_> = scopes
            .iter()
            .filter(|(kind, _)| is_meant(name, kind))
            .collect();
        if meant.is_empty() {
            wrong.push(format!("{name}: there is no such kind"));
        }
        for (kind, scope) in meant {
            if !seen.insert((*kind).clone()) {
                wrong.push(format!("{kind}: two verdicts"));
            }
            if verdict.cluster.is_some() != (*scope == "cluster") {
                wrong.push(format!("{kind}: it is {scope}"));
            }
            if verdict.whole.is_some() || verdict.cluster.is_some() {
                continue;
            }
            if let Some((_, definition)) = pinned.definitions.get(*kind) {
                wanted.insert(definition.clone());
                continue;
            }
            let by = verdict.by.as_ref();
            let own = judged(kind, by, &verdict.judged, &verdict.harmless, &mut wrong);
            let (_, fields) = &pinned.fields[*kind];
            used.extend(everywhere.intersection(fields).cloned());
            let all: BTreeSet<_> = own.union(&everywhere).cloned().collect();
            wrong.extend(
                fields
                    .difference(&all)
                    .map(|field| format!("{kind}: no verdict for {field}")),
            );
            wrong.extend(
                own.difference(fields)
                    .map(|field| format!("{kind}: there is no {field}")),
            );
        }
    }
    wrong.extend(
        everywhere
            .difference(&used)
            .map(|field| format!("nothing has {field}")),
    );
    let all = pinned.scopes();
    let unseen = all.keys().filter(|kind| !seen.contains(**kind));
    wrong.extend(unseen.map(|kind| format!("{kind}: no verdict")));
    parts(verdicts, pinned, wanted, &mut wrong);
    wrong
}

fn parts(
    verdicts: &Verdicts,
    pinned: &Pinned,
    mut wanted: BTreeSet<String>,
    wrong: &mut Vec<String>,
) {
    let mut own = BTreeMap::new();
    for part in &verdicts.parts {
        let by = part.by.as_ref();
        let fields = judged(&part.part, by, &part.judged, &part.harmless, wrong);
        if own.insert(part.part.clone(), fields).is_some() {
            wrong.push(format!("{}: two verdicts", part.part));
        }
    }
    let mut seen = BTreeSet::new();
    while let Some(name) = wanted.pop_first() {
        let (texts, further) = &pinned.parts[&name];
        let verdict = own.remove(&name).unwrap_or_default();
        wrong.extend(
            texts
                .difference(&verdict)
                .map(|field| format!("{name}: no verdict for {field}")),
        );
        wrong.extend(
            verdict
                .difference(texts)
                .map(|field| format!("{name}: there is no {field}")),
        );
        seen.insert(name);
        wanted.extend(further.iter().filter(|name| !seen.contains(*name)).cloned());
    }
    wrong.extend(
        own.keys()
            .map(|name| format!("{name}: no kind that is judged has it")),
    );
}

fn verdicts() -> Verdicts {
    serde_saphyr::from_str(VERDICTS).unwrap()
}

#[test]
fn every_kind_and_field_has_a_verdict_and_a_case() {
    let wrong = compare(&verdicts(), &Pinned::real());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What an update of Istio or Kubernetes may bring, and what a table may lose, is found.
#[test]
fn what_has_no_verdict_is_found() {
    let with = |istio: &str, kubernetes: &str| {
        let istio = format!("{ISTIO}{istio}");
        Pinned::read(&[&istio, GATEWAY_API], &format!("{KUBERNETES}{kubernetes}"))
    };
    let entry = "networking.istio.io/ServiceEntry namespaced\n";
    let host = "core.v1.TCPSocketAction";
    for (pinned, wrong) in [
        (
            with("networking.istio.io/Detour namespaced\n  spec.to\n", ""),
            "networking.istio.io/Detour: no verdict",
        ),
        (
            with("networking.istio.io/Detour cluster\n", ""),
            "networking.istio.io/Detour: no verdict",
        ),
        (
            with(&format!("{entry}  spec.by\n"), ""),
            "networking.istio.io/ServiceEntry: no verdict for spec.by",
        ),
        (
            with("", "core/v1/Detour namespaced core.v1.Detour\n"),
            "core/v1/Detour: no verdict",
        ),
        (
            with("", &format!("api.{host} host port proxy\n")),
            "core.v1.TCPSocketAction: no verdict for proxy",
        ),
        (
            with(
                "",
                &format!("api.{host} host port by>api.core.v1.Detour\napi.core.v1.Detour to\n"),
            ),
            "core.v1.Detour: no verdict for to",
        ),
        (
            with(
                "",
                "storage.k8s.io/v1/StorageClass namespaced storage.v1.StorageClass\n",
            ),
            "storage.k8s.io/v1/StorageClass: it is namespaced",
        ),
    ] {
        let found = compare(&verdicts(), &pinned);
        assert!(found.iter().any(|one| one == wrong), "{wrong}: {found:#?}");
    }
    let mut table = verdicts();
    let entry = table
        .kinds
        .iter_mut()
        .find(|kind| kind.kind.ends_with("/ServiceEntry"));
    let hosts = entry.unwrap().judged.get_mut("spec.hosts[]");
    *hosts.unwrap() = "a service".to_owned();
    let found = compare(&table, &Pinned::real());
    let wrong = "networking.istio.io/ServiceEntry: no case `a service` is refused";
    assert_eq!(found, [wrong]);
}

/// The lists are of the versions that the tests' control plane is built with.
#[test]
fn the_lists_are_of_what_is_pinned() {
    for (module, list) in [
        ("istio.io/istio", ISTIO),
        ("sigs.k8s.io/gateway-api", GATEWAY_API),
        ("k8s.io/api", KUBERNETES),
    ] {
        let line = PINNED
            .lines()
            .map(str::trim)
            .find(|line| line.starts_with(&format!("{module} ")));
        let version = line.unwrap().split(' ').nth(1).unwrap();
        let head = list.lines().next().unwrap();
        let wanted = match module {
            "k8s.io/api" => format!("k8s.io/kubernetes {}", version.replacen("v0.", "v1.", 1)),
            module => format!("{module} {version}"),
        };
        assert!(
            head.contains(&format!("{wanted}:")),
            "{head}: `cargo xtask kinds` for {wanted}"
        );
    }
}
