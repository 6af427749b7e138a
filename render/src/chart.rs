//! A Helm chart around a rendering, for platforms that install by Helm.
//!
//! Its values say how the gateway runs: how many pods, on which nodes, with what memory. What it
//! lets through is in the rendered files, which no value changes. With the default values it
//! installs exactly what is rendered.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::deployment::{Load, bootstrap, memory, proxy_config};
use crate::embedded::EmbeddedPolicies;
use crate::error::RenderError;
use crate::install::{Deployment, Install};
use crate::object::{Object, canonical};
use crate::{NAME, render};

/// A file of the chart: its path in it, and its text.
pub type File = (String, String);

/// Where in the gateway's objects a value goes: kind, field, and what Helm makes of it.
const HOLES: [(&str, &str, &str); 7] = [
    (
        "HorizontalPodAutoscaler",
        "/spec/minReplicas",
        "{{ toJson .Values.gateway.minReplicas }}",
    ),
    (
        "HorizontalPodAutoscaler",
        "/spec/maxReplicas",
        "{{ toJson .Values.gateway.maxReplicas }}",
    ),
    (
        "HorizontalPodAutoscaler",
        "/spec/metrics/0/resource/target/averageUtilization",
        "{{ toJson .Values.gateway.cpuPercent }}",
    ),
    (
        "Deployment",
        "/spec/template/spec/terminationGracePeriodSeconds",
        // Longer than the drain, which it would otherwise cut.
        "{{ add .Values.gateway.drainSeconds 30 }}",
    ),
    (
        "Deployment",
        "/spec/template/spec/containers/0/resources",
        "{{ toJson .Values.gateway.resources }}",
    ),
    (
        "Deployment",
        "/spec/template/spec/nodeSelector",
        "{{ toJson .Values.gateway.nodeSelector }}",
    ),
    (
        "Deployment",
        "/spec/template/spec/tolerations",
        "{{ toJson .Values.gateway.tolerations }}",
    ),
];

/// All of them: two are texts in which values stand.
fn holes(
    install: &Install,
    settings: &Deployment,
) -> impl Iterator<Item = (&'static str, &'static str, String)> {
    let config = proxy_config(
        settings.workers,
        "{{ toJson .Values.gateway.drainSeconds }}",
        install.spec.limits.connections,
    );
    let whole = HOLES.into_iter();
    let whole = whole.map(|(kind, pointer, template)| (kind, pointer, template.to_owned()));
    whole.chain([
        (
            "Deployment",
            "/spec/template/metadata/annotations/proxy.istio.io~1config",
            format!("'{config}'"),
        ),
        (
            "ConfigMap",
            BOOTSTRAP_POINTER,
            format!("'{}'", bootstrap::text(HEAP)),
        ),
    ])
}

/// Where [`bootstrap::FILE`] is in its `ConfigMap`.
const BOOTSTRAP_POINTER: &str = "/data/custom_bootstrap.json";
/// Bytes of Envoy's heap, which depend on the memory limit.
const HEAP: &str = "{{ include \"egress-warden.heap\" . }}";

/// The kinds of the gateway's own workload, which the values are for.
const WORKLOAD: [&str; 6] = [
    "ConfigMap",
    "ServiceAccount",
    "Deployment",
    "Service",
    "HorizontalPodAutoscaler",
    "PodDisruptionBudget",
];

/// Includes the rendered files as they are: they are no templates.
const INCLUDE: &str = "\
{{- /* What is rendered, byte for byte: no value changes it. */ -}}
{{- range $path, $_ := .Files.Glob \"rendered/*.yaml\" }}
---
{{ $.Files.Get $path }}
{{- end }}
";

/// The files of a chart for these policies. It holds the gateway's Deployment, whether or not the
/// settings ask for one.
///
/// # Errors
/// What keeps the policies from being rendered.
pub fn files(install: &Install, documents: &[Value]) -> Result<Vec<File>, Vec<RenderError>> {
    let mut install = install.clone();
    let mut settings = install
        .spec
        .gateway
        .deployment
        .get_or_insert_default()
        .clone();
    let rendered = render(&install, documents)?;
    settings.drain_seconds = Some(install.drain_seconds());
    settings.resources = rendered
        .objects()
        .iter()
        .find(|object| object.kind() == "Deployment")
        .and_then(|object| {
            object
                .manifest()
                .pointer("/spec/template/spec/containers/0/resources")
        })
        .map(canonical);
    let load = Load {
        policies: EmbeddedPolicies::written(documents)?.bytes().len(),
        classes: rendered.classes(),
    };
    let (workload, rest): (Vec<_>, Vec<_>) = rendered
        .objects()
        .iter()
        .partition(|object| WORKLOAD.contains(&object.kind()));
    let mut files = vec![
        ("Chart.yaml".to_owned(), about(rendered.policy_hash())),
        ("values.yaml".to_owned(), values(&settings)),
        (
            "templates/gateway.yaml".to_owned(),
            templates(&install, &settings, &workload)?,
        ),
        (
            "templates/checks.yaml".to_owned(),
            checks(&install, &settings, load),
        ),
        (
            "templates/_memory.tpl".to_owned(),
            memory(&install, &settings, load),
        ),
        ("templates/rendered.yaml".to_owned(), INCLUDE.to_owned()),
    ];
    files.extend(rest.iter().map(|object| {
        let name = format!("rendered/{}", object.file_name());
        (name, object.yaml())
    }));
    Ok(files)
}

fn about(policy_hash: &str) -> String {
    let short = policy_hash.get(..12).unwrap_or(policy_hash);
    format!(
        "# Made by `warden render --chart`. Each policy is a version of its own.\n\
         apiVersion: v2\n\
         name: {NAME}\n\
         description: Egress control for an Istio mesh, with its policy.\n\
         type: application\n\
         version: {}+{short}\n\
         appVersion: \"{policy_hash}\"\n",
        env!("CARGO_PKG_VERSION")
    )
}

/// The values with what each means; JSON inside is YAML.
fn values(settings: &Deployment) -> String {
    let entries = [
        (
            "Fewest pods. A drain takes one at a time, so two keep the gateway up.",
            "minReplicas",
            json!(settings.min_replicas),
        ),
        ("Most pods.", "maxReplicas", json!(settings.max_replicas)),
        (
            "Mean CPU use in percent at which pods are added.",
            "cpuPercent",
            json!(settings.cpu_percent),
        ),
        (
            "Seconds that a pod may take to end its streams before it goes: no fewer than a stream has.",
            "drainSeconds",
            json!(settings.drain_seconds),
        ),
        (
            "A pod's CPU and memory. The chart refuses less memory than its policies need.",
            "resources",
            settings.resources.clone().unwrap_or_default(),
        ),
        (
            "Labels of the nodes that pods run on, such as those with the source address that partners\n  \
             # let in.",
            "nodeSelector",
            json!(settings.node_selector),
        ),
        (
            "Taints of nodes that pods bear.",
            "tolerations",
            json!(settings.tolerations),
        ),
    ];
    let mut text =
        "# How the gateway runs. What it lets through is in rendered/, and no value changes it.\n\
                    gateway:\n"
            .to_owned();
    for (about, name, value) in entries {
        // Writing to a String does not fail.
        let _ = writeln!(text, "  # {about}\n  {name}: {value}");
    }
    text
}

/// What `warden render` would refuse of the values, said by Helm.
fn checks(install: &Install, settings: &Deployment, load: Load) -> String {
    let longest = install.spec.gateway.max_stream_seconds;
    let mut text = format!(
        "{{{{- if lt (int .Values.gateway.drainSeconds) {longest} }}}}\n\
         {{{{- fail \"gateway.drainSeconds: streams take up to {longest} s, and a pod that goes would cut them\" }}}}\n\
         {{{{- end }}}}\n"
    );
    let need = memory::need(install, settings.workers, load);
    // Writing to a String does not fail.
    let _ = write!(
        text,
        "{{{{- range $kind := list \"requests\" \"limits\" }}}}\n\
         {{{{- $stated := dig $kind \"memory\" \"\" $.Values.gateway.resources }}}}\n\
         {{{{- if and $stated (lt (include \"egress-warden.bytes\" $stated | int64) {need}) }}}}\n\
         {{{{- fail (printf \"gateway.resources.%s.memory: the policies need {}Mi with {} workers\" $kind) }}}}\n\
         {{{{- end }}}}\n\
         {{{{- end }}}}\n",
        memory::mebibytes(need),
        settings.workers,
    );
    text
}

/// How Helm counts bytes, and Envoy's heap as [`memory::heap`] does.
fn memory(install: &Install, settings: &Deployment, load: Load) -> String {
    let (beside, least) = memory::beside(install, settings.workers, load);
    let units = memory::UNITS.map(|(unit, bytes)| format!("\"{unit}\" {bytes}"));
    let units = units.join(" ");
    format!(
        "{{{{- /* Bytes of a quantity of memory. */ -}}}}\n\
         {{{{- define \"egress-warden.bytes\" -}}}}\n\
         {{{{- $text := kindIs \"string\" . | ternary . (int64 . | toString) -}}}}\n\
         {{{{- $unit := regexReplaceAll \"^[0-9]+\" $text \"\" -}}}}\n\
         {{{{- $units := dict {units} -}}}}\n\
         {{{{- if not (and (regexMatch \"^[0-9]\" $text) (hasKey $units $unit)) -}}}}\n\
         {{{{- fail (printf \"%s is no quantity of memory\" $text) -}}}}\n\
         {{{{- end -}}}}\n\
         {{{{- mul (regexFind \"^[0-9]+\" $text | int64) (get $units $unit) -}}}}\n\
         {{{{- end -}}}}\n\
         {{{{- /* Bytes that Envoy's heap may take. */ -}}}}\n\
         {{{{- define \"egress-warden.heap\" -}}}}\n\
         {{{{- $limit := dig \"limits\" \"memory\" \"\" .Values.gateway.resources -}}}}\n\
         {{{{- if not $limit -}}}}\n\
         {{{{- fail \"gateway.resources.limits.memory: state it, what Envoy does as its memory fills is counted from it\" -}}}}\n\
         {{{{- end -}}}}\n\
         {{{{- max (sub (include \"egress-warden.bytes\" $limit | int64) {beside}) {least} -}}}}\n\
         {{{{- end -}}}}\n"
    )
}

/// The gateway's objects with the values' places in them.
fn templates(
    install: &Install,
    settings: &Deployment,
    objects: &[&Object],
) -> Result<String, Vec<RenderError>> {
    let mut texts = Vec::new();
    for object in objects {
        let mut manifest = object.manifest().clone();
        let mut marks = Vec::new();
        for (index, (kind, pointer, template)) in holes(install, settings).enumerate() {
            if kind != object.kind() {
                continue;
            }
            let mark = format!("value-{index}-goes-here");
            let Some(place) = manifest.pointer_mut(pointer) else {
                let message = format!("the chart has a value for {pointer}, which is not rendered");
                return Err(vec![RenderError::new("chart", message)]);
            };
            *place = json!(mark);
            marks.push((mark, template));
        }
        let mut text = object.yaml_of(&manifest)?;
        for (mark, template) in marks {
            text = text.replace(&mark, &template);
        }
        texts.push(text);
    }
    Ok(texts.join("---\n"))
}
