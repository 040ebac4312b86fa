//! What was known a moment ago, of devices and of flows ([`persona_common::hint`]): a cache line in the place of tables.
//!
//! None of it is pinned: a program that is loaded anew begins without, and has it again after a packet.

use aya_ebpf::Global;
use aya_ebpf::helpers::bpf_jiffies64;
use aya_ebpf::macros::map;
use aya_ebpf::maps::Array;
use aya_ebpf::programs::TcContext;
use persona_common::flow::FlowKey;
use persona_common::hint::{Fingerprint, FlowHint, Ground, Sender, Way, device_hint_cell, hinted_sender};
use persona_common::maps::{DEVICE_HINT_COUNT, FLOW_HINT_COUNT};
use persona_common::node::{Lease, Subject};
use persona_ebpf::frame::Frame;

use crate::maps::{GROUPS, LEASES, NODE_CONFIG};

/// Any number that nobody knows who sends packets. Written by user space before it loads the object.
#[unsafe(no_mangle)]
pub static HINT_SECRET: Global<u64> = Global::new(0);

#[map]
static DEVICE_HINTS: Array<u64> = Array::with_max_entries(DEVICE_HINT_COUNT, 0);

#[map]
static FLOW_HINTS: Array<FlowHint> = Array::with_max_entries(FLOW_HINT_COUNT, 0);

/// log2 of the kernel's ticks in a period: a quarter of a second to two and a half, as the kernel was built. No mapping of an
/// established flow is lost within ten.
const PERIOD_SHIFT: u32 = 8;

/// Whose device a packet came in by, if there is a hint.
#[inline(always)]
pub fn sender(frame: &TcContext) -> Option<Sender> {
    let ifindex = frame.ifindex();
    DEVICE_HINTS.get(device_hint_cell(ifindex)).and_then(|hint| hinted_sender(*hint, ifindex))
}

/// A flow, as hints know it.
#[inline(always)]
pub fn fingerprint(flow: &FlowKey) -> Fingerprint {
    Fingerprint::of(HINT_SECRET.load(), flow)
}

/// How a flow of the subject left in this period, if nothing has changed.
#[inline(always)]
pub fn way(flow: Fingerprint, subject: &Subject) -> Option<Way> {
    let hint = FLOW_HINTS.get_ptr(flow.cell())?;
    // SAFETY: aligned words of the map, valid for this run; what other CPUs write between them the seal tells.
    let (way, seal) = unsafe {
        (core::ptr::read_volatile(&raw const (*hint).way), core::ptr::read_volatile(&raw const (*hint).seal))
    };
    let way = Way::unpacked(way);
    let lease = LEASES.get(way.lease_index)?;
    (way.seal(flow, &ground(lease, subject)?) == seal).then_some(way)
}

/// Notes how a flow of the subject leaves, under a lease that was in force when this packet came.
#[inline(always)]
pub fn note(flow: Fingerprint, subject: &Subject, lease: &Lease, way: Way) {
    let (Some(hint), Some(ground)) = (FLOW_HINTS.get_ptr_mut(flow.cell()), ground(lease, subject)) else { return };
    // SAFETY: as in `way`.
    unsafe {
        core::ptr::write_volatile(&raw mut (*hint).way, way.packed());
        core::ptr::write_volatile(&raw mut (*hint).seal, way.seal(flow, &ground));
    }
}

/// Forgets how a flow leaves: its next packet has something to change.
#[inline(always)]
pub fn forget(flow: &FlowKey) {
    let Some(hint) = FLOW_HINTS.get_ptr_mut(fingerprint(flow).cell()) else { return };
    // SAFETY: as in `way`. It may have been another flow's, which then is looked up once more.
    unsafe { core::ptr::write_volatile(&raw mut (*hint).seal, 0) };
}

#[inline(always)]
fn ground(lease: &Lease, subject: &Subject) -> Option<Ground> {
    let (group, config) = (GROUPS.get(lease.group_index)?, NODE_CONFIG.get(0)?);
    // SAFETY: a helper without arguments, which the kernel replaces by a load.
    let ticks = unsafe { bpf_jiffies64() };
    let period = ((ticks >> PERIOD_SHIFT) as u32).wrapping_add(config.clock_offset_secs);
    Some(Ground { lease_id: lease.id, row_base: group.row_base, verdict: subject.verdict(), period })
}
