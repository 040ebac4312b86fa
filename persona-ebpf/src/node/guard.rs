//! `guard`, leaving the node's uplink: nothing of a workload goes out with the host's address or its own.
//!
//! It drops forwarded packets of managed devices and ranges that no program of ours has let through. ARP and neighbour
//! discovery that a bridge carries pass: a router never forwards them.

use aya_ebpf::programs::TcContext;
use persona_common::addr::{Address6, mapped};
use persona_common::drop::DropReason;
use persona_common::record::ICMPV6;
use persona_common::{BYPASS_MARK, PERSONA_MARK};
use persona_ebpf::frame::Frame;
use persona_ebpf::header::{ETHERNET_LENGTH, ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet, Ipv4, Ipv6};
use persona_ebpf::tc::skb;

use crate::bypass::is_neighbour_discovery;
use crate::maps::{self, DEVICES, MANAGED};
use crate::vlan;

/// The scope of managed ranges.
const HOST_SCOPE: u32 = 0;
/// Bytes of a VLAN tag in a frame.
const TAG_LENGTH: usize = 4;
/// Hop limit of neighbour discovery; a router has counted one off what it forwards (RFC 4861 §7.1).
const UNROUTED_HOP_LIMIT: u8 = 255;

#[inline(always)]
pub fn run(frame: &TcContext) -> Result<i32, DropReason> {
    // SAFETY: fields of the context.
    let (ingress_ifindex, mark) = unsafe { ((*skb(frame)).ingress_ifindex, (*skb(frame)).mark) };
    let is_local = ingress_ifindex == 0;
    if is_local || mark == PERSONA_MARK || mark == BYPASS_MARK {
        return Ok(TcContext::PASS);
    }
    frame.linearise(ETHERNET_LENGTH + TAG_LENGTH + size_of::<Ipv6>() + 1);
    let (kind, at) = layer3(frame);
    if is_link_business(frame, kind, at) {
        return Ok(TcContext::PASS);
    }
    let is_watched = maps::config()?.guard_all_forwarded != 0
        || DEVICES.get_ptr(ingress_ifindex).is_some()
        || source(frame, kind, at).is_some_and(|source| maps::find(&MANAGED, HOST_SCOPE, source).is_some());
    if is_watched { Err(DropReason::Guarded) } else { Ok(TcContext::PASS) }
}

/// The EtherType behind at most one tag, and where what it announces starts.
#[inline(always)]
fn layer3(frame: &TcContext) -> (u16, usize) {
    let kind = frame.read::<Ethernet>(0).map_or(0, |ethernet| ethernet.kind);
    if !vlan::is_tag(kind) {
        return (kind, ETHERNET_LENGTH);
    }
    (frame.read::<u16>(ETHERNET_LENGTH + 2).unwrap_or(0), ETHERNET_LENGTH + TAG_LENGTH)
}

#[inline(always)]
fn is_link_business(frame: &TcContext, kind: u16, at: usize) -> bool {
    if kind == ETHERTYPE_ARP {
        return true;
    }
    let is_unrouted = kind == ETHERTYPE_IPV6
        && frame.read::<Ipv6>(at).is_some_and(|ip| ip.hop_limit == UNROUTED_HOP_LIMIT && ip.next_header == ICMPV6);
    is_unrouted && is_neighbour_discovery(frame, at)
}

#[inline(always)]
fn source(frame: &TcContext, kind: u16, at: usize) -> Option<Address6> {
    match kind {
        ETHERTYPE_IPV4 => frame.read::<Ipv4>(at).map(|ip| mapped(ip.source)),
        ETHERTYPE_IPV6 => frame.read::<Ipv6>(at).map(|ip| ip.source),
        _ => None,
    }
}
