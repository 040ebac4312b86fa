//! Flow → edge: a Maglev row, an edge that is alive and knows the lease, the tunnel there.

use aya_ebpf::programs::TcContext;
use persona_common::PERSONA_MARK;
use persona_common::drop::DropReason;
use persona_common::flow::{entropy_port, row_of_hash};
use persona_common::maps::MAGLEV_ROW_COUNT;
use persona_common::node::{EdgeHop, Lease, Subject};
use persona_ebpf::encapsulation::{Inner, Tunnel};
use persona_ebpf::frame::Frame;
use persona_ebpf::outcome::{pack, unpack};
use persona_ebpf::tc::{send_to_neighbour, skb};

use crate::maps::{self, EDGES, GROUPS, LIVENESS, MAGLEV};
use crate::slow_path;

/// Rows that are tried when both edges of the first one are out.
const ROW_WALK_MAX: u32 = 8;
/// Step of that walk: coprime to the number of rows, so that neighbours aren't asked for one another.
const ROW_WALK_STEP: u32 = 8191;

/// Where a tunnel packet goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// To the edge.
    Edge,
    /// To the slow path, which cuts it and sends the pieces to the edge.
    SlowPath,
}

/// Encapsulates a rewritten packet and sends it to the edge of its flow.
#[inline(always)]
pub fn send_to_edge(
    frame: &TcContext,
    inner: &Inner,
    subject: &Subject,
    lease: &Lease,
    hash: u32,
    exit: Exit,
) -> Result<i32, DropReason> {
    unpack(send_apart(frame, inner, subject, lease, hash as u64 | (exit as u64) << 32))
}

/// A function of its own, so that its headers don't stand on the stack beside all that was needed to get here.
#[inline(never)]
fn send_apart(frame: &TcContext, inner: &Inner, subject: &Subject, lease: &Lease, hash_and_exit: u64) -> u64 {
    let exit = if hash_and_exit >> 32 == Exit::Edge as u64 { Exit::Edge } else { Exit::SlowPath };
    pack(encapsulate_and_send(frame, inner, subject, lease, hash_and_exit as u32, exit))
}

#[inline(always)]
fn encapsulate_and_send(
    frame: &TcContext,
    inner: &Inner,
    subject: &Subject,
    lease: &Lease,
    hash: u32,
    exit: Exit,
) -> Result<i32, DropReason> {
    let edge = choose(lease.group_index, hash, lease.generation)?;
    let tunnel = tunnel(edge, lease, hash)?;
    let slow_ifindex = if exit == Exit::SlowPath { slow_path::device()? } else { 0 };
    frame.encapsulate(&tunnel, inner)?;
    mark(frame, subject);
    match exit {
        Exit::Edge => Ok(send_to_neighbour(edge.ifindex, &edge.next_hop)),
        Exit::SlowPath => Ok(slow_path::hand_over(slow_ifindex)),
    }
}

/// The tunnel of a flow under a lease to an edge.
#[inline(always)]
pub fn tunnel(edge: &EdgeHop, lease: &Lease, hash: u32) -> Result<Tunnel, DropReason> {
    Ok(Tunnel {
        source: maps::config()?.underlay_address,
        destination: edge.address,
        vni: lease.vni,
        entropy_port: entropy_port(hash),
        marker: 0,
        is_control: false,
    })
}

/// Marks a tunnel packet as ours, and names its subject's class.
#[inline(always)]
pub fn mark(frame: &TcContext, subject: &Subject) {
    // SAFETY: fields of the context that programs may write.
    unsafe {
        (*skb(frame)).mark = PERSONA_MARK;
        (*skb(frame)).priority = subject.egress_class;
    }
}

/// What the row of a flow under a lease says: the number of the edge that is to be asked first, and of the second.
#[inline(always)]
pub fn row(lease: &Lease, hash: u32) -> Option<(u32, u32)> {
    let group = GROUPS.get(lease.group_index)?;
    row_at(group.row_base + row_of_hash(hash, MAGLEV_ROW_COUNT))
}

#[inline(always)]
fn row_at(cell: u32) -> Option<(u32, u32)> {
    MAGLEV.get(cell).map(|pair| (pair >> 16, pair & 0xffff))
}

/// The first of a row's two edges that qualifies.
#[inline(always)]
fn of_row(cell: u32, generation: u64) -> Option<&'static EdgeHop> {
    let (first, second) = row_at(cell)?;
    qualified(first, generation).or_else(|| qualified(second, generation))
}

#[inline(always)]
fn choose(group_index: u32, hash: u32, generation: u64) -> Result<&'static EdgeHop, DropReason> {
    let group = GROUPS.get(group_index).ok_or(DropReason::NoEdge)?;
    let mut row = row_of_hash(hash, MAGLEV_ROW_COUNT);
    let mut step = 0;
    while step < ROW_WALK_MAX {
        if let Some(edge) = of_row(group.row_base + row, generation) {
            return Ok(edge);
        }
        row += ROW_WALK_STEP;
        if row >= MAGLEV_ROW_COUNT {
            row -= MAGLEV_ROW_COUNT;
        }
        step += 1;
    }
    Err(DropReason::NoEdge)
}

/// The edge, if it is alive and its lease table has reached the generation.
#[inline(always)]
pub fn qualified(number: u32, generation: u64) -> Option<&'static EdgeHop> {
    let liveness = LIVENESS.get(number)?;
    if liveness.alive == 0 || liveness.generation < generation {
        return None;
    }
    EDGES.get(number).filter(|edge| edge.ifindex != 0)
}
