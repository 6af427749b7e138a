//! The plugin as nodes get it: one static file that runs whatever the node holds.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::packet::Transport;
use crate::sandbox::{sandboxed, sh};
use crate::truth_table::{Bench, Location};
use crate::world::{Main, World, call};

#[test]
fn the_static_file_needs_nothing_of_the_node_and_guards_as_well() {
    // `cargo xtask test` always has it built.
    let Some(file) = std::env::var_os("EGRESS_CNI_STATIC").map(PathBuf::from) else {
        println!("skipped: the static plugin is built by: cargo xtask test --only cni");
        return;
    };
    sandboxed(
        "installed::the_static_file_needs_nothing_of_the_node_and_guards_as_well",
        || {
            let mut world = World::new(Main::Ptp);
            // A root folder with this one file: a program that wants a loader does not start.
            sh(&format!(
                "mkdir /run/world/root && cp {} /run/world/root/egress-warden-cni",
                file.display()
            ));
            let version =
                sh("CNI_COMMAND=VERSION chroot /run/world/root /egress-warden-cni < /dev/null");
            let version: Value = serde_json::from_str(&version).unwrap();
            assert_eq!(version["supportedVersions"][4], json!("1.1.0"));

            let neighbour = world.pod("app2-ns", "neighbour", true);
            let pod = world.pod("app1-ns", "pod", false);
            let mut bench = Bench::start(&neighbour);
            let mut out = |pod| {
                bench.reaches(
                    pod,
                    Location::Outside,
                    "203.0.113.1",
                    Transport::TcpSyn(443),
                )
            };
            assert!(out(&pod));
            let env = World::environment(&pod);
            let env: Vec<(&str, &str)> = env
                .iter()
                .map(|(key, value)| (*key, value.as_str()))
                .collect();
            let verb = |verb: &str| call(&file, verb, &env, &world.chained(Some(&pod.result)));
            assert_eq!(verb("ADD"), Ok(pod.result.clone()));
            assert_eq!(verb("CHECK"), Ok(Value::Null));
            assert!(!out(&pod));
            assert_eq!(verb("DEL"), Ok(Value::Null));
            assert_eq!(verb("DEL"), Ok(Value::Null));
        },
    );
}
