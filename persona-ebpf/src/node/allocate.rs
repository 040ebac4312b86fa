//! A free port of a lease for a new mapping.
//!
//! First the port with the same low bits as the inner one, then next-fit from a cursor, so that a port just freed is the
//! last to come back. A slot is claimed by one compare-and-swap of (last seen, sequence). A live port is never taken.

use persona_common::drop::DropReason;
use persona_common::flow::{MappingKey, MappingValue, Slot, slot_protocol_index};
use persona_common::maps::BLOCKS_PER_LEASE_MAX;
use persona_common::node::Lease;

use crate::atomic::compare_exchange;
use crate::maps::CURSORS;
use crate::resolve::slot_mut;

/// Slots that one packet looks at before it gives up; its retransmission goes on from there.
const PROBE_COUNT_MAX: u32 = 128;

/// Claims a slot of the lease.
#[inline(always)]
pub fn allocate(lease: &Lease, key: &MappingKey, now_secs: u32) -> Result<MappingValue, DropReason> {
    let protocol_index = slot_protocol_index(key.protocol as u8);
    let block_bits = lease.block_bits & 15;
    let port_count = lease.block_count << block_bits;
    if port_count == 0 {
        return Err(DropReason::NoLease);
    }
    let same_low_bits = key.inner_port as u32 & ((1 << block_bits) - 1);
    if let Some(value) = claim(lease, key, same_low_bits, now_secs) {
        return Ok(value);
    }
    let cursor = CURSORS.get_ptr_mut(key.lease_index * 3 + protocol_index).ok_or(DropReason::Kernel)?;
    // SAFETY: an aligned u32 in the map, valid for this run. It is a hint: a race costs a probe.
    let cursor = unsafe { &mut *cursor };
    let start = *cursor;
    let mut probe = 0;
    while probe < PROBE_COUNT_MAX {
        let position = start.wrapping_add(probe) % port_count;
        if let Some(value) = claim(lease, key, position, now_secs) {
            *cursor = position + 1;
            return Ok(value);
        }
        probe += 1;
    }
    *cursor = start.wrapping_add(PROBE_COUNT_MAX) % port_count;
    Err(DropReason::PortsExhausted)
}

/// Claims the slot at a position among the lease's ports, unless it is live.
#[inline(always)]
fn claim(lease: &Lease, key: &MappingKey, position: u32, now_secs: u32) -> Option<MappingValue> {
    let block_bits = lease.block_bits & 15;
    let offset = position & ((1 << block_bits) - 1);
    let block_index = (position >> block_bits) as usize & (BLOCKS_PER_LEASE_MAX - 1);
    let block = lease.blocks[block_index];
    let slot_index = block.slot_base + (slot_protocol_index(key.protocol as u8) << block_bits) + offset;
    let slot = slot_mut(slot_index)?;
    let (last_seen_secs, sequence) = (slot.last_seen_secs, slot.sequence);
    if slot.is_live(now_secs) {
        return None;
    }
    let word = |seen: u32, sequence: u32| (sequence as u64) << 32 | seen as u64;
    let next = sequence.wrapping_add(1);
    // SAFETY: the first eight bytes of an aligned slot in the map, valid for this run.
    let is_claimed =
        unsafe { compare_exchange((slot as *mut Slot).cast(), word(last_seen_secs, sequence), word(now_secs, next)) };
    if !is_claimed {
        return None;
    }
    slot.inner_address = key.inner_address;
    slot.inner_port = key.inner_port;
    slot.external_port = (block.first_port + offset) as u16;
    slot.lease_index = key.lease_index;
    slot.flags = 0;
    slot.open_count = 0;
    slot.protocol = key.protocol as u32;
    Some(MappingValue { slot_index, sequence: next })
}
