//! Flows that open and packets that are dropped, per subject and per CPU.
//!
//! A drop counts here once its subject is known: that of the device, of the source on a shared device, of the sending
//! process, or of the lease that a packet from outside is for.

use aya_ebpf::macros::map;
use aya_ebpf::maps::PerCpuArray;
use persona_common::maps::SUBJECT_COUNT_MAX;
use persona_common::node::{DEVICE_SHARED, Device};
use persona_common::traffic::SubjectCounts;

#[map]
static SUBJECT_COUNTS: PerCpuArray<SubjectCounts> = PerCpuArray::pinned(SUBJECT_COUNT_MAX, 0);

/// Counts a flow that opens.
#[inline(always)]
pub fn count_opened(subject_index: u32) {
    if let Some(counts) = SUBJECT_COUNTS.get_ptr_mut(subject_index) {
        // SAFETY: a cell of this CPU; programs of one hook don't interrupt each other on it.
        unsafe { (*counts).opened_flows += 1 };
    }
}

/// Counts a packet of a subject that is dropped.
#[inline(always)]
pub fn count_dropped(subject_index: u32) {
    if let Some(counts) = SUBJECT_COUNTS.get_ptr_mut(subject_index) {
        // SAFETY: as in `count_opened`.
        unsafe { (*counts).dropped_packets += 1 };
    }
}

/// Counts a packet that is dropped before its source was looked at, if only one subject is behind the device.
#[inline(always)]
pub fn count_dropped_at(device: &Device) {
    if device.flags & DEVICE_SHARED == 0 {
        count_dropped(device.subject_index);
    }
}
