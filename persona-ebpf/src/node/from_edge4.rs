//! IPv4 from an edge: the port's slot, the rewrite, the workload's device.

use aya_ebpf::programs::TcContext;
use persona_common::addr::mapped;
use persona_common::drop::DropReason;
use persona_common::flow::{SLOT_REPLIED, SLOT_RESET, Slot, slot_protocol_index};
use persona_common::node::Lease;
use persona_ebpf::count::{add, count_persona};
use persona_ebpf::encapsulation::Outer;
use persona_ebpf::frame::Frame;
use persona_ebpf::header::TCP_RST;
use persona_ebpf::packet::{Direction, Packet};
use persona_ebpf::tc::send_to_neighbour;

use crate::atomic;
use crate::maps::{self, ADDRESSES, BLOCKS, LEASES, SUBJECT_TRAFFIC, SUBJECTS};
use crate::resolve::slot_mut;
use crate::rewrite::rewrite_destination;

/// A packet in the tunnel of a known edge.
#[inline(always)]
pub fn run(frame: &TcContext, outer: &Outer) -> Result<i32, DropReason> {
    let packet = Packet::read(frame, outer.inner_at(), Direction::Inward)?;
    let (lease, slot) = find(&packet)?;
    if lease.vni != outer.vni() {
        return Err(DropReason::VniMismatch);
    }
    if packet.opens_connection() {
        return Err(DropReason::Unsolicited);
    }
    refresh(&packet, slot);
    deliver(frame, outer, packet, lease, slot)
}

#[inline(always)]
fn find(packet: &Packet) -> Result<(&'static Lease, &'static mut Slot), DropReason> {
    // SAFETY: values are replaced as a whole and copied here at once.
    let address = unsafe { ADDRESSES.get(packet.ip.destination) }.copied().ok_or(DropReason::Unleased)?;
    let block_bits = address.block_bits & 15;
    let port = packet.local_port as u32;
    let block = BLOCKS.get(address.block_base + (port >> block_bits)).ok_or(DropReason::Unleased)?;
    if block.lease_index_plus_one == 0 {
        return Err(DropReason::Unleased);
    }
    let lease = LEASES.get(block.lease_index_plus_one - 1).ok_or(DropReason::Unleased)?;
    let offset = port & ((1 << block_bits) - 1);
    let protocol_index = slot_protocol_index(packet.ip.protocol);
    let slot = slot_mut(block.slot_base + (protocol_index << block_bits) + offset).ok_or(DropReason::NoMapping)?;
    if !slot.is_live(maps::now_secs()) {
        return Err(DropReason::NoMapping);
    }
    Ok((lease, slot))
}

#[inline(always)]
fn refresh(packet: &Packet, slot: &mut Slot) {
    let now_secs = maps::now_secs();
    if slot.last_seen_secs != now_secs {
        slot.last_seen_secs = now_secs;
    }
    let seen = if packet.tcp_flags & TCP_RST != 0 { SLOT_REPLIED | SLOT_RESET } else { SLOT_REPLIED };
    if slot.flags & seen != seen {
        atomic::set_bits(&mut slot.flags, seen);
    }
}

#[inline(always)]
fn deliver(
    frame: &TcContext,
    outer: &Outer,
    mut packet: Packet,
    lease: &Lease,
    slot: &Slot,
) -> Result<i32, DropReason> {
    let subject = SUBJECTS.get(lease.subject_index).ok_or(DropReason::UnknownDevice)?;
    if subject.ifindex == 0 {
        return Err(DropReason::UnknownDevice);
    }
    packet.count_hop()?;
    let packets = packet.packet_count(frame);
    let bytes = packet.byte_count(packets);
    add(&SUBJECT_TRAFFIC, lease.subject_index, Direction::Inward, packets, bytes);
    count_persona(lease.persona_index, Direction::Inward, packets, bytes);
    frame.decapsulate(outer)?;
    rewrite_destination(frame, &mut packet, slot, lease.mtu)?;
    Ok(send_to_neighbour(subject.ifindex, &mapped(packet.ip.destination)))
}
