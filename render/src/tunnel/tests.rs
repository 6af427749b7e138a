use super::{check, choice, cluster_patches, framing_of_name, subsets};
use crate::install::Framing;
use crate::sample;

fn expression(settings: &str) -> String {
    let install = sample::install(&format!("tunnel: {settings}"));
    let choice = choice(&install).unwrap_or_default();
    let text = choice.pointer(
        "/typed_config/on_new_connection/0/format_string/text_format_source/inline_string",
    );
    let text = text.and_then(|text| text.as_str()).unwrap_or("none");
    let host = "egress-gateway.istio-egress.svc.cluster.local";
    text.replace(&format!("'outbound|8443||{host}'"), "HTTP2")
        .replace(&format!("'outbound|8443|http1|{host}'"), "HTTP1")
}

#[test]
fn exceptions_are_asked_in_their_order() {
    for (settings, wanted) in [
        ("{}", "none"),
        ("{framing: HTTP1}", "none"),
        (
            "{exceptions: [{framing: HTTP1, ports: [5432]}]}",
            "%CEL((destination.port == 5432) ? HTTP1 : HTTP2)%",
        ),
        (
            "{framing: HTTP1, exceptions: [{framing: HTTP2, ports: [23, \"7000-7010\"]}]}",
            "%CEL((destination.port == 23 || (destination.port >= 7000 && destination.port <= 7010)) \
             ? HTTP2 : HTTP1)%",
        ),
        (
            "{exceptions: [{framing: HTTP2, ports: [21], networks: [203.0.113.7/32]}, \
             {framing: HTTP1, networks: [203.0.113.0/24, \"2001:db8::7/128\"]}]}",
            "%CEL((destination.port == 21) && (destination.address.startsWith('203.0.113.7:')) \
             ? HTTP2 : (destination.address.startsWith('203.0.113.') || \
             destination.address.startsWith('[2001:db8::7]:')) ? HTTP1 : HTTP2)%",
        ),
        // A network that ends within an octet is each of that octet's values.
        (
            "{exceptions: [{framing: HTTP1, networks: [198.51.100.252/30, 10.254.0.0/15]}]}",
            "%CEL((destination.address.startsWith('198.51.100.252:') || \
             destination.address.startsWith('198.51.100.253:') || \
             destination.address.startsWith('198.51.100.254:') || \
             destination.address.startsWith('198.51.100.255:') || \
             destination.address.startsWith('10.254.') || \
             destination.address.startsWith('10.255.')) ? HTTP1 : HTTP2)%",
        ),
    ] {
        assert_eq!(expression(settings), wanted, "{settings}");
    }
}

/// Where the name is known the first exception that is about it holds.
#[test]
fn a_name_has_a_framing_of_its_own() {
    let install = sample::install(
        "tunnel: {exceptions: [{framing: HTTP2, domainNames: [a.example], ports: [\"20-30\"]}, \
         {framing: HTTP1, domainNames: [a.example, b.example]}, {framing: HTTP1, ports: [5432]}, \
         {framing: HTTP1, networks: [240.241.0.0/16]}]}",
    );
    for (name, port, wanted) in [
        ("a.example", 22, Framing::Http2),
        ("a.example", 31, Framing::Http1),
        ("b.example", 22, Framing::Http1),
        ("c.example", 22, Framing::Http2),
        ("c.example", 5432, Framing::Http1),
    ] {
        let found = framing_of_name(&install.spec.tunnel, name, port);
        assert_eq!(found, wanted, "{name}:{port}");
    }
}

#[test]
fn what_cannot_be_rendered_is_refused() {
    for (settings, wanted) in [
        ("{}", ""),
        ("{windowMiB: 1024}", ""),
        ("{windowMiB: 0}", "1 to 1024"),
        ("{windowMiB: 1025}", "1 to 1024"),
        ("{exceptions: [{framing: HTTP1}]}", "needs `ports`,"),
        (
            "{exceptions: [{framing: HTTP1, domainNames: [db.example]}]}",
            "",
        ),
        (
            "{exceptions: [{framing: HTTP1, domainNames: [\"*.example\"]}]}",
            "whole name",
        ),
        (
            "{exceptions: [{framing: HTTP1, domainNames: [DB.example]}]}",
            "whole name",
        ),
        (
            "{exceptions: [{framing: HTTP1, domainNames: [db.example], networks: [10.0.0.0/8]}]}",
            "or for `domainNames`",
        ),
        (
            "{exceptions: [{framing: HTTP1, networks: [\"2001:db8::/32\"]}]}",
            "whole addresses",
        ),
        (
            "{exceptions: [{framing: HTTP1, networks: [0.0.0.0/1, 128.0.0.0/1, 10.0.0.0/9]}]}",
            "384 texts",
        ),
    ] {
        let install = sample::install(&format!("tunnel: {settings}"));
        let mut problems = Vec::new();
        check(&install.spec.tunnel, &mut problems);
        let messages: Vec<_> = problems.iter().map(crate::RenderError::message).collect();
        let messages = messages.join("\n");
        assert!(messages.contains(wanted), "{settings}: {messages}");
        assert_eq!(messages.is_empty(), wanted.is_empty(), "{settings}");
    }
}

#[test]
fn a_cluster_is_there_for_every_framing_in_use_and_no_other() {
    for (settings, names) in [
        ("{}", &["outbound|8443||"][..]),
        ("{framing: HTTP1}", &["outbound|8443|http1|"]),
        (
            "{exceptions: [{framing: HTTP1, ports: [21]}]}",
            &["outbound|8443||", "outbound|8443|http1|"],
        ),
    ] {
        let install = sample::install(&format!("tunnel: {settings}"));
        let patches = cluster_patches(&install);
        let found = patches.iter().filter_map(|patch| {
            let name = patch.pointer("/match/cluster/name")?.as_str()?;
            Some(name.replace("egress-gateway.istio-egress.svc.cluster.local", ""))
        });
        assert_eq!(found.collect::<Vec<_>>(), names, "{settings}");
        assert_eq!(
            subsets(&install).is_some(),
            names.contains(&"outbound|8443|http1|"),
            "{settings}"
        );
    }
}

#[test]
fn the_connections_window_holds_several_tunnels_and_no_more_than_http2_has() {
    for (mib, stream, connection) in [
        (1_u32, 1_u64 << 20, 4_u64 << 20),
        (64, 64 << 20, 256 << 20),
        (1024, 1024 << 20, (1 << 31) - 1),
    ] {
        let install = sample::install(&format!("tunnel: {{windowMiB: {mib}}}"));
        let patches = cluster_patches(&install);
        let options = patches.first().and_then(|patch| {
            let options = patch.pointer("/patch/value/typed_extension_protocol_options")?;
            let options = options.as_object()?.values().next()?;
            options.pointer("/explicit_http_config/http2_protocol_options")
        });
        let number = |key: &str| options.and_then(|options| options.get(key)?.as_u64());
        assert_eq!(number("initial_stream_window_size"), Some(stream));
        assert_eq!(number("initial_connection_window_size"), Some(connection));
    }
}

#[test]
fn ports_are_ports() {
    let reads = |ports: &str| {
        let text = format!("{{framing: HTTP1, ports: [{ports}]}}");
        serde_saphyr::from_str::<crate::install::Exception>(&text).is_ok()
    };
    for (ports, wanted) in [
        ("22", true),
        ("\"1-65535\"", true),
        ("0", false),
        ("65536", false),
        ("\"9-8\"", false),
        ("\"0-8\"", false),
        ("\"22\"", false),
        ("-1", false),
    ] {
        assert_eq!(reads(ports), wanted, "{ports}");
    }
}
