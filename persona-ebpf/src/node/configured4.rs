//! Leases of whole IPv4 addresses that a workload has on its own interface: nothing is rewritten, the source says which
//! lease it is, and a record says whose flows are in force.

use persona_common::addr::mapped;
use persona_common::drop::DropReason;
use persona_common::flow::flow_hash;
use persona_common::node::{SUBJECT_HAS_NETWORK, Subject};
use persona_common::record::RecordKey;
use persona_ebpf::packet::{Kind, Packet, Part};

use crate::classify::Origin;
use crate::maps;
use crate::receive::{Place, Recipient};
use crate::records::{self, Held};

/// The lease of the subject's own that a packet's source is.
#[inline(always)]
pub fn lease(packet: &Packet, subject: &Subject) -> Option<Held> {
    let held = maps::configured_lease4(packet.ip.source)?;
    let holder = maps::subject(held.lease.subject_index)?;
    if holder.number == subject.number { Some(held) } else { None }
}

/// Whether a packet belongs to a flow in force; `no-lease`: to none yet. A later fragment needs nothing but its source.
#[inline(always)]
pub fn admit(packet: &Packet, origin: &Origin, held: &Held, now_secs: u32) -> Result<(), DropReason> {
    let subject = origin.subject;
    if packet.part == Part::Later {
        return check_network(subject);
    }
    let key = record_key(packet, subject);
    if packet.kind == Kind::Error {
        return if records::is_known(&key, held, now_secs) {
            check_network(subject)
        } else {
            Err(DropReason::NoMapping)
        };
    }
    match records::existing(&key, subject, packet.tcp_flags, now_secs) {
        Some(_) => check_network(subject),
        None => Err(DropReason::NoLease),
    }
}

/// Makes a new flow's record.
#[inline(always)]
pub fn open(packet: &Packet, subject: &Subject, held: &Held, now_secs: u32) -> Result<(), DropReason> {
    records::open(&record_key(packet, subject), subject, held, packet.tcp_flags, now_secs)
}

/// The hash of a packet's flow; all fragments of a packet have one.
#[inline(always)]
pub fn hash(packet: &Packet) -> u32 {
    let ports = match packet.part {
        Part::Whole => packet.ports(packet.local_port),
        _ => u16::from_be(packet.ip.id) as u32,
    };
    flow_hash(packet.ip.source, packet.ip.destination, ports, packet.ip.protocol)
}

/// Who a packet from outside is for, if it is let in.
#[inline(always)]
pub fn receive(packet: &Packet, place: &Place, subject: &Subject, now_secs: u32) -> Result<Recipient, DropReason> {
    let held = Held { lease: place.lease, index: place.lease_index };
    let key = inward_key(packet, packet.ip.source, subject);
    records::admit(&key, subject, &held, packet.tcp_flags, now_secs)?;
    Ok(Recipient { address: packet.ip.destination, port: packet.local_port })
}

/// Whose packet an ICMP error embeds. Changes nothing.
#[inline(always)]
pub fn peek(packet: &Packet, remote: u32, place: &Place, subject: &Subject, now_secs: u32) -> Option<Recipient> {
    let held = Held { lease: place.lease, index: place.lease_index };
    let is_known = records::is_known(&inward_key(packet, remote, subject), &held, now_secs);
    is_known.then_some(Recipient { address: packet.ip.destination, port: packet.local_port })
}

/// Old flows outlive a switch, but not the loss of every way out.
#[inline(always)]
fn check_network(subject: &Subject) -> Result<(), DropReason> {
    if subject.flags & SUBJECT_HAS_NETWORK == 0 { Err(DropReason::NoPersona) } else { Ok(()) }
}

/// The key of a packet from a workload.
#[inline(always)]
pub fn record_key(packet: &Packet, subject: &Subject) -> RecordKey {
    RecordKey {
        subject: subject.number,
        local: mapped(packet.ip.source),
        remote: mapped(packet.ip.destination),
        local_port: packet.local_port,
        remote_port: packet.remote_port,
        protocol: packet.protocol as u32,
    }
}

#[inline(always)]
fn inward_key(packet: &Packet, remote: u32, subject: &Subject) -> RecordKey {
    RecordKey {
        subject: subject.number,
        local: mapped(packet.ip.destination),
        remote: mapped(remote),
        local_port: packet.local_port,
        remote_port: packet.remote_port,
        protocol: packet.protocol as u32,
    }
}
