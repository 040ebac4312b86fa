//! `edge_inside`, at the underlay: packets of nodes go out or to other nodes, those that a peer passes on go to their node,
//! probes are reflected.

use aya_ebpf::macros::map;
use aya_ebpf::maps::PerCpuArray;
use persona_common::drop::DropReason;
use persona_common::edge::EdgeConfig;
use persona_common::probe::{
    FLAG_DEAF, KIND_REPLY, KIND_REQUEST, PROBE_LENGTH, PROBE_MAGIC, PROBE_PROTOCOL, PROBE_VERSION, ProbePayload,
};
use persona_ebpf::encapsulation::{Outer, read_outer, read_outer_at};
use persona_ebpf::frame::Frame;
use persona_ebpf::header::{ETHERNET_LENGTH, ETHERTYPE_QINQ, ETHERTYPE_VLAN, Ethernet, Ipv4, Ipv6, Udp, VLAN_LENGTH};
use persona_ebpf::outcome::{pack, unpack};

use crate::arrival::Arrival;
use crate::stage::{Next, is_answered, pack_stage, turns};
use crate::{answer, inward, maps, ordinary, outward, relay};

#[inline(always)]
pub fn run<F: Frame>(frame: &F) -> Result<i32, DropReason> {
    frame.linearise_tunnel();
    let config = maps::config()?;
    if let Some(outcome) = ordinary::outward(frame, config) {
        return outcome;
    }
    let Some(outer) = read_outer(frame, &config.underlay_address) else { return unpack(refuse_tagged(frame)) };
    if frame.has_vlan_tag() {
        return Err(DropReason::Vlan);
    }
    if outer.is_control() {
        return reflect(frame, &outer, config.generation);
    }
    outer.check(frame)?;
    outer.linearise_inner(frame);
    let kept = keep(outer)?;
    let outer = &kept.outer;
    let mut packed = pack_stage(Ok(Next::TURN));
    if !relay::is_marked(outer) {
        packed = outward(frame, outer, config);
    } else if relay::comes_from_peer(config, outer) == 0 {
        return Err(DropReason::UnknownPeer);
    }
    // SAFETY: a field of a cell of this CPU. Volatile, or the compiler would make two paths of it.
    let is_relayed = unsafe { core::ptr::read_volatile(&raw const kept.is_relayed) };
    let arrival = Arrival::in_tunnel(outer, is_relayed);
    if turns(packed) {
        packed = inward::turn(frame, &arrival, outer, config);
    }
    if is_answered(packed) {
        packed = answer::run(frame, &arrival, config, packed, outer.holds_ipv6());
    }
    unpack(packed)
}

/// What the stages read of a tunnel packet.
struct Kept {
    outer: Outer,
    is_relayed: u32,
}

/// What is read from a map has no history for the verifier: packets over both families, with and without options, of nodes
/// and of peers, are one from here on.
#[map]
static KEPT: PerCpuArray<Kept> = PerCpuArray::with_max_entries(1, 0);

#[inline(always)]
fn keep(outer: Outer) -> Result<&'static Kept, DropReason> {
    let cell = KEPT.get_ptr_mut(0).ok_or(DropReason::Kernel)?;
    let is_relayed = relay::is_marked(&outer) as u32;
    // SAFETY: a cell of this CPU, whose programs don't interrupt each other here.
    unsafe {
        cell.write(Kept { outer, is_relayed });
        Ok(&*cell)
    }
}

#[inline(always)]
fn outward<F: Frame>(frame: &F, outer: &Outer, config: &EdgeConfig) -> u64 {
    if outer.holds_ipv6() { outward::run6(frame, outer, config) } else { outward::run4(frame, outer, config) }
}

/// The inside has no VLAN of its own: a tagged tunnel packet came the wrong way. Everything else is the host's.
/// A function of its own, for the sake of the entry point's stack.
#[inline(never)]
fn refuse_tagged<F: Frame>(frame: &F) -> u64 {
    pack(refuse_tagged_here(frame))
}

#[inline(always)]
fn refuse_tagged_here<F: Frame>(frame: &F) -> Result<i32, DropReason> {
    let Some(ethernet) = frame.read::<Ethernet>(0) else { return Ok(F::PASS) };
    if ethernet.kind != ETHERTYPE_VLAN && ethernet.kind != ETHERTYPE_QINQ {
        return Ok(F::PASS);
    }
    let Some([_, kind]) = frame.read::<[u16; 2]>(ETHERNET_LENGTH) else { return Ok(F::PASS) };
    let address = &maps::config()?.underlay_address;
    match read_outer_at(frame, ETHERNET_LENGTH + VLAN_LENGTH, kind, address) {
        Some(_) => Err(DropReason::Vlan),
        None => Ok(F::PASS),
    }
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
    let is_outside_alive = maps::is_outside_alive();
    // Who doesn't hear this edge isn't reached from here, however well it is heard; but nobody hears a silenced edge.
    if probe.flags & FLAG_DEAF == 0 || !is_outside_alive {
        maps::note_heard(&outer.source);
    }
    if !is_outside_alive {
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
