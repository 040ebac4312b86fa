//! "Too big" as routers say it of a tunnel packet: fragmentation needed (RFC 1191 §4), packet too big (RFC 4443 §3.2). Pure.
//!
//! Anybody can send such a message. It counts only if it quotes a packet that we might have sent.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use persona_common::checksum::fold;
use persona_common::flow::UDP;
use persona_common::probe::GENEVE_PORT;

/// Source ports of tunnels start here (RFC 8926 §3.3).
const ENTROPY_PORT_MIN: u16 = 0xc000;
/// Bytes of an ICMP header of either family.
const ICMP_LENGTH: usize = 8;
/// Bytes of an IPv6 header.
const IPV6_LENGTH: usize = 40;

/// What a router says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooBig {
    /// Source of the packet that was too big.
    pub source: IpAddr,
    /// Its destination.
    pub destination: IpAddr,
    /// What the router's next link carries, bytes.
    pub mtu: u32,
}

/// Reads an IPv4 packet with an ICMP message, as a raw socket gives it. The kernel has not judged the message's checksum.
pub(super) fn read_ipv4(packet: &[u8]) -> Option<TooBig> {
    let message = packet.get(header_length(packet)?..)?;
    if message.get(..2)? != [3, 4] || checksum(message) != 0xffff {
        return None;
    }
    let mtu = u32::from(word(message, 6)?);
    let quoted = message.get(ICMP_LENGTH..)?;
    let is_later_fragment = word(quoted, 6)? & 0x1fff != 0;
    if quoted[0] >> 4 != 4 || quoted.get(9)? != &UDP || is_later_fragment {
        return None;
    }
    let address = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(quoted.get(at..at + 4)?).ok()?));
    let too_big = TooBig { source: address(12)?.into(), destination: address(16)?.into(), mtu };
    let length = u32::from(word(quoted, 2)?);
    (is_tunnel(quoted.get(header_length(quoted)?..)?)? && mtu < length).then_some(too_big)
}

/// Reads an ICMPv6 message, as a raw socket gives it: without the IPv6 header, its checksum judged.
pub(super) fn read_ipv6(message: &[u8]) -> Option<TooBig> {
    if message.get(..2)? != [2, 0] {
        return None;
    }
    let mtu = u32::from(word(message, 4)?) << 16 | u32::from(word(message, 6)?);
    let quoted = message.get(ICMP_LENGTH..)?;
    if quoted.first()? >> 4 != 6 || quoted.get(6)? != &UDP {
        return None;
    }
    let address = |at: usize| Some(Ipv6Addr::from(<[u8; 16]>::try_from(quoted.get(at..at + 16)?).ok()?));
    let too_big = TooBig { source: address(8)?.into(), destination: address(24)?.into(), mtu };
    let length = u32::from(word(quoted, 4)?) + IPV6_LENGTH as u32;
    (is_tunnel(quoted.get(IPV6_LENGTH..)?)? && mtu < length).then_some(too_big)
}

/// Whether a UDP header is that of a tunnel of ours.
fn is_tunnel(udp: &[u8]) -> Option<bool> {
    Some(word(udp, 0)? >= ENTROPY_PORT_MIN && word(udp, 2)? == GENEVE_PORT)
}

fn header_length(packet: &[u8]) -> Option<usize> {
    Some(usize::from(packet.first()? & 15) * 4).filter(|length| *length >= 20)
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    words.fold(0, |sum, word| u32::from(fold(sum + word))) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: [u8; 4] = [10, 0, 0, 1];
    const EDGE: [u8; 4] = [10, 0, 0, 11];

    fn ipv4(protocol: u8, length: u16, source_port: u16, destination_port: u16) -> Vec<u8> {
        let mut quoted = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, protocol, 0, 0];
        quoted[2..4].copy_from_slice(&length.to_be_bytes());
        quoted.extend([NODE, EDGE].concat());
        quoted.extend([source_port.to_be_bytes(), destination_port.to_be_bytes(), [0; 2], [0; 2]].concat());
        quoted
    }

    fn error4(kind: [u8; 2], mtu: u16, quoted: &[u8]) -> Vec<u8> {
        let mut message = [&kind[..], &[0; 4], &mtu.to_be_bytes(), quoted].concat();
        let sum = !checksum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        let mut packet = vec![0x46; 24]; // an option
        packet.extend(message);
        packet
    }

    fn error6(kind: u8, mtu: u32, next_header: u8, destination_port: u16) -> Vec<u8> {
        let mut quoted = vec![0x60, 0, 0, 0, 5, 0x78, next_header, 64];
        quoted.extend([[0xfd; 16], [0xfe; 16]].concat());
        quoted.extend([[0xc1, 0], destination_port.to_be_bytes(), [0; 2], [0; 2]].concat());
        [&[kind, 0, 0, 0], &mtu.to_be_bytes()[..], &quoted].concat()
    }

    #[test]
    fn a_router_is_believed_about_a_tunnel_packet_alone() {
        let tunnel = || ipv4(17, 1_436, 0xc123, 6_081);
        let mut later = tunnel();
        later[7] = 9;
        for (what, packet, mtu) in [
            ("too big", error4([3, 4], 1_400, &tunnel()), Some(1_400)),
            ("port unreachable", error4([3, 3], 1_400, &tunnel()), None),
            ("not too big for what it names", error4([3, 4], 1_436, &tunnel()), None),
            ("another port", error4([3, 4], 1_400, &ipv4(17, 1_436, 0xc123, 443)), None),
            ("a probe's source port", error4([3, 4], 1_400, &ipv4(17, 1_436, 40_000, 6_081)), None),
            ("TCP", error4([3, 4], 1_400, &ipv4(6, 1_436, 0xc123, 6_081)), None),
            ("a later fragment", error4([3, 4], 1_400, &later), None),
            ("cut short", error4([3, 4], 1_400, &tunnel()[..22]), None),
        ] {
            assert_eq!(read_ipv4(&packet).map(|error| error.mtu), mtu, "{what}");
        }
        let error = read_ipv4(&error4([3, 4], 1_400, &tunnel())).unwrap();
        assert_eq!((error.source, error.destination), (NODE.into(), EDGE.into()));
        let mut wrong = error4([3, 4], 1_400, &tunnel());
        wrong[24 + ICMP_LENGTH + 8] ^= 1; // in the quoted header: what is cut off behind it does not take it away
        assert_eq!(read_ipv4(&wrong), None, "a checksum that is wrong");
        for length in 0..wrong.len() {
            assert_eq!(read_ipv4(&wrong[..length]), None, "{length} bytes of it");
        }
    }

    #[test]
    fn the_same_over_ipv6() {
        for (what, message, mtu) in [
            ("too big", error6(2, 1_380, 17, 6_081), Some(1_380)),
            ("time exceeded", error6(3, 1_380, 17, 6_081), None),
            ("not too big for what it names", error6(2, 1_440, 17, 6_081), None),
            ("TCP", error6(2, 1_380, 6, 6_081), None),
            ("another port", error6(2, 1_380, 17, 53), None),
        ] {
            assert_eq!(read_ipv6(&message).map(|error| error.mtu), mtu, "{what}");
        }
        let error = read_ipv6(&error6(2, 1_380, 17, 6_081)).unwrap();
        assert_eq!((error.source, error.destination), ([0xfd; 16].into(), [0xfe; 16].into()));
        for length in 0..8 + IPV6_LENGTH + 4 {
            assert_eq!(read_ipv6(&error6(2, 1_380, 17, 6_081)[..length]), None, "{length} bytes of it");
        }
    }
}
