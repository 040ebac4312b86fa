//! IPv6 frames, and tunnel frames of either outer family, built from their fields with right lengths and checksums.

use std::net::{IpAddr, Ipv6Addr};

use super::frames::{Ip, checksum, ethernet};

pub(super) const HOP_BY_HOP: u8 = 0;
pub(super) const ROUTING: u8 = 43;
pub(super) const FRAGMENT: u8 = 44;
pub(super) const AUTHENTICATION: u8 = 51;
pub(super) const DESTINATION_OPTIONS: u8 = 60;

/// An IPv6 header's variable fields, and the extension headers behind it.
#[derive(Clone)]
pub(super) struct Ip6 {
    pub(super) source: Ipv6Addr,
    pub(super) destination: Ipv6Addr,
    pub(super) class: u8,
    pub(super) hop_limit: u8,
    /// Kind and bytes, but for the next header that each starts with.
    pub(super) extensions: Vec<(u8, Vec<u8>)>,
}

impl Ip6 {
    pub(super) fn new(source: Ipv6Addr, destination: Ipv6Addr) -> Self {
        Self { source, destination, class: 0, hop_limit: 64, extensions: Vec::new() }
    }

    /// With one more extension header.
    pub(super) fn with(mut self, kind: u8, rest: &[u8]) -> Self {
        self.extensions.push((kind, rest.to_vec()));
        self
    }

    /// With a fragment header: offset in bytes, whether more follow, id.
    pub(super) fn fragment(self, offset: u16, has_more: bool, id: u32) -> Self {
        let word = (offset | u16::from(has_more)).to_be_bytes();
        self.with(FRAGMENT, &[&[0], &word[..], &id.to_be_bytes()].concat())
    }

    pub(super) fn packet(&self, protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut kinds = self.extensions.iter().map(|(kind, _)| *kind).chain([protocol]);
        let next_header = kinds.next().unwrap();
        let mut body = Vec::new();
        for (_, rest) in &self.extensions {
            body.push(kinds.next().unwrap());
            body.extend(rest);
        }
        body.extend(payload);
        let mut packet = (6u32 << 28 | u32::from(self.class) << 20).to_be_bytes().to_vec();
        packet.extend((body.len() as u16).to_be_bytes());
        packet.extend([next_header, self.hop_limit]);
        packet.extend(self.source.octets());
        packet.extend(self.destination.octets());
        packet.extend(body);
        packet
    }

    /// The sum over the pseudo header.
    pub(super) fn pseudo_sum(&self, protocol: u8, length: usize) -> u32 {
        let words = |address: Ipv6Addr| address.segments().iter().map(|word| u32::from(*word)).sum::<u32>();
        words(self.source) + words(self.destination) + u32::from(protocol) + length as u32
    }

    pub(super) fn udp(&self, source: u16, destination: u16, payload: &[u8]) -> Vec<u8> {
        self.packet(17, &self.udp_datagram(source, destination, payload))
    }

    pub(super) fn udp_datagram(&self, source: u16, destination: u16, payload: &[u8]) -> Vec<u8> {
        let mut datagram = [source, destination, 8 + payload.len() as u16, 0].map(u16::to_be_bytes).concat();
        datagram.extend(payload);
        let sum = match checksum(&datagram, self.pseudo_sum(17, datagram.len())) {
            0 => 0xffff,
            sum => sum,
        };
        datagram[6..8].copy_from_slice(&sum.to_be_bytes());
        datagram
    }

    pub(super) fn tcp(&self, source: u16, destination: u16, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut segment = [source.to_be_bytes(), destination.to_be_bytes()].concat();
        segment.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x50, flags, 0x10, 0, 0, 0, 0, 0]);
        segment.extend(payload);
        let sum = checksum(&segment, self.pseudo_sum(6, segment.len()));
        segment[16..18].copy_from_slice(&sum.to_be_bytes());
        self.packet(6, &segment)
    }

    /// ICMPv6 with everything behind the checksum.
    pub(super) fn icmp(&self, kind: u8, code: u8, rest: &[u8]) -> Vec<u8> {
        let mut message = vec![kind, code, 0, 0];
        message.extend(rest);
        let sum = checksum(&message, self.pseudo_sum(58, message.len()));
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        self.packet(58, &message)
    }

    /// An echo request or reply.
    pub(super) fn echo(&self, kind: u8, id: u16) -> Vec<u8> {
        self.icmp(kind, 0, &[&id.to_be_bytes()[..], &[0, 1, b'p', b'i', b'n', b'g']].concat())
    }
}

/// A tunnel's headers.
#[derive(Clone)]
pub(super) struct Tunnel {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) port: u16,
    pub(super) vni: u32,
    pub(super) tos: u8,
    /// The last byte of Geneve's base header.
    pub(super) marker: u8,
    pub(super) is_control: bool,
    /// Geneve's options, a multiple of four bytes.
    pub(super) options: Vec<u8>,
}

impl Tunnel {
    pub(super) fn new(source: IpAddr, destination: IpAddr, vni: u32) -> Self {
        Self { source, destination, port: 50_000, vni, tos: 0, marker: 0, is_control: false, options: Vec::new() }
    }

    /// The EtherType in front.
    pub(super) fn kind(&self) -> u16 {
        if self.destination.is_ipv4() { 0x0800 } else { 0x86dd }
    }

    /// The outer packet around an inner one.
    pub(super) fn around(&self, inner: &[u8]) -> Vec<u8> {
        let kind: [u8; 2] = if inner[0] >> 4 == 4 { [8, 0] } else { [0x86, 0xdd] };
        let control = if self.is_control { 0x80 } else { 0 };
        let mut payload = vec![(self.options.len() / 4) as u8, control, kind[0], kind[1]];
        payload.extend(&self.vni.to_be_bytes()[1..]);
        payload.push(self.marker);
        payload.extend(&self.options);
        payload.extend(inner);
        let datagram = [self.port, 6081, 8 + payload.len() as u16, 0].map(u16::to_be_bytes).concat();
        let datagram = [datagram, payload].concat();
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                Ip { tos: self.tos, ..Ip::new(source, destination, 17) }.packet(&datagram)
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let ip = Ip6 { class: self.tos, ..Ip6::new(source, destination) };
                let mut packet = ip.packet(17, &datagram);
                let word = 6u32 << 28 | u32::from(self.tos) << 20 | u32::from(self.port);
                packet[..4].copy_from_slice(&word.to_be_bytes());
                packet
            }
            _ => panic!("a tunnel has both ends in one family"),
        }
    }

    /// The frame around an inner packet.
    pub(super) fn frame(&self, inner: &[u8]) -> Vec<u8> {
        ethernet(self.kind(), &self.around(inner))
    }
}
