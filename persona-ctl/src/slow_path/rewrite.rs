//! What becomes of a fragment on its way: other addresses, another identification, one hop less, a right header checksum.
//!
//! Pure. Only IP headers are touched: later fragments hold nothing of the layer above that could be mended.

use std::net::IpAddr;

use persona_common::drop::DropReason;

use super::ip::{Ipv4Header, mend_checksum};

/// The lower two bits of a traffic class (RFC 3168).
const ECN_MASK: u8 = 3;

/// What to change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rewrite {
    /// Another source of the packet's own family.
    pub source: Option<IpAddr>,
    /// Another destination of the packet's own family.
    pub destination: Option<IpAddr>,
    /// IPv4: another identification.
    pub id: Option<u16>,
    /// Another DSCP, 0 to 63; ECN is kept.
    pub dscp: Option<u8>,
    /// What becomes of the hops that it has left.
    pub hops: Hops,
    /// IPv6: whether it goes on without a flow label.
    pub clears_flow_label: bool,
}

/// What becomes of the hops that a packet has left (TTL, hop limit). One that has none left is refused either way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Hops {
    /// They stay.
    #[default]
    Keep,
    /// One less.
    Count,
    /// So many, however many there were.
    Become(u8),
}

impl Rewrite {
    /// Changes the packet in place.
    pub(super) fn apply(&self, packet: &mut [u8]) -> Result<(), DropReason> {
        match packet.first().map(|first| first >> 4) {
            Some(4) => self.apply_ipv4(packet),
            Some(6) if packet.len() >= 40 => self.apply_ipv6(packet),
            _ => Err(DropReason::Malformed),
        }
    }

    fn apply_ipv4(&self, packet: &mut [u8]) -> Result<(), DropReason> {
        let header = Ipv4Header::read(packet).ok_or(DropReason::Malformed)?;
        self.count_hop(&mut packet[8])?;
        if let Some(dscp) = self.dscp {
            packet[1] = dscp << 2 | (packet[1] & ECN_MASK);
        }
        if let Some(id) = self.id {
            packet[4..6].copy_from_slice(&id.to_be_bytes());
        }
        for (address, at) in [(self.source, 12), (self.destination, 16)] {
            match address {
                Some(IpAddr::V4(address)) => packet[at..at + 4].copy_from_slice(&address.octets()),
                Some(IpAddr::V6(_)) => return Err(DropReason::Malformed),
                None => {}
            }
        }
        mend_checksum(packet, header.header_length);
        Ok(())
    }

    fn apply_ipv6(&self, packet: &mut [u8]) -> Result<(), DropReason> {
        self.count_hop(&mut packet[7])?;
        if let Some(dscp) = self.dscp {
            let class = traffic_class(packet);
            let class = dscp << 2 | (class & ECN_MASK);
            packet[0] = packet[0] & 0xf0 | class >> 4;
            packet[1] = packet[1] & 0x0f | class << 4;
        }
        if self.clears_flow_label {
            packet[1] &= 0xf0;
            packet[2..4].fill(0);
        }
        for (address, at) in [(self.source, 8), (self.destination, 24)] {
            match address {
                Some(IpAddr::V6(address)) => packet[at..at + 16].copy_from_slice(&address.octets()),
                Some(IpAddr::V4(_)) => return Err(DropReason::Malformed),
                None => {}
            }
        }
        Ok(())
    }

    fn count_hop(&self, hops: &mut u8) -> Result<(), DropReason> {
        *hops = match self.hops {
            Hops::Keep => *hops,
            Hops::Count | Hops::Become(_) if *hops <= 1 => return Err(DropReason::TtlExpired),
            Hops::Count => *hops - 1,
            Hops::Become(hops) => hops,
        };
        Ok(())
    }
}

/// DSCP and ECN of a packet of either family with at least two bytes.
pub(super) fn traffic_class(packet: &[u8]) -> u8 {
    if packet[0] >> 4 == 4 { packet[1] } else { packet[0] << 4 | packet[1] >> 4 }
}

#[cfg(test)]
mod tests {
    use super::super::ip::header_checksum;
    use super::super::ip::tests::{ipv4_packet, ipv6_fragment};
    use super::*;

    fn rewrite(source: &str, destination: &str) -> Rewrite {
        Rewrite {
            source: Some(source.parse().unwrap()),
            destination: Some(destination.parse().unwrap()),
            id: Some(0x1234),
            dscp: Some(46),
            hops: Hops::Count,
            clears_flow_label: false,
        }
    }

    #[test]
    fn an_ipv4_fragment_gets_its_new_header() {
        let mut packet = ipv4_packet(&[1, 1, 1, 0], 7, 0x2001, &[9; 16]);
        rewrite("192.0.2.1", "192.0.2.2").apply(&mut packet).unwrap();
        let header = Ipv4Header::read(&packet).unwrap();
        assert_eq!(header.source.to_string() + " " + &header.destination.to_string(), "192.0.2.1 192.0.2.2");
        assert_eq!((header.id, packet[1], packet[8]), (0x1234, 46 << 2 | 1, 63));
        assert_eq!(header_checksum(&packet[..24]), [0, 0]);
        assert_eq!(packet[24..], [9; 16], "the payload is not touched");
    }

    #[test]
    fn an_ipv6_fragment_gets_its_new_header() {
        let mut packet = ipv6_fragment(7, 8, true, &[9; 16]);
        packet[1] = 0x2a;
        rewrite("2001:db8::5", "2001:db8::6").apply(&mut packet).unwrap();
        assert_eq!(packet[8..24], "2001:db8::5".parse::<std::net::Ipv6Addr>().unwrap().octets());
        assert_eq!((traffic_class(&packet), packet[1] & 15, packet[7]), (46 << 2 | 2, 0xa, 63));
        assert_eq!(packet[56..], [9; 16]);
    }

    #[test]
    fn what_betrays_a_host_is_hidden() {
        let hiding = |rewrite: Rewrite| Rewrite { hops: Hops::Become(65), clears_flow_label: true, ..rewrite };
        let mut ipv4 = ipv4_packet(&[1, 1, 1, 0], 7, 0x2001, &[9; 16]);
        hiding(rewrite("192.0.2.1", "192.0.2.2")).apply(&mut ipv4).unwrap();
        assert_eq!((ipv4[8], header_checksum(&ipv4[..24])), (65, [0, 0]));
        let mut ipv6 = ipv6_fragment(7, 8, true, &[9; 16]);
        ipv6[1..4].copy_from_slice(&[0x2a, 0xbc, 0xde]);
        hiding(rewrite("2001:db8::5", "2001:db8::6")).apply(&mut ipv6).unwrap();
        assert_eq!((traffic_class(&ipv6), ipv6[1] & 15, &ipv6[2..4], ipv6[7]), (46 << 2 | 2, 0, &[0, 0][..], 65));
    }

    #[test]
    fn what_cannot_go_on_is_refused_with_its_reason() {
        let mut last_hop = ipv4_packet(&[], 7, 0x2001, &[9; 16]);
        last_hop[8] = 1;
        let family = rewrite("2001:db8::5", "2001:db8::6");
        let cases = [
            ("the last hop", last_hop.clone(), rewrite("192.0.2.1", "192.0.2.2"), Err(DropReason::TtlExpired)),
            ("the other family", ipv4_packet(&[], 7, 1, &[9; 16]), family, Err(DropReason::Malformed)),
            ("half a header", vec![0x60; 39], family, Err(DropReason::Malformed)),
            (
                "the last hop, hidden",
                last_hop.clone(),
                Rewrite { hops: Hops::Become(65), ..Rewrite::default() },
                Err(DropReason::TtlExpired),
            ),
            ("no hop is counted", last_hop, Rewrite::default(), Ok(())),
        ];
        for (what, mut packet, rewrite, expected) in cases {
            assert_eq!(rewrite.apply(&mut packet), expected, "{what}");
        }
    }
}
