//! Keys, certificates, and the files by which each part of Kubernetes reaches the API server.

use std::net::IpAddr;
use std::path::Path;

use anyhow::Result;

use super::NODE;
use crate::certificates::Authority;

/// The key of the authority that signs everything, below the folder that is kept.
pub const AUTHORITY: &str = "authority.key";

/// Who asks the API server: file name, user, group.
const CLIENTS: [(&str, &str, Option<&str>); 6] = [
    ("admin", "admin", Some("system:masters")),
    ("manager", "system:kube-controller-manager", None),
    ("scheduler", "system:kube-scheduler", None),
    ("kubelet", "system:node:node1", Some("system:nodes")),
    ("proxy", "system:kube-proxy", None),
    (
        "to-kubelet",
        "kube-apiserver-kubelet-client",
        Some("system:masters"),
    ),
];

/// The first address of the services' network, which is the API server's.
const API_SERVICE: &str = "10.96.0.1";

/// Writes all of it to a folder: `NAME.pem`, `NAME.key`, `NAME.conf`.
///
/// # Errors
/// If a file cannot be written.
pub fn write(folder: &Path, authority: &Authority, key: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join("ca.pem"), authority.certificate())?;
    std::fs::copy(key, folder.join("ca.key"))?;
    let here: IpAddr = "127.0.0.1".parse()?;
    let (node, service) = (NODE.parse()?, API_SERVICE.parse()?);
    let names = [
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    ];
    let server = authority.server_of_both(&names, &[here, node, service])?;
    server.write(folder, "apiserver")?;
    let kubelet = authority.server_of_both(&["node1"], &[here, node])?;
    kubelet.write(folder, "kubelet-server")?;
    // Its key signs the tokens of service accounts.
    authority
        .client("service-accounts", None)?
        .write(folder, "accounts")?;
    for (name, user, group) in CLIENTS {
        authority.client(user, group)?.write(folder, name)?;
        std::fs::write(folder.join(format!("{name}.conf")), conf(folder, name))?;
    }
    Ok(())
}

/// A `kubeconfig`.
fn conf(folder: &Path, name: &str) -> String {
    let at = folder.display();
    format!(
        "apiVersion: v1\nkind: Config\n\
         clusters: [{{name: c, cluster: {{server: 'https://{NODE}:6443', certificate-authority: '{at}/ca.pem'}}}}]\n\
         users: [{{name: u, user: {{client-certificate: '{at}/{name}.pem', client-key: '{at}/{name}.key'}}}}]\n\
         contexts: [{{name: x, context: {{cluster: c, user: u}}}}]\n\
         current-context: x\n"
    )
}
