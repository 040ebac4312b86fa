//! `edge_inside`, at the underlay: packets of nodes go out, probes are reflected.
//!
//! A tunnel packet leaves only if its outer source is the node that holds the block of its inner source.

use persona_common::drop::DropReason;
use persona_common::probe::{
    KIND_REPLY, KIND_REQUEST, PROBE_LENGTH, PROBE_MAGIC, PROBE_PROTOCOL, PROBE_VERSION, ProbePayload,
};
use persona_ebpf::count::count_persona;
use persona_ebpf::encapsulation::{INNER_AT, Outer, read_outer};
use persona_ebpf::frame::Frame;
use persona_ebpf::header::{ETHERNET_LENGTH, Ethernet};
use persona_ebpf::packet::{Direction, Packet};

use crate::maps;

/// Bytes of headers that the program looks at.
const HEADERS_LENGTH: usize = INNER_AT + 40;

#[inline(always)]
pub fn run<F: Frame>(frame: &F) -> Result<i32, DropReason> {
    frame.linearise(HEADERS_LENGTH);
    let config = maps::config()?;
    let Some(outer) = read_outer(frame, config.underlay_address) else { return Ok(F::PASS) };
    if outer.is_control() {
        return reflect(frame, outer, config.generation);
    }
    outer.check(frame)?;
    forward(frame, &outer, config)
}

#[inline(always)]
fn forward<F: Frame>(frame: &F, outer: &Outer, config: &persona_common::edge::EdgeConfig) -> Result<i32, DropReason> {
    let mut packet = Packet::read(frame, INNER_AT, Direction::Outward)?;
    let address = maps::egress_address(packet.ip.source).ok_or(DropReason::Unleased)?;
    let (block, node) = maps::holder(address, packet.local_port)?;
    if node.address != outer.ip.source {
        return Err(DropReason::UnknownPeer);
    }
    if block.vni != outer.vni() {
        return Err(DropReason::VniMismatch);
    }
    packet.count_hop()?;
    let packets = packet.packet_count(frame);
    count_persona(block.persona_index, Direction::Outward, packets, packet.byte_count(packets));
    frame.decapsulate()?;
    frame.write(ETHERNET_LENGTH, packet.ip)?;
    frame.send(&config.outside, packet.ip.destination)
}

/// Turns a request into its reply, in place. Other control packets are the host's.
#[inline(always)]
fn reflect<F: Frame>(frame: &F, outer: Outer, generation: u64) -> Result<i32, DropReason> {
    let Some(mut probe) = frame.read::<ProbePayload>(INNER_AT) else { return Ok(F::PASS) };
    let is_request = outer.geneve.protocol == PROBE_PROTOCOL.to_be()
        && outer.geneve.version_length == 0
        && u16::from_be(outer.udp.length) as usize == 8 + PROBE_LENGTH
        && u32::from_ne_bytes(probe.magic) == u32::from_ne_bytes(PROBE_MAGIC)
        && probe.version == PROBE_VERSION
        && probe.kind == KIND_REQUEST;
    if !is_request {
        return Ok(F::PASS);
    }
    if !maps::is_outside_alive() {
        return Err(DropReason::ProbeSilenced);
    }
    let ethernet: Ethernet = frame.read(0).ok_or(DropReason::Malformed)?;
    let mut reply = outer;
    (reply.ip.source, reply.ip.destination) = (outer.ip.destination, outer.ip.source);
    (reply.udp.source, reply.udp.destination) = (outer.udp.destination, outer.udp.source);
    reply.udp.checksum = 0;
    probe.kind = KIND_REPLY;
    probe.generation = generation.to_be_bytes();
    let swapped = Ethernet { destination: ethernet.source, source: ethernet.destination, kind: ethernet.kind };
    frame.write(0, swapped)?;
    frame.write(ETHERNET_LENGTH, reply)?;
    frame.write(INNER_AT, probe)?;
    Ok(frame.send_back())
}
