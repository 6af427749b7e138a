//! Every interface of a pod that leads out of it, whoever made it.
//!
//! A capability holds in the user namespace that owns the network namespace, and without user
//! namespaces of their own all pods' belong to the host's. The host's network namespace has a
//! number inside each pod's (the veth's `link-netnsid`), and with that number a process with
//! `NET_ADMIN` makes devices on top of the host's interfaces, without passing the host's rules:
//! `ip link add link if2 link-netnsid 0 type macvlan`. Multus attaches such devices on request.

use std::path::Path;

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkFlags, LinkMessage};
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_ROUTE;

use super::{
    Link, LinkError, connect, decode, describe, get_link, io, namespace_id, open, receive, send,
    within,
};
use crate::attachment::LinkName;

/// An interface of a pod by which packets leave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PodInterface {
    /// A veth whose other end is on the host: packets pass the host's rules.
    Veth {
        /// The end on the host.
        host_link: LinkName,
    },
    /// Anything else that sits on a device of the host, or is one: packets pass no rule.
    Beyond {
        /// Its index inside the pod.
        index: u32,
        /// Its name inside the pod, as the pod chose it.
        ifname: String,
        /// What it is.
        kind: String,
    },
}

/// The interfaces that lead out of the network namespace at `netns`. Those that only lead to others
/// of the same namespace, or to a namespace that is not the host's, are left out.
///
/// # Errors
/// [`LinkError`]; nothing is then known.
pub fn pod_interfaces(netns: &Path) -> Result<Vec<PodInterface>, LinkError> {
    let (namespace, host) = open(netns)?;
    let (links, number) = within(&namespace, || {
        let socket = connect()?;
        Ok((dump(&socket)?, namespace_id(&socket, &host)?))
    })?;
    let socket = connect()?;
    let leads_out = |link: &Link| {
        let on_the_host = number.is_some() && link.peer_namespace == number;
        !link.loopback && (on_the_host || link.kind.is_none())
    };
    Ok(links
        .into_iter()
        .filter(leads_out)
        .map(|link| classify(&socket, link))
        .collect())
}

fn classify(socket: &Socket, link: Link) -> PodInterface {
    let host_end = |index: u32| {
        let host = get_link(socket, |message| message.header.index = index).ok()?;
        (host.is_veth() && host.peer_index == Some(link.index)).then_some(host.name)
    };
    let named = link
        .peer_index
        .filter(|_| link.is_veth())
        .and_then(host_end)
        .and_then(|name| LinkName::try_from(name).ok());
    match named {
        Some(host_link) => PodInterface::Veth { host_link },
        None => PodInterface::Beyond {
            index: link.index,
            kind: link
                .kind
                .map_or_else(|| "hardware".to_owned(), |kind| kind.to_string()),
            ifname: link.name,
        },
    }
}

/// Takes an interface out of the network namespace at `netns`; one that cannot be deleted is
/// brought down.
///
/// # Errors
/// [`LinkError`]; it is then still there and up.
pub fn remove(netns: &Path, index: u32) -> Result<(), LinkError> {
    let (namespace, _) = open(netns)?;
    within(&namespace, || {
        let socket = connect()?;
        let mut gone = LinkMessage::default();
        gone.header.index = index;
        let mut down = gone.clone();
        down.header.change_mask = LinkFlags::Up;
        acknowledged(&socket, RouteNetlinkMessage::DelLink(gone))
            .or_else(|_| acknowledged(&socket, RouteNetlinkMessage::SetLink(down)))
    })
}

fn acknowledged(socket: &Socket, message: RouteNetlinkMessage) -> Result<(), LinkError> {
    send(socket, message, NLM_F_REQUEST | NLM_F_ACK)?;
    match receive(socket)?.payload {
        NetlinkPayload::Error(error) if error.code.is_some() => Err(io("rtnetlink")(error.to_io())),
        _ => Ok(()),
    }
}

/// All interfaces of this thread's network namespace.
fn dump(socket: &Socket) -> Result<Vec<Link>, LinkError> {
    send(
        socket,
        RouteNetlinkMessage::GetLink(LinkMessage::default()),
        NLM_F_REQUEST | NLM_F_DUMP,
    )?;
    let mut all = Vec::new();
    loop {
        let (datagram, _) = socket
            .recv_from_full()
            .map_err(io("receive rtnetlink answer"))?;
        let mut rest = datagram.as_slice();
        while !rest.is_empty() {
            let message = decode(rest)?;
            let length = usize::try_from(message.header.length).unwrap_or(usize::MAX);
            match message.payload {
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => {
                    all.push(describe(link));
                }
                NetlinkPayload::Done(_) => return Ok(all),
                NetlinkPayload::Error(error) => return Err(io("rtnetlink")(error.to_io())),
                _ => {}
            }
            // Messages are aligned to four bytes.
            let next = length.checked_next_multiple_of(4).filter(|next| *next > 0);
            rest = next.and_then(|next| rest.get(next..)).unwrap_or_default();
        }
    }
}

/// News of interfaces that appear or change, in this network namespace and in all that it has
/// a number for (which a veth gives it), so that an interface is found before the next tick.
pub struct LinkNews {
    socket: Socket,
}

/// `RTNLGRP_LINK` (linux/rtnetlink.h).
const LINK_GROUP: u32 = 1;

impl LinkNews {
    /// Subscribes. Hearing of other namespaces needs `CAP_NET_BROADCAST`.
    ///
    /// # Errors
    /// The operating system's.
    pub fn open() -> std::io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        // What is lost is made up for by the next pass.
        socket.set_no_enobufs(true)?;
        socket.set_listen_all_namespaces(true)?;
        socket.add_membership(LINK_GROUP)?;
        Ok(Self { socket })
    }

    /// Waits for the next.
    ///
    /// # Errors
    /// The operating system's.
    pub fn next(&self) -> std::io::Result<()> {
        self.socket.recv_from_full().map(drop)
    }
}
