use serde_json::{Value, json};

use super::{caches, refusals, server_info, version};

fn said(found: Option<crate::RenderError>) -> String {
    found.map_or_else(String::new, |problem| problem.to_string())
}

/// What an Envoy says of itself, and a part of what is said of it; nothing if it will do.
#[test]
fn an_envoy_that_ignores_the_filter_is_found() {
    let old = "it is 1.38: from 1.39 on it leaves forbidden addresses out";
    let unknown = "it does not say its version";
    for (info, wanted) in [
        (json!({"version": "abc/1.40.0/Clean/RELEASE/BoringSSL"}), ""),
        (json!({"version": "abc/1.39.0/Clean/RELEASE/BoringSSL"}), ""),
        (
            json!({"version": "abc/1.39.1-dev/Clean/RELEASE/BoringSSL"}),
            "",
        ),
        (json!({"version": "abc/1.100.0-dev/Modified/DEBUG/x"}), ""),
        (
            json!({"version": "abc/1.38.3/Clean/RELEASE/BoringSSL"}),
            old,
        ),
        (
            json!({"version": "abc/1.4.0/Clean/RELEASE/BoringSSL"}),
            "it is 1.4:",
        ),
        (
            json!({"version": "abc/2.0.0/Clean/RELEASE/BoringSSL"}),
            "it is 2.0:",
        ),
        (json!({"version": "1.40.0"}), unknown),
        (json!({"version": "abc/next/Clean"}), unknown),
        (json!({"version": 1}), unknown),
        (json!({}), unknown),
        (Value::Null, unknown),
    ] {
        let found = said(server_info(&info));
        assert!(found.contains(wanted), "{info}: {found}");
        assert_eq!(found.is_empty(), wanted.is_empty(), "{info}: {found}");
    }
    let of =
        |major: u64, minor: u64| json!({"version": {"major_number": major, "minor_number": minor}});
    for (build, wanted) in [
        (Some(of(1, 40)), ""),
        (Some(of(1, 39)), ""),
        (Some(of(1, 38)), old),
        (Some(json!({"version": {"major_number": 1}})), "it is 1.0:"),
        (Some(json!({})), unknown),
        (None, unknown),
    ] {
        let found = said(version(build.as_ref()));
        assert!(found.contains(wanted), "{build:?}: {found}");
        assert_eq!(found.is_empty(), wanted.is_empty(), "{build:?}: {found}");
    }
}

#[test]
fn every_cache_leaves_addresses_out() {
    let range = json!({"address_prefix": "10.0.0.0", "prefix_len": 8});
    let sound = json!({"name": "a", "resolved_address_filter": {"ranges": [range]}});
    let deep = |cache: Value| json!({"filters": [{"x": {"dns_cache_config": cache}}]});
    let open = "its DNS cache a leaves no address out";
    for (resource, wanted) in [
        (deep(sound.clone()), vec![]),
        (json!({"x": [1, null, "dns_cache_config"]}), vec![]),
        (deep(json!({"name": "a"})), vec![open]),
        (
            deep(json!({"name": "a", "resolved_address_filter": {}})),
            vec![open],
        ),
        (
            deep(json!({"name": "a", "resolved_address_filter": {"ranges": []}})),
            vec![open],
        ),
        (
            deep(
                json!({"name": "a", "resolved_address_filter": {"ranges": [range], "invert_match": true}}),
            ),
            vec![open],
        ),
        (
            json!({"dns_cache_config": sound, "sub_clusters_config": {}}),
            vec!["it has sub_clusters_config"],
        ),
        (
            json!({"sub_cluster_config": {}}),
            vec!["it has sub_cluster_config"],
        ),
    ] {
        let mut found = Vec::new();
        caches(&resource, &mut found);
        assert_eq!(found.len(), wanted.len(), "{resource}: {found:?}");
        for (found, wanted) in found.iter().zip(wanted) {
            assert!(found.starts_with(wanted), "{resource}: {found}");
        }
    }
}

#[test]
fn what_envoy_has_not_taken_is_found() {
    let stats = "cluster_manager.cds.update_rejected: 0\n\
                 cluster_manager.cds.update_success: 4\n\
                 listener_manager.lds.update_rejected: 2\n\
                 server.dynamic_unknown_fields: 12\n";
    let found: Vec<_> = refusals(stats)
        .map(|problem| problem.path().to_owned())
        .collect();
    assert_eq!(
        found,
        [
            "statistics listener_manager.lds.update_rejected",
            "statistics server.dynamic_unknown_fields"
        ]
    );
    assert_eq!(refusals("").count(), 0);
}
