//! Sets and chains. Their number does not depend on pods or destinations.

use std::fmt::Write as _;

use egress_policy::port::OVERLAY_PORTS;

use super::{Family, NFLOG_GROUP, NFLOG_SNAPLEN, TABLE};
use crate::config::{GatewayLimits, Mode};

/// Log lines one pod may cause; the counters count every packet all the same.
const LOG_LIMIT: &str = "limit rate 5/second burst 20 packets";

/// `ICMPv6` that keeps a link working and never leaves it (RFC 4861, RFC 3810). Router
/// advertisements and redirects are absent on purpose: a pod must not steer its neighbours.
const NEIGHBOUR: &str = "icmpv6 type { nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert, \
mld-listener-query, mld-listener-report, mld-listener-done, mld2-listener-report }";

/// The address that a neighbour advertisement is about (RFC 4861, section 4.4), by its place:
/// nftables 1.0.6 has no name for it.
const TARGET: &str = "@th,64,128";

/// What pods may use towards the cluster. Whatever carries packets inside packets is absent:
/// another node might unpack them and send them on under another source address.
const CLUSTER_PROTOCOLS: &str = "{ tcp, udp, sctp, icmp, icmpv6 }";

/// Where such messages go when they stay on the link. To a unicast address elsewhere a host
/// would forward them like any packet. The cluster is here for neighbours on one bridge.
fn neighbour_on_link() -> Vec<String> {
    ["{ ff02::/16, fe80::/10 }", "@cluster6"]
        .map(|to| format!("ip6 daddr {to} {NEIGHBOUR} accept"))
        .into()
}

/// The sets whose elements limit one pod's new connections to the gateway. A look-up in them
/// matches what is *over* the limit.
///
/// Between ports of one bridge there is no connection tracking, so only the rate is limited.
pub(crate) const RATE_SETS: [(Family, &str); 3] = [
    (Family::Inet, "gateway_new4"),
    (Family::Inet, "gateway_new6"),
    (Family::Bridge, "gateway_new_if"),
];

/// The most addresses whose connections are counted; nftables wants a bound.
const MOST_COUNTED: u32 = 65_535;

/// What counts the connections that stand, and matches what is over the limit.
pub(crate) fn count_over(limits: GatewayLimits) -> String {
    format!("ct count over {}", limits.connections)
}

/// Sets of a family: name and definition.
fn sets(family: Family, limits: GatewayLimits) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = Vec::new();
    for (name, extra) in [
        ("guarded_if", ""),
        ("dropped_if", " counter;"),
        ("count_only_if", ""),
    ] {
        all.push((name.to_owned(), format!("type ifname;{extra}")));
    }
    all.push(("logged_if".to_owned(), format!("type ifname; {LOG_LIMIT};")));
    for (v, address) in [(4, "ipv4_addr"), (6, "ipv6_addr")] {
        all.push((format!("own{v}"), format!("type ifname . {address};")));
        for name in ["cluster", "metadata", "gateway"] {
            all.push((
                format!("{name}{v}"),
                format!("type {address}; flags interval;"),
            ));
        }
        for name in ["reach", "gateway_reach"] {
            all.push((
                format!("{name}{v}"),
                format!("type {address} . inet_proto . inet_service; flags interval;"),
            ));
        }
        if family == Family::Inet {
            for name in ["pod", "gateway_pod", "count_only"] {
                all.push((format!("{name}{v}"), format!("type {address};")));
            }
            for name in ["service", "private"] {
                all.push((
                    format!("{name}{v}"),
                    format!("type {address}; flags interval;"),
                ));
            }
            all.push((format!("dropped{v}"), format!("type {address}; counter;")));
            all.push((
                format!("logged{v}"),
                format!("type {address}; {LOG_LIMIT};"),
            ));
            all.push((
                format!("udp{v}"),
                format!("type {address} . {address} . inet_service; flags interval;"),
            ));
        }
    }
    for (_, name) in RATE_SETS.iter().filter(|(of, _)| *of == family) {
        let key = match name {
            name if name.ends_with('4') => "ipv4_addr",
            name if name.ends_with('6') => "ipv6_addr",
            _ => "ifname",
        };
        let over = format!(
            "limit rate over {}/second burst {} packets",
            limits.new_connections_per_second, limits.burst
        );
        all.push(((*name).to_owned(), format!("type {key}; {over};")));
    }
    if family == Family::Inet {
        for (v, address) in [(4, "ipv4_addr"), (6, "ipv6_addr")] {
            all.push((format!("limited{v}"), format!("type {address}; counter;")));
            // Filled by the rule itself. A set that is *defined* with `ct count` gives up the
            // kernel's hold on connection tracking once too often when it goes (Linux 6.18), and
            // every rule of this node that asks for a connection's state is then without it.
            all.push((
                format!("gateway_open{v}"),
                format!("type {address}; size {MOST_COUNTED}; flags dynamic;"),
            ));
        }
    }
    if family == Family::Bridge {
        all.push(("limited_if".to_owned(), "type ifname; counter;".to_owned()));
        all.push(("gateway_if".to_owned(), "type ifname;".to_owned()));
        // The addresses a neighbour advertisement may be about, as the packet holds them.
        all.push((
            "advertised6".to_owned(),
            format!("typeof iifname . {TARGET};"),
        ));
    }
    all
}

/// Chains of a family: name and, for base chains, the hook.
pub(super) fn chains(family: Family) -> &'static [(&'static str, &'static str)] {
    match family {
        // After defragmentation (-400), before connection tracking (-200) for the source
        // check; before every usual filter chain for the others.
        Family::Inet => &[
            ("refuse_source", ""),
            ("refuse", ""),
            ("refuse_service", ""),
            ("refuse_limit", ""),
            ("source", ""),
            ("workload_common", ""),
            ("workload_forward", ""),
            ("workload_node", ""),
            ("gateway_common", ""),
            ("gateway_forward", ""),
            ("gateway_node", ""),
            (
                "prerouting",
                "type filter hook prerouting priority -300; policy accept;",
            ),
            (
                "forward",
                "type filter hook forward priority -10; policy accept;",
            ),
            (
                "input",
                "type filter hook input priority -10; policy accept;",
            ),
        ],
        Family::Bridge => &[
            ("refuse_source", ""),
            ("refuse", ""),
            ("refuse_limit", ""),
            ("source", ""),
            ("first_fragment", ""),
            ("later_fragment", ""),
            ("workload_lateral", ""),
            ("gateway_lateral", ""),
            (
                "prerouting",
                "type filter hook prerouting priority -310; policy accept;",
            ),
            (
                "forward",
                "type filter hook forward priority -210; policy accept;",
            ),
        ],
    }
}

/// Whether the structure of both tables, as `nft -t` lists it, declares nothing but the node guard's
/// own sets and chains.
pub(super) fn only_ours(structure: &str) -> bool {
    let sets = |family| sets(family, GatewayLimits::default());
    let sets = Family::ALL.into_iter().flat_map(sets);
    let sets: Vec<String> = sets.map(|(name, _)| name).collect();
    let declared = structure
        .lines()
        .filter_map(|line| line.strip_prefix('\t')?.strip_suffix(" {"))
        .filter(|line| !line.starts_with('\t'));
    declared
        .map(|line| line.split_once(' ').unwrap_or((line, "")))
        .all(|(kind, name)| match kind {
            "set" => sets.iter().any(|own| own == name),
            "chain" => {
                let mut own = Family::ALL.into_iter().flat_map(chains);
                own.any(|(own, _)| *own == name)
            }
            _ => false,
        })
}

/// Declares tables, sets and chains; what exists already stays as it is.
pub(super) fn declare(text: &mut String, limits: GatewayLimits) {
    for family in Family::ALL {
        let _ = writeln!(text, "add table {family} {TABLE}");
        for (name, definition) in sets(family, limits) {
            let _ = writeln!(text, "add set {family} {TABLE} {name} {{ {definition} }}");
        }
        for (name, hook) in chains(family) {
            let body = if hook.is_empty() {
                String::new()
            } else {
                format!(" {{ {hook} }}")
            };
            let _ = writeln!(text, "add chain {family} {TABLE} {name}{body}");
        }
    }
}

/// Writes the rules into the (empty) chains.
pub(super) fn rules(text: &mut String, mode: Mode, limits: GatewayLimits) {
    let (last, unreachable, pass_by) = match mode {
        Mode::Enforce => ("drop", "reject", "drop"),
        Mode::Count => ("accept", "accept", "continue"),
    };
    let routed = [
        ("refuse_source", refuse_link("source", last)),
        ("refuse", refuse_pod(last)),
        ("refuse_service", refuse_pod(unreachable)),
        ("refuse_limit", refuse_limited(last)),
        ("source", source()),
        ("workload_common", workload_common(limits)),
        ("workload_forward", workload_forward()),
        ("workload_node", node("workload_common")),
        ("gateway_common", gateway_common()),
        ("gateway_forward", gateway_forward()),
        ("gateway_node", node("gateway_common")),
        ("prerouting", lines(&["iifname @guarded_if goto source"])),
        ("forward", forward(pass_by)),
        ("input", dispatch("workload_node", "gateway_node")),
    ];
    for (chain, body) in routed {
        write_chain(text, Family::Inet, chain, &body);
    }
    let bridged = [
        ("refuse_source", refuse_link("source", last)),
        ("refuse", refuse_link("lateral", last)),
        (
            "refuse_limit",
            lines(&["iifname @limited_if", "iifname @count_only_if accept", last]),
        ),
        ("source", arp_and_source()),
        (
            "first_fragment",
            lines(&["th dport 0-65535 return", "goto refuse"]),
        ),
        ("later_fragment", later_fragment()),
        ("workload_lateral", workload_lateral()),
        ("gateway_lateral", gateway_lateral()),
        ("prerouting", lines(&["iifname @guarded_if goto source"])),
        (
            "forward",
            lines(&[
                "iifname @gateway_if goto gateway_lateral",
                "iifname @guarded_if goto workload_lateral",
            ]),
        ),
    ];
    for (chain, body) in bridged {
        write_chain(text, Family::Bridge, chain, &body);
    }
}

fn write_chain(text: &mut String, family: Family, chain: &str, rules: &[String]) {
    for rule in rules {
        let _ = writeln!(text, "add rule {family} {TABLE} {chain} {rule}");
    }
}

fn lines(rules: &[&str]) -> Vec<String> {
    rules.iter().map(|rule| (*rule).to_owned()).collect()
}

/// The same rule for both address families: `IP` becomes the header, `@SET~` the set.
fn both(rule: &str) -> [String; 2] {
    [
        rule.replace("IP ", "ip ").replace('~', "4"),
        rule.replace("IP ", "ip6 ").replace('~', "6"),
    ]
}

fn log(reason: &str) -> String {
    format!("log prefix \"egress-warden {reason}\" group {NFLOG_GROUP} snaplen {NFLOG_SNAPLEN}")
}

/// A look-up with no statement behind it is enough to count: the counter is in the element.
fn refuse_link(reason: &str, last: &str) -> Vec<String> {
    vec![
        "iifname @dropped_if".to_owned(),
        format!("iifname @logged_if {}", log(reason)),
        "iifname @count_only_if accept".to_owned(),
        last.to_owned(),
    ]
}

fn refuse_pod(last: &str) -> Vec<String> {
    let mut rules = Vec::new();
    rules.extend(both("IP saddr @dropped~"));
    rules.extend(both(&format!("IP saddr @logged~ {}", log("destination"))));
    rules.extend(both("IP saddr @count_only~ accept"));
    rules.push(last.to_owned());
    rules
}

/// What is over a limit is no attempt to get round anything: it has a counter of its own and is
/// not logged.
fn refuse_limited(last: &str) -> Vec<String> {
    let mut rules = Vec::new();
    rules.extend(both("IP saddr @limited~"));
    rules.extend(both("IP saddr @count_only~ accept"));
    rules.push(last.to_owned());
    rules
}

/// Not even with the pod's own address may it advertise routes or redirect (CVE-2020-10749).
const STEERING: &str =
    "meta protocol ip6 icmpv6 type { nd-router-advert, nd-redirect } goto refuse_source";

/// A packet that names further hops of its own is judged by the first of them only (RFC 791
/// source routes, RFC 8200 routing headers).
const SOURCE_ROUTES: [&str; 3] = [
    "meta protocol ip ip option lsrr exists goto refuse_source",
    "meta protocol ip ip option ssrr exists goto refuse_source",
    "meta protocol ip6 exthdr rt exists goto refuse_source",
];

/// The pod's own addresses, and neighbour discovery from link-local or no address.
fn source() -> Vec<String> {
    let mut rules = lines(&[STEERING]);
    rules.extend(lines(&SOURCE_ROUTES));
    rules.extend(both("iifname . IP saddr @own~ accept"));
    rules.push(format!("ip6 saddr {{ ::, fe80::/10 }} {NEIGHBOUR} accept"));
    rules.push("goto refuse_source".to_owned());
    rules
}

/// On a bridge also ARP and neighbour advertisements: only for the pod's own addresses, so
/// that no pod takes over the address of another pod or of the node. Sender 0.0.0.0 is an
/// address probe (RFC 5227). Link-local addresses are not known at ADD and may be anybody's.
///
/// Rules of the bridge family say `meta protocol` themselves: where they do not, `nft` looks at
/// the frame's type field, in which a VLAN tag, the pod's own or the bridge's, hides it.
fn arp_and_source() -> Vec<String> {
    let mut rules = lines(&[
        "ether type { 8021q, 8021ad } goto refuse_source",
        "meta protocol arp iifname . arp saddr ip @own4 accept",
        "meta protocol arp arp saddr ip 0.0.0.0 accept",
    ]);
    rules.push(format!(
        "meta protocol ip6 icmpv6 type nd-neighbor-advert @th,64,10 != 0x3fa iifname . {TARGET} != @advertised6 goto refuse_source"
    ));
    rules.extend(source());
    rules
}

/// A reply is decided by connection tracking's direction, never by `established`: a packet
/// in the original direction is judged anew each time, so that a tightened rule also ends
/// flows that are already running.
fn replies() -> Vec<String> {
    lines(&["ct direction reply accept", "ct state invalid goto refuse"])
}

/// New TCP state may only come from a SYN: otherwise the outside end of a flow that was
/// running before the node guard could pass for its originator, and the pod's half for replies
/// (`nf_conntrack_tcp_loose`). `pass_by` is what becomes of it.
fn forward(pass_by: &str) -> Vec<String> {
    let mut rules = Vec::new();
    for class in ["pod", "gateway_pod"] {
        rules.extend(both(&format!(
            "ct state new tcp flags & (syn | ack) != syn IP saddr != @cluster~ IP daddr @{class}~ IP daddr != @count_only~ counter {pass_by}"
        )));
    }
    rules.extend(dispatch("workload_forward", "gateway_forward"));
    rules
}

fn dispatch(workload: &str, gateway: &str) -> Vec<String> {
    let mut rules = Vec::new();
    rules.extend(both(&format!("IP saddr @pod~ goto {workload}")));
    rules.extend(both(&format!("IP saddr @gateway_pod~ goto {gateway}")));
    rules
}

fn workload_common(limits: GatewayLimits) -> Vec<String> {
    let mut rules = replies();
    rules.extend(both("IP daddr @metadata~ goto refuse"));
    // The rate first: what it refuses need not be counted as standing.
    let new = "ct state new meta l4proto tcp IP daddr @gateway~";
    rules.extend(both(&format!(
        "{new} IP saddr @gateway_new~ goto refuse_limit"
    )));
    rules.extend(both(&format!(
        "{new} add @gateway_open~ {{ IP saddr {} }} goto refuse_limit",
        count_over(limits)
    )));
    rules.extend(both("IP daddr . meta l4proto . th dport @reach~ accept"));
    rules.extend(both(
        "meta l4proto udp IP saddr . IP daddr . udp dport @udp~ accept",
    ));
    rules
}

/// A resolver or a gateway port that `reach` does not name is closed although it lies in the
/// cluster networks. A Service address that is still there when the packet is forwarded has
/// no endpoint.
fn workload_forward() -> Vec<String> {
    let mut rules = lines(&["jump workload_common"]);
    rules.extend(no_resolver_no_tunnel());
    rules.extend(both("IP daddr @gateway~ goto refuse"));
    rules.extend(both("IP daddr @cluster~ accept"));
    rules.extend(both("IP daddr @service~ goto refuse_service"));
    rules.push("goto refuse".to_owned());
    rules
}

/// What is closed even to an address in the cluster networks.
fn no_resolver_no_tunnel() -> Vec<String> {
    vec![
        format!("meta l4proto != {CLUSTER_PROTOCOLS} goto refuse"),
        "meta l4proto { tcp, udp } th dport { 53, 853 } goto refuse".to_owned(),
        format!(
            "udp dport {{ {} }} goto refuse",
            OVERLAY_PORTS.map(|port| port.to_string()).join(", ")
        ),
    ]
}

/// To the node itself: only what `common` names. The node's own addresses on a pod bridge
/// lie in the pod network, so the cluster networks do not count here, and a proxy on the
/// node is no way out.
fn node(common: &str) -> Vec<String> {
    vec![
        format!("{NEIGHBOUR} accept"),
        format!("jump {common}"),
        "goto refuse".to_owned(),
    ]
}

fn gateway_common() -> Vec<String> {
    let mut rules = replies();
    rules.extend(both("IP daddr @metadata~ goto refuse"));
    rules.extend(both(
        "IP daddr . meta l4proto . th dport @gateway_reach~ accept",
    ));
    rules
}

fn gateway_forward() -> Vec<String> {
    let mut rules = neighbour_on_link();
    rules.push("jump gateway_common".to_owned());
    for set in ["private", "cluster", "service"] {
        rules.extend(both(&format!("IP daddr @{set}~ goto refuse")));
    }
    rules.push("accept".to_owned());
    rules
}

/// A fragment that is not the first has no ports, and what stands in their place is the
/// sender's: the kernel's quick path for header fields reads it all the same. Without the first
/// one, which is judged, it is nothing.
fn later_fragment() -> Vec<String> {
    let mut rules = both("IP daddr @gateway~ goto refuse").to_vec();
    rules.extend(both("IP daddr @cluster~ accept"));
    rules.push("goto refuse".to_owned());
    rules
}

/// Port to port there is no connection tracking: only a SYN can open a TCP connection, so
/// everything else of TCP may pass to the gateway as well, as answers to its own requests. Nor
/// are fragments put together: a first one must reach to where its ports are (RFC 7112).
fn lateral(reach: &str, later_fragment: &str, limits: &[String]) -> Vec<String> {
    let mut rules = vec![
        "meta protocol arp accept".to_owned(),
        format!("meta protocol ip ip frag-off & 0x1fff != 0 goto {later_fragment}"),
        format!("meta protocol ip6 frag frag-off != 0 goto {later_fragment}"),
        format!("meta protocol ip6 {NEIGHBOUR} accept"),
        "meta protocol ip6 frag frag-off 0 jump first_fragment".to_owned(),
    ];
    rules.extend(both("IP daddr @metadata~ goto refuse"));
    rules.extend_from_slice(limits);
    rules.extend(both(&format!(
        "IP daddr . meta l4proto . th dport @{reach}~ accept"
    )));
    rules
}

fn workload_lateral() -> Vec<String> {
    let limits = both(
        "IP daddr @gateway~ tcp flags & (syn | ack) == syn iifname @gateway_new_if goto refuse_limit",
    );
    let mut rules = lateral("reach", "later_fragment", &limits);
    rules.extend(no_resolver_no_tunnel());
    rules.extend(both(
        "IP daddr @gateway~ tcp flags & (syn | ack) != syn accept",
    ));
    rules.extend(both("IP daddr @gateway~ goto refuse"));
    rules.extend(both("IP daddr @cluster~ accept"));
    rules.push("goto refuse".to_owned());
    rules
}

fn gateway_lateral() -> Vec<String> {
    let mut rules = lateral("gateway_reach", "refuse", &[]);
    rules.extend(both(
        "IP daddr @cluster~ tcp flags & (syn | ack) != syn accept",
    ));
    rules.push("goto refuse".to_owned());
    rules
}
