//! Packets to our own addresses: to the node that holds the port's block or the prefix.
//!
//! They come from outside, from a peer that passes them on, or from a node whose workload talks to another of ours
//! (hairpin, RFC 4787 REQ-9); the latter two are turned around in their tunnel.

use persona_common::addr::mapped;
use persona_common::drop::DropReason;
use persona_common::edge::EdgeConfig;
use persona_common::flow::{entropy_port, flow_hash};
use persona_common::node::EgressAddress;
use persona_ebpf::encapsulation::{Inner, Outer, Tunnel};
use persona_ebpf::frame::Frame;
use persona_ebpf::header::{DONT_FRAGMENT, Ipv4};
use persona_ebpf::packet::{Direction, Kind, Packet, Part};
use persona_ebpf::packet6::Packet6;
use persona_ebpf::{message, message6};

use crate::arrival::{Arrival, Way};
use crate::maps::{self, Holder};
use crate::stage::{Next, is_fragment, pack_stage};
use crate::{fragments, police, read, relay};

/// A lease of this many bits is the whole address.
pub const WHOLE_ADDRESS_BITS: u32 = 16;

/// Where the destination stands in an IPv4 header.
const DESTINATION4_AT: usize = 16;
/// Where the destination stands in an IPv6 header.
const DESTINATION6_AT: usize = 24;
/// Where the time to live stands in an IPv4 header; protocol and checksum follow it.
pub const TTL_AT: usize = 8;
/// Where the hop limit stands in an IPv6 header.
pub const HOP_LIMIT_AT: usize = 7;

/// The stage of an IPv4 packet to an egress address.
#[inline(never)]
pub fn run4<F: Frame>(frame: &F, arrival: &Arrival<'_>, config: &EdgeConfig, address: &EgressAddress) -> u64 {
    pack_stage(forward4(frame, arrival, config, address))
}

#[inline(always)]
fn forward4<F: Frame>(
    frame: &F,
    arrival: &Arrival<'_>,
    config: &EdgeConfig,
    address: &EgressAddress,
) -> Result<Next, DropReason> {
    let packet = read::packet4(frame, arrival.packet_at(), Direction::Inward)?;
    if address.block_bits < WHOLE_ADDRESS_BITS {
        if packet.part != Part::Whole {
            return Ok(Next::FRAGMENT);
        }
        if packet.kind == Kind::Portless {
            return Err(DropReason::ProtocolWithoutPort);
        }
    }
    let holder = maps::holder(*address, packet.local_port)?;
    carry4(frame, arrival, config, packet, &holder)
}

/// An IPv4 packet whose holder is known.
#[inline(always)]
pub fn carry4<F: Frame>(
    frame: &F,
    arrival: &Arrival<'_>,
    config: &EdgeConfig,
    packet: &mut Packet,
    holder: &Holder,
) -> Result<Next, DropReason> {
    if holder.is_for_tc::<F>() {
        return Ok(Next::verdict(F::PASS));
    }
    let mtu = holder.block.mtu();
    let way = if packet.length_on_wire(frame) > mtu as usize { Way::HandOver } else { Way::Send };
    if way == Way::HandOver && packet.ip.fragment & DONT_FRAGMENT != 0 {
        return Next::too_big(message::may_answer(packet), mtu);
    }
    let hash = hash4(packet);
    if holder.is_silent() && !arrival.is_relayed() {
        let through = relay::pick(config, hash, 0);
        if through != 0 {
            return relay::send(frame, arrival, config, through, &packet.inner(), hash, way);
        }
    }
    if packet.ip.ttl <= 1 {
        return Next::expired(message::may_answer(packet));
    }
    packet.count_hop()?;
    let packets = packet.packet_count(frame);
    police::admit(frame, config, holder.block, Direction::Inward, packets, packet.byte_count(packets))?;
    write_hop(frame, packet.at, &packet.ip)?;
    arrival.emit(frame, config, &tunnel(config, holder, hash), &packet.inner(), holder.next_hop()?, way)
}

/// The stage of an IPv6 packet to the /64 of a cell.
#[inline(never)]
pub fn run6<F: Frame>(frame: &F, arrival: &Arrival<'_>, config: &EdgeConfig, cell: u32) -> u64 {
    pack_stage(forward6(frame, arrival, config, cell))
}

#[inline(always)]
fn forward6<F: Frame>(frame: &F, arrival: &Arrival<'_>, config: &EdgeConfig, cell: u32) -> Result<Next, DropReason> {
    let packet = Packet6::read(frame, arrival.packet_at(), Direction::Inward)?;
    let holder = maps::holder_of_cell(cell)?;
    if holder.is_for_tc::<F>() {
        return Ok(Next::verdict(F::PASS));
    }
    let mtu = holder.block.mtu();
    if packet.length_on_wire(frame) > mtu as usize {
        return Next::too_big(message6::may_answer(packet), mtu);
    }
    let hash = hash6(packet);
    let inner = Inner { length: packet.length, tos: packet.ip.traffic_class(), is_ipv6: true };
    if holder.is_silent() && !arrival.is_relayed() {
        let through = relay::pick(config, hash, 0);
        if through != 0 {
            return relay::send(frame, arrival, config, through, &inner, hash, Way::Send);
        }
    }
    if packet.ip.hop_limit <= 1 {
        return Next::expired(message6::may_answer(packet));
    }
    packet.count_hop()?;
    let packets = packet.packet_count(frame);
    police::admit(frame, config, holder.block, Direction::Inward, packets, packet.byte_count(packets))?;
    // Only the hop limit has changed.
    frame.write(packet.at() + HOP_LIMIT_AT, packet.ip.hop_limit)?;
    arrival.emit(frame, config, &tunnel(config, &holder, hash), &inner, holder.next_hop()?, Way::Send)
}

/// A packet in a tunnel, to one of our own addresses: from a node, or passed on by a peer.
#[inline(always)]
pub fn turn<F: Frame>(frame: &F, arrival: &Arrival<'_>, outer: &Outer, config: &EdgeConfig) -> u64 {
    let at = outer.inner_at();
    if outer.holds_ipv6() {
        let destination = frame.read(at + DESTINATION6_AT);
        return match destination.and_then(|destination| maps::egress_cell(&destination)) {
            Some(cell) => run6(frame, arrival, config, cell),
            None => pack_stage(Err(DropReason::Unleased)),
        };
    }
    let Some(address) = frame.read(at + DESTINATION4_AT).and_then(maps::egress_address) else {
        return pack_stage(Err(DropReason::Unleased));
    };
    let packed = run4(frame, arrival, config, &address);
    if is_fragment(packed) { fragments::run(frame, arrival, config, &address) } else { packed }
}

/// Writes what counting a hop has changed, of the header at `at`.
#[inline(always)]
pub fn write_hop<F: Frame>(frame: &F, at: usize, ip: &Ipv4) -> Result<(), DropReason> {
    let checksum = ip.checksum.to_ne_bytes();
    frame.write(at + TTL_AT, [ip.ttl, ip.protocol, checksum[0], checksum[1]])
}

/// The tunnel to a holder.
#[inline(always)]
pub fn tunnel(config: &EdgeConfig, holder: &Holder, hash: u32) -> Tunnel {
    Tunnel {
        source: config.underlay_address,
        destination: holder.node.address,
        vni: holder.vni(),
        entropy_port: entropy_port(hash),
        marker: 0,
        is_control: false,
    }
}

/// The hash of a flow; all fragments of a packet have the same.
#[inline(always)]
fn hash4(packet: &Packet) -> u32 {
    let ports = match packet.part {
        Part::Whole => packet.ports(packet.local_port),
        _ => u16::from_be(packet.ip.id) as u32,
    };
    flow_hash(packet.ip.destination, packet.ip.source, ports, packet.ip.protocol)
}

#[inline(always)]
fn hash6(packet: &Packet6) -> u32 {
    let ports = match packet.part {
        Part::Whole => packet.ports(),
        _ => packet.fragment_id,
    };
    let folded = |address: &[u32; 4]| {
        address[0].wrapping_mul(31) ^ address[1].wrapping_mul(17) ^ address[2].wrapping_mul(7) ^ address[3]
    };
    flow_hash(folded(&packet.ip.destination), folded(&packet.ip.source), ports, packet.fragment_protocol)
}

/// The addresses of a packet, for a key of either family.
#[inline(always)]
pub fn addresses(packet: &Packet) -> ([u32; 4], [u32; 4]) {
    (mapped(packet.ip.source), mapped(packet.ip.destination))
}
