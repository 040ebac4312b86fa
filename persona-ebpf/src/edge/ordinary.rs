//! The ordinary packet, straight through: nearly every packet is one, and the general stages need not be asked.
//!
//! IPv4 in Geneve without options over IPv4, whole, TCP, UDP or an echo, under a leased block of an address that has a hint, nothing to
//! be said to its sender.
//! Whatever is not as expected is left untouched and uncounted for the general stages, which decide; so here no packet is
//! ever refused for what it is, only for coming beyond its rate, and what both would do, both do alike.

use persona_common::addr::{MAPPED_WORD, mapped};
use persona_common::drop::DropReason;
use persona_common::edge::EdgeConfig;
use persona_common::encapsulation::{ECN_MASK, ecn_after};
use persona_common::flow::flow_hash;
use persona_common::node::EgressAddress;
use persona_common::{ENCAPSULATION_LENGTH_V4, checksum::replace_word};
use persona_ebpf::encapsulation::{Inner, Outer, OuterV4};
use persona_ebpf::frame::Frame;
use persona_ebpf::front::{self, Front};
use persona_ebpf::header::{ETHERNET_LENGTH, ETHERTYPE_IPV4, Ipv4, KIND_AT};
use persona_ebpf::outcome::{pack, unpack};
use persona_ebpf::packet::Direction;

use crate::inward::{TTL_AT, WHOLE_ADDRESS_BITS, tunnel};
use crate::maps::{self, Holder};
use crate::police;

/// Where the inner packet starts.
const INNER_AT: usize = ETHERNET_LENGTH + ENCAPSULATION_LENGTH_V4;

/// In the place of a packed outcome: the packet is for the general stages.
const NOT_ORDINARY: u64 = u64::MAX;

/// A node's packet on its way out; None: not an ordinary one.
#[inline(always)]
pub fn outward<F: Frame>(frame: &F, config: &EdgeConfig) -> Option<Result<i32, DropReason>> {
    if F::HAS_WIRE { unpacked(outward_apart(frame, config)) } else { forward(frame, config) }
}

/// At TC a function of its own: Linux 6.1 counts what stands on the entry point's stack with that of all stages, and there is no
/// room.
#[inline(never)]
fn outward_apart<F: Frame>(frame: &F, config: &EdgeConfig) -> u64 {
    forward(frame, config).map_or(NOT_ORDINARY, pack)
}

/// A packet from outside, to an egress address; None: not an ordinary one.
#[inline(always)]
pub fn inward<F: Frame>(frame: &F, config: &EdgeConfig) -> Option<Result<i32, DropReason>> {
    if F::HAS_WIRE { unpacked(inward_apart(frame, config)) } else { deliver(frame, config) }
}

/// As [`outward_apart`].
#[inline(never)]
fn inward_apart<F: Frame>(frame: &F, config: &EdgeConfig) -> u64 {
    deliver(frame, config).map_or(NOT_ORDINARY, pack)
}

#[inline(always)]
fn unpacked(packed: u64) -> Option<Result<i32, DropReason>> {
    if packed == NOT_ORDINARY { None } else { Some(unpack(packed)) }
}

#[inline(always)]
fn forward<F: Frame>(frame: &F, config: &EdgeConfig) -> Option<Result<i32, DropReason>> {
    let headers: &OuterV4 = frame.peek(ETHERNET_LENGTH)?;
    let ip: &Ipv4 = frame.peek(INNER_AT)?;
    if *frame.peek::<u16>(KIND_AT)? != ETHERTYPE_IPV4
        || frame.has_vlan_tag()
        || !headers.is_plain(&config.underlay_address, frame.length())
    {
        return None;
    }
    let (tos, ttl, destination) = (ip.tos, ip.ttl, ip.destination);
    let packet = front::look(frame, INNER_AT, ip, Direction::Outward)?;
    let has_same_ecn = ecn_after(tos, headers.ip.tos) == Some(tos & ECN_MASK);
    if ttl <= 1 || !has_same_ecn || maps::is_perhaps_own(destination, 0) {
        return None;
    }
    let holder = holder(maps::hinted_address(ip.source)?, packet.source_port)?;
    let vni = headers.geneve.vni();
    if !is_at(&holder, headers.ip.source) || holder.vni() != vni {
        return None;
    }
    Some(send_out(frame, config, &holder, &packet, &Hop::of(ip), destination))
}

#[inline(always)]
fn deliver<F: Frame>(frame: &F, config: &EdgeConfig) -> Option<Result<i32, DropReason>> {
    let ip: &Ipv4 = frame.peek(ETHERNET_LENGTH)?;
    let address = maps::hinted_address(ip.destination)?;
    let packet = front::look(frame, ETHERNET_LENGTH, ip, Direction::Inward)?;
    let holder = holder(address, packet.destination_port)?;
    let is_over_ipv4 = holder.node.address[2] == MAPPED_WORD && holder.node.address[0] | holder.node.address[1] == 0;
    let is_small = packet.length_on_wire(frame) <= holder.block.mtu() as usize;
    if ip.ttl <= 1 || !is_over_ipv4 || !is_small || holder.block.is_encrypted() || holder.is_silent() {
        return None;
    }
    let ports = Front::ports(packet.destination_port, packet.source_port);
    let hash = flow_hash(ip.destination, ip.source, ports, ip.protocol);
    let inner = Inner { length: packet.length, tos: ip.tos, is_ipv6: false };
    Some(send_in(frame, config, &holder, &packet, &Hop::of(ip), (hash, inner)))
}

/// What counting a hop changes of a header: time to live and checksum, as they stand in it from [`TTL_AT`] on.
struct Hop([u16; 2]);

impl Hop {
    #[inline(always)]
    fn of(ip: &Ipv4) -> Self {
        let word = |ttl: u8| u16::from_ne_bytes([ttl, ip.protocol]);
        let (from, to) = (word(ip.ttl), word(ip.ttl - 1));
        Self([to, replace_word(ip.checksum, from, to)])
    }
}

#[inline(always)]
fn send_out<F: Frame>(
    frame: &F,
    config: &EdgeConfig,
    holder: &Holder,
    packet: &Front,
    hop: &Hop,
    destination: u32,
) -> Result<i32, DropReason> {
    let packets = packet.packet_count(frame);
    police::admit_ordinary(frame, config, holder.block, Direction::Outward, packets, packet.byte_count(packets))?;
    frame.write(INNER_AT + TTL_AT, hop.0)?;
    frame.decapsulate(&Outer::PLAIN_V4)?;
    frame.send(&config.outside, &mapped(destination))
}

#[inline(always)]
fn send_in<F: Frame>(
    frame: &F,
    config: &EdgeConfig,
    holder: &Holder,
    packet: &Front,
    hop: &Hop,
    (hash, inner): (u32, Inner),
) -> Result<i32, DropReason> {
    let packets = packet.packet_count(frame);
    police::admit_ordinary(frame, config, holder.block, Direction::Inward, packets, packet.byte_count(packets))?;
    frame.write(ETHERNET_LENGTH + TTL_AT, hop.0)?;
    frame.encapsulate(&tunnel(config, holder, hash), &inner)?;
    frame.send(&holder.node.next_hop, &holder.node.address)
}

/// Who holds a port of an address that is cut into blocks.
#[inline(always)]
fn holder(address: EgressAddress, port: u16) -> Option<Holder> {
    if address.block_bits >= WHOLE_ADDRESS_BITS {
        return None;
    }
    maps::holder(address, port).ok()
}

/// Whether a node is at an IPv4 address.
#[inline(always)]
fn is_at(holder: &Holder, source: u32) -> bool {
    let node = &holder.node.address;
    node[3] == source && node[2] == MAPPED_WORD && node[0] | node[1] == 0
}
