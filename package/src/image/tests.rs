use std::io::Read as _;

use serde_json::{Value, json};

use super::*;

fn manifest(image: &Image) -> Value {
    serde_json::from_slice(image.manifest.bytes()).unwrap()
}

#[test]
fn the_same_module_is_the_same_image() {
    for variant in [Variant::Compat, Variant::Oci] {
        let one = build(b"module", variant, Some("abc")).unwrap();
        assert_eq!(one, build(b"module", variant, Some("abc")).unwrap());
        for other in [
            build(b"other", variant, Some("abc")).unwrap(),
            build(b"module", variant, Some("abd")).unwrap(),
            build(b"module", variant, None).unwrap(),
        ] {
            assert_ne!(one.sha256(), other.sha256());
        }
    }
}

/// A digest that changes without the module does is a new image for every mesh: this one may
/// change with the version of the project or of its compressor, and with nothing else.
#[test]
fn the_uncompressed_variant_has_a_fixed_digest() {
    let image = build(b"module", Variant::Oci, None).unwrap();
    assert_eq!(
        image.sha256(),
        "ae7fa422f6c736884ae2289bea9415a6a5062915e6052dc8371a7aaefbe8cad2"
    );
}

/// `oci-spec` keeps annotations in hash maps, and another crate of the build may have `serde_json`
/// keep their order.
#[test]
fn keys_are_sorted() {
    let text = r#"{"config":{"digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","mediaType":"application/vnd.oci.empty.v1+json","size":2},"layers":[],"mediaType":"application/vnd.oci.image.manifest.v1+json","schemaVersion":2}"#;
    let document: Value = serde_json::from_str(text).unwrap();
    let shuffled = json!({
        "schemaVersion": 2,
        "layers": [],
        "mediaType": document["mediaType"],
        "config": {
            "size": 2,
            "mediaType": document["config"]["mediaType"],
            "digest": document["config"]["digest"],
        },
    });
    assert_eq!(canonical(&shuffled).unwrap(), text.as_bytes());
}

#[test]
fn the_compat_variant_is_an_ordinary_image() {
    let image = build(b"module", Variant::Compat, Some("abc")).unwrap();
    let manifest = manifest(&image);
    assert_eq!(
        manifest["annotations"]["module.wasm.image/variant"],
        "compat"
    );
    assert_eq!(
        manifest["annotations"]["egress-warden.io/policy-hash"],
        "abc"
    );
    assert_eq!(manifest["layers"].as_array().unwrap().len(), 1);
    let [config, layer] = image.blobs.as_slice() else {
        panic!("{image:?}")
    };
    let mut archive = Vec::new();
    flate2::read::GzDecoder::new(layer.bytes())
        .read_to_end(&mut archive)
        .unwrap();
    let config: Value = serde_json::from_slice(config.bytes()).unwrap();
    assert_eq!(
        config["rootfs"]["diff_ids"],
        json!([format!("sha256:{}", sha256(&archive))])
    );
    assert_eq!(
        config["config"]["Labels"]["egress-warden.io/policy-hash"],
        "abc"
    );
    let mut archive = tar::Archive::new(archive.as_slice());
    let mut entries = archive.entries().unwrap();
    let mut entry = entries.next().unwrap().unwrap();
    assert_eq!(entry.path().unwrap().to_str(), Some("plugin.wasm"));
    assert_eq!(entry.header().mtime().unwrap(), 0);
    let mut module = Vec::new();
    entry.read_to_end(&mut module).unwrap();
    assert_eq!(module, b"module");
    assert!(entries.next().is_none());
}

#[test]
fn the_oci_variant_has_two_layers() {
    let image = build(b"module", Variant::Oci, None).unwrap();
    let manifest = manifest(&image);
    let kinds: Vec<_> = manifest["layers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|layer| &layer["mediaType"])
        .collect();
    assert_eq!(
        kinds,
        [
            "application/vnd.module.wasm.config.v1+json",
            "application/vnd.module.wasm.content.layer.v1+wasm",
        ]
    );
    assert_eq!(image.blobs.last().unwrap().bytes(), b"module");
}

#[test]
fn the_bill_of_materials_refers_to_the_image() {
    let image = build(b"module", Variant::Compat, None).unwrap();
    let bill = bill_of_materials(&image, &Sbom::of(b"module").unwrap()).unwrap();
    let manifest = manifest(&bill);
    assert_eq!(manifest["subject"]["digest"], image.manifest.digest());
    assert_eq!(manifest["artifactType"], "application/vnd.cyclonedx+json");
    assert_eq!(
        manifest["config"]["mediaType"],
        "application/vnd.oci.empty.v1+json"
    );
}
