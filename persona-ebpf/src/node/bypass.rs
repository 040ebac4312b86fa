//! What passes by the persona: business of the local link, and destinations that the host or the persona names.

use aya_ebpf::programs::TcContext;
use persona_common::BYPASS_MARK;
use persona_common::addr::{Address6, mapped};
use persona_common::drop::DropReason;
use persona_common::flow::UDP;
use persona_common::node::SUBJECT_HAS_BYPASS;
use persona_common::record::ICMPV6;
use persona_ebpf::frame::Frame;
use persona_ebpf::header::{ETHERNET_LENGTH, Ipv4, Ipv6, Udp};
use persona_ebpf::tc::skb;

use crate::classify::Origin;
use crate::maps::{self, BYPASS};
use crate::vlan;

/// The scope of the host's own list.
const HOST_SCOPE: u32 = 0;

/// Router and neighbour solicitations, advertisements and redirects (RFC 4861 §4).
const DISCOVERY_FIRST: u8 = 133;
const DISCOVERY_LAST: u8 = 137;

/// Hands a packet to the host as it was, with its device's tag, marked so that the guard lets it through.
#[inline(always)]
pub fn bypass(frame: &TcContext, vlan: u32) -> Result<i32, DropReason> {
    vlan::push(frame, vlan)?;
    // SAFETY: a field of the context that programs may write.
    unsafe { (*skb(frame)).mark = BYPASS_MARK };
    Ok(TcContext::PASS)
}

/// Whether TCP in mid-stream that nothing is known of may pass as it is: for a time after programs were first attached.
#[inline(always)]
pub fn adopts(now_secs: u32) -> bool {
    maps::config().is_ok_and(|config| now_secs < config.adopt_until_secs)
}

/// Whether the host's list or that of the subject's persona names a destination.
#[inline(always)]
pub fn is_bypassed(origin: &Origin, destination: Address6) -> bool {
    let destination = &destination;
    is_in(HOST_SCOPE, destination)
        || (origin.subject.flags & SUBJECT_HAS_BYPASS != 0 && is_in(1 + origin.subject_index, destination))
}

/// Whether the host's list names a destination.
#[inline(always)]
fn is_near(destination: &Address6) -> bool {
    is_in(HOST_SCOPE, destination)
}

/// A function of its own, for the sake of the stack.
#[inline(never)]
fn is_in(scope: u32, destination: &Address6) -> bool {
    maps::find(&BYPASS, scope, *destination).is_some()
}

/// Multicast, limited broadcast, link-local destinations, and DHCP requests to somebody near.
#[inline(always)]
pub fn is_link_business(frame: &TcContext, ip: &Ipv4) -> bool {
    let destination = ip.destination;
    if is_link_local4(destination) {
        return true;
    }
    if ip.protocol != UDP || ip.version_length != 0x45 {
        return false;
    }
    let ports = frame.read::<Udp>(ETHERNET_LENGTH + 20).map(|udp| (udp.source, udp.destination));
    ports == Some((68u16.to_be(), 67u16.to_be())) && is_near(&mapped(destination))
}

/// Multicast, limited broadcast and link-local addresses.
#[inline(always)]
pub fn is_link_local4(address: u32) -> bool {
    const MULTICAST: u32 = u32::from_ne_bytes([224, 0, 0, 0]);
    const MULTICAST_MASK: u32 = u32::from_ne_bytes([240, 0, 0, 0]);
    const LINK_LOCAL: u32 = u32::from_ne_bytes([169, 254, 0, 0]);
    const LINK_LOCAL_MASK: u32 = u32::from_ne_bytes([255, 255, 0, 0]);
    address & MULTICAST_MASK == MULTICAST || address == u32::MAX || address & LINK_LOCAL_MASK == LINK_LOCAL
}

/// Multicast (which MLD, router solicitations and DHCPv6 are), link-local addresses, and neighbour discovery with
/// somebody near. Neighbour discovery towards others is not let past: a host would forward it.
#[inline(always)]
pub fn is_link_business6(frame: &TcContext, ip: &Ipv6) -> bool {
    if is_near6(ip) {
        return true;
    }
    // A copy: a reference would keep the whole header on the stack.
    let destination = ip.destination;
    ip.next_header == ICMPV6 && is_neighbour_discovery(frame, ETHERNET_LENGTH) && is_near(&destination)
}

/// Multicast and link-local addresses.
#[inline(always)]
pub fn is_near6(ip: &Ipv6) -> bool {
    const MULTICAST: u32 = u32::from_ne_bytes([0xff, 0, 0, 0]);
    ip.destination[0] & MULTICAST == MULTICAST || is_link_local(ip.destination[0]) || is_link_local(ip.source[0])
}

/// Whether an address with this first word is link-local (fe80::/10); a router forwards no such source or destination.
#[inline(always)]
fn is_link_local(first: u32) -> bool {
    const MASK: u32 = u32::from_ne_bytes([0xff, 0xc0, 0, 0]);
    first & MASK == u32::from_ne_bytes([0xfe, 0x80, 0, 0])
}

/// Whether the ICMPv6 packet whose IP header stands at `at` is neighbour discovery.
#[inline(always)]
pub fn is_neighbour_discovery(frame: &TcContext, at: usize) -> bool {
    let kind_at = at + size_of::<Ipv6>();
    frame.linearise(kind_at + 1);
    frame.read::<u8>(kind_at).is_some_and(|kind| (DISCOVERY_FIRST..=DISCOVERY_LAST).contains(&kind))
}
