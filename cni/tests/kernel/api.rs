//! The agent's client against a stand-in for the API server: the exact requests, and what becomes
//! of them when the server is restarted, forgets, refuses, is late, or is another one.

use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use egress_cni::agent::cluster::{ApiServer, AttemptEvent, Cluster as _, ClusterError, TAINT};
use egress_cni::config::ServiceName;
use serde_json::{Value, json};

use crate::api_server::{Fault, NODE, PODS, Request, Stub, events, pod, slices};

/// For what happens soon on a machine that has time.
const PATIENCE: Duration = Duration::from_secs(90);

/// Waits until it is so.
fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Waits for an error that has these words. A request that meets a connection which the server has
/// just closed fails with that, whatever the server would have answered.
fn eventually_fails<T>(expected: &str, mut ask: impl FnMut() -> Result<T, ClusterError>) {
    let mut last = None;
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        let error = ask().err().map(|error| error.to_string());
        if error.as_ref().is_some_and(|error| error.contains(expected)) {
            return;
        }
        last = error.or(last);
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("never an error with {expected:?}; the last one: {last:?}");
}

fn names(client: &ApiServer) -> Result<Vec<String>, ClusterError> {
    let mut names: Vec<String> = client.pods()?.into_iter().map(|pod| pod.name).collect();
    names.sort_unstable();
    Ok(names)
}

fn plain(name: &str) -> Value {
    pod("app", name, "default", &json!({}), false)
}

fn paths(requests: &[Request]) -> Vec<(&str, &str, bool)> {
    requests
        .iter()
        .map(|request| {
            (
                request.verb.as_str(),
                request.path.as_str(),
                request.is_watch(),
            )
        })
        .collect()
}

struct Bed {
    _folder: tempfile::TempDir,
    stub: Stub,
    client: ApiServer,
    doorbell: Receiver<()>,
}

fn bed() -> Bed {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path());
    let (client, doorbell) = stub.client();
    Bed {
        _folder: folder,
        stub,
        client,
        doorbell,
    }
}

#[test]
fn pods_and_endpoints_are_those_that_matter() {
    let bed = bed();
    let (stub, client) = (&bed.stub, &bed.client);
    let labels = json!({"app": "chrony"});
    let mut unlabelled = plain("bare");
    unlabelled["metadata"]
        .as_object_mut()
        .unwrap()
        .remove("labels");
    unlabelled["spec"]
        .as_object_mut()
        .unwrap()
        .remove("hostNetwork");
    // More than fit a page.
    stub.set_pods(&[
        pod("app", "a", "sa-a", &labels, false),
        pod("app", "host", "sa-h", &json!({}), true),
        plain("b"),
        plain("c"),
        unlabelled,
    ]);
    let pods = client.pods().unwrap();
    assert_eq!(names(client).unwrap(), ["a", "b", "bare", "c"]);
    let a = pods.iter().find(|pod| pod.name == "a").unwrap();
    assert_eq!(a.namespace, "app");
    assert_eq!(
        (a.identity.service_account.as_str(), a.identity.uid.as_str()),
        ("sa-a", "u")
    );
    assert_eq!(json!(a.identity.labels), labels);
    let asked = stub.requests();
    let pages: Vec<_> = asked.iter().filter(|request| !request.is_watch()).collect();
    assert_eq!(pages.len(), 3);
    assert!(asked.iter().all(|request| {
        request.path == PODS
            && request.query["fieldSelector"] == "spec.nodeName=node-1"
            && request.authorization == "Bearer secret-token"
    }));

    let service: ServiceName = serde_json::from_value(json!("istio-egress/gw")).unwrap();
    assert!(
        client.endpoints(&service).unwrap().is_empty(),
        "a Service that is not there"
    );
    stub.set_slices("istio-egress", "other", &[json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"port": 1}]})]);
    stub.set_slices("istio-egress", "gw", &[
        json!({
            "metadata": {"name": "one"}, "addressType": "IPv4",
            "endpoints": [{"addresses": ["10.244.1.7"], "conditions": {"ready": true}}, {"addresses": ["10.244.1.8"], "conditions": {"ready": false}}],
            "ports": [{"name": "https", "port": 8443, "protocol": "TCP"}, {"name": "any", "protocol": "TCP"}]
        }),
        json!({"metadata": {"name": "names"}, "addressType": "FQDN", "endpoints": [{"addresses": ["gw.example"]}], "ports": [{"port": 1}]}),
        json!({"metadata": {"name": "empty"}, "addressType": "IPv4", "endpoints": null, "ports": null}),
        json!({"metadata": {"name": "six"}, "addressType": "IPv6", "endpoints": [{"addresses": ["fd00::7"]}], "ports": [{"port": 53, "protocol": "UDP"}]}),
    ]);
    let seen = || {
        let mut text: Vec<String> = client
            .endpoints(&service)
            .unwrap()
            .iter()
            .map(|endpoint| {
                format!(
                    "{} {}:{}",
                    endpoint.protocol.nft(),
                    endpoint.address,
                    endpoint.port
                )
            })
            .collect();
        text.sort_unstable();
        text
    };
    eventually("endpoints by watch", || {
        seen()
            == [
                "tcp 10.244.1.7:8443",
                "tcp 10.244.1.8:8443",
                "udp fd00::7:53",
            ]
    });
    assert!(
        stub.requests()
            .iter()
            .all(|request| request.path == slices("istio-egress") || request.path == PODS)
    );

    // What cannot be read is not passed over: the kernel would not know a gateway's address.
    for port in [
        json!({"port": 70_000}),
        json!({"port": 1, "protocol": "QUIC"}),
    ] {
        stub.set_slices("istio-egress", "gw", &[json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.244.1.7"]}], "ports": [port]})]);
        eventually("an error", || client.endpoints(&service).is_err());
    }
}

#[test]
fn changes_come_by_the_watch_and_nothing_is_listed_again() {
    let bed = bed();
    let (stub, client, doorbell) = (&bed.stub, &bed.client, &bed.doorbell);
    stub.set_pods(&[plain("a")]);
    assert_eq!(names(client).unwrap(), ["a"]);
    doorbell.recv_timeout(PATIENCE).unwrap();
    let mut all = vec![plain("a")];
    for name in ["b", "c", "d"] {
        all.push(plain(name));
        stub.set_pods(&all);
        doorbell.recv_timeout(PATIENCE).unwrap();
        assert_eq!(names(client).unwrap().last().unwrap(), name);
        // After its time a watch is taken up again where it was.
        stub.end_watches();
    }
    stub.set_pods(&[pod("app", "d", "another", &json!({"x": "y"}), false)]);
    eventually("changed and deleted", || {
        let pods = client.pods().unwrap();
        pods.len() == 1 && pods[0].identity.service_account == "another"
    });
    let asked = stub.requests();
    let lists: Vec<_> = asked.iter().filter(|request| !request.is_watch()).collect();
    assert_eq!(lists.len(), 1, "{asked:#?}");
    let watches: Vec<_> = asked.iter().filter(|request| request.is_watch()).collect();
    let version = |request: &Request| request.query["resourceVersion"].parse::<u64>().unwrap();
    assert!(
        watches.len() >= 4 && watches.is_sorted_by_key(|request| version(request)),
        "{watches:#?}"
    );
    assert!(
        watches
            .iter()
            .all(|request| request.query["allowWatchBookmarks"] == "true"
                && request.query["timeoutSeconds"] == "60")
    );

    // The agent has ended: so does the watch.
    let Bed {
        _folder,
        stub,
        client: _client,
        doorbell,
    } = bed;
    drop(doorbell);
    stub.set_pods(&[]);
    eventually("no more watches", || {
        stub.end_watches();
        std::thread::sleep(Duration::from_millis(500));
        stub.requests().is_empty()
    });
}

/// Whatever happens, what is known stays known meanwhile, and afterwards it is what is there.
#[test]
fn every_outage_is_survived_and_mended() {
    type Outage = fn(&Stub);
    let outages: [(&str, Outage); 12] = [
        ("the server is restarted", Stub::disconnect),
        ("watches end", Stub::end_watches),
        ("the server is restarted and has forgotten", |stub| {
            stub.fail(PODS, Fault::Status(503));
            stub.disconnect();
            stub.compact();
        }),
        ("watches say that they are too old", |stub| {
            stub.fail(PODS, Fault::WatchError(410));
            stub.end_watches();
        }),
        ("watches end in errors", |stub| {
            stub.fail(PODS, Fault::WatchError(500));
            stub.end_watches();
        }),
        ("watches are refused as too old", |stub| {
            stub.fail(PODS, Fault::Status(410));
            stub.end_watches();
        }),
        ("pages are gone", |stub| {
            stub.fail(PODS, Fault::PagesExpire);
            stub.disconnect();
            stub.compact();
        }),
        ("answers are cut off", |stub| {
            stub.fail(PODS, Fault::Half);
            stub.disconnect();
        }),
        ("answers are no JSON", |stub| {
            stub.fail(PODS, Fault::Text("<html>"));
            stub.disconnect();
        }),
        ("watches end at once", |stub| {
            stub.fail(PODS, Fault::WatchEnds);
            stub.end_watches();
        }),
        ("watches end within a line", |stub| {
            stub.fail(PODS, Fault::HalfLine);
            stub.end_watches();
        }),
        ("answers are late", |stub| {
            stub.fail(PODS, Fault::Late(Duration::from_secs(1)));
            stub.disconnect();
        }),
    ];
    // All at once: most of the time is spent in pauses.
    std::thread::scope(|scope| {
        for (what, outage) in outages {
            scope.spawn(move || {
                let bed = bed();
                let (stub, client, doorbell) = (&bed.stub, &bed.client, &bed.doorbell);
                let before: Vec<_> = ["a", "b", "c"].map(plain).to_vec();
                stub.set_pods(&before);
                assert_eq!(names(client).unwrap(), ["a", "b", "c"], "{what}");
                eventually("a watch", || stub.requests().iter().any(Request::is_watch));
                outage(stub);
                stub.set_pods(&["b", "c", "d", "e"].map(plain));
                for _ in 0..20 {
                    if let Ok(names) = names(client) {
                        let stayed = |name: &str| names.iter().any(|known| known == name);
                        assert!(stayed("b") && stayed("c"), "{what}: {names:?}");
                    }
                    std::thread::sleep(Duration::from_millis(100));
                }
                stub.heal();
                eventually(what, || {
                    names(client).is_ok_and(|names| names == ["b", "c", "d", "e"])
                });
                assert!(doorbell.try_iter().count() > 1, "{what}: it was told");
                // And it goes on.
                stub.set_pods(&[]);
                eventually(what, || names(client).is_ok_and(|names| names.is_empty()));
            });
        }
    });
}

#[test]
fn what_has_been_out_of_date_for_long_is_an_error() {
    std::thread::scope(|scope| {
        for (fault, expected) in [
            (Fault::Status(500), "status 500"),
            (Fault::Half, "pods of node-1: "),
            (Fault::WatchEnds, "pods of node-1: watches end at once"),
        ] {
            scope.spawn(move || {
                let bed = bed();
                let (stub, client) = (&bed.stub, &bed.client);
                stub.set_pods(&[plain("a")]);
                assert_eq!(names(client).unwrap(), ["a"]);
                let begun = Instant::now();
                stub.fail(PODS, fault);
                stub.disconnect();
                stub.requests();
                eventually("an error", || client.pods().is_err());
                let asked = stub.requests().len();
                let most = usize::try_from(begun.elapsed().as_secs()).unwrap() * 3;
                assert!(
                    asked <= most,
                    "{asked} requests: a server in trouble is spared"
                );
                assert!(
                    begun.elapsed() >= Duration::from_secs(10),
                    "a moment is nothing"
                );
                eventually_fails(expected, || client.pods());
                stub.heal();
                // Nothing has changed, so the watch alone says that all is well.
                eventually("mended", || client.pods().is_ok());
            });
        }
        scope.spawn(|| {
            let bed = bed();
            let (stub, client) = (&bed.stub, &bed.client);
            stub.fail("", Fault::Silence);
            let begun = Instant::now();
            assert!(client.pods().is_err());
            assert!(client.set_tainted(false).is_err());
            assert!(
                begun.elapsed() < Duration::from_mins(1),
                "nobody waits for ever"
            );
            stub.heal();
            stub.disconnect();
            eventually("mended", || {
                client.pods().is_ok() && client.set_tainted(false).is_ok()
            });
        });
    });
}

#[test]
fn answers_that_are_none_are_errors() {
    for (fault, expected) in [
        (
            Fault::Status(403),
            "pods of node-1: status 403: the stub says 403",
        ),
        (Fault::Status(404), "status 404"),
        (Fault::Status(301), "301"),
        (Fault::Text("{\"items\": 1}"), "pods of node-1: "),
        (
            Fault::Text(
                "{\"kind\":\"PodList\",\"apiVersion\":\"v1\",\"metadata\":{},\"items\":[]}",
            ),
            "resourceVersion",
        ),
        (Fault::Text(""), "pods of node-1: "),
        (Fault::Half, "pods of node-1: "),
    ] {
        let bed = bed();
        let (stub, client) = (&bed.stub, &bed.client);
        stub.fail(PODS, fault.clone());
        let begun = Instant::now();
        let error = client.pods().unwrap_err().to_string();
        assert!(error.contains(expected), "{fault:?}: {error}");
        assert!(
            begun.elapsed() < Duration::from_secs(9),
            "{fault:?}: said at once"
        );
    }
    let bed = bed();
    let (stub, client) = (&bed.stub, &bed.client);
    for fault in [
        Fault::Status(403),
        Fault::Status(301),
        Fault::Text(""),
        Fault::Text("{\"spec\": 1}"),
        Fault::Half,
    ] {
        stub.fail(NODE, fault.clone());
        assert!(client.set_tainted(true).is_err(), "{fault:?}");
        assert!(client.set_tainted(false).is_err(), "{fault:?}");
    }
}

#[test]
fn a_token_that_is_refused_is_replaced_by_the_next_one() {
    let bed = bed();
    let (stub, client) = (&bed.stub, &bed.client);
    stub.set_pods(&[plain("a")]);
    assert_eq!(names(client).unwrap(), ["a"]);
    stub.requests();
    stub.want_token("next-token");
    stub.disconnect();
    eventually_fails("status 401", || client.set_tainted(true));
    eventually("a watch that is refused", || {
        stub.requests()
            .iter()
            .any(|request| request.is_watch() && request.authorization == "Bearer secret-token")
    });
    stub.set_pods(&[plain("b")]);
    assert_eq!(names(client).unwrap(), ["a"]);
    // The next request of any kind has it.
    stub.give_token("next-token\n");
    client.set_tainted(true).unwrap();
    eventually("the watch goes on", || {
        names(client).is_ok_and(|names| names == ["b"])
    });
    let last = stub.requests().pop().unwrap();
    assert_eq!(last.authorization, "Bearer next-token");
}

#[test]
fn a_new_authority_is_trusted_and_the_old_one_no_longer() {
    let bed = bed();
    let (stub, client) = (&bed.stub, &bed.client);
    stub.set_pods(&[plain("a")]);
    assert_eq!(names(client).unwrap(), ["a"]);
    let ca = stub.rotate_certificate();
    stub.disconnect();
    eventually_fails("certificate", || client.set_tainted(true));
    stub.set_pods(&[plain("b")]);
    // A file that cannot be used replaces nothing.
    for unusable in [
        "",
        "no certificate",
        "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n",
    ] {
        stub.give_authorities(unusable);
        assert!(client.set_tainted(true).is_err());
    }
    stub.requests();
    stub.give_authorities(&ca);
    client.set_tainted(true).unwrap();
    eventually("the watch goes on", || {
        names(client).is_ok_and(|names| names == ["b"])
    });

    stub.give_authorities(&stub.rotate_certificate().replace("CERTIFICATE", "NOTHING"));
    stub.disconnect();
    assert!(client.set_tainted(false).is_err());
}

#[test]
fn only_the_clusters_own_certificate_authority_is_trusted() {
    let (one, other) = (bed(), bed());
    let access = one.stub.access();
    let reach = |server: &str, ca_file: &std::path::Path| {
        let mut access = access.clone();
        server.clone_into(&mut access.server);
        access.ca_file = ca_file.to_path_buf();
        Stub::try_client(access).and_then(|(client, _)| client.pods())
    };
    assert!(reach(&one.stub.base, &access.ca_file).is_ok());
    let error = reach(&one.stub.base, &other.stub.access().ca_file)
        .unwrap_err()
        .to_string();
    assert!(error.contains("certificate"), "{error}");
    let error = reach(&one.stub.base.replace("https", "http"), &access.ca_file)
        .unwrap_err()
        .to_string();
    assert!(error.contains("TLS only"), "{error}");
    assert!(reach("kubernetes", &access.ca_file).is_err());
    assert!(
        reach(&one.stub.base, &access.token_file).is_err(),
        "no certificate"
    );
    assert!(reach(&one.stub.base, &access.ca_file.with_file_name("gone")).is_err());
    // Without a token nothing is asked.
    one.stub.requests();
    let mut access = one.stub.access();
    access.token_file = access.token_file.with_file_name("gone");
    let (client, _doorbell) = Stub::try_client(access).unwrap();
    assert!(
        client
            .set_tainted(true)
            .unwrap_err()
            .to_string()
            .contains("gone")
    );
    assert!(one.stub.requests().is_empty());
}

#[test]
fn the_taint_comes_and_goes_without_touching_others() {
    let other = json!({"key": "dedicated", "value": "x", "effect": "NoExecute"});
    let ours = json!({"key": TAINT, "effect": "NoSchedule"});
    for (present, wanted, patched) in [
        (json!([other, ours]), false, Some(json!([other]))),
        (json!([other]), true, Some(json!([other, ours]))),
        (json!([]), true, Some(json!([ours]))),
        (Value::Null, true, Some(json!([ours]))),
        (Value::Null, false, None),
        (json!([other]), false, None),
        (json!([ours]), true, None),
    ] {
        let bed = bed();
        let (stub, client) = (&bed.stub, &bed.client);
        stub.set_taints(&present, "41");
        stub.requests();
        client.set_tainted(wanted).unwrap();
        let requests = stub.requests();
        match patched {
            None => assert_eq!(
                paths(&requests),
                [("GET", NODE, false)],
                "{present} needs no write"
            ),
            Some(taints) => {
                assert_eq!(
                    paths(&requests),
                    [("GET", NODE, false), ("PATCH", NODE, false)]
                );
                assert_eq!(requests[1].content_type, "application/merge-patch+json");
                assert_eq!(
                    requests[1].body,
                    json!({"metadata": {"resourceVersion": "41"}, "spec": {"taints": taints}})
                );
                assert_eq!(stub.taints(), taints);
            }
        }
    }
}

/// A guarded node asks for nothing again and again; one that is not guarded is looked at each time.
#[test]
fn a_node_that_was_seen_without_the_taint_is_not_asked_about_at_once() {
    let bed = bed();
    let (stub, client) = (&bed.stub, &bed.client);
    stub.set_taints(&json!([]), "41");
    stub.requests();
    let asked = |tainted: bool| {
        client.set_tainted(tainted).unwrap();
        stub.requests().len()
    };
    for (tainted, requests) in [
        (false, 1),
        (false, 0),
        (true, 2),
        (true, 1),
        (false, 2),
        (false, 0),
    ] {
        assert_eq!(asked(tainted), requests, "{tainted}");
    }
    // A failure is no answer.
    client.set_tainted(true).unwrap();
    stub.fail(NODE, Fault::Status(500));
    assert!(client.set_tainted(false).is_err());
    stub.heal();
    stub.requests();
    client.set_tainted(false).unwrap();
    assert!(!stub.requests().is_empty());
}

#[test]
fn an_attempt_is_an_event_with_a_time_and_a_reporter() {
    let bed = bed();
    let (stub, client) = (&bed.stub, &bed.client);
    let mut attempt = AttemptEvent {
        namespace: "app".to_owned(),
        pod: "a".to_owned(),
        uid: "u".to_owned(),
        message: "udp to 203.0.113.1 port 443 refused".to_owned(),
    };
    client.report(&attempt).unwrap();
    let event = stub.requests().pop().unwrap();
    assert_eq!((event.verb.as_str(), event.path), ("POST", events("app")));
    assert_eq!(
        event.body["regarding"],
        json!({"apiVersion": "v1", "kind": "Pod", "namespace": "app", "name": "a", "uid": "u"}),
        "by the UID `kubectl describe pod` finds it"
    );
    for (field, value) in [
        ("note", attempt.message.as_str()),
        ("reason", "EgressBypassDropped"),
        ("action", "Drop"),
        ("type", "Warning"),
        ("reportingController", "egress-warden.io/cni-agent"),
        ("reportingInstance", "node-1"),
    ] {
        assert_eq!(event.body[field], value, "{field}");
    }
    assert!(
        event.body["eventTime"].is_string(),
        "else kubectl prints <unknown>"
    );

    // Another attempt of the same pod is told as it was, and one of a pod with the longest name.
    attempt.uid.clear();
    attempt.pod = "p".repeat(253);
    attempt.message = "tcp to 203.0.113.2 port 22 refused".to_owned();
    client.report(&attempt).unwrap();
    let event = stub.requests().pop().unwrap();
    assert_eq!(
        (event.verb.as_str(), &event.body["note"]),
        ("POST", &json!(attempt.message))
    );
    assert_eq!(
        event.body["regarding"],
        json!({"apiVersion": "v1", "kind": "Pod", "namespace": "app", "name": attempt.pod}),
        "what is not known is left out"
    );
    stub.fail(&events("app"), Fault::Status(403));
    let error = client.report(&attempt).unwrap_err().to_string();
    assert!(error.contains("status 403"), "{error}");
}
