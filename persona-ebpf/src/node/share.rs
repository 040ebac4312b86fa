//! TCP ports shared between remotes that differ, once a lease's blocks are full.
//!
//! The slot stays its owner's. A flow that shares its port is an entry (slot, remote) in `SHARED`; its `FLOWS` entry says
//! `FLOW_SHARED` and the entry's sequence. Who looks inward asks `SHARED` first wherever the slot says `SLOT_SHARED`.

use core::ffi::c_void;

use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::helpers::generated::bpf_loop;
use persona_common::drop::DropReason;
use persona_common::flow::{
    FLOW_RESET_INWARD, FLOW_SHARED, FLOW_TICK_SHIFT, FlowKey, FlowValue, SLOT_SHARED, TCP, flow_tick,
};
use persona_common::node::{Lease, Subject};
use persona_common::share::{SharedFlow, SharedKey};
use persona_ebpf::header::{TCP_FIN, TCP_RST};
use persona_ebpf::outcome::pack;
use persona_ebpf::packet::{Direction, Packet};

use crate::allocate::{cursor, port_count, slot_at};
use crate::maps::{FLOWS, LEASES, SHARED};
use crate::resolve::{Given, Mapping, flow_key, newest_lease, slot_mut};
use crate::{atomic, track};

/// Slots that one packet tries to share; its retransmission goes on from there.
const SHARE_PROBE_COUNT_MAX: u32 = 64;
/// Where a lease's cursor keeps the position.
const POSITION_MASK: u32 = 0xffff;

/// What the search has to go by, and what it finds. Keys and values stand here so that they are on the stack once.
struct Search {
    /// The entry that is tried.
    key: SharedKey,
    flow: SharedFlow,
    /// The flow that the owner of the slot may have to the remote.
    owner_flow: FlowKey,
    start: u32,
    is_found: u32,
    /// The table had no room for an entry.
    is_full: u32,
}

/// The mapping of a flow that leaves under a shared port, if that is still in force; refreshes it.
#[inline(always)]
pub fn existing(packet: &Packet, subject: &Subject, flow: &mut FlowValue, now_secs: u32) -> Option<Mapping> {
    let shared = entry(flow.slot_index, packet.ip.destination, packet.remote_port, now_secs)?;
    let is_own = shared.sequence == flow.sequence
        && shared.inner_address == packet.ip.source
        && shared.inner_port == packet.local_port;
    let lease = LEASES.get(shared.lease_index)?;
    if !is_own || lease.id as u32 != shared.lease_id_low || !is_holder(lease, subject) {
        return None;
    }
    if shared.last_seen_secs != now_secs {
        shared.last_seen_secs = now_secs;
        track::touch(flow, now_secs);
    }
    let mut is_closed = false;
    if packet.tcp_flags & (TCP_FIN | TCP_RST) != 0 || flow.flags & FLOW_RESET_INWARD != 0 {
        let change = track::follow(flow, packet.tcp_flags, Direction::Outward);
        track::tell_shared(shared, change);
        is_closed = change.is_end();
    }
    Some(Mapping { lease, lease_index: shared.lease_index, external_port: shared.external_port, is_closed })
}

/// Whether the port of a slot is shared away towards a packet's remote.
#[inline(always)]
pub fn is_taken(packet: &Packet, slot_index: u32, now_secs: u32) -> bool {
    entry(slot_index, packet.ip.destination, packet.remote_port, now_secs).is_some()
}

/// The live entry of a slot towards a remote.
#[inline(always)]
pub fn entry(slot_index: u32, remote_address: u32, remote_port: u16, now_secs: u32) -> Option<&'static mut SharedFlow> {
    let shared = SHARED.get_ptr_mut(SharedKey { slot_index, remote_address, remote_port: remote_port as u32 })?;
    // SAFETY: a pointer into the map, valid for this run; plain words that other CPUs may write at the same time.
    let shared = unsafe { &mut *shared };
    shared.is_live(now_secs).then_some(shared)
}

/// Gives a new TCP flow a port of the subject's newest lease that nobody uses towards its remote. A function of its own:
/// it runs when all ports are taken.
#[inline(never)]
pub fn take(packet: &Packet, subject: &Subject, now_secs: u32, given: &mut Given) -> u64 {
    match try_take(packet, subject, now_secs) {
        Ok((lease_index, external_port)) => {
            (given.lease_index, given.external_port) = (lease_index, external_port as u32);
            pack(Ok(0))
        }
        Err(reason) => pack(Err(reason)),
    }
}

#[inline(always)]
fn try_take(packet: &Packet, subject: &Subject, now_secs: u32) -> Result<(u32, u16), DropReason> {
    let (lease_index, lease) = newest_lease(subject)?;
    let mut search = Search {
        key: SharedKey { slot_index: 0, remote_address: packet.ip.destination, remote_port: packet.remote_port as u32 },
        flow: SharedFlow {
            last_seen_secs: now_secs,
            sequence: 0,
            inner_address: packet.ip.source,
            inner_port: packet.local_port,
            external_port: 0,
            lease_index,
            lease_id_low: lease.id as u32,
            flags: 0,
            reserved: 0,
        },
        owner_flow: flow_key(packet, subject),
        start: 0,
        is_found: 0,
        is_full: 0,
    };
    search_ports(lease, &mut search)?;
    // A firewall judges it anew with its next packet: its generation too would cost the stack a word that older kernels lack.
    let flags = FLOW_SHARED | flow_tick(now_secs) << FLOW_TICK_SHIFT;
    let flow = FlowValue { slot_index: search.key.slot_index, sequence: search.flow.sequence, flags };
    search.owner_flow = flow_key(packet, subject);
    FLOWS.insert(&search.owner_flow, flow, 0).map_err(|_| DropReason::FlowTableFull)?;
    Ok((lease_index, search.flow.external_port))
}

#[inline(always)]
fn search_ports(lease: &Lease, search: &mut Search) -> Result<(), DropReason> {
    let cursor = cursor(search.flow.lease_index, TCP).ok_or(DropReason::Kernel)?;
    let port_count = port_count(lease).ok_or(DropReason::NoLease)?.get();
    let tried = if port_count < SHARE_PROBE_COUNT_MAX { port_count } else { SHARE_PROBE_COUNT_MAX };
    search.start = *cursor & POSITION_MASK;
    // SAFETY: the callback takes what it is given here.
    unsafe { bpf_loop(tried, probe as *mut c_void, (search as *mut Search).cast(), 0) };
    // The mark of exhaustion in the upper half stays.
    *cursor = (*cursor & !POSITION_MASK) | ((search.start + tried) % port_count);
    match (search.is_found, search.is_full) {
        (0, 0) => Err(DropReason::PortsExhausted),
        (0, _) => Err(DropReason::MappingTableFull),
        _ => Ok(()),
    }
}

unsafe extern "C" fn probe(index: u32, search: *mut Search) -> i64 {
    // SAFETY: `search_ports` passed it.
    let search = unsafe { &mut *search };
    let Some(lease) = LEASES.get(search.flow.lease_index) else { return 1 };
    let Some(port_count) = port_count(lease) else { return 1 };
    try_share(lease, (search.start + index) % port_count, search) as i64
}

/// Shares the port at a position, if it is free towards the remote.
#[inline(always)]
fn try_share(lease: &Lease, position: u32, search: &mut Search) -> bool {
    let now_secs = search.flow.last_seen_secs;
    let (slot_index, _) = slot_at(lease, TCP, position);
    let Some(slot) = slot_mut(slot_index) else { return false };
    if !slot.is_live(now_secs) {
        return false;
    }
    search.key.slot_index = slot_index;
    search.flow.external_port = slot.external_port;
    if !claim(search) {
        return false;
    }
    atomic::set_bits(&mut slot.flags, SLOT_SHARED);
    // Claimed first, looked up then: the owner does it the other way round, so that one sees the other.
    search.owner_flow.inner_address = slot.inner_address;
    search.owner_flow.inner_port = slot.inner_port;
    // SAFETY: a value in the map, valid for this run; plain words that other CPUs may write at the same time.
    let is_owners = unsafe { FLOWS.get(&search.owner_flow) }.is_some_and(|flow| {
        flow.flags & FLOW_SHARED == 0 && flow.slot_index == slot_index && flow.sequence == slot.sequence
    });
    if is_owners {
        release(search);
        return false;
    }
    search.is_found = 1;
    true
}

/// Makes the port the flow's towards its remote; leaves the entry's sequence in `search`.
#[inline(always)]
fn claim(search: &mut Search) -> bool {
    search.flow.sequence = 1;
    if SHARED.insert(&search.key, &search.flow, BPF_NOEXIST as u64).is_ok() {
        return true;
    }
    let Some(entry) = SHARED.get_ptr_mut(&search.key) else {
        search.is_full = 1;
        return false;
    };
    // SAFETY: as in `entry`.
    let entry = unsafe { &mut *entry };
    let now_secs = search.flow.last_seen_secs;
    let (last_seen_secs, sequence) = (entry.last_seen_secs, entry.sequence);
    if entry.is_live(now_secs) {
        return false;
    }
    let next = sequence.wrapping_add(1);
    // SAFETY: the first eight bytes of an aligned value in the map, valid for this run.
    let is_claimed = unsafe {
        let entry = (entry as *mut SharedFlow).cast();
        atomic::compare_exchange(entry, word(last_seen_secs, sequence), word(now_secs, next))
    };
    if !is_claimed {
        return false;
    }
    entry.inner_address = search.flow.inner_address;
    entry.inner_port = search.flow.inner_port;
    entry.external_port = search.flow.external_port;
    entry.lease_index = search.flow.lease_index;
    entry.lease_id_low = search.flow.lease_id_low;
    entry.flags = 0;
    search.flow.sequence = next;
    true
}

/// Gives back what was claimed a moment ago.
#[inline(always)]
fn release(search: &Search) {
    let Some(entry) = SHARED.get_ptr_mut(&search.key) else { return };
    let (now_secs, sequence) = (search.flow.last_seen_secs, search.flow.sequence);
    // SAFETY: as above. Not ours any more: leave it.
    unsafe { atomic::compare_exchange(entry.cast(), word(now_secs, sequence), word(0, sequence)) };
}

#[inline(always)]
fn word(last_seen_secs: u32, sequence: u32) -> u64 {
    (sequence as u64) << 32 | last_seen_secs as u64
}

/// Whether the subject holds the lease.
#[inline(always)]
fn is_holder(lease: &Lease, subject: &Subject) -> bool {
    use crate::maps::SUBJECTS;
    SUBJECTS.get(lease.subject_index).is_some_and(|holder| holder.number == subject.number)
}
