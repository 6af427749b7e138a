//! The reference case in real Envoys: `cargo xtask demo`.

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use integration::mesh::{APP1, DNS, Mesh};
use integration::{demo, sandbox};

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
    eprintln!("{} rows, {differing} differ", outcomes.len());
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

/// Prints what to try and waits for the end of the input.
fn keep(mesh: &Mesh) -> Result<()> {
    let files = mesh.files();
    sandbox::resolve_with(DNS, &files.join("resolv.conf"))?;
    std::fs::write(
        files.join("outside-ca.pem"),
        mesh.outside_authority.certificate(),
    )?;
    let enter = sandbox::enter_with()?;
    let through = format!("curl -i --connect-to ::{}:", APP1.sidecar);
    let ca = files.join("outside-ca.pem");
    say(&format!(
        "as app1:\n  {enter} {through} http://api.github.com/\n  \
         {enter} {through} http://evilgithub.com/\n  \
         {enter} {through} --cacert {} https://api.github.com/\n\
         the gateway's log and configuration are in {}\n\
         press Enter to end",
        ca.display(),
        files.display()
    ));
    std::io::stdin().read_line(&mut String::new())?;
    Ok(())
}

#[expect(
    clippy::print_stdout,
    reason = "the one place where results are printed"
)]
fn say(text: &str) {
    println!("{text}");
}
