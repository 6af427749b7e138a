//! Policy files and module configurations: total, and every refusal says why.
#![no_main]

use egress_policy::config::Config;
use egress_policy::model::Policy;
use egress_policy::tree::Json;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Err(defects) = Config::read(text) {
        assert!(!defects.is_empty());
    }
    if let Ok(document) = Json::parse(text)
        && let Err(defects) = Policy::read(&document)
    {
        assert!(!defects.is_empty());
    }
});
