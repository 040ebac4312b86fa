//! Packets of nodes that go out: only from the node that holds the block or the prefix of their source.

use persona_common::addr::mapped;
use persona_common::drop::DropReason;
use persona_common::edge::{EdgeConfig, network_key};
use persona_common::encapsulation::{ECN_MASK, ecn_after};
use persona_common::node::EgressAddress;
use persona_ebpf::encapsulation::Outer;
use persona_ebpf::frame::Frame;
use persona_ebpf::header::ETHERNET_LENGTH;
use persona_ebpf::packet::{Direction, Kind, Packet, Part};
use persona_ebpf::packet6::Packet6;
use persona_ebpf::{message, message6, wire};

use crate::inward::{HOP_LIMIT_AT, write_hop};
use crate::maps::{self, Holder};
use crate::stage::{Next, pack_stage};
use crate::{police, read};

/// Where the type of service stands in an IPv4 header.
const TOS_AT: usize = 1;

/// The stage of an IPv4 packet in a node's tunnel.
#[inline(never)]
pub fn run4<F: Frame>(frame: &F, outer: &Outer, config: &EdgeConfig) -> u64 {
    pack_stage(forward4(frame, outer, config))
}

#[inline(always)]
fn forward4<F: Frame>(frame: &F, outer: &Outer, config: &EdgeConfig) -> Result<Next, DropReason> {
    let packet = read::packet4(frame, outer.inner_at(), Direction::Outward)?;
    let address = maps::egress_address(packet.ip.source).ok_or(DropReason::Unleased)?;
    let holder = source_holder(packet, address)?;
    check(frame, &holder, outer)?;
    let packets = packet.packet_count(frame);
    police::admit(frame, config, holder.block, Direction::Outward, packets, packet.byte_count(packets))?;
    let destination = packet.ip.destination;
    if maps::is_perhaps_own(destination, 0) && maps::egress_address(destination).is_some() {
        return Ok(Next::TURN);
    }
    if packet.ip.ttl <= 1 {
        return Next::expired(message::may_answer(packet));
    }
    let tos = packet.ip.tos;
    let ecn = ecn_after(tos, outer.tos).ok_or(DropReason::Ecn)?;
    packet.count_hop()?;
    frame.decapsulate(outer)?;
    if ecn != tos & ECN_MASK {
        packet.set_tos(tos & !ECN_MASK | ecn);
        frame.write(ETHERNET_LENGTH + TOS_AT, packet.ip.tos)?;
    }
    write_hop(frame, ETHERNET_LENGTH, &packet.ip)?;
    Ok(Next::verdict(frame.send(&config.outside, &mapped(destination))?))
}

/// The stage of an IPv6 packet in a node's tunnel.
#[inline(never)]
pub fn run6<F: Frame>(frame: &F, outer: &Outer, config: &EdgeConfig) -> u64 {
    pack_stage(forward6(frame, outer, config))
}

#[inline(always)]
fn forward6<F: Frame>(frame: &F, outer: &Outer, config: &EdgeConfig) -> Result<Next, DropReason> {
    let packet = Packet6::read(frame, outer.inner_at(), Direction::Outward)?;
    let cell = maps::egress_cell(&packet.ip.source).ok_or(DropReason::Unleased)?;
    let holder = maps::holder_of_cell(cell)?;
    check(frame, &holder, outer)?;
    let packets = packet.packet_count(frame);
    police::admit(frame, config, holder.block, Direction::Outward, packets, packet.byte_count(packets))?;
    let key = network_key(&packet.ip.destination);
    if maps::is_perhaps_own(key[0], key[1]) && maps::egress_cell(&packet.ip.destination).is_some() {
        return Ok(Next::TURN);
    }
    if packet.ip.hop_limit <= 1 {
        return Next::expired(message6::may_answer(packet));
    }
    let class = packet.ip.traffic_class();
    let ecn = ecn_after(class, outer.tos).ok_or(DropReason::Ecn)?;
    if ecn != class & ECN_MASK {
        packet.ip.set_traffic_class(class & !ECN_MASK | ecn);
    }
    packet.count_hop()?;
    frame.decapsulate(outer)?;
    frame.write(ETHERNET_LENGTH, packet.ip.version_class_label)?;
    frame.write(ETHERNET_LENGTH + HOP_LIMIT_AT, packet.ip.hop_limit)?;
    Ok(Next::verdict(frame.send(&config.outside6, &packet.ip.destination)?))
}

/// Who holds a packet's source: by its port, or, of a fragment, by its id, which a node takes out of the same block.
#[inline(always)]
fn source_holder(packet: &Packet, address: EgressAddress) -> Result<Holder, DropReason> {
    if address.block_bits >= 16 {
        return maps::holder(address, 0);
    }
    if packet.kind == Kind::Portless {
        return Err(DropReason::ProtocolWithoutPort);
    }
    if packet.part == Part::Whole {
        return maps::holder(address, packet.local_port);
    }
    let holder = maps::holder(address, u16::from_be(packet.ip.id))?;
    if packet.part == Part::First {
        let by_port = maps::holder(address, packet.local_port)?;
        if !by_port.is_of_same_node(&holder) {
            return Err(DropReason::Unleased);
        }
    }
    Ok(holder)
}

#[inline(always)]
fn check<F: Frame>(frame: &F, holder: &Holder, outer: &Outer) -> Result<(), DropReason> {
    let (node, source) = (&holder.node.address, &outer.source);
    let is_holder = node[3] == source[3] && node[2] == source[2] && node[1] == source[1] && node[0] == source[0];
    if !is_holder {
        return Err(DropReason::UnknownPeer);
    }
    wire::check(frame, holder.vni(), outer.vni())
}
