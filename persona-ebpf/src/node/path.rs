//! Flow → edge: a Maglev row, an edge that is alive and knows the lease, the tunnel there.

use aya_ebpf::programs::TcContext;
use persona_common::PERSONA_MARK;
use persona_common::drop::DropReason;
use persona_common::flow::{entropy_port, flow_hash, row_of_hash};
use persona_common::maps::MAGLEV_ROW_COUNT;
use persona_common::node::{EdgeHop, Subject};
use persona_ebpf::encapsulation::{Inner, Tunnel};
use persona_ebpf::frame::Frame;
use persona_ebpf::packet::Packet;
use persona_ebpf::tc::{send_to_neighbour, skb};

use crate::maps::{self, EDGES, GROUPS, LIVENESS, MAGLEV};
use crate::resolve::Mapping;

/// Rows that are tried when both edges of the first one are out.
const ROW_WALK_MAX: u32 = 8;
/// Step of that walk: coprime to the number of rows, so that neighbours aren't asked for one another.
const ROW_WALK_STEP: u32 = 8191;

/// Encapsulates a rewritten packet and sends it to the edge of its flow.
#[inline(always)]
pub fn send_to_edge(
    frame: &TcContext,
    packet: &Packet,
    subject: &Subject,
    mapping: &Mapping,
) -> Result<i32, DropReason> {
    let lease = mapping.lease;
    let ports = packet.ports(mapping.external_port);
    let hash = flow_hash(lease.address, packet.ip.destination, ports, packet.ip.protocol);
    let edge = choose(lease.group_index, hash, lease.generation)?;
    let tunnel = Tunnel {
        source: maps::config()?.underlay_address,
        destination: edge.address,
        vni: lease.vni,
        entropy_port: entropy_port(hash),
        marker: 0,
        is_control: false,
    };
    frame.encapsulate(&tunnel, &Inner { length: packet.length, tos: packet.ip.tos, is_ipv6: false })?;
    // SAFETY: fields of the context that programs may write.
    unsafe {
        (*skb(frame)).mark = PERSONA_MARK;
        (*skb(frame)).priority = subject.egress_class;
    }
    Ok(send_to_neighbour(edge.ifindex, &edge.next_hop))
}

#[inline(always)]
fn choose(group_index: u32, hash: u32, generation: u64) -> Result<&'static EdgeHop, DropReason> {
    let group = GROUPS.get(group_index).ok_or(DropReason::NoEdge)?;
    let mut row = row_of_hash(hash, MAGLEV_ROW_COUNT);
    let mut step = 0;
    while step < ROW_WALK_MAX {
        let pair = *MAGLEV.get(group.row_base + row).ok_or(DropReason::NoEdge)?;
        if let Some(edge) = qualified(pair >> 16, generation) {
            return Ok(edge);
        }
        if let Some(edge) = qualified(pair & 0xffff, generation) {
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
fn qualified(number: u32, generation: u64) -> Option<&'static EdgeHop> {
    let liveness = LIVENESS.get(number)?;
    if liveness.alive == 0 || liveness.generation < generation {
        return None;
    }
    EDGES.get(number).filter(|edge| edge.ifindex != 0)
}
