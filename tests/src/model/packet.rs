//! An IP packet of either family, read as RFC 791, 8200, 9293, 768, 792 and 4443 say, or the reason why it can't be.
//!
//! Written apart from the programs' own reader, over plain slices: where the two disagree, one of them is wrong.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use persona_common::drop::DropReason;

use super::wire::{short, sum};

/// ICMP's protocol number.
pub const ICMP: u8 = 1;
/// TCP's.
pub const TCP: u8 = 6;
/// UDP's.
pub const UDP: u8 = 17;
/// ICMPv6's.
pub const ICMPV6: u8 = 58;

/// How much of a packet this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Whole,
    /// Its first fragment.
    First,
    /// A later fragment.
    Later,
}

/// What a packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// Where from.
    pub source: IpAddr,
    /// Where to.
    pub destination: IpAddr,
    /// Bytes in front of the L4 header.
    pub l4_at: usize,
    /// Bytes of the packet, as its header says.
    pub length: usize,
    /// The protocol behind all extension headers.
    pub protocol: u8,
    /// Whole or which fragment.
    pub part: Part,
    /// Source port, or the id of an echo.
    pub source_port: u16,
    /// Destination port, or the id of an echo.
    pub destination_port: u16,
}

impl Packet {
    /// Reads as much as is needed to find ports. `bytes` start at the IP header and may go on behind the packet.
    pub fn read(bytes: &[u8]) -> Result<Self, DropReason> {
        match bytes.first().map(|first| first >> 4) {
            Some(4) => Self::read_v4(bytes),
            Some(6) => Self::read_v6(bytes),
            _ => Err(DropReason::Malformed),
        }
    }

    fn read_v4(bytes: &[u8]) -> Result<Self, DropReason> {
        let header_length = usize::from(bytes[0] & 15) * 4;
        let length = usize::from(short(bytes, 2));
        if bytes.len() < 20 || header_length < 20 || length < header_length || length > bytes.len() {
            return Err(DropReason::Malformed);
        }
        let address = |at: usize| Ipv4Addr::new(bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]).into();
        let fragment = short(bytes, 6);
        let part = match (fragment & 0x1fff, fragment & 0x2000) {
            (0, 0) => Part::Whole,
            (0, _) => Part::First,
            _ => Part::Later,
        };
        let packet = Self {
            source: address(12),
            destination: address(16),
            l4_at: header_length,
            length,
            protocol: bytes[9],
            part,
            source_port: 0,
            destination_port: 0,
        };
        packet.with_ports(bytes)
    }

    fn read_v6(bytes: &[u8]) -> Result<Self, DropReason> {
        if bytes.len() < 40 {
            return Err(DropReason::Malformed);
        }
        let length = 40 + usize::from(short(bytes, 4));
        if length > bytes.len() {
            return Err(DropReason::Malformed);
        }
        let address = |at: usize| Ipv6Addr::from(<[u8; 16]>::try_from(&bytes[at..at + 16]).expect("sixteen")).into();
        let (mut next, mut at, mut part) = (bytes[6], 40, Part::Whole);
        // Hop-by-hop, routing, fragment, authentication, destination options.
        while matches!(next, 0 | 43 | 44 | 51 | 60) && part != Part::Later {
            let header = bytes.get(at..length.min(at + 8)).filter(|header| header.len() == 8);
            let Some(header) = header else { return Err(DropReason::ExtensionHeaders) };
            let size = match next {
                44 => {
                    let offset = short(header, 2) & 0xfff8;
                    part = match (offset, header[3] & 1) {
                        (0, 0) => part,
                        (0, _) => Part::First,
                        _ => Part::Later,
                    };
                    8
                }
                51 => (usize::from(header[1]) + 2) * 4,
                _ => (usize::from(header[1]) + 1) * 8,
            };
            (next, at) = (header[0], at + size);
            if at > length {
                return Err(DropReason::ExtensionHeaders);
            }
        }
        let (source, destination) = (address(8), address(24));
        let (source_port, destination_port) = (0, 0);
        let packet =
            Self { source, destination, l4_at: at, length, protocol: next, part, source_port, destination_port };
        packet.with_ports(bytes)
    }

    fn with_ports(mut self, bytes: &[u8]) -> Result<Self, DropReason> {
        if self.part == Part::Later {
            return Ok(self);
        }
        let l4 = &bytes[self.l4_at.min(self.length)..self.length];
        // One family's ICMP inside the other is any protocol.
        let echo = match (self.protocol, self.source.is_ipv4()) {
            (TCP | UDP, _) => {
                (self.source_port, self.destination_port) = (short(l4, 0), short(l4, 2));
                false
            }
            (ICMP, true) => l4.first().is_some_and(|kind| *kind == 0 || *kind == 8),
            (ICMPV6, false) => l4.first().is_some_and(|kind| *kind == 128 || *kind == 129),
            _ => false,
        };
        if echo {
            (self.source_port, self.destination_port) = (short(l4, 4), short(l4, 4));
        }
        Ok(self)
    }

    /// Whether it is an ICMP error of its family.
    pub fn is_icmp_error(&self, bytes: &[u8]) -> bool {
        let kind = bytes[..self.length.min(bytes.len())].get(self.l4_at).copied().unwrap_or(0xff);
        self.part != Part::Later
            && match (self.protocol, self.source.is_ipv4()) {
                (ICMP, true) => matches!(kind, 3 | 11 | 12),
                (ICMPV6, false) => (1..=4).contains(&kind),
                _ => false,
            }
    }

    /// Whether every checksum in it is right: the header's, and L4's where the whole of it is there. UDP without a
    /// checksum is right over IPv4.
    pub fn has_right_checksums(&self, bytes: &[u8]) -> bool {
        let is_header_right = self.source.is_ipv6() || sum(&bytes[..usize::from(bytes[0] & 15) * 4], 0) == 0xffff;
        is_header_right && (self.part != Part::Whole || self.is_l4_right(&bytes[self.l4_at..self.length]))
    }

    fn is_l4_right(&self, l4: &[u8]) -> bool {
        let (bytes, checksum_at) = match (self.protocol, self.source.is_ipv4()) {
            (TCP, _) if l4.len() >= 20 => (l4, 16),
            (UDP, _) if l4.len() >= 8 => (&l4[..usize::from(short(l4, 4)).clamp(8, l4.len())], 6),
            (ICMP, true) if l4.len() >= 8 => return sum(l4, 0) == 0xffff,
            (ICMPV6, false) if l4.len() >= 4 => (l4, 2),
            _ => return true,
        };
        if self.protocol == UDP && short(bytes, checksum_at) == 0 {
            return self.source.is_ipv4();
        }
        sum(bytes, self.pseudo_sum(bytes.len())) == 0xffff
    }

    /// The sum of the pseudo header (RFC 9293 §3.1, RFC 8200 §8.1).
    pub fn pseudo_sum(&self, l4_length: usize) -> u32 {
        let address = |address: IpAddr, so_far: u32| match address {
            IpAddr::V4(address) => sum(&address.octets(), so_far),
            IpAddr::V6(address) => sum(&address.octets(), so_far),
        };
        let length = (l4_length as u32).to_be_bytes();
        sum(&[0, self.protocol], sum(&length, address(self.destination, address(self.source, 0))))
    }
}
