//! Counters, kept per CPU: drops by reason, traffic per index.

use aya_ebpf::macros::map;
use aya_ebpf::maps::PerCpuArray;
use persona_common::drop::{DROP_REASON_COUNT_MAX, DropReason};
use persona_common::maps::PERSONA_COUNT_MAX;
use persona_common::traffic::TrafficCell;

use crate::packet::Direction;

/// Drops, by [`DropReason`].
#[map]
static DROPS: PerCpuArray<u64> = PerCpuArray::pinned(DROP_REASON_COUNT_MAX, 0);

/// Traffic per persona, by the index that `PERSONAS` lists.
#[map]
static PERSONA_TRAFFIC: PerCpuArray<TrafficCell> = PerCpuArray::pinned(PERSONA_COUNT_MAX, 0);

/// Counts a drop.
#[inline(always)]
pub fn count_drop(reason: DropReason) {
    if let Some(cell) = DROPS.get_ptr_mut(reason as u32) {
        // SAFETY: a cell of this CPU; programs of one hook don't interrupt each other on it.
        unsafe { *cell += 1 };
    }
}

/// Packets given to the slow path.
#[map]
static HANDED_OVER: PerCpuArray<u64> = PerCpuArray::pinned(1, 0);

/// Counts a packet given to the slow path.
#[inline(always)]
pub fn count_handed_over() {
    if let Some(cell) = HANDED_OVER.get_ptr_mut(0) {
        // SAFETY: as in `count_drop`.
        unsafe { *cell += 1 };
    }
}

/// Counts packets and bytes of a persona.
#[inline(always)]
pub fn count_persona(index: u32, direction: Direction, packets: u64, bytes: u64) {
    add(&PERSONA_TRAFFIC, index, direction, packets, bytes);
}

/// Adds to one cell.
#[inline(always)]
pub fn add(map: &PerCpuArray<TrafficCell>, index: u32, direction: Direction, packets: u64, bytes: u64) {
    let Some(cell) = map.get_ptr_mut(index) else { return };
    // SAFETY: as in `count_drop`.
    let cell = unsafe { &mut *cell };
    match direction {
        Direction::Outward => {
            cell.egress_packets += packets;
            cell.egress_bytes += bytes;
        }
        Direction::Inward => {
            cell.ingress_packets += packets;
            cell.ingress_bytes += bytes;
        }
    }
}
