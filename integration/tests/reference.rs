//! The tables of the reference pages are made from the types that they describe. This compares
//! them; `WARDEN_BLESS=1 cargo test -p integration --test reference` writes them anew.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use egress_cni::agent::flow::Flow;
use egress_cni::agent::metrics::{Metrics, PodName};
use egress_cni::config::NodeConfig;
use egress_cni::protocol::CniErrorCode;
use egress_filter::host::MetricKind;
use egress_filter::log_line::{LINES, LogLine};
use egress_filter::metric::MetricFamily;
use egress_policy::config::fields::{self, Object};
use egress_policy::contract;
use egress_policy::verdict::ReasonCode;
use egress_render::ACCESS_LOG_FIELDS;
use egress_render::adopt::CollisionCode;
use egress_render::doctor::cluster::ClusterFindingCode;
use integration::workspace::root;
use serde_json::Value;
use warden::coming_from::{ROWS, WordKind};
use warden::{CodeText, Exit, error_codes, lint_codes};

/// Compares a file with what it should be, or writes it.
fn compare(path: &Path, expected: &str) {
    if std::env::var_os("WARDEN_BLESS").is_some() {
        fs::write(path, expected).unwrap();
        return;
    }
    let found = fs::read_to_string(path).unwrap_or_default();
    let differs = found.lines().zip(expected.lines()).find(|(a, b)| a != b);
    assert!(
        found == expected,
        "{} is not what the types say; write it with: WARDEN_BLESS=1 cargo test -p integration \
         --test reference\n{differs:#?}",
        path.display()
    );
}

/// Compares the parts between `<!-- generated: NAME -->` and `<!-- end -->`. The page has no others.
fn page(name: &str, parts: &[(&str, String)]) {
    let path = root().join("docs/reference").join(name);
    let text = fs::read_to_string(&path).unwrap();
    let (mut expected, mut rest) = (String::new(), text.as_str());
    for (part, table) in parts {
        let begin = format!("<!-- generated: {part} -->\n");
        let (before, after) = rest.split_once(&begin).expect(part);
        assert!(!before.contains("<!-- generated"), "{name}: before {part}");
        let (_, after) = after.split_once("<!-- end -->").expect(part);
        write!(
            expected,
            "{before}{begin}\n{}\n\n<!-- end -->",
            table.trim()
        )
        .unwrap();
        rest = after;
    }
    assert!(!rest.contains("<!-- generated"), "{name}: {rest}");
    compare(&path, &(expected + rest));
}

/// Rows below a head, as a Markdown table.
fn table<const N: usize>(head: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut out = format!("| {} |\n|{}\n", head.join(" | "), "---|".repeat(N));
    for row in rows {
        let cells = row.map(|cell| cell.replace('|', "\\|").replace('\n', " "));
        writeln!(out, "| {} |", cells.join(" | ")).unwrap();
    }
    out
}

fn code(text: &str) -> String {
    format!("`{text}`")
}

/// A message of the command as a sentence.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().into_iter().flat_map(char::to_uppercase);
    let mut sentence: String = first.chain(letters).collect();
    if !sentence.ends_with(['.', '`']) || sentence.ends_with('`') {
        sentence.push('.');
    }
    sentence
}

#[test]
fn install_settings() {
    let schema = egress_render::Install::schema();
    let tables = schema_tables(&schema, "EgressGateway");
    page("install-settings.md", &[("settings", tables)]);
}

#[test]
fn node_configuration() {
    let tables = schema_tables(&NodeConfig::schema(), "The file");
    page("node-configuration.md", &[("node configuration", tables)]);
}

#[test]
fn plugin_configuration() {
    let judging = [
        fields::POLICIES,
        fields::CLASS,
        fields::PORT,
        fields::INSPECTION,
        fields::LIMITS,
        fields::EMBEDDED,
    ];
    let tables: Vec<_> = judging.iter().map(object_table).collect();
    page(
        "plugin-configuration.md",
        &[
            ("judging instances", tables.join("\n")),
            ("readiness probe", object_table(&fields::READINESS)),
        ],
    );
}

fn object_table(object: &Object) -> String {
    let rows = object.fields.iter().map(|field| {
        let default = field.default.unwrap_or("required").to_owned();
        let form = field.form.to_owned();
        [code(field.name), form, default, field.meaning.to_owned()]
    });
    let rows = table(["Field", "Type", "Default", "Meaning"], rows);
    match object.path {
        "" => format!("{}\n\n{rows}", object.about),
        path => format!("### `{path}`\n\n{}\n\n{rows}", object.about),
    }
}

#[test]
fn coming_from() {
    let rows = ROWS.iter().map(|row| {
        let written: Vec<String> = row.written.iter().copied().map(code).collect();
        let kind = match row.kind {
            WordKind::Field => "field",
            WordKind::Value => "value",
            WordKind::Meaning => "pattern",
        };
        let here = sentence(row.here);
        [
            written.join(", "),
            row.tools.to_owned(),
            kind.to_owned(),
            here,
        ]
    });
    let rows = table(["There", "Tool", "Where", "Here"], rows);
    page("coming-from.md", &[("words", rows)]);
}

#[test]
fn codes() {
    let head = ["Code", "Meaning", "What to do"];
    let reasons = ReasonCode::ALL.map(|reason| {
        let meaning = sentence(reason.explanation());
        [code(reason.as_str()), meaning, reason.remedy().to_owned()]
    });
    let texts = |codes: Vec<CodeText>| codes.into_iter();
    let errors = texts(error_codes()).map(|one| [code(one.code), one.explanation.to_owned()]);
    let lints = texts(lint_codes()).map(|one| {
        let hint = sentence(one.hint.unwrap_or_default());
        [code(one.code), one.explanation.to_owned(), hint]
    });
    let found = ClusterFindingCode::ALL.map(|one| {
        [
            code(one.word()),
            one.meaning().to_owned(),
            one.remedy().to_owned(),
        ]
    });
    let collisions = CollisionCode::ALL.map(|one| {
        [
            code(one.word()),
            one.meaning().to_owned(),
            one.remedy().to_owned(),
        ]
    });
    let exits = Exit::ALL.map(|exit| [code(&exit.code().to_string()), exit.meaning().to_owned()]);
    let plugin = CniErrorCode::ALL.map(|one| {
        let number = code(&one.number().to_string());
        [number, one.meaning().to_owned(), one.remedy().to_owned()]
    });
    page(
        "codes.md",
        &[
            ("reasons", table(head, reasons)),
            ("errors", table(["Code", "Meaning"], errors)),
            ("lints", table(head, lints)),
            ("doctor", table(head, found)),
            ("adopt", table(head, collisions)),
            ("exit codes", table(["Code", "Meaning"], exits)),
            ("plugin errors", table(head, plugin)),
        ],
    );
}

#[test]
fn metrics() {
    let module = MetricFamily::ALL.map(|family| {
        let kind = match family.kind() {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
        };
        let name = format!("wasmcustom.{}{}", family.name(), family.suffix());
        [code(&name), kind.to_owned(), family.meaning().to_owned()]
    });
    let head = ["Metric", "Kind", "Meaning"];
    page(
        "metrics.md",
        &[
            ("module", table(head, module)),
            ("node agent", table(head, agent_metrics())),
        ],
    );
}

/// The node agent's metrics, out of what it exposes.
fn agent_metrics() -> Vec<[String; 3]> {
    let (metrics, pod) = (
        Metrics::default(),
        PodName {
            namespace: "n".to_owned(),
            pod: "p".to_owned(),
        },
    );
    let address = "203.0.113.1".parse().unwrap();
    metrics.attempt(
        &pod,
        &Flow {
            source: address,
            destination: address,
            protocol: 6,
            port: Some(443),
        },
    );
    let counts = || BTreeMap::from([(pod.clone(), 1)]);
    metrics.set_dropped(counts(), counts());
    let text = metrics.render();
    let mut rows = Vec::new();
    let mut meanings = BTreeMap::new();
    for line in text.lines() {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words.as_slice() {
            ["#", "HELP", name, help] => {
                meanings.insert(*name, sentence(help.trim_end_matches('.')));
            }
            ["#", "TYPE", name, kind] => {
                let sample = text.lines().find(|line| line.starts_with(name)).unwrap();
                let (sample, _) = sample.rsplit_once(' ').unwrap();
                let (name_of_sample, labels) = sample.split_once('{').unwrap_or((sample, ""));
                let labels = labels.split(',').filter_map(|label| label.split_once('='));
                let labels: Vec<_> = labels.map(|(label, _)| label).collect();
                let labels = match labels.join(",") {
                    none if none.is_empty() => none,
                    labels => format!("{{{labels}}}"),
                };
                let name_and_labels = code(&format!("{name_of_sample}{labels}"));
                let meaning = meanings.get(name).expect("HELP comes first").clone();
                rows.push([name_and_labels, (*kind).to_owned(), meaning]);
            }
            _ => {}
        }
    }
    rows.sort();
    rows
}

#[test]
fn log() {
    let lines: Vec<_> = LINES.iter().map(log_table).collect();
    let access = ACCESS_LOG_FIELDS.map(|(name, meaning)| [code(name), meaning.to_owned()]);
    page(
        "log.md",
        &[
            ("module", lines.join("\n")),
            ("access log", table(["Field", "Meaning"], access)),
        ],
    );
}

fn log_table(line: &LogLine) -> String {
    let rows = line.fields.iter().map(|field| {
        let presence = if field.always { "always" } else { "if known" };
        [
            code(field.name),
            presence.to_owned(),
            field.meaning.to_owned(),
        ]
    });
    let rows = table(["Field", "Present", "Meaning"], rows);
    let LogLine {
        event, when, level, ..
    } = line;
    format!("### `{event}`\n\n{when} Level: {level}.\n\n{rows}")
}

/// Metrics are named in one file of the module.
#[test]
fn no_metric_is_named_elsewhere() {
    let sources = root().join("filter/src");
    let tests = ["tests.rs", "contexts.rs", "fake.rs"];
    let mut pending = vec![sources.clone()];
    let mut files: Vec<PathBuf> = Vec::new();
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else if !tests.iter().any(|name| path.ends_with(name)) {
                files.push(path);
            }
        }
    }
    assert!(files.len() > 20);
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        // The module's export, and what begins a denial's response code details.
        let text = text.replace("\"warden_embedded_policies\"", "");
        let text = text.replace("\"warden_{}\"", "");
        let named = text.contains("\"warden_") && !path.ends_with("metric.rs");
        assert!(!named, "{} names a metric", path.display());
    }
}

/// A table for each mapping of a JSON Schema, the outermost first.
fn schema_tables(schema: &Value, title: &str) -> String {
    let mut tables = Tables {
        schema,
        sections: BTreeMap::new(),
        out: String::new(),
    };
    tables.section(schema, "", title);
    tables.out
}

struct Tables<'s> {
    schema: &'s Value,
    /// The section of each definition.
    sections: BTreeMap<&'s str, String>,
    out: String,
}

impl<'s> Tables<'s> {
    /// Follows a reference, and leaves `null` out.
    fn resolve(&self, schema: &'s Value) -> (&'s Value, Option<&'s str>) {
        if let Some(name) = schema["$ref"].as_str() {
            let name = name.strip_prefix("#/$defs/").unwrap();
            return (&self.schema["$defs"][name], Some(name));
        }
        let choices = schema["anyOf"].as_array().into_iter().flatten();
        let null = Value::from("null");
        let choices: Vec<_> = choices.filter(|one| one["type"] != null).collect();
        match choices.as_slice() {
            [only] => self.resolve(only),
            _ => (schema, None),
        }
    }

    fn section(&mut self, object: &'s Value, path: &str, title: &str) {
        let required = object["required"].as_array().into_iter().flatten();
        let required: Vec<_> = required.filter_map(Value::as_str).collect();
        let mut below = Vec::new();
        let mut rows = Vec::new();
        for (name, field) in object["properties"].as_object().unwrap() {
            let path = match path {
                "" => name.clone(),
                path => format!("{path}.{name}"),
            };
            let default = match &field["default"] {
                _ if required.contains(&name.as_str()) => "required".to_owned(),
                Value::Null | Value::Object(_) => "–".to_owned(),
                value => code(&value.to_string().replace('"', "").replace(',', ", ")),
            };
            let form = self.form(field, &path, &mut below);
            let meaning = words(&field["description"]) + &self.choices(field);
            rows.push([code(name), form, default, meaning]);
        }
        let about = match words(&object["description"]) {
            none if none.is_empty() => none,
            about => about + "\n\n",
        };
        let rows = table(["Field", "Type", "Default", "Meaning"], rows);
        write!(self.out, "### {title}\n\n{about}{rows}\n").unwrap();
        for (object, path) in below {
            self.section(object, &path, &code(&path));
        }
    }

    /// A type in words; mappings get a section.
    fn form(
        &mut self,
        schema: &'s Value,
        path: &str,
        below: &mut Vec<(&'s Value, String)>,
    ) -> String {
        let (schema, name) = self.resolve(schema);
        if schema["properties"].is_object() {
            let name = name.expect("mappings are definitions");
            let section = self.sections.entry(name).or_insert_with(|| {
                below.push((schema, path.to_owned()));
                path.to_owned()
            });
            let plain = |c: &char| c.is_ascii_alphanumeric() || *c == '-';
            let anchor: String = section.chars().filter(plain).collect();
            return format!("[object](#{})", anchor.to_ascii_lowercase());
        }
        if let Some(words) = constants(schema) {
            let words: Vec<_> = words.into_iter().map(code).collect();
            return words.join(", ");
        }
        if let Some(choices) = schema["anyOf"].as_array() {
            let forms: Vec<_> = choices
                .iter()
                .map(|one| self.form(one, path, below))
                .collect();
            return forms.join(" or ");
        }
        let kinds = match &schema["type"] {
            Value::Array(kinds) => kinds.clone(),
            kind => vec![kind.clone()],
        };
        let kind = kinds
            .iter()
            .filter_map(Value::as_str)
            .find(|kind| *kind != "null");
        match kind {
            Some("array") => {
                let item = self.form(&schema["items"], &format!("{path}[]"), below);
                match item.strip_prefix("[object]") {
                    Some(link) => format!("list of [objects]{link}"),
                    None => format!("list of {}", plural(&item)),
                }
            }
            Some("object") => match &schema["additionalProperties"] {
                values @ Value::Object(_) => {
                    let value = self.form(values, path, below);
                    format!("map of {}", plural(&value))
                }
                _ => "object".to_owned(),
            },
            Some("integer") => "number".to_owned(),
            Some(kind) => kind.to_owned(),
            None => panic!("{path}: {schema}"),
        }
    }

    /// What each word of an enumeration means.
    fn choices(&self, schema: &'s Value) -> String {
        let (schema, _) = self.resolve(schema);
        let choices = schema["oneOf"].as_array().into_iter().flatten();
        let mut out = String::new();
        for choice in choices {
            let word = choice["const"].as_str().unwrap_or_default();
            let meaning = words(&choice["description"]);
            if !meaning.is_empty() && meaning != format!("{word}.") {
                write!(out, " `{word}`: {meaning}").unwrap();
            }
        }
        out
    }
}

/// The words of an enumeration.
fn constants(schema: &Value) -> Option<Vec<&str>> {
    if let Some(words) = schema["enum"].as_array() {
        return words.iter().map(Value::as_str).collect();
    }
    if let Some(word) = schema["const"].as_str() {
        return Some(vec![word]);
    }
    let choices = schema["oneOf"].as_array()?;
    let words = choices.iter().map(constants).collect::<Option<Vec<_>>>()?;
    Some(words.concat())
}

fn plural(form: &str) -> String {
    match form {
        "string" | "number" | "boolean" | "object" => format!("{form}s"),
        other if other.starts_with("list of") => other.replacen("list", "lists", 1),
        "number or string" => "numbers or strings".to_owned(),
        other => other.to_owned(),
    }
}

/// A description on one line.
fn words(text: &Value) -> String {
    let text = text.as_str().unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What `kubectl apply -k cni/deploy` installs is for the settings of the installation page.
#[test]
fn the_node_guard_is_deployed_for_the_gateway_of_the_installation_page() {
    let read = |path: &str| fs::read_to_string(root().join(path)).unwrap();
    let page = read("docs/how-to/install.md");
    let settings = page
        .split("```yaml\n")
        .filter_map(|block| block.split("```").next())
        .find(|block| block.contains("kind: EgressGateway"))
        .unwrap();
    let settings = settings.replace("DIGEST", &"0".repeat(64));
    let install = egress_render::Install::read(&settings).unwrap();
    let object: Value = serde_saphyr::from_str(&read("cni/deploy/config.yaml")).unwrap();
    let text = object["data"]["config.json"].as_str().unwrap();
    NodeConfig::parse("config.yaml", text).unwrap();
    let config: Value = serde_json::from_str(text).unwrap();

    let networks = egress_render::node_networks(&install).unwrap();
    for (field, wanted) in networks.as_object().unwrap() {
        assert_eq!(&config[field], wanted, "{field}");
    }
    let gateway = &install.spec.gateway;
    let service = format!("{}/{}", gateway.namespace, gateway.service);
    let wanted = serde_json::json!({
        "namespace": gateway.namespace,
        "serviceAccount": gateway.service_account,
        "services": [service],
        "ports": [gateway.ports.http, gateway.ports.tunnel],
    });
    for (field, wanted) in wanted.as_object().unwrap() {
        assert_eq!(&config["gateway"][field], wanted, "{field}");
    }
    let exempt = config["exemptNamespaces"].as_array().unwrap();
    let admission = read("cni/deploy/admission.yaml");
    let listed = format!(
        "operator: NotIn, values: [{}]",
        exempt
            .iter()
            .filter_map(Value::as_str)
            .collect::<Vec<_>>()
            .join(", ")
    );
    assert_eq!(admission.matches("operator: NotIn").count(), 2);
    assert_eq!(admission.matches(&listed).count(), 2, "{listed}");
}

#[test]
fn every_object_of_the_node_guard_is_marked_as_the_products() {
    let folder = root().join("cni/deploy");
    let mut marked = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        // Kustomize's own file is no object of a cluster.
        if path.extension().is_none_or(|kind| kind != "yaml")
            || path.ends_with("kustomization.yaml")
        {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        for object in serde_saphyr::from_multiple::<Value>(&text).unwrap() {
            let name = &object["metadata"]["name"];
            let metadata = [
                Some(&object["metadata"]),
                object.pointer("/spec/template/metadata"),
            ];
            for metadata in metadata.into_iter().flatten() {
                let value = &metadata["labels"][contract::PART_OF];
                assert_eq!(value, "egress-warden", "{}: {name}", path.display());
            }
            // Else `warden render --prune-list` would take the guard away.
            let manager = &object["metadata"]["labels"][contract::MANAGED_BY];
            assert!(manager.is_null(), "{}: {name}", path.display());
            marked += 1;
        }
    }
    assert!(marked > 10, "{marked}");
}
