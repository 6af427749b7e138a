//! More than a thousand ways past the gateway: none leads through, and without the module and its
//! lock many do.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Result, ensure};
use integration::corpus::{self, allowed, through};
use integration::demo;
use integration::dns::Answer;
use integration::mesh::{HOSTS, Mesh, NOBODY, SSH_BANNER, address_of};
use integration::{sandboxed, template};

/// Answers that are no refusal must be those of an allowed host.
fn answered_by_others(answers: &[corpus::Answered]) -> Vec<String> {
    let bad = |answer: &&corpus::Answered| {
        let text = String::from_utf8_lossy(&answer.bytes);
        let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        // A tunnel to the partner's SSH; that it is the partner's, what arrived there says.
        let is_partner = body.starts_with(SSH_BANNER);
        text.starts_with("HTTP/1.1 200") && !is_partner && !body.lines().next().is_none_or(allowed)
    };
    let words =
        |answer: &corpus::Answered| format!("{}: {}", answer.what, answer.bytes.escape_ascii());
    answers.iter().filter(bad).map(words).collect()
}

fn controls_arrive(mesh: &Mesh) -> Result<()> {
    let answers = corpus::run(mesh, &corpus::controls())?;
    let seen = mesh.outside.seen();
    for (name, port, count) in [
        ("api.github.com", 80, 2),
        ("partner.example", 22, 2),
        ("api.github.com", 443, 1),
    ] {
        let address = address_of(name)?;
        let here = seen
            .iter()
            .filter(|seen| seen.address == Some((address.into(), port)));
        ensure!(here.count() >= count, "{name}:{port}: {seen:?} {answers:?}");
    }
    Ok(())
}

/// Every name has four addresses: nobody's, one inside, its own and the metadata service's.
fn answer_with_several(mesh: &Mesh) {
    let inside = Ipv4Addr::new(10, 0, 0, 5);
    let metadata = Ipv4Addr::new(169, 254, 169, 254);
    mesh.dns.set(HOSTS.iter().map(|(name, own)| {
        let addresses = [NOBODY, inside, *own, metadata].map(IpAddr::V4);
        ((*name).to_owned(), Answer::of(&addresses))
    }));
}

sandboxed! {
    fn no_attempt_leads_past_the_gateway() -> Result<()> {
        let mesh = demo::start(|_| {})?;
        answer_with_several(&mesh);
        controls_arrive(&mesh)?;
        let attempts = corpus::all();
        ensure!(attempts.len() >= 1000, "{}", attempts.len());
        let answers = corpus::run(&mesh, &attempts)?;
        ensure!(answers.len() == attempts.len());
        let through = through(&mesh.outside.seen())?;
        ensure!(through.is_empty(), "{through:#?}");
        let others = answered_by_others(&answers);
        ensure!(others.is_empty(), "{others:#?}");
        let surprising = demo::names_that_should_not_be_asked(&mesh.dns.asked());
        ensure!(surprising.is_empty(), "{surprising:?}");
        // What a client writes names no statistics: they would grow without end.
        let statistics = mesh.gateway.get("/stats")?;
        ensure!(!statistics.contains("evilgithub") && !statistics.contains("api.weather.gov"), "{statistics}");
        // And it is none the worse for it.
        controls_arrive(&mesh)?;
        eprintln!("{}attempts to get past the gateway: {}, through: 0", integration::sandbox::FIGURE, attempts.len());
        Ok(())
    }

    fn without_module_and_lock_many_do() -> Result<()> {
        let mesh = demo::start(template::open_wide)?;
        let attempts = corpus::all();
        corpus::run(&mesh, &attempts)?;
        let count = through(&mesh.outside.seen())?.len();
        // Connections; many requests share one.
        ensure!(count >= 100, "only {count}");
        Ok(())
    }
}
