//! Which instance a flow goes to. A flow with a record stays with its instance while that lives, draining or not. Any other
//! one gets an instance that takes new flows: its client's, where the service has client affinity, else its row's first
//! choice, its second, or one of a few rows on.
//!
//! TCP in mid-stream without a record is treated as a new flow: where the table is what it was, it finds the instance that
//! it had, at another gateway too; where not, whoever gets it resets it.
#![expect(clippy::needless_borrows_for_generic_args, reason = "keys given by value are copied onto the stack")]

use persona_common::drop::DropReason;
use persona_common::flow::{ROW_WALK_MAX, ROW_WALK_STEP, TCP, row_of_hash};
use persona_common::gateway::*;
use persona_ebpf::header::{TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN};

use crate::maps::{self, AFFINITIES, GATEWAY_FLOWS};
use crate::stage::{Next, pack_stage};
use crate::visit::{Visit, visit};

/// What only looks does.
pub const LOOK: u32 = 0;
/// What may open or refresh a flow does.
pub const OPEN: u32 = 1;

/// The instance of the visit's flow. With [`LOOK`] nothing changes, and a flow must be there.
#[inline(never)]
pub fn run(purpose: u32) -> u64 {
    pack_stage(choose(purpose).map(Next::instance))
}

#[inline(always)]
fn choose(purpose: u32) -> Result<u32, DropReason> {
    let visit = visit()?;
    let now_secs = maps::now_secs();
    if let Some(index) = follow(visit, purpose, now_secs) {
        return Ok(index);
    }
    if purpose == LOOK {
        return Err(DropReason::NoMapping);
    }
    let service = maps::service(visit.key.service_index)?;
    let index = pick(visit, service, now_secs)?;
    let instance = maps::instance(index)?;
    let flow = GatewayFlow {
        instance_index: index,
        sequence: instance.sequence,
        seen_secs: now_secs,
        client_flags: client_flags(0, visit.tcp_flags),
        instance_flags: if instance.delivery == DELIVERY_NAT { 0 } else { FLOW_RETURNS_DIRECTLY },
        ifindex: visit.ifindex,
        client_mac: visit.client_mac,
        reserved: 0,
    };
    GATEWAY_FLOWS.insert(&visit.key, &flow, 0).map_err(|_| DropReason::FlowTableFull)?;
    maps::count_opened(index);
    Ok(index)
}

/// The instance of a flow that has a record in force.
#[inline(always)]
fn follow(visit: &Visit, purpose: u32, now_secs: u32) -> Option<u32> {
    let flow = GATEWAY_FLOWS.get_ptr_mut(&visit.key)?;
    // SAFETY: a value of the map, valid for this run; several CPUs may write the same of it.
    let flow = unsafe { &mut *flow };
    let opens = visit.tcp_flags as u8 & (TCP_SYN | TCP_ACK | TCP_RST) == TCP_SYN;
    let index = flow.instance_index;
    let is_its = maps::instance(index).is_ok_and(|instance| instance.sequence == flow.sequence);
    let is_over = !flow.is_live(visit.protocol as u8, now_secs) || (opens && flow.is_closed());
    if !is_its || is_over || maps::state(index) & INSTANCE_ALIVE == 0 {
        return None;
    }
    if purpose == OPEN {
        refresh(flow, visit, now_secs);
    }
    Some(index)
}

/// Notes a packet of the client. Written only where something changes, so that CPUs don't take the line from each other.
#[inline(always)]
fn refresh(flow: &mut GatewayFlow, visit: &Visit, now_secs: u32) {
    if flow.seen_secs != now_secs {
        flow.seen_secs = now_secs;
        // The way back may have changed; once a second is soon enough.
        flow.ifindex = visit.ifindex;
        flow.client_mac = visit.client_mac;
    }
    let flags = client_flags(flow.client_flags, visit.tcp_flags);
    if flags != flow.client_flags {
        flow.client_flags = flags;
    }
}

/// The client's flags after a packet with these TCP flags. A connection that goes on was not reset (RFC 5961 §3).
#[inline(always)]
fn client_flags(before: u32, tcp_flags: u32) -> u32 {
    let tcp_flags = tcp_flags as u8;
    let mut flags = before;
    if tcp_flags & TCP_RST != 0 {
        return flags | FLOW_RST;
    }
    if tcp_flags & TCP_SYN == 0 {
        flags = (flags | FLOW_ESTABLISHED) & !FLOW_RST;
    }
    if tcp_flags & TCP_FIN != 0 {
        flags |= FLOW_FIN;
    }
    flags
}

/// An instance for a flow that has none.
#[inline(always)]
fn pick(visit: &Visit, service: &Service, now_secs: u32) -> Result<u32, DropReason> {
    if service.flags & SERVICE_HAS_CLIENT_AFFINITY == 0 {
        return by_row(service.row_base, visit.hash);
    }
    let key = AffinityKey { client: visit.key.client, service_index: visit.key.service_index };
    if let Some(affinity) = AFFINITIES.get_ptr_mut(&key) {
        // SAFETY: as in `follow`.
        let affinity = unsafe { &mut *affinity };
        let is_its = maps::instance(affinity.instance_index).is_ok_and(|it| it.sequence == affinity.sequence);
        let is_fresh = now_secs.saturating_sub(affinity.seen_secs) < service.affinity_secs;
        if is_its && is_fresh && takes_new(affinity.instance_index) {
            affinity.seen_secs = now_secs;
            return Ok(affinity.instance_index);
        }
    }
    let index = by_row(service.row_base, visit.hash)?;
    let affinity = Affinity { instance_index: index, sequence: maps::instance(index)?.sequence, seen_secs: now_secs };
    // Where it can't be noted the row decides the next time, too.
    let _ = AFFINITIES.insert(&key, &affinity, 0);
    Ok(index)
}

#[inline(always)]
fn by_row(row_base: u32, hash: u32) -> Result<u32, DropReason> {
    let mut row = row_of_hash(hash, SERVICE_ROW_COUNT);
    let mut step = 0;
    while step < ROW_WALK_MAX {
        let pair = maps::row(row_base + row).ok_or(DropReason::NoInstance)?;
        for number in [pair >> 16, pair & 0xffff] {
            if number != 0 && takes_new(number - 1) {
                return Ok(number - 1);
            }
        }
        row += ROW_WALK_STEP;
        if row >= SERVICE_ROW_COUNT {
            row -= SERVICE_ROW_COUNT;
        }
        step += 1;
    }
    Err(DropReason::NoInstance)
}

/// Whether an instance takes new flows.
#[inline(always)]
fn takes_new(index: u32) -> bool {
    maps::state(index) & (INSTANCE_ALIVE | INSTANCE_DRAINING) == INSTANCE_ALIVE
}

/// Whether a packet of an instance is a reply of one of its flows; notes it. The visit then knows the way to the client.
#[inline(never)]
pub fn run_reply(instance_index: u32) -> u64 {
    pack_stage(reply(instance_index))
}

#[inline(always)]
fn reply(instance_index: u32) -> Result<Next, DropReason> {
    let visit = visit()?;
    let Some(flow) = GATEWAY_FLOWS.get_ptr_mut(&visit.key) else { return Ok(Next::NO_FLOW) };
    // SAFETY: as in `follow`.
    let flow = unsafe { &mut *flow };
    let now_secs = maps::now_secs();
    if !flow.is_live(visit.protocol as u8, now_secs) {
        return Ok(Next::NO_FLOW);
    }
    let sequence = maps::instance(instance_index)?.sequence;
    if flow.instance_index != instance_index || flow.sequence != sequence {
        return Err(DropReason::FlowMoved);
    }
    visit.ifindex = flow.ifindex;
    visit.client_mac = flow.client_mac;
    if flow.seen_secs != now_secs {
        flow.seen_secs = now_secs;
    }
    let tcp_flags = if visit.protocol as u8 == TCP { visit.tcp_flags as u8 } else { 0 };
    let flags = match flow.instance_flags {
        before if tcp_flags & TCP_RST != 0 => before | FLOW_RST,
        before if tcp_flags & TCP_FIN != 0 => before | FLOW_FIN,
        before => before,
    };
    if flags != flow.instance_flags {
        flow.instance_flags = flags;
    }
    Ok(Next::instance(instance_index))
}
