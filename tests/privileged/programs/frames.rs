//! Frames, built from their fields with right lengths and checksums.

use std::net::Ipv4Addr;

pub(super) const MAC_A: [u8; 6] = [2, 0, 0, 0, 0, 0xa];
pub(super) const MAC_B: [u8; 6] = [2, 0, 0, 0, 0, 0xb];

/// From A to B.
pub(super) fn ethernet(kind: u16, payload: &[u8]) -> Vec<u8> {
    [&MAC_B[..], &MAC_A, &kind.to_be_bytes(), payload].concat()
}

/// An IPv4 header's variable fields.
#[derive(Clone, Copy)]
pub(super) struct Ip {
    pub(super) source: Ipv4Addr,
    pub(super) destination: Ipv4Addr,
    pub(super) protocol: u8,
    pub(super) ttl: u8,
    pub(super) tos: u8,
    pub(super) dont_fragment: bool,
}

impl Ip {
    pub(super) fn new(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8) -> Self {
        Self { source, destination, protocol, ttl: 64, tos: 0, dont_fragment: true }
    }

    pub(super) fn packet(self, payload: &[u8]) -> Vec<u8> {
        let length = 20 + payload.len() as u16;
        let mut header = vec![0x45, self.tos];
        header.extend(length.to_be_bytes());
        header.extend([0, 0, if self.dont_fragment { 0x40 } else { 0 }, 0, self.ttl, self.protocol, 0, 0]);
        header.extend(self.source.octets());
        header.extend(self.destination.octets());
        let sum = checksum(&header, 0);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        header.extend(payload);
        header
    }

    fn pseudo_sum(self, length: usize) -> u32 {
        let words = |address: Ipv4Addr| {
            let long = u32::from(address);
            (long >> 16) + (long & 0xffff)
        };
        words(self.source) + words(self.destination) + u32::from(self.protocol) + length as u32
    }

    /// UDP with its checksum.
    pub(super) fn udp(self, source: u16, destination: u16, payload: &[u8]) -> Vec<u8> {
        let mut datagram = udp_header(source, destination, payload);
        let sum = match checksum(&datagram, self.pseudo_sum(datagram.len())) {
            0 => 0xffff,
            sum => sum,
        };
        datagram[6..8].copy_from_slice(&sum.to_be_bytes());
        self.packet(&datagram)
    }

    /// UDP without a checksum.
    pub(super) fn udp_unsummed(self, source: u16, destination: u16, payload: &[u8]) -> Vec<u8> {
        self.packet(&udp_header(source, destination, payload))
    }

    /// TCP with options, whose length is a multiple of four.
    pub(super) fn tcp(self, source: u16, destination: u16, flags: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
        let mut segment = [source.to_be_bytes(), destination.to_be_bytes()].concat();
        segment.extend([0, 0, 0, 1, 0, 0, 0, 2, (((20 + options.len()) / 4) << 4) as u8, flags, 0x10, 0, 0, 0, 0, 0]);
        segment.extend(options);
        segment.extend(payload);
        let sum = checksum(&segment, self.pseudo_sum(segment.len()));
        segment[16..18].copy_from_slice(&sum.to_be_bytes());
        self.packet(&segment)
    }

    /// ICMP with an id.
    pub(super) fn icmp(self, kind: u8, id: u16) -> Vec<u8> {
        let mut message = vec![kind, 0, 0, 0];
        message.extend(id.to_be_bytes());
        message.extend([0, 1, b'p', b'i', b'n', b'g']);
        let sum = checksum(&message, 0);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        self.packet(&message)
    }
}

fn udp_header(source: u16, destination: u16, payload: &[u8]) -> Vec<u8> {
    let length = 8 + payload.len() as u16;
    let mut datagram = [source, destination, length, 0].map(u16::to_be_bytes).concat();
    datagram.extend(payload);
    datagram
}

/// A tunnel packet around an inner one: outer IPv4 packet, UDP without a checksum, Geneve.
pub(super) fn geneve(source: Ipv4Addr, destination: Ipv4Addr, entropy_port: u16, vni: u32, inner: &[u8]) -> Vec<u8> {
    let mut payload = vec![0, 0, 0x08, 0];
    payload.extend(&vni.to_be_bytes()[1..]);
    payload.push(0);
    payload.extend(inner);
    Ip { tos: inner[1], ..Ip::new(source, destination, 17) }.udp_unsummed(entropy_port, 6081, &payload)
}

/// The Internet checksum, starting from `sum`.
pub(super) fn checksum(bytes: &[u8], sum: u32) -> u16 {
    let mut sum = bytes
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)])))
        .sum::<u32>()
        + sum;
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
