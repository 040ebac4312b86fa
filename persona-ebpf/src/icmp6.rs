//! ICMPv6 errors (RFC 4443 §3), made in place of the packet that they are about.

use persona_common::addr::Address6;
use persona_common::checksum::fold;
use persona_common::drop::DropReason;
use persona_common::record::ICMPV6;

use crate::frame::Frame;
use crate::header::{ETHERNET_LENGTH, Ipv6};
use crate::outcome::{pack, unpack};
use crate::packet6::Packet6;
use crate::quotation::QUOTED_LENGTH_MAX;

/// Type of packet too big.
const PACKET_TOO_BIG: u8 = 2;
/// Type of time exceeded; its code 0 is the hop limit.
const TIME_EXCEEDED: u8 = 3;

/// Hop limit of messages.
const HOP_LIMIT: u8 = 64;

/// Longwords of the largest quotation, as in [`crate::message6`]: behind extension headers a sender of fragments still
/// finds its flow.
const QUOTED_COUNT_MAX: usize = QUOTED_LENGTH_MAX / 4;

/// Bytes of the message in front of what it quotes: IP header, type, code, checksum and parameter.
const HEAD_LENGTH: usize = size_of::<Ipv6>() + 8;

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
    let quoted_length = if packet.length < QUOTED_LENGTH_MAX { packet.length & !3 } else { QUOTED_LENGTH_MAX };
    let payload_length = ((HEAD_LENGTH - size_of::<Ipv6>() + quoted_length) as u16).to_be();
    let mut sum = halves(u32::from_ne_bytes([kind, 0, 0, 0]))
        + halves(parameter.to_be())
        + payload_length as u32
        + (ICMPV6 as u16).to_be() as u32;
    frame.linearise(ETHERNET_LENGTH + HEAD_LENGTH + QUOTED_LENGTH_MAX);
    frame.set_length(ETHERNET_LENGTH + HEAD_LENGTH + quoted_length)?;
    // From the end, since the two overlap; the stack has no room for a copy.
    for index in (0..QUOTED_COUNT_MAX).rev() {
        if index * 4 < quoted_length {
            let word: u32 = frame.read(ETHERNET_LENGTH + index * 4).ok_or(DropReason::Malformed)?;
            sum += halves(word);
            frame.write(ETHERNET_LENGTH + HEAD_LENGTH + index * 4, word)?;
        }
    }
    for (from, to) in source.iter().zip(&packet.ip.source) {
        sum += halves(*from) + halves(*to);
    }
    let checksum = (!fold(sum)).to_ne_bytes();
    let head = [u32::from_ne_bytes([kind, 0, checksum[0], checksum[1]]), parameter.to_be()];
    frame.write(ETHERNET_LENGTH + size_of::<Ipv6>(), head)?;
    let ip = Ipv6 {
        version_class_label: (6u32 << 28).to_be(),
        payload_length,
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
