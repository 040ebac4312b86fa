//! IP headers of inner packets: read from bytes that anybody may have sent, and written with a right checksum.
//!
//! Pure. Lengths are believed only as far as the bytes reach.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use persona_common::checksum::fold;

/// Bytes of an IPv4 header without options.
pub(super) const HEADER_LENGTH: usize = 20;
/// The largest IP packet.
pub(super) const PACKET_LENGTH_MAX: usize = 65_535;

const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET_MASK: u16 = 0x1fff;

/// Extension headers that are stepped over before the fragment header, and their bytes (contract §2).
const EXTENSION_COUNT_MAX: usize = 8;
const EXTENSION_LENGTH_MAX: usize = 256;
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;

/// An IPv4 header, options left in the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ipv4Header {
    /// Bytes of header and options.
    pub header_length: usize,
    /// Bytes of the packet.
    pub total_length: usize,
    /// Identification.
    pub id: u16,
    /// Don't fragment.
    pub dont_fragment: bool,
    /// More fragments follow.
    pub more_fragments: bool,
    /// Fragment offset, bytes.
    pub offset: usize,
    /// The protocol above.
    pub protocol: u8,
    /// Source.
    pub source: Ipv4Addr,
    /// Destination.
    pub destination: Ipv4Addr,
}

impl Ipv4Header {
    /// Reads the header of a packet whose bytes may go on after its end. None: no IPv4, or its lengths lie.
    pub(super) fn read(packet: &[u8]) -> Option<Self> {
        let fixed: &[u8; HEADER_LENGTH] = packet.first_chunk()?;
        let word = |at: usize| u16::from_be_bytes([fixed[at], fixed[at + 1]]);
        let header_length = usize::from(fixed[0] & 15) * 4;
        let total_length = usize::from(word(2));
        let is_sound = fixed[0] >> 4 == 4
            && header_length >= HEADER_LENGTH
            && total_length >= header_length
            && total_length <= packet.len();
        let flags = word(6);
        is_sound.then(|| Self {
            header_length,
            total_length,
            id: word(4),
            dont_fragment: flags & DONT_FRAGMENT != 0,
            more_fragments: flags & MORE_FRAGMENTS != 0,
            offset: usize::from(flags & OFFSET_MASK) * 8,
            protocol: fixed[9],
            source: Ipv4Addr::new(fixed[12], fixed[13], fixed[14], fixed[15]),
            destination: Ipv4Addr::new(fixed[16], fixed[17], fixed[18], fixed[19]),
        })
    }
}

/// A fragment's place in its datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fragment {
    /// Source.
    pub source: IpAddr,
    /// Destination.
    pub destination: IpAddr,
    /// Identification: 16 bits under IPv4, 32 under IPv6.
    pub id: u32,
    /// IPv4: the protocol; IPv6: the fragment header's next header.
    pub protocol: u8,
    /// Its bytes of the datagram's payload.
    pub bytes: Range<usize>,
    /// Whether it is the last one.
    pub is_last: bool,
    /// Bytes of the whole packet.
    pub length: usize,
}

impl Fragment {
    /// Reads a later fragment of either family. None: not one, or an absurd one: without payload, cut at no multiple of
    /// eight though more follow, or past the end of the largest packet.
    pub(super) fn read(packet: &[u8]) -> Option<Self> {
        let fragment = match packet.first()? >> 4 {
            4 => Self::read_ipv4(packet)?,
            6 => Self::read_ipv6(packet)?,
            _ => return None,
        };
        let Range { start, end } = fragment.bytes;
        let is_sound = start > 0 && end > start && end <= PACKET_LENGTH_MAX && (fragment.is_last || end % 8 == 0);
        is_sound.then_some(fragment)
    }

    fn read_ipv4(packet: &[u8]) -> Option<Self> {
        let header = Ipv4Header::read(packet)?;
        let payload_length = header.total_length - header.header_length;
        Some(Self {
            source: header.source.into(),
            destination: header.destination.into(),
            id: header.id.into(),
            protocol: header.protocol,
            bytes: header.offset..header.offset + payload_length,
            is_last: !header.more_fragments,
            length: header.total_length,
        })
    }

    fn read_ipv6(packet: &[u8]) -> Option<Self> {
        let fixed: &[u8; 40] = packet.first_chunk()?;
        let length = 40 + usize::from(u16::from_be_bytes([fixed[4], fixed[5]]));
        let packet = packet.get(..length)?;
        let address = |at: usize| -> [u8; 16] { std::array::from_fn(|index| fixed[at + index]) };
        let at = fragment_header_at(packet)?;
        let header: &[u8; 8] = packet.get(at..)?.first_chunk()?;
        let word = u16::from_be_bytes([header[2], header[3]]);
        let offset = usize::from(word & !7);
        Some(Self {
            source: Ipv6Addr::from(address(8)).into(),
            destination: Ipv6Addr::from(address(24)).into(),
            id: u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
            protocol: header[0],
            bytes: offset..offset + (length - at - 8),
            is_last: word & 1 == 0,
            length,
        })
    }
}

/// Where an IPv6 packet's fragment header stands.
fn fragment_header_at(packet: &[u8]) -> Option<usize> {
    let (mut kind, mut at) = (packet[6], 40);
    for _header in 0..=EXTENSION_COUNT_MAX {
        match kind {
            FRAGMENT => return Some(at),
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS if at < 40 + EXTENSION_LENGTH_MAX => {
                kind = *packet.get(at)?;
                at += 8 + usize::from(*packet.get(at + 1)?) * 8;
            }
            _ => return None,
        }
    }
    None
}

/// The checksum of an IPv4 header whose checksum field holds zero (RFC 791), as it stands in the packet.
pub(super) fn header_checksum(header: &[u8]) -> [u8; 2] {
    let word = |pair: &[u8]| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    (!fold(header.chunks(2).map(word).sum())).to_be_bytes()
}

/// Puts the right checksum into the IPv4 header at the start of `packet`.
pub(super) fn mend_checksum(packet: &mut [u8], header_length: usize) {
    packet[10..12].fill(0);
    let checksum = header_checksum(&packet[..header_length]);
    packet[10..12].copy_from_slice(&checksum);
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An IPv4 packet with these options (a multiple of four bytes), flags-and-offset word and payload.
    pub(in crate::slow_path) fn ipv4_packet(options: &[u8], id: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
        let header_length = HEADER_LENGTH + options.len();
        let mut packet = vec![0; HEADER_LENGTH];
        packet[0] = 0x40 | (header_length / 4) as u8;
        packet[1] = 0xb9;
        packet[2..4].copy_from_slice(&((header_length + payload.len()) as u16).to_be_bytes());
        packet[4..6].copy_from_slice(&id.to_be_bytes());
        packet[6..8].copy_from_slice(&flags.to_be_bytes());
        (packet[8], packet[9]) = (64, 17);
        packet[12..16].copy_from_slice(&[203, 0, 113, 1]);
        packet[16..20].copy_from_slice(&[198, 51, 100, 10]);
        packet.extend_from_slice(options);
        mend_checksum(&mut packet, header_length);
        packet.extend_from_slice(payload);
        packet
    }

    /// An IPv6 packet with a destination-options header and a fragment header.
    pub(in crate::slow_path) fn ipv6_fragment(id: u32, offset: u16, more: bool, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; 40];
        packet[0] = 0x60;
        packet[4..6].copy_from_slice(&((16 + payload.len()) as u16).to_be_bytes());
        (packet[6], packet[7]) = (DESTINATION_OPTIONS, 64);
        packet[8..24].copy_from_slice(&Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).octets());
        packet[24..40].copy_from_slice(&Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2).octets());
        packet.extend_from_slice(&[FRAGMENT, 0, 1, 4, 0, 0, 0, 0]);
        packet.extend_from_slice(&[17, 0]);
        packet.extend_from_slice(&(offset | u16::from(more)).to_be_bytes());
        packet.extend_from_slice(&id.to_be_bytes());
        packet.extend_from_slice(payload);
        packet
    }

    #[test]
    fn later_fragments_of_both_families_are_read() {
        let packet = ipv4_packet(&[], 7, 0x2000 | 100, &[0; 16]);
        let fragment = Fragment::read(&packet).unwrap();
        assert_eq!((fragment.id, fragment.bytes, fragment.is_last), (7, 800..816, false));
        let packet = ipv6_fragment(0xdead_beef, 1_232, false, &[0; 5]);
        let fragment = Fragment::read(&packet).unwrap();
        assert_eq!((fragment.id, fragment.bytes, fragment.is_last), (0xdead_beef, 1_232..1_237, true));
        assert_eq!((fragment.protocol, fragment.length), (17, 61));
    }

    #[test]
    fn absurd_fragments_are_not_read() {
        let mut behind = ipv6_fragment(1, 8, true, &[0; 8]);
        behind[41] = 33; // the options' length, in units of eight bytes after the first
        let cases = [
            ("a fragment header behind the packet", behind),
            ("a first fragment", ipv4_packet(&[], 7, 0x2000, &[0; 16])),
            ("no payload", ipv4_packet(&[], 7, 0x2001, &[])),
            ("a cut at no multiple of eight", ipv4_packet(&[], 7, 0x2001, &[0; 15])),
            ("past the largest packet", ipv4_packet(&[], 7, 0x1fff, &[0; 16])),
            ("past the largest packet, IPv6", ipv6_fragment(1, 0xfff8, false, &[0; 16])),
            ("another version", vec![0x50; 60]),
            ("nothing", vec![]),
        ];
        for (what, packet) in cases {
            assert_eq!(Fragment::read(&packet), None, "{what}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(mut bytes: Vec<u8>, version: bool) {
            if let Some(first) = bytes.first_mut() {
                *first = if version { 0x40 } else { 0x60 } | (*first & 15);
            }
            if let Some(fragment) = Fragment::read(&bytes) {
                proptest::prop_assert!(fragment.length <= bytes.len() && fragment.bytes.end <= PACKET_LENGTH_MAX);
            }
        }
    }
}
