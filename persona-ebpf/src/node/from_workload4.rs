//! IPv4 from a workload: the flow's mapping, the rewrite, the tunnel.
//!
//! The ordinary packet of a flow with ports runs straight through; fragments, errors, protocols without ports and packets
//! that are too big branch off and come back to the same `send`.

use aya_ebpf::programs::TcContext;
use persona_common::addr::{is_mapped, mapped};
use persona_common::drop::DropReason;
use persona_common::flow::{FLOW_SHARED, ICMP, MappingKey, TCP, UDP, flow_hash};
use persona_common::hint::Sender;
use persona_common::node::{
    DEVICE_SHARED, Device, LEASE_IS_WHOLE, Lease, SUBJECT_HAS_CONFIGURED, SUBJECT_HAS_NETWORK, SUBJECT_ICMP,
    SUBJECT_IS_HOST, SUBJECT_OTHER, SUBJECT_TCP, SUBJECT_UDP, Subject,
};
use persona_ebpf::count::{add, count_drop, count_persona};
use persona_ebpf::frame::Frame;
use persona_ebpf::header::{DONT_FRAGMENT, ETHERNET_LENGTH, Ipv4};
use persona_ebpf::icmp::{send_fragmentation_needed, send_time_exceeded};
use persona_ebpf::icmp_limit::check_rate;
use persona_ebpf::log::note_subject;
use persona_ebpf::outcome::{pack, unpack};
use persona_ebpf::packet::{Direction, Kind, Packet, Part};

use crate::answer::back;
use crate::bypass::{adopts, bypass, is_bypassed, is_link_business};
use crate::classify::{self, Origin};
use crate::configured4::{self, record_key};
use crate::fragment;
use crate::maps::{self, FLOWS, LEASES, SUBJECT_TRAFFIC};
use crate::path::{self, Exit};
use crate::read::read;
use crate::resolve::{Mapping, existing_mapping, flow_key, live_slot, mapped_slot, new_mapping, slot_mut};
use crate::rewrite::rewrite_source;
use crate::subject_counts::{count_dropped, count_dropped_at};
use crate::towards::is_answer;
use crate::{impair, leaving, normalise, ordinary, share, slow_path, tell};

/// How a packet leaves: under which lease and port, by which edge.
#[repr(C, align(8))]
struct Departure {
    lease_index: u32,
    hash: u32,
    port: u16,
    /// The id that it leaves under, if it is or will be cut.
    id: u16,
    /// `DEPARTURE_*` bits.
    flags: u32,
}

/// It is or will be cut.
const DEPARTURE_CUT: u32 = 1;
/// It is lost on purpose, unless it turns out to be refused or to pass by.
const DEPARTURE_LOST: u32 = 2;

impl Departure {
    /// As [`Packet::forget_path`].
    #[inline(always)]
    fn forget_path(&mut self) {
        for word in [0, 1] {
            let word = (&raw mut *self).cast::<u64>().wrapping_add(word);
            // SAFETY: an aligned long word within the value, read and written back as it is.
            unsafe { word.write_volatile(word.read_volatile()) };
        }
    }
}

/// A packet that came in by a workload's device.
#[inline(always)]
pub fn run(frame: &TcContext, device: &Device) -> Result<i32, DropReason> {
    // Only now is it as others are from the start.
    if device.vlan != 0
        && device.flags & DEVICE_SHARED == 0
        && let Some(outcome) = ordinary::outward(frame, Sender::of(device))
    {
        return outcome.inspect_err(|_| count_dropped_at(device));
    }
    let ip = frame.peek::<Ipv4>(ETHERNET_LENGTH).ok_or(DropReason::Malformed);
    let ip = ip.inspect_err(|_| count_dropped_at(device))?;
    if is_link_business(frame, ip) {
        return bypass(frame, device.vlan);
    }
    let origin = classify::origin4(frame, device, ip.source)?;
    carry(frame, &origin)
}

/// A packet of a subject whose source has been checked.
#[inline(always)]
pub fn carry(frame: &TcContext, origin: &Origin) -> Result<i32, DropReason> {
    unpack(carry_apart(frame, origin)).inspect_err(|_| count_dropped(origin.subject_index))
}

/// A function of its own, for the sake of the stack.
#[inline(never)]
fn carry_apart(frame: &TcContext, origin: &Origin) -> u64 {
    pack(carry_here(frame, origin))
}

#[inline(always)]
fn carry_here(frame: &TcContext, origin: &Origin) -> Result<i32, DropReason> {
    let subject = origin.subject;
    note_subject(subject.number);
    // The dice are thrown where little is on the stack; who is lost is seen when its way is known.
    let flags = if impair::is_lost(subject) { DEPARTURE_LOST } else { 0 };
    let mut departure = Departure { lease_index: 0, port: 0, flags, id: 0, hash: 0 };
    let ip: Ipv4 = frame.read(ETHERNET_LENGTH).ok_or(DropReason::Malformed)?;
    let mut packet = Packet::blank(ip, ETHERNET_LENGTH);
    match read(frame, &mut packet, Direction::Outward) {
        Ok(()) => {}
        // What no block can carry may still be meant for somebody near.
        Err(DropReason::Malformed) => return Err(DropReason::Malformed),
        Err(reason) if passes_by(origin, packet.ip.destination) => {
            leaving::check_odd(origin, &mapped(packet.ip.destination), reason)?;
            return bypass(frame, origin.vlan);
        }
        Err(reason) => return Err(reason),
    };
    let now_secs = maps::now_secs();
    leaving::check4(&packet, origin, now_secs)?;
    let lease = if subject.flags & SUBJECT_HAS_CONFIGURED != 0
        && let Some(held) = configured4::lease(&packet, subject)
    {
        match configured4::admit(&packet, origin, &held, now_secs) {
            // It has no flow of its own to say that its first took the tunnel.
            Ok(()) if packet.part == Part::Later && passes_by(origin, packet.ip.destination) => {
                leaving::check_later4(&packet, origin, now_secs)?;
                return bypass(frame, origin.vlan);
            }
            Ok(()) => {}
            Err(_) if answers(&packet, subject, now_secs) || passes_by(origin, packet.ip.destination) => {
                return bypass(frame, origin.vlan);
            }
            Err(DropReason::NoLease) => {
                check_persona(subject, packet.ip.protocol)?;
                configured4::open(&packet, subject, &held, now_secs)?;
                tell::outward(frame, &packet, subject, held.lease, packet.local_port as u32 | tell::OPENED);
            }
            Err(reason) => return Err(reason),
        }
        departure.port = packet.local_port;
        departure.hash = configured4::hash(&packet);
        departure.lease_index = held.index;
        held.lease
    } else if packet.kind == Kind::Error || packet.part == Part::Later {
        let found = if packet.kind == Kind::Error {
            find_error(&packet, subject, now_secs, &mut departure)
        } else {
            find_later(&packet, origin.subject_index, now_secs, &mut departure)
        };
        if found == 0 {
            return carry_unknown(frame, &packet, origin, now_secs);
        }
        LEASES.get(departure.lease_index).ok_or(DropReason::NoLease)?
    } else {
        let mapping = match existing_mapping(&packet, subject, now_secs) {
            // Old flows outlive a switch, but not the loss of every way out.
            Some(_) if subject.flags & SUBJECT_HAS_NETWORK == 0 => return Err(DropReason::NoPersona),
            Some(mapping) => {
                if mapping.is_closed {
                    tell::outward(frame, &packet, subject, mapping.lease, mapping.external_port as u32);
                }
                mapping
            }
            None if answers(&packet, subject, now_secs) || passes_by(origin, packet.ip.destination) => {
                return bypass(frame, origin.vlan);
            }
            None => {
                check_persona(subject, packet.ip.protocol)?;
                let mapping = match new_mapping(&packet, subject, now_secs) {
                    Err(DropReason::MidStream) if adopts(now_secs) => return bypass(frame, origin.vlan),
                    outcome => outcome?,
                };
                let port = mapping.external_port as u32 | tell::OPENED;
                tell::outward(frame, &packet, subject, mapping.lease, port);
                mapping
            }
        };
        depart(frame, &packet, origin.subject_index, &mapping, now_secs, &mut departure)?;
        mapping.lease
    };
    departure.forget_path();
    send(frame, &mut packet, origin, lease, &departure)
}

/// How a packet with a mapping leaves; the first fragment of a packet says so to the later ones.
#[inline(always)]
fn depart(
    frame: &TcContext,
    packet: &Packet,
    subject_index: u32,
    mapping: &Mapping,
    now_secs: u32,
    departure: &mut Departure,
) -> Result<(), DropReason> {
    departure.port = mapping.external_port;
    departure.lease_index = mapping.lease_index;
    if packet.part == Part::First || must_be_cut(frame, packet, mapping.lease) {
        let passage = fragment::passage(packet, mapping.lease, mapping.lease_index, mapping.external_port)?;
        if packet.part == Part::First {
            fragment::note_outward(packet, fragment::outward_scope(subject_index), mapping, &passage, now_secs);
        }
        departure.flags |= DEPARTURE_CUT;
        (departure.id, departure.hash) = (passage.id, passage.hash);
        return Ok(());
    }
    let ports = packet.ports(mapping.external_port);
    departure.hash = flow_hash(mapping.lease.address, packet.ip.destination, ports, packet.ip.protocol);
    Ok(())
}

/// Whether a packet answers a connection that was opened towards the subject; asked for new flows only.
#[inline(always)]
fn answers(packet: &Packet, subject: &Subject, now_secs: u32) -> bool {
    answers_apart(packet, subject, now_secs) != 0
}

#[inline(never)]
fn answers_apart(packet: &Packet, subject: &Subject, now_secs: u32) -> u32 {
    (packet.kind == Kind::Flow && is_answer(&record_key(packet, subject), packet.tcp_flags, now_secs)) as u32
}

/// Whether a destination is bypassed; asked for new flows only.
#[inline(always)]
fn passes_by(origin: &Origin, destination: u32) -> bool {
    passes_by_apart(origin, destination) != 0
}

#[inline(never)]
fn passes_by_apart(origin: &Origin, destination: u32) -> u32 {
    is_bypassed(origin, mapped(destination)) as u32
}

/// An error about no flow, or a later fragment whose first hasn't been seen.
#[inline(always)]
fn carry_unknown(frame: &TcContext, packet: &Packet, origin: &Origin, now_secs: u32) -> Result<i32, DropReason> {
    if passes_by(origin, packet.ip.destination) {
        if packet.part == Part::Later {
            leaving::check_later4(packet, origin, now_secs)?;
        }
        return bypass(frame, origin.vlan);
    }
    if packet.kind == Kind::Error {
        return Err(DropReason::NoMapping);
    }
    slow_path::wait(frame, &packet.inner(), origin.subject_index)
}

/// How an ICMP error about a packet that the subject got leaves: as that packet's flow would. Gives 1 if it may.
#[inline(never)]
fn find_error(packet: &Packet, subject: &Subject, now_secs: u32, departure: &mut Departure) -> u32 {
    let Some(mapping) = embedded_mapping(packet, subject, now_secs) else { return 0 };
    let ports = packet.ports(mapping.external_port);
    departure.lease_index = mapping.lease_index;
    departure.port = mapping.external_port;
    departure.hash = flow_hash(mapping.lease.address, packet.ip.destination, ports, packet.protocol);
    1
}

/// The mapping of the flow that an error's embedded packet came in by. Changes nothing.
#[inline(always)]
fn embedded_mapping(packet: &Packet, subject: &Subject, now_secs: u32) -> Option<Mapping> {
    // SAFETY: values are replaced as a whole and copied here at once.
    let flow = unsafe { FLOWS.get(flow_key(packet, subject)) }.copied();
    let (lease_index, external_port) = match flow {
        Some(flow) if flow.flags & FLOW_SHARED != 0 => {
            let shared = share::entry(flow.slot_index, packet.ip.destination, packet.remote_port, now_secs)?;
            if shared.sequence != flow.sequence || shared.inner_port != packet.local_port {
                return None;
            }
            (shared.lease_index, shared.external_port)
        }
        Some(flow) => {
            let slot = live_slot(flow.slot_index, flow.sequence, now_secs)?;
            (slot.lease_index, slot.external_port)
        }
        // A stranger's packet that endpoint-independent filtering had let in.
        None => {
            let key = MappingKey {
                lease_index: subject.lease_index_plus_one.checked_sub(1)?,
                inner_address: packet.ip.source,
                inner_port: packet.local_port,
                protocol: packet.protocol as u16,
            };
            let slot = slot_mut(mapped_slot(&key, now_secs)?.slot_index)?;
            (slot.lease_index, slot.external_port)
        }
    };
    let lease = LEASES.get(lease_index)?;
    if lease.id == 0 {
        return None;
    }
    Some(Mapping { lease, lease_index, external_port, is_closed: false })
}

/// How a later fragment leaves: as its first did. Gives 1 if that is known.
#[inline(never)]
fn find_later(packet: &Packet, subject_index: u32, now_secs: u32, departure: &mut Departure) -> u32 {
    let scope = fragment::outward_scope(subject_index);
    let Some((value, _)) = fragment::find(packet, scope, now_secs) else { return 0 };
    departure.lease_index = value.lease_index;
    departure.hash = value.hash;
    departure.flags |= DEPARTURE_CUT;
    departure.id = value.id as u16;
    1
}

#[inline(always)]
fn send(
    frame: &TcContext,
    packet: &mut Packet,
    origin: &Origin,
    lease: &Lease,
    departure: &Departure,
) -> Result<i32, DropReason> {
    let subject = origin.subject;
    let mut exit = Exit::Edge;
    if packet.length_on_wire(frame) > lease.mtu as usize {
        if packet.ip.fragment & DONT_FRAGMENT != 0 {
            return refuse(frame, packet, origin, lease.mtu);
        }
        exit = Exit::SlowPath;
    }
    if packet.ip.ttl <= 1 {
        return refuse(frame, packet, origin, TTL_EXPIRED);
    }
    if departure.flags & DEPARTURE_LOST != 0 {
        return Err(DropReason::Impaired);
    }
    normalise::count_hop(packet, subject)?;
    let packets = packet.packet_count(frame);
    let bytes = packet.byte_count(packets);
    add(&SUBJECT_TRAFFIC, origin.subject_index, Direction::Outward, packets, bytes);
    count_persona(lease.persona_index, Direction::Outward, packets, bytes);
    if departure.flags & DEPARTURE_CUT != 0 {
        packet.set_id(departure.id);
    } else {
        normalise::hide_id(packet, subject, lease, (departure.lease_index, departure.port), packets)?;
    }
    rewrite_source(frame, packet, subject, lease, departure.port)?;
    path::send_to_edge(frame, &packet.inner(), subject, lease, departure.hash, exit)
}

/// Whether the slow path will cut the packet: its fragments need an id of the block.
#[inline(always)]
fn must_be_cut(frame: &TcContext, packet: &Packet, lease: &Lease) -> bool {
    packet.length_on_wire(frame) > lease.mtu as usize && packet.ip.fragment & DONT_FRAGMENT == 0
}

/// In the place of an MTU: the time to live has run out.
const TTL_EXPIRED: u32 = 0;

/// Tells the sender that a packet is larger than `mtu`, or that its time to live has run out.
#[inline(always)]
fn refuse(frame: &TcContext, packet: &Packet, origin: &Origin, mtu: u32) -> Result<i32, DropReason> {
    let reason = if mtu == TTL_EXPIRED { DropReason::TtlExpired } else { DropReason::TooBig };
    // Never about an error or a later fragment (RFC 1122 §3.2.2).
    if packet.kind == Kind::Error || packet.part == Part::Later {
        return Err(reason);
    }
    check_rate()?;
    // The host would not believe a message from itself.
    let is_own = mtu == TTL_EXPIRED && origin.subject.flags & SUBJECT_IS_HOST == 0;
    let source = if is_own { own_address().unwrap_or(packet.ip.destination) } else { packet.ip.destination };
    unpack(tell_sender(frame, packet, source, mtu))?;
    count_drop(reason);
    count_dropped(origin.subject_index);
    back(frame, origin)
}

#[inline(never)]
fn tell_sender(frame: &TcContext, packet: &Packet, source: u32, mtu: u32) -> u64 {
    pack(if mtu == TTL_EXPIRED {
        send_time_exceeded(frame, packet, source)
    } else {
        send_fragmentation_needed(frame, packet, source, mtu)
    })
}

/// The node's own address, where the underlay is IPv4: the hop that a traceroute shows.
#[inline(always)]
fn own_address() -> Option<u32> {
    let address = maps::config().ok()?.underlay_address;
    is_mapped(address).then_some(address[3])
}

#[inline(always)]
fn check_persona(subject: &Subject, protocol: u8) -> Result<(), DropReason> {
    if subject.flags & SUBJECT_HAS_NETWORK == 0 {
        return Err(DropReason::NoPersona);
    }
    let needed = match protocol {
        TCP => SUBJECT_TCP,
        UDP => SUBJECT_UDP,
        ICMP => SUBJECT_ICMP,
        _ => return check_portless(subject),
    };
    if subject.flags & needed == 0 { Err(DropReason::ProtocolDenied) } else { Ok(()) }
}

/// Protocols without ports leave only where no port is needed to tell whose they are.
#[inline(always)]
fn check_portless(subject: &Subject) -> Result<(), DropReason> {
    let lease = LEASES.get(subject.lease_index_plus_one.wrapping_sub(1));
    if lease.is_none_or(|lease| lease.flags & LEASE_IS_WHOLE == 0) {
        return Err(DropReason::ProtocolWithoutPort);
    }
    if subject.flags & SUBJECT_OTHER == 0 { Err(DropReason::ProtocolDenied) } else { Ok(()) }
}
