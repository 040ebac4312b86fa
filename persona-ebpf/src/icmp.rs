//! Fragmentation needed and time exceeded (RFC 792, RFC 1191), told to whoever sent the packet.

use persona_common::checksum::fold;
use persona_common::drop::DropReason;

use crate::encapsulation::header_checksum;
use crate::frame::Frame;
use crate::header::{ETHERNET_LENGTH, Ethernet, Ipv4};
use crate::packet::Packet;

/// The message: its own headers, then the header and eight bytes of the packet that it is about.
#[repr(C)]
#[derive(Clone, Copy)]
struct Message {
    ip: Ipv4,
    /// Type, code, checksum.
    head: u32,
    /// Unused, then the MTU of the next hop, or zero.
    mtu: u32,
    embedded: [u32; 7],
}

const _: () = assert!(size_of::<Message>() == 56);

/// Turns a packet that is too big into the message about it, from `source`, and sends it back where it came from.
#[inline(always)]
pub fn send_fragmentation_needed<F: Frame>(
    frame: &F,
    packet: &Packet,
    source: u32,
    mtu: u32,
) -> Result<i32, DropReason> {
    send(frame, packet, source, [3, 4], mtu & 0xffff)
}

/// Turns a packet whose time to live has run out into the message about it, from `source`, and sends it back.
#[inline(always)]
pub fn send_time_exceeded<F: Frame>(frame: &F, packet: &Packet, source: u32) -> Result<i32, DropReason> {
    send(frame, packet, source, [11, 0], 0)
}

/// Turns a packet into a message of this type and code about it.
#[inline(always)]
fn send<F: Frame>(frame: &F, packet: &Packet, source: u32, kind: [u8; 2], parameter: u32) -> Result<i32, DropReason> {
    let ethernet: Ethernet = frame.read(0).ok_or(DropReason::Malformed)?;
    let embedded: [u32; 7] = frame.read(ETHERNET_LENGTH).ok_or(DropReason::Malformed)?;
    frame.set_length(ETHERNET_LENGTH + size_of::<Message>())?;
    let mut ip = Ipv4 {
        version_length: 0x45,
        tos: 0xc0, // internetwork control (RFC 1812 §4.3.2.5)
        total_length: (size_of::<Message>() as u16).to_be(),
        id: 0,
        fragment: 0,
        ttl: 64,
        protocol: persona_common::flow::ICMP,
        checksum: 0,
        source,
        destination: packet.ip.source,
    };
    ip.checksum = header_checksum(&ip);
    let mtu = parameter.to_be();
    let mut sum = halves(u32::from_ne_bytes([kind[0], kind[1], 0, 0])) + halves(mtu);
    for word in embedded {
        sum += halves(word);
    }
    let checksum = (!fold(sum)).to_ne_bytes();
    let head = u32::from_ne_bytes([kind[0], kind[1], checksum[0], checksum[1]]);
    let swapped = Ethernet { destination: ethernet.source, source: ethernet.destination, kind: ethernet.kind };
    frame.write(0, swapped)?;
    frame.write(ETHERNET_LENGTH, Message { ip, head, mtu, embedded })?;
    Ok(frame.send_back())
}

#[inline(always)]
fn halves(long: u32) -> u32 {
    (long & 0xffff) + (long >> 16)
}
