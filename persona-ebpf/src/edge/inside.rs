//! `edge_inside`, at the underlay: packets of nodes go out, probes are reflected.
//!
//! A tunnel packet leaves only if its outer source is the node that holds the block of its inner source.

use persona_common::ENCAPSULATION_LENGTH_V6;
use persona_common::addr::mapped;
use persona_common::drop::DropReason;
use persona_common::probe::{
    KIND_REPLY, KIND_REQUEST, PROBE_LENGTH, PROBE_MAGIC, PROBE_PROTOCOL, PROBE_VERSION, ProbePayload,
};
use persona_ebpf::count::count_persona;
use persona_ebpf::encapsulation::{Outer, read_outer};
use persona_ebpf::frame::Frame;
use persona_ebpf::header::{ETHERNET_LENGTH, Ipv4, Ipv6, Udp};
use persona_ebpf::packet::{Direction, Packet};

use crate::maps;

/// Bytes of headers that the program looks at.
const HEADERS_LENGTH: usize = ETHERNET_LENGTH + ENCAPSULATION_LENGTH_V6 + 40;

#[inline(always)]
pub fn run<F: Frame>(frame: &F) -> Result<i32, DropReason> {
    frame.linearise(HEADERS_LENGTH);
    let config = maps::config()?;
    let Some(outer) = read_outer(frame, &config.underlay_address) else { return Ok(F::PASS) };
    if outer.is_control() {
        return reflect(frame, &outer, config.generation);
    }
    outer.check(frame)?;
    if outer.holds_ipv6() {
        return Err(DropReason::Ipv6);
    }
    forward(frame, &outer, config)
}

#[inline(always)]
fn forward<F: Frame>(frame: &F, outer: &Outer, config: &persona_common::edge::EdgeConfig) -> Result<i32, DropReason> {
    let mut packet = Packet::read(frame, outer.inner_at(), Direction::Outward)?;
    let address = maps::egress_address(packet.ip.source).ok_or(DropReason::Unleased)?;
    let (block, node) = maps::holder(address, packet.local_port)?;
    if node.address != outer.source {
        return Err(DropReason::UnknownPeer);
    }
    if block.vni != outer.vni() {
        return Err(DropReason::VniMismatch);
    }
    packet.count_hop()?;
    let packets = packet.packet_count(frame);
    count_persona(block.persona_index, Direction::Outward, packets, packet.byte_count(packets));
    frame.decapsulate(outer)?;
    frame.write(ETHERNET_LENGTH, packet.ip)?;
    frame.send(&config.outside, &mapped(packet.ip.destination))
}

/// Turns a request into its reply, in place. Other control packets are the host's.
#[inline(always)]
fn reflect<F: Frame>(frame: &F, outer: &Outer, generation: u64) -> Result<i32, DropReason> {
    let Some(mut probe) = frame.read::<ProbePayload>(outer.inner_at()) else { return Ok(F::PASS) };
    let is_request = outer.geneve.protocol == PROBE_PROTOCOL.to_be()
        && outer.geneve.version_length == 0
        && u16::from_be(outer.udp.length) as usize == 8 + PROBE_LENGTH
        && u32::from_ne_bytes(probe.magic) == u32::from_ne_bytes(PROBE_MAGIC)
        && probe.version == PROBE_VERSION
        && probe.kind == KIND_REQUEST;
    if !is_request {
        return Ok(F::PASS);
    }
    maps::note_heard(&outer.source);
    if !maps::is_outside_alive() {
        return Err(DropReason::ProbeSilenced);
    }
    probe.kind = KIND_REPLY;
    probe.generation = generation.to_be_bytes();
    frame.swap_ethernet()?;
    swap_outer(frame, outer)?;
    frame.write(outer.inner_at(), probe)?;
    Ok(frame.send_back())
}

/// Swaps the outer addresses and ports.
#[inline(always)]
fn swap_outer<F: Frame>(frame: &F, outer: &Outer) -> Result<(), DropReason> {
    if outer.is_ipv6 {
        let mut ip: Ipv6 = frame.read(ETHERNET_LENGTH).ok_or(DropReason::Malformed)?;
        (ip.source, ip.destination) = (ip.destination, ip.source);
        frame.write(ETHERNET_LENGTH, ip)?;
    } else {
        let mut ip: Ipv4 = frame.read(ETHERNET_LENGTH).ok_or(DropReason::Malformed)?;
        (ip.source, ip.destination) = (ip.destination, ip.source);
        frame.write(ETHERNET_LENGTH, ip)?;
    }
    let (source, destination) = (outer.udp.destination, outer.udp.source);
    // Over IPv4 zero says that there is none; over IPv6 the prober's socket takes zero (`UDP_NO_CHECK6_RX`).
    let udp = Udp { source, destination, checksum: 0, ..outer.udp };
    frame.write(ETHERNET_LENGTH + outer.ip_header_length(), udp)
}
