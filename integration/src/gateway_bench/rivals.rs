//! The same rules for other filters of Envoy: RBAC, linear and as a matcher tree, and Lua.
//!
//! Each gets what its user would write by hand, as cheap as it can be: identity by prefix or whole,
//! the label from a header, the name by its cheapest matcher.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

/// One rule of the realistic policy, in words that every rival knows.
#[derive(Clone, Debug)]
struct Plain {
    name: String,
    /// The namespace's part of the identity, up to the slash.
    namespace: String,
    /// The whole identity, if the rule names an account.
    identity: Option<String>,
    /// The label `app`, if the rule names it.
    app: Option<String>,
    host: HostMatch,
    method: Option<String>,
    path: Option<String>,
}

#[derive(Clone, Debug)]
enum HostMatch {
    Exact(String),
    Suffix(String),
    Regex(String),
}

impl HostMatch {
    fn of(destination: &Value) -> Self {
        let first = |field: &str| destination.get(field)?.get(0)?.as_str();
        let Some(name) = first("domainNames") else {
            // What is dialled by its number has it as authority.
            let network = first("networks").unwrap_or_default();
            let address = network.split('/').next().unwrap_or_default();
            return Self::Exact(format!("{address}:22"));
        };
        match name.strip_prefix('*') {
            Some(suffix) => Self::Suffix(suffix.to_owned()),
            None if name.contains('*') => {
                Self::Regex(name.replace('.', "\\.").replace('*', "[^.]*"))
            }
            None => Self::Exact(name.to_owned()),
        }
    }

    /// As Envoy's and xDS's string matcher, which agree here.
    fn matcher(&self) -> Value {
        match self {
            Self::Exact(text) => json!({"exact": text}),
            Self::Suffix(text) => json!({"suffix": text}),
            Self::Regex(text) => json!({"safe_regex": {"google_re2": {}, "regex": text}}),
        }
    }
}

fn plain(policy: &Value) -> Vec<Plain> {
    let rules = policy
        .pointer("/spec/tiers/0/rules")
        .and_then(Value::as_array);
    rules.into_iter().flatten().filter_map(one).collect()
}

fn one(rule: &Value) -> Option<Plain> {
    const DOMAIN: &str = "spiffe://cluster.local/ns";
    let (from, to) = (rule.pointer("/from/0")?, rule.pointer("/to/0")?);
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    let account = text(from.pointer("/serviceAccounts/0"));
    let account = account.as_deref().and_then(|both| both.split_once('/'));
    let namespace = match account {
        Some((namespace, _)) => namespace.to_owned(),
        None => text(from.pointer("/namespaces/0"))?,
    };
    let path = text(to.pointer("/paths/0"));
    Some(Plain {
        name: text(rule.get("name"))?,
        identity: account.map(|(_, account)| format!("{DOMAIN}/{namespace}/sa/{account}")),
        namespace: format!("{DOMAIN}/{namespace}/"),
        app: text(from.pointer("/matchLabels/app")),
        host: HostMatch::of(to),
        method: text(to.pointer("/methods/0")),
        path: path.map(|path| path.trim_end_matches('*').to_owned()),
    })
}

/// Envoy's RBAC, a policy a rule.
#[must_use]
pub(super) fn rbac(policy: &Value) -> Value {
    let policies: BTreeMap<_, _> = plain(policy)
        .into_iter()
        .map(|rule| (rule.name.clone(), rbac_policy(&rule)))
        .collect();
    json!({
        "name": "rival",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
            "rules": {"action": "ALLOW", "policies": policies},
        },
    })
}

fn rbac_policy(rule: &Plain) -> Value {
    let name = match &rule.identity {
        Some(identity) => json!({"exact": identity}),
        None => json!({"prefix": rule.namespace}),
    };
    let mut principals = vec![json!({"authenticated": {"principal_name": name}})];
    if let Some(app) = &rule.app {
        principals.push(json!({"header": {"name": "x-app", "string_match": {"exact": app}}}));
    }
    let host = rule.host.matcher();
    let mut permissions = vec![json!({"header": {"name": ":authority", "string_match": host}})];
    if let Some(method) = &rule.method {
        permissions.push(json!({"header": {"name": ":method", "string_match": {"exact": method}}}));
    }
    if let Some(path) = &rule.path {
        permissions.push(json!({"url_path": {"path": {"prefix": path}}}));
    }
    json!({
        "permissions": [{"and_rules": {"rules": permissions}}],
        "principals": [{"and_ids": {"ids": principals}}],
    })
}

/// RBAC with a matcher tree: a trie over the identity's namespace, and the namespace's own rules in a
/// list behind it.
#[must_use]
pub(super) fn rbac_tree(policy: &Value) -> Value {
    let mut spaces: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for rule in plain(policy) {
        let place = spaces.entry(rule.namespace.clone()).or_default();
        place.push(tree_rule(&rule));
    }
    let map: BTreeMap<_, _> = spaces
        .into_iter()
        .map(|(namespace, rules)| {
            (
                namespace,
                json!({"matcher": {"matcher_list": {"matchers": rules}}}),
            )
        })
        .collect();
    json!({
        "name": "rival",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
            "matcher": {
                "matcher_tree": {"input": uri_san(), "prefix_match_map": {"map": map}},
                "on_no_match": action("none", "DENY"),
            },
        },
    })
}

fn uri_san() -> Value {
    json!({
        "name": "uri-san",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.matching.common_inputs.ssl.v3.UriSanInput",
        },
    })
}

fn header(name: &str) -> Value {
    json!({
        "name": name,
        "typed_config": {
            "@type": "type.googleapis.com/envoy.type.matcher.v3.HttpRequestHeaderMatchInput",
            "header_name": name,
        },
    })
}

fn action(name: &str, action: &str) -> Value {
    json!({"action": {
        "name": "verdict",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.config.rbac.v3.Action",
            "name": name,
            "action": action,
        },
    }})
}

fn tree_rule(rule: &Plain) -> Value {
    let single = |input: Value, matcher: Value| json!({"single_predicate": {"input": input, "value_match": matcher}});
    let mut predicates = vec![single(header(":authority"), rule.host.matcher())];
    if let Some(identity) = &rule.identity {
        predicates.push(single(uri_san(), json!({"exact": identity})));
    }
    if let Some(app) = &rule.app {
        predicates.push(single(header("x-app"), json!({"exact": app})));
    }
    if let Some(method) = &rule.method {
        predicates.push(single(header(":method"), json!({"exact": method})));
    }
    if let Some(path) = &rule.path {
        predicates.push(single(header(":path"), json!({"prefix": path})));
    }
    let predicate = match predicates.as_slice() {
        [only] => only.clone(),
        _ => json!({"and_matcher": {"predicate": predicates}}),
    };
    json!({"predicate": predicate, "on_match": action(&rule.name, "ALLOW")})
}

/// Envoy's Lua filter, which goes through a table of the rules.
#[must_use]
pub(super) fn lua(policy: &Value) -> Value {
    let mut code = String::from("local rules = {\n");
    for rule in plain(policy) {
        let quoted = |text: &Option<String>| match text {
            Some(text) => format!("\"{text}\""),
            None => "nil".to_owned(),
        };
        let (exact, suffix, pattern) = match &rule.host {
            HostMatch::Exact(text) => (Some(text.clone()), None, None),
            HostMatch::Suffix(text) => (None, Some(text.clone()), None),
            HostMatch::Regex(text) => (None, None, Some(text.replace('\\', "%"))),
        };
        // Writing to a String does not fail.
        let _ = writeln!(
            code,
            "{{namespace=\"{}\", identity={}, app={}, exact={}, suffix={}, pattern={}, method={}, path={}}},",
            rule.namespace,
            quoted(&rule.identity),
            quoted(&rule.app),
            quoted(&exact),
            quoted(&suffix),
            quoted(&pattern),
            quoted(&rule.method),
            quoted(&rule.path),
        );
    }
    code.push_str("}\n");
    code.push_str(LUA);
    json!({
        "name": "rival",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
            "default_source_code": {"inline_string": code},
        },
    })
}

const LUA: &str = r#"
local function admits(rule, identity, headers, authority)
  if rule.identity then
    if rule.identity ~= identity then return false end
  elseif identity:sub(1, #rule.namespace) ~= rule.namespace then
    return false
  end
  if rule.exact and rule.exact ~= authority then return false end
  if rule.suffix and authority:sub(-#rule.suffix) ~= rule.suffix then return false end
  if rule.pattern and not authority:match("^" .. rule.pattern .. "$") then return false end
  if rule.app and rule.app ~= headers:get("x-app") then return false end
  if rule.method and rule.method ~= headers:get(":method") then return false end
  if rule.path and headers:get(":path"):sub(1, #rule.path) ~= rule.path then return false end
  return true
end

function envoy_on_request(handle)
  local connection = handle:streamInfo():downstreamSslConnection()
  local identity = connection:uriSanPeerCertificate()[1] or ""
  local headers = handle:headers()
  local authority = headers:get(":authority")
  for _, rule in ipairs(rules) do
    if admits(rule, identity, headers, authority) then return end
  end
  handle:respond({[":status"] = "403"}, "denied")
end
"#;
