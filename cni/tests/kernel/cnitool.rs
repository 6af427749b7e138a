//! The plugin in a chain as libcni runs it: through `cnitool`.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::probe::netns_path;
use crate::sandbox::{sandboxed, sh};
use crate::world::{Main, World, nft, plugin, reference};

/// `cnitool`, if it is there: where `.ci/run` puts it (`cargo xtask test` says how), or in the
/// path.
fn cnitool() -> Option<PathBuf> {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::iter::once(tools)
        .chain(std::env::split_paths(&path))
        .map(|folder| folder.join("cnitool"))
        .find(|file| file.is_file())
}

/// Runs a verb in the node's network namespace; what it printed.
fn run(program: &Path, folder: &str, verb: &str, netns: &Path) -> Result<String, String> {
    // Relative parts, as cnitool's own guide has them, must not disturb.
    let paths = [plugin(), reference("bridge")].map(|file| file.parent().unwrap().to_owned());
    let path = std::env::join_paths(paths.into_iter().chain([PathBuf::from("./bin")])).unwrap();
    let output = Command::new(program)
        .args([verb, "pods"])
        .arg(netns)
        .env("CNI_PATH", path)
        .env("NETCONFPATH", folder)
        .env(
            "CNI_ARGS",
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=app1-ns;K8S_POD_NAME=pod",
        )
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    if output.status.success() {
        Ok(text)
    } else {
        Err(text)
    }
}

/// Writes `/run/world/FOLDER/pods.conflist`; returns the folder.
fn conflist(folder: &str, version: &str, plugins: &[&Value]) -> String {
    let folder = format!("/run/world/{folder}");
    let list = json!({"cniVersion": version, "name": "pods", "plugins": plugins});
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(format!("{folder}/pods.conflist"), list.to_string()).unwrap();
    folder
}

#[test]
fn every_verb_through_libcni() {
    let Some(cnitool) = cnitool() else {
        println!("skipped: `cargo xtask test --only cni` says how to get cnitool");
        return;
    };
    sandboxed("cnitool::every_verb_through_libcni", || {
        let world = World::new(Main::Bridge);
        // Where libcni keeps results.
        sh("mount -t tmpfs tmpfs /var/lib; ip netns add pod");
        let netns = netns_path("pod");
        let bridge = json!({"type": "bridge", "bridge": "cni0", "isGateway": true, "ipam": {
            "type": "host-local", "dataDir": "/run/world/ipam", "ranges": [[{"subnet": "10.244.0.0/24"}]]}});
        let ours = json!({"type": "egress-warden-cni", "configFile": world.config_file,
            "stateDir": world.state_dir, "nft": "/usr/sbin/nft"});
        let broken = json!({"type": "egress-warden-cni", "configFile": "/run/world/none.json",
            "stateDir": world.state_dir, "nft": "/usr/sbin/nft"});
        let records = || world.guard().store().all().unwrap().len();

        for version in ["0.4.0", "1.0.0"] {
            let chain = conflist(version, version, &[&bridge, &ours]);
            let verb = |verb: &str| run(&cnitool, &chain, verb, &netns);
            let result: Value = serde_json::from_str(&verb("add").unwrap()).unwrap();
            assert_eq!(result["cniVersion"], version);
            let address = result["ips"][0]["address"].as_str().unwrap();
            let address = address.split('/').next().unwrap();
            let guarded = || nft("list set inet egress_warden pod4").contains(address);
            assert!(guarded() && records() == 1, "{version}");
            verb("check").unwrap();
            nft(&format!(
                "delete element inet egress_warden pod4 {{ {address} }}"
            ));
            let drift = verb("check").unwrap_err();
            assert!(
                drift.contains("the node guard is not what ADD left"),
                "{drift}"
            );
            verb("del").unwrap();
            verb("del").unwrap();
            assert!(!guarded() && records() == 0, "{version}");

            // What fails to be added is deleted all the same.
            let chain = conflist("broken", version, &[&bridge, &broken]);
            let refused = run(&cnitool, &chain, "add", &netns).unwrap_err();
            assert!(refused.contains("none.json"), "{refused}");
            run(&cnitool, &chain, "del", &netns).unwrap();
        }

        // GC and STATUS are of 1.1.0, which not every release of the reference plugins speaks.
        let old = conflist("1.0.0", "1.0.0", &[&bridge, &ours]);
        run(&cnitool, &old, "add", &netns).unwrap();
        let alone = conflist("1.1.0", "1.1.0", &[&ours]);
        run(&cnitool, &alone, "status", &netns).unwrap();
        // cnitool gives no list: libcni deletes what it knows of, and GC takes nothing away.
        run(&cnitool, &alone, "gc", &netns).unwrap();
        assert_eq!(records(), 0);
        let broken = conflist("broken", "1.1.0", &[&broken]);
        let unavailable = run(&cnitool, &broken, "status", &netns).unwrap_err();
        assert!(
            unavailable.contains("pods cannot be guarded"),
            "{unavailable}"
        );
    });
}
