//! `guard`, leaving the node's uplink: nothing of a workload goes out with the host's address or its own.

use aya_ebpf::programs::TcContext;
use persona_common::addr::mapped;
use persona_common::drop::DropReason;
use persona_common::{BYPASS_MARK, PERSONA_MARK};
use persona_ebpf::frame::Frame;
use persona_ebpf::header::{ETHERNET_LENGTH, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet, Ipv4, Ipv6};
use persona_ebpf::tc::skb;

use crate::maps::{self, DEVICES, MANAGED};

#[inline(always)]
pub fn run(frame: &TcContext) -> Result<i32, DropReason> {
    // SAFETY: fields of the context.
    let (ingress_ifindex, mark) = unsafe { ((*skb(frame)).ingress_ifindex, (*skb(frame)).mark) };
    let is_local = ingress_ifindex == 0;
    if is_local || mark == PERSONA_MARK || mark == BYPASS_MARK {
        return Ok(TcContext::PASS);
    }
    if maps::config()?.guard_all_forwarded != 0 || DEVICES.get_ptr(ingress_ifindex).is_some() || is_managed(frame) {
        return Err(DropReason::Guarded);
    }
    Ok(TcContext::PASS)
}

/// Whether the source lies in a managed range, of either family.
#[inline(always)]
fn is_managed(frame: &TcContext) -> bool {
    frame.linearise(ETHERNET_LENGTH + size_of::<Ipv6>());
    let source = match frame.read::<Ethernet>(0).map(|ethernet| ethernet.kind) {
        Some(ETHERTYPE_IPV4) => frame.read::<Ipv4>(ETHERNET_LENGTH).map(|ip| mapped(ip.source)),
        Some(ETHERTYPE_IPV6) => frame.read::<Ipv6>(ETHERNET_LENGTH).map(|ip| ip.source),
        _ => None,
    };
    source.is_some_and(|source| maps::find(&MANAGED, 0, source).is_some())
}
