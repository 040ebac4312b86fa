//! The packet that an ICMP error embeds, translated as the packet itself was (RFC 5508 REQ-3 to REQ-5).
//!
//! Address and port, the embedded header's checksum, the embedded L4 checksum where it is inside, and the ICMP checksum
//! over all of that. Each is changed by as much as what it covers, never made anew: one that was wrong stays wrong.

use aya_ebpf::programs::TcContext;
use persona_common::checksum::{replace_long, replace_word};
use persona_common::drop::DropReason;
use persona_common::flow::{TCP, UDP};
use persona_ebpf::embedded::Embedded;
use persona_ebpf::frame::Frame;
use persona_ebpf::packet::{Direction, Packet};

use crate::rewrite::Side;

/// Where in an ICMP header the checksum stands.
const CHECKSUM_AT: usize = 2;

/// Translates our side of what `packet`, an error that goes in `direction`, embeds. The outer header is the caller's, and
/// must not be changed yet.
#[inline(always)]
pub fn translate(frame: &TcContext, packet: &Packet, direction: Direction, to: Side) -> Result<(), DropReason> {
    match translate_apart(frame, packet, direction, to.address, to.port) {
        0 => Ok(()),
        _ => Err(DropReason::Malformed),
    }
}

#[inline(never)]
fn translate_apart(frame: &TcContext, packet: &Packet, direction: Direction, address: u32, port: u16) -> u32 {
    match translate_embedded(frame, packet, direction, Side { address, port }) {
        Some(()) => 0,
        None => 1,
    }
}

#[inline(always)]
fn translate_embedded(frame: &TcContext, packet: &Packet, direction: Direction, to: Side) -> Option<()> {
    let embedded = Embedded::read(frame, packet, direction).ok()?;
    let mut sum: u16 = frame.read(packet.l4_at() + CHECKSUM_AT)?;
    let mut ip = embedded.ip;
    let from = match direction {
        Direction::Outward => core::mem::replace(&mut ip.destination, to.address),
        Direction::Inward => core::mem::replace(&mut ip.source, to.address),
    };
    ip.checksum = replace_long(ip.checksum, from, to.address);
    frame.write(embedded.at, ip).ok()?;
    sum = replace_word(replace_long(sum, from, to.address), embedded.ip.checksum, ip.checksum);

    let (old_port, new_port) = (embedded.local_port.to_be(), to.port.to_be());
    frame.write(embedded.local_port_at(direction), new_port).ok()?;
    sum = replace_word(sum, old_port, new_port);

    let at = embedded.checksum_at();
    if at + 2 <= packet.at + packet.length {
        let old: u16 = frame.read(at)?;
        let new = l4_checksum(old, ip.protocol, (from, to.address), (old_port, new_port));
        frame.write(at, new).ok()?;
        sum = replace_word(sum, old, new);
    }
    frame.write(packet.l4_at() + CHECKSUM_AT, sum).ok()
}

/// The embedded L4 checksum after address and port have changed.
#[inline(always)]
fn l4_checksum(checksum: u16, protocol: u8, address: (u32, u32), port: (u16, u16)) -> u16 {
    if protocol == UDP && checksum == 0 {
        return 0;
    }
    let mut changed = replace_word(checksum, port.0, port.1);
    if protocol == TCP || protocol == UDP {
        changed = replace_long(changed, address.0, address.1);
    }
    // Zero would say that there is none (RFC 768).
    if protocol == UDP && changed == 0 { 0xffff } else { changed }
}
