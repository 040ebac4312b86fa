//! The ordinary packet from an edge, straight through, as [`crate::ordinary`] does with what goes the other way.
//!
//! In Geneve without options over IPv4, from a known edge; IPv4 without options, whole, TCP, UDP with a checksum or the answer to
//! an echo; to a port that carries one mapping, which was answered before and used within this second; neither beginning nor end.
//! Whatever is not as expected is left untouched and uncounted for the general way, which decides.

use aya_ebpf::programs::TcContext;
use persona_common::addr::mapped;
use persona_common::drop::DropReason;
use persona_common::encapsulation::{ECN_MASK, ecn_after};
use persona_common::flow::{SLOT_REPLIED, SLOT_SHARED, Slot, slot_protocol_index};
use persona_common::node::{
    Lease, SUBJECT_FILTERS_BY_REMOTE, SUBJECT_HAS_FIREWALL, SUBJECT_IS_DELAYED, SUBJECT_IS_HOST, Subject,
};
use persona_common::{ENCAPSULATION_LENGTH_V4, PERSONA_MARK};
use persona_ebpf::count::{add, count_persona};
use persona_ebpf::encapsulation::{Outer, OuterV4};
use persona_ebpf::frame::{Frame, opaque};
use persona_ebpf::front::{self, Front};
use persona_ebpf::header::{ETHERNET_LENGTH, ETHERTYPE_IPV4, Ipv4, KIND_AT};
use persona_ebpf::log::note_subject;
use persona_ebpf::outcome::{pack, unpack};
use persona_ebpf::packet::{Direction, Packet};
use persona_ebpf::tc::{send_to_neighbour, skb};

use crate::maps::{self, ADDRESSES, BLOCKS, EDGE_ADDRESSES, LEASES, SUBJECT_TRAFFIC};
use crate::ordinary::{NOT_ORDINARY, Ports, is_beginning_or_end, rewrite_transport};
use crate::resolve::slot_mut;
use crate::subject_counts::count_dropped;

/// Where the inner packet starts.
const INNER_AT: usize = ETHERNET_LENGTH + ENCAPSULATION_LENGTH_V4;

/// A packet of the uplink; None: not an ordinary one from an edge.
#[inline(always)]
pub fn inward(frame: &TcContext) -> Option<Result<i32, DropReason>> {
    let packed = inward_apart(frame);
    if packed == NOT_ORDINARY { None } else { Some(unpack(packed)) }
}

/// A function of its own, for the sake of the stack and of the verifier.
#[inline(never)]
fn inward_apart(frame: &TcContext) -> u64 {
    deliver(frame).map_or(NOT_ORDINARY, pack)
}

#[inline(always)]
fn deliver(frame: &TcContext) -> Option<Result<i32, DropReason>> {
    let headers: &OuterV4 = frame.peek(ETHERNET_LENGTH)?;
    let ip: &Ipv4 = frame.peek(INNER_AT)?;
    let own = &maps::config().ok()?.underlay_address;
    if *frame.peek::<u16>(KIND_AT)? != ETHERTYPE_IPV4 || !headers.is_plain(own, frame.length()) {
        return None;
    }
    let has_same_ecn = ecn_after(ip.tos, headers.ip.tos) == Some(ip.tos & ECN_MASK);
    if ip.ttl <= 1 || !has_same_ecn {
        return None;
    }
    let packet = front::look(frame, INNER_AT, ip, Direction::Inward)?;
    if is_beginning_or_end(&packet, ip.protocol) {
        return None;
    }
    let (ip, edge, vni) = (*ip, headers.ip.source, headers.geneve.vni());
    let (lease, slot) = place(&ip, packet.destination_port)?;
    let subject = maps::subject(lease.subject_index).filter(|subject| is_plain(subject))?;
    if lease.vni != vni || EDGE_ADDRESSES.get_ptr(mapped(edge)).is_none() {
        return None;
    }
    note_subject(subject.number);
    let packets = packet.packet_count(frame);
    let bytes = packet.byte_count(packets);
    add(&SUBJECT_TRAFFIC, lease.subject_index, Direction::Inward, packets, bytes);
    count_persona(lease.persona_index, Direction::Inward, packets, bytes);
    let sent = send(frame, &ip, &packet, subject, slot);
    Some(sent.inspect_err(|_| count_dropped(lease.subject_index)))
}

/// The lease of an egress port and the mapping that it carries, if that needs nothing but to be followed.
#[inline(always)]
fn place(ip: &Ipv4, port: u16) -> Option<(&'static Lease, &'static Slot)> {
    // SAFETY: values are replaced as a whole and copied here at once.
    let address = unsafe { ADDRESSES.get(ip.destination) }.copied()?;
    let block_bits = address.block_bits & 31;
    let block = BLOCKS.get(address.block_base + (port as u32 >> block_bits))?;
    let lease = LEASES.get(block.lease_index_plus_one.wrapping_sub(1))?;
    if lease.is_configured() {
        return None;
    }
    let offset = port as u32 & ((1 << block_bits) - 1);
    let slot_index = block.slot_base + (slot_protocol_index(ip.protocol) << block_bits) + offset;
    let slot = slot_mut(opaque(slot_index as usize) as u32)?;
    let is_plain = slot.flags & (SLOT_SHARED | SLOT_REPLIED) == SLOT_REPLIED
        && slot.protocol == ip.protocol as u32
        && slot.last_seen_secs == maps::now_secs();
    is_plain.then_some((lease, slot))
}

/// Whether what is for a subject only has its address and port turned back.
#[inline(always)]
fn is_plain(subject: &Subject) -> bool {
    const ASKED: u32 = SUBJECT_IS_HOST | SUBJECT_FILTERS_BY_REMOTE | SUBJECT_HAS_FIREWALL | SUBJECT_IS_DELAYED;
    subject.flags & ASKED == 0 && subject.ifindex != 0 && subject.vlan == 0 && subject.loss_millionths() == 0
}

/// Takes a packet out of the tunnel, a hop further on, and hands it to the subject's device.
#[inline(always)]
fn send(frame: &TcContext, ip: &Ipv4, packet: &Front, subject: &Subject, slot: &Slot) -> Result<i32, DropReason> {
    let (address, port) = (slot.inner_address, slot.inner_port);
    frame.decapsulate(&Outer::PLAIN_V4)?;
    let mut rewritten = Packet::blank(*ip, ETHERNET_LENGTH);
    rewritten.count_hop()?;
    rewritten.set_destination(address);
    frame.write(ETHERNET_LENGTH, rewritten.ip)?;
    let ports = Ports { before: packet.destination_port, after: port };
    rewrite_transport(frame, ip.protocol, packet.checksum, (ip.destination, address), ports, Direction::Inward)?;
    // SAFETY: a field of the context that programs may write.
    unsafe { (*skb(frame)).mark = PERSONA_MARK };
    Ok(send_to_neighbour(subject.ifindex, &mapped(address)))
}
