//! A Kubernetes with Istio and the reference case: `cargo xtask cluster`, `cargo xtask kubectl` and
//! `cargo xtask demo --cluster`.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};
use integration::cluster::node::{Life, Node};
use integration::cluster::{
    GATEWAY, around, folder, inside, kubectl, matrix, mesh, ordinary, tools,
};
use integration::istio::reference;
use integration::{command, report};

#[derive(Parser)]
#[command(about = "A Kubernetes with Istio and the reference case.")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Bring it up, and leave it running.
    Up,
    /// End it.
    Down,
    /// Say whether it runs, and what is on it.
    Status,
    /// Run `kubectl` on it.
    Kubectl {
        /// What `kubectl` takes.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Print who reaches what, and the ways around, from real pods.
    Demo {
        /// Print the rows as JSON.
        #[arg(long)]
        json: bool,
        /// Leave the cluster running.
        #[arg(long)]
        keep: bool,
    },
}

fn main() -> Result<ExitCode> {
    inside::run()?;
    let stays = folder().join("kept");
    match Arguments::parse().command {
        Command::Up => {
            up(Life::UntilStopped)?;
            eprintln!(
                "cluster: `cargo xtask kubectl get pods -A` looks at it, `cargo xtask cluster down` ends it"
            );
        }
        Command::Down => match Node::running(&stays)? {
            Some(node) => node.stop()?,
            None => eprintln!("cluster: none runs"),
        },
        Command::Status => {
            let Some(node) = Node::running(&stays)? else {
                say("no cluster runs")?;
                return Ok(ExitCode::FAILURE);
            };
            say(&kubectl::text(
                &node,
                &["get", "nodes,pods", "-A", "-o", "wide"],
            )?)?;
        }
        Command::Kubectl { arguments } => {
            let node = Node::running(&stays)?.context("no cluster runs: cargo xtask cluster up")?;
            return command::exit_code(node.kubectl()?.args(arguments));
        }
        Command::Demo { json, keep } => return demo(json, keep),
    }
    Ok(ExitCode::SUCCESS)
}

fn up(life: Life) -> Result<Node> {
    let missing = tools::missing();
    ensure!(missing.is_empty(), "{}", missing.join("\n"));
    let mut tell = |step: &str| eprintln!("cluster: {step}");
    let node = mesh::up(&folder().join("kept"), life, &mut tell)?;
    mesh::enforce(&node, &mut tell)?;
    Ok(node)
}

fn demo(json: bool, keep: bool) -> Result<ExitCode> {
    let node = match Node::running(&folder().join("kept"))? {
        Some(node) => node,
        None => up(if keep { Life::UntilStopped } else { Life::Ours })?,
    };
    let mut rows = matrix::run(&node, |_| eprint!("."))?;
    rows.extend(ordinary::run(&node, |_| eprint!("."))?);
    rows.extend(around::run(&node, |_| eprint!("."))?);
    eprintln!();
    let differ = rows.iter().filter(|row| !row.as_expected).count();
    say(&if json {
        serde_json::to_string_pretty(&rows)?
    } else {
        matrix::table(&rows)
    })?;
    eprintln!("{}", report::summary(rows.len(), differ));
    if keep {
        say(&pasted(&node)?)?;
    }
    Ok(ExitCode::from(u8::from(differ > 0)))
}

/// What to try on a cluster that stays, with the files that a change begins with.
fn pasted(node: &Node) -> Result<String> {
    let (settings, policy) = (
        node.folder().join("install.json"),
        node.folder().join("policy.json"),
    );
    std::fs::write(&settings, format!("{:#}\n", mesh::settings()?))?;
    std::fs::write(&policy, format!("{:#}\n", reference::policy()?))?;
    let (settings, policy) = (settings.display(), policy.display());
    let kubectl = "cargo xtask kubectl";
    Ok(format!(
        "\nthe cluster stays; try, from app1, from app2, and over TCP:\n\
         {kubectl} -n app1-ns exec deploy/app1 -c app -- curl -si http://api.github.com/\n\
         {kubectl} -n app1-ns exec deploy/app1 -c app -- curl -si http://evilgithub.com/\n\
         {kubectl} -n app1-ns exec deploy/app1 -c app -- curl -sik https://api.github.com/\n\
         {kubectl} -n app2-ns exec deploy/app2 -c app -- curl -si http://api.weather.gov/\n\
         {kubectl} -n app1-ns exec deploy/app1 -c app -- bash -c 'head -1 < /dev/tcp/203.0.113.7/22'\n\
         {kubectl} -n app2-ns exec deploy/app2 -c app -- bash -c 'head -1 < /dev/tcp/8.8.8.8/25'\n\
         the gateway's log and metrics:\n\
         {kubectl} -n {GATEWAY} logs -l istio=egressgateway --tail=20\n\
         {kubectl} -n {GATEWAY} exec deploy/egress-gateway -- pilot-agent request GET stats\n\
         another policy: edit {policy}, then\n\
         warden render --install {settings} {policy} | {kubectl} apply --server-side -f -\n\
         and to end it:\n\
         cargo xtask cluster down"
    ))
}

fn say(text: &str) -> Result<()> {
    Ok(writeln!(std::io::stdout(), "{}", text.trim_end())?)
}
