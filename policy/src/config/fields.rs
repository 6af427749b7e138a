//! The fields of the module's configuration, for its reference page. A test holds the reader to
//! them: their names, their order, and which are required.

/// A field.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// What it holds, in words.
    pub form: &'static str,
    /// The value that holds where it is absent; `None` if it is required.
    pub default: Option<&'static str>,
    /// What it means.
    pub meaning: &'static str,
}

/// A mapping of the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Object {
    /// Where it is; empty for the configuration itself.
    pub path: &'static str,
    /// What it is about.
    pub about: &'static str,
    /// Its fields, in the order in which they are read.
    pub fields: &'static [Field],
}

const fn required(name: &'static str, form: &'static str, meaning: &'static str) -> Field {
    Field {
        name,
        form,
        default: None,
        meaning,
    }
}

const fn optional(
    name: &'static str,
    form: &'static str,
    default: &'static str,
    meaning: &'static str,
) -> Field {
    Field {
        name,
        form,
        default: Some(default),
        meaning,
    }
}

/// A plugin instance that judges traffic.
pub const POLICIES: Object = Object {
    path: "",
    about: "The configuration of a plugin instance that judges traffic (`context: http` or `network`).",
    fields: &[
        required(
            "context",
            "`http`, `network`, `ready`",
            "`http` for an HTTP filter, which judges requests and CONNECT tunnels; `network` for a network filter, which judges TLS and TCP; `ready` for the [readiness probe](#readiness-probe).",
        ),
        required(
            "labels",
            "`filterState`, `header`, `none`",
            "Where the caller's labels are read: from Istio's filter state, from the peer metadata header of mTLS connections, or nowhere. With `none`, rules by labels are undecided.",
        ),
        optional(
            "addressCheck",
            "`classes`, `none`",
            "no name is accepted (`address_unchecked`)",
            "Whether the gateway checks what names resolve to: `classes` states that it has a DNS cache for each entry of `addressClasses`, `none` that nothing is checked.",
        ),
        optional(
            "addressClasses",
            "list of [objects](#addressclasses)",
            "required with `addressCheck: classes`",
            "The address classes that the gateway has DNS caches and clusters for. A name of another class is denied (`route_mismatch`).",
        ),
        optional(
            "nat64Prefixes",
            "list of IPv6 networks",
            "none",
            "Network-specific NAT64 prefixes (RFC 6052), in addition to the well-known one.",
        ),
        optional(
            "serverName",
            "`mesh`, `application`",
            "`mesh`",
            "Whose TLS server name an HTTP filter sees: the mesh's own, which is not compared, or the application's, whose TLS ends at this listener and which must agree with Host. Only with `context: http`.",
        ),
        required(
            "ports",
            "list of [objects](#ports)",
            "The clusters that accepted traffic may use.",
        ),
        optional(
            "inspection",
            "list of [objects](#inspection)",
            "none",
            "The inspection proxies that rules name.",
        ),
        optional(
            "refuseEch",
            "boolean",
            "`false`",
            "Deny a TLS ClientHello that has an encrypted part (`ech_refused`).",
        ),
        optional(
            "logAccepts",
            "number",
            "`1`",
            "Log one accepted verdict in this many. 0 logs none. Denials are always logged.",
        ),
        optional(
            "recheckOnUpdate",
            "boolean",
            "`false`",
            "End the streams that began under other policies once this configuration is in force (`policy_replaced`). The setting of the new configuration applies.",
        ),
        optional(
            "limits",
            "[object](#limits)",
            "the defaults",
            "What each identity may use.",
        ),
        required(
            "policies",
            "list of policies, or [object](#policies)",
            "The policies in their order of precedence, in the form of their [files](policy.md), or the hash of those in the module's image. An empty list denies everything (`no_policy`).",
        ),
    ],
};

/// An entry of `addressClasses`.
pub const CLASS: Object = Object {
    path: "addressClasses[]",
    about: "An address class: the addresses that names of some rules must not resolve to.",
    fields: &[
        required(
            "name",
            "string",
            "The name, as in the names of clusters and DNS caches: 1 to 32 of `a-z`, `0-9` and `-`, except `literal` and `unchecked`.",
        ),
        optional(
            "allowPrivate",
            "boolean",
            "`false`",
            "Whether names may resolve to private addresses.",
        ),
        optional(
            "refused",
            "list of networks",
            "none",
            "Further networks that names must not resolve to, sorted and aggregated.",
        ),
    ],
};

/// An entry of `ports`.
pub const PORT: Object = Object {
    path: "ports[]",
    about: "A cluster, or Istio's own clusters of a port. State `cluster`, `port` or both.",
    fields: &[
        required(
            "protocol",
            "`HTTP`, `HTTPS`, `TLS`, `TCP`",
            "What the cluster carries. `HTTPS` leads to the internal listener where the application's TLS ends; it requires `cluster`.",
        ),
        optional(
            "cluster",
            "string",
            "Istio's clusters of `port`",
            "The name of an Envoy cluster.",
        ),
        optional(
            "port",
            "number",
            "the port that the tunnel asks for",
            "The destination's port.",
        ),
        optional(
            "host",
            "host name, pattern or address",
            "any",
            "The only destination of `cluster`.",
        ),
        optional(
            "hosts",
            "list of host names and patterns",
            "any",
            "The names that Envoy resolves for `cluster`, instead of `host`. No other cluster of the same port may lead to them.",
        ),
    ],
};

/// An entry of `inspection`.
pub const INSPECTION: Object = Object {
    path: "inspection[]",
    about: "An inspection proxy.",
    fields: &[
        required("name", "string", "The name that rules use."),
        required("cluster", "string", "The Envoy cluster that leads to it."),
    ],
};

/// `limits`.
pub const LIMITS: Object = Object {
    path: "limits",
    about: "Limits for each identity (namespace and service account) at one gateway pod. Each number is at least 1. A VM counts against its share: the limit divided by `workers` and by the VMs that count the same.",
    fields: &[
        optional(
            "streams",
            "number",
            "`1000`",
            "Open requests and tunnels (`limit_streams`).",
        ),
        optional(
            "undecidedTunnels",
            "number",
            "`200`",
            "Open tunnels that have received no byte yet (`limit_undecided`).",
        ),
        optional(
            "newNamesPerMinute",
            "number",
            "`300`",
            "Names per minute that are asked for the first time (`limit_names`).",
        ),
        optional(
            "names",
            "number",
            "`2000`",
            "Names in the gateway's DNS caches (`limit_names`).",
        ),
        optional(
            "denialLinesPerMinute",
            "number",
            "`300`",
            "Log lines per minute about denials. Further denials are summed up.",
        ),
        optional(
            "nameLifetimeSeconds",
            "number",
            "`300`",
            "Seconds that the DNS caches keep an unused name (`host_ttl`).",
        ),
        optional("workers", "number", "`8`", "Envoy's worker threads."),
        optional(
            "machines",
            "number",
            "`1`",
            "VMs of the module in each worker.",
        ),
        optional(
            "streamMachines",
            "number",
            "`1`",
            "VMs among them that count requests and tunnels.",
        ),
    ],
};

/// `policies` as a mapping.
pub const EMBEDDED: Object = Object {
    path: "policies",
    about: "Policies that the module's image contains.",
    fields: &[required(
        "embedded",
        "SHA-256",
        "Their hash. A module with other policies, or none, rejects the configuration.",
    )],
};

/// The configuration of the readiness probe.
pub const READINESS: Object = Object {
    path: "",
    about: "The configuration of the instance that answers the readiness probe (`context: ready`). It judges no traffic.",
    fields: &[
        required("context", "`ready`", "Always `ready`."),
        required(
            "policyHash",
            "SHA-256",
            "The hash of the policies that every plugin instance has to have.",
        ),
        required(
            "places",
            "list of strings",
            "The names of the plugin instances.",
        ),
    ],
};
