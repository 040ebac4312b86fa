//! `edge_outside`, towards the internet: packets to an egress address go to the node that holds the port's block.

use persona_common::addr::mapped;
use persona_common::drop::DropReason;
use persona_common::flow::{entropy_port, flow_hash};
use persona_ebpf::count::{count_drop, count_persona};
use persona_ebpf::encapsulation::{Inner, Tunnel};
use persona_ebpf::frame::Frame;
use persona_ebpf::header::{Arp, DONT_FRAGMENT, ETHERNET_LENGTH, ETHERTYPE_ARP, ETHERTYPE_IPV4, Ethernet, Ipv4};
use persona_ebpf::icmp::send_fragmentation_needed;
use persona_ebpf::packet::{Direction, Packet};

use crate::maps;

/// Bytes of headers that the program looks at.
const HEADERS_LENGTH: usize = ETHERNET_LENGTH + 40;

#[inline(always)]
pub fn run<F: Frame>(frame: &F) -> Result<i32, DropReason> {
    frame.linearise(HEADERS_LENGTH);
    let Some(ethernet) = frame.read::<Ethernet>(0) else { return Ok(F::PASS) };
    match ethernet.kind {
        ETHERTYPE_ARP => answer_arp(frame, ethernet),
        ETHERTYPE_IPV4 => forward(frame, ethernet),
        _ => Ok(F::PASS),
    }
}

#[inline(always)]
fn forward<F: Frame>(frame: &F, ethernet: Ethernet) -> Result<i32, DropReason> {
    let Some(ip) = frame.read::<Ipv4>(ETHERNET_LENGTH) else { return Ok(F::PASS) };
    let Some(address) = maps::egress_address(ip.destination) else { return Ok(F::PASS) };
    let config = maps::config()?;
    // A switch floods what it hasn't learnt: every edge of the group sees such a frame, only the one it is addressed to
    // may carry it. The kernel neither takes nor forwards frames for others.
    if config.outside.ifindex != 0 && ethernet.destination != config.outside.source_mac {
        return Ok(F::PASS);
    }
    let mut packet = Packet::read(frame, ETHERNET_LENGTH, Direction::Inward)?;
    let (block, node) = maps::holder(address, packet.local_port)?;
    if packet.length_on_wire(frame) > block.mtu as usize {
        return refuse_size(frame, &packet, block.mtu);
    }
    packet.count_hop()?;
    let packets = packet.packet_count(frame);
    count_persona(block.persona_index, Direction::Inward, packets, packet.byte_count(packets));
    frame.write(ETHERNET_LENGTH, packet.ip)?;
    let hash = flow_hash(ip.destination, ip.source, packet.ports(packet.local_port), ip.protocol);
    let tunnel = Tunnel {
        source: config.underlay_address,
        destination: node.address,
        vni: block.vni,
        entropy_port: entropy_port(hash),
        marker: 0,
        is_control: false,
    };
    frame.encapsulate(&tunnel, &Inner { length: packet.length, tos: packet.ip.tos, is_ipv6: false })?;
    frame.send(&node.next_hop, &node.address)
}

#[inline(always)]
fn refuse_size<F: Frame>(frame: &F, packet: &Packet, mtu: u32) -> Result<i32, DropReason> {
    if packet.ip.fragment & DONT_FRAGMENT == 0 {
        return Err(DropReason::TooBigFragmentable);
    }
    let verdict = send_fragmentation_needed(frame, packet, packet.ip.destination, mtu)?;
    count_drop(DropReason::TooBig);
    Ok(verdict)
}

/// Answers a request for an egress address that this edge owns, with the hardware address of the device.
#[inline(always)]
fn answer_arp<F: Frame>(frame: &F, ethernet: Ethernet) -> Result<i32, DropReason> {
    let Some(request) = frame.read::<Arp>(ETHERNET_LENGTH) else { return Ok(F::PASS) };
    let is_request = request.hardware == 1u16.to_be()
        && request.protocol == ETHERTYPE_IPV4
        && request.hardware_length == 6
        && request.protocol_length == 4
        && request.operation == 1u16.to_be();
    if !is_request || !maps::owns(mapped(u32::from_ne_bytes(request.target_address))) {
        return Ok(F::PASS);
    }
    let mac = maps::config()?.outside.source_mac;
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
