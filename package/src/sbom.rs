//! What the module, or a program, is built from, as `CycloneDX` 1.5.
//!
//! The module's list of crates comes from Cargo's own resolution for `wasm32-wasip1` and is
//! committed; `cargo xtask sbom` writes it, and a test holds it against Cargo.

use serde::{Deserialize, Serialize};

use crate::sha256;

/// What Cargo resolved for the module.
const CRATES: &str = include_str!("../module-crates.json");

/// A crate that is linked into the module.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Crate {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its licence, as an SPDX expression.
    pub license: Option<String>,
}

/// A Debian package whose files are in an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its architecture.
    pub architecture: String,
    /// The package file's SHA-256 in hexadecimal digits.
    pub sha256: String,
}

/// The bill of materials of one module or program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sbom {
    /// What it is of.
    pub name: String,
    /// Its SHA-256 in hexadecimal digits.
    pub digest: String,
    /// The crates that Cargo resolves for it.
    pub crates: Vec<Crate>,
    /// What else is in its image.
    pub packages: Vec<Package>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'s> {
    bom_format: &'static str,
    spec_version: &'static str,
    version: u8,
    metadata: Metadata<'s>,
    components: Vec<Component<'s>>,
}

#[derive(Serialize)]
struct Metadata<'s> {
    component: Component<'s>,
}

#[derive(Serialize)]
struct Component<'s> {
    r#type: &'static str,
    name: &'s str,
    version: &'s str,
    #[serde(skip_serializing_if = "Option::is_none")]
    purl: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hashes: Vec<Hash<'s>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    licenses: Vec<License>,
}

#[derive(Serialize)]
struct Hash<'s> {
    alg: &'static str,
    content: &'s str,
}

#[derive(Serialize)]
struct License {
    expression: String,
}

impl Sbom {
    /// Its media type, by which it is found among an image's referrers.
    pub const MEDIA_TYPE: &'static str = "application/vnd.cyclonedx+json";

    /// Of the module as it was built, before policies go in.
    ///
    /// # Errors
    /// If the committed list is no list of crates.
    pub fn of(module: &[u8]) -> Result<Self, serde_json::Error> {
        Ok(Self {
            name: "egress-warden".to_owned(),
            digest: sha256(module),
            crates: crates()?,
            packages: Vec::new(),
        })
    }

    /// The document.
    ///
    /// # Errors
    /// If it cannot be written as JSON.
    pub fn json(&self) -> Result<Vec<u8>, std::io::Error> {
        let licenses = |license: Option<&str>| {
            let expression = license.map(|text| text.replace('/', " OR "));
            expression
                .map(|expression| License { expression })
                .into_iter()
                .collect()
        };
        let document = Document {
            bom_format: "CycloneDX",
            spec_version: "1.5",
            version: 1,
            metadata: Metadata {
                component: Component {
                    r#type: "application",
                    name: &self.name,
                    version: env!("CARGO_PKG_VERSION"),
                    purl: None,
                    hashes: vec![Hash {
                        alg: "SHA-256",
                        content: &self.digest,
                    }],
                    licenses: licenses(Some("Apache-2.0")),
                },
            },
            components: self
                .crates
                .iter()
                .map(|found| Component {
                    r#type: "library",
                    name: &found.name,
                    version: &found.version,
                    purl: Some(format!("pkg:cargo/{}@{}", found.name, found.version)),
                    hashes: Vec::new(),
                    licenses: licenses(found.license.as_deref()),
                })
                .chain(self.packages.iter().map(debian))
                .collect(),
        };
        Ok(serde_json::to_vec_pretty(&document)?)
    }
}

fn debian(package: &Package) -> Component<'_> {
    // Package URL specification: everything but letters, digits and `.-_~:` is percent-encoded.
    let version = package.version.replace('+', "%2B");
    Component {
        r#type: "library",
        name: &package.name,
        version: &package.version,
        purl: Some(format!(
            "pkg:deb/debian/{}@{version}?arch={}",
            package.name, package.architecture
        )),
        hashes: vec![Hash {
            alg: "SHA-256",
            content: &package.sha256,
        }],
        licenses: Vec::new(),
    }
}

/// The committed list.
///
/// # Errors
/// If it is none.
pub fn crates() -> Result<Vec<Crate>, serde_json::Error> {
    serde_json::from_str(CRATES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bill_of_materials() {
        let text = Sbom::of(b"module").unwrap().json().unwrap();
        let document: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(document["bomFormat"], "CycloneDX");
        assert_eq!(
            document["metadata"]["component"]["hashes"][0]["content"],
            sha256(b"module")
        );
        let components = document["components"].as_array().unwrap();
        let named = |name: &str| components.iter().find(|found| found["name"] == name);
        let sdk = named("proxy-wasm").unwrap();
        assert_eq!(
            sdk["purl"],
            format!("pkg:cargo/proxy-wasm@{}", sdk["version"].as_str().unwrap())
        );
        assert_eq!(sdk["licenses"][0]["expression"], "Apache-2.0");
        assert!(named("tls-parser").is_none(), "what only tests use");
        assert!(named("egress-policy").is_some());
    }
}
