//! The firewall for what others send to a workload past every persona: at its device, where no program of ours has let it in.
//!
//! Answers to what the workload has opened pass, as do the link's own business, ICMP errors and echo replies; later fragments
//! follow the first. What cannot be read is refused, for rules could not be asked about it.

use aya_ebpf::programs::TcContext;
use persona_common::addr::mapped;
use persona_common::drop::DropReason;
use persona_common::firewall::{has_verdict, with_verdict};
use persona_common::flow::{ICMP, UDP};
use persona_common::node::Subject;
use persona_common::record::{ICMPV6, RECORD_OPENED_OUTWARD, RecordKey};
use persona_ebpf::frame::Frame;
use persona_ebpf::header::{
    ETHERNET_LENGTH, ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ipv4, Ipv6, TCP_ACK, TCP_RST, TCP_SYN,
};
use persona_ebpf::outcome::{pack, unpack};
use persona_ebpf::packet::{Direction, Kind, Packet, Part};
use persona_ebpf::packet6::Packet6;

use crate::bypass::{is_link_local4, is_near6, is_neighbour_discovery};
use crate::firewall::{self, EGRESS, INGRESS, service, service_of};
use crate::fragment::BESIDE_INWARD;
use crate::read::read;
use crate::subject_counts::count_opened;
use crate::{atomic, fragment, fragment6, maps, towards};

/// Who gets a packet.
pub struct Receiver {
    pub subject: &'static Subject,
    pub subject_index: u32,
}

/// Whether a frame of this kind may go to a workload that has a firewall.
#[inline(always)]
pub fn check(frame: &TcContext, kind: u16, receiver: &Receiver) -> Result<(), DropReason> {
    match kind {
        ETHERTYPE_IPV4 => unpack(check4(frame, receiver)).map(drop),
        ETHERTYPE_IPV6 => unpack(check6(frame, receiver)).map(drop),
        ETHERTYPE_ARP => Ok(()),
        _ => Err(DropReason::EtherType),
    }
}

#[inline(never)]
fn check4(frame: &TcContext, receiver: &Receiver) -> u64 {
    pack(judge4(frame, receiver).map(|()| 0))
}

#[inline(never)]
fn check6(frame: &TcContext, receiver: &Receiver) -> u64 {
    pack(judge6(frame, receiver).map(|()| 0))
}

#[inline(always)]
fn judge4(frame: &TcContext, receiver: &Receiver) -> Result<(), DropReason> {
    let ip: Ipv4 = frame.read(ETHERNET_LENGTH).ok_or(DropReason::Malformed)?;
    if is_link_local4(ip.destination) || is_link_local4(ip.source) {
        return Ok(());
    }
    let remote = mapped(ip.source);
    let mut packet = Packet::blank(ip, ETHERNET_LENGTH);
    match read(frame, &mut packet, Direction::Inward) {
        Ok(()) => {}
        // An echo request, or something that is neither echo nor error.
        Err(DropReason::IcmpType) => {
            return firewall::check(receiver.subject_index, &remote, service(ICMP as u32, 0, INGRESS));
        }
        outcome => return outcome,
    }
    let scope = BESIDE_INWARD | receiver.subject_index;
    let now_secs = maps::now_secs();
    if packet.part == Part::Later {
        let has_passed = fragment::has_passed(&packet, scope, now_secs);
        return if has_passed { Ok(()) } else { Err(DropReason::Firewall) };
    }
    let is_dhcp = packet.protocol == UDP && (packet.remote_port, packet.local_port) == (67, 68);
    if packet.kind == Kind::Error || packet.protocol == ICMP || is_dhcp {
        return Ok(());
    }
    let key = RecordKey {
        subject: receiver.subject.number,
        local: mapped(packet.ip.destination),
        remote,
        local_port: packet.local_port,
        remote_port: packet.remote_port,
        protocol: packet.protocol as u32,
    };
    admit(&key, packet.tcp_flags, receiver, now_secs)?;
    if packet.part == Part::First {
        fragment::note_passed(&packet, scope, now_secs);
    }
    Ok(())
}

#[inline(always)]
fn judge6(frame: &TcContext, receiver: &Receiver) -> Result<(), DropReason> {
    let ip: Ipv6 = frame.read(ETHERNET_LENGTH).ok_or(DropReason::Malformed)?;
    if is_near6(&ip) || (ip.next_header == ICMPV6 && is_neighbour_discovery(frame, ETHERNET_LENGTH)) {
        return Ok(());
    }
    let packet = match Packet6::read(frame, ETHERNET_LENGTH, Direction::Inward) {
        Ok(packet) => packet,
        Err(DropReason::IcmpType) => {
            return firewall::check(receiver.subject_index, &ip.source, service(ICMPV6 as u32, 0, INGRESS));
        }
        Err(reason) => return Err(reason),
    };
    let scope = BESIDE_INWARD | receiver.subject_index;
    let now_secs = maps::now_secs();
    if packet.part == Part::Later {
        let has_passed = fragment6::has_passed(packet, scope, now_secs);
        return if has_passed { Ok(()) } else { Err(DropReason::Firewall) };
    }
    if packet.kind == Kind::Error || packet.protocol == ICMPV6 {
        return Ok(());
    }
    let key = RecordKey {
        subject: receiver.subject.number,
        local: packet.ip.destination,
        remote: packet.ip.source,
        local_port: packet.local_port,
        remote_port: packet.remote_port,
        protocol: packet.protocol as u32,
    };
    admit(&key, packet.tcp_flags, receiver, now_secs)?;
    if packet.part == Part::First {
        fragment6::note_passed(packet, scope, now_secs);
    }
    Ok(())
}

/// Lets in what a rule lets open, and what is of a flow that was let open; keeps a note of it.
#[inline(always)]
fn admit(key: &RecordKey, tcp_flags: u8, receiver: &Receiver, now_secs: u32) -> Result<(), DropReason> {
    if refuses(key, tcp_flags as u32, receiver, now_secs) == 0 { Ok(()) } else { Err(DropReason::Firewall) }
}

#[inline(never)]
fn refuses(key: &RecordKey, tcp_flags: u32, receiver: &Receiver, now_secs: u32) -> u32 {
    let (verdict, tcp_flags) = (receiver.subject.verdict(), tcp_flags as u8);
    let opens = tcp_flags & (TCP_SYN | TCP_ACK | TCP_RST) == TCP_SYN;
    let known = towards::flags(key, now_secs);
    // Whoever opens a connection anew opens it, whoever did before.
    let is_answer = known.as_ref().is_some_and(|flags| **flags & RECORD_OPENED_OUTWARD != 0) && !opens;
    let is_judged = known.as_ref().is_some_and(|flags| has_verdict(**flags, verdict)) && !opens;
    if !is_judged {
        let direction = if is_answer { EGRESS } else { INGRESS };
        let service = service_of(key.protocol, key.local_port, key.remote_port, direction);
        if firewall::check(receiver.subject_index, &key.remote, service).is_err() {
            return 1;
        }
        if let Some(flags) = known {
            let before = *flags;
            atomic::replace(flags, before, with_verdict(before, verdict));
        }
    }
    if towards::note(key, tcp_flags, verdict, now_secs) && !is_answer {
        count_opened(receiver.subject_index);
    }
    0
}
