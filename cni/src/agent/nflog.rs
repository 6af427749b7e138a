//! Refused packets as the kernel logs them (`nfnetlink_log`).

use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_netfilter::nflog::{
    ConfigCmd, ConfigMode, ConfigNla, PacketNla, ULogMessage, config_request,
};
use netlink_packet_netfilter::{NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily};
use netlink_sys::Socket;
use netlink_sys::constants::NETLINK_NETFILTER;

use super::flow::Flow;
use crate::rules::{NFLOG_GROUP, NFLOG_SNAPLEN};

/// One refused packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Which rule: `source`, `destination` or `lateral`.
    pub reason: String,
    /// The index of the interface it came in by; the bridge's for bridged pods that are
    /// routed, the veth's otherwise.
    pub interface: Option<u32>,
    /// What it was.
    pub flow: Flow,
}

/// The kernel's log.
pub struct Log {
    socket: Socket,
}

impl Log {
    /// Subscribes to the node guard's group in this network namespace.
    ///
    /// # Errors
    /// The operating system's; also if another process has the group.
    pub fn open() -> std::io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        // A burst of refusals must not end the subscription.
        socket.set_rx_buf_sz(4_u32 << 20)?;
        socket.set_no_enobufs(true)?;
        let parameters: Vec<ConfigNla> = vec![
            ConfigCmd::Bind.into(),
            ConfigMode::new_packet(NFLOG_SNAPLEN).into(),
        ];
        let request = config_request(NetfilterProtoFamily::Unspec, NFLOG_GROUP, parameters);
        let mut buffer = vec![0; request.buffer_len()];
        request.serialize(&mut buffer);
        socket.send(&buffer, 0)?;
        let (answer, _) = socket.recv_from_full()?;
        let answer = NetlinkMessage::<NetfilterMessage>::deserialize(&answer)
            .map_err(std::io::Error::other)?;
        match answer.payload {
            NetlinkPayload::Error(error) if error.code.is_some() => Err(error.to_io()),
            _ => Ok(Self { socket }),
        }
    }

    /// Waits for the next refusals. What does not decode is passed over: the counters count
    /// it all the same.
    ///
    /// # Errors
    /// The operating system's.
    pub fn next(&self) -> std::io::Result<Vec<Refusal>> {
        let (bytes, _) = self.socket.recv_from_full()?;
        Ok(decode(&bytes))
    }
}

/// All refusals of one datagram, which may hold several messages.
fn decode(mut bytes: &[u8]) -> Vec<Refusal> {
    let mut all = Vec::new();
    while let Ok(message) = NetlinkMessage::<NetfilterMessage>::deserialize(bytes) {
        let length = usize::try_from(message.header.length).unwrap_or(usize::MAX);
        all.extend(refusal(message));
        // Messages are aligned to four bytes.
        let next = length.checked_next_multiple_of(4).filter(|next| *next > 0);
        match next.and_then(|next| bytes.get(next..)) {
            Some(rest) if !rest.is_empty() => bytes = rest,
            _ => break,
        }
    }
    all
}

fn refusal(message: NetlinkMessage<NetfilterMessage>) -> Option<Refusal> {
    let NetlinkPayload::InnerMessage(message) = message.payload else {
        return None;
    };
    let NetfilterMessageInner::ULog(ULogMessage::Packet(attributes)) = message.inner else {
        return None;
    };
    let (mut reason, mut incoming, mut bridged, mut flow) = (String::new(), None, None, None);
    for attribute in attributes {
        match attribute {
            PacketNla::Prefix(prefix) => {
                let text = prefix.to_string_lossy();
                let word = text.rsplit(' ').find(|word| !word.is_empty());
                word.unwrap_or_default().clone_into(&mut reason);
            }
            PacketNla::IfIndexInDev(index) => incoming = Some(index),
            PacketNla::IfIndexPhysInDev(index) => bridged = Some(index),
            PacketNla::Payload(packet) => flow = Flow::parse(&packet),
            _ => {}
        }
    }
    Some(Refusal {
        reason,
        interface: bridged.or(incoming),
        flow: flow?,
    })
}
