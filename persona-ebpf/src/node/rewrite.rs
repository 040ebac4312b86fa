//! Inner addresses and ports, with their checksums in whatever state the offload left them.
//!
//! Every change stands beside the change of a checksum that covers it, in the same packet: the sum over the packet stays
//! what it was, so the complete checksum that a driver may have left in the socket buffer (`CHECKSUM_COMPLETE`) stays
//! right by itself. The exceptions are made good by the kernel: a pseudo header's address changes an L4 checksum without
//! being in the packet (`BPF_F_PSEUDO_HDR`), and a UDP checksum of zero covers nothing, so its port is stored with
//! `BPF_F_RECOMPUTE_CSUM`. A partial checksum (`CHECKSUM_PARTIAL`) covers the pseudo header only: `bpf_l4_csum_replace`
//! then leaves port changes out.

use aya_ebpf::bindings::{BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, BPF_F_RECOMPUTE_CSUM};
use aya_ebpf::programs::TcContext;
use persona_common::drop::DropReason;
use persona_common::flow::{TCP, UDP};
use persona_common::node::{Lease, Subject};
use persona_ebpf::frame::Frame;
use persona_ebpf::header::TCP_SYN;
use persona_ebpf::outcome::{pack, unpack};
use persona_ebpf::packet::{Direction, Kind, Packet, Part};
use persona_ebpf::tc::replace_checksum;

use crate::handshake::{self, FIXED_HEADERS_LENGTH_V4, Terms};
use crate::icmp_error;
use crate::normalise::set_dscp;

/// What the subject's side of a packet becomes.
#[derive(Clone, Copy)]
pub struct Side {
    pub address: u32,
    pub port: u16,
}

/// Makes a packet from a workload one from its lease, under `port`.
#[inline(always)]
pub fn rewrite_source(
    frame: &TcContext,
    packet: &mut Packet,
    subject: &Subject,
    lease: &Lease,
    port: u16,
) -> Result<(), DropReason> {
    unpack(rewrite_source_apart(frame, packet, subject, lease, port)).map(|_| ())
}

/// Makes a packet to a lease one to its workload.
#[inline(always)]
pub fn rewrite_destination(frame: &TcContext, packet: &mut Packet, to: Side, terms: Terms) -> Result<(), DropReason> {
    if packet.kind == Kind::Error {
        icmp_error::translate(frame, packet, Direction::Inward, to)?;
    }
    unpack(rewrite_destination_apart(frame, packet, to.address, to.port, terms)).map(|_| ())
}

/// A function of its own, as the stack is short.
#[inline(never)]
fn rewrite_source_apart(frame: &TcContext, packet: &mut Packet, subject: &Subject, lease: &Lease, port: u16) -> u64 {
    let to = Side { address: lease.address, port };
    let terms = Terms::outwards(lease, subject);
    let rewritten = rewrite_inside(frame, packet, Direction::Outward, packet.ip.source, to, terms);
    packet.set_source(to.address);
    set_dscp(packet, subject);
    pack(rewritten.and_then(|()| frame.write(packet.at, packet.ip)).map(|()| 0))
}

/// A function of its own, as the stack is short.
#[inline(never)]
fn rewrite_destination_apart(frame: &TcContext, packet: &mut Packet, address: u32, port: u16, terms: Terms) -> u64 {
    let to = Side { address, port };
    let rewritten = rewrite_inside(frame, packet, Direction::Inward, packet.ip.destination, to, terms);
    packet.set_destination(to.address);
    pack(rewritten.and_then(|()| frame.write(packet.at, packet.ip)).map(|()| 0))
}

/// Holds a SYN or SYN-ACK to what the persona lets connections ask for.
#[inline(always)]
fn hold_handshake(frame: &TcContext, packet: &Packet, terms: Terms) -> Result<(), DropReason> {
    let options_length = packet.headers_length.wrapping_sub(packet.ip_header_length() + 20);
    if packet.tcp_flags & TCP_SYN == 0 || options_length == 0 || packet.kind != Kind::Flow {
        return Ok(());
    }
    handshake::hold(frame, packet.l4_at(), options_length, packet.tcp_flags, FIXED_HEADERS_LENGTH_V4, terms)
}

/// Rewrites all behind the IP header whose address was `from`. A later fragment has nothing there; what an
/// error embeds is translated here outwards, and before inwards, where the stack is too short for one call more.
#[inline(always)]
fn rewrite_inside(
    frame: &TcContext,
    packet: &Packet,
    direction: Direction,
    from: u32,
    to: Side,
    terms: Terms,
) -> Result<(), DropReason> {
    if packet.part == Part::Later || packet.kind == Kind::Portless {
        return Ok(());
    }
    if packet.kind == Kind::Error {
        return match direction {
            Direction::Outward => icmp_error::translate(frame, packet, direction, to),
            Direction::Inward => Ok(()),
        };
    }
    hold_handshake(frame, packet, terms)?;
    rewrite_transport(frame, packet, direction, from, to)
}

/// Rewrites the local port and the checksum over it and over the address.
#[inline(always)]
fn rewrite_transport(
    frame: &TcContext,
    packet: &Packet,
    direction: Direction,
    from: u32,
    to: Side,
) -> Result<(), DropReason> {
    let l4_at = packet.l4_at();
    let (checksum_at, mangled) = match packet.protocol {
        TCP => (l4_at + 16, 0),
        UDP => (l4_at + 6, BPF_F_MARK_MANGLED_0 as u64),
        _ => (l4_at + 2, 0),
    };
    let (old_port, new_port) = (packet.local_port.to_be(), to.port.to_be());
    if packet.protocol != TCP && packet.protocol != UDP {
        replace_checksum(frame, checksum_at, old_port as u64, new_port as u64, 2)?;
        return frame.write(l4_at + 4, new_port);
    }
    let port_at = if direction == Direction::Outward { l4_at } else { l4_at + 2 };
    if !packet.has_checksum {
        let stored = frame.skb.store(port_at, &new_port, BPF_F_RECOMPUTE_CSUM as u64);
        return stored.map_err(|_| DropReason::Kernel);
    }
    let pseudo = BPF_F_PSEUDO_HDR as u64 | mangled;
    replace_checksum(frame, checksum_at, from as u64, to.address as u64, pseudo | 4)?;
    replace_checksum(frame, checksum_at, old_port as u64, new_port as u64, mangled | 2)?;
    frame.write(port_at, new_port)
}
