//! ICMP errors (RFC 792) of any type, made in place of the packet that they are about, wherever it stands in the frame, in
//! a tunnel too. [`crate::message6`] has those of ICMPv6.

use persona_common::checksum::fold;
use persona_common::drop::DropReason;

use crate::encapsulation::header_checksum;
use crate::frame::Frame;
use crate::header::{ICMP_LENGTH, IPV4_LENGTH, Ipv4};
use crate::packet::{Kind, Packet, Part};
use crate::quotation::Quotation;

/// Time to live of messages.
const TTL: u8 = 64;
/// Internetwork control (RFC 1812 §4.3.2.5).
const TOS: u8 = 0xc0;

/// What an error says, in either family.
#[derive(Clone, Copy)]
pub struct Message {
    pub kind: u8,
    pub code: u8,
    /// The second longword, in host order: an MTU, or zero.
    pub parameter: u32,
}

impl Message {
    /// Fragmentation needed (RFC 1191 §4).
    pub const fn fragmentation_needed(mtu: u32) -> Self {
        Self { kind: 3, code: 4, parameter: mtu & 0xffff }
    }

    /// Time to live exceeded in transit.
    pub const TTL_EXCEEDED: Self = Self { kind: 11, code: 0, parameter: 0 };
}

/// Whether an error may be sent about a packet (RFC 1122 §3.2.2): never about an error, a later fragment, or what went to
/// or came from no single host.
#[inline(always)]
pub fn may_answer(packet: &Packet) -> bool {
    let first_octet = |address: u32| address.to_ne_bytes()[0];
    let (source, destination) = (first_octet(packet.ip.source), first_octet(packet.ip.destination));
    packet.kind != Kind::Error
        && packet.part != Part::Later
        && source != 0
        && source != 127
        && source < 224
        && destination < 224
}

/// Makes the message of the packet of `about`, whose header stands at `at`, from `source` to whoever sent the packet, and
/// ends the frame behind it. Gives the message's length with its IP header, bytes.
#[inline(always)]
pub fn make<F: Frame>(frame: &F, about: &Ipv4, at: usize, source: u32, message: &Message) -> Result<usize, DropReason> {
    let quotable = (about.version_length & 15) as usize * 4 + 8;
    let packet_length = u16::from_be(about.total_length) as usize;
    let quoted_length = if packet_length < quotable { packet_length & !3 } else { quotable };
    let head = u32::from_ne_bytes([message.kind, message.code, 0, 0]);
    let parameter = message.parameter.to_be();
    let mut sum = halves(head) + halves(parameter);
    let quoted = Quotation::read(frame, at, quoted_length)?;
    sum += quoted.sum()?;
    let length = IPV4_LENGTH + ICMP_LENGTH + quoted_length;
    frame.set_length(at + length)?;
    let mut ip = Ipv4 {
        version_length: 0x45,
        tos: TOS,
        total_length: (length as u16).to_be(),
        id: 0,
        fragment: 0,
        ttl: TTL,
        protocol: persona_common::flow::ICMP,
        checksum: 0,
        source,
        destination: about.source,
    };
    ip.checksum = header_checksum(&ip);
    let checksum = (!fold(sum)).to_ne_bytes();
    let head = u32::from_ne_bytes([message.kind, message.code, checksum[0], checksum[1]]);
    frame.write(at, ip)?;
    frame.write(at + IPV4_LENGTH, [head, parameter])?;
    quoted.write(frame, at + IPV4_LENGTH + ICMP_LENGTH)?;
    Ok(length)
}

/// The sum of a longword's halves.
#[inline(always)]
pub fn halves(long: u32) -> u32 {
    (long & 0xffff) + (long >> 16)
}
