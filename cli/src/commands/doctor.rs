//! `warden doctor`: whether the mesh's own settings let the manifests hold, and what of the cluster
//! would lose its way out by them.

use egress_render::doctor::cluster::{self, ClusterFinding, Looked, WrittenFinding};
use egress_render::doctor::{self, Finding, Health, Needs, networks};
use egress_render::{Install, RenderError};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::manifests::{Settings, read_json, read_text};
use crate::Console;
use crate::exit::{Exit, Failure};
use crate::output::{Output, PLAIN, Report};

/// Check the settings of istiod and of the mesh that the manifests rest on, and the namespaces and
/// pods that they are about.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Without any of these files it prints what istiod and the mesh's configuration have to say.

Examples:
  kubectl -n istio-system exec deploy/istiod -- env > istiod.env
  kubectl -n istio-system get configmap istio -o jsonpath='{.data.mesh}' > mesh.yaml
  warden doctor --install install.yaml --istiod-env istiod.env --mesh-config mesh.yaml policy.yaml
  warden doctor --install install.yaml --istiod-env stable=a.env --istiod-env canary=b.env policy.yaml
  kubectl -n istio-egress exec deploy/egress-gateway -- pilot-agent request GET server_info > info.json
  warden doctor --install install.yaml --server-info info.json policy.yaml
  kubectl get namespaces,mutatingwebhookconfigurations -o json |
    warden doctor --install install.yaml --namespaces - policy.yaml
  kubectl get pods -A -o json | warden doctor --install install.yaml --pods - policy.yaml
  kubectl get nodes,servicecidrs -o json | warden doctor --install install.yaml --networks - policy.yaml")]
pub(crate) struct Doctor {
    #[command(flatten)]
    settings: Settings,
    /// The mesh's configuration. In a mesh with several revisions one for each.
    #[arg(long, value_name = "[REVISION=]FILE")]
    mesh_config: Vec<String>,
    /// Istiod's environment, one NAME=VALUE per line. In a mesh with several revisions one for
    /// each: a workload may be under any of them.
    #[arg(long, value_name = "[REVISION=]FILE")]
    istiod_env: Vec<String>,
    /// What a gateway pod's Envoy answers to `GET server_info`: its version. May be given once for
    /// each pod; `-` is standard input.
    #[arg(long, value_name = "FILE")]
    server_info: Vec<String>,
    /// The cluster's namespaces, as `kubectl get -o json` or `-o yaml` prints them: which of the
    /// enforced ones are in ambient mode, have no injection, or are under another revision. With
    /// the webhook configurations beside them revision tags are known too. `-` is standard input.
    #[arg(long, value_name = "FILE")]
    namespaces: Option<String>,
    /// The cluster's pods, in the same form: which of the enforced namespaces' would lose their
    /// traffic to the outside, or would be refused when they are made again; and which of the
    /// gateway's have an old proxy.
    #[arg(long, value_name = "FILE")]
    pods: Option<String>,
    /// The cluster's ServiceCIDRs, nodes, Calico's IPPools or Cilium's CiliumNodes, in the same form:
    /// whether `spec.cluster.networks` misses, or says too much of, what they say. May be given
    /// several times.
    #[arg(long, value_name = "FILE")]
    networks: Vec<String>,
    /// How to write the result.
    #[arg(long, value_parser = Output::among(&PLAIN), default_value = "human")]
    pub(super) output: Output,
}

impl Doctor {
    pub(crate) fn run(self, console: &mut Console<'_>) -> Result<Exit, Failure> {
        let prepared = self.settings.prepare(console)?;
        let needs = prepared.needs;
        let mut findings = Vec::new();
        for file in &self.istiod_env {
            let (revision, file) = of_revision(file);
            let text = read_text(file, console)?;
            let text =
                doctor::read_environment(&text).map_err(|problem| foreign(file, &problem))?;
            findings.extend(judged(revision, doctor::istiod(text, &needs)));
        }
        for file in &self.mesh_config {
            let (revision, file) = of_revision(file);
            let mesh = read_mesh(file, console)?;
            findings.extend(judged(revision, doctor::mesh(&mesh, &needs)));
        }
        for file in &self.server_info {
            let info = read_json(file, console)?;
            let info = doctor::read_server_info(info).map_err(|problem| foreign(file, &problem))?;
            findings.extend(judged(None, vec![doctor::envoy(&info)]));
        }
        let mut objects = Vec::new();
        for file in &self.networks {
            objects.extend(read_objects(file, &networks::KINDS, console)?);
        }
        let own = networks::networks(&prepared.install, &objects);
        findings.extend(judged(None, own));
        let looked = self.look(&prepared.install, console)?;
        findings.extend(self.not_asked(&needs, looked.any()));
        let report = DoctorReport::of(findings, looked);
        self.output.write(&report, console)?;
        let findings = report.findings.iter().map(|one| one.finding.health);
        let troubles = report.troubles.iter().map(|one| one.code.health());
        let is_bad = findings.chain(troubles).any(|one| one == Health::Bad);
        Ok(if is_bad { Exit::Defects } else { Exit::Ok })
    }
}

impl Doctor {
    /// What of the mesh's own settings nobody has given, unless the question was about other things
    /// alone.
    fn not_asked(&self, needs: &Needs, looked: bool) -> Vec<Judged<'static>> {
        let (istiod, mesh) = (!self.istiod_env.is_empty(), !self.mesh_config.is_empty());
        let others = looked || !self.networks.is_empty() || !self.server_info.is_empty();
        let mut missing = Vec::new();
        if others && !istiod && !mesh {
            return missing;
        }
        if !istiod {
            missing.extend(judged(None, doctor::istiod("", needs)));
        }
        if !mesh {
            missing.extend(judged(None, doctor::mesh(&Value::Null, needs)));
        }
        for judged in &mut missing {
            judged.finding.health = Health::NotAsked;
        }
        missing
    }

    fn look(&self, install: &Install, console: &mut Console<'_>) -> Result<Cluster, Failure> {
        let namespaces = match &self.namespaces {
            Some(file) => {
                let objects = read_objects(file, &["Namespace"], console)?;
                Some(cluster::namespaces(install, &objects))
            }
            None => None,
        };
        let pods = match &self.pods {
            Some(file) => {
                let objects = read_objects(file, &["Pod"], console)?;
                let pods = cluster::pods(install, &objects);
                Some(pods.map_err(|problem| Failure::new(problem.to_string()))?)
            }
            None => None,
        };
        Ok(Cluster { namespaces, pods })
    }
}

/// What of the cluster was looked at.
struct Cluster {
    namespaces: Option<Looked>,
    pods: Option<Looked>,
}

impl Cluster {
    fn any(&self) -> bool {
        self.namespaces.is_some() || self.pods.is_some()
    }
}

/// The objects of a file. One without any of the kind that is asked about was not what was meant,
/// and would pass as a cluster without trouble; an empty list of `kubectl` is one.
fn read_objects(
    file: &str,
    kinds: &[&str],
    console: &mut Console<'_>,
) -> Result<Vec<Value>, Failure> {
    let text = read_text(file, console)?;
    let objects = cluster::read(&text)
        .map_err(|problem| Failure::new(format!("{file}: {}", problem.message())))?;
    let is = |object: &Value| {
        let kind = object.get("kind").and_then(Value::as_str);
        kind.is_some_and(|kind| kinds.contains(&kind))
    };
    if text.trim().is_empty() || (!objects.is_empty() && !objects.iter().any(is)) {
        return Err(
            Failure::new(format!("{file}: there is no {} in it", kinds.join(" or ")))
                .with_hint("standard input can be read once; `kubectl get -o json` prints a list"),
        );
    }
    Ok(objects)
}

/// A setting, and the control plane that it is of.
#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
struct Judged<'f> {
    /// The control plane's revision, where the file was given with one.
    revision: Option<&'f str>,
    #[serde(flatten)]
    finding: Finding,
}

fn judged(revision: Option<&str>, findings: Vec<Finding>) -> impl Iterator<Item = Judged<'_>> {
    let findings = findings.into_iter();
    findings.map(move |finding| Judged { revision, finding })
}

/// A revision is a Kubernetes name, so what stands before `=` is one if it holds no path.
fn of_revision(file: &str) -> (Option<&str>, &str) {
    match file.split_once('=') {
        Some((revision, file)) if !revision.contains(['/', '.']) => (Some(revision), file),
        _ => (None, file),
    }
}

fn read_mesh(file: &str, console: &mut Console<'_>) -> Result<Value, Failure> {
    let text = read_text(file, console)?;
    doctor::read_mesh(&text).map_err(|problem| foreign(file, &problem))
}

/// A file that holds something else than was asked for.
fn foreign(file: &str, problem: &RenderError) -> Failure {
    Failure::new(format!("{file}: {problem}"))
        .with_hint("`warden doctor --help` shows the commands that print each file")
}

/// The mesh's settings, and the cluster's namespaces and pods.
#[derive(Serialize, JsonSchema)]
pub(crate) struct DoctorReport<'f> {
    /// Each setting.
    findings: Vec<Judged<'f>>,
    /// Enforced namespaces that were looked at; null without `--namespaces`.
    namespaces: Option<usize>,
    /// Their pods that were looked at; null without `--pods`.
    pods: Option<usize>,
    /// What is wrong with them, sorted by object.
    #[schemars(with = "Vec<WrittenFinding>")]
    troubles: Vec<ClusterFinding>,
}

impl<'f> DoctorReport<'f> {
    fn of(findings: Vec<Judged<'f>>, cluster: Cluster) -> Self {
        let count = |looked: &Option<Looked>| looked.as_ref().map(|looked| looked.count);
        let (namespaces, pods) = (count(&cluster.namespaces), count(&cluster.pods));
        let both = [cluster.namespaces, cluster.pods].into_iter().flatten();
        Self {
            findings,
            namespaces,
            pods,
            troubles: both.flat_map(|looked| looked.troubles).collect(),
        }
    }
}

impl Report for DoctorReport<'_> {
    fn human(&self, console: &mut Console<'_>) -> Result<(), Failure> {
        let out = &mut *console.stdout;
        for Judged { revision, finding } in &self.findings {
            let revision = revision.map(|name| format!("{name}: ")).unwrap_or_default();
            let (setting, wanted) = (finding.setting, &finding.wanted);
            let health = finding.health.word();
            if finding.health == Health::NotAsked {
                writeln!(out, "{health}  {setting} = {wanted}")?;
            } else {
                let found = finding.found.as_deref().unwrap_or("not set");
                writeln!(
                    out,
                    "{health:<7} {revision}{setting} = {wanted} (found: {found})"
                )?;
            }
            if finding.health != Health::Good {
                writeln!(out, "        {}", finding.why)?;
            }
        }
        for trouble in &self.troubles {
            let (object, code) = (trouble.object(), trouble.code.word());
            let health = trouble.code.health().word();
            writeln!(out, "{health:<7} {object} ({code})")?;
            writeln!(out, "        {}", trouble.message)?;
            writeln!(out, "        help: {}", trouble.remedy)?;
        }
        for (what, looked) in [
            ("enforced namespaces", self.namespaces),
            ("pods of enforced namespaces", self.pods),
        ] {
            if let Some(count) = looked {
                writeln!(out, "{count} {what} looked at")?;
            }
        }
        Ok(())
    }
}
