//! The node guard on a real kernel: network namespaces, the reference CNI plugins, real packets.
//!
//! Every test runs itself again inside namespaces of its own (`unshare`), as root where there
//! is root and otherwise in an unprivileged user namespace, so nothing outside is touched and
//! tests do not see each other. Needed: a kernel with nf_tables (inet and bridge), veth and
//! bridge; `nft`, `ip`, `unshare`, `nsenter`, `taskset`, `setpriv`; the reference plugins in
//! `/usr/lib/cni`, `/opt/cni/bin` or the folder named by `CNI_PLUGINS`.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::doc_markdown,
    reason = "test code: a failed assumption is a failed test"
)]

mod agent;
mod api;
mod api_server;
mod attack;
mod cnitool;
mod cost;
mod extra_interfaces;
mod frames;
mod installed;
mod lifecycle;
mod limits;

mod packet;
mod page;
mod probe;
mod sandbox;
mod truth_table;
mod world;
