//! IPv4 from a workload: the flow's mapping, the rewrite, the tunnel.

use aya_ebpf::programs::TcContext;
use persona_common::addr::mapped;
use persona_common::drop::DropReason;
use persona_common::flow::{ICMP, TCP, UDP};
use persona_common::node::{Device, SUBJECT_HAS_NETWORK, SUBJECT_ICMP, SUBJECT_TCP, SUBJECT_UDP, Subject};
use persona_ebpf::count::{add, count_drop, count_persona};
use persona_ebpf::frame::Frame;
use persona_ebpf::header::{DONT_FRAGMENT, ETHERNET_LENGTH, Ipv4};
use persona_ebpf::icmp::send_fragmentation_needed;
use persona_ebpf::packet::{Direction, Packet};

use crate::bypass::{bypass, is_bypassed, is_link_business};
use crate::classify::{self, Origin};
use crate::maps::{self, SUBJECT_TRAFFIC};
use crate::path::send_to_edge;
use crate::resolve::{Mapping, existing_mapping, new_mapping};
use crate::rewrite::rewrite_source;

/// A packet that came in by a workload's device.
#[inline(always)]
pub fn run(frame: &TcContext, ifindex: u32, device: &Device) -> Result<i32, DropReason> {
    let ip: Ipv4 = frame.read(ETHERNET_LENGTH).ok_or(DropReason::Malformed)?;
    if is_link_business(frame, &ip) {
        return Ok(bypass(frame));
    }
    let origin = classify::origin4(ifindex, device, ip.source)?;
    carry(frame, &origin, ip)
}

/// A packet of a subject whose source has been checked.
#[inline(always)]
pub fn carry(frame: &TcContext, origin: &Origin, ip: Ipv4) -> Result<i32, DropReason> {
    let subject = origin.subject;
    let packet = match Packet::read(frame, ETHERNET_LENGTH, Direction::Outward) {
        Ok(packet) => packet,
        // What no block can carry may still be meant for somebody near.
        Err(DropReason::Malformed) => return Err(DropReason::Malformed),
        Err(_) if is_bypassed(origin, mapped(ip.destination)) => return Ok(bypass(frame)),
        Err(reason) => return Err(reason),
    };
    let now_secs = maps::now_secs();
    let mapping = match existing_mapping(&packet, subject, now_secs) {
        // Old flows outlive a switch, but not the loss of every way out.
        Some(_) if subject.flags & SUBJECT_HAS_NETWORK == 0 => return Err(DropReason::NoPersona),
        Some(mapping) => mapping,
        None if is_bypassed(origin, mapped(ip.destination)) => return Ok(bypass(frame)),
        None => {
            check_persona(subject, ip.protocol)?;
            new_mapping(&packet, subject, now_secs)?
        }
    };
    send(frame, packet, subject, origin.subject_index, &mapping)
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
    let source = maps::config()?.underlay_address[3];
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
