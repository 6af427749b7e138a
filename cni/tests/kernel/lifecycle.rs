//! The verbs against a real kernel: conformance, repair, and state after kills.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use egress_cni::attachment::AttachmentId;
use serde_json::{Value, json};

use crate::packet::Transport;
use crate::probe::netns_path;
use crate::sandbox::{sandboxed, sh};
use crate::truth_table::{Bench, Location};
use crate::world::{Main, World, call, nft, plugin};

/// The code of an error object.
fn code(result: Result<Value, Value>) -> u64 {
    result
        .expect_err("an error")
        .get("code")
        .and_then(Value::as_u64)
        .expect("a code")
}

/// What other programs have in the kernel, counters aside.
fn foreign_tables() -> String {
    sh(
        "nft -s list table inet somebody-else; nft -s list table ip kube-proxy; iptables-save | grep -v '^[:#]' || true",
    )
}

#[test]
fn every_verb_keeps_kernel_and_records_in_step() {
    sandboxed(
        "lifecycle::every_verb_keeps_kernel_and_records_in_step",
        || {
            let mut world = World::new(Main::Ptp);
            let first = world.pod("app1-ns", "first", false);
            let second = world.pod("app2-ns", "second", false);
            let foreign_before = foreign_tables();
            assert_eq!(world.verb("ADD", &first).unwrap(), first.result);
            let elements = || world.guard().elements_in_kernel().unwrap();

            // ADD again changes nothing, CHECK agrees.
            let before = elements();
            assert_eq!(world.verb("ADD", &first).unwrap(), first.result);
            assert_eq!(elements(), before);
            assert_eq!(
                before,
                world.guard().elements_wanted(&world.node_config()).unwrap()
            );
            assert_eq!(world.verb("CHECK", &first), Ok(Value::Null));

            // CHECK finds a lost element, what somebody else has written, a lost table.
            nft(&format!(
                "delete element inet egress_warden pod4 {{ {} }}",
                first.v4
            ));
            assert_eq!(code(world.verb("CHECK", &first)), 101);
            assert!(world.verb("ADD", &first).is_ok());
            assert_eq!(world.verb("CHECK", &first), Ok(Value::Null));
            let mut bench = Bench::start(&second);
            // Whatever somebody writes into the tables is a difference, and the next ADD, of
            // whatever pod, takes it away.
            for foreign in [
                "insert rule inet egress_warden forward accept".to_owned(),
                "insert rule bridge egress_warden forward accept".to_owned(),
                "add rule inet egress_warden workload_common accept".to_owned(),
                "flush chain inet egress_warden source".to_owned(),
                "add element inet egress_warden cluster4 { 203.0.113.0/24 }".to_owned(),
                "add element inet egress_warden reach4 { 203.0.113.7 . tcp . 22 }".to_owned(),
                "add element bridge egress_warden cluster4 { 203.0.113.0/24 }".to_owned(),
                "flush set inet egress_warden metadata4".to_owned(),
                "flush set inet egress_warden private6".to_owned(),
                format!(
                    "add element inet egress_warden udp4 {{ {} . 203.0.113.7 . 53 }}",
                    first.v4
                ),
                "add chain inet egress_warden mine { type filter hook forward priority -20; }"
                    .to_owned(),
                "add set inet egress_warden mine { type ipv4_addr; }".to_owned(),
            ] {
                let whole = || sh("nft -s list ruleset inet; nft -s list ruleset bridge");
                let sound = whole();
                nft(&foreign);
                assert_ne!(whole(), sound, "{foreign}: nothing changes");
                assert_eq!(code(world.verb("CHECK", &first)), 101, "{foreign}");
                assert_eq!(
                    world.verb("ADD", &first).unwrap(),
                    first.result,
                    "{foreign}"
                );
                assert_eq!(whole(), sound, "{foreign}");
                assert_eq!(world.verb("CHECK", &first), Ok(Value::Null), "{foreign}");
                let inside = bench.reaches(
                    &first,
                    Location::Cluster,
                    "10.244.1.80",
                    Transport::TcpSyn(80),
                );
                let outside = bench.reaches(
                    &first,
                    Location::Outside,
                    "203.0.113.1",
                    Transport::TcpSyn(443),
                );
                assert_eq!((inside, outside), (true, false), "{foreign}");
            }
            drop(bench);
            nft("delete table inet egress_warden");
            assert_eq!(code(world.verb("CHECK", &first)), 101);

            // The next ADD, of whatever pod, brings everything back for all.
            assert!(world.verb("ADD", &second).is_ok());
            assert_eq!(world.verb("CHECK", &first), Ok(Value::Null));
            assert_eq!(world.verb("CHECK", &second), Ok(Value::Null));

            // DEL needs neither the network namespace nor the configuration, and may come twice.
            sh("ip netns del second; mv /run/world/config.json /run/world/config.gone");
            assert_eq!(world.verb("DEL", &second), Ok(Value::Null));
            assert_eq!(world.verb("DEL", &second), Ok(Value::Null));
            assert_eq!(world.guard().elements_in_kernel().unwrap(), before);
            assert_eq!(
                code(world.verb("ADD", &first)),
                7,
                "no configuration, no pod"
            );
            sh(
                "mv /run/world/config.gone /run/world/config.json; nft delete table inet egress_warden; nft delete table bridge egress_warden",
            );
            assert_eq!(
                world.verb("DEL", &first),
                Ok(Value::Null),
                "tables may be gone as well"
            );
            assert!(world.guard().store().all().unwrap().is_empty());

            // A record that does not decode stops no DEL, and leaves nothing either.
            assert!(world.verb("ADD", &first).is_ok());
            sh("echo broken > /run/world/state/pods/first@eth0.json");
            assert_eq!(world.verb("DEL", &first), Ok(Value::Null));
            assert_eq!(
                sh("find /run/world/state/keys /run/world/state/pods -mindepth 1"),
                "",
                "no file is left"
            );
            assert_eq!(
                foreign_tables(),
                foreign_before,
                "others' rules are as they were"
            );
        },
    );
}

#[test]
fn versions_results_and_error_codes_are_the_specifications() {
    sandboxed(
        "lifecycle::versions_results_and_error_codes_are_the_specifications",
        || {
            let mut world = World::new(Main::Ptp);
            let pod = world.pod("app1-ns", "pod", true);
            let env = World::environment(&pod);
            let env: Vec<(&str, &str)> = env
                .iter()
                .map(|(key, value)| (*key, value.as_str()))
                .collect();
            let config = |edit: &dyn Fn(&mut Value)| {
                let mut config = world.chained(Some(&pod.result));
                edit(&mut config);
                config
            };
            let add = |edit: &dyn Fn(&mut Value)| call(&plugin(), "ADD", &env, &config(edit));

            for version in ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
                let result = add(&|config| {
                    config["cniVersion"] = json!(version);
                    config["prevResult"]["cniVersion"] = json!(version);
                    config["prevResult"]["dns"] = json!({"nameservers": ["10.96.0.10"]});
                    config["prevResult"]["fromTheFuture"] = json!([1, 2]);
                })
                .unwrap();
                assert_eq!(result["cniVersion"], version);
                assert_eq!(
                    result["fromTheFuture"],
                    json!([1, 2]),
                    "unknown parts are handed on"
                );
                assert_eq!(result["ips"], pod.result["ips"]);
            }
            assert_eq!(
                code(add(&|config| config["cniVersion"] = json!("0.2.0"))),
                1
            );
            assert_eq!(code(add(&|config| config["surprise"] = json!(true))), 2);
            assert_eq!(
                code(add(&|config| drop(
                    config.as_object_mut().unwrap().remove("prevResult")
                ))),
                7
            );
            assert_eq!(
                code(add(
                    &|config| config["prevResult"] = json!({"ips": [{"address": "10.0.0.300/24"}]})
                )),
                6
            );
            assert_eq!(
                code(add(&|config| config["nft"] = json!("/nonexistent/nft"))),
                11
            );
            assert_eq!(
                code(add(
                    &|config| config["stateDir"] = json!("/proc/nonexistent")
                )),
                5
            );
            std::fs::write("/run/world/bad.json", r#"{"exemptNamespaces": []}"#).unwrap();
            assert_eq!(
                code(add(
                    &|config| config["configFile"] = json!("/run/world/bad.json")
                )),
                7
            );

            let without_env = |verb: &str, config: &Value| call(&plugin(), verb, &[], config);
            assert_eq!(code(without_env("ADD", &config(&|_| ()))), 4);
            let version = without_env("VERSION", &json!({"cniVersion": "0.4.0"})).unwrap();
            assert_eq!(
                version,
                json!({"cniVersion": "0.4.0", "supportedVersions": ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]})
            );
            let v11 = |edit: &dyn Fn(&mut Value)| {
                config(&|config| {
                    config["cniVersion"] = json!("1.1.0");
                    edit(config);
                })
            };
            assert_eq!(without_env("STATUS", &v11(&|_| ())), Ok(Value::Null));
            assert_eq!(
                code(without_env(
                    "STATUS",
                    &v11(&|config| config["configFile"] = json!("/run/world/bad.json"))
                )),
                50
            );
            assert_eq!(
                code(without_env(
                    "STATUS",
                    &v11(&|config| config["nft"] = json!("/nonexistent/nft"))
                )),
                50
            );
            assert_eq!(
                code(without_env("STATUS", &config(&|_| ()))),
                1,
                "STATUS is newer than 1.0.0"
            );

            // GC: what is listed stays, what is of another network stays, the rest goes.
            let other = |config: &mut Value| {
                config["name"] = json!("other-network");
            };
            let env_other: Vec<(&str, &str)> = env
                .iter()
                .map(|(key, value)| {
                    (
                        *key,
                        if *key == "CNI_CONTAINERID" {
                            "kept"
                        } else {
                            value
                        },
                    )
                })
                .collect();
            call(&plugin(), "ADD", &env_other, &config(&other)).unwrap();
            let gc = |valid: Value| {
                without_env(
                    "GC",
                    &v11(&|config| config["cni.dev/valid-attachments"] = valid.clone()),
                )
            };
            assert_eq!(without_env("GC", &v11(&|_| ())), Ok(Value::Null));
            assert_eq!(
                world.guard().store().all().unwrap().len(),
                2,
                "a list that is not there says nothing"
            );
            assert_eq!(
                gc(json!([{"containerID": "pod", "ifname": "eth0"}])),
                Ok(Value::Null)
            );
            assert_eq!(world.guard().store().all().unwrap().len(), 2);
            assert_eq!(gc(Value::Null), Ok(Value::Null), "null is the empty list");
            let left: Vec<String> = world
                .guard()
                .store()
                .all()
                .unwrap()
                .into_iter()
                .map(|record| record.attachment.id.container_id)
                .collect();
            assert_eq!(left, ["kept"]);
            let kernel = world.guard().elements_in_kernel().unwrap();
            assert!(
                kernel.iter().any(|element| element.set == "pod4"),
                "an address that another record uses stays guarded"
            );
        },
    );
}

#[test]
fn what_cannot_be_guarded_does_not_start() {
    sandboxed("lifecycle::what_cannot_be_guarded_does_not_start", || {
        let mut world = World::new(Main::Ptp);
        let pod = world.pod("app1-ns", "pod", false);
        let add = |netns: &str, ifname: &str, policy: &str| {
            let env = [
                ("CNI_CONTAINERID", "x"),
                ("CNI_IFNAME", ifname),
                ("CNI_NETNS", netns),
                ("CNI_ARGS", "K8S_POD_NAMESPACE=app1-ns;K8S_POD_NAME=x"),
            ];
            let mut config = world.chained(Some(&pod.result));
            config["onUnguardable"] = json!(policy);
            call(&plugin(), "ADD", &env, &config)
        };
        let netns = netns_path("pod").display().to_string();
        sh(
            "ip link add link up0 name mac0 type macvlan mode bridge; ip link set mac0 netns pod
            ip -n pod link add inner0 type veth peer name inner1",
        );
        for (netns, ifname, why) in [
            (
                "/proc/self/ns/net",
                "up0",
                "the host's own network namespace",
            ),
            (&netns, "mac0", "no veth"),
            (&netns, "inner0", "a veth whose other end is in the pod"),
            (&netns, "lo", "loopback"),
        ] {
            assert_eq!(code(add(netns, ifname, "fail")), 100, "{why}");
            assert!(add(netns, ifname, "warn").is_ok(), "{why}");
        }
        assert_eq!(code(add(&netns, "missing0", "fail")), 5);
        assert_eq!(code(add("/run/netns/missing", "eth0", "fail")), 5);
        assert!(
            world.guard().store().all().unwrap().is_empty(),
            "nothing was remembered"
        );
    });
}

#[test]
fn configuration_and_identity_reach_running_pods() {
    sandboxed(
        "lifecycle::configuration_and_identity_reach_running_pods",
        || {
            use Transport::{TcpSyn, Udp};
            let mut world = World::new(Main::Bridge);
            let neighbour = world.pod("app2-ns", "neighbour", true);
            let pod = world.pod("clock", "pod", true);
            let rolling = world.pod("rolling-out", "rolling", true);
            let mut bench = Bench::start(&neighbour);
            let outside = |bench: &mut Bench, pod, to, transport| {
                bench.reaches(pod, Location::Outside, to, transport)
            };
            let refresh = |world: &mut World, edit: &dyn Fn(&mut Value)| {
                edit(&mut world.config);
                world.write_config();
                let guard = world.guard();
                let locked = guard.store().lock().unwrap();
                let followed = guard.store().followed().unwrap();
                guard
                    .refresh(&locked, &world.node_config(), &followed)
                    .unwrap();
            };

            // UDP exceptions need the namespace and the label, and follow both.
            assert!(!outside(&mut bench, &pod, "203.0.113.123", Udp(123)));
            world.identify(&pod, "default", &[("app", "chrony")]);
            assert!(outside(&mut bench, &pod, "203.0.113.123", Udp(123)));
            assert!(outside(&mut bench, &pod, "2001:db8:f::123", Udp(123)));
            assert!(!outside(&mut bench, &pod, "203.0.113.123", Udp(124)));
            assert!(!outside(&mut bench, &pod, "203.0.113.123", TcpSyn(123)));
            world.identify(&neighbour, "default", &[("app", "chrony")]);
            assert!(
                !outside(&mut bench, &neighbour, "203.0.113.123", Udp(123)),
                "the label alone is nothing"
            );
            world.identify(&pod, "default", &[]);
            assert!(!outside(&mut bench, &pod, "203.0.113.123", Udp(123)));
            world.identify(&pod, "default", &[("app", "chrony")]);
            assert!(world.verb("DEL", &pod).is_ok());
            assert!(
                !nft("list set inet egress_warden udp4").contains(&pod.v4.to_string()),
                "DEL takes the exception along"
            );
            assert!(world.verb("ADD", &pod).is_ok());

            // Cluster networks, metadata and gateway, without restarting the pod or its counters.
            let counted = world.refused(&pod);
            assert!(!outside(&mut bench, &pod, "10.99.0.1", TcpSyn(443)));
            refresh(&mut world, &|config| {
                config["clusterNetworks"] =
                    json!(["10.244.0.0/16", "fd00:10:244::/56", "10.99.0.0/24"]);
            });
            assert!(outside(&mut bench, &pod, "10.99.0.1", TcpSyn(443)));
            refresh(&mut world, &|config| {
                config["clusterNetworks"] = json!(["10.244.0.0/16", "fd00:10:244::/56"]);
            });
            assert!(!outside(&mut bench, &pod, "10.99.0.1", TcpSyn(443)));
            assert!(world.refused(&pod) >= counted + 2, "counters go on");
            let cluster = |bench: &mut Bench, port| {
                bench.reaches(&pod, Location::Cluster, "10.244.1.80", TcpSyn(port))
            };
            assert!(cluster(&mut bench, 15000));
            refresh(&mut world, &|config| {
                config["gateway"]["addresses"] = json!(["10.244.1.80"]);
            });
            assert!(
                !cluster(&mut bench, 15000) && cluster(&mut bench, 8443),
                "a new gateway address has the gateway's ports only"
            );

            // Roll-out by namespace, and as a whole.
            assert!(!outside(&mut bench, &rolling, "203.0.113.1", TcpSyn(443)));
            refresh(&mut world, &|config| {
                config["countOnlyNamespaces"] = json!(["rolling-out"]);
            });
            world.identify(&rolling, "default", &[]);
            let before = world.refused(&rolling);
            assert!(outside(&mut bench, &rolling, "203.0.113.1", TcpSyn(443)));
            assert_eq!(
                world.refused(&rolling),
                before + 1,
                "what would be dropped is counted"
            );
            assert!(!outside(&mut bench, &pod, "203.0.113.1", TcpSyn(443)));
            refresh(&mut world, &|config| config["mode"] = json!("count"));
            let before = world.refused(&pod);
            assert!(outside(&mut bench, &pod, "203.0.113.1", TcpSyn(443)));
            assert_eq!(world.refused(&pod), before + 1);
            refresh(&mut world, &|config| config["mode"] = json!("enforce"));
            assert!(!outside(&mut bench, &pod, "203.0.113.1", TcpSyn(443)));
        },
    );
}

const PAIRS: usize = 1000;
const WORKERS: usize = 4;

/// One ADD or DEL that may be killed after a random time; whether it said it succeeded.
fn killed_call(verb: &str, slot: usize, id: &str, config: &Value, after: Option<Duration>) -> bool {
    use std::io::Write as _;
    let mut child = Command::new(plugin())
        .env_clear()
        .env("CNI_COMMAND", verb)
        .env("CNI_CONTAINERID", id)
        .env("CNI_IFNAME", "eth0")
        .env("CNI_NETNS", netns_path(&format!("slot{slot}")))
        .env("CNI_ARGS", "K8S_POD_NAMESPACE=app1-ns;K8S_POD_NAME=p")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(config.to_string().as_bytes())
        .unwrap();
    if let Some(after) = after {
        std::thread::sleep(after);
        let _ = child.kill();
    }
    child.wait().unwrap().success()
}

#[test]
fn a_thousand_pairs_with_kills_leave_exactly_the_living_pods() {
    sandboxed(
        "lifecycle::a_thousand_pairs_with_kills_leave_exactly_the_living_pods",
        || {
            let world = World::new(Main::Routed);
            for slot in 0..WORKERS {
                sh(&format!(
                    "ip netns add slot{slot}; ip link add host{slot} type veth peer name eth0 netns slot{slot}"
                ));
            }
            let seed = u64::try_from(
                SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .unwrap()
                    .as_nanos()
                    % 1_000_000_007,
            )
            .unwrap();
            println!("seed {seed}");
            let living: Mutex<BTreeSet<AttachmentId>> = Mutex::new(BTreeSet::new());
            let pair = |number: usize, slot: usize| {
                let mut random =
                    seed ^ (u64::try_from(number).unwrap() + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let mut next = |bound: u64| {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    random % bound
                };
                let id = format!("c{number}");
                // Addresses come back while records of killed calls may still be there.
                let address = format!("10.250.{}.{}", number % 7, 1 + number % 50);
                let mut config = world.chained(None);
                config["prevResult"] = json!({"cniVersion": "1.0.0", "interfaces": [{"name": "eth0", "sandbox": "x"}],
                "ips": [{"address": format!("{address}/32"), "interface": 0}, {"address": format!("fd00:250::{}/128", 1 + number % 50), "interface": 0}]});
                let kill = (next(3) == 0).then(|| Duration::from_micros(next(9000)));
                let added = killed_call("ADD", slot, &id, &config, kill);
                if added && next(20) == 0 {
                    living.lock().unwrap().insert(AttachmentId {
                        container_id: id,
                        ifname: "eth0".to_owned(),
                    });
                    return;
                }
                // The runtime deletes what failed or ended, and again until that succeeds.
                let mut kill = (next(3) == 0).then(|| Duration::from_micros(next(9000)));
                while !killed_call("DEL", slot, &id, &config, kill.take()) {}
            };
            for number in 0..PAIRS / 2 {
                pair(number, 0);
            }
            std::thread::scope(|scope| {
                for worker in 0..WORKERS {
                    let pair = &pair;
                    scope.spawn(move || {
                        (PAIRS / 2 + worker..PAIRS)
                            .step_by(WORKERS)
                            .for_each(|number| pair(number, worker));
                    });
                }
            });
            let guard = world.guard();
            let _locked = guard.store().lock().unwrap();
            let known: BTreeSet<AttachmentId> = guard
                .store()
                .all()
                .unwrap()
                .into_iter()
                .map(|record| record.attachment.id)
                .collect();
            let living = living.into_inner().unwrap();
            assert!(living.len() > 5, "some pods live on");
            assert_eq!(known, living, "records");
            assert_eq!(
                sh("find /run/world/state -name '*.new'"),
                "",
                "half-written files"
            );
            let wanted = guard.elements_wanted(&world.node_config()).unwrap();
            let kernel = guard.elements_in_kernel().unwrap();
            assert_eq!(
                kernel.difference(&wanted).count(),
                0,
                "left over: {:?}",
                kernel.difference(&wanted).collect::<Vec<_>>()
            );
            assert_eq!(
                wanted.difference(&kernel).count(),
                0,
                "missing: {:?}",
                wanted.difference(&kernel).collect::<Vec<_>>()
            );
        },
    );
}
