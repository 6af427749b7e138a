//! The reference case in real Envoys: `cargo xtask demo`.

use std::io::BufRead;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::Parser;
use integration::client::REDIRECT;
use integration::envoy::ADMIN_PORT;
use integration::mesh::{ADMIN, APP1, APP2, APP3, DNS, Mesh, Workload};
use integration::{demo, policy, report, sandbox};

#[derive(Parser)]
#[command(about = "Run the reference case in real Envoys.")]
struct Arguments {
    /// Print the rows as JSON.
    #[arg(long)]
    json: bool,
    /// Leave everything running and print what to try.
    #[arg(long)]
    keep: bool,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    if !sandbox::inside() {
        return sandbox::reenter();
    }
    eprintln!(
        "demo: starting the gateway, five sidecars, an inspection proxy and the outside world"
    );
    let mesh = demo::start(|_| {})?;
    let outcomes = demo::run(&mesh, demo::Module::Present, |outcome| {
        let mark = if outcome.as_expected { "." } else { "!" };
        eprint!("{mark}");
    })?;
    eprintln!();
    let unasked = mesh.dns.asked();
    let surprising = demo::names_that_should_not_be_asked(&unasked);
    let differing = outcomes
        .iter()
        .filter(|outcome| !outcome.as_expected)
        .count();
    say(&if arguments.json {
        demo::json(&outcomes)?
    } else {
        demo::table(&outcomes)
    });
    eprintln!("{}", report::summary(outcomes.len(), differing));
    eprintln!(
        "names asked for: {}; of denied names: {}",
        unasked.join(" "),
        if surprising.is_empty() {
            "none".to_owned()
        } else {
            surprising.join(" ")
        },
    );
    if arguments.keep {
        keep(&mesh)?;
    }
    Ok(ExitCode::from(u8::from(
        differing > 0 || !surprising.is_empty(),
    )))
}

/// Prints what to try, and puts an edited policy in force at every line of the input until it ends.
fn keep(mesh: &Mesh) -> Result<()> {
    let files = mesh.files();
    sandbox::resolve_with(DNS, &files.join("resolv.conf"))?;
    let file = files.join("policy.json");
    std::fs::write(&file, format!("{:#}\n", policy::demo()?))?;
    std::fs::write(
        files.join("outside-ca.pem"),
        mesh.outside_authority.certificate(),
    )?;
    say(&lines(files, &sandbox::enter_with()?));
    let mut known = std::fs::read(&file)?;
    let mut input = std::io::stdin().lock();
    while input.read_line(&mut String::new())? > 0 {
        let now = std::fs::read(&file)?;
        say(&if now == known {
            "the file has not changed".to_owned()
        } else if let Err(error) = put_in_force(mesh, &file) {
            format!("the gateway keeps the policy that it has: {error:#}")
        } else {
            "the policy is in force".to_owned()
        });
        known = now;
    }
    Ok(())
}

/// Gives every place of the gateway the policy of this file.
fn put_in_force(mesh: &Mesh, file: &Path) -> Result<()> {
    let policy = policy::read(file)?;
    for extension in policy::everywhere(&[policy]) {
        ensure!(
            mesh.update(&extension)?,
            "it refuses this one; its log says why"
        );
    }
    Ok(())
}

/// Commands to paste: as every workload, over TCP, the log, the metrics, and another policy.
fn lines(files: &Path, enter: &str) -> String {
    let shown = files.display();
    let curl =
        |workload: &Workload| format!("{enter} curl -si --connect-to ::{}:", workload.sidecar);
    // The PROXY protocol's line says which address the application has dialled.
    let tcp = |workload: &Workload, to: &str, port: u16| {
        let sidecar = workload.sidecar;
        format!(
            "{enter} bash -c \"exec 3<>/dev/tcp/{sidecar}/{REDIRECT}; \
             printf 'PROXY TCP4 {sidecar} {to} 1 {port}\\r\\n' >&3; timeout 3 head -1 <&3\""
        )
    };
    let (app1, app2, app3) = (curl(&APP1), curl(&APP2), curl(&APP3));
    [
        "\neverything goes on running; paste these into another terminal",
        "as app1, which may reach GitHub and a partner's SSH:",
        &format!("{app1} http://api.github.com/"),
        &format!("{app1} http://evilgithub.com/"),
        &format!("{app1} --cacert {shown}/outside-ca.pem https://api.github.com/"),
        &tcp(&APP1, "203.0.113.7", 22),
        &tcp(&APP1, "203.0.113.8", 22),
        "as app2, which may reach the weather and a mail server:",
        &format!("{app2} http://api.weather.gov/"),
        &format!("{app2} http://alerts.weather.gov/"),
        &tcp(&APP2, "8.8.8.8", 25),
        "as app3, whose inspection proxy is down since the last rows:",
        &format!("{app3} http://api.weather.gov/"),
        &format!("{app3} http://api.github.com/"),
        "the gateway's verdicts as they come, its metrics, its configuration:",
        &format!("tail -f {shown}/gateway.log | grep --line-buffered '\"event\":\"verdict\"'"),
        &format!("{enter} curl -s http://{ADMIN}:{ADMIN_PORT}/stats/prometheus | grep warden"),
        &format!("less {shown}/gateway.json"),
        "another policy: write \"evilgithub.com\" beside \"*.github.com\", press Enter here, and the second \
         command reaches it",
        &format!("${{EDITOR:-vi}} {shown}/policy.json"),
        "the end of the input (Ctrl-D) ends everything",
    ]
    .join("\n")
}

#[expect(
    clippy::print_stdout,
    reason = "the one place where results are printed"
)]
fn say(text: &str) {
    println!("{text}");
}
