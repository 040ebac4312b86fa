//! The ordinary packet from a workload, straight through: nearly every packet is one, and the general way need not be asked.
//!
//! IPv4 without options, whole, TCP, UDP with a checksum or an echo, of a flow that has a port of its own and neither begins nor ends,
//! under a persona that hides nothing and loses nothing, to an edge that is reached over IPv4 and chosen first or second.
//! Whatever is not as expected is left untouched and uncounted for the general way, which decides; so here no packet is ever
//! refused for what it is, and what both would do, both do alike.

use aya_ebpf::bindings::{BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR};
use aya_ebpf::programs::TcContext;
use persona_common::addr::is_mapped;
use persona_common::checksum::{fold, replace_word};
use persona_common::drop::DropReason;
use persona_common::firewall::has_verdict;
use persona_common::flow::{FLOW_RESET_INWARD, FLOW_SHARED, FlowKey, ICMP, UDP, flow_hash};
use persona_common::hint::{Fingerprint, Sender, Way};
use persona_common::node::{
    EdgeHop, Lease, SUBJECT_HAS_CONFIGURED, SUBJECT_HAS_NETWORK, SUBJECT_SETS_HOPS, SUBJECT_SETS_ID, Subject,
};
use persona_ebpf::count::{add, count_persona};
use persona_ebpf::encapsulation::Inner;
use persona_ebpf::frame::{Frame, opaque};
use persona_ebpf::front::{self, Front};
use persona_ebpf::header::{ETHERNET_LENGTH, IPV4_LENGTH, Ipv4, TCP_FIN, TCP_RST, TCP_SYN};
use persona_ebpf::log::note_subject;
use persona_ebpf::outcome::{pack, unpack};
use persona_ebpf::packet::{Direction, Packet};
use persona_ebpf::tc::{encapsulate_v4, replace_checksum, send_to_neighbour};

use crate::maps::{self, FLOWS, LEASES, SUBJECT_TRAFFIC};
use crate::normalise::set_dscp;
use crate::resolve::live_slot;
use crate::{hints, path, track};

/// In the place of a packed outcome: the packet is for the general way.
pub const NOT_ORDINARY: u64 = u64::MAX;
/// UDP port of DHCP clients, whose requests may be the local link's business.
const DHCP_CLIENT_PORT: u16 = 68;
/// Where the transport's header stands, and in it the checksum.
const TRANSPORT_AT: usize = ETHERNET_LENGTH + IPV4_LENGTH;
const TCP_CHECKSUM_AT: usize = TRANSPORT_AT + 16;
const UDP_CHECKSUM_AT: usize = TRANSPORT_AT + 6;
/// Where an echo has its checksum, and its id.
const ICMP_CHECKSUM_AT: usize = TRANSPORT_AT + 2;
const ICMP_ID_AT: usize = TRANSPORT_AT + 4;

/// A packet that came in by a workload's device; None: not an ordinary one.
#[inline(always)]
pub fn outward(frame: &TcContext, sender: Sender) -> Option<Result<i32, DropReason>> {
    let packed = outward_apart(frame, sender.subject_index, sender.address);
    if packed == NOT_ORDINARY { None } else { Some(unpack(packed)) }
}

/// A function of its own: what it has learnt of a packet that is none of its own is forgotten with it, and the verifier need
/// not walk the general way once for each.
#[inline(never)]
fn outward_apart(frame: &TcContext, subject_index: u32, address: u32) -> u64 {
    forward(frame, Sender { subject_index, address }).map_or(NOT_ORDINARY, pack)
}

#[inline(always)]
fn forward(frame: &TcContext, sender: Sender) -> Option<Result<i32, DropReason>> {
    let ip: &Ipv4 = frame.peek(ETHERNET_LENGTH)?;
    if ip.source != sender.address || ip.ttl <= 1 {
        return None;
    }
    let subject = maps::subject(sender.subject_index).filter(|subject| is_plain(subject))?;
    let packet = front::look(frame, ETHERNET_LENGTH, ip, Direction::Outward)?;
    if is_beginning_or_end(&packet, ip.protocol) {
        return None;
    }
    let ip = *ip;
    let key = FlowKey {
        subject: subject.number,
        inner_address: ip.source,
        remote_address: ip.destination,
        inner_port: packet.source_port,
        remote_port: packet.destination_port,
        protocol: ip.protocol as u32,
    };
    let flow = hints::fingerprint(&key);
    let way = match hints::way(flow, subject) {
        Some(way) => way.packed(),
        None => found(&key, flow, subject)?,
    };
    // One word from here on, wherever it is from.
    let way = Way::unpacked(opaque(way as usize) as u64);
    let lease = LEASES.get(way.lease_index).filter(|lease| lease.id != 0)?;
    let edge = path::qualified(way.edge, lease.generation).filter(|edge| is_mapped(edge.address))?;
    if packet.length_on_wire(frame) > lease.mtu as usize {
        return None;
    }
    let hash = hash_of(&key, lease, way.port);
    note_subject(subject.number);
    count(frame, sender.subject_index, lease, &packet);
    Some(
        rewrite(frame, &ip, &packet, subject, lease, way.port).and_then(|tos| {
            send(frame, subject, lease, edge, hash, &Inner { length: packet.length, tos, is_ipv6: false })
        }),
    )
}

/// How a flow leaves that has a mapping of its own, in force, as the tables say; refreshes it.
#[inline(always)]
fn found(key: &FlowKey, fingerprint: Fingerprint, subject: &Subject) -> Option<u64> {
    let now_secs = maps::now_secs();
    // SAFETY: a pointer into the map, valid for this run; plain words that other CPUs may write at the same time.
    let flow = unsafe { &mut *FLOWS.get_ptr_mut(key)? };
    if flow.flags & (FLOW_SHARED | FLOW_RESET_INWARD) != 0 || !has_verdict(flow.flags, subject.verdict()) {
        return None;
    }
    let slot = live_slot(flow.slot_index, flow.sequence, now_secs)?;
    let lease = LEASES.get(slot.lease_index).filter(|lease| lease.id != 0)?;
    let (first, second) = path::row(lease, hash_of(key, lease, slot.external_port))?;
    let way = Way { lease_index: slot.lease_index, port: slot.external_port, edge: first };
    if slot.last_seen_secs != now_secs {
        slot.last_seen_secs = now_secs;
    }
    track::touch(flow, now_secs);
    if path::qualified(first, lease.generation).is_none() {
        // It goes back as soon as the first is there again.
        return Some(Way { edge: second, ..way }.packed());
    }
    hints::note(fingerprint, subject, lease, way);
    Some(way.packed())
}

/// The hash of a flow as the edges see it.
#[inline(always)]
fn hash_of(key: &FlowKey, lease: &Lease, port: u16) -> u32 {
    flow_hash(lease.address, key.remote_address, Front::ports(port, key.remote_port), key.protocol as u8)
}

/// Whether a subject's packets become another's port and address, and nothing else.
#[inline(always)]
fn is_plain(subject: &Subject) -> bool {
    const ASKED: u32 = SUBJECT_HAS_NETWORK | SUBJECT_HAS_CONFIGURED | SUBJECT_SETS_HOPS | SUBJECT_SETS_ID;
    subject.flags & ASKED == SUBJECT_HAS_NETWORK && subject.loss_millionths() == 0
}

#[inline(always)]
pub fn is_beginning_or_end(packet: &Front, protocol: u8) -> bool {
    match protocol {
        UDP => packet.checksum == 0 || packet.source_port == DHCP_CLIENT_PORT,
        ICMP => false,
        _ => packet.tcp_flags & (TCP_SYN | TCP_FIN | TCP_RST) != 0,
    }
}

#[inline(always)]
fn count(frame: &TcContext, subject_index: u32, lease: &Lease, packet: &Front) {
    let packets = packet.packet_count(frame);
    let bytes = packet.byte_count(packets);
    add(&SUBJECT_TRAFFIC, subject_index, Direction::Outward, packets, bytes);
    count_persona(lease.persona_index, Direction::Outward, packets, bytes);
}

/// Makes it one from its lease, a hop further on; gives its type of service.
#[inline(always)]
fn rewrite(
    frame: &TcContext,
    ip: &Ipv4,
    packet: &Front,
    subject: &Subject,
    lease: &Lease,
    port: u16,
) -> Result<u8, DropReason> {
    let mut rewritten = Packet::blank(*ip, ETHERNET_LENGTH);
    rewritten.count_hop()?;
    rewritten.set_source(lease.address);
    set_dscp(&mut rewritten, subject);
    frame.write(ETHERNET_LENGTH, rewritten.ip)?;
    let ports = Ports { before: packet.source_port, after: port };
    let addresses = (ip.source, lease.address);
    rewrite_transport(frame, ip.protocol, packet.checksum, addresses, ports, Direction::Outward)?;
    Ok(rewritten.ip.tos)
}

/// What the subject's port in a packet becomes.
#[derive(Clone, Copy)]
pub struct Ports {
    pub before: u16,
    pub after: u16,
}

/// Changes the subject's port, or id, and the `checksum` over it and over the subject's address, which was the first of
/// `addresses` and is the second.
#[inline(always)]
pub fn rewrite_transport(
    frame: &TcContext,
    protocol: u8,
    checksum: u16,
    (from, to): (u32, u32),
    ports: Ports,
    direction: Direction,
) -> Result<(), DropReason> {
    let (old_port, new_port) = (ports.before.to_be(), ports.after.to_be());
    if protocol == ICMP {
        // No address is under its checksum.
        replace_checksum(frame, ICMP_CHECKSUM_AT, old_port as u64, new_port as u64, 2)?;
        return frame.write(ICMP_ID_AT, new_port);
    }
    let port_at = if matches!(direction, Direction::Outward) { TRANSPORT_AT } else { TRANSPORT_AT + 2 };
    frame.write(port_at, new_port)?;
    let (at, mangled) =
        if protocol == UDP { (UDP_CHECKSUM_AT, BPF_F_MARK_MANGLED_0 as u64) } else { (TCP_CHECKSUM_AT, 0) };
    replace_checksum(frame, at, from as u64, to as u64, BPF_F_PSEUDO_HDR as u64 | mangled | 4)?;
    let after: u16 = frame.read(at).ok_or(DropReason::Malformed)?;
    match Offload::told_by(checksum, after, from, to) {
        // The pseudo header's sum alone: what it does not cover does not change it.
        Offload::Partial => Ok(()),
        Offload::Done => {
            let sum = replace_word(after, old_port, new_port);
            frame.write(at, if sum == 0 && protocol == UDP { !0 } else { sum })
        }
        Offload::Unknown => replace_checksum(frame, at, old_port as u64, new_port as u64, mangled | 2),
    }
}

/// Who makes a packet's L4 checksum. Programs are not told, but the kernel changes the two kinds in opposite directions: a
/// partial checksum is the pseudo header's sum itself, one that is done the complement of a sum. So the first change shows
/// it, and the second need not ask the kernel again.
enum Offload {
    /// A device, later.
    Partial,
    /// Nobody: it is there.
    Done,
    /// The change left the sum what it was, so that it shows nothing.
    Unknown,
}

impl Offload {
    /// What it shows that `before` has become `after` when an address changed.
    #[inline(always)]
    fn told_by(before: u16, after: u16, from: u32, to: u32) -> Self {
        let gained = fold(long_sum(to) + long_sum(!from));
        if gained == 0 || gained == 0xffff {
            return Self::Unknown;
        }
        if fold(after as u32 + gained as u32) == before {
            return Self::Done;
        }
        if fold(before as u32 + gained as u32) == after { Self::Partial } else { Self::Unknown }
    }
}

/// The sum of the two words of an address.
#[inline(always)]
const fn long_sum(address: u32) -> u32 {
    (address & 0xffff) + (address >> 16)
}

#[inline(always)]
fn send(
    frame: &TcContext,
    subject: &Subject,
    lease: &Lease,
    edge: &EdgeHop,
    hash: u32,
    inner: &Inner,
) -> Result<i32, DropReason> {
    encapsulate_v4(frame, &path::tunnel(edge, lease, hash)?, inner)?;
    path::mark(frame, subject);
    Ok(send_to_neighbour(edge.ifindex, &edge.next_hop))
}
