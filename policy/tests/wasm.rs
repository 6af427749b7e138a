//! The cases once more, with the engine compiled for wasm32-unknown-unknown, as in a browser:
//! pointers of 32 bits, no clock, no file system. Run by `cargo xtask test --only wasm`.

#![expect(clippy::panic, clippy::expect_used, reason = "helpers of tests")]

mod support;

/// Every case file; there is no file system to list them on wasm32.
const FILES: &[(&str, &str)] = &[
    (
        "address-check-none",
        include_str!("../../cases/address-check-none.yaml"),
    ),
    (
        "address-check-private",
        include_str!("../../cases/address-check-private.yaml"),
    ),
    (
        "address-check-unstated",
        include_str!("../../cases/address-check-unstated.yaml"),
    ),
    ("addresses", include_str!("../../cases/addresses.yaml")),
    (
        "classes-by-request",
        include_str!("../../cases/classes-by-request.yaml"),
    ),
    ("classes", include_str!("../../cases/classes.yaml")),
    ("composition", include_str!("../../cases/composition.yaml")),
    (
        "default-accept",
        include_str!("../../cases/default-accept.yaml"),
    ),
    ("ech", include_str!("../../cases/ech.yaml")),
    ("http", include_str!("../../cases/http.yaml")),
    ("identity", include_str!("../../cases/identity.yaml")),
    ("inspect", include_str!("../../cases/inspect.yaml")),
    ("inspected", include_str!("../../cases/inspected.yaml")),
    ("lines", include_str!("../../cases/lines.yaml")),
    ("names", include_str!("../../cases/names.yaml")),
    ("no-policy", include_str!("../../cases/no-policy.yaml")),
    (
        "order-of-facts",
        include_str!("../../cases/order-of-facts.yaml"),
    ),
    ("origination", include_str!("../../cases/origination.yaml")),
    ("plaintext", include_str!("../../cases/plaintext.yaml")),
    ("reference", include_str!("../../cases/reference.yaml")),
    ("routes", include_str!("../../cases/routes.yaml")),
    ("shadow", include_str!("../../cases/shadow.yaml")),
    ("tiers", include_str!("../../cases/tiers.yaml")),
    ("time", include_str!("../../cases/time.yaml")),
    ("tls", include_str!("../../cases/tls.yaml")),
];

const POLICIES: [(&str, &str); 3] = [
    (
        "policies/inspected.yaml",
        include_str!("../../cases/policies/inspected.yaml"),
    ),
    (
        "policies/reference.yaml",
        include_str!("../../cases/policies/reference.yaml"),
    ),
    (
        "policies/origination.yaml",
        include_str!("../../cases/policies/origination.yaml"),
    ),
];

fn open(relative: &str) -> Result<String, String> {
    let found = POLICIES.iter().find(|(name, _)| *name == relative);
    found
        .map(|(_, text)| (*text).to_owned())
        .ok_or_else(|| format!("add {relative} to this test"))
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn the_cases_hold() {
    let mut wrong = Vec::new();
    for (name, text) in FILES {
        let loaded = support::load_text((*name).to_owned(), text, open)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        for case in &loaded.file.cases {
            let found = case.check(&loaded.file.gateway, |facts| loaded.set.evaluate(facts));
            wrong.extend(
                found
                    .iter()
                    .map(|found| format!("{name}: {}: {found}", case.name)),
            );
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[cfg(not(target_arch = "wasm32"))]
#[test]
fn every_case_file_is_listed() {
    let names: Vec<String> = support::case_files()
        .into_iter()
        .map(|file| file.name)
        .collect();
    let listed: Vec<&str> = FILES.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, listed);
}
