//! Which interface on the host is the other end of the pod's.
//!
//! The kernel is asked, not the previous plugin's result: results differ in what they list,
//! and a wrong answer would guard a stranger's interface. The two ends of a veth pair name
//! each other by index and by network namespace; all of it has to agree.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "netlink's enums are open: what is not asked for is passed over"
)]

mod extra_interfaces;

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::nsid::{NsidAttribute, NsidMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use nix::sched::{CloneFlags, setns};

use crate::attachment::LinkName;

pub use extra_interfaces::{LinkNews, PodInterface, pod_interfaces, remove};

/// Why no host interface was found.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The system refused something.
    #[error("{doing}: {source}")]
    Io {
        /// What was tried.
        doing: String,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// The interface or its shape makes a guard impossible.
    #[error("{0}")]
    Unguardable(String),
}

fn io(doing: impl Into<String>) -> impl FnOnce(std::io::Error) -> LinkError {
    move |source| LinkError::Io {
        doing: doing.into(),
        source,
    }
}

/// What is asked of one interface.
#[derive(Debug, Default)]
struct Link {
    index: u32,
    name: String,
    loopback: bool,
    kind: Option<InfoKind>,
    peer_index: Option<u32>,
    peer_namespace: Option<i32>,
}

impl Link {
    fn is_veth(&self) -> bool {
        self.kind == Some(InfoKind::Veth)
    }
}

/// The host end of interface `ifname` in the network namespace at `netns`.
///
/// # Errors
/// [`LinkError::Unguardable`] if the pod shares the host's network, the interface is not a
/// veth, or its other end is not here.
pub fn host_end(netns: &Path, ifname: &str) -> Result<LinkName, LinkError> {
    let (namespace, _) = open(netns)?;
    let inside = within(&namespace, || {
        get_link(&connect()?, |message| {
            message
                .attributes
                .push(LinkAttribute::IfName(ifname.to_owned()));
        })
    })?;
    if !inside.is_veth() {
        return Err(LinkError::Unguardable(format!(
            "`{ifname}` is not a veth: there is no host side to guard"
        )));
    }
    let Some(peer_index) = inside.peer_index else {
        return Err(LinkError::Unguardable(format!(
            "`{ifname}` does not name its other end"
        )));
    };
    let socket = connect()?;
    let host = get_link(&socket, |message| message.header.index = peer_index)?;
    let expected = namespace_id(&socket, &namespace)?;
    let paired =
        host.is_veth() && host.peer_index == Some(inside.index) && host.peer_namespace == expected;
    if !paired || expected.is_none() {
        return Err(LinkError::Unguardable(format!(
            "the other end of `{ifname}` is not in the host's network namespace"
        )));
    }
    LinkName::try_from(host.name).map_err(LinkError::Unguardable)
}

/// Whether an interface of that name is in this network namespace. An unanswered question
/// counts as yes: nothing is forgotten on a guess.
#[must_use]
pub fn exists(name: &LinkName) -> bool {
    let by_name = |message: &mut LinkMessage| {
        message
            .attributes
            .push(LinkAttribute::IfName(name.to_string()));
    };
    match connect().and_then(|socket| get_link(&socket, by_name)) {
        Err(LinkError::Io { source, .. }) => source.raw_os_error() != Some(nix::libc::ENODEV),
        _ => true,
    }
}

/// The name of the interface with `index` in this network namespace.
#[must_use]
pub fn name_of(index: u32) -> Option<LinkName> {
    let socket = connect().ok()?;
    let link = get_link(&socket, |message| message.header.index = index).ok()?;
    LinkName::try_from(link.name).ok()
}

/// The pod's network namespace and the host's, which must be two.
fn open(netns: &Path) -> Result<(File, File), LinkError> {
    let namespace = File::open(netns).map_err(io(format!("open {}", netns.display())))?;
    let identity = |file: &File| file.metadata().map(|meta| (meta.dev(), meta.ino()));
    let own =
        File::open("/proc/thread-self/ns/net").map_err(io("open the host's network namespace"))?;
    let same = identity(&namespace).map_err(io("stat"))? == identity(&own).map_err(io("stat"))?;
    if same {
        return Err(LinkError::Unguardable(
            "the pod shares the host's network namespace".to_owned(),
        ));
    }
    Ok((namespace, own))
}

/// Works inside the pod's network namespace, on a thread of its own: a namespace change is
/// per thread and the thread ends with it.
fn within<T: Send>(
    namespace: &File,
    work: impl FnOnce() -> Result<T, LinkError> + Send,
) -> Result<T, LinkError> {
    let enter_and_work = || {
        setns(namespace, CloneFlags::CLONE_NEWNET)
            .map_err(|errno| io("enter the pod's network namespace")(errno.into()))?;
        work()
    };
    std::thread::scope(|scope| scope.spawn(enter_and_work).join()).unwrap_or_else(|_| {
        Err(LinkError::Unguardable(
            "the thread that looked into the pod failed".to_owned(),
        ))
    })
}

fn connect() -> Result<Socket, LinkError> {
    let mut socket = Socket::new(NETLINK_ROUTE).map_err(io("open rtnetlink"))?;
    socket.bind_auto().map_err(io("bind rtnetlink"))?;
    socket
        .connect(&SocketAddr::new(0, 0))
        .map_err(io("connect rtnetlink"))?;
    Ok(socket)
}

fn get_link(socket: &Socket, select: impl FnOnce(&mut LinkMessage)) -> Result<Link, LinkError> {
    let mut message = LinkMessage::default();
    select(&mut message);
    match request(socket, RouteNetlinkMessage::GetLink(message))? {
        RouteNetlinkMessage::NewLink(message) => Ok(describe(message)),
        other => Err(LinkError::Unguardable(format!(
            "unexpected answer to RTM_GETLINK: {other:?}"
        ))),
    }
}

fn describe(message: LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        loopback: message.header.flags.contains(LinkFlags::Loopback),
        ..Link::default()
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Link(index) => link.peer_index = Some(index),
            LinkAttribute::LinkNetNsId(id) => link.peer_namespace = Some(id),
            LinkAttribute::LinkInfo(info) => {
                link.kind = info.into_iter().find_map(|part| match part {
                    LinkInfo::Kind(kind) => Some(kind),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    link
}

/// The id by which this network namespace knows `namespace`; `None` if it has none, and then
/// no link can lead there.
fn namespace_id(socket: &Socket, namespace: &File) -> Result<Option<i32>, LinkError> {
    let descriptor = u32::try_from(namespace.as_raw_fd())
        .map_err(|_| LinkError::Unguardable("negative file descriptor".to_owned()))?;
    let mut message = NsidMessage::default();
    message.attributes.push(NsidAttribute::Fd(descriptor));
    let RouteNetlinkMessage::NewNsId(answer) =
        request(socket, RouteNetlinkMessage::GetNsId(message))?
    else {
        return Ok(None);
    };
    Ok(answer
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            NsidAttribute::Id(id) if *id >= 0 => Some(*id),
            _ => None,
        }))
}

fn request(
    socket: &Socket,
    message: RouteNetlinkMessage,
) -> Result<RouteNetlinkMessage, LinkError> {
    send(socket, message, NLM_F_REQUEST)?;
    let answer = receive(socket)?;
    match answer.payload {
        NetlinkPayload::InnerMessage(message) => Ok(message),
        NetlinkPayload::Error(error) => Err(io("rtnetlink")(error.to_io())),
        other => Err(LinkError::Unguardable(format!(
            "unexpected rtnetlink answer: {other:?}"
        ))),
    }
}

fn send(socket: &Socket, message: RouteNetlinkMessage, flags: u16) -> Result<(), LinkError> {
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
    message.finalize();
    let mut buffer = vec![0; message.buffer_len()];
    message.serialize(&mut buffer);
    socket
        .send(&buffer, 0)
        .map_err(io("send rtnetlink request"))?;
    Ok(())
}

fn receive(socket: &Socket) -> Result<NetlinkMessage<RouteNetlinkMessage>, LinkError> {
    let (answer, _) = socket
        .recv_from_full()
        .map_err(io("receive rtnetlink answer"))?;
    decode(&answer)
}

fn decode(bytes: &[u8]) -> Result<NetlinkMessage<RouteNetlinkMessage>, LinkError> {
    NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes).map_err(|error| {
        LinkError::Unguardable(format!("rtnetlink answer does not decode: {error}"))
    })
}
