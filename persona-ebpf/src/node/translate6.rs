//! Addresses of IPv6 packets between a workload's own prefix and its lease's (RFC 6296), and back.
//!
//! The sums stay what they were, so no L4 or ICMPv6 checksum is touched, and an embedded address is changed as freely.

use aya_ebpf::programs::TcContext;
use persona_common::addr::Address6;
use persona_common::drop::DropReason;
use persona_common::node::{LEASE_HAS_INNER_PREFIX, Lease, Subject};
use persona_common::translation::{adjustment, translate};
use persona_ebpf::frame::Frame;
use persona_ebpf::header::{Ipv6, TCP_SYN};
use persona_ebpf::packet::{Kind, Part};
use persona_ebpf::packet6::{Packet6, sum_difference};
use persona_ebpf::tc::update_sum;

use crate::handshake::{self, FIXED_HEADERS_LENGTH_V6, Terms};
use crate::maps::HOST_ADDRESSES;
use crate::normalise::header6;

/// Offset of an address in an IPv6 header.
const SOURCE_AT: usize = 8;
const DESTINATION_AT: usize = 24;

/// The address under the lease that stands for one of the subject's own.
#[inline(always)]
pub fn outward(lease: &Lease, address: Address6) -> Result<Address6, DropReason> {
    if lease.is_configured() {
        return Ok(address);
    }
    if lease.flags & LEASE_HAS_INNER_PREFIX == 0 {
        return outward_of_host(lease, address);
    }
    let is_inside = address[0] == lease.inner_prefix[0] && address[1] == lease.inner_prefix[1];
    let translated = if is_inside { translate(address, lease.prefix, lease.adjustment as u16) } else { None };
    translated.ok_or(DropReason::SourceAddress)
}

/// The host has addresses of several prefixes: which of them an address outside stands for is remembered.
#[inline(always)]
fn outward_of_host(lease: &Lease, address: Address6) -> Result<Address6, DropReason> {
    let gained = adjustment([address[0], address[1]], lease.prefix);
    let outer = translate(address, lease.prefix, gained).ok_or(DropReason::SourceAddress)?;
    // SAFETY: values are replaced as a whole and copied here at once.
    match unsafe { HOST_ADDRESSES.get(outer) }.copied() {
        Some(known) if known == address => Ok(outer),
        // Two own addresses that look alike outside: the first one keeps it.
        Some(_) => Err(DropReason::SourceAddress),
        None => match HOST_ADDRESSES.insert(outer, address, 0) {
            Ok(()) => Ok(outer),
            Err(_) => Err(DropReason::MappingTableFull),
        },
    }
}

/// The subject's own address that one under the lease stands for.
#[inline(always)]
pub fn inward(lease: &Lease, address: Address6) -> Result<Address6, DropReason> {
    if lease.is_configured() {
        return Ok(address);
    }
    if lease.flags & LEASE_HAS_INNER_PREFIX == 0 {
        // SAFETY: as above.
        return unsafe { HOST_ADDRESSES.get(address) }.copied().ok_or(DropReason::NoMapping);
    }
    translate(address, lease.inner_prefix, !(lease.adjustment as u16)).ok_or(DropReason::NoMapping)
}

/// Writes a packet from a workload anew, as one from its lease.
#[inline(always)]
pub fn rewrite_source(
    frame: &TcContext,
    packet: &mut Packet6,
    subject: &Subject,
    lease: &Lease,
    source: Address6,
) -> Result<(), DropReason> {
    hold_handshake(frame, packet, Terms::outwards(lease, subject))?;
    if packet.kind == Kind::Error {
        // What it embeds was sent to the workload.
        frame.write(packet.embedded_at() + DESTINATION_AT, source)?;
    }
    let mut ip = packet.ip;
    ip.source = source;
    header6(&mut ip, subject);
    write(frame, packet, ip)
}

/// Writes a packet to a lease anew, as one to its workload, with traffic class `class`.
#[inline(always)]
pub fn rewrite_destination(
    frame: &TcContext,
    packet: &mut Packet6,
    terms: Terms,
    destination: Address6,
    class: u8,
) -> Result<(), DropReason> {
    hold_handshake(frame, packet, terms)?;
    if packet.kind == Kind::Error {
        frame.write(packet.embedded_at() + SOURCE_AT, destination)?;
    }
    let mut ip = packet.ip;
    ip.destination = destination;
    ip.set_traffic_class(class);
    write(frame, packet, ip)
}

/// Writes the header with one hop counted.
#[inline(always)]
fn write(frame: &TcContext, packet: &mut Packet6, ip: Ipv6) -> Result<(), DropReason> {
    let before = packet.ip;
    packet.ip = ip;
    packet.count_hop()?;
    frame.write(packet.at(), packet.ip)?;
    update_sum(frame, sum_difference(&before, &packet.ip));
    Ok(())
}

/// Holds a SYN or SYN-ACK to what the persona lets connections ask for.
#[inline(always)]
fn hold_handshake(frame: &TcContext, packet: &Packet6, terms: Terms) -> Result<(), DropReason> {
    if packet.tcp_flags & TCP_SYN == 0 || packet.kind != Kind::Flow || packet.part != Part::Whole {
        return Ok(());
    }
    let options_length = (packet.at() + packet.headers_length).saturating_sub(packet.l4_at() + 20);
    if options_length == 0 {
        return Ok(());
    }
    handshake::hold(frame, packet.l4_at(), options_length, packet.tcp_flags, FIXED_HEADERS_LENGTH_V6, terms)
}
