//! Reports to whoever watches (`persona_common::event`). Off costs one array look-up per packet.

use aya_ebpf::helpers::{bpf_ktime_get_coarse_ns, bpf_ktime_get_ns};
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, PerCpuArray, RingBuf};
use persona_common::drop::DropReason;
use persona_common::event::*;

use crate::frame::Frame;

#[map]
static EVENT_CONFIG: Array<EventConfig> = Array::pinned(1, 0);
#[map]
static EVENTS: RingBuf = RingBuf::pinned(EVENTS_LENGTH, 0);
#[map]
static FLOW_LOG: RingBuf = RingBuf::pinned(FLOW_LOG_LENGTH, 0);
#[map]
static EVENTS_LOST: PerCpuArray<u64> = PerCpuArray::pinned(2, 0);

/// Which packet of two.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    Before,
    After,
}

/// Whether somebody watches for any of `wanted`.
#[inline(always)]
fn is_watched(wanted: u32) -> bool {
    EVENT_CONFIG.get(0).is_some_and(|config| config.wanted & wanted != 0 && now_secs() < config.until_secs)
}

#[inline(always)]
fn now_secs() -> u32 {
    // SAFETY: a helper without arguments.
    (unsafe { bpf_ktime_get_coarse_ns() } / 1_000_000_000) as u32 + 1
}

/// Tells of a drop.
#[inline(always)]
pub fn tell_drop<F: Frame>(frame: &F, hook: Hook, reason: DropReason) {
    if is_watched(WANT_DROPS) {
        send_drop(frame, hook as u32, reason as u32);
    }
}

/// A function of its own, for the sake of the entry point's stack.
#[inline(never)]
fn send_drop<F: Frame>(frame: &F, hook: u32, reason: u32) -> u32 {
    let Some(mut record) = EVENTS.reserve::<DropRecord>(0) else { return count_lost(LOST_EVENTS) };
    let record_ptr = record.as_mut_ptr();
    // SAFETY: the ring gave the memory; every field is written, the bytes as far as `captured` says.
    unsafe {
        let captured = capture::<F, DROP_BYTES>(frame, (&raw mut (*record_ptr).bytes).cast());
        (*record_ptr).header = header(frame, hook, KIND_DROP, reason, captured);
    }
    record.submit(0);
    0
}

/// Tells of a packet before the program or, with its verdict, after it.
#[inline(always)]
pub fn tell_packet<F: Frame>(frame: &F, hook: Hook, moment: Moment, verdict: i32) {
    if is_watched(WANT_PACKETS) {
        let kind = if moment == Moment::Before { KIND_BEFORE } else { KIND_AFTER };
        send_packet(frame, hook as u32, kind, verdict as u32);
    }
}

/// As [`send_drop`].
#[inline(never)]
fn send_packet<F: Frame>(frame: &F, hook: u32, kind: u32, verdict: u32) -> u32 {
    let Some(mut record) = EVENTS.reserve::<PacketRecord>(0) else { return count_lost(LOST_EVENTS) };
    let record_ptr = record.as_mut_ptr();
    // SAFETY: as above.
    unsafe {
        let captured = capture::<F, PACKET_BYTES>(frame, (&raw mut (*record_ptr).bytes).cast());
        (*record_ptr).header = header(frame, hook, kind, verdict, captured);
    }
    record.submit(0);
    0
}

/// Tells of a flow; `make` is called only if somebody watches. It need not fill in kind, hook and time.
#[inline(always)]
pub fn tell_flow<F: Frame>(frame: &F, hook: Hook, kind: u32, make: impl Fn() -> FlowRecord) {
    if is_watched(WANT_FLOWS) {
        send_flow(&EVENTS, LOST_EVENTS, frame, hook, kind, &make);
    }
    let is_logged =
        EVENT_CONFIG.get(0).is_some_and(|config| config.flow_log != 0 && now_secs() < config.flow_log_until_secs);
    if is_logged {
        send_flow(&FLOW_LOG, LOST_FLOW_LOG, frame, hook, kind, &make);
    }
}

#[inline(always)]
fn send_flow<F: Frame>(ring: &RingBuf, lost: u32, frame: &F, hook: Hook, kind: u32, make: &impl Fn() -> FlowRecord) {
    let Some(mut record) = ring.reserve::<FlowRecord>(0) else {
        count_lost(lost);
        return;
    };
    let filled = FlowRecord { header: header(frame, hook as u32, kind, 0, 0), ..make() };
    record.write(filled);
    record.submit(0);
}

#[inline(always)]
fn header<F: Frame>(frame: &F, hook: u32, kind: u32, detail: u32, captured: u32) -> RecordHeader {
    RecordHeader {
        kind,
        hook,
        // SAFETY: a helper without arguments.
        time_ns: unsafe { bpf_ktime_get_ns() },
        detail,
        ifindex: frame.ifindex(),
        length: frame.length() as u32,
        captured,
    }
}

/// Copies as much as fits into `LENGTH` bytes, a power of two; says how much that is.
///
/// # Safety
/// `to` points to `LENGTH` writable bytes.
#[inline(always)]
unsafe fn capture<F: Frame, const LENGTH: usize>(frame: &F, to: *mut u8) -> u32 {
    let length = frame.length() as u32;
    if length == 0 {
        return 0;
    }
    let length = if length > LENGTH as u32 { LENGTH as u32 } else { length };
    // The compiler knows the bound and would leave out the mask; the verifier has lost it and wants to see one.
    let length = (core::hint::black_box(length - 1) & (LENGTH as u32 - 1)) + 1;
    // SAFETY: the caller vouches for the buffer.
    if unsafe { frame.copy_out(0, to, length) } { length } else { 0 }
}

#[inline(always)]
fn count_lost(which: u32) -> u32 {
    if let Some(cell) = EVENTS_LOST.get_ptr_mut(which) {
        // SAFETY: a cell of this CPU.
        unsafe { *cell += 1 };
    }
    0
}
