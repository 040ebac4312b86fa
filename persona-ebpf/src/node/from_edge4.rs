//! IPv4 from an edge: the port's slot, the rewrite, the workload's device.

use aya_ebpf::programs::TcContext;
use persona_common::addr::mapped;
use persona_common::drop::DropReason;
use persona_common::encapsulation::ecn_after;
use persona_common::node::{Lease, Subject};
use persona_ebpf::count::{add, count_persona};
use persona_ebpf::encapsulation::Outer;
use persona_ebpf::frame::Frame;
use persona_ebpf::header::{ETHERNET_LENGTH, ICMP_LENGTH, Ipv4};
use persona_ebpf::log::note_subject;
use persona_ebpf::outcome::{pack, unpack};
use persona_ebpf::packet::{Direction, Kind, Packet, Part};
use persona_ebpf::wire;

use crate::deliver::to_subject;
use crate::handshake::Terms;
use crate::maps::{self, SUBJECT_TRAFFIC, SUBJECTS};
use crate::read::read;
use crate::receive::{self, Place, Recipient};
use crate::rewrite::{Side, rewrite_destination};
use crate::subject_counts::count_dropped;
use crate::{configured4, fragment, impair, slow_path, tell};

/// A packet in the tunnel of a known edge.
#[inline(always)]
pub fn run(frame: &TcContext, outer: &Outer) -> Result<i32, DropReason> {
    unpack(run_apart(frame, outer))
}

/// A function of its own, for the sake of the stack.
#[inline(never)]
fn run_apart(frame: &TcContext, outer: &Outer) -> u64 {
    pack(run_here(frame, outer))
}

#[inline(always)]
fn run_here(frame: &TcContext, outer: &Outer) -> Result<i32, DropReason> {
    let ip: Ipv4 = frame.read(outer.inner_at()).ok_or(DropReason::Malformed)?;
    let mut packet = Packet::blank(ip, outer.inner_at());
    read(frame, &mut packet, Direction::Inward)?;
    let now_secs = maps::now_secs();
    let (lease, recipient) = if packet.part == Part::Later {
        // It follows the first, or waits for it.
        let Some((value, lease)) = fragment::find(&packet, fragment::INWARD, now_secs) else {
            return slow_path::wait_inward(frame, outer, &packet.inner());
        };
        wire::check(frame, lease.vni, outer.vni())?;
        (lease, Recipient { address: value.address[3], port: 0 })
    } else {
        find(frame, outer, &packet, now_secs)?
    };
    let subject = SUBJECTS.get(lease.subject_index).ok_or(DropReason::UnknownDevice)?;
    note_subject(subject.number);
    deliver(frame, outer, &mut packet, lease, subject, recipient).inspect_err(|_| count_dropped(lease.subject_index))
}

/// Whose a packet with ports is, and who it is for.
#[inline(always)]
fn find(
    frame: &TcContext,
    outer: &Outer,
    packet: &Packet,
    now_secs: u32,
) -> Result<(&'static Lease, Recipient), DropReason> {
    let mut place = receive::place(packet)?;
    let lease = place.lease;
    let recipient = admit(frame, outer, packet, &mut place, now_secs);
    Ok((lease, recipient.inspect_err(|_| count_dropped(lease.subject_index))?))
}

/// Who a packet with ports is for, if it is let in.
#[inline(always)]
fn admit(
    frame: &TcContext,
    outer: &Outer,
    packet: &Packet,
    place: &mut Place,
    now_secs: u32,
) -> Result<Recipient, DropReason> {
    let lease = place.lease;
    wire::check(frame, lease.vni, outer.vni())?;
    let subject = SUBJECTS.get(lease.subject_index).ok_or(DropReason::UnknownDevice)?;
    if packet.kind == Kind::Error {
        let remote = embedded_remote(frame, packet)?;
        let recipient = if lease.is_configured() {
            configured4::peek(packet, remote, place, subject, now_secs)
        } else {
            receive::peek(packet, remote, place, subject, now_secs)
        };
        return recipient.ok_or(DropReason::NoMapping);
    }
    let recipient = if lease.is_configured() {
        configured4::receive(packet, place, subject, now_secs)?
    } else {
        receive::receive(packet, place, subject, now_secs)?
    };
    if place.is_closed != 0 {
        tell::inward(frame, packet, subject, lease, &recipient);
    }
    if packet.part == Part::First {
        fragment::note_inward(packet, lease, place.lease_index, &recipient, now_secs);
    }
    Ok(recipient)
}

/// Who the packet went to that an error embeds.
#[inline(always)]
fn embedded_remote(frame: &TcContext, packet: &Packet) -> Result<u32, DropReason> {
    const DESTINATION_AT: usize = core::mem::offset_of!(Ipv4, destination);
    frame.read(packet.l4_at() + ICMP_LENGTH + DESTINATION_AT).ok_or(DropReason::Malformed)
}

#[inline(always)]
fn deliver(
    frame: &TcContext,
    outer: &Outer,
    packet: &mut Packet,
    lease: &Lease,
    subject: &Subject,
    recipient: Recipient,
) -> Result<i32, DropReason> {
    impair::spare(subject)?;
    packet.count_hop()?;
    let ecn = ecn_after(packet.ip.tos, outer.tos).ok_or(DropReason::Ecn)?;
    if ecn != packet.ip.tos & 3 {
        packet.set_tos(packet.ip.tos & !3 | ecn);
    }
    let packets = packet.packet_count(frame);
    let bytes = packet.byte_count(packets);
    add(&SUBJECT_TRAFFIC, lease.subject_index, Direction::Inward, packets, bytes);
    count_persona(lease.persona_index, Direction::Inward, packets, bytes);
    frame.decapsulate(outer)?;
    packet.move_to(ETHERNET_LENGTH);
    let to = Side { address: recipient.address, port: recipient.port };
    rewrite_destination(frame, packet, to, Terms::of(lease, subject))?;
    to_subject(frame, outer, subject, &mapped(packet.ip.destination))
}
