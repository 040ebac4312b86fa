//! What passes by the persona: business of the local link, and destinations that the host or the persona names.

use aya_ebpf::programs::TcContext;
use persona_common::BYPASS_MARK;
use persona_common::addr::Address6;
use persona_common::flow::UDP;
use persona_common::node::SUBJECT_HAS_BYPASS;
use persona_ebpf::frame::Frame;
use persona_ebpf::header::{ETHERNET_LENGTH, Ipv4, Udp};
use persona_ebpf::tc::skb;

use crate::classify::Origin;
use crate::maps::{self, BYPASS};

/// The scope of the host's own list.
const HOST_SCOPE: u32 = 0;

/// Hands a packet to the host as it is, marked so that the guard lets it through.
#[inline(always)]
pub fn bypass(frame: &TcContext) -> i32 {
    // SAFETY: a field of the context that programs may write.
    unsafe { (*skb(frame)).mark = BYPASS_MARK };
    TcContext::PASS
}

/// Whether the host's list or that of the subject's persona names a destination.
#[inline(always)]
pub fn is_bypassed(origin: &Origin, destination: Address6) -> bool {
    if maps::find(&BYPASS, HOST_SCOPE, destination).is_some() {
        return true;
    }
    origin.subject.flags & SUBJECT_HAS_BYPASS != 0
        && maps::find(&BYPASS, 1 + origin.subject_index, destination).is_some()
}

/// Multicast, broadcast, link-local destinations and DHCP requests.
#[inline(always)]
pub fn is_link_business(frame: &TcContext, ip: &Ipv4) -> bool {
    const LINK_LOCAL: u32 = u32::from_ne_bytes([169, 254, 0, 0]);
    const LINK_LOCAL_MASK: u32 = u32::from_ne_bytes([255, 255, 0, 0]);
    // 224.0.0.0/3 by its first byte: multicast, reserved and broadcast.
    if (ip.destination & 0xe0) == 0xe0 || ip.destination & LINK_LOCAL_MASK == LINK_LOCAL {
        return true;
    }
    if ip.protocol != UDP || ip.version_length != 0x45 {
        return false;
    }
    let ports = frame.read::<Udp>(ETHERNET_LENGTH + 20).map(|udp| (udp.source, udp.destination));
    ports == Some((68u16.to_be(), 67u16.to_be()))
}

/// Router and neighbour solicitations, advertisements and redirects (RFC 4861 §4).
#[inline(always)]
pub fn is_neighbour_discovery(frame: &TcContext) -> bool {
    const NEXT_HEADER_AT: usize = ETHERNET_LENGTH + 6;
    const ICMPV6_AT: usize = ETHERNET_LENGTH + 40;
    const ICMPV6: u8 = 58;
    frame.linearise(ICMPV6_AT + 1);
    frame.read::<u8>(NEXT_HEADER_AT) == Some(ICMPV6)
        && frame.read::<u8>(ICMPV6_AT).is_some_and(|kind| (133..=137).contains(&kind))
}
