//! ICMPv6 errors (RFC 4443 §3) of any type, made in place of the packet that they are about, wherever it stands in the frame.

use persona_common::addr::Address6;
use persona_common::checksum::fold;
use persona_common::drop::DropReason;
use persona_common::record::ICMPV6;

use crate::frame::Frame;
use crate::header::{IPV6_LENGTH, Ipv6};
use crate::message::{Message, halves};
use crate::packet::{Kind, Part};
use crate::packet6::Packet6;
use crate::quotation::{QUOTED_LENGTH_MAX, Quotation};

/// Type of packet too big.
const PACKET_TOO_BIG: u8 = 2;
/// Type of time exceeded; its code 0 is the hop limit.
const TIME_EXCEEDED: u8 = 3;

/// Hop limit of messages.
const HOP_LIMIT: u8 = 64;

/// Bytes of an error in front of what it quotes.
const ERROR_LENGTH: usize = 8;

/// The first octet of multicast addresses.
const MULTICAST: u8 = 0xff;

impl Message {
    /// Packet too big.
    pub const fn packet_too_big(mtu: u32) -> Self {
        Self { kind: PACKET_TOO_BIG, code: 0, parameter: mtu }
    }

    /// Hop limit exceeded in transit.
    pub const HOP_LIMIT_EXCEEDED: Self = Self { kind: TIME_EXCEEDED, code: 0, parameter: 0 };
}

/// Whether an error may be sent about a packet (RFC 4443 §2.4 e).
#[inline(always)]
pub fn may_answer(packet: &Packet6) -> bool {
    let first_octet = |address: &Address6| address[0].to_ne_bytes()[0];
    packet.kind != Kind::Error
        && packet.part != Part::Later
        && packet.ip.source[0] != 0
        && first_octet(&packet.ip.source) != MULTICAST
        && first_octet(&packet.ip.destination) != MULTICAST
}

/// Makes the message of the packet of `about`, whose header stands at `at`, from `source` to whoever sent the packet, and
/// ends the frame behind it. Gives the message's length with its IP header, bytes.
#[inline(always)]
pub fn make<F: Frame>(
    frame: &F,
    about: &Ipv6,
    at: usize,
    source: &Address6,
    message: &Message,
) -> Result<usize, DropReason> {
    let packet_length = IPV6_LENGTH + u16::from_be(about.payload_length) as usize;
    let quoted_length = if packet_length < QUOTED_LENGTH_MAX { packet_length & !3 } else { QUOTED_LENGTH_MAX };
    let payload_length = ((ERROR_LENGTH + quoted_length) as u16).to_be();
    let parameter = message.parameter.to_be();
    let mut sum = halves(u32::from_ne_bytes([message.kind, message.code, 0, 0]))
        + halves(parameter)
        + payload_length as u32
        + (ICMPV6 as u16).to_be() as u32;
    for (from, to) in source.iter().zip(&about.source) {
        sum += halves(*from) + halves(*to);
    }
    let quoted = Quotation::read(frame, at, quoted_length)?;
    sum += quoted.sum()?;
    let length = IPV6_LENGTH + ERROR_LENGTH + quoted_length;
    frame.set_length(at + length)?;
    let ip = Ipv6 {
        version_class_label: (6u32 << 28).to_be(),
        payload_length,
        next_header: ICMPV6,
        hop_limit: HOP_LIMIT,
        source: *source,
        destination: about.source,
    };
    let checksum = (!fold(sum)).to_ne_bytes();
    let head = u32::from_ne_bytes([message.kind, message.code, checksum[0], checksum[1]]);
    frame.write(at, ip)?;
    frame.write(at + IPV6_LENGTH, [head, parameter])?;
    quoted.write(frame, at + IPV6_LENGTH + ERROR_LENGTH)?;
    Ok(length)
}
