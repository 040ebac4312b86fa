//! The packet that an ICMP error embeds (RFC 792): whose error it is.
//!
//! It went the other way, so its source is ours where the error comes in. Its lengths are anybody's guess: what is read
//! must lie within the error itself.

use persona_common::drop::DropReason;
use persona_common::flow::{ICMP, TCP, UDP};

use crate::frame::Frame;
use crate::header::{FRAGMENT_OFFSET_MASK, ICMP_LENGTH, IPV4_LENGTH, Ipv4};
use crate::packet::{Direction, Packet, READ_LENGTH_MAX};

/// Bytes of the embedded L4 header that every error has (RFC 792).
const L4_LENGTH_MIN: usize = 8;

/// An embedded packet's headers.
#[derive(Clone, Copy)]
pub struct Embedded {
    /// Its IP header's fixed part.
    pub ip: Ipv4,
    /// Where its IP header starts in the frame.
    pub at: usize,
    /// Where its L4 header starts in the frame.
    pub l4_at: usize,
    /// The port on our side: the source of what went out, the destination of what came in; host order.
    pub local_port: u16,
    /// The port on the other side, 0 for ICMP; host order.
    pub remote_port: u16,
}

impl Embedded {
    /// Reads what `error`, a whole ICMP error that goes in `direction`, embeds.
    #[inline(always)]
    pub fn read<F: Frame>(frame: &F, error: &Packet, direction: Direction) -> Result<Self, DropReason> {
        frame.linearise(error.at + READ_LENGTH_MAX);
        let at = error.l4_at() + ICMP_LENGTH;
        let ip: Ipv4 = frame.read(at).ok_or(DropReason::Malformed)?;
        let header_length = (ip.version_length & 15) as usize * 4;
        let l4_at = at + header_length;
        let lies = ip.version_length >> 4 != 4
            || header_length < IPV4_LENGTH
            || l4_at + L4_LENGTH_MIN > error.at + error.length;
        if lies {
            return Err(DropReason::Malformed);
        }
        // A later fragment embeds no ports.
        if ip.fragment & FRAGMENT_OFFSET_MASK != 0 {
            return Err(DropReason::Fragment);
        }
        // An error goes back to the sender of what it embeds.
        let (local, remote) = match direction {
            Direction::Outward => (ip.destination, ip.source),
            Direction::Inward => (ip.source, ip.destination),
        };
        let is_answered = match direction {
            Direction::Outward => local == error.ip.source && remote == error.ip.destination,
            Direction::Inward => local == error.ip.destination,
        };
        if !is_answered {
            return Err(DropReason::NoMapping);
        }
        let (local_port, remote_port) = read_ports(frame, ip.protocol, l4_at, direction)?;
        Ok(Self { ip, at, l4_at, local_port, remote_port })
    }

    /// Where its L4 checksum stands.
    #[inline(always)]
    pub fn checksum_at(&self) -> usize {
        self.l4_at
            + match self.ip.protocol {
                TCP => 16,
                UDP => 6,
                _ => 2,
            }
    }

    /// Where the port on our side stands.
    #[inline(always)]
    pub fn local_port_at(&self, direction: Direction) -> usize {
        self.l4_at
            + match (self.ip.protocol, direction) {
                (TCP | UDP, Direction::Inward) => 0,
                (TCP | UDP, Direction::Outward) => 2,
                _ => 4,
            }
    }
}

#[inline(always)]
fn read_ports<F: Frame>(frame: &F, protocol: u8, l4_at: usize, direction: Direction) -> Result<(u16, u16), DropReason> {
    let head: [u16; 4] = frame.read(l4_at).ok_or(DropReason::Malformed)?;
    let (first, second, third) = (u16::from_be(head[0]), u16::from_be(head[1]), u16::from_be(head[2]));
    match (protocol, direction) {
        (TCP | UDP, Direction::Inward) => Ok((first, second)),
        (TCP | UDP, Direction::Outward) => Ok((second, first)),
        // An echo request went out, an echo reply came in; by type and code.
        (ICMP, Direction::Inward) if first == 0x0800 => Ok((third, 0)),
        (ICMP, Direction::Outward) if first == 0 => Ok((third, 0)),
        _ => Err(DropReason::NoMapping),
    }
}
