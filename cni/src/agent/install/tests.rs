use super::*;

/// What another program may do to a chain.
type Damage = (&'static str, fn(&mut Vec<Value>));

struct Fixture {
    root: tempfile::TempDir,
    paths: NodePaths,
}

/// A version of the plugin.
fn program(version: &str) -> String {
    format!("ELF {version} {NODE_PLUGIN} ...")
}

fn fixture(lists: &[(&str, Value)]) -> Fixture {
    let root = tempfile::tempdir().unwrap();
    let path = |name: &str| root.path().join(name);
    for folder in ["net.d", "bin"] {
        fs::create_dir(path(folder)).unwrap();
    }
    fs::write(path("image-plugin"), program("v2")).unwrap();
    for (name, list) in lists {
        fs::write(path("net.d").join(name), list.to_string()).unwrap();
    }
    let paths = NodePaths {
        net_dir: path("net.d"),
        bin_dir: path("bin"),
        plugin_source: path("image-plugin"),
        entry: json!({"configFile": "/etc/egress-warden-cni/config.json"}),
    };
    Fixture { root, paths }
}

impl Fixture {
    fn types(&self, name: &str) -> Vec<String> {
        let text = fs::read(self.root.path().join("net.d").join(name)).unwrap();
        let list: Value = serde_json::from_slice(&text).unwrap();
        let plugins = list["plugins"].as_array().unwrap();
        plugins
            .iter()
            .map(|plugin| plugin["type"].as_str().unwrap().to_owned())
            .collect()
    }

    fn edit(&self, name: &str, change: impl FnOnce(&mut Value)) {
        let path = self.root.path().join("net.d").join(name);
        let mut list = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(&mut list);
        fs::write(&path, list.to_string()).unwrap();
    }
}

fn list(types: &[&str]) -> Value {
    let plugins: Vec<Value> = types
        .iter()
        .map(|name| match *name {
            PLUGIN => json!({"type": name, "configFile": "/etc/old.json"}),
            _ => json!({"type": name, "own": [1]}),
        })
        .collect();
    json!({"cniVersion": "1.0.0", "name": "pods", "plugins": plugins})
}

#[test]
fn the_entry_goes_behind_the_main_plugin_and_everything_else_stays() {
    let fixture = fixture(&[
        (
            "10-pods.conflist",
            list(&["bridge", "portmap", "istio-cni"]),
        ),
        ("99-other.conflist", list(&["ptp"])),
    ]);
    assert!(fixture.paths.ensure().unwrap());
    assert_eq!(
        fixture.types("10-pods.conflist"),
        ["bridge", "egress-warden-cni", "portmap", "istio-cni"]
    );
    assert_eq!(
        fixture.types("99-other.conflist"),
        ["ptp"],
        "only the list in use is touched"
    );
    assert!(
        !fixture.paths.ensure().unwrap(),
        "a second look finds nothing to do"
    );
}

#[test]
fn whatever_others_do_to_chain_and_executable_is_repaired() {
    let fixture = fixture(&[("10-pods.conflist", list(&["bridge", "portmap"]))]);
    fixture.paths.ensure().unwrap();
    let damages: [Damage; 5] = [
        ("removed", |plugins| drop(plugins.remove(1))),
        ("moved last", |plugins| plugins.swap(1, 2)),
        ("put first", |plugins| plugins.swap(0, 1)),
        ("doubled", |plugins| plugins.push(plugins[1].clone())),
        ("weakened", |plugins| {
            plugins[1]["onUnguardable"] = json!("warn");
        }),
    ];
    for (name, damage) in damages {
        fixture.edit("10-pods.conflist", |list| {
            damage(list["plugins"].as_array_mut().unwrap());
        });
        assert!(fixture.paths.ensure().unwrap(), "{name}");
        let types = fixture.types("10-pods.conflist");
        assert_eq!(types[..2], ["bridge", "egress-warden-cni"], "{name}");
        assert_eq!(
            types
                .iter()
                .filter(|one| *one == "egress-warden-cni")
                .count(),
            1,
            "{name}"
        );
    }
    let binary = fixture.root.path().join("bin/egress-warden-cni");
    fs::write(&binary, program("v1")).unwrap();
    assert!(fixture.paths.ensure().unwrap());
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(fixture.paths.ensure().unwrap());
    assert_eq!(fs::read_to_string(&binary).unwrap(), program("v2"));
}

#[test]
fn what_cannot_be_guarded_is_named_and_left_alone() {
    for (name, content, expected) in [
        ("05-cilium.conflist", list(&["cilium-cni"]), "eBPF"),
        ("10-x.conflist", list(&["macvlan"]), "no host side"),
        (
            "10-x.conf",
            json!({"type": "bridge"}),
            "make it a .conflist",
        ),
        ("10-x.conflist", json!({"name": "x"}), "has no `plugins`"),
        ("10-x.conflist", list(&[]), "no main plugin"),
        ("10-x.conflist", json!("text"), "has no `plugins`"),
    ] {
        let fixture = fixture(&[(name, content.clone())]);
        let error = fixture.paths.ensure().unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert_eq!(
            fs::read_to_string(fixture.root.path().join("net.d").join(name)).unwrap(),
            content.to_string()
        );
    }
    assert!(
        fixture(&[])
            .paths
            .ensure()
            .unwrap_err()
            .to_string()
            .contains("no network configuration yet")
    );
}

#[test]
fn removal_leaves_the_chain_as_it_was_and_may_come_twice() {
    let fixture = fixture(&[("10-pods.conflist", list(&["bridge", "portmap"]))]);
    fixture.paths.ensure().unwrap();
    fixture.paths.remove().unwrap();
    assert_eq!(fixture.types("10-pods.conflist"), ["bridge", "portmap"]);
    assert!(!fixture.root.path().join("bin/egress-warden-cni").exists());
    fixture.paths.remove().unwrap();
    assert_eq!(
        fs::read_dir(fixture.root.path().join("net.d"))
            .unwrap()
            .count(),
        1,
        "no temporary file is left"
    );
}

/// Where the main plugin is not known, nothing says that its pods can be guarded.
#[test]
fn a_chain_whose_main_plugin_is_not_known_is_refused_and_left_alone() {
    let nameless = json!({"cniVersion": "1.0.0", "name": "pods", "plugins": [{"own": 1}, {"type": "portmap"}]});
    for (list, wanted) in [
        (nameless, "its first plugin has no `type`"),
        (list(&["egress-warden-cni"]), "has no main plugin"),
        (
            list(&["egress-warden-cni", "cilium-cni"]),
            "`cilium-cni` cannot be guarded",
        ),
    ] {
        let fixture = fixture(&[("10-pods.conflist", list.clone())]);
        let error = fixture.paths.ensure().unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
        let text = fs::read(fixture.root.path().join("net.d/10-pods.conflist")).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&text).unwrap(), list);
    }
}

/// What has our name and is not ours: never replaced, never removed.
#[test]
fn entries_and_programs_of_others_stay_whatever_they_are_called() {
    // The Amazon VPC CNI has a chained plugin `egress-cni` of its own.
    let vpc = json!({"cniVersion": "1.0.0", "name": "aws-cni", "plugins": [
        {"type": "aws-cni"}, {"type": "egress-cni", "enabled": "true", "nodeIP": "192.0.2.1"},
        {"type": "portmap"},
    ]});
    let fixture_of_vpc = fixture(&[("10-aws.conflist", vpc.clone())]);
    let foreign = fixture_of_vpc.root.path().join("bin/egress-cni");
    fs::write(&foreign, "the VPC CNI's").unwrap();
    assert!(fixture_of_vpc.paths.ensure().unwrap());
    assert_eq!(
        fixture_of_vpc.types("10-aws.conflist"),
        ["aws-cni", PLUGIN, "egress-cni", "portmap"]
    );
    fixture_of_vpc.paths.remove().unwrap();
    let text = fs::read(fixture_of_vpc.root.path().join("net.d/10-aws.conflist")).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&text).unwrap(), vpc);
    assert_eq!(fs::read_to_string(&foreign).unwrap(), "the VPC CNI's");

    let entry = json!({"name": "x", "plugins": [{"type": "bridge"}, {"type": PLUGIN, "own": 1}]});
    let fixture_of_entry = fixture(&[("10-x.conflist", entry.clone())]);
    let error = fixture_of_entry.paths.ensure().unwrap_err().to_string();
    assert!(error.contains("is not this program's"), "{error}");
    fixture_of_entry.paths.remove().unwrap();
    let text = fs::read(fixture_of_entry.root.path().join("net.d/10-x.conflist")).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&text).unwrap(), entry);

    let fixture_of_program = fixture(&[("10-x.conflist", list(&["bridge"]))]);
    let foreign = fixture_of_program.root.path().join("bin").join(PLUGIN);
    fs::write(&foreign, "another's").unwrap();
    let error = fixture_of_program.paths.ensure().unwrap_err().to_string();
    assert!(error.contains("is another program of this name"), "{error}");
    assert_eq!(fixture_of_program.types("10-x.conflist"), ["bridge"]);
    fixture_of_program.paths.remove().unwrap();
    assert_eq!(fs::read_to_string(&foreign).unwrap(), "another's");
}
