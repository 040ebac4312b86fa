//! Fragments: what the first leaves for the later ones (`FRAGMENTS`), in both directions.
//!
//! Outward all fragments of a packet get an id among their block's ports, which the edge checks in place of the port. A
//! later fragment whose first has not come yet waits in the slow path.

use persona_common::addr::mapped;
use persona_common::drop::DropReason;
use persona_common::flow::flow_hash;
use persona_common::fragment::{FragmentKey, FragmentValue, block_id};
use persona_common::node::Lease;
use persona_ebpf::packet::Packet;

use crate::atomic;
use crate::maps::{FRAGMENT_COUNTERS, FRAGMENTS, LEASES};
use crate::receive::Recipient;
use crate::resolve::Mapping;

/// The scope of fragments that come from an edge.
pub const INWARD: u32 = 0;

/// Under which id and by which edge the fragments of a packet leave.
#[derive(Clone, Copy)]
pub struct Passage {
    pub id: u16,
    pub hash: u32,
}

/// Set beside a subject's index, the scope of what it has sent past its persona and its firewall let pass.
pub const BESIDE_OUTWARD: u32 = 1 << 30;
/// Likewise, of what others have sent to it past every persona.
pub const BESIDE_INWARD: u32 = 1 << 31;

/// The scope of fragments that come from a subject.
#[inline(always)]
pub fn outward_scope(subject_index: u32) -> u32 {
    subject_index + 1
}

/// The passage of a packet that is or will be cut.
#[inline(always)]
pub fn passage(packet: &Packet, lease: &Lease, lease_index: u32, external_port: u16) -> Result<Passage, DropReason> {
    let id = next_id(lease, lease_index, external_port, 1)?;
    Ok(Passage { id, hash: passage_hash(packet, lease.address, id) })
}

/// The next id of a port's block, for one packet or for as many as segmentation will make of one.
#[inline(always)]
pub fn next_id(lease: &Lease, lease_index: u32, external_port: u16, packet_count: u32) -> Result<u16, DropReason> {
    let counter = FRAGMENT_COUNTERS.get_ptr_mut(lease_index).ok_or(DropReason::Kernel)?;
    // SAFETY: an aligned u32 in the map, valid for this run.
    let counter = atomic::add(unsafe { &mut *counter }, packet_count);
    Ok(block_id(external_port, lease.block_bits, counter))
}

/// The hash of all fragments under an id: they stay in order and with one edge.
#[inline(always)]
pub fn passage_hash(packet: &Packet, source: u32, id: u16) -> u32 {
    flow_hash(source, packet.ip.destination, id as u32, packet.ip.protocol)
}

/// Leaves what the first fragment of a packet from a subject found.
#[inline(always)]
pub fn note_outward(packet: &Packet, scope: u32, mapping: &Mapping, passage: &Passage, now_secs: u32) {
    let value = FragmentValue {
        seen_secs: now_secs,
        lease_index: mapping.lease_index,
        lease_id_low: mapping.lease.id as u32,
        hash: passage.hash,
        address: mapped(mapping.lease.address),
        id: passage.id as u32,
        port: mapping.external_port as u32,
    };
    note(packet, scope, &value);
}

/// Leaves what the first fragment of a packet from an edge found. A function of its own, for the sake of the stack.
#[inline(never)]
pub fn note_inward(packet: &Packet, lease: &Lease, lease_index: u32, recipient: &Recipient, now_secs: u32) -> u32 {
    let value = FragmentValue {
        seen_secs: now_secs,
        lease_index,
        lease_id_low: lease.id as u32,
        hash: 0,
        address: mapped(recipient.address),
        id: 0,
        port: recipient.port as u32,
    };
    note(packet, INWARD, &value)
}

/// What the first fragment of a later one left, and the lease.
#[inline(always)]
pub fn find(packet: &Packet, scope: u32, now_secs: u32) -> Option<(&'static FragmentValue, &'static Lease)> {
    let value = look_up(packet, scope)?;
    let lease = LEASES.get(value.lease_index)?;
    let is_same = value.is_fresh(now_secs) && lease.id != 0 && lease.id as u32 == value.lease_id_low;
    is_same.then_some((value, lease))
}

/// Leaves that the first fragment of a packet was let pass by a firewall.
#[inline(never)]
pub fn note_passed(packet: &Packet, scope: u32, now_secs: u32) -> u32 {
    note(packet, scope, &FragmentValue { seen_secs: now_secs, ..FragmentValue::default() })
}

/// Whether the first fragment of a later one was.
#[inline(always)]
pub fn has_passed(packet: &Packet, scope: u32, now_secs: u32) -> bool {
    look_up(packet, scope).is_some_and(|value| value.is_fresh(now_secs))
}

#[inline(never)]
fn note(packet: &Packet, scope: u32, value: &FragmentValue) -> u32 {
    // An LRU makes room; without the entry later fragments wait and are dropped with their reason.
    FRAGMENTS.insert(key(packet, scope), value, 0).is_err() as u32
}

#[inline(never)]
fn look_up(packet: &Packet, scope: u32) -> Option<&'static FragmentValue> {
    // SAFETY: a value in the map, valid for this run; one that another packet gets meanwhile is an id used twice at once.
    unsafe { FRAGMENTS.get(key(packet, scope)) }
}

#[inline(always)]
fn key(packet: &Packet, scope: u32) -> FragmentKey {
    FragmentKey {
        scope,
        source: mapped(packet.ip.source),
        destination: mapped(packet.ip.destination),
        id: u16::from_be(packet.ip.id) as u32,
        protocol: packet.ip.protocol as u32,
    }
}
