//! Many clients, many names, and answers that are different with every question.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use integration::dns::Name;
use integration::mesh::{APP1, APP2};

use crate::world::{Came, Setup, Transport, at, start, usual};

const CLIENTS: usize = 24;
const NAMES: usize = 41;
/// What every answer is drawn from.
const POOL: [&str; 14] = [
    "dead",
    "refuses",
    "hole",
    "dead6",
    "public",
    "public2",
    "public6",
    "denied",
    "denied6",
    "private",
    "ula",
    "metadata",
    "linklocal",
    "nat64",
];
/// Seconds, if nothing else is said.
const SECONDS: u64 = 8;
/// Says for how many seconds it lasts.
const VARIABLE: &str = "WARDEN_SOAK_SECONDS";

/// For as long as is said.
pub(crate) fn run() -> Result<()> {
    let seconds = std::env::var(VARIABLE).map_or(Ok(SECONDS), |text| text.parse());
    let lasts = Duration::from_secs(seconds.context(VARIABLE)?);
    let world = start(&Setup {
        workers: 2,
        ..usual()
    })?;
    let pool: Result<Vec<_>> = POOL.iter().map(|word| at(word)).collect();
    let pool = pool?;
    let names = |way| {
        let names = (0..NAMES).map(|_| world.name(way, Name::Random(pool.clone())));
        names.collect::<Vec<_>>()
    };
    let names = Transport::ALL.map(names);
    let (tries, reached) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let end = Instant::now() + lasts;
    let (all, world) = (&names, &world);
    let (attempts, came_through) = (&tries, &reached);
    std::thread::scope(|scope| -> Result<()> {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                scope.spawn(move || -> Result<()> {
                    // Each client goes through names and ways in an order of its own.
                    let mut turn = client;
                    while Instant::now() < end {
                        turn = turn.wrapping_mul(7).wrapping_add(client + 1);
                        let (caller, path) = if turn % 2 == 0 {
                            (&APP1, "/app1")
                        } else {
                            (&APP2, "/app2")
                        };
                        let way = (turn / 2) % Transport::ALL.len();
                        let name = all.get(way).and_then(|names| names.get(turn % NAMES));
                        let (Some(way), Some(name)) = (Transport::ALL.get(way), name) else {
                            continue;
                        };
                        let came = world.attempt_path(caller, *way, name, path)?;
                        attempts.fetch_add(1, Ordering::Relaxed);
                        came_through
                            .fetch_add(usize::from(came == Came::Reached), Ordering::Relaxed);
                    }
                    Ok(())
                })
            })
            .collect();
        for client in clients {
            client.join().map_err(|_| anyhow!("a client failed"))??;
        }
        Ok(())
    })?;
    let arrived = world.arrived(0);
    let refused: Vec<_> = arrived
        .iter()
        .filter(|word| {
            !["public", "public2", "public6", "denied", "denied6"].contains(&word.as_str())
        })
        .collect();
    ensure!(refused.is_empty(), "{refused:?}");
    for seen in world.mesh.outside.seen() {
        let denied = seen.address.is_some_and(|(address, _)| {
            [at("denied"), at("denied6")]
                .into_iter()
                .flatten()
                .any(|one| one == address)
        });
        ensure!(
            !(denied && String::from_utf8_lossy(&seen.bytes).contains("/app2")),
            "{seen:?}"
        );
    }
    let (tries, reached) = (tries.into_inner(), reached.into_inner());
    // It is a soak only if most of it works.
    ensure!(
        reached * 4 > tries && arrived.len() > 20,
        "{reached} of {tries}, {} arrived",
        arrived.len()
    );
    eprintln!(
        "{}soak: {tries} tries in {lasts:?}, {reached} reached, {} connections, none refused",
        integration::sandbox::FIGURE,
        arrived.len()
    );
    Ok(())
}
