//! The safety net behind queues: what is far beyond a subject's rate is dropped ([`persona_common::police`]). Where edges hold
//! the rate themselves, a packet also names its class in their queues, or the bucket is of the rate itself.
//!
//! Asked by whoever carries a packet, once per packet and direction, and counts it if it may pass. CPUs share a bucket without a lock:
//! each looks first and charges then, so that every byte that passes is charged, and of packets that come at the same time
//! at most one per CPU passes beyond the burst.

use persona_common::drop::DropReason;
use persona_common::edge::{EdgeBlock, EdgeConfig};
use persona_common::police::{CLASS_HANDLE, Found};
use persona_ebpf::atomic::{add_long, compare_exchange};
use persona_ebpf::count::count_persona;
use persona_ebpf::frame::Frame;
use persona_ebpf::packet::Direction;

use crate::maps;

/// What a packet without a class is admitted by.
const ADMITTED: u32 = 1;

/// Counts a packet as its persona's traffic, unless it is beyond its subject's rate, and says which queue is its own. One that
/// has no rate costs a comparison.
#[inline(always)]
pub fn admit<F: Frame>(
    frame: &F,
    config: &EdgeConfig,
    block: EdgeBlock,
    direction: Direction,
    packets: u64,
    byte_count: u64,
) -> Result<(), DropReason> {
    admit_by(frame, block, direction, packets, byte_count, |index| {
        charge_apart(index, direction as u32, byte_count, config.clock_offset_secs)
    })
}

/// As [`admit`] for the ordinary packet: without a call where the stack has room for that, at XDP.
#[inline(always)]
pub fn admit_ordinary<F: Frame>(
    frame: &F,
    config: &EdgeConfig,
    block: EdgeBlock,
    direction: Direction,
    packets: u64,
    byte_count: u64,
) -> Result<(), DropReason> {
    if F::HAS_WIRE {
        return admit(frame, config, block, direction, packets, byte_count);
    }
    admit_by(frame, block, direction, packets, byte_count, |index| {
        charge(index, direction, byte_count, config.clock_offset_secs)
    })
}

/// Asks `charge` what becomes of a packet of a subject with a rate, by the index of its cell.
#[inline(always)]
fn admit_by<F: Frame>(
    frame: &F,
    block: EdgeBlock,
    direction: Direction,
    packets: u64,
    byte_count: u64,
    charge: impl FnOnce(u32) -> u32,
) -> Result<(), DropReason> {
    let admitted = match block.policer_index() {
        0 => ADMITTED,
        index => charge(index),
    };
    if admitted == 0 {
        return Err(DropReason::Policed);
    }
    count_persona(block.persona_index(), direction, packets, byte_count);
    if admitted != ADMITTED {
        frame.set_class(admitted);
    }
    Ok(())
}

/// 0, [`ADMITTED`] or a class. A function of its own, for the sake of the stack: on Linux 6.1, what is kept over a call is too
/// much for fragments at TC.
#[inline(never)]
fn charge_apart(index: u32, direction: u32, byte_count: u64, clock_offset_secs: u32) -> u32 {
    let direction = if direction == Direction::Outward as u32 { Direction::Outward } else { Direction::Inward };
    charge(index, direction, byte_count, clock_offset_secs)
}

#[inline(always)]
fn charge(index: u32, direction: Direction, byte_count: u64, clock_offset_secs: u32) -> u32 {
    let Some(policer) = maps::policer(index) else { return ADMITTED };
    // SAFETY: within the cell, whose words are read one by one; user space writes all but what is due seldom.
    let (rates_index, due) = unsafe {
        let due = match direction {
            Direction::Outward => &raw mut (*policer).egress_due_ns,
            Direction::Inward => &raw mut (*policer).ingress_due_ns,
        };
        (core::ptr::read_volatile(&raw const (*policer).rates_index), due)
    };
    let Some(rates) = maps::policed_rates(rates_index) else { return ADMITTED };
    let rate = match direction {
        Direction::Outward => rates.egress,
        Direction::Inward => rates.ingress,
    };
    if rate.cost_per_byte == 0 {
        return ADMITTED;
    }
    // SAFETY: as above.
    let due_ns = unsafe { core::ptr::read_volatile(due) };
    let now_ns = maps::now_ns(clock_offset_secs);
    let cost_ns = rate.cost_ns(byte_count);
    let found = rate.find(due_ns, now_ns);
    if found == Found::Beyond {
        return 0;
    }
    // SAFETY: an aligned word in the map.
    unsafe {
        // Whoever was faster has started the time anew; then this packet is one more.
        if found == Found::Within || !compare_exchange(due, due_ns, now_ns + cost_ns) {
            add_long(due, cost_ns);
        }
    }
    // SAFETY: as above.
    match unsafe { core::ptr::read_volatile(&raw const (*policer).class_minor) } {
        0 => ADMITTED,
        minor => CLASS_HANDLE | (minor as u32 + direction as u32),
    }
}
