//! ICMPv6 errors (RFC 4443 §3), made in place of the packet that they are about.

use persona_common::addr::Address6;
use persona_common::checksum::fold;
use persona_common::drop::DropReason;
use persona_common::record::ICMPV6;

use crate::frame::Frame;
use crate::header::{ETHERNET_LENGTH, Ipv6};
use crate::outcome::{pack, unpack};
use crate::packet6::Packet6;

/// Type of packet too big.
const PACKET_TOO_BIG: u8 = 2;
/// Type of time exceeded; its code 0 is the hop limit.
const TIME_EXCEEDED: u8 = 3;

/// Hop limit of messages.
const HOP_LIMIT: u8 = 64;

/// Longwords of the packet that a message embeds: its header and the first eight bytes behind it.
const EMBEDDED_COUNT: usize = 12;

/// Where in the message the embedded packet starts: behind IP header, type, code, checksum and parameter.
const EMBEDDED_AT: usize = size_of::<Ipv6>() + 8;

/// Bytes of the message.
const MESSAGE_LENGTH: usize = EMBEDDED_AT + 4 * EMBEDDED_COUNT;

/// Bytes of the message behind its IP header.
const PAYLOAD_LENGTH: u16 = (MESSAGE_LENGTH - size_of::<Ipv6>()) as u16;

/// Makes packet too big of the packet, from `source`.
#[inline(always)]
pub fn make_packet_too_big<F: Frame>(
    frame: &F,
    packet: &Packet6,
    source: Address6,
    mtu: u32,
) -> Result<(), DropReason> {
    make(frame, packet, source, PACKET_TOO_BIG, mtu)
}

/// Makes time exceeded of the packet, from `source`.
#[inline(always)]
pub fn make_time_exceeded<F: Frame>(frame: &F, packet: &Packet6, source: Address6) -> Result<(), DropReason> {
    make(frame, packet, source, TIME_EXCEEDED, 0)
}

#[inline(always)]
fn make<F: Frame>(frame: &F, packet: &Packet6, source: Address6, kind: u8, parameter: u32) -> Result<(), DropReason> {
    unpack(make_apart(frame, packet, &source, kind, parameter)).map(|_| ())
}

/// A function of its own, for the sake of the stack.
#[inline(never)]
fn make_apart<F: Frame>(frame: &F, packet: &Packet6, source: &Address6, kind: u8, parameter: u32) -> u64 {
    pack(make_here(frame, packet, source, kind, parameter).map(|()| 0))
}

#[inline(always)]
fn make_here<F: Frame>(
    frame: &F,
    packet: &Packet6,
    source: &Address6,
    kind: u8,
    parameter: u32,
) -> Result<(), DropReason> {
    let embedded: [u32; EMBEDDED_COUNT] = frame.read(ETHERNET_LENGTH).ok_or(DropReason::Malformed)?;
    frame.set_length(ETHERNET_LENGTH + MESSAGE_LENGTH)?;
    frame.write(ETHERNET_LENGTH + EMBEDDED_AT, embedded)?;
    let mut sum = halves(u32::from_ne_bytes([kind, 0, 0, 0]))
        + halves(parameter.to_be())
        + PAYLOAD_LENGTH.to_be() as u32
        + (ICMPV6 as u16).to_be() as u32;
    for word in embedded {
        sum += halves(word);
    }
    for (from, to) in source.iter().zip(&packet.ip.source) {
        sum += halves(*from) + halves(*to);
    }
    let checksum = (!fold(sum)).to_ne_bytes();
    let head = [u32::from_ne_bytes([kind, 0, checksum[0], checksum[1]]), parameter.to_be()];
    frame.write(ETHERNET_LENGTH + size_of::<Ipv6>(), head)?;
    let ip = Ipv6 {
        version_class_label: (6u32 << 28).to_be(),
        payload_length: PAYLOAD_LENGTH.to_be(),
        next_header: ICMPV6,
        hop_limit: HOP_LIMIT,
        source: *source,
        destination: packet.ip.source,
    };
    frame.write(ETHERNET_LENGTH, ip)?;
    frame.swap_ethernet()
}

#[inline(always)]
fn halves(long: u32) -> u32 {
    (long & 0xffff) + (long >> 16)
}
