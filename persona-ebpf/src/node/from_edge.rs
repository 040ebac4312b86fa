//! `from_edge`, at the node's uplink: tunnel packets of edges go to the workload that holds the port.

use aya_ebpf::programs::TcContext;
use persona_common::drop::DropReason;
use persona_common::encapsulation::GATEWAY;
use persona_ebpf::encapsulation::read_outer;
use persona_ebpf::frame::Frame;

use crate::maps::{self, EDGE_ADDRESSES};
use crate::{from_edge4, from_edge6, ordinary_inward};

#[inline(always)]
pub fn run(frame: &TcContext) -> Result<i32, DropReason> {
    frame.linearise_tunnel();
    if let Some(outcome) = ordinary_inward::inward(frame) {
        return outcome;
    }
    let Some(outer) = read_outer(frame, &maps::config()?.underlay_address) else { return Ok(TcContext::PASS) };
    // Packets of gateways are for a program of their own.
    if outer.is_control() || outer.geneve.reserved == GATEWAY {
        return Ok(TcContext::PASS);
    }
    if EDGE_ADDRESSES.get_ptr(outer.source).is_none() {
        return Err(DropReason::UnknownPeer);
    }
    outer.check(frame)?;
    outer.linearise_inner(frame);
    if outer.holds_ipv6() { from_edge6::run(frame, &outer) } else { from_edge4::run(frame, &outer) }
}
