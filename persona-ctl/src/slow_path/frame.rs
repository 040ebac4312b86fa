//! The frames on the slow path's device: tunnel frames of either outer family, as a program hands them over, and tunnel
//! packets as user space sends them on.
//!
//! Pure. A program may hand over a frame whose outer lengths do not hold what is inside (an inner packet near 65,535
//! bytes, a segmented one): the inner packet's own length counts.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use persona_common::drop::DropReason;
use persona_common::encapsulation::{WAIT, WAIT_INWARD};
use persona_common::probe::GENEVE_PORT;

use super::ip::mend_checksum;
use super::queue::Way;

const ETHERNET_LENGTH: usize = 14;
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const UDP: u8 = 17;
const UDP_LENGTH: usize = 8;
const GENEVE_LENGTH: usize = 8;
const GENEVE_CONTROL: u8 = 0x80;
const GENEVE_VERSION: u8 = 0xc0;
const GENEVE_OPTION_WORDS: u8 = 0x3f;
const DONT_FRAGMENT: [u8; 2] = [0x40, 0];

/// A tunnel packet's outer headers, but for lengths and checksums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outer {
    /// Outer source; of the same family as `destination`.
    pub source: IpAddr,
    /// Outer destination.
    pub destination: IpAddr,
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// TTL or hop limit.
    pub hop_limit: u8,
    /// IPv6: the flow label.
    pub flow_label: u32,
    /// The UDP source port.
    pub entropy_port: u16,
    /// The persona.
    pub vni: u32,
    /// The Geneve header's reserved last byte.
    pub reserved: u8,
    /// The encrypted tunnel's device, for what must go through it; 0: where the routes lead.
    pub wire_ifindex: u32,
}

/// What a program hands over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Handed<'a> {
    /// A finished tunnel packet whose inner packet is to be cut. Padding may follow the inner packet.
    TooBig(Outer, &'a [u8]),
    /// A later fragment, untouched, whose first has not been seen.
    Waiting(Way, &'a [u8]),
}

/// Reads a frame of the slow path's device.
pub(super) fn parse(frame: &[u8]) -> Result<Handed<'_>, DropReason> {
    let kind = frame.get(12..14).ok_or(DropReason::Malformed)?;
    let packet = &frame[ETHERNET_LENGTH..];
    let (mut outer, udp) = match u16::from_be_bytes([kind[0], kind[1]]) {
        ETHERTYPE_IPV4 => read_ipv4(packet),
        ETHERTYPE_IPV6 => read_ipv6(packet),
        _ => return Err(DropReason::EtherType),
    }
    .ok_or(DropReason::Malformed)?;
    let (udp, geneve) = udp.split_at_checked(UDP_LENGTH).ok_or(DropReason::Malformed)?;
    let geneve_head: &[u8; GENEVE_LENGTH] = geneve.first_chunk().ok_or(DropReason::Malformed)?;
    let is_ours = u16::from_be_bytes([udp[2], udp[3]]) == GENEVE_PORT && geneve_head[0] & GENEVE_VERSION == 0;
    if !is_ours {
        return Err(DropReason::Geneve);
    }
    outer.entropy_port = u16::from_be_bytes([udp[0], udp[1]]);
    outer.vni = u32::from_be_bytes([0, geneve_head[4], geneve_head[5], geneve_head[6]]);
    outer.reserved = geneve_head[7];
    let options_length = usize::from(geneve_head[0] & GENEVE_OPTION_WORDS) * 4;
    let inner = geneve.get(GENEVE_LENGTH + options_length..).ok_or(DropReason::Malformed)?;
    match (geneve_head[1] & GENEVE_CONTROL != 0, outer.vni, outer.reserved) {
        (false, ..) => Ok(Handed::TooBig(outer, inner)),
        (true, 0, WAIT) => Ok(Handed::Waiting(Way::Outward(number_in(outer.source)), inner)),
        (true, 0, WAIT_INWARD) => Ok(Handed::Waiting(Way::Inward, inner)),
        (true, ..) => Err(DropReason::Geneve),
    }
}

/// The number that stands in the last four bytes of an address.
fn number_in(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(address) => address.to_bits(),
        IpAddr::V6(address) => address.to_bits() as u32,
    }
}

fn read_ipv4(packet: &[u8]) -> Option<(Outer, &[u8])> {
    let fixed: &[u8; 20] = packet.first_chunk()?;
    let address = |at: usize| Ipv4Addr::new(fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]);
    let is_plain = fixed[0] == 0x45 && fixed[9] == UDP;
    let outer = Outer {
        source: address(12).into(),
        destination: address(16).into(),
        traffic_class: fixed[1],
        hop_limit: fixed[8],
        flow_label: 0,
        ..Outer::BLANK
    };
    is_plain.then_some((outer, &packet[20..]))
}

fn read_ipv6(packet: &[u8]) -> Option<(Outer, &[u8])> {
    let fixed: &[u8; 40] = packet.first_chunk()?;
    let address = |at: usize| Ipv6Addr::from(std::array::from_fn::<u8, 16, _>(|index| fixed[at + index]));
    let first = u32::from_be_bytes([fixed[0], fixed[1], fixed[2], fixed[3]]);
    let is_plain = first >> 28 == 6 && fixed[6] == UDP;
    let outer = Outer {
        source: address(8).into(),
        destination: address(24).into(),
        traffic_class: (first >> 20) as u8,
        hop_limit: fixed[7],
        flow_label: first & 0xf_ffff,
        ..Outer::BLANK
    };
    is_plain.then_some((outer, &packet[40..]))
}

impl Outer {
    const BLANK: Self = Self {
        source: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        destination: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        traffic_class: 0,
        hop_limit: 64,
        flow_label: 0,
        entropy_port: 0,
        vni: 0,
        reserved: 0,
        wire_ifindex: 0,
    };

    /// A tunnel's headers as the programs write them: the flow label carries the entropy too (RFC 6438 §3).
    pub fn new(source: IpAddr, destination: IpAddr, entropy_port: u16) -> Self {
        let flow_label = if source.is_ipv6() { entropy_port.into() } else { 0 };
        Self { source, destination, entropy_port, flow_label, ..Self::BLANK }
    }

    /// The tunnel packet around an inner packet, from its outer IP header on. None: it would be longer than an IP packet
    /// can be, the addresses are of two families, or the inner packet is of neither.
    pub(super) fn around(&self, inner: &[u8]) -> Option<Vec<u8>> {
        let udp_length = u16::try_from(UDP_LENGTH + GENEVE_LENGTH + inner.len()).ok()?;
        let kind = match inner.first()? >> 4 {
            4 => ETHERTYPE_IPV4,
            6 => ETHERTYPE_IPV6,
            _ => return None,
        };
        let mut packet = match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => self.ipv4_header(source, destination, udp_length)?,
            (IpAddr::V6(source), IpAddr::V6(destination)) => self.ipv6_header(source, destination, udp_length),
            _ => return None,
        };
        packet.extend_from_slice(&self.entropy_port.to_be_bytes());
        packet.extend_from_slice(&GENEVE_PORT.to_be_bytes());
        packet.extend_from_slice(&udp_length.to_be_bytes());
        // No UDP checksum over IPv4 (RFC 768) nor over IPv6 (RFC 6935, 6936), as the programs do it.
        packet.extend_from_slice(&[0, 0, 0, 0]);
        packet.extend_from_slice(&kind.to_be_bytes());
        packet.extend_from_slice(&self.vni.to_be_bytes()[1..]);
        packet.push(self.reserved);
        packet.extend_from_slice(inner);
        Some(packet)
    }

    fn ipv4_header(&self, source: Ipv4Addr, destination: Ipv4Addr, udp_length: u16) -> Option<Vec<u8>> {
        let total_length = udp_length.checked_add(20)?;
        let mut header = vec![0x45, self.traffic_class];
        header.extend_from_slice(&total_length.to_be_bytes());
        header.extend_from_slice(&[0, 0]);
        header.extend_from_slice(&DONT_FRAGMENT);
        header.extend_from_slice(&[self.hop_limit, UDP, 0, 0]);
        header.extend_from_slice(&source.octets());
        header.extend_from_slice(&destination.octets());
        mend_checksum(&mut header, 20);
        Some(header)
    }

    fn ipv6_header(&self, source: Ipv6Addr, destination: Ipv6Addr, udp_length: u16) -> Vec<u8> {
        let first = 6 << 28 | u32::from(self.traffic_class) << 20 | (self.flow_label & 0xf_ffff);
        let mut header = first.to_be_bytes().to_vec();
        header.extend_from_slice(&udp_length.to_be_bytes());
        header.extend_from_slice(&[UDP, self.hop_limit]);
        header.extend_from_slice(&source.octets());
        header.extend_from_slice(&destination.octets());
        header
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::ip::tests::{ipv4_packet, ipv6_fragment};
    use super::*;

    fn outer(is_ipv6: bool) -> Outer {
        let (source, destination) = if is_ipv6 {
            ("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap())
        } else {
            ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap())
        };
        let flow_label = if is_ipv6 { 0xabcde } else { 0 };
        let (traffic_class, hop_limit, entropy_port, vni) = (0xb9, 61, 0xc123, 0x12_3456);
        Outer { source, destination, traffic_class, hop_limit, flow_label, entropy_port, vni, ..Outer::BLANK }
    }

    fn framed(packet: &[u8]) -> Vec<u8> {
        let kind = if packet[0] >> 4 == 4 { ETHERTYPE_IPV4 } else { ETHERTYPE_IPV6 };
        [&[0; 12][..], &kind.to_be_bytes(), packet].concat()
    }

    #[test]
    fn a_tunnel_packet_is_read_as_it_was_written() {
        for is_ipv6 in [false, true] {
            for inner in [ipv4_packet(&[], 1, 0, &[7; 100]), ipv6_fragment(1, 0, true, &[7; 100])] {
                let frame = framed(&outer(is_ipv6).around(&inner).unwrap());
                assert_eq!(parse(&frame), Ok(Handed::TooBig(outer(is_ipv6), &inner[..])));
            }
        }
    }

    #[test]
    fn waiting_fragments_tell_their_way() {
        let inner = ipv4_packet(&[], 1, 0x2001, &[7; 16]);
        for (source, is_ipv6) in [("0.0.1.44", false), ("::ffff:0.0.1.44", true)] {
            let mark = |reserved| {
                let source = source.parse().unwrap();
                let destination = outer(is_ipv6).destination;
                let mut frame =
                    framed(&Outer { source, destination, vni: 0, reserved, ..outer(is_ipv6) }.around(&inner).unwrap());
                let control_at = frame.len() - inner.len() - GENEVE_LENGTH + 1;
                frame[control_at] = GENEVE_CONTROL;
                frame
            };
            assert_eq!(parse(&mark(WAIT)), Ok(Handed::Waiting(Way::Outward(300), &inner[..])));
            assert_eq!(parse(&mark(WAIT_INWARD)), Ok(Handed::Waiting(Way::Inward, &inner[..])));
            assert_eq!(parse(&mark(9)), Err(DropReason::Geneve));
        }
    }

    #[test]
    fn a_packet_that_no_header_can_measure_is_not_written() {
        let inner = vec![0x45; 65_500];
        assert!(outer(false).around(&inner).is_none() && outer(true).around(&inner).is_some());
        assert!(outer(true).around(&[0x45; 65_530]).is_none());
        assert!(Outer { source: "fd00::1".parse().unwrap(), ..outer(false) }.around(&[0x45; 20]).is_none());
        assert!(outer(false).around(&[0x15; 20]).is_none());
    }

    proptest! {
        #[test]
        fn any_frame_is_read_without_harm(mut frame: Vec<u8>, cut: usize, is_ipv6: bool) {
            let _ = parse(&frame);
            let whole = framed(&outer(is_ipv6).around(&ipv4_packet(&[], 1, 0, &[7; 30])).unwrap());
            let _ = parse(&whole[..cut % whole.len()]);
            let at = frame.len().min(whole.len());
            frame[..at].copy_from_slice(&whole[..at]);
            let _ = parse(&frame);
        }
    }
}
