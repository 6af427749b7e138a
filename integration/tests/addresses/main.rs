//! What is judged is what is connected to: whatever addresses an answer has, and however they
//! change, none arrives that the policy or the address check refuses, by no way.
//!
//! Each table is played once more against a gateway whose caches leave nothing out: then they do
//! arrive.

mod soak;
mod world;

use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use integration::classes;
use integration::dns::{Answer, Name};
use integration::envoy::{eventually, eventually_within};
use integration::mesh::{APP1, APP2, APP3, Workload};
use integration::{policy, sandbox, sandboxed, template};
use serde_json::{Value, json};
use world::{
    Came, Setup, Transport, World, answer, at, changed, policy as rules, start, stricter, usual,
};

/// An answer, and what may be connected to: nothing else, and one of these if there is one.
type Row<'a> = (&'a Workload, &'a str, &'a [&'a str]);

/// The answers of one DNS question, in words of [`world::at`].
const ANSWERS: &[Row<'_>] = &[
    // Nobody's address first, so that Envoy tries the next.
    (&APP1, "dead private", &[]),
    (&APP1, "private dead", &[]),
    (&APP1, "refuses private", &[]),
    (&APP1, "hole private", &[]),
    (&APP1, "dead metadata", &[]),
    (&APP1, "dead linklocal loopback shared", &[]),
    (&APP1, "private", &[]),
    (&APP1, "loopback", &[]),
    // What remains is connected to.
    (&APP1, "private public", &["public"]),
    (&APP1, "metadata dead private public", &["public"]),
    (&APP1, "hole private public", &["public"]),
    (&APP1, "public private public2", &["public", "public2"]),
    // The same address for two callers.
    (&APP1, "denied", &["denied"]),
    (&APP2, "denied", &[]),
    (&APP2, "dead denied", &[]),
    (&APP2, "denied public2", &["public2"]),
    (&APP2, "denied6 denied", &[]),
    (&APP2, "denied6 public", &["public"]),
    // Both families.
    (&APP1, "dead6 private", &[]),
    (&APP1, "ula dead", &[]),
    (&APP1, "ula public", &["public"]),
    (&APP1, "public6 private", &["public6"]),
    (&APP1, "public6 ula metadata6", &["public6"]),
    (&APP1, "dead6 metadata6 public", &["public"]),
    // IPv4 inside IPv6.
    (&APP1, "mapped", &[]),
    (&APP1, "nat64 dead", &[]),
    (&APP1, "dead6 6to4", &[]),
    (&APP1, "nat64 6to4 public", &["public"]),
];

/// Plays a row by every way; what differs, in words.
fn play(world: &World, (caller, words, allowed): Row<'_>) -> Result<Vec<String>> {
    let mut differs = Vec::new();
    for way in Transport::ALL {
        let name = world.name(way, answer(words)?);
        let before = world.count();
        let came = world.attempt(caller, way, &name);
        let came = came.with_context(|| format!("{way:?} [{words}]"))?;
        let arrived = world.arrived(before);
        let wrong = arrived.iter().any(|one| !allowed.contains(&one.as_str()));
        if wrong || (came == Came::Reached) == allowed.is_empty() {
            differs.push(format!("{way:?} [{words}]: {came:?}, arrived {arrived:?}"));
        }
    }
    Ok(differs)
}

fn play_all(world: &World) -> Result<Vec<String>> {
    let rows = ANSWERS.iter().map(|row| play(world, *row));
    Ok(rows.collect::<Result<Vec<_>>>()?.concat())
}

fn retrying(config: &mut Value) {
    template::each_object(config, &mut |object| {
        if object.contains_key("cluster") && object.contains_key("timeout") {
            let policy = json!({
                "retry_on": "connect-failure,refused-stream,reset-before-request",
                "num_retries": 3,
            });
            object.insert("retry_policy".to_owned(), policy);
        }
    });
}

/// Takes out what the caches leave out.
fn without_filter(config: &mut Value) {
    template::each_object(config, &mut |object| {
        object.remove("resolved_address_filter");
    });
}

/// Where a name leads whose first address is slow to answer and inside, and whose second is public.
fn race(change: &dyn Fn(&mut Value)) -> Result<Vec<String>> {
    let world = start(&Setup { change, ..usual() })?;
    let answers = vec![answer("slow")?.living(1), answer("public")?.living(1)];
    let name = world.name(Transport::Http, Name::InTurn(answers));
    sandbox::open()?;
    sandbox::black_hole(&[at("slow")?])?;
    std::thread::scope(|scope| -> Result<()> {
        let first = scope.spawn(|| world.attempt(&APP1, Transport::Http, &name));
        eventually("the second answer", || world.mesh.dns.times(&name) > 1)?;
        // The cache has it soon; nothing tells when.
        std::thread::sleep(Duration::from_millis(300));
        let second = scope.spawn(|| world.attempt(&APP1, Transport::Http, &name));
        std::thread::sleep(Duration::from_millis(300));
        sandbox::open()?;
        for one in [first, second] {
            one.join().map_err(|_| anyhow!("a thread failed"))??;
        }
        Ok(())
    })?;
    // A first packet that was lost is sent again after a second, then after three.
    let patience = Duration::from_secs(5);
    let slow = || world.arrived(0).contains(&"slow".to_owned());
    let _ = eventually_within(patience, "the slow connection", slow);
    Ok(world.arrived(0))
}

sandboxed! {
    fn nothing_refused_is_connected_to_whatever_an_answer_holds() -> Result<()> {
        let world = start(&usual())?;
        let differs = play_all(&world)?;
        ensure!(differs.is_empty(), "{differs:#?}");
        Ok(())
    }

    fn without_the_filter_of_the_caches_it_is() -> Result<()> {
        let world = start(&Setup { change: &without_filter, ..usual() })?;
        let differs = play_all(&world)?;
        // All but what leads nowhere or to what is allowed anyway.
        for row in ["dead private", "metadata dead private public", "dead denied", "nat64 dead"] {
            let found = differs.iter().filter(|one| one.contains(&format!("[{row}]"))).count();
            ensure!(found == Transport::ALL.len(), "[{row}] {found} times in {differs:#?}");
        }
        Ok(())
    }

    fn a_name_whose_addresses_are_all_refused_is_denied_and_one_that_is_not_there_is_not() -> Result<()> {
        let world = start(&usual())?;
        for way in Transport::ALL {
            let (refused, absent, nobody) = match way {
                // There is no status to be had.
                Transport::Tls => (None, None, None),
                _ => (Some(403), Some(503), Some(503)),
            };
            let private = world.name(way, answer("private metadata")?);
            ensure!(world.attempt(&APP1, way, &private)? == Came::Refused(refused), "{way:?}");
            let dead = world.name(way, answer("dead private")?);
            ensure!(world.attempt(&APP1, way, &dead)? == Came::Refused(nobody), "{way:?}");
            let nowhere = format!("nowhere.{}", if way == Transport::Originate { "payments.example" } else { "web.example" });
            ensure!(world.attempt(&APP1, way, &nowhere)? == Came::Refused(absent), "{way:?}");
        }
        ensure!(world.count() == 0, "{:?}", world.arrived(0));
        Ok(())
    }

    fn aliases_lead_where_addresses_lead() -> Result<()> {
        let world = start(&usual())?;
        let aliases = ["a.cdn.example", "b.cdn.example", "c.cdn.example"];
        for way in Transport::ALL {
            for (words, reached) in [("private", false), ("dead private", false), ("private public", true)] {
                let name = world.name(way, answer(words)?.behind(&aliases).living(0));
                let before = world.count();
                let came = world.attempt(&APP1, way, &name);
                let came = came.with_context(|| format!("{way:?} {words}"))?;
                ensure!((came == Came::Reached) == reached, "{way:?} {words}: {came:?}");
                let arrived = world.arrived(before);
                ensure!(arrived.iter().all(|one| one == "public"), "{way:?} {words}: {arrived:?}");
            }
        }
        Ok(())
    }

    fn answers_that_change_with_each_question_never_lead_inside() -> Result<()> {
        let world = start(&usual())?;
        let answers = ["public", "private", "dead private", "metadata public", "private"];
        let answers: Result<Vec<Answer>> =
            answers.iter().map(|words| Ok(answer(words)?.living(0))).collect();
        let answers = answers?;
        let names = Transport::ALL.map(|way| (way, world.name(way, Name::Alternating(answers.clone()))));
        // Until every name has been asked for as often as it has answers. The caches do so once a
        // second at most.
        let asked = |name: &str| world.mesh.dns.times(name) > answers.len();
        let mut reached = [0; Transport::ALL.len()];
        eventually("every answer", || {
            for ((way, name), count) in names.iter().zip(&mut reached) {
                *count += u32::from(world.attempt(&APP1, *way, name).is_ok_and(|came| came == Came::Reached));
            }
            names.iter().all(|(_, name)| asked(name))
        })?;
        let arrived = world.arrived(0);
        ensure!(arrived.iter().all(|one| one == "public"), "{arrived:?}");
        ensure!(reached.iter().all(|count| *count > 0), "{reached:?}");
        Ok(())
    }

    fn a_name_server_that_fails_or_is_silent_closes_and_heals() -> Result<()> {
        let world = start(&usual())?;
        for (what, bad) in [("fails", Answer::Failure), ("is silent", Answer::Silence)] {
            let says = Name::InTurn(vec![bad, answer("private public")?]);
            let name = world.name(Transport::Http, says);
            let _ = world.attempt(&APP1, Transport::Http, &name)?;
            eventually(&format!("the name server no longer {what}"), || {
                world.attempt(&APP1, Transport::Http, &name).is_ok_and(|came| came == Came::Reached)
            })?;
        }
        ensure!(world.arrived(0).iter().all(|one| one == "public"), "{:?}", world.arrived(0));
        Ok(())
    }

    /// Envoy begins a connection before a filter could look at where it leads, and hands it to
    /// whoever comes next.
    fn a_connection_that_is_being_made_is_handed_to_nobody_it_is_not_for() -> Result<()> {
        let arrived = race(&|_| {})?;
        ensure!(!arrived.contains(&"slow".to_owned()), "{arrived:?}");
        Ok(())
    }

    fn without_the_filter_of_the_caches_it_is_handed_on() -> Result<()> {
        let arrived = race(&without_filter)?;
        ensure!(arrived.contains(&"slow".to_owned()), "{arrived:?}");
        Ok(())
    }

    fn a_pooled_connection_serves_no_caller_whose_class_refuses_its_address() -> Result<()> {
        let classes = classes::of_each(&[&[rules()], &[stricter()]]);
        let world = start(&Setup { classes, ..usual() })?;
        for way in [Transport::Http, Transport::Originate, Transport::Ended] {
            let name = world.name(way, answer("denied")?.living(0));
            let path = |who: &str| format!("/{who}-{way:?}");
            ensure!(world.attempt_path(&APP1, way, &name, &path("app1"))? == Came::Reached, "{way:?}");
            for _ in 0..3 {
                let came = world.attempt_path(&APP2, way, &name, &path("app2"))?;
                ensure!(came == Came::Refused(Some(403)), "{way:?} {came:?}");
            }
            ensure!(world.attempt_path(&APP1, way, &name, &path("app1"))? == Came::Reached, "{way:?}");
        }
        // The same caller, after its policy has changed.
        let name = world.name(Transport::Http, answer("denied")?);
        ensure!(world.attempt_path(&APP1, Transport::Http, &name, "/before")? == Came::Reached);
        ensure!(world.mesh.update(&policy::at("warden-http", &[stricter()]))?);
        eventually("the stricter policy", || {
            world.attempt_path(&APP1, Transport::Http, &name, "/after")
                .is_ok_and(|came| came == Came::Refused(Some(403)))
        })?;
        for _ in 0..3 {
            let came = world.attempt_path(&APP1, Transport::Http, &name, "/later")?;
            ensure!(came == Came::Refused(Some(403)), "{came:?}");
        }
        for seen in world.mesh.outside.seen() {
            let text = String::from_utf8_lossy(&seen.bytes).into_owned();
            ensure!(!text.contains("/app2") && !text.contains("/later"), "{text}");
        }
        Ok(())
    }

    fn a_second_try_is_no_second_judgement() -> Result<()> {
        let world = start(&Setup { change: &retrying, ..usual() })?;
        for words in ["dead private", "refuses private", "hole private metadata", "refuses private public"] {
            let allowed: &[&str] = if words.ends_with("public") { &["public"] } else { &[] };
            let differs = play(&world, (&APP1, words, allowed))?;
            ensure!(differs.is_empty(), "{differs:#?}");
        }
        Ok(())
    }

    fn what_one_destination_may_lead_to_no_other_may() -> Result<()> {
        let world = start(&usual())?;
        for (number, (words, reached)) in [
            ("private", true), ("ula", true), ("shared", true), ("dead private", true),
            ("metadata", false), ("metadata6", false), ("loopback", false), ("linklocal", false),
            ("mapped", false), ("dead metadata", false), ("public", true),
        ].into_iter().enumerate() {
            for way in [Transport::Http, Transport::Tls] {
                let name = format!("n{number}-{way:?}.inner.example").to_lowercase();
                world.mesh.dns.add(&name, answer(words)?);
                let came = world.attempt(&APP1, way, &name)?;
                ensure!((came == Came::Reached) == reached, "{way:?} [{words}] {came:?}");
                // The same answer for a name that has no such permission, just after.
                if words != "public" {
                    let before = world.count();
                    let other = world.name(way, answer(words)?);
                    let came = world.attempt(&APP1, way, &other)?;
                    ensure!(came != Came::Reached, "{way:?} [{words}] {came:?}");
                    ensure!(world.count() == before, "{way:?} [{words}] {:?}", world.arrived(before));
                }
                // Nor for another caller.
                let before = world.count();
                let came = world.attempt(&APP2, way, &name)?;
                ensure!(came != Came::Reached, "{way:?} [{words}] by app2: {}", world.said());
                ensure!(world.count() == before, "{way:?} [{words}] {:?}", world.arrived(before));
            }
        }
        Ok(())
    }

    /// What the inspection proxy then resolves by itself is its own affair.
    fn an_inspection_proxy_hears_only_of_names_that_have_an_address_left() -> Result<()> {
        let world = start(&usual())?;
        let rows = [
            ("private", false), ("dead metadata", true), ("metadata private", false), ("ula", false),
            ("private public", true), ("mapped nat64 6to4", false),
        ];
        for (words, asked) in rows {
            for way in [Transport::Http, Transport::Tls, Transport::Tunnel] {
                let name = world.name(way, answer(words)?);
                let before = world.mesh.inspection_proxy.seen().len();
                let came = world.attempt(&APP3, way, &name)?;
                // The inspection proxy does not know the name, and hangs up.
                ensure!(came != Came::Reached, "{way:?} [{words}]");
                let heard = world.mesh.inspection_proxy.seen();
                let heard = heard.get(before..).unwrap_or_default();
                ensure!(heard.is_empty() != asked, "{way:?} [{words}] {came:?} {heard:?}");
                ensure!(heard.iter().all(|tunnel| tunnel.destination.starts_with(&name)), "{heard:?}");
                // Of tunnels it is told an address that is left.
                if let (Transport::Tunnel, Some(tunnel)) = (way, heard.first()) {
                    let left = if words.contains("public") { "203.0.113.10:22" } else { "203.0.113.29:22" };
                    ensure!(tunnel.address.as_deref() == Some(left), "[{words}] {tunnel:?}");
                }
            }
        }
        ensure!(world.count() == 0, "{:?}", world.arrived(0));
        Ok(())
    }

    fn random_answers_lead_many_clients_nowhere_refused() -> Result<()> {
        soak::run()
    }

    /// Configuration discovery and clusters come in no order.
    fn a_class_that_is_not_there_yet_is_closed_and_never_passed_by() -> Result<()> {
        let old = classes::of(&[rules()]);
        // Without the classes that only the policy's Deny asks for.
        let few: Vec<_> = old.iter().filter(|class| class.is_plain()).cloned().collect();
        ensure!(few.len() < old.len(), "{old:?}");
        let world = start(&Setup { classes: few.clone(), discovered: true, ..usual() })?;
        let try_all = |expected: Came| -> Result<()> {
            for way in [Transport::Http, Transport::Originate, Transport::Tls, Transport::Tunnel] {
                let name = world.name(way, answer("public")?);
                let came = world.attempt(&APP2, way, &name)?;
                let expected = match (way, expected) {
                    (Transport::Tls, Came::Refused(_)) => Came::Refused(None),
                    (_, expected) => expected,
                };
                ensure!(came == expected, "{way:?} {came:?}");
            }
            Ok(())
        };
        // The policy first: app2's class has no clusters and no routes.
        try_all(Came::Refused(Some(403)))?;
        ensure!(world.count() == 0, "{:?}", world.arrived(0));
        ensure!(world.attempt(&APP1, Transport::Http, &world.name(Transport::Http, answer("public")?))? == Came::Reached);
        // Then they come.
        world.mesh.reconfigure(&old, &changed)?;
        let name = world.name(Transport::Http, answer("public")?);
        eventually("the new classes", || {
            world.attempt(&APP2, Transport::Http, &name).is_ok_and(|came| came == Came::Reached)
        }).with_context(|| world.said())?;
        try_all(Came::Reached)?;
        // And go again, before the policy that names them does.
        world.mesh.reconfigure(&few, &changed)?;
        // While the clusters have gone and their routes stand it is 503.
        eventually("the classes to go", || {
            world.attempt(&APP2, Transport::Http, &name).is_ok_and(|came| came == Came::Refused(Some(403)))
        })?;
        let before = world.count();
        try_all(Came::Refused(Some(403)))?;
        ensure!(world.count() == before, "{:?}", world.arrived(before));
        Ok(())
    }
}
