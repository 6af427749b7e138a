use serde_json::{Value, json};

use crate::install::Install;
use crate::{Rendered, render};

const INSTALL: &str = include_str!("../../../../istio/reference/install.yaml");
const POLICY: &str = include_str!("../../../../cases/policies/reference.yaml");

fn rendered(longest: u32, deployment: Value) -> Result<Rendered, String> {
    let mut install = Install::read(INSTALL).unwrap();
    install.spec.gateway.max_stream_seconds = longest;
    install.spec.gateway.deployment = Some(serde_json::from_value(deployment).unwrap());
    let policy = serde_saphyr::from_str(POLICY).unwrap();
    render(&install, &[policy]).map_err(|problems| {
        let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
        problems.join("\n")
    })
}

fn container(rendered: &Rendered, pointer: &str) -> Value {
    let mut objects = rendered.objects().iter();
    let deployment = objects
        .find(|object| object.kind() == "Deployment")
        .unwrap();
    let pod = deployment
        .manifest()
        .pointer("/spec/template/spec")
        .unwrap();
    pod.pointer(pointer).unwrap().clone()
}

/// Workers, what is stated, and what is asked for or why it is refused.
#[test]
fn memory_is_what_the_machines_need_and_less_is_refused() {
    for (workers, stated, wanted) in [
        (2, Value::Null, Ok("512Mi 1Gi")),
        (40, Value::Null, Ok("512Mi 1Gi")),
        (64, Value::Null, Ok("640Mi 1280Mi")),
        (128, Value::Null, Ok("960Mi 1920Mi")),
        (32, json!({"limits": {"memory": "1Gi"}}), Ok("- 1Gi")),
        (32, json!({"requests": {"cpu": "4"}}), Ok("- -")),
        (
            64,
            json!({"requests": {"memory": "512Mi"}}),
            Err("requests.memory: 64 workers make 132 machines"),
        ),
        (
            200,
            json!({"limits": {"memory": "1Gi"}}),
            Err("limits.memory: 200 workers make 404 machines"),
        ),
        (
            2,
            json!({"limits": {"memory": "270M"}}),
            Err("limits.memory: 2 workers"),
        ),
        (2, json!({"limits": {"memory": "300M"}}), Ok("- 300M")),
        (
            2,
            json!({"limits": {"memory": 300_000_000}}),
            Ok("- 300000000"),
        ),
        (
            2,
            json!({"limits": {"memory": "1GB"}}),
            Err("limits.memory: \"1GB\" is no quantity"),
        ),
        (
            2,
            json!({"limits": {"memory": "much"}}),
            Err("limits.memory: \"much\" is no quantity"),
        ),
        (
            2,
            json!({"limits": {"memory": "99999999999999999999Ti"}}),
            Err("is no quantity"),
        ),
    ] {
        let mut deployment = json!({"workers": workers});
        if !stated.is_null() {
            deployment["resources"] = stated.clone();
        }
        let found = rendered(3600, deployment).map(|rendered| {
            let resources = container(&rendered, "/containers/0/resources");
            ["requests", "limits"]
                .map(|kind| match &resources[kind]["memory"] {
                    Value::Null => "-".to_owned(),
                    Value::String(text) => text.clone(),
                    other => other.to_string(),
                })
                .join(" ")
        });
        match (&found, &wanted) {
            (Ok(found), Ok(wanted)) => assert_eq!(found, wanted, "{workers} {stated}"),
            (Err(found), Err(wanted)) => {
                assert!(found.contains(wanted), "{workers} {stated}: {found}");
            }
            _ => panic!("{workers} {stated}: {found:?}"),
        }
    }
}

/// Whether the image carries the policies, whether Istio's agent fetches it; how many machines of a
/// worker the module is told that names and lines, and requests and tunnels, are counted in.
#[test]
fn the_module_divides_what_several_machines_of_a_worker_count() {
    let carried = "0".repeat(64);
    for (policy, url, machines, stream_machines) in [
        (None, "oci://registry.example/warden", 2, 1),
        (None, "file:///module.wasm", 3, 2),
        (Some(&carried), "oci://registry.example/warden", 1, 1),
        (Some(&carried), "file:///module.wasm", 3, 2),
    ] {
        let mut install = Install::read(INSTALL).unwrap();
        install.spec.module.url = url.to_owned();
        install.spec.module.policy = policy.cloned();
        let told = install.module_limits();
        let what = format!("{policy:?} {url}");
        assert_eq!(told["machines"], machines, "{what}");
        assert_eq!(told["streamMachines"], stream_machines, "{what}");
        // Of those that memory is planned for, the one that answers probes alone counts nothing.
        let planned = super::machines(&install, 1) / 3;
        assert!(planned >= machines, "{what}: {planned}");
        assert!(planned <= machines + 1, "{what}: {planned}");
    }
}

/// A pod that goes has to be able to end its longest stream.
#[test]
fn a_drain_that_would_cut_streams_is_refused() {
    for (longest, drain, wanted) in [
        (3600, None, Some(3630)),
        (86_400, None, Some(86_430)),
        (86_400, Some(86_400), Some(86_430)),
        (60, Some(120), Some(150)),
        (86_400, Some(60), None),
        (3600, Some(3599), None),
    ] {
        let deployment = match drain {
            Some(seconds) => json!({"drainSeconds": seconds}),
            None => json!({}),
        };
        let found = rendered(longest, deployment);
        if let Some(grace) = wanted {
            let found = container(&found.unwrap(), "/terminationGracePeriodSeconds");
            assert_eq!(found, grace, "{longest} {drain:?}");
        } else {
            let problem = found.unwrap_err();
            let place = "spec.gateway.deployment.drainSeconds: ";
            assert!(problem.starts_with(place), "{problem}");
        }
    }
}
