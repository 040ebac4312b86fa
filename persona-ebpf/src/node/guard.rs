//! `guard`, leaving the node's uplink: nothing of a workload goes out with the host's address or its own.

use aya_ebpf::programs::TcContext;
use persona_common::addr::mapped;
use persona_common::drop::DropReason;
use persona_common::{BYPASS_MARK, PERSONA_MARK};
use persona_ebpf::frame::Frame;
use persona_ebpf::header::{ETHERNET_LENGTH, ETHERTYPE_IPV4, Ethernet, Ipv4};
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

#[inline(always)]
fn is_managed(frame: &TcContext) -> bool {
    frame.linearise(ETHERNET_LENGTH + 20);
    let is_ipv4 = frame.read::<Ethernet>(0).is_some_and(|ethernet| ethernet.kind == ETHERTYPE_IPV4);
    is_ipv4
        && frame.read::<Ipv4>(ETHERNET_LENGTH).is_some_and(|ip| maps::find(&MANAGED, 0, mapped(ip.source)).is_some())
}
