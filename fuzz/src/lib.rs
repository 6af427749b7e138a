//! What the fuzz targets assert of any bytes at all. The engine's tests replay the corpus through
//! the same functions, without the fuzzer.

use egress_policy::PolicySet;
use egress_policy::config::PluginConfig;
use egress_policy::destination::RouteTable;
use egress_policy::facts::{Facts, Protocol, SpiffeId};
use egress_policy::model::Policy;
use egress_policy::name::{Authority, Host, Name, NamePattern};
use egress_policy::path::{PathPattern, RequestPath};
use egress_policy::reference;
use egress_policy::settings::{AddressCheck, Settings};
use egress_policy::tree::Json;

/// Authorities, server names, clusters and name patterns: total, and stable under their own
/// normal form.
///
/// # Panics
/// Where that does not hold, as all functions here.
pub fn host(bytes: &[u8]) {
    let mut routes = RouteTable::default();
    routes.add_istio_port(80, Protocol::Http);
    let _ = routes.resolve(bytes);
    for host in [
        Authority::parse(bytes).map(|authority| authority.host),
        Authority::parse_sni(bytes),
    ] {
        if let Ok(Host::Name(name)) = host {
            assert_eq!(Name::parse(name.as_str().as_bytes()).as_ref(), Ok(&name));
        }
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(pattern) = NamePattern::parse(text) {
        assert_eq!(NamePattern::parse(&pattern.to_string()), Ok(pattern));
    }
}

/// URI SANs: total, and an id that is taken is spelt exactly as it was given.
pub fn identity(uri: &[u8]) {
    if let Ok(id) = SpiffeId::parse(uri) {
        let SpiffeId {
            trust_domain,
            namespace,
            service_account,
        } = id;
        let spelt = format!("spiffe://{trust_domain}/ns/{namespace}/sa/{service_account}");
        assert_eq!(spelt.as_bytes(), uri);
    }
}

/// A path glob on the first line and a request path after it: total, a clean path is clean again
/// without its query, and a glob without wildcards matches itself alone.
pub fn path(bytes: &[u8]) {
    let mut lines = bytes.splitn(2, |byte| *byte == b'\n');
    let (glob, path) = (lines.next().unwrap_or_default(), lines.next());
    let request = RequestPath::parse(path);
    let RequestPath::Clean(clean) = request else {
        return;
    };
    assert_eq!(RequestPath::parse(Some(clean.as_bytes())), request);
    let Ok(glob) = std::str::from_utf8(glob) else {
        return;
    };
    if let Ok(pattern) = PathPattern::parse(glob) {
        let matched = pattern.matches(clean);
        if !glob.contains(['*', '{', '}']) {
            assert_eq!(matched, glob == clean);
        }
    }
}

/// Policy files and module configurations: total, every refusal says why, and what is taken is
/// judged by the index as by the reference.
pub fn policy(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Err(defects) = PluginConfig::read(text) {
        assert!(!defects.is_empty());
    }
    let Ok(document) = Json::parse(text) else {
        return;
    };
    let settings = Settings::new(AddressCheck::Classes);
    let judged = Policy::read(&document).and_then(|policy| {
        let policies = [policy];
        let set = PolicySet::compile(&policies, settings, [])?;
        for protocol in [Protocol::Http, Protocol::Tls, Protocol::Tcp] {
            let facts = Facts::pending(protocol);
            let straight = reference::evaluate(&policies, settings, &facts);
            assert_eq!(set.spelt_out(set.evaluate(&facts)), straight);
        }
        Ok(())
    });
    if let Err(defects) = judged {
        assert!(!defects.is_empty());
    }
}
