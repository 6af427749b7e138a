//! A Kubernetes with Istio and the reference case: `cargo xtask cluster`, `cargo xtask kubectl` and
//! `cargo xtask demo --cluster`.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};
use integration::cluster::node::{Life, Node};
use integration::cluster::{around, folder, inside, kubectl, matrix, mesh, ordinary, tools};
use integration::command;

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
    mesh::up(&folder().join("kept"), life, &mut |step| {
        eprintln!("cluster: {step}");
    })
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
    eprintln!("{} rows, {differ} differ", rows.len());
    Ok(ExitCode::from(u8::from(differ > 0)))
}

fn say(text: &str) -> Result<()> {
    Ok(writeln!(std::io::stdout(), "{}", text.trim_end())?)
}
