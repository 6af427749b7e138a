//! The policy as an extension configuration resource, in the file where the gateway looks for it:
//! what `WasmPlugin` becomes in Istio.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::{Value, json};

use crate::workspace;

/// Where in a filter chain the module stands; Envoy has one message for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chain {
    /// HTTP filters.
    Http,
    /// Network filters.
    Network,
}

/// One place in the gateway where the module runs.
#[derive(Clone, Debug)]
pub struct Extension {
    /// The filter's name in `gateway.yaml`, and the file's.
    pub name: &'static str,
    /// The kind of chain it stands in.
    pub chain: Chain,
    /// The module.
    pub wasm: PathBuf,
    /// Its configuration (`pluginConfig`).
    pub configuration: String,
}

impl Extension {
    /// The resource that Envoy reads.
    #[must_use]
    pub fn resource(&self) -> Value {
        let kind = match self.chain {
            Chain::Http => "http",
            Chain::Network => "network",
        };
        json!({"resources": [{
            "@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
            "name": self.name,
            "typed_config": {
                "@type": format!("type.googleapis.com/envoy.extensions.filters.{kind}.wasm.v3.Wasm"),
                "config": {
                    "name": self.name,
                    "root_id": self.name,
                    // FAIL_CLOSED never recovers from a trap, FAIL_OPEN opens.
                    "failure_policy": "FAIL_RELOAD",
                    "configuration": {
                        "@type": "type.googleapis.com/google.protobuf.StringValue",
                        "value": self.configuration,
                    },
                    // One machine for all places of one module: compiled once, not five times.
                    "vm_config": {
                        "vm_id": self.wasm.file_stem().map(OsStr::to_string_lossy),
                        "runtime": "envoy.wasm.runtime.v8",
                        "code": {"local": {"filename": self.wasm}},
                    },
                },
            },
        }]})
    }

    /// Puts it in place in one step, which Envoy notices.
    ///
    /// # Errors
    /// If the file cannot be written, or the module is not built.
    pub fn write(&self, directory: &Path) -> Result<()> {
        workspace::built(&self.wasm)?;
        let staged = directory.join(format!(".{}.staged", self.name));
        std::fs::write(&staged, serde_json::to_vec(&self.resource())?)?;
        std::fs::rename(staged, directory.join(format!("{}.json", self.name)))?;
        Ok(())
    }

    /// The name under which Envoy counts its updates.
    #[must_use]
    pub fn statistics(&self) -> String {
        let kind = match self.chain {
            Chain::Http => "http_filter",
            Chain::Network => "network_filter",
        };
        format!("extension_config_discovery.{kind}.{}", self.name)
    }
}
