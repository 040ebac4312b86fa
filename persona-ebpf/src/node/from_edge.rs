//! `from_edge`, at the node's uplink: tunnel packets of edges go to the workload that holds the port.

use aya_ebpf::programs::TcContext;
use persona_common::addr::mapped;
use persona_common::drop::DropReason;
use persona_ebpf::encapsulation::{INNER_AT, read_outer};
use persona_ebpf::frame::Frame;

use crate::from_edge4;
use crate::maps::{self, EDGE_ADDRESSES};

/// Bytes of headers that the program looks at.
const HEADERS_LENGTH: usize = INNER_AT + 40;

#[inline(always)]
pub fn run(frame: &TcContext) -> Result<i32, DropReason> {
    frame.linearise(HEADERS_LENGTH);
    let own = maps::config()?.underlay_address[3];
    let Some(outer) = read_outer(frame, own) else { return Ok(TcContext::PASS) };
    if outer.is_control() {
        return Ok(TcContext::PASS);
    }
    if EDGE_ADDRESSES.get_ptr(mapped(outer.ip.source)).is_none() {
        return Err(DropReason::UnknownPeer);
    }
    outer.check(frame)?;
    from_edge4::run(frame, outer.vni())
}
