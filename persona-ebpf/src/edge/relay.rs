//! Passing a packet on to another edge of the group: one that is responsible for it, or one that may reach its node.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_loop;
use persona_common::drop::DropReason;
use persona_common::edge::{BY_WIRE, EdgeConfig, rendezvous_weight};
use persona_common::encapsulation::RELAY;
use persona_common::flow::entropy_port;
use persona_common::maps::PEER_COUNT_MAX;
use persona_ebpf::encapsulation::{Inner, Outer, Tunnel};
use persona_ebpf::frame::{Frame, unknown_zero};

use crate::arrival::{Arrival, Way};
use crate::maps;
use crate::stage::Next;

/// How far the search for a peer has come.
struct Search {
    hash: u32,
    peer_count: u32,
    best: u32,
    best_weight: u32,
    best_number: u32,
}

/// Of the peers that are alive, and of the edge `own` unless that is 0, the one with the highest weight: a peer's index
/// plus one, or 0 for `own` or nobody.
#[inline(never)]
pub fn pick(config: &EdgeConfig, hash: u32, own: u32) -> u32 {
    let best_weight = if own == 0 { 0 } else { rendezvous_weight(hash, own) };
    let best_number = own ^ unknown_zero(config.peer_count) as u32;
    let mut search = Search { hash, peer_count: config.peer_count, best: 0, best_weight, best_number };
    // SAFETY: the callback takes what it is given here. A loop of the kernel's: the verifier would walk one of ours peer
    // by peer, once for each that may be the best so far.
    unsafe { bpf_loop(PEER_COUNT_MAX, weigh as *mut c_void, (&raw mut search).cast(), 0) };
    search.best
}

/// One peer; 1: no more.
unsafe extern "C" fn weigh(index: u32, search: *mut Search) -> i64 {
    // SAFETY: `pick` passed it.
    let search = unsafe { &mut *search };
    if index >= search.peer_count {
        return 1;
    }
    let Some(peer) = maps::peer(index) else { return 0 };
    let (number, weight) = (peer.number, rendezvous_weight(search.hash, peer.number));
    let is_better = search.best_number == 0
        || weight > search.best_weight
        || (weight == search.best_weight && number < search.best_number);
    if is_better && maps::is_peer_alive(number) {
        (search.best, search.best_weight, search.best_number) = (index + 1, weight, number);
    }
    0
}

/// Sends the packet, untouched, to the peer whose index plus one is `through`.
#[inline(always)]
pub fn send<F: Frame>(
    frame: &F,
    arrival: &Arrival<'_>,
    config: &EdgeConfig,
    through: u32,
    inner: &Inner,
    hash: u32,
    way: Way,
) -> Result<Next, DropReason> {
    let peer = maps::peer(through - 1).ok_or(DropReason::NoEdge)?;
    if !F::HAS_WIRE && peer.next_hop.resolved == BY_WIRE {
        return Ok(Next::verdict(F::PASS));
    }
    let tunnel = Tunnel {
        source: config.underlay_address,
        destination: peer.address,
        vni: 0,
        entropy_port: entropy_port(hash),
        marker: RELAY,
        is_control: false,
    };
    arrival.emit(frame, config, &tunnel, inner, &peer.next_hop, way)
}

/// Whether a tunnel packet says that a peer has passed it on.
#[inline(always)]
pub fn is_marked(outer: &Outer) -> bool {
    outer.geneve.reserved == RELAY
}

/// Whether a tunnel packet comes from a peer.
#[inline(never)]
pub fn comes_from_peer(config: &EdgeConfig, outer: &Outer) -> u32 {
    for index in 0..PEER_COUNT_MAX {
        if index >= config.peer_count {
            break;
        }
        if maps::peer(index).is_some_and(|peer| peer.address == outer.source) {
            return 1;
        }
    }
    0
}
