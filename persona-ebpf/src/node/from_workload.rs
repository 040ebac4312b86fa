//! `from_workload`, at the host's side of a workload's device: out under the persona, or past it, or nowhere.

use aya_ebpf::programs::TcContext;
use persona_common::BYPASS_MARK;
use persona_common::drop::DropReason;
use persona_common::flow::{ICMP, TCP, UDP};
use persona_common::node::{SUBJECT_HAS_NETWORK, SUBJECT_ICMP, SUBJECT_TCP, SUBJECT_UDP, Subject};
use persona_ebpf::count::{add, count_drop, count_persona};
use persona_ebpf::frame::Frame;
use persona_ebpf::header::{
    DONT_FRAGMENT, ETHERNET_LENGTH, ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet, Ipv4, Udp,
};
use persona_ebpf::icmp::send_fragmentation_needed;
use persona_ebpf::packet::{Direction, Packet};
use persona_ebpf::tc::skb;

use crate::maps::{self, BYPASS, DEVICES, SUBJECT_TRAFFIC, SUBJECTS};
use crate::path::send_to_edge;
use crate::resolve::{Mapping, existing_mapping, new_mapping};
use crate::rewrite::rewrite_source;

/// Bytes of headers that the program looks at.
const HEADERS_LENGTH: usize = ETHERNET_LENGTH + 40;

#[inline(always)]
pub fn run(frame: &TcContext) -> Result<i32, DropReason> {
    // SAFETY: a field of the context.
    let ifindex = unsafe { (*skb(frame)).ifindex };
    // SAFETY: values are replaced as a whole and copied here at once.
    let device = unsafe { DEVICES.get(ifindex) }.copied().ok_or(DropReason::UnknownDevice)?;
    frame.linearise(HEADERS_LENGTH);
    let ethernet: Ethernet = frame.read(0).ok_or(DropReason::Malformed)?;
    match ethernet.kind {
        ETHERTYPE_IPV4 => {}
        ETHERTYPE_ARP => return Ok(bypass(frame)),
        ETHERTYPE_IPV6 if is_neighbour_discovery(frame) => return Ok(bypass(frame)),
        ETHERTYPE_IPV6 => return Err(DropReason::Ipv6),
        _ => return Err(DropReason::EtherType),
    }
    let ip: Ipv4 = frame.read(ETHERNET_LENGTH).ok_or(DropReason::Malformed)?;
    if is_link_local_business(frame, &ip) {
        return Ok(bypass(frame));
    }
    if ip.source != device.address {
        return Err(DropReason::SourceAddress);
    }
    let subject = SUBJECTS.get(device.subject_index).ok_or(DropReason::UnknownDevice)?;
    let packet = match Packet::read(frame, ETHERNET_LENGTH, Direction::Outward) {
        Ok(packet) => packet,
        // What no block can carry may still be meant for somebody near.
        Err(DropReason::Malformed) => return Err(DropReason::Malformed),
        Err(_) if maps::covers(&BYPASS, ip.destination) => return Ok(bypass(frame)),
        Err(reason) => return Err(reason),
    };
    let now_secs = maps::now_secs();
    let mapping = match existing_mapping(&packet, subject, now_secs) {
        // Old flows outlive a switch, but not the loss of every way out.
        Some(_) if subject.flags & SUBJECT_HAS_NETWORK == 0 => return Err(DropReason::NoPersona),
        Some(mapping) => mapping,
        None if maps::covers(&BYPASS, ip.destination) => return Ok(bypass(frame)),
        None => {
            check_persona(subject, ip.protocol)?;
            new_mapping(&packet, subject, now_secs)?
        }
    };
    send(frame, packet, subject, device.subject_index, &mapping)
}

#[inline(always)]
fn send(
    frame: &TcContext,
    mut packet: Packet,
    subject: &Subject,
    subject_index: u32,
    mapping: &Mapping,
) -> Result<i32, DropReason> {
    let lease = mapping.lease;
    if packet.length_on_wire(frame) > lease.mtu as usize {
        return refuse_size(frame, &packet, lease.mtu);
    }
    packet.count_hop()?;
    let packets = packet.packet_count(frame);
    let bytes = packet.byte_count(packets);
    add(&SUBJECT_TRAFFIC, subject_index, Direction::Outward, packets, bytes);
    count_persona(lease.persona_index, Direction::Outward, packets, bytes);
    rewrite_source(frame, &mut packet, subject, mapping)?;
    send_to_edge(frame, &packet, subject, mapping)
}

#[inline(always)]
fn refuse_size(frame: &TcContext, packet: &Packet, mtu: u32) -> Result<i32, DropReason> {
    if packet.ip.fragment & DONT_FRAGMENT == 0 {
        return Err(DropReason::TooBigFragmentable);
    }
    let source = maps::config()?.underlay_address;
    let verdict = send_fragmentation_needed(frame, packet, source, mtu)?;
    count_drop(DropReason::TooBig);
    Ok(verdict)
}

#[inline(always)]
fn check_persona(subject: &Subject, protocol: u8) -> Result<(), DropReason> {
    if subject.flags & SUBJECT_HAS_NETWORK == 0 {
        return Err(DropReason::NoPersona);
    }
    let needed = match protocol {
        TCP => SUBJECT_TCP,
        UDP => SUBJECT_UDP,
        ICMP => SUBJECT_ICMP,
        _ => return Err(DropReason::ProtocolWithoutPort),
    };
    if subject.flags & needed == 0 { Err(DropReason::ProtocolDenied) } else { Ok(()) }
}

/// Hands a packet to the host as it is, marked so that the guard lets it through.
#[inline(always)]
fn bypass(frame: &TcContext) -> i32 {
    // SAFETY: a field of the context that programs may write.
    unsafe { (*skb(frame)).mark = BYPASS_MARK };
    TcContext::PASS
}

/// Multicast, broadcast and DHCP requests.
#[inline(always)]
fn is_link_local_business(frame: &TcContext, ip: &Ipv4) -> bool {
    if (ip.destination & 0xe0) == 0xe0 {
        // 224.0.0.0/3 by its first byte: multicast, reserved and broadcast.
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
fn is_neighbour_discovery(frame: &TcContext) -> bool {
    const NEXT_HEADER_AT: usize = ETHERNET_LENGTH + 6;
    const ICMPV6_AT: usize = ETHERNET_LENGTH + 40;
    const ICMPV6: u8 = 58;
    frame.linearise(ICMPV6_AT + 1);
    frame.read::<u8>(NEXT_HEADER_AT) == Some(ICMPV6)
        && frame.read::<u8>(ICMPV6_AT).is_some_and(|kind| (133..=137).contains(&kind))
}
