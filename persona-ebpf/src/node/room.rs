//! Room in a table that is full though much in it has expired: the agent's sweep returns that memory before it comes to
//! this, but ageing needs no living process.
//!
//! The packet that found the table full is lost, those after it find room. A walk ends once it has made enough room; one
//! that found too little rests, so that a table full of what is live stays cheap.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_for_each_map_elem;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap};
use aya_ebpf::programs::TcContext;
use persona_common::drop::DropReason;
use persona_common::flow::{FLOW_SHARED, FlowKey, FlowValue, MappingKey, MappingValue};
use persona_common::record::{Record, RecordKey};
use persona_common::share::{SharedFlow, SharedKey};
use persona_ebpf::frame::Frame;
use persona_ebpf::header::{ETHERTYPE_IPV6, Ethernet};

use crate::maps::{self, FLOWS, MAPPINGS, RECORDS, SHARED};
use crate::resolve::live_slot;

/// Entries that one walk removes at most.
const REMOVED_COUNT_MAX: u32 = 4096;
/// How long a table is left alone after a walk that did not find so many, seconds.
const REST_SECS: u32 = 1;

/// The tables, by their cell in `RESTS`.
const OF_FLOWS: u32 = 0;
const OF_MAPPINGS: u32 = 1;
const OF_RECORDS: u32 = 2;
const OF_SHARED: u32 = 3;

/// Until when a table is left alone, seconds of the coarse clock. Not pinned: a new program may look at once.
#[map]
static RESTS: Array<u32> = Array::with_max_entries(4, 0);

/// What a walk goes by, and what it has done.
struct Walk {
    now_secs: u32,
    removed_count: u32,
}

/// Makes room where the outcome of a program says that there is none, for the packets that follow.
#[inline(always)]
pub fn looked_after(frame: &TcContext, outcome: Result<i32, DropReason>) -> Result<i32, DropReason> {
    match outcome {
        Err(DropReason::FlowTableFull) => among_flows(is_ipv6(frame)),
        Err(DropReason::MappingTableFull) => among_mappings(),
        _ => 0,
    };
    outcome
}

/// IPv6 has records, IPv4 has flows, or records where a lease is configured.
#[inline(never)]
fn among_flows(is_ipv6: bool) -> u32 {
    if !is_ipv6 {
        let removed_count = walk(&FLOWS, OF_FLOWS, judge_flow as *mut c_void);
        if removed_count != 0 {
            return removed_count;
        }
    }
    walk(&RECORDS, OF_RECORDS, judge_record as *mut c_void)
}

#[inline(never)]
fn among_mappings() -> u32 {
    match walk(&MAPPINGS, OF_MAPPINGS, judge_mapping as *mut c_void) {
        0 => walk(&SHARED, OF_SHARED, judge_shared as *mut c_void),
        removed_count => removed_count,
    }
}

/// Walks over a table from its beginning, unless it rests; gives how many entries are gone.
#[inline(always)]
fn walk<K, V>(table: &'static HashMap<K, V>, cell: u32, judge: *mut c_void) -> u32 {
    let now_secs = maps::now_secs();
    let Some(rest) = RESTS.get_ptr_mut(cell) else { return 0 };
    // SAFETY: an aligned word in the map, valid for this run. It is a hint: a race costs a walk.
    let rest = unsafe { &mut *rest };
    if now_secs < *rest {
        return 0;
    }
    // Whoever comes meanwhile does not walk too.
    *rest = now_secs + REST_SECS;
    let mut walk = Walk { now_secs, removed_count: 0 };
    // SAFETY: the kernel knows the map by the address of its static; the callback takes what it is given here.
    unsafe {
        bpf_for_each_map_elem((&raw const *table).cast_mut().cast(), judge, (&raw mut walk).cast(), 0);
    }
    if walk.removed_count >= REMOVED_COUNT_MAX {
        *rest = now_secs;
    }
    walk.removed_count
}

/// Removes an entry that is over, and says whether the walk is.
#[inline(always)]
fn remove<K, V>(table: &HashMap<K, V>, key: &K, walk: &mut Walk) -> i64 {
    if table.remove(key).is_ok() {
        walk.removed_count += 1;
    }
    (walk.removed_count >= REMOVED_COUNT_MAX) as i64
}

unsafe extern "C" fn judge_flow(_: *mut c_void, key: *const FlowKey, flow: *const FlowValue, walk: *mut Walk) -> i64 {
    // SAFETY: the kernel gives an entry, `walk` the rest.
    let (key, flow, walk) = unsafe { (&*key, &*flow, &mut *walk) };
    if is_flow_live(key, flow, walk.now_secs) { 0 } else { remove(&FLOWS, key, walk) }
}

#[inline(always)]
fn is_flow_live(key: &FlowKey, flow: &FlowValue, now_secs: u32) -> bool {
    if flow.flags & FLOW_SHARED != 0 {
        // SAFETY: plain words that other CPUs may write at the same time, read once.
        let entry = unsafe { SHARED.get(SharedKey::of(key, flow)) };
        return entry.is_some_and(|entry| entry.is_of(key, flow, now_secs));
    }
    live_slot(flow.slot_index, flow.sequence, now_secs).is_some() && !flow.is_silent(key.protocol, now_secs)
}

unsafe extern "C" fn judge_mapping(
    _: *mut c_void,
    key: *const MappingKey,
    mapping: *const MappingValue,
    walk: *mut Walk,
) -> i64 {
    // SAFETY: as in `judge_flow`.
    let (key, mapping, walk) = unsafe { (&*key, &*mapping, &mut *walk) };
    let is_live = live_slot(mapping.slot_index, mapping.sequence, walk.now_secs).is_some();
    if is_live { 0 } else { remove(&MAPPINGS, key, walk) }
}

unsafe extern "C" fn judge_record(
    _: *mut c_void,
    key: *const RecordKey,
    record: *const Record,
    walk: *mut Walk,
) -> i64 {
    // SAFETY: as in `judge_flow`.
    let (key, record, walk) = unsafe { (&*key, &*record, &mut *walk) };
    if record.is_live(key.protocol, walk.now_secs) { 0 } else { remove(&RECORDS, key, walk) }
}

unsafe extern "C" fn judge_shared(
    _: *mut c_void,
    key: *const SharedKey,
    entry: *const SharedFlow,
    walk: *mut Walk,
) -> i64 {
    // SAFETY: as in `judge_flow`.
    let (key, entry, walk) = unsafe { (&*key, &*entry, &mut *walk) };
    if entry.is_live(walk.now_secs) { 0 } else { remove(&SHARED, key, walk) }
}

#[inline(always)]
fn is_ipv6(frame: &TcContext) -> bool {
    frame.read::<Ethernet>(0).is_some_and(|ethernet| ethernet.kind == ETHERTYPE_IPV6)
}
