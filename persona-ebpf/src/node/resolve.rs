//! Flow → mapping: which port of which lease a packet from a workload leaves under.
//!
//! Old flows keep their lease; new ones take the subject's newest. Packets from the subject keep a mapping alive, those
//! from outside only if the subject has itself spoken to their sender (RFC 4787 REQ-6): strangers never do.

use aya_ebpf::bindings::BPF_NOEXIST;
use persona_common::drop::DropReason;
use persona_common::flow::{
    FLOW_CLOSED, FLOW_FIN_OUTWARD, FLOW_OPENED_INWARD, FLOW_RESET_INWARD, FLOW_SHARED, FLOW_TICK_SHIFT, FlowKey,
    FlowValue, MappingKey, MappingValue, PORTLESS, SLOT_DNS, SLOT_REPLIED, SLOT_RESET, SLOT_SHARED, Slot, TCP, UDP,
    flow_tick,
};
use persona_common::node::{Lease, Subject};
use persona_ebpf::header::{TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN};
use persona_ebpf::outcome::{pack, unpack};
use persona_ebpf::packet::{Direction, Kind, Packet};

use crate::allocate::{allocate, release};
use crate::maps::{FLOWS, LEASES, MAPPINGS, OPENINGS, SLOTS};
use crate::{atomic, share, track};

/// UDP port of the DNS.
const DNS_PORT: u16 = 53;

/// The lease and port that a flow leaves under.
#[derive(Clone, Copy)]
pub struct Mapping {
    pub lease: &'static Lease,
    pub lease_index: u32,
    pub external_port: u16,
    /// Whether the packet has closed the flow.
    pub is_closed: bool,
}

/// The mapping that the flow has, if that is still in force; refreshes it.
#[inline(always)]
pub fn existing_mapping(packet: &Packet, subject: &Subject, now_secs: u32) -> Option<Mapping> {
    let found = find_mapping(packet, subject, now_secs);
    if found == 0 {
        return None;
    }
    let (lease_index, external_port) = ((found >> 32) as u32, (found >> 16) as u16);
    Some(Mapping { lease: LEASES.get(lease_index)?, lease_index, external_port, is_closed: found & IS_CLOSED != 0 })
}

/// Set in what [`find_mapping`] gives when the packet has closed the flow.
const IS_CLOSED: u64 = 2;

/// A function of its own, as the stack is short: lease index, external port and flags in one register; 0: none.
#[inline(never)]
fn find_mapping(packet: &Packet, subject: &Subject, now_secs: u32) -> u64 {
    let found = try_find_mapping(packet, subject, now_secs);
    found.map_or(0, |found| {
        let flags = if found.is_closed { IS_CLOSED | 1 } else { 1 };
        (found.lease_index as u64) << 32 | (found.external_port as u64) << 16 | flags
    })
}

#[inline(always)]
fn try_find_mapping(packet: &Packet, subject: &Subject, now_secs: u32) -> Option<Mapping> {
    let flow = FLOWS.get_ptr_mut(flow_key(packet, subject))?;
    // SAFETY: a pointer into the map, valid for this run.
    let flow = unsafe { &mut *flow };
    let is_reopened = packet.opens_connection() && flow.flags & (FLOW_CLOSED | FLOW_FIN_OUTWARD) != 0;
    if flow.flags & FLOW_SHARED != 0 {
        return if is_reopened { None } else { share::existing(packet, subject, flow, now_secs) };
    }
    let slot = live_slot(flow.slot_index, flow.sequence, now_secs)?;
    if is_reopened {
        track::tell_slot(slot, track::end(flow));
        return None;
    }
    let lease = LEASES.get(slot.lease_index)?;
    if lease.id == 0 {
        return None;
    }
    if slot.last_seen_secs != now_secs {
        slot.last_seen_secs = now_secs;
    }
    // Apart from the slot: another flow's packet may have come first in this second, and in every other.
    track::touch(flow, now_secs);
    let mut is_closed = false;
    if packet.tcp_flags & (TCP_FIN | TCP_RST) != 0 || flow.flags & FLOW_RESET_INWARD != 0 {
        let change = track::follow(flow, packet.tcp_flags, Direction::Outward);
        track::tell_slot(slot, change);
        is_closed = change.is_end();
    }
    Some(Mapping { lease, lease_index: slot.lease_index, external_port: slot.external_port, is_closed })
}

/// Gives a new flow a mapping under the subject's newest lease. `mid-stream`: the packet belongs to no flow that is known.
#[inline(always)]
pub fn new_mapping(packet: &Packet, subject: &Subject, now_secs: u32) -> Result<Mapping, DropReason> {
    let mut given = Given { lease_index: 0, external_port: 0 };
    match unpack(give_mapping(packet, subject, now_secs, &mut given)) {
        Err(DropReason::PortsExhausted) if packet.protocol == TCP => {
            unpack(share::take(packet, subject, now_secs, &mut given))?
        }
        outcome => outcome?,
    };
    let lease = LEASES.get(given.lease_index).ok_or(DropReason::NoLease)?;
    let external_port = given.external_port as u16;
    Ok(Mapping { lease, lease_index: given.lease_index, external_port, is_closed: false })
}

/// What a function of its own gives back of a mapping.
pub struct Given {
    pub lease_index: u32,
    pub external_port: u32,
}

/// A function of its own: it runs once per flow, and the stack is short.
#[inline(never)]
fn give_mapping(packet: &Packet, subject: &Subject, now_secs: u32, given: &mut Given) -> u64 {
    match make_mapping(packet, subject, now_secs) {
        Ok(mapping) => {
            given.lease_index = mapping.lease_index;
            given.external_port = mapping.external_port as u32;
            pack(Ok(0))
        }
        Err(reason) => pack(Err(reason)),
    }
}

/// The newest lease of a subject, with its index.
#[inline(always)]
pub fn newest_lease(subject: &Subject) -> Result<(u32, &'static Lease), DropReason> {
    if subject.lease_index_plus_one == 0 {
        return Err(DropReason::FamilyDenied);
    }
    let lease_index = subject.lease_index_plus_one - 1;
    match LEASES.get(lease_index) {
        Some(lease) if lease.id != 0 => Ok((lease_index, lease)),
        _ => Err(DropReason::NoLease),
    }
}

#[inline(always)]
fn make_mapping(packet: &Packet, subject: &Subject, now_secs: u32) -> Result<Mapping, DropReason> {
    if packet.protocol == TCP && !packet.opens_connection() {
        if let Some(mapping) = answered_opening(packet, subject, now_secs) {
            return Ok(mapping);
        }
        return Err(DropReason::MidStream);
    }
    let (lease_index, lease) = newest_lease(subject)?;
    let key = MappingKey {
        lease_index,
        inner_address: packet.ip.source,
        inner_port: packet.local_port,
        // All protocols without ports have one mapping: nothing tells their flows apart.
        protocol: if packet.kind == Kind::Portless { PORTLESS as u16 } else { packet.protocol as u16 },
    };
    let value = own_slot(lease, &key, now_secs)?;
    let slot = slot_mut(value.slot_index).ok_or(DropReason::Kernel)?;
    note_flow(packet, subject, &value, 0, now_secs)?;
    // Noted first, looked up then: whoever shares the port does it the other way round, so that one sees the other.
    let may_be_taken = packet.protocol == TCP && slot.flags & SLOT_SHARED != 0;
    if may_be_taken && share::is_taken(packet, value.slot_index, now_secs) {
        // Left there, the note would give the flow this port on its next packet, whoever has it towards that remote.
        let _ = FLOWS.remove(flow_key(packet, subject));
        return Err(DropReason::PortsExhausted);
    }
    open(packet, slot, now_secs);
    Ok(Mapping { lease, lease_index, external_port: slot.external_port, is_closed: false })
}

/// A packet that answers a connection opened from outside, which a live mapping had let in (RFC 5382 REQ-3).
#[inline(always)]
fn answered_opening(packet: &Packet, subject: &Subject, now_secs: u32) -> Option<Mapping> {
    if packet.tcp_flags & (TCP_SYN | TCP_RST) == 0 || packet.tcp_flags & TCP_ACK == 0 {
        return None;
    }
    // SAFETY: values are replaced as a whole and copied here at once.
    let value = unsafe { OPENINGS.get(flow_key(packet, subject)) }.copied()?;
    let slot = live_slot(value.slot_index, value.sequence, now_secs)?;
    let lease = LEASES.get(slot.lease_index)?;
    if lease.id == 0 || slot.inner_address != packet.ip.source || slot.inner_port != packet.local_port {
        return None;
    }
    // A refusal passes and leaves nothing behind.
    if packet.tcp_flags & TCP_RST == 0 {
        note_flow(packet, subject, &value, FLOW_OPENED_INWARD, now_secs).ok()?;
        open(packet, slot, now_secs);
        atomic::set_bits(&mut slot.flags, SLOT_REPLIED);
    }
    Some(Mapping { lease, lease_index: slot.lease_index, external_port: slot.external_port, is_closed: false })
}

#[inline(always)]
fn note_flow(
    packet: &Packet,
    subject: &Subject,
    value: &MappingValue,
    opened: u32,
    now_secs: u32,
) -> Result<(), DropReason> {
    let flags = flow_tick(now_secs) << FLOW_TICK_SHIFT | subject.verdict() | opened;
    let flow = FlowValue { slot_index: value.slot_index, sequence: value.sequence, flags };
    FLOWS.insert(flow_key(packet, subject), flow, 0).map_err(|_| DropReason::FlowTableFull)
}

/// The slot of an inner port under the lease, the same for all its flows (RFC 4787 REQ-1), also when two CPUs ask at once.
#[inline(always)]
fn own_slot(lease: &Lease, key: &MappingKey, now_secs: u32) -> Result<MappingValue, DropReason> {
    if let Some(value) = mapped_slot(key, now_secs) {
        return Ok(value);
    }
    let value = allocate(lease, key, now_secs)?;
    if MAPPINGS.insert(key, value, BPF_NOEXIST as u64).is_ok() {
        return Ok(value);
    }
    let Some(entry) = MAPPINGS.get_ptr_mut(key) else {
        release(&value, now_secs);
        return Err(DropReason::MappingTableFull);
    };
    // SAFETY: values start at a multiple of eight bytes in the kernel's hash tables, and this one is eight bytes long.
    let is_replaced = unsafe {
        let found = core::ptr::read_volatile(entry.cast::<u64>());
        is_stale(found, key, now_secs) && atomic::compare_exchange(entry.cast(), found, as_word(&value))
    };
    if is_replaced {
        return Ok(value);
    }
    // Another CPU was faster.
    release(&value, now_secs);
    mapped_slot(key, now_secs).ok_or(DropReason::Kernel)
}

#[inline(always)]
fn as_word(value: &MappingValue) -> u64 {
    (value.sequence as u64) << 32 | value.slot_index as u64
}

#[inline(always)]
fn is_stale(word: u64, key: &MappingKey, now_secs: u32) -> bool {
    let value = MappingValue { slot_index: word as u32, sequence: (word >> 32) as u32 };
    slot_of(&value, key, now_secs).is_none()
}

/// The slot that the inner port has, whoever's flow it was given for.
#[inline(always)]
pub fn mapped_slot(key: &MappingKey, now_secs: u32) -> Option<MappingValue> {
    // SAFETY: values are replaced as a whole and copied here at once.
    let value = unsafe { MAPPINGS.get(key) }.copied()?;
    slot_of(&value, key, now_secs).map(|_| value)
}

#[inline(always)]
fn slot_of(value: &MappingValue, key: &MappingKey, now_secs: u32) -> Option<&'static mut Slot> {
    let slot = live_slot(value.slot_index, value.sequence, now_secs)?;
    let is_same = slot.lease_index == key.lease_index
        && slot.inner_address == key.inner_address
        && slot.inner_port == key.inner_port;
    is_same.then_some(slot)
}

/// A flow more under the slot.
#[inline(always)]
fn open(packet: &Packet, slot: &mut Slot, now_secs: u32) {
    slot.last_seen_secs = now_secs;
    if packet.protocol == UDP {
        // A port that has spoken to anybody else than name servers isn't a resolver's, which asks and forgets.
        if packet.remote_port != DNS_PORT {
            atomic::clear_bits(&mut slot.flags, SLOT_DNS);
        } else if slot.open_count == 0 {
            atomic::set_bits(&mut slot.flags, SLOT_DNS);
        }
        slot.open_count = 1;
    }
    if packet.protocol == TCP && atomic::add(&mut slot.open_count, 1) == 0 {
        // Nobody has answered this flow yet, and those before it have ended.
        atomic::clear_bits(&mut slot.flags, SLOT_RESET | SLOT_REPLIED);
    }
}

/// The slot, if it still carries the mapping that had this sequence.
#[inline(always)]
pub fn live_slot(index: u32, sequence: u32, now_secs: u32) -> Option<&'static mut Slot> {
    let slot = slot_mut(index)?;
    (slot.sequence == sequence && slot.is_live(now_secs)).then_some(slot)
}

#[inline(always)]
pub fn slot_mut(index: u32) -> Option<&'static mut Slot> {
    // SAFETY: a pointer into the map, valid for this run; plain words that other CPUs may write at the same time.
    SLOTS.get_ptr_mut(index).map(|slot| unsafe { &mut *slot })
}

/// The key of an outward packet's flow.
#[inline(always)]
pub fn flow_key(packet: &Packet, subject: &Subject) -> FlowKey {
    FlowKey {
        subject: subject.number,
        inner_address: packet.ip.source,
        remote_address: packet.ip.destination,
        inner_port: packet.local_port,
        remote_port: packet.remote_port,
        protocol: packet.protocol as u32,
    }
}
