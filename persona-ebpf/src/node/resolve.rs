//! Flow → mapping: which port of which lease a packet from a workload leaves under.
//!
//! Old flows keep their lease; new ones take the subject's newest.

use persona_common::drop::DropReason;
use persona_common::flow::{
    FLOW_CLOSED, FlowKey, FlowValue, MappingKey, MappingValue, SLOT_DNS, SLOT_RESET, Slot, TCP, UDP,
};
use persona_common::node::{Lease, Subject};
use persona_ebpf::header::{TCP_FIN, TCP_RST};
use persona_ebpf::packet::Packet;

use crate::allocate::allocate;
use crate::atomic;
use crate::maps::{self, FLOWS, LEASES, MAPPINGS, SLOTS};

/// UDP port of the DNS.
const DNS_PORT: u16 = 53;

/// The lease and port that a flow leaves under.
pub struct Mapping {
    pub lease: &'static Lease,
    pub external_port: u16,
}

/// The mapping that the flow has, if that is still in force; refreshes it.
#[inline(always)]
pub fn existing_mapping(packet: &Packet, subject: &Subject, now_secs: u32) -> Option<Mapping> {
    let flow = FLOWS.get_ptr_mut(flow_key(packet, subject))?;
    // SAFETY: a pointer into the map, valid for this run.
    let flow = unsafe { &mut *flow };
    let slot = live_slot(flow.slot_index, flow.sequence, now_secs)?;
    let is_closed = flow.flags & FLOW_CLOSED != 0 || slot.flags & SLOT_RESET != 0;
    if packet.opens_connection() && is_closed {
        if flow.flags & FLOW_CLOSED == 0 {
            close(flow, slot);
        }
        return None;
    }
    let lease = LEASES.get(slot.lease_index)?;
    if lease.id == 0 {
        return None;
    }
    refresh(packet, flow, slot, now_secs);
    Some(Mapping { lease, external_port: slot.external_port })
}

/// Gives a new flow a mapping under the subject's newest lease.
#[inline(always)]
pub fn new_mapping(packet: &Packet, subject: &Subject, now_secs: u32) -> Result<Mapping, DropReason> {
    if packet.ip.protocol == TCP && !packet.opens_connection() && now_secs >= maps::config()?.adopt_until_secs {
        return Err(DropReason::MidStream);
    }
    if subject.lease_index_plus_one == 0 {
        return Err(DropReason::NoLease);
    }
    let lease_index = subject.lease_index_plus_one - 1;
    let lease = LEASES.get(lease_index).ok_or(DropReason::NoLease)?;
    if lease.id == 0 {
        return Err(DropReason::NoLease);
    }
    let key = MappingKey {
        lease_index,
        inner_address: packet.ip.source,
        inner_port: packet.local_port,
        protocol: packet.ip.protocol as u16,
    };
    let value = match shared_slot(&key, now_secs) {
        Some(value) => value,
        None => {
            let value = allocate(lease, &key, now_secs)?;
            MAPPINGS.insert(key, value, 0).map_err(|_| DropReason::MappingTableFull)?;
            value
        }
    };
    let slot = slot_mut(value.slot_index).ok_or(DropReason::Kernel)?;
    let flow = FlowValue { slot_index: value.slot_index, sequence: value.sequence, flags: 0 };
    FLOWS.insert(flow_key(packet, subject), flow, 0).map_err(|_| DropReason::FlowTableFull)?;
    open(packet, slot, now_secs);
    Ok(Mapping { lease, external_port: slot.external_port })
}

/// The slot that another flow of the same inner port already has under the lease (RFC 4787 REQ-1).
#[inline(always)]
fn shared_slot(key: &MappingKey, now_secs: u32) -> Option<MappingValue> {
    // SAFETY: values are replaced as a whole and copied here at once.
    let value = unsafe { MAPPINGS.get(key) }.copied()?;
    let slot = live_slot(value.slot_index, value.sequence, now_secs)?;
    let is_same = slot.lease_index == key.lease_index
        && slot.inner_address == key.inner_address
        && slot.inner_port == key.inner_port;
    is_same.then_some(value)
}

#[inline(always)]
fn open(packet: &Packet, slot: &mut Slot, now_secs: u32) {
    slot.last_seen_secs = now_secs;
    if packet.ip.protocol == UDP {
        slot.flags = if packet.remote_port == DNS_PORT { slot.flags | SLOT_DNS } else { slot.flags & !SLOT_DNS };
    }
    if packet.ip.protocol == TCP {
        slot.flags &= !SLOT_RESET;
        atomic::add(&mut slot.open_count, 1);
    }
}

#[inline(always)]
fn refresh(packet: &Packet, flow: &mut FlowValue, slot: &mut Slot, now_secs: u32) {
    if slot.last_seen_secs != now_secs {
        slot.last_seen_secs = now_secs;
    }
    if packet.ip.protocol != TCP || flow.flags & FLOW_CLOSED != 0 {
        return;
    }
    if packet.tcp_flags & (TCP_FIN | TCP_RST) != 0 {
        close(flow, slot);
        if packet.tcp_flags & TCP_RST != 0 && slot.open_count == 0 {
            slot.flags |= SLOT_RESET;
        }
    } else if slot.flags & SLOT_RESET != 0 {
        // The subject goes on, so the reset wasn't for this connection, or wasn't believed.
        slot.flags &= !SLOT_RESET;
    }
}

#[inline(always)]
fn close(flow: &mut FlowValue, slot: &mut Slot) {
    flow.flags |= FLOW_CLOSED;
    if slot.open_count != 0 {
        atomic::add(&mut slot.open_count, u32::MAX);
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

#[inline(always)]
fn flow_key(packet: &Packet, subject: &Subject) -> FlowKey {
    FlowKey {
        subject: subject.number,
        inner_address: packet.ip.source,
        remote_address: packet.ip.destination,
        inner_port: packet.local_port,
        remote_port: packet.remote_port,
        protocol: packet.ip.protocol as u32,
    }
}
