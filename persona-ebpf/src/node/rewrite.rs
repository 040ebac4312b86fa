//! Inner addresses and ports, with their checksums in whatever state the offload left them.

use aya_ebpf::bindings::{BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR};
use aya_ebpf::programs::TcContext;
use persona_common::drop::DropReason;
use persona_common::flow::{Slot, TCP, UDP};
use persona_common::node::{SUBJECT_SETS_DSCP, Subject};
use persona_ebpf::frame::Frame;
use persona_ebpf::header::ETHERNET_LENGTH;
use persona_ebpf::packet::{Direction, Packet};
use persona_ebpf::tc::replace_checksum;

use crate::clamp::clamp_mss;
use crate::resolve::Mapping;

const L4_AT: usize = ETHERNET_LENGTH + 20;

/// Makes a packet from a workload one from its lease.
#[inline(always)]
pub fn rewrite_source(
    frame: &TcContext,
    packet: &mut Packet,
    subject: &Subject,
    mapping: &Mapping,
) -> Result<(), DropReason> {
    clamp_mss(frame, packet, mapping.lease.mtu)?;
    let from = packet.ip.source;
    packet.set_source(mapping.lease.address);
    if subject.flags & SUBJECT_SETS_DSCP != 0 {
        // The lower two bits are ECN's (RFC 3168 §5).
        packet.set_tos((subject.dscp as u8) << 2 | (packet.ip.tos & 3));
    }
    frame.write(ETHERNET_LENGTH, packet.ip)?;
    let (address, port) = (mapping.lease.address, mapping.external_port);
    rewrite_transport(frame, packet, Direction::Outward, from, address, port)
}

/// Makes a packet to a lease one to its workload.
#[inline(always)]
pub fn rewrite_destination(frame: &TcContext, packet: &mut Packet, slot: &Slot, mtu: u32) -> Result<(), DropReason> {
    clamp_mss(frame, packet, mtu)?;
    let (from, address, port) = (packet.ip.destination, slot.inner_address, slot.inner_port);
    packet.set_destination(address);
    frame.write(ETHERNET_LENGTH, packet.ip)?;
    rewrite_transport(frame, packet, Direction::Inward, from, address, port)
}

/// Rewrites the local port and the checksum over it and over the address, which was `from` and is `to` now.
#[inline(always)]
fn rewrite_transport(
    frame: &TcContext,
    packet: &Packet,
    direction: Direction,
    from: u32,
    to: u32,
    port: u16,
) -> Result<(), DropReason> {
    let (checksum_at, mangled) = match packet.ip.protocol {
        TCP => (L4_AT + 16, 0),
        UDP => (L4_AT + 6, BPF_F_MARK_MANGLED_0 as u64),
        _ => (L4_AT + 2, 0),
    };
    let (old_port, new_port) = (packet.local_port.to_be(), port.to_be());
    if packet.ip.protocol == TCP || packet.ip.protocol == UDP {
        let pseudo = BPF_F_PSEUDO_HDR as u64 | mangled;
        if packet.has_checksum {
            replace_checksum(frame, checksum_at, from as u64, to as u64, pseudo | 4)?;
            replace_checksum(frame, checksum_at, old_port as u64, new_port as u64, mangled | 2)?;
        }
        let port_at = if direction == Direction::Outward { L4_AT } else { L4_AT + 2 };
        return frame.write(port_at, new_port);
    }
    replace_checksum(frame, checksum_at, old_port as u64, new_port as u64, 2)?;
    frame.write(L4_AT + 4, new_port)
}
