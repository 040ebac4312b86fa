//! `edge_outside`, towards the internet: packets to our own addresses go to their nodes, questions who has them are
//! answered.

use persona_common::addr::mapped;
use persona_common::drop::DropReason;
use persona_common::edge::NextHop;
use persona_ebpf::frame::Frame;
use persona_ebpf::header::{
    Arp, ETHERNET_LENGTH, ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_QINQ, ETHERTYPE_VLAN, Ethernet,
    Ipv4, Ipv6, KIND_AT, VLAN_LENGTH,
};
use persona_ebpf::neighbour;
use persona_ebpf::outcome::unpack;

use crate::arrival::Arrival;
use crate::stage::{is_answered, is_fragment};
use crate::{answer, fragments, inward, maps, ordinary};

#[inline(always)]
pub fn run<F: Frame>(frame: &F) -> Result<i32, DropReason> {
    frame.linearise_headers();
    let Some(kind) = frame.read::<u16>(KIND_AT) else { return Ok(F::PASS) };
    match kind {
        ETHERTYPE_IPV4 => forward4(frame),
        ETHERTYPE_IPV6 => forward6(frame),
        ETHERTYPE_ARP => answer_arp(frame),
        ETHERTYPE_VLAN | ETHERTYPE_QINQ => refuse_tagged(frame),
        _ => Ok(F::PASS),
    }
}

#[inline(always)]
fn forward4<F: Frame>(frame: &F) -> Result<i32, DropReason> {
    let config = maps::config()?;
    let is_for_another = is_for_another(frame, &config.outside);
    if !is_for_another
        && !frame.has_vlan_tag()
        && let Some(outcome) = ordinary::inward(frame, config)
    {
        return outcome;
    }
    let Some(destination) = frame.peek::<Ipv4>(ETHERNET_LENGTH).map(|ip| ip.destination) else { return Ok(F::PASS) };
    let Some(address) = maps::egress_address(destination) else { return Ok(F::PASS) };
    if is_for_another {
        return Ok(F::PASS);
    }
    if frame.has_vlan_tag() {
        return Err(DropReason::Vlan);
    }
    let arrival = Arrival::OUTSIDE;
    let mut packed = inward::run4(frame, &arrival, config, &address);
    if is_fragment(packed) {
        packed = fragments::run(frame, &arrival, config, &address);
    }
    if is_answered(packed) {
        packed = answer::run(frame, &arrival, config, packed, false);
    }
    unpack(packed)
}

#[inline(always)]
fn forward6<F: Frame>(frame: &F) -> Result<i32, DropReason> {
    let Some(ip) = frame.read::<Ipv6>(ETHERNET_LENGTH) else { return Ok(F::PASS) };
    let Some(cell) = maps::egress_cell(&ip.destination) else { return answer_solicitation(frame) };
    let config = maps::config()?;
    if is_for_another(frame, &config.outside6) {
        return Ok(F::PASS);
    }
    if frame.has_vlan_tag() {
        return Err(DropReason::Vlan);
    }
    let arrival = Arrival::OUTSIDE;
    let mut packed = inward::run6(frame, &arrival, config, cell);
    if is_answered(packed) {
        packed = answer::run(frame, &arrival, config, packed, true);
    }
    unpack(packed)
}

/// A switch floods what it hasn't learnt: every edge of the group sees such a frame, only the one it is addressed to may
/// carry it. The kernel neither takes nor forwards frames for others.
#[inline(always)]
fn is_for_another<F: Frame>(frame: &F, outside: &NextHop) -> bool {
    let Some(destination) = frame.peek::<[u16; 3]>(0) else { return true };
    outside.ifindex != 0 && !outside.is_own(destination)
}

/// The outside has no VLAN of its own: a tagged packet to one of our addresses came the wrong way.
#[inline(always)]
fn refuse_tagged<F: Frame>(frame: &F) -> Result<i32, DropReason> {
    let Some([_, kind]) = frame.read::<[u16; 2]>(ETHERNET_LENGTH) else { return Ok(F::PASS) };
    let at = ETHERNET_LENGTH + VLAN_LENGTH;
    let is_ours = match kind {
        ETHERTYPE_IPV4 => frame.read::<Ipv4>(at).is_some_and(|ip| maps::egress_address(ip.destination).is_some()),
        ETHERTYPE_IPV6 => frame.read::<Ipv6>(at).is_some_and(|ip| maps::egress_cell(&ip.destination).is_some()),
        _ => false,
    };
    if is_ours { Err(DropReason::Vlan) } else { Ok(F::PASS) }
}

/// Answers a request for an egress address that this edge owns, with the hardware address of the device.
#[inline(always)]
fn answer_arp<F: Frame>(frame: &F) -> Result<i32, DropReason> {
    let Some(request) = frame.read::<Arp>(ETHERNET_LENGTH) else { return Ok(F::PASS) };
    let is_request = request.hardware == 1u16.to_be()
        && request.protocol == ETHERTYPE_IPV4
        && request.hardware_length == 6
        && request.protocol_length == 4
        && request.operation == 1u16.to_be();
    if !is_request || !maps::owns(mapped(u32::from_ne_bytes(request.target_address))) {
        return Ok(F::PASS);
    }
    let ethernet: Ethernet = frame.read(0).ok_or(DropReason::Malformed)?;
    let mac = maps::config()?.outside.source_mac();
    let reply = Arp {
        operation: 2u16.to_be(),
        sender_mac: mac,
        sender_address: request.target_address,
        target_mac: request.sender_mac,
        target_address: request.sender_address,
        ..request
    };
    frame.write(0, Ethernet { destination: ethernet.source, source: mac, kind: ethernet.kind })?;
    frame.write(ETHERNET_LENGTH, reply)?;
    Ok(frame.send_back())
}

/// Answers a neighbour solicitation for a next hop that this edge owns; everything else is the host's.
#[inline(always)]
fn answer_solicitation<F: Frame>(frame: &F) -> Result<i32, DropReason> {
    let Some(target) = neighbour::solicited(frame) else { return Ok(F::PASS) };
    if !maps::owns(target) {
        return Ok(F::PASS);
    }
    neighbour::advertise(frame, &target, maps::config()?.outside6.source_mac())
}
