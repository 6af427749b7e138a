//! URI SANs: total, and an id that is taken is spelt exactly as it was given.
#![no_main]

use egress_policy::facts::SpiffeId;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|uri: &[u8]| {
    if let Ok(id) = SpiffeId::parse(uri) {
        let SpiffeId {
            trust_domain,
            namespace,
            service_account,
        } = id;
        let spelt = format!("spiffe://{trust_domain}/ns/{namespace}/sa/{service_account}");
        assert_eq!(spelt.as_bytes(), uri);
    }
});
