//! IPv6 from an edge: the leased prefix, the flow's record, the translation, the workload's device.

use aya_ebpf::programs::TcContext;
use persona_common::addr::Address6;
use persona_common::drop::DropReason;
use persona_common::encapsulation::{ECN_MASK, ecn_after};
use persona_common::fragment::FragmentValue;
use persona_common::node::Subject;
use persona_common::record::RecordKey;
use persona_ebpf::count::{add, count_persona};
use persona_ebpf::encapsulation::{Inner, Outer};
use persona_ebpf::frame::Frame;
use persona_ebpf::header::ETHERNET_LENGTH;
use persona_ebpf::log::note_subject;
use persona_ebpf::outcome::{pack, unpack};
use persona_ebpf::packet::{Direction, Kind, Part};
use persona_ebpf::packet6::Packet6;
use persona_ebpf::wire;

use crate::handshake::Terms;
use crate::maps::{self, SUBJECT_TRAFFIC};
use crate::records::{self, Held};
use crate::subject_counts::count_dropped;
use crate::{deliver, fragment6, impair, slow_path, translate6};

/// A packet in the tunnel of a known edge.
#[inline(always)]
pub fn run(frame: &TcContext, outer: &Outer) -> Result<i32, DropReason> {
    let packet = Packet6::read(frame, outer.inner_at(), Direction::Inward)?;
    unpack(run_apart(frame, outer, packet))
}

/// A function of its own, for the sake of the stack.
#[inline(never)]
fn run_apart(frame: &TcContext, outer: &Outer, packet: &mut Packet6) -> u64 {
    pack(run_here(frame, outer, packet))
}

#[inline(always)]
fn run_here(frame: &TcContext, outer: &Outer, packet: &mut Packet6) -> Result<i32, DropReason> {
    let held = maps::lease6(&packet.ip.destination).ok_or(DropReason::Unleased)?;
    receive(frame, outer, packet, &held).inspect_err(|_| count_dropped(held.lease.subject_index))
}

/// A packet that is for the holder of a lease.
#[inline(always)]
fn receive(frame: &TcContext, outer: &Outer, packet: &mut Packet6, held: &Held) -> Result<i32, DropReason> {
    wire::check(frame, held.lease.vni, outer.vni())?;
    let subject = maps::subject(held.lease.subject_index).ok_or(DropReason::UnknownDevice)?;
    note_subject(subject.number);
    let now_secs = maps::now_secs();
    let local = match (packet.part, packet.kind) {
        (Part::Later, _) => match fragment6::find(packet, fragment6::INWARD, now_secs) {
            Some((value, _)) => value.address,
            None => return slow_path::wait_inward(frame, outer, &inner(packet)),
        },
        (_, Kind::Error) => error(frame, packet, held, subject, now_secs)?,
        _ => flow(packet, held, subject, now_secs)?,
    };
    carry(frame, outer, packet, held, subject, local)
}

/// A packet of a flow, or the first fragment of one.
#[inline(always)]
fn flow(packet: &Packet6, held: &Held, subject: &Subject, now_secs: u32) -> Result<Address6, DropReason> {
    let local = translate6::inward(held.lease, packet.ip.destination)?;
    let key = record_key(packet, subject, local, packet.ip.source);
    records::admit(&key, subject, held, packet.tcp_flags, now_secs)?;
    if packet.part == Part::First {
        let value = FragmentValue {
            seen_secs: now_secs,
            lease_index: held.index,
            lease_id_low: held.lease.id as u32,
            address: local,
            port: packet.local_port as u32,
            ..FragmentValue::default()
        };
        fragment6::note(packet, fragment6::INWARD, &value);
    }
    Ok(local)
}

/// An error about a packet that the subject has sent: the embedded source is the lease's.
#[inline(always)]
fn error(
    frame: &TcContext,
    packet: &mut Packet6,
    held: &Held,
    subject: &Subject,
    now_secs: u32,
) -> Result<Address6, DropReason> {
    let embedded = packet.read_embedded(frame, Direction::Inward)?;
    let (ours, outer) = (embedded.source, packet.ip.destination);
    if ours[0] != outer[0] || ours[1] != outer[1] || ours[2] != outer[2] || ours[3] != outer[3] {
        return Err(DropReason::NoMapping);
    }
    let local = translate6::inward(held.lease, ours)?;
    let key = record_key(packet, subject, local, embedded.destination);
    if records::is_known(&key, held, now_secs) { Ok(local) } else { Err(DropReason::NoMapping) }
}

#[inline(always)]
fn carry(
    frame: &TcContext,
    outer: &Outer,
    packet: &mut Packet6,
    held: &Held,
    subject: &Subject,
    local: Address6,
) -> Result<i32, DropReason> {
    let lease = held.lease;
    let class = packet.ip.traffic_class();
    let ecn = ecn_after(class, outer.tos).ok_or(DropReason::Ecn)?;
    if packet.ip.hop_limit <= 1 {
        return Err(DropReason::TtlExpired);
    }
    impair::spare(subject)?;
    let packets = packet.packet_count(frame);
    let bytes = packet.byte_count(packets);
    add(&SUBJECT_TRAFFIC, lease.subject_index, Direction::Inward, packets, bytes);
    count_persona(lease.persona_index, Direction::Inward, packets, bytes);
    frame.decapsulate(outer)?;
    packet.move_to(ETHERNET_LENGTH);
    let terms = Terms::of(lease, subject);
    translate6::rewrite_destination(frame, packet, terms, local, (class & !ECN_MASK) | ecn)?;
    deliver::to_subject(frame, outer, subject, &local)
}

#[inline(always)]
fn inner(packet: &Packet6) -> Inner {
    Inner { length: packet.length, tos: packet.ip.traffic_class(), is_ipv6: true }
}

#[inline(always)]
fn record_key(packet: &Packet6, subject: &Subject, local: Address6, remote: Address6) -> RecordKey {
    RecordKey {
        subject: subject.number,
        local,
        remote,
        local_port: packet.local_port,
        remote_port: packet.remote_port,
        protocol: packet.protocol as u32,
    }
}
