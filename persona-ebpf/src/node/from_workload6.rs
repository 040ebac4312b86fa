//! IPv6 from a workload: the flow's record, the translation, the tunnel.
//!
//! The translation needs no state, so TCP in mid-stream simply makes a record, but for a while after programs were first
//! attached; records say which lease a flow has.

use aya_ebpf::programs::TcContext;
use persona_common::addr::Address6;
use persona_common::drop::DropReason;
use persona_common::flow::{TCP, UDP, flow_hash};
use persona_common::fragment::FragmentValue;
use persona_common::node::{
    Device, SUBJECT_HAS_CONFIGURED, SUBJECT_HAS_NETWORK, SUBJECT_ICMP, SUBJECT_OTHER, SUBJECT_TCP, SUBJECT_UDP, Subject,
};
use persona_common::record::{ICMPV6, RecordKey};
use persona_ebpf::count::{add, count_drop, count_persona};
use persona_ebpf::encapsulation::Inner;
use persona_ebpf::frame::Frame;
use persona_ebpf::header::{ETHERNET_LENGTH, Ipv6};
use persona_ebpf::log::note_subject;
use persona_ebpf::outcome::{pack, unpack};
use persona_ebpf::packet::{Direction, Kind, Part};
use persona_ebpf::packet6::Packet6;

use crate::bypass::{adopts, bypass, is_bypassed, is_link_business6};
use crate::classify::{self, Origin};
use crate::fragment6;
use crate::maps::{self, SUBJECT_TRAFFIC};
use crate::path::{self, Exit};
use crate::records::{self, Held};
use crate::subject_counts::{count_dropped, count_dropped_at};
use crate::towards::is_answer;
use crate::{answer, impair, leaving, slow_path, tell, translate6};

/// How a packet leaves.
#[derive(Clone, Copy)]
struct Departure {
    held: Held,
    source: Address6,
    hash: u32,
}

/// A packet that came in by a workload's device.
#[inline(always)]
pub fn run(frame: &TcContext, device: &Device) -> Result<i32, DropReason> {
    // A copy: deciding what it is may move the frame.
    let ip = frame.peek::<Ipv6>(ETHERNET_LENGTH).ok_or(DropReason::Malformed);
    let source = ip.inspect_err(|_| count_dropped_at(device))?.source;
    if is_link_business_apart(frame) != 0 {
        return bypass(frame, device.vlan);
    }
    let origin = classify::origin6(frame, device, &source)?;
    carry(frame, &origin)
}

/// A function of its own, for the sake of the entry point's stack.
#[inline(never)]
fn is_link_business_apart(frame: &TcContext) -> u32 {
    frame.read(ETHERNET_LENGTH).is_some_and(|ip| is_link_business6(frame, &ip)) as u32
}

/// A packet of a subject whose source has been checked.
#[inline(always)]
pub fn carry(frame: &TcContext, origin: &Origin) -> Result<i32, DropReason> {
    let outcome = match Packet6::read(frame, ETHERNET_LENGTH, Direction::Outward) {
        Ok(packet) => unpack(carry_apart(frame, origin, packet)),
        Err(DropReason::Malformed) => Err(DropReason::Malformed),
        // What no persona carries may still be meant for somebody near.
        Err(reason) => unpack(bypass_or(frame, origin, pack(Err(reason)))),
    };
    outcome.inspect_err(|_| count_dropped(origin.subject_index))
}

/// A function of its own, for the sake of the stack.
#[inline(never)]
fn carry_apart(frame: &TcContext, origin: &Origin, packet: &mut Packet6) -> u64 {
    pack(carry_here(frame, origin, packet))
}

#[inline(always)]
fn carry_here(frame: &TcContext, origin: &Origin, packet: &mut Packet6) -> Result<i32, DropReason> {
    note_subject(origin.subject.number);
    let now_secs = maps::now_secs();
    let outcome = match (packet.part, packet.kind) {
        (Part::Later, _) => later(packet, origin, now_secs),
        (_, Kind::Error) => error(frame, packet, origin, now_secs),
        _ => flow(frame, packet, origin, now_secs),
    };
    match outcome {
        Ok(departure) => send(frame, packet, origin, &departure),
        Err(Refusal::Near) => bypass(frame, origin.vlan),
        Err(Refusal::Wait) => slow_path::wait(frame, &inner(packet), origin.subject_index),
        Err(Refusal::Drop(reason)) => Err(reason),
    }
}

/// Why a packet doesn't leave in a tunnel.
enum Refusal {
    /// It passes by.
    Near,
    /// It waits in the slow path.
    Wait,
    Drop(DropReason),
}

impl From<DropReason> for Refusal {
    #[inline(always)]
    fn from(reason: DropReason) -> Self {
        Self::Drop(reason)
    }
}

/// A packet of a flow, or the first fragment of one.
#[inline(always)]
fn flow(frame: &TcContext, packet: &Packet6, origin: &Origin, now_secs: u32) -> Result<Departure, Refusal> {
    let subject = origin.subject;
    let key = record_key(packet, subject);
    leaving::check6(packet, &key, origin, now_secs)?;
    let mut is_new = false;
    let held = match records::existing(&key, subject, packet.tcp_flags, now_secs) {
        // Old flows outlive a switch, but not the loss of every way out.
        Some(_) if subject.flags & SUBJECT_HAS_NETWORK == 0 => return Err(DropReason::NoPersona.into()),
        Some(held) => held,
        None if packet.kind == Kind::Flow && is_answer(&key, packet.tcp_flags, now_secs) => return Err(Refusal::Near),
        None if is_bypassed(origin, packet.ip.destination) => return Err(Refusal::Near),
        None => {
            check_persona(subject, packet)?;
            if is_adopted(packet, &key, now_secs) != 0 {
                return Err(Refusal::Near);
            }
            let held = new_lease(packet, &key, subject, now_secs)?;
            records::open(&key, subject, &held, packet.tcp_flags, now_secs)?;
            is_new = true;
            held
        }
    };
    let source = translate6::outward(held.lease, packet.ip.source)?;
    if is_new {
        tell::opened6(frame, packet, subject, held.lease, &source);
    }
    if packet.part == Part::Whole {
        return Ok(Departure { held, source, hash: hash(packet, &source, packet.ports()) });
    }
    let departure = Departure { held, source, hash: hash(packet, &source, packet.fragment_id) };
    fragment6::note(packet, fragment6::outward_scope(origin.subject_index), &value(&departure, packet, now_secs));
    Ok(departure)
}

/// Whether TCP in mid-stream is from before programs were attached, so that it may pass as it is: a workload had no address
/// of a lease then, and no stranger has asked for it. A function of its own, for the sake of the stack.
#[inline(never)]
fn is_adopted(packet: &Packet6, key: &RecordKey, now_secs: u32) -> u32 {
    let is_from_before = packet.protocol == TCP
        && !packet.opens_connection()
        && adopts(now_secs)
        && maps::configured_lease6(&packet.ip.source).is_none()
        && records::addressed(key, now_secs).is_none();
    is_from_before as u32
}

/// The lease that a new flow takes: its source's own where the workload is configured with it, that which a stranger has
/// addressed, or the newest.
#[inline(always)]
fn new_lease(packet: &Packet6, key: &RecordKey, subject: &Subject, now_secs: u32) -> Result<Held, DropReason> {
    if subject.flags & SUBJECT_HAS_CONFIGURED != 0
        && let Some(held) = maps::configured_lease6(&packet.ip.source)
        && is_holder(&held, subject)
    {
        return Ok(held);
    }
    if let Some(held) = records::addressed(key, now_secs) {
        return Ok(held);
    }
    if subject.lease6_index_plus_one == 0 {
        return Err(DropReason::FamilyDenied);
    }
    let held = Held::at(subject.lease6_index_plus_one - 1).ok_or(DropReason::NoLease)?;
    // The workload shall use an address of the lease, and this isn't one.
    if held.lease.is_configured() { Err(DropReason::SourceAddress) } else { Ok(held) }
}

#[inline(always)]
fn is_holder(held: &Held, subject: &Subject) -> bool {
    maps::subject(held.lease.subject_index).is_some_and(|holder| holder.number == subject.number)
}

/// An error about a packet that the subject got: it leaves as that packet's flow would.
#[inline(always)]
fn error(frame: &TcContext, packet: &mut Packet6, origin: &Origin, now_secs: u32) -> Result<Departure, Refusal> {
    let embedded = packet.read_embedded(frame, Direction::Outward)?;
    let is_answer = same(&embedded.destination, &packet.ip.source) && same(&embedded.source, &packet.ip.destination);
    let key = record_key(packet, origin.subject);
    leaving::check6(packet, &key, origin, now_secs)?;
    let known = if is_answer { records::peek(&key, now_secs) } else { None };
    let Some(held) = known else {
        let is_near = is_bypassed(origin, packet.ip.destination);
        return Err(if is_near { Refusal::Near } else { DropReason::NoMapping.into() });
    };
    if origin.subject.flags & SUBJECT_HAS_NETWORK == 0 {
        return Err(DropReason::NoPersona.into());
    }
    let source = translate6::outward(held.lease, packet.ip.source)?;
    Ok(Departure { held, source, hash: hash(packet, &source, packet.ports()) })
}

/// A later fragment: it follows the first, or waits for it.
#[inline(always)]
fn later(packet: &Packet6, origin: &Origin, now_secs: u32) -> Result<Departure, Refusal> {
    let scope = fragment6::outward_scope(origin.subject_index);
    if let Some((value, held)) = fragment6::find(packet, scope, now_secs) {
        return Ok(Departure { held, source: value.address, hash: value.hash });
    }
    if !is_bypassed(origin, packet.ip.destination) {
        return Err(Refusal::Wait);
    }
    leaving::check_later6(packet, origin, now_secs)?;
    Err(Refusal::Near)
}

#[inline(always)]
fn send(frame: &TcContext, packet: &mut Packet6, origin: &Origin, departure: &Departure) -> Result<i32, DropReason> {
    let lease = departure.held.lease;
    if packet.length_on_wire(frame) > lease.mtu as usize {
        let verdict = answer::too_big6(frame, packet, origin, lease.mtu)?;
        count_drop(DropReason::TooBig);
        count_dropped(origin.subject_index);
        return Ok(verdict);
    }
    if packet.ip.hop_limit <= 1 {
        let verdict = answer::expired6(frame, packet, origin)?;
        count_drop(DropReason::TtlExpired);
        count_dropped(origin.subject_index);
        return Ok(verdict);
    }
    impair::spare(origin.subject)?;
    let packets = packet.packet_count(frame);
    let bytes = packet.byte_count(packets);
    add(&SUBJECT_TRAFFIC, origin.subject_index, Direction::Outward, packets, bytes);
    count_persona(lease.persona_index, Direction::Outward, packets, bytes);
    translate6::rewrite_source(frame, packet, origin.subject, lease, departure.source)?;
    path::send_to_edge(frame, &inner(packet), origin.subject, lease, departure.hash, Exit::Edge)
}

#[inline(always)]
fn check_persona(subject: &Subject, packet: &Packet6) -> Result<(), DropReason> {
    if subject.flags & SUBJECT_HAS_NETWORK == 0 {
        return Err(DropReason::NoPersona);
    }
    let needed = match packet.protocol {
        TCP => SUBJECT_TCP,
        UDP => SUBJECT_UDP,
        ICMPV6 => SUBJECT_ICMP,
        _ => SUBJECT_OTHER,
    };
    if subject.flags & needed == 0 { Err(DropReason::ProtocolDenied) } else { Ok(()) }
}

/// The outcome of a packet that passes by, else the one that it would have. A function of its own, for the sake of the
/// entry point's stack.
#[inline(never)]
fn bypass_or(frame: &TcContext, origin: &Origin, packed: u64) -> u64 {
    let Some(ip) = frame.read::<Ipv6>(ETHERNET_LENGTH) else { return pack(Err(DropReason::Malformed)) };
    if !is_bypassed(origin, ip.destination) {
        return packed;
    }
    let reason = unpack(packed).err().unwrap_or(DropReason::Malformed);
    pack(leaving::check_odd(origin, &ip.destination, reason).and_then(|()| bypass(frame, origin.vlan)))
}

#[inline(always)]
fn inner(packet: &Packet6) -> Inner {
    Inner { length: packet.length, tos: packet.ip.traffic_class(), is_ipv6: true }
}

#[inline(always)]
fn record_key(packet: &Packet6, subject: &Subject) -> RecordKey {
    RecordKey {
        subject: subject.number,
        local: packet.ip.source,
        remote: packet.ip.destination,
        local_port: packet.local_port,
        remote_port: packet.remote_port,
        protocol: packet.protocol as u32,
    }
}

#[inline(always)]
fn hash(packet: &Packet6, source: &Address6, ports: u32) -> u32 {
    let folded = |address: &Address6| address[0] ^ address[1].rotate_left(7) ^ address[2].rotate_left(13) ^ address[3];
    flow_hash(folded(source), folded(&packet.ip.destination), ports, packet.fragment_protocol)
}

#[inline(always)]
fn value(departure: &Departure, packet: &Packet6, now_secs: u32) -> FragmentValue {
    FragmentValue {
        seen_secs: now_secs,
        lease_index: departure.held.index,
        lease_id_low: departure.held.lease.id as u32,
        hash: departure.hash,
        address: departure.source,
        id: packet.fragment_id,
        port: packet.local_port as u32,
    }
}

#[inline(always)]
fn same(a: &Address6, b: &Address6) -> bool {
    a[0] == b[0] && a[1] == b[1] && a[2] == b[2] && a[3] == b[3]
}
