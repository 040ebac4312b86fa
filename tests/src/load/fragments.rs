//! Datagrams that a raw socket sends in fragments, in any order.

use std::net::{IpAddr, SocketAddr};

/// UDP's protocol number, and that of IPv6's fragment header.
const UDP: u8 = 17;
const FRAGMENT: u8 = 44;

/// More fragments follow.
const MORE_FRAGMENTS: u16 = 0x2000;

/// A UDP datagram between addresses of one family.
#[derive(Debug, Clone)]
pub struct Datagram {
    /// From where.
    pub source: SocketAddr,
    /// To where.
    pub destination: SocketAddr,
    /// The identification of its fragments; IPv4 has room for the low half.
    pub id: u32,
    /// What it carries.
    pub payload: Vec<u8>,
}

impl Datagram {
    /// Whole IP packets, each with at most `piece` bytes of the datagram, in order. `piece` is a multiple of eight.
    pub fn fragments(&self, piece: usize) -> Vec<Vec<u8>> {
        assert!(piece > 0 && piece.is_multiple_of(8), "offsets count eights of bytes");
        let datagram = self.udp();
        let last = (datagram.len() - 1) / piece;
        let pieces = datagram.chunks(piece).enumerate();
        pieces.map(|(index, bytes)| self.fragment(bytes, index * piece, index < last)).collect()
    }

    /// One IP packet, which is not fragmented.
    pub fn packet(&self) -> Vec<u8> {
        let datagram = self.udp();
        if self.source.is_ipv4() {
            return self.fragment(&datagram, 0, false);
        }
        let addresses = [octets(self.source.ip()), octets(self.destination.ip())].concat();
        let length = (datagram.len() as u16).to_be_bytes();
        [&[0x60, 0, 0, 0][..], &length, &[UDP, 64], &addresses, &datagram].concat()
    }

    fn udp(&self) -> Vec<u8> {
        let length = u16::try_from(8 + self.payload.len()).expect("a datagram of at most 65,535 bytes");
        let ports = [self.source.port(), self.destination.port(), length, 0].map(u16::to_be_bytes).concat();
        let mut datagram = [ports, self.payload.clone()].concat();
        let pseudo = [octets(self.source.ip()), octets(self.destination.ip())].concat();
        let rest = [[0, UDP], length.to_be_bytes()].concat();
        let sum = match checksum(&[&pseudo, &rest, &datagram]) {
            0 => u16::MAX, // zero says that there is none
            sum => sum,
        };
        datagram[6..8].copy_from_slice(&sum.to_be_bytes());
        datagram
    }

    fn fragment(&self, bytes: &[u8], offset: usize, has_more: bool) -> Vec<u8> {
        let addresses = [octets(self.source.ip()), octets(self.destination.ip())].concat();
        let length = |fixed: usize| ((fixed + bytes.len()) as u16).to_be_bytes();
        let header = if self.source.is_ipv4() {
            let flags = (offset / 8) as u16 | if has_more { MORE_FRAGMENTS } else { 0 };
            let id = (self.id as u16).to_be_bytes();
            let mut header =
                [&[0x45, 0][..], &length(20), &id, &flags.to_be_bytes(), &[64, UDP, 0, 0], &addresses].concat();
            let sum = checksum(&[&header]);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            header
        } else {
            let offset = (offset as u16 | u16::from(has_more)).to_be_bytes();
            let fragment = [&[UDP, 0][..], &offset, &self.id.to_be_bytes()].concat();
            [&[0x60, 0, 0, 0][..], &length(8), &[FRAGMENT, 64], &addresses, &fragment].concat()
        };
        [&header, bytes].concat()
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// The Internet checksum (RFC 1071) of parts that have even lengths but for the last.
fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let sum: u32 = words.map(|word| u32::from(word[0]) << 8 | word.get(1).copied().map_or(0, u32::from)).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fragments_hold_the_datagram_and_say_where() {
        let datagram = Datagram {
            source: "192.0.2.1:1".parse().unwrap(),
            destination: "192.0.2.2:2".parse().unwrap(),
            id: 0x1_0007,
            payload: vec![1; 20],
        };
        let fragments = datagram.fragments(16);
        assert_eq!(fragments.len(), 2);
        assert_eq!(fragments[0][2..8], [0, 36, 0, 7, 0x20, 0]);
        assert_eq!(fragments[1][2..8], [0, 32, 0, 7, 0, 2]);
        assert_eq!(fragments[0][20..28], [0, 1, 0, 2, 0, 28, 0x71, 0xa5]);
    }
}
