//! What packets look like outside where a persona hides what betrays a host. Callers write the headers back.

use persona_common::drop::DropReason;
use persona_common::node::{Lease, SUBJECT_SETS_DSCP, SUBJECT_SETS_HOPS, SUBJECT_SETS_ID, Subject};
use persona_common::normalise::HOPS_TO_EDGE;
use persona_ebpf::header::{DONT_FRAGMENT, Ipv6};
use persona_ebpf::packet::{Packet, Part};

use crate::fragment;

/// Counts a hop of an IPv4 packet, or hides how many there were.
#[inline(always)]
pub fn count_hop(packet: &mut Packet, subject: &Subject) -> Result<(), DropReason> {
    packet.count_hop()?;
    if subject.flags & SUBJECT_SETS_HOPS != 0 {
        packet.set_ttl(HOPS_TO_EDGE);
    }
    Ok(())
}

/// Hides a whole packet's id. One that may be cut on its way gets one that no other packet under the address has: of its
/// block, as fragments do. One that may not needs none (RFC 6864 §4.1).
#[inline(always)]
pub fn hide_id(
    packet: &mut Packet,
    subject: &Subject,
    lease: &Lease,
    (lease_index, port): (u32, u16),
    packet_count: u64,
) -> Result<(), DropReason> {
    if subject.flags & SUBJECT_SETS_ID == 0 || packet.part != Part::Whole {
        return Ok(());
    }
    let is_atomic = packet.ip.fragment & DONT_FRAGMENT != 0;
    let id = if is_atomic { 0 } else { fragment::next_id(lease, lease_index, port, packet_count as u32)? };
    packet.set_id(id);
    Ok(())
}

/// Sets the DSCP that the persona asks for.
#[inline(always)]
pub fn set_dscp(packet: &mut Packet, subject: &Subject) {
    if subject.flags & SUBJECT_SETS_DSCP != 0 {
        // The lower two bits are ECN's (RFC 3168 §5).
        packet.set_tos(subject.dscp() << 2 | (packet.ip.tos & 3));
    }
}

/// All of it for an IPv6 header whose hop is yet to be counted.
#[inline(always)]
pub fn header6(ip: &mut Ipv6, subject: &Subject) {
    if subject.flags & SUBJECT_SETS_DSCP != 0 {
        ip.set_traffic_class(subject.dscp() << 2 | (ip.traffic_class() & 3));
    }
    if subject.flags & SUBJECT_SETS_ID != 0 {
        ip.clear_flow_label();
    }
    if subject.flags & SUBJECT_SETS_HOPS != 0 {
        // One more, which is about to be counted.
        ip.hop_limit = HOPS_TO_EDGE + 1;
    }
}
