//! `warden render`: from policies to the manifests that a mesh applies.

use std::path::Path;

use egress_render::{Object, Prepared, RenderError, Rendered, removal};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::adopt;
use super::folder::write_exactly;
use super::manifests::{Read, Settings, read_text};
use crate::Console;
use crate::exit::{Exit, Failure};
use crate::history::History;
use crate::output::{Output, PLAIN, Report};
use crate::progress::Progress;

/// Above this size client-side `kubectl apply` refuses an object, because it copies it into an
/// annotation.
const CLIENT_SIDE: usize = 256 * 1024;

/// Render everything that a mesh applies, from policies and install settings.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  warden render --install install.yaml policy.yaml | kubectl apply --server-side -f -
  warden render --install install.yaml --output-dir rendered policy.yaml
  warden render --install install.yaml --output-dir rendered --history renders policy.yaml
  warden render --install install.yaml --history renders --prune-list policy.yaml
  kubectl get $KINDS -A -l app.kubernetes.io/managed-by=warden -o json |
    warden render --install install.yaml --prune-list --cluster - policy.yaml
  warden render --install install.yaml --udp-exceptions policy.yaml
  warden render --install install.yaml --node-networks policy.yaml
  kubectl get gateways.networking.istio.io,virtualservices,serviceentries,destinationrules,sidecars,\
networkpolicies -A -o yaml | warden render --install install.yaml --adopt - policy.yaml")]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
pub(crate) struct Render {
    #[command(flatten)]
    settings: Settings,
    /// Write one file per object into this folder instead, and remove the files of objects that are
    /// no longer rendered. A folder with anything else in it is refused.
    #[arg(long, value_name = "FOLDER")]
    output_dir: Option<String>,
    /// Write a Helm chart into this folder instead, as with `--output-dir`: its values say how the
    /// gateway runs, and no value changes what it lets through.
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["output_dir", "prune_list", "history", "adopt"])]
    chart: Option<String>,
    /// Print what is to be deleted from the cluster, as KIND.GROUP NAMESPACE NAME, in the order that
    /// closes last: what the render before this one in `--history` has and this one has not, or what
    /// of `--cluster` is not rendered. Without both, everything, to take it all back.
    #[arg(long, conflicts_with = "output_dir")]
    prune_list: bool,
    /// The cluster's objects as `kubectl get -o json` prints them; `-` is standard input. Only what
    /// carries the labels `app.kubernetes.io/part-of: egress-warden` and `app.kubernetes.io/managed-by: warden` and is
    /// of the same revision counts.
    #[arg(
        long,
        value_name = "FILE",
        requires = "prune_list",
        conflicts_with = "history"
    )]
    cluster: Option<String>,
    /// Print, as JSON, what the node guard's configuration has to list as `udpExceptions`.
    #[arg(long, conflicts_with_all = ["output_dir", "chart", "prune_list", "history", "adopt", "output"])]
    udp_exceptions: bool,
    /// Print, as JSON, what the node guard's configuration has to say as `clusterNetworks` and
    /// `serviceNetworks`: what sidecars send straight is what the node lets pass.
    #[arg(long, conflicts_with_all = ["output_dir", "chart", "prune_list", "history", "adopt", "output", "udp_exceptions"])]
    node_networks: bool,
    /// Print what CoreDNS' plugin `hosts` has to say of names over opaque TCP, where Istio's DNS
    /// capture is off (`tunnel.names: Zone`).
    #[arg(long, conflicts_with_all = ["output_dir", "chart", "prune_list", "udp_exceptions", "node_networks", "adopt", "output"])]
    coredns_zone: bool,
    /// Keep the render in this folder too, for `warden rollback`, and render the address classes of
    /// the one before beside the new ones, so that no gateway is without those of its policy. Names over opaque
    /// TCP keep the addresses that the newest one gives them.
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["adopt"])]
    history: Option<String>,
    /// Render nothing; say what of the mesh's own objects in this file collides with the
    /// rendering. Ends with 3 if something does. May be given several times; `-` is standard input.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["prune_list", "output_dir"])]
    adopt: Vec<String>,
    /// How to write it: `json` has the objects' names and sizes and the text, or with `--adopt` the
    /// collisions.
    #[arg(long, value_parser = Output::among(&PLAIN), default_value = "human", conflicts_with_all = ["prune_list", "chart"])]
    pub(super) output: Output,
}

impl Render {
    pub(crate) fn run(self, console: &mut Console<'_>) -> Result<Exit, Failure> {
        let clock = Progress::start("rendering");
        let mut read = self.settings.read(console)?;
        if let Some(folder) = &self.history {
            keep_addresses(&mut read, &console.directory.join(folder))?;
        }
        clock.report(console, "policies read");
        let warnings = egress_render::warnings_of(&read.install, read.decoded());
        for warning in &warnings {
            writeln!(console.stderr, "{}\n", read.warning(warning))?;
        }
        if self.udp_exceptions {
            let entries = egress_render::udp_exceptions(&read.install, &read.policies);
            return of_node_guard(&read, entries.map(Value::Array), console);
        }
        if self.node_networks {
            return of_node_guard(&read, egress_render::node_networks(&read.install), console);
        }
        if self.coredns_zone {
            return coredns_zone(&read, console);
        }
        if let Some(folder) = &self.chart {
            return chart(&read, &console.directory.join(folder), console);
        }
        let mut history = match &self.history {
            Some(folder) => Some(History::open(&console.directory.join(folder))?),
            None => None,
        };
        let rendered = match rendered(&read, history.as_ref())? {
            Ok(rendered) => rendered,
            Err(problems) => return Err(read.refusal(&problems)),
        };
        clock.report(console, "objects made");
        if self.prune_list {
            let cluster = self.cluster.as_deref();
            return prune(&read, &rendered, history.as_ref(), cluster, console);
        }
        if !self.adopt.is_empty() {
            return adopt::run(&read.install, &rendered, &self.adopt, self.output, console);
        }
        let removed = match &self.output_dir {
            Some(folder) => write_files(&rendered, &console.directory.join(folder))?,
            None => Vec::new(),
        };
        if let Some(history) = &mut history {
            history.keep(&rendered)?;
        }
        let yaml = self.output_dir.is_none().then(|| rendered.yaml());
        let report = RenderReport::of(&rendered, &warnings, removed, yaml);
        self.output.write(&report, console)?;
        clock.finish(console);
        Ok(Exit::Ok)
    }
}

/// Names keep the addresses that the newest render gave them; those that the settings state go first.
fn keep_addresses(read: &mut Read, folder: &Path) -> Result<(), Failure> {
    let history = History::open(folder)?;
    let Some(newest) = history.newest() else {
        return Ok(());
    };
    let objects = newest.read()?.manifests;
    let tunnel = &mut read.install.spec.tunnel;
    for (name, address) in egress_render::names::earlier(&objects) {
        // A range that was changed is meant to be: what is not in it is nobody's any more.
        if tunnel.name_range.contains(&address) {
            tunnel.name_addresses.entry(name).or_insert(address);
        }
    }
    Ok(())
}

fn coredns_zone(read: &Read, console: &mut Console<'_>) -> Result<Exit, Failure> {
    match egress_render::coredns_zone(&read.install, &read.policies) {
        Ok(zone) => {
            write!(console.stdout, "{zone}")?;
            Ok(Exit::Ok)
        }
        Err(problems) => Err(read.refusal(&problems)),
    }
}

/// What is rendered, with the address classes of the render before.
fn rendered(
    read: &Read,
    history: Option<&History>,
) -> Result<Result<Rendered, Vec<RenderError>>, Failure> {
    let prepared = match Prepared::decoded(&read.install, &read.policies, read.decoded()) {
        Ok(prepared) => prepared,
        Err(problems) => return Ok(Err(problems)),
    };
    let earlier = match history {
        Some(history) => history.before(&read.install, &prepared)?,
        None => None,
    };
    Ok(prepared.render(earlier.as_ref()))
}

/// Prints a part of the node guard's configuration.
fn of_node_guard(
    read: &Read,
    part: Result<Value, Vec<RenderError>>,
    console: &mut Console<'_>,
) -> Result<Exit, Failure> {
    match part {
        Ok(part) => {
            writeln!(console.stdout, "{part:#}")?;
            Ok(Exit::Ok)
        }
        Err(problems) => Err(read.refusal(&problems)),
    }
}

fn chart(read: &Read, folder: &Path, console: &mut Console<'_>) -> Result<Exit, Failure> {
    match egress_render::chart::files(&read.install, &read.policies) {
        Ok(files) => {
            let removed = write_exactly(folder, &files)?;
            tell(&removed, console)?;
            writeln!(console.stderr, "a chart of {} files", files.len())?;
            Ok(Exit::Ok)
        }
        Err(problems) => Err(read.refusal(&problems)),
    }
}

/// Says what is no longer in the folder, and may still be in a cluster.
fn tell(removed: &[String], console: &mut Console<'_>) -> Result<(), Failure> {
    for name in removed {
        writeln!(
            console.stderr,
            "removed {name}, which is no longer rendered"
        )?;
    }
    if !removed.is_empty() {
        writeln!(
            console.stderr,
            "`--prune-list` prints what is to be deleted from the cluster"
        )?;
    }
    Ok(())
}

/// Prints what is to be deleted.
fn prune(
    read: &Read,
    rendered: &Rendered,
    history: Option<&History>,
    cluster: Option<&str>,
    console: &mut Console<'_>,
) -> Result<Exit, Failure> {
    let lines = match (history, cluster) {
        (_, Some(file)) => {
            let text = read_text(file, console)?;
            let objects = egress_render::adopt::read(&text)
                .map_err(|problem| Failure::new(format!("{file}: {}", problem.message())))?;
            if text.trim().is_empty() {
                return Err(Failure::new(format!("{file}: nothing is in it"))
                    .with_hint("`kubectl get -o json` prints a list, even an empty one"));
            }
            removal::from_cluster(&read.install, &objects, rendered.objects())
        }
        (Some(history), None) => {
            let before = history.objects_before(rendered)?;
            let now = rendered.objects().iter().map(Object::manifest);
            removal::between(before.iter(), now)
        }
        (None, None) => rendered.prune_list(),
    };
    for line in lines {
        writeln!(console.stdout, "{line}")?;
    }
    Ok(Exit::Ok)
}

/// The names of the files that were removed.
fn write_files(rendered: &Rendered, folder: &Path) -> Result<Vec<String>, Failure> {
    let objects = rendered.objects().iter();
    let files: Vec<_> = objects
        .map(|object| (object.file_name(), object.yaml()))
        .collect();
    write_exactly(folder, &files)
}

/// What was rendered.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RenderReport<'r> {
    /// The hash of the policies.
    policy: &'r str,
    /// Whether the module's image has to carry the policies.
    in_image: bool,
    /// Bytes of the module's configuration in a push to each gateway pod.
    push_bytes: usize,
    /// The objects, in the order in which they are applied.
    objects: Vec<RenderedObject<'r>>,
    /// Names of files that were removed from the folder, since their objects are no longer rendered.
    removed: Vec<String>,
    /// What is carried out as it is written and probably not meant.
    warnings: &'r [RenderError],
    /// The objects; null where they are in a folder.
    yaml: Option<String>,
    #[serde(skip)]
    rendered: &'r Rendered,
}

/// An object.
#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
struct RenderedObject<'r> {
    /// Its kind.
    kind: &'r str,
    /// Its namespace; empty where it has none.
    namespace: &'r str,
    /// Its name.
    name: &'r str,
    /// Its file in `--output-dir`.
    file: String,
    /// Its size as JSON.
    bytes: usize,
}

impl<'r> RenderReport<'r> {
    fn of(
        rendered: &'r Rendered,
        warnings: &'r [RenderError],
        removed: Vec<String>,
        yaml: Option<String>,
    ) -> Self {
        let objects = rendered.objects().iter().map(|object| RenderedObject {
            kind: object.kind(),
            namespace: object.namespace(),
            name: object.name(),
            file: object.file_name(),
            bytes: object.size(),
        });
        Self {
            policy: rendered.policy_hash(),
            in_image: rendered.is_carried(),
            push_bytes: rendered.push(),
            objects: objects.collect(),
            removed,
            warnings,
            yaml,
            rendered,
        }
    }
}

impl Report for RenderReport<'_> {
    fn human(&self, console: &mut Console<'_>) -> Result<(), Failure> {
        write!(
            console.stdout,
            "{}",
            self.yaml.as_deref().unwrap_or_default()
        )?;
        tell(&self.removed, console)?;
        summary(self.rendered, console)
    }
}

fn summary(rendered: &Rendered, console: &mut Console<'_>) -> Result<(), Failure> {
    let count = rendered.objects().len();
    let hash = rendered.policy_hash();
    let carried = if rendered.is_carried() {
        ", in the module's image"
    } else {
        ""
    };
    writeln!(console.stderr, "{count} objects, policy {hash}{carried}")?;
    let sizes = rendered.sizes();
    for (name, size) in &sizes {
        writeln!(console.stderr, "{:>8.1} KiB  {name}", kibibytes(*size))?;
    }
    writeln!(
        console.stderr,
        "{:>8.1} KiB  of the module's configuration in a push to each gateway pod",
        kibibytes(rendered.push())
    )?;
    if sizes.iter().any(|(_, size)| *size > CLIENT_SIDE) {
        writeln!(
            console.stderr,
            "apply it with `kubectl apply --server-side`"
        )?;
    }
    writeln!(
        console.stderr,
        "istiod's own settings are not rendered: check them with `warden doctor`"
    )?;
    Ok(())
}

/// A size for people. What does not fit 32 bits is no size of a manifest.
fn kibibytes(bytes: usize) -> f64 {
    u32::try_from(bytes).map_or(f64::INFINITY, f64::from) / 1024.0
}
