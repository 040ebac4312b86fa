//! The ordinary packet from a workload, straight through: nearly every packet is one, and the general way need not be asked.
//!
//! IPv4 without options, whole, TCP or UDP with a checksum, of a flow that has a port of its own and neither begins nor ends,
//! under a persona that hides nothing and loses nothing, to an edge that is reached over IPv4 and chosen first or second.
//! Whatever is not as expected is left untouched and uncounted for the general way, which decides; so here no packet is ever
//! refused for what it is, and what both would do, both do alike.

use aya_ebpf::bindings::{BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR};
use aya_ebpf::programs::TcContext;
use persona_common::addr::is_mapped;
use persona_common::drop::DropReason;
use persona_common::firewall::has_verdict;
use persona_common::flow::{FLOW_RESET_INWARD, FLOW_SHARED, FlowKey, UDP, flow_hash};
use persona_common::node::{
    DEVICE_SHARED, Device, EdgeHop, Lease, SUBJECT_HAS_CONFIGURED, SUBJECT_HAS_NETWORK, SUBJECT_SETS_HOPS,
    SUBJECT_SETS_ID, Subject,
};
use persona_ebpf::count::{add, count_persona};
use persona_ebpf::encapsulation::Inner;
use persona_ebpf::frame::Frame;
use persona_ebpf::front::{self, Front};
use persona_ebpf::header::{ETHERNET_LENGTH, IPV4_LENGTH, Ipv4, TCP_FIN, TCP_RST, TCP_SYN};
use persona_ebpf::log::note_subject;
use persona_ebpf::outcome::{pack, unpack};
use persona_ebpf::packet::{Direction, Packet};
use persona_ebpf::tc::{encapsulate_v4, replace_checksum, send_to_neighbour};

use crate::maps::{self, FLOWS, LEASES, SUBJECT_TRAFFIC};
use crate::normalise::set_dscp;
use crate::resolve::live_slot;
use crate::{path, track};

/// In the place of a packed outcome: the packet is for the general way.
const NOT_ORDINARY: u64 = u64::MAX;
/// UDP port of DHCP clients, whose requests may be the local link's business.
const DHCP_CLIENT_PORT: u16 = 68;
/// Where the transport's header stands, and in it the checksum.
const TRANSPORT_AT: usize = ETHERNET_LENGTH + IPV4_LENGTH;
const TCP_CHECKSUM_AT: usize = TRANSPORT_AT + 16;
const UDP_CHECKSUM_AT: usize = TRANSPORT_AT + 6;

/// A packet that came in by a workload's device; None: not an ordinary one.
#[inline(always)]
pub fn outward(frame: &TcContext, device: &Device) -> Option<Result<i32, DropReason>> {
    let packed = outward_apart(frame, device);
    if packed == NOT_ORDINARY { None } else { Some(unpack(packed)) }
}

/// A function of its own: what it has learnt of a packet that is none of its own is forgotten with it, and the verifier need
/// not walk the general way once for each.
#[inline(never)]
fn outward_apart(frame: &TcContext, device: &Device) -> u64 {
    forward(frame, device).map_or(NOT_ORDINARY, pack)
}

#[inline(always)]
fn forward(frame: &TcContext, device: &Device) -> Option<Result<i32, DropReason>> {
    let ip: &Ipv4 = frame.peek(ETHERNET_LENGTH)?;
    if device.flags & DEVICE_SHARED != 0 || ip.source != device.address || ip.ttl <= 1 {
        return None;
    }
    let subject = maps::subject(device.subject_index).filter(|subject| is_plain(subject))?;
    let packet = front::look(frame, ETHERNET_LENGTH, ip)?;
    if is_beginning_or_end(&packet, ip.protocol) {
        return None;
    }
    let (ip, now_secs) = (*ip, maps::now_secs());
    let key = FlowKey {
        subject: subject.number,
        inner_address: ip.source,
        remote_address: ip.destination,
        inner_port: packet.source_port,
        remote_port: packet.destination_port,
        protocol: ip.protocol as u32,
    };
    // SAFETY: a pointer into the map, valid for this run; plain words that other CPUs may write at the same time.
    let flow = unsafe { &mut *FLOWS.get_ptr_mut(&key)? };
    if flow.flags & (FLOW_SHARED | FLOW_RESET_INWARD) != 0 || !has_verdict(flow.flags, subject.verdict()) {
        return None;
    }
    let slot = live_slot(flow.slot_index, flow.sequence, now_secs)?;
    let lease = LEASES.get(slot.lease_index).filter(|lease| lease.id != 0)?;
    if packet.length_on_wire(frame) > lease.mtu as usize {
        return None;
    }
    let port = slot.external_port;
    let hash = flow_hash(lease.address, ip.destination, Front::ports(port, packet.destination_port), ip.protocol);
    let edge = path::first_choices(lease, hash).filter(|edge| is_mapped(edge.address))?;
    if slot.last_seen_secs != now_secs {
        slot.last_seen_secs = now_secs;
    }
    track::touch(flow, now_secs);
    note_subject(subject.number);
    count(frame, device.subject_index, lease, &packet);
    Some(
        rewrite(frame, &ip, &packet, subject, lease, port).and_then(|tos| {
            send(frame, subject, lease, edge, hash, &Inner { length: packet.length, tos, is_ipv6: false })
        }),
    )
}

/// Whether a subject's packets become another's port and address, and nothing else.
#[inline(always)]
fn is_plain(subject: &Subject) -> bool {
    const ASKED: u32 = SUBJECT_HAS_NETWORK | SUBJECT_HAS_CONFIGURED | SUBJECT_SETS_HOPS | SUBJECT_SETS_ID;
    subject.flags & ASKED == SUBJECT_HAS_NETWORK && subject.loss_millionths() == 0
}

#[inline(always)]
fn is_beginning_or_end(packet: &Front, protocol: u8) -> bool {
    if protocol == UDP {
        return packet.checksum == 0 || packet.source_port == DHCP_CLIENT_PORT;
    }
    packet.tcp_flags & (TCP_SYN | TCP_FIN | TCP_RST) != 0
}

#[inline(always)]
fn count(frame: &TcContext, subject_index: u32, lease: &Lease, packet: &Front) {
    let packets = packet.packet_count(frame);
    let bytes = packet.byte_count(packets);
    add(&SUBJECT_TRAFFIC, subject_index, Direction::Outward, packets, bytes);
    count_persona(lease.persona_index, Direction::Outward, packets, bytes);
}

/// Makes it one from its lease, a hop further on; gives its type of service.
#[inline(always)]
fn rewrite(
    frame: &TcContext,
    ip: &Ipv4,
    packet: &Front,
    subject: &Subject,
    lease: &Lease,
    port: u16,
) -> Result<u8, DropReason> {
    let mut rewritten = Packet::blank(*ip, ETHERNET_LENGTH);
    rewritten.count_hop()?;
    rewritten.set_source(lease.address);
    set_dscp(&mut rewritten, subject);
    frame.write(ETHERNET_LENGTH, rewritten.ip)?;
    let (old_port, new_port) = (packet.source_port.to_be(), port.to_be());
    frame.write(TRANSPORT_AT, new_port)?;
    let (at, mangled) =
        if ip.protocol == UDP { (UDP_CHECKSUM_AT, BPF_F_MARK_MANGLED_0 as u64) } else { (TCP_CHECKSUM_AT, 0) };
    let pseudo = BPF_F_PSEUDO_HDR as u64 | mangled;
    replace_checksum(frame, at, ip.source as u64, lease.address as u64, pseudo | 4)?;
    replace_checksum(frame, at, old_port as u64, new_port as u64, mangled | 2)?;
    Ok(rewritten.ip.tos)
}

#[inline(always)]
fn send(
    frame: &TcContext,
    subject: &Subject,
    lease: &Lease,
    edge: &EdgeHop,
    hash: u32,
    inner: &Inner,
) -> Result<i32, DropReason> {
    encapsulate_v4(frame, &path::tunnel(edge, lease, hash)?, inner)?;
    path::mark(frame, subject);
    Ok(send_to_neighbour(edge.ifindex, &edge.next_hop))
}
