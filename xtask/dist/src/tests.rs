use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;

use oci_spec::image::{Arch, ImageConfiguration, ImageIndex, ImageManifest};

use super::*;

/// An ELF file of one program header of this kind.
fn elf(kind: u8) -> Vec<u8> {
    let mut bytes = vec![0; 64 + 56];
    bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
    bytes[32] = 64;
    bytes[54] = 56;
    bytes[56] = 1;
    bytes[64] = kind;
    bytes
}

/// A package of these files, as `dpkg-deb` makes it.
fn package(folder: &Path, name: &str, architecture: &str, files: &[(&str, &str)]) -> String {
    let root = folder.join("root");
    std::fs::create_dir_all(root.join("DEBIAN")).unwrap();
    std::fs::write(
        root.join("DEBIAN/control"),
        format!("Package: {name}\nVersion: 1+2\nArchitecture: {architecture}\nMaintainer: x <x@x.example>\nDescription: x\n"),
    )
    .unwrap();
    for (path, text) in files {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
    }
    let file = folder.join(format!("{name}_1+2_{architecture}.deb"));
    let output = Command::new("dpkg-deb")
        .arg("--build")
        .arg(&root)
        .arg(&file)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    std::fs::remove_dir_all(root).unwrap();
    format!(
        "{}  pool/main/x/{}\n",
        sha256(&std::fs::read(&file).unwrap()),
        file.file_name().unwrap().display()
    )
}

/// Everything that a release is made of.
fn inputs(folder: &Path) -> Arguments {
    std::fs::write(folder.join("module.wasm"), "module").unwrap();
    for architecture in ["x86_64", "aarch64"] {
        let programs = folder.join(architecture);
        std::fs::create_dir_all(&programs).unwrap();
        for program in ["warden", "egress-warden-cni", "egress-warden-cni-agent"] {
            std::fs::write(
                programs.join(program),
                [elf(1), program.into(), architecture.into()].concat(),
            )
            .unwrap();
        }
    }
    for package in ["warden", "egress-cni"] {
        let list = r#"[{"name": "a", "version": "1.0.0", "license": "MIT"}]"#;
        for architecture in ["x86_64", "aarch64"] {
            let name = format!("{package}-{architecture}.json");
            std::fs::write(folder.join(name), list).unwrap();
        }
    }
    let mut lock = "# comment\n\n".to_owned();
    for architecture in ["amd64", "arm64"] {
        lock += &package(
            folder,
            "nftables",
            architecture,
            &[
                ("usr/sbin/nft", architecture),
                ("usr/share/man/man8/nft.8", "page"),
                ("usr/share/doc/nftables/copyright", "GPL-2"),
                ("usr/lib/x86_64-linux-gnu/gconv/X.so", "x"),
            ],
        );
    }
    std::fs::write(folder.join("packages.lock"), lock).unwrap();
    let warden = folder.join("warden-here");
    std::fs::write(&warden, "#!/bin/sh\necho \"$1 of $2\"\n").unwrap();
    std::fs::set_permissions(&warden, std::fs::Permissions::from_mode(0o755)).unwrap();
    Arguments {
        out: folder.join("out"),
        module: folder.join("module.wasm"),
        programs: ["x86_64", "aarch64"]
            .map(|name| programs(&format!("{name}={}", folder.join(name).display())).unwrap())
            .into(),
        crates: folder.to_owned(),
        packages: folder.join("packages.lock"),
        packages_folder: folder.to_owned(),
        warden,
    }
}

fn bytes<'r>(release: &'r Release, name: &str) -> &'r [u8] {
    &release
        .files
        .get(name)
        .unwrap_or_else(|| panic!("no {name}"))
        .bytes
}

/// The files in an archive.
fn unpacked(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
    use std::io::Read as _;
    let mut archive = tar::Archive::new(archive);
    let entries = archive.entries().unwrap().map(Result::unwrap);
    entries
        .map(|mut entry| {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            (entry.path().unwrap().display().to_string(), bytes)
        })
        .collect()
}

#[test]
fn a_release_holds_everything_and_is_the_same_twice() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = inputs(folder.path());
    let release = Release::gather(&arguments).unwrap();
    let again = Release::gather(&arguments).unwrap();
    let names: Vec<&str> = release.files.keys().map(String::as_str).collect();
    let expected: BTreeSet<String> = [
        "SHA256SUMS",
        "_warden",
        "warden.bash",
        "warden.fish",
        "egress-warden-cni-V-linux-aarch64",
        "egress-warden-cni-V-linux-aarch64.cdx.json",
        "egress-warden-cni-V-linux-x86_64",
        "egress-warden-cni-V-linux-x86_64.cdx.json",
        "egress-warden-cni-agent-V-linux-aarch64",
        "egress-warden-cni-agent-V-linux-x86_64",
        "egress-warden-cni-linux-aarch64-V.oci.tar",
        "egress-warden-cni-linux-x86_64-V.oci.tar",
        "egress-filter-V.cdx.json",
        "egress-filter-V.oci.tar",
        "egress-filter-V.wasm",
        "warden-V-linux-aarch64",
        "warden-V-linux-aarch64.cdx.json",
        "warden-V-linux-x86_64",
        "warden-V-linux-x86_64.cdx.json",
        "warden-linux-aarch64-V.oci.tar",
        "warden-linux-x86_64-V.oci.tar",
    ]
    .iter()
    .map(|name| name.replace('V', VERSION))
    .collect();
    assert_eq!(names, expected.iter().collect::<Vec<_>>());
    for (name, file) in &release.files {
        assert!(file.bytes == again.files[name].bytes, "{name} differs");
    }

    // As it is on the disk: sums that hold, programs that run, and nothing of before.
    write(&arguments.out, &release.files).unwrap();
    std::fs::write(arguments.out.join("old"), "").unwrap();
    write(&arguments.out, &release.files).unwrap();
    assert!(!arguments.out.join("old").exists());
    let check = Command::new("sha256sum")
        .args(["--check", "--strict", "SHA256SUMS"])
        .current_dir(&arguments.out)
        .output()
        .unwrap();
    assert!(check.status.success(), "{check:?}");
    let mode = std::fs::metadata(arguments.out.join(format!("warden-{VERSION}-linux-x86_64")))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o755);
    let other = folder.path().join("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("mine"), "").unwrap();
    assert!(write(&other, &release.files).is_err(), "somebody's folder");
}

/// What the project's own writer makes is what the specification's types read.
#[test]
fn images_are_what_the_specification_says() {
    let folder = tempfile::tempdir().unwrap();
    let release = Release::gather(&inputs(folder.path())).unwrap();
    for (name, architecture, inside) in [
        ("egress-filter", "wasm", vec!["plugin.wasm"]),
        ("warden-linux-x86_64", "amd64", vec!["usr/local/bin/warden"]),
        (
            "warden-linux-aarch64",
            "arm64",
            vec!["usr/local/bin/warden"],
        ),
        (
            "egress-warden-cni-linux-aarch64",
            "arm64",
            vec![
                "usr/local/bin/egress-warden-cni",
                "usr/local/bin/egress-warden-cni-agent",
                "usr/sbin/ip6tables",
                "usr/sbin/ip6tables-restore",
                "usr/sbin/ip6tables-save",
                "usr/sbin/iptables",
                "usr/sbin/iptables-restore",
                "usr/sbin/iptables-save",
                "usr/sbin/nft",
                "usr/share/doc/nftables/copyright",
            ],
        ),
    ] {
        let layout = unpacked(bytes(&release, &format!("{name}-{VERSION}.oci.tar")));
        let index = ImageIndex::from_reader(layout["index.json"].as_slice()).unwrap();
        let blob = |digest: &str| {
            let bytes = &layout[&format!("blobs/{}", digest.replace(':', "/"))];
            assert_eq!(format!("sha256:{}", sha256(bytes)), digest);
            bytes.as_slice()
        };
        let [image, bill] = index.manifests().as_slice() else {
            panic!("{index:?}");
        };
        assert_eq!(
            image.annotations().as_ref().unwrap()["org.opencontainers.image.ref.name"],
            VERSION
        );
        let manifest = ImageManifest::from_reader(blob(image.digest().as_ref())).unwrap();
        let config =
            ImageConfiguration::from_reader(blob(manifest.config().digest().as_ref())).unwrap();
        assert_eq!(*config.architecture(), Arch::from(architecture));
        let layer = &manifest.layers()[0];
        let files = unpacked(&inflated(blob(layer.digest().as_ref())));
        assert_eq!(files.keys().collect::<Vec<_>>(), inside, "{name}");
        let bill = ImageManifest::from_reader(blob(bill.digest().as_ref())).unwrap();
        assert_eq!(bill.subject().as_ref().unwrap().digest(), image.digest());
    }
    let bill: serde_json::Value = serde_json::from_slice(bytes(
        &release,
        &format!("egress-warden-cni-{VERSION}-linux-x86_64.cdx.json"),
    ))
    .unwrap();
    assert_eq!(bill["components"][0]["purl"], "pkg:cargo/a@1.0.0");
    assert_eq!(
        bill["components"][1]["purl"],
        "pkg:deb/debian/nftables@1%2B2?arch=amd64"
    );
}

/// By another program than the one that wrote it.
fn inflated(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut child = Command::new("gzip")
        .args(["--decompress", "--stdout"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    child.wait_with_output().unwrap().stdout
}

#[test]
fn what_is_not_as_it_should_be_makes_no_release() {
    type Spoil = (&'static str, fn(&Path));
    let spoil: [Spoil; 5] = [
        ("is another file than the one that is listed", |folder| {
            std::fs::write(folder.join("nftables_1+2_amd64.deb"), "").unwrap();
        }),
        ("no packages for arm64", |folder| {
            let lock = std::fs::read_to_string(folder.join("packages.lock")).unwrap();
            let lock: Vec<&str> = lock
                .lines()
                .filter(|line| !line.contains("arm64"))
                .collect();
            std::fs::write(folder.join("packages.lock"), lock.join("\n")).unwrap();
        }),
        ("is no SHA256 PATH", |folder| {
            std::fs::write(folder.join("packages.lock"), "0  x.deb").unwrap();
        }),
        ("is not static", |folder| {
            std::fs::write(folder.join("x86_64/warden"), elf(3)).unwrap();
        }),
        ("module.wasm", |folder| {
            std::fs::remove_file(folder.join("module.wasm")).unwrap();
        }),
    ];
    for (expected, spoil) in spoil {
        let folder = tempfile::tempdir().unwrap();
        let arguments = inputs(folder.path());
        spoil(folder.path());
        let error = Release::gather(&arguments).map(drop).unwrap_err();
        assert!(
            format!("{error:#}").contains(expected),
            "{expected}: {error:#}"
        );
    }
    assert!(!is_static(b""));
    assert!(!is_static(b"#!/bin/sh\n"));
    assert!(programs("riscv64=/x").is_err());
}
