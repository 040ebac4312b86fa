//! Requests to rtnetlink from a thread without a runtime, in the network namespace of that thread.
//!
//! Attaching happens on whatever thread opens the data plane, and each request here is answered at once.

use std::io;

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage, LinkXdp};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

/// Asks the kernel to change something, with further flags.
pub(super) fn change(message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
    exchange(message, NLM_F_REQUEST | NLM_F_ACK | flags).map(drop)
}

/// Asks the kernel for everything of a kind.
pub(super) fn dump(message: RouteNetlinkMessage) -> io::Result<Vec<RouteNetlinkMessage>> {
    exchange(message, NLM_F_REQUEST | NLM_F_DUMP)
}

/// Ids of the XDP programs on a device, whatever their mode.
pub(super) fn xdp_programs(ifindex: u32) -> io::Result<Vec<u32>> {
    let mut programs: Vec<u32> = xdp_facts_of(ifindex)?.into_iter().filter_map(program_of).collect();
    programs.sort_unstable();
    programs.dedup();
    Ok(programs)
}

/// Takes the XDP programs that were set over netlink off a device, in each mode that has one.
pub(super) fn remove_xdp(ifindex: u32) -> io::Result<()> {
    for mode in xdp_facts_of(ifindex)?.iter().filter_map(mode_of) {
        let mut message = LinkMessage::default();
        message.header.index = ifindex;
        message.attributes.push(LinkAttribute::Xdp(vec![LinkXdp::Fd(-1), LinkXdp::Flags(mode)]));
        change(RouteNetlinkMessage::SetLink(message), 0)?;
    }
    Ok(())
}

/// `XDP_FLAGS_…_MODE` of linux/if_link.h.
fn mode_of(fact: &LinkXdp) -> Option<u32> {
    match fact {
        LinkXdp::SkbProgId(_) => Some(1 << 1),
        LinkXdp::DrvProgId(_) => Some(1 << 2),
        LinkXdp::HwProgId(_) => Some(1 << 3),
        _ => None,
    }
}

fn xdp_facts_of(ifindex: u32) -> io::Result<Vec<LinkXdp>> {
    let mut message = LinkMessage::default();
    message.header.index = ifindex;
    let answers = exchange(RouteNetlinkMessage::GetLink(message), NLM_F_REQUEST | NLM_F_ACK)?;
    Ok(answers.iter().flat_map(xdp_facts).collect())
}

fn xdp_facts(answer: &RouteNetlinkMessage) -> Vec<LinkXdp> {
    let RouteNetlinkMessage::NewLink(link) = answer else { return Vec::new() };
    let facts = link.attributes.iter().filter_map(|attribute| match attribute {
        LinkAttribute::Xdp(facts) => Some(facts.clone()),
        _ => None,
    });
    facts.flatten().collect()
}

fn program_of(fact: LinkXdp) -> Option<u32> {
    match fact {
        LinkXdp::ProgId(id) | LinkXdp::DrvProgId(id) | LinkXdp::SkbProgId(id) | LinkXdp::HwProgId(id) => Some(id),
        _ => None,
    }
}

fn exchange(message: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<RouteNetlinkMessage>> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut request = NetlinkMessage::from(message);
    request.header.flags = flags;
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    let mut answers = Vec::new();
    loop {
        let (bytes, _) = socket.recv_from_full()?;
        if read_answers(&bytes, &mut answers)? {
            return Ok(answers);
        }
    }
}

/// Whether the last answer was among them.
fn read_answers(mut bytes: &[u8], answers: &mut Vec<RouteNetlinkMessage>) -> io::Result<bool> {
    while !bytes.is_empty() {
        let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes).map_err(io::Error::other)?;
        let length = (message.header.length as usize).next_multiple_of(4).min(bytes.len());
        match message.payload {
            NetlinkPayload::Done(_) => return Ok(true),
            NetlinkPayload::Error(error) if error.code.is_none() => return Ok(true),
            NetlinkPayload::Error(error) => return Err(error.to_io()),
            NetlinkPayload::InnerMessage(answer) => answers.push(answer),
            _ => {}
        }
        bytes = &bytes[length.max(1)..];
    }
    Ok(false)
}
