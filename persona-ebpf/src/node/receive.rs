//! Who a packet from outside is for: the external port's slot, or the flow that shares the port.
//!
//! Filtering is endpoint-independent, or by remote address and port where the subject's persona says so (RFC 4787 §5).
//! Only packets of flows that the subject has itself opened refresh anything; a stranger's change no state but a bounded
//! note of an opened connection.

use persona_common::addr::mapped;
use persona_common::drop::DropReason;
use persona_common::flow::{
    FLOW_SHARED, FlowKey, FlowValue, ICMP, MappingValue, PORTLESS, SLOT_REPLIED, SLOT_SHARED, Slot, TCP, UDP,
    slot_protocol_index,
};
use persona_common::node::{LEASE_IS_WHOLE, Lease, SUBJECT_FILTERS_BY_REMOTE, SUBJECT_HAS_FIREWALL, Subject};
use persona_common::share::SHARED_REPLIED;
use persona_ebpf::header::{TCP_FIN, TCP_RST, TCP_SYN};
use persona_ebpf::outcome::{pack, unpack};
use persona_ebpf::packet::{Direction, Kind, Packet};

use crate::firewall::{self, INGRESS, judges, service_of};
use crate::maps::{ADDRESSES, BLOCKS, FLOWS, LEASES, OPENINGS};
use crate::resolve::slot_mut;
use crate::{atomic, hints, share, track};

/// An external port: its lease and its slot.
pub struct Place {
    pub lease: &'static Lease,
    pub lease_index: u32,
    pub slot_index: u32,
    /// 1: the packet has closed its flow.
    pub is_closed: u32,
}

/// Where in the subject's network a packet goes.
#[derive(Clone, Copy)]
pub struct Recipient {
    pub address: u32,
    pub port: u16,
}

impl Recipient {
    /// In one register, for functions of their own; 0: nobody.
    #[inline(always)]
    fn packed(recipient: Option<Self>) -> u64 {
        recipient.map_or(0, |recipient| (recipient.address as u64) << 32 | (recipient.port as u64) << 16 | 1)
    }

    #[inline(always)]
    fn unpacked(packed: u64) -> Option<Self> {
        (packed != 0).then_some(Self { address: (packed >> 32) as u32, port: (packed >> 16) as u16 })
    }
}

/// The place of the port that a packet from outside names.
#[inline(always)]
pub fn place(packet: &Packet) -> Result<Place, DropReason> {
    // SAFETY: values are replaced as a whole and copied here at once.
    let address = unsafe { ADDRESSES.get(packet.ip.destination) }.copied().ok_or(DropReason::Unleased)?;
    let block_bits = address.block_bits & 31;
    let port = packet.local_port as u32;
    let block = BLOCKS.get(address.block_base + (port >> block_bits)).ok_or(DropReason::Unleased)?;
    if block.lease_index_plus_one == 0 {
        return Err(DropReason::Unleased);
    }
    let lease_index = block.lease_index_plus_one - 1;
    let lease = LEASES.get(lease_index).ok_or(DropReason::Unleased)?;
    if packet.kind == Kind::Portless && lease.flags & LEASE_IS_WHOLE == 0 {
        return Err(DropReason::ProtocolWithoutPort);
    }
    let offset = port & ((1 << block_bits) - 1);
    let slot_index = block.slot_base + (slot_protocol_index(packet.protocol) << block_bits) + offset;
    Ok(Place { lease, lease_index, slot_index, is_closed: 0 })
}

/// Who a packet is for, if it is let in; keeps the state of its flow.
#[inline(always)]
pub fn receive(packet: &Packet, place: &mut Place, subject: &Subject, now_secs: u32) -> Result<Recipient, DropReason> {
    let slot = slot_mut(place.slot_index).ok_or(DropReason::NoMapping)?;
    if slot.flags & SLOT_SHARED != 0
        && packet.protocol == TCP
        && let Some(recipient) = Recipient::unpacked(receive_shared(packet, place, subject, now_secs))
    {
        return Ok(recipient);
    }
    if !slot.is_live(now_secs) || !carries(slot, packet) {
        return Err(DropReason::NoMapping);
    }
    let is_ordinary = slot.last_seen_secs == now_secs
        && slot.flags & SLOT_REPLIED != 0
        && packet.tcp_flags & (TCP_FIN | TCP_RST | TCP_SYN) == 0
        && subject.flags & (SUBJECT_FILTERS_BY_REMOTE | SUBJECT_HAS_FIREWALL) == 0;
    if !is_ordinary {
        unpack(judge(packet, place, subject, slot, now_secs))?;
    }
    Ok(Recipient { address: slot.inner_address, port: slot.inner_port })
}

/// Whose packet an ICMP error embeds, which had gone to `remote`. Changes nothing.
#[inline(always)]
pub fn peek(packet: &Packet, remote: u32, place: &Place, subject: &Subject, now_secs: u32) -> Option<Recipient> {
    Recipient::unpacked(peek_apart(packet, remote, place, subject, now_secs))
}

#[inline(never)]
fn peek_apart(packet: &Packet, remote: u32, place: &Place, subject: &Subject, now_secs: u32) -> u64 {
    Recipient::packed(find(packet, remote, place, subject, now_secs))
}

#[inline(always)]
fn find(packet: &Packet, remote: u32, place: &Place, subject: &Subject, now_secs: u32) -> Option<Recipient> {
    let slot = slot_mut(place.slot_index)?;
    if slot.flags & SLOT_SHARED != 0
        && packet.protocol == TCP
        && let Some(shared) = share::entry(place.slot_index, remote, packet.remote_port, now_secs)
        && shared.lease_id_low == place.lease.id as u32
    {
        return Some(Recipient { address: shared.inner_address, port: shared.inner_port });
    }
    if !slot.is_live(now_secs) || !carries(slot, packet) {
        return None;
    }
    // Whoever makes up an error must at least know a flow.
    own_flow(packet, remote, place, subject, slot, now_secs)?;
    Some(Recipient { address: slot.inner_address, port: slot.inner_port })
}

/// Whether the slot's mapping is of the packet's protocol: all those without ports share one slot.
#[inline(always)]
fn carries(slot: &Slot, packet: &Packet) -> bool {
    match packet.protocol {
        TCP | UDP | ICMP => slot.protocol == packet.protocol as u32,
        _ => slot.protocol == PORTLESS as u32,
    }
}

/// Lets a packet in that may change something, or that must first be known: at most one a second of an ordinary flow.
#[inline(never)]
fn judge(packet: &Packet, place: &mut Place, subject: &Subject, slot: &mut Slot, now_secs: u32) -> u64 {
    pack(try_judge(packet, place, subject, slot, now_secs).map(|()| 0))
}

#[inline(always)]
fn try_judge(
    packet: &Packet,
    place: &mut Place,
    subject: &Subject,
    slot: &mut Slot,
    now_secs: u32,
) -> Result<(), DropReason> {
    let (subject_index, protocol) = (place.lease.subject_index, packet.protocol as u32);
    if let Some(flow) = own_flow(packet, packet.ip.source, place, subject, slot, now_secs) {
        if judges(subject) {
            let ports = (protocol, slot.inner_port, packet.remote_port);
            firewall::check_flow(&mut flow.flags, (subject, subject_index), &mapped(packet.ip.source), ports)?;
        }
        if slot.last_seen_secs != now_secs {
            slot.last_seen_secs = now_secs;
        }
        track::touch(flow, now_secs);
        if slot.flags & SLOT_REPLIED == 0 && packet.tcp_flags & TCP_RST == 0 {
            atomic::set_bits(&mut slot.flags, SLOT_REPLIED);
        }
        if packet.tcp_flags & (TCP_FIN | TCP_RST) != 0 {
            let change = track::follow(flow, packet.tcp_flags, Direction::Inward);
            track::tell_slot(slot, change);
            hints::forget(&flow_key(packet, packet.ip.source, subject, slot));
            place.is_closed = change.is_end() as u32;
        }
        return Ok(());
    }
    if subject.flags & SUBJECT_FILTERS_BY_REMOTE != 0 {
        return Err(DropReason::Unsolicited);
    }
    if judges(subject) {
        let service = service_of(protocol, slot.inner_port, packet.remote_port, INGRESS);
        firewall::check(subject_index, &mapped(packet.ip.source), service)?;
    }
    if packet.opens_connection() || judges(subject) {
        let value = MappingValue { slot_index: place.slot_index, sequence: slot.sequence };
        // Best effort in an LRU: without the note its answer is `mid-stream`.
        let _ = OPENINGS.insert(flow_key(packet, packet.ip.source, subject, slot), value, 0);
    }
    Ok(())
}

/// The flow that the subject has to the remote under the slot.
#[inline(always)]
fn own_flow(
    packet: &Packet,
    remote: u32,
    place: &Place,
    subject: &Subject,
    slot: &Slot,
    now_secs: u32,
) -> Option<&'static mut FlowValue> {
    let flow = FLOWS.get_ptr_mut(flow_key(packet, remote, subject, slot))?;
    // SAFETY: a pointer into the map, valid for this run; plain words that other CPUs may write at the same time.
    let flow = unsafe { &mut *flow };
    let is_own = flow.flags & FLOW_SHARED == 0
        && flow.slot_index == place.slot_index
        && flow.sequence == slot.sequence
        && !flow.is_silent(packet.protocol as u32, now_secs);
    is_own.then_some(flow)
}

#[inline(always)]
fn flow_key(packet: &Packet, remote: u32, subject: &Subject, slot: &Slot) -> FlowKey {
    FlowKey {
        subject: subject.number,
        inner_address: slot.inner_address,
        remote_address: remote,
        inner_port: slot.inner_port,
        remote_port: packet.remote_port,
        protocol: packet.protocol as u32,
    }
}

/// The flow that shares the port towards the packet's sender.
#[inline(never)]
fn receive_shared(packet: &Packet, place: &mut Place, subject: &Subject, now_secs: u32) -> u64 {
    Recipient::packed(try_receive_shared(packet, place, subject, now_secs))
}

#[inline(always)]
fn try_receive_shared(packet: &Packet, place: &mut Place, subject: &Subject, now_secs: u32) -> Option<Recipient> {
    let shared = share::entry(place.slot_index, packet.ip.source, packet.remote_port, now_secs)?;
    if shared.lease_id_low != place.lease.id as u32 {
        return None;
    }
    if shared.last_seen_secs != now_secs {
        shared.last_seen_secs = now_secs;
    }
    if packet.tcp_flags & TCP_RST == 0 && shared.flags & SHARED_REPLIED == 0 {
        atomic::set_bits(&mut shared.flags, SHARED_REPLIED);
    }
    if packet.tcp_flags & (TCP_FIN | TCP_RST) != 0 {
        let key = FlowKey {
            subject: subject.number,
            inner_address: shared.inner_address,
            remote_address: packet.ip.source,
            inner_port: shared.inner_port,
            remote_port: packet.remote_port,
            protocol: TCP as u32,
        };
        let flow = FLOWS.get_ptr_mut(key)?;
        // SAFETY: as in `own_flow`.
        let flow = unsafe { &mut *flow };
        let change = track::follow(flow, packet.tcp_flags, Direction::Inward);
        track::tell_shared(shared, change);
        place.is_closed = change.is_end() as u32;
    }
    Some(Recipient { address: shared.inner_address, port: shared.inner_port })
}
