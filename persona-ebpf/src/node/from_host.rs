//! `from_host`, leaving the uplink: packets of the host's own processes whose control group is a subject.
//!
//! Everything else passes untouched: forwarded packets, packets with a mark of ours, tunnels and probes, and packets
//! without a socket (such as what the kernel sends for connections whose process is gone).

use aya_ebpf::helpers::{bpf_skb_ancestor_cgroup_id, bpf_skb_cgroup_id};
use aya_ebpf::programs::TcContext;
use persona_common::drop::DropReason;
use persona_common::flow::UDP;
use persona_common::maps::CGROUP_LEVEL_MAX;
use persona_common::probe::GENEVE_PORT;
use persona_common::{BYPASS_MARK, PERSONA_MARK};
use persona_ebpf::frame::Frame;
use persona_ebpf::header::{ETHERNET_LENGTH, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet, Ipv4, Ipv6, Udp};
use persona_ebpf::tc::skb;

use crate::bypass::{is_link_business, is_link_business6};
use crate::classify::Origin;
use crate::maps::{self, CGROUPS};
use crate::{from_workload4, from_workload6};

#[inline(always)]
pub fn run(frame: &TcContext) -> Result<i32, DropReason> {
    // SAFETY: fields of the context.
    let (ingress_ifindex, mark) = unsafe { ((*skb(frame)).ingress_ifindex, (*skb(frame)).mark) };
    if ingress_ifindex != 0 || mark == PERSONA_MARK || mark == BYPASS_MARK {
        return Ok(TcContext::PASS);
    }
    let Some(origin) = origin(frame) else { return Ok(TcContext::PASS) };
    frame.linearise_headers();
    let Some(ethernet) = frame.read::<Ethernet>(0) else { return Ok(TcContext::PASS) };
    match ethernet.kind {
        ETHERTYPE_IPV4 => ipv4(frame, &origin),
        ETHERTYPE_IPV6 => ipv6(frame, &origin),
        _ => Ok(TcContext::PASS),
    }
}

#[inline(always)]
fn ipv4(frame: &TcContext, origin: &Origin) -> Result<i32, DropReason> {
    frame.peek::<Ipv4>(ETHERNET_LENGTH).ok_or(DropReason::Malformed)?;
    if passes_apart4(frame) != 0 {
        return Ok(TcContext::PASS);
    }
    from_workload4::carry(frame, origin)
}

#[inline(always)]
fn ipv6(frame: &TcContext, origin: &Origin) -> Result<i32, DropReason> {
    frame.peek::<Ipv6>(ETHERNET_LENGTH).ok_or(DropReason::Malformed)?;
    if passes_apart6(frame) != 0 {
        return Ok(TcContext::PASS);
    }
    from_workload6::carry(frame, origin)
}

/// Whether a packet is the link's business or a tunnel's. A function of its own: what it has learnt of the packet the verifier
/// need not keep apart on the way of all others.
#[inline(never)]
fn passes_apart4(frame: &TcContext) -> u32 {
    let Some(ip) = frame.read::<Ipv4>(ETHERNET_LENGTH) else { return 0 };
    let l4_at = ETHERNET_LENGTH + (ip.version_length & 15) as usize * 4;
    (is_link_business(frame, &ip) || (ip.protocol == UDP && is_tunnel(frame, l4_at))) as u32
}

/// As [`passes_apart4`].
#[inline(never)]
fn passes_apart6(frame: &TcContext) -> u32 {
    let Some(ip) = frame.read::<Ipv6>(ETHERNET_LENGTH) else { return 0 };
    let l4_at = ETHERNET_LENGTH + size_of::<Ipv6>();
    (is_link_business6(frame, &ip) || (ip.next_header == UDP && is_tunnel(frame, l4_at))) as u32
}

/// A tunnel packet or a probe.
#[inline(always)]
fn is_tunnel(frame: &TcContext, l4_at: usize) -> bool {
    let port = GENEVE_PORT.to_be();
    frame.read::<Udp>(l4_at).is_some_and(|udp| udp.source == port || udp.destination == port)
}

/// The subject of the sending socket's control group, or of the nearest one above it.
#[inline(always)]
fn origin(frame: &TcContext) -> Option<Origin> {
    let subject_index = cgroup_subject(frame)?;
    let subject = maps::subject(subject_index)?;
    Some(Origin { subject, subject_index, vlan: 0 })
}

#[inline(always)]
fn cgroup_subject(frame: &TcContext) -> Option<u32> {
    // SAFETY: helpers without memory arguments.
    let own = unsafe { bpf_skb_cgroup_id(skb(frame)) };
    if own == 0 {
        return None;
    }
    let mut found = None;
    let mut level = 1;
    while level <= CGROUP_LEVEL_MAX {
        // SAFETY: as above.
        let id = unsafe { bpf_skb_ancestor_cgroup_id(skb(frame), level as i32) };
        if id == 0 {
            break;
        }
        // SAFETY: values are replaced as a whole and copied here at once.
        if let Some(index) = unsafe { CGROUPS.get(id) } {
            found = Some(*index);
        }
        level += 1;
    }
    found
}
