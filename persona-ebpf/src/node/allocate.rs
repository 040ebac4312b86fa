//! A free port of a lease for a new mapping.
//!
//! First the port with the same low bits as the inner one, then next-fit from a cursor, so that a port just freed is the
//! last to come back; ports of the inner one's parity before the others (RFC 4787 REQ-4). A slot is claimed by one
//! compare-and-swap of (last seen, sequence). A live port is never taken.

use core::ffi::c_void;
use core::num::NonZeroU32;

use aya_ebpf::helpers::generated::bpf_loop;
use persona_common::drop::DropReason;
use persona_common::flow::{MappingKey, MappingValue, PORTLESS, SLOT_SHARED, Slot, slot_protocol_index};
use persona_common::maps::BLOCKS_PER_LEASE_MAX;
use persona_common::node::Lease;

use crate::atomic::{self, compare_exchange};
use crate::maps::{CURSORS, LEASES};
use crate::resolve::slot_mut;

/// Slots that one packet looks at before it gives up.
const PROBE_COUNT_MAX: u32 = 4096;
/// The same, when a packet has found nothing in the same second: exhaustion must stay cheap.
const PROBE_COUNT_EXHAUSTED: u32 = 32;
/// Ports below are given by whole-address leases only, and only to inner ports that are below too (RFC 4787 REQ-3).
const FIRST_UNPRIVILEGED_PORT: u32 = 1024;
/// The cursor's lower half is the next position, the upper half the second in which nothing was found.
const POSITION_MASK: u32 = 0xffff;

/// What the search has to go by, and what it finds.
struct Search {
    key: MappingKey,
    now_secs: u32,
    start: u32,
    position: u32,
    found: MappingValue,
    is_found: u32,
}

/// Claims a slot of the lease with this index for the mapping.
#[inline(always)]
pub fn allocate(lease: &Lease, key: &MappingKey, now_secs: u32) -> Result<MappingValue, DropReason> {
    // A configured lease has no slots: the workload shall use its address, and this isn't it.
    let port_count = port_count(lease).ok_or(DropReason::SourceAddress)?;
    let same_low_bits = key.inner_port as u32 % port_count;
    if let Some(value) = claim(lease, key, same_low_bits, now_secs) {
        return Ok(value);
    }
    let mut search = Search {
        key: *key,
        now_secs,
        start: 0,
        position: 0,
        found: MappingValue { slot_index: 0, sequence: 0 },
        is_found: 0,
    };
    next_fit(port_count, &mut search)?;
    Ok(search.found)
}

/// Gives back a slot that was claimed a moment ago and not used.
#[inline(always)]
pub fn release(value: &MappingValue, now_secs: u32) {
    let Some(slot) = slot_mut(value.slot_index) else { return };
    // SAFETY: the first eight bytes of an aligned slot in the map, valid for this run. Not ours any more: leave it.
    unsafe { compare_exchange((slot as *mut Slot).cast(), word(now_secs, value.sequence), word(0, value.sequence)) };
}

/// Ports of a lease; None: it has none.
#[inline(always)]
pub fn port_count(lease: &Lease) -> Option<NonZeroU32> {
    NonZeroU32::new(lease.block_count << (lease.block_bits & 31))
}

/// The cell that holds the cursor of a lease's ports of a protocol.
#[inline(always)]
pub fn cursor(lease_index: u32, protocol: u8) -> Option<&'static mut u32> {
    // SAFETY: an aligned u32 in the map, valid for this run. It is a hint: a race costs a probe.
    CURSORS.get_ptr_mut(lease_index * 3 + slot_protocol_index(protocol)).map(|cursor| unsafe { &mut *cursor })
}

/// The slot at a position among the lease's ports of a protocol, and its external port.
#[inline(always)]
pub fn slot_at(lease: &Lease, protocol: u8, position: u32) -> (u32, u32) {
    let block_bits = lease.block_bits & 31;
    let offset = position & ((1 << block_bits) - 1);
    let block = lease.blocks[(position >> block_bits) as usize & (BLOCKS_PER_LEASE_MAX - 1)];
    (block.slot_base + (slot_protocol_index(protocol) << block_bits) + offset, block.first_port + offset)
}

#[inline(always)]
fn next_fit(port_count: NonZeroU32, search: &mut Search) -> Result<(), DropReason> {
    let cursor = cursor(search.key.lease_index, search.key.protocol as u8).ok_or(DropReason::Kernel)?;
    let now = search.now_secs & POSITION_MASK;
    let is_exhausted = *cursor >> 16 == now && now != 0;
    let start = *cursor & POSITION_MASK;
    let probe_count = if is_exhausted { PROBE_COUNT_EXHAUSTED } else { PROBE_COUNT_MAX };
    let probe_count = if port_count.get() < probe_count { port_count.get() } else { probe_count };
    let parity = (start ^ search.key.inner_port as u32) & 1;
    let half = probe_count / 2 + 1;
    let mut pass = 0;
    while pass < 2 {
        search.start = start + (parity ^ pass);
        // SAFETY: the callback takes what it is given here.
        unsafe { bpf_loop(half, probe as *mut c_void, (search as *mut Search).cast(), 0) };
        if search.is_found != 0 {
            *cursor = (search.position + 1) % port_count;
            return Ok(());
        }
        pass += 1;
    }
    *cursor = ((start + half * 2) % port_count) | (now << 16);
    Err(DropReason::PortsExhausted)
}

/// Tries every second port from the start, those of one parity.
unsafe extern "C" fn probe(index: u32, search: *mut Search) -> i64 {
    // SAFETY: `next_fit` passed it.
    let search = unsafe { &mut *search };
    let Some(lease) = LEASES.get(search.key.lease_index) else { return 1 };
    let Some(port_count) = port_count(lease) else { return 1 };
    let position = (search.start + index * 2) % port_count;
    match claim(lease, &search.key, position, search.now_secs) {
        Some(value) => {
            search.found = value;
            search.position = position;
            search.is_found = 1;
            1
        }
        None => 0,
    }
}

/// Claims the slot at a position among the lease's ports, unless it is live.
#[inline(always)]
fn claim(lease: &Lease, key: &MappingKey, position: u32, now_secs: u32) -> Option<MappingValue> {
    let (slot_index, external_port) = slot_at(lease, key.protocol as u8, position);
    if !suits(key, external_port) {
        return None;
    }
    let slot = slot_mut(slot_index)?;
    let (last_seen_secs, sequence) = (slot.last_seen_secs, slot.sequence);
    if slot.is_live(now_secs) {
        return None;
    }
    let next = sequence.wrapping_add(1);
    // SAFETY: the first eight bytes of an aligned slot in the map, valid for this run.
    let is_claimed =
        unsafe { compare_exchange((slot as *mut Slot).cast(), word(last_seen_secs, sequence), word(now_secs, next)) };
    if !is_claimed {
        return None;
    }
    slot.inner_address = key.inner_address;
    slot.inner_port = key.inner_port;
    slot.external_port = external_port as u16;
    slot.lease_index = key.lease_index;
    // Flows that share the port outlive its owner.
    atomic::clear_bits(&mut slot.flags, !SLOT_SHARED);
    slot.open_count = 0;
    slot.protocol = key.protocol as u32;
    Some(MappingValue { slot_index, sequence: next })
}

/// Whether a port may be given to the mapping. Port 0 stands for all protocols without ports.
#[inline(always)]
fn suits(key: &MappingKey, external_port: u32) -> bool {
    if key.protocol as u8 == PORTLESS {
        return external_port == 0;
    }
    external_port >= FIRST_UNPRIVILEGED_PORT || external_port != 0 && (key.inner_port as u32) < FIRST_UNPRIVILEGED_PORT
}

#[inline(always)]
fn word(last_seen_secs: u32, sequence: u32) -> u64 {
    (sequence as u64) << 32 | last_seen_secs as u64
}
