//! IPv6 packets, and tunnels of either outer family, built from their fields with right lengths and checksums.

use std::net::{IpAddr, Ipv6Addr};

use super::frames::{Ip, checksum};

/// An IPv6 header's variable fields.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ip6 {
    pub(super) source: Ipv6Addr,
    pub(super) destination: Ipv6Addr,
    pub(super) hop_limit: u8,
    pub(super) class: u8,
}

/// Next headers.
pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
pub(super) const ICMPV6: u8 = 58;

impl Ip6 {
    pub(super) fn new(source: Ipv6Addr, destination: Ipv6Addr) -> Self {
        Self { source, destination, hop_limit: 64, class: 0 }
    }

    /// A packet whose payload starts with a header of kind `next`.
    pub(super) fn packet(self, next: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = (6u32 << 28 | u32::from(self.class) << 20 | 0x1_2345).to_be_bytes().to_vec();
        packet.extend((payload.len() as u16).to_be_bytes());
        packet.extend([next, self.hop_limit]);
        packet.extend(self.source.octets());
        packet.extend(self.destination.octets());
        packet.extend(payload);
        packet
    }

    /// An L4 packet with its checksum at `at`; `first` names the extension headers in front of it.
    fn summed(self, protocol: u8, mut l4: Vec<u8>, at: usize, extensions: &Extensions) -> Vec<u8> {
        let sum = match checksum(&l4, self.pseudo_sum(protocol, l4.len())) {
            0 => 0xffff,
            sum => sum,
        };
        l4[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        let (first, mut payload) = extensions.before(protocol);
        payload.extend(l4);
        self.packet(first, &payload)
    }

    fn pseudo_sum(self, protocol: u8, length: usize) -> u32 {
        let words = |address: Ipv6Addr| address.segments().map(u32::from).iter().sum::<u32>();
        words(self.source) + words(self.destination) + u32::from(protocol) + length as u32
    }

    pub(super) fn udp(self, source: u16, destination: u16, payload: &[u8]) -> Vec<u8> {
        self.udp_behind(&Extensions::default(), source, destination, payload)
    }

    pub(super) fn udp_behind(self, extensions: &Extensions, source: u16, destination: u16, payload: &[u8]) -> Vec<u8> {
        let mut datagram = [source, destination, 8 + payload.len() as u16, 0].map(u16::to_be_bytes).concat();
        datagram.extend(payload);
        self.summed(UDP, datagram, 6, extensions)
    }

    /// TCP with options, whose length is a multiple of four.
    pub(super) fn tcp(self, source: u16, destination: u16, flags: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
        let mut segment = [source.to_be_bytes(), destination.to_be_bytes()].concat();
        segment.extend([0, 0, 0, 1, 0, 0, 0, 2, (((20 + options.len()) / 4) << 4) as u8, flags, 0x10, 0, 0, 0, 0, 0]);
        segment.extend(options);
        segment.extend(payload);
        self.summed(TCP, segment, 16, &Extensions::default())
    }

    /// ICMPv6 with an id.
    pub(super) fn echo(self, kind: u8, id: u16) -> Vec<u8> {
        self.icmp(kind, 0, &[&id.to_be_bytes()[..], &[0, 1, b'p', b'i', b'n', b'g']].concat())
    }

    /// ICMPv6 with everything behind its checksum.
    pub(super) fn icmp(self, kind: u8, code: u8, rest: &[u8]) -> Vec<u8> {
        let message = [&[kind, code, 0, 0], rest].concat();
        self.summed(ICMPV6, message, 2, &Extensions::default())
    }

    /// An ICMPv6 error about a packet.
    pub(super) fn error(self, kind: u8, parameter: u32, about: &[u8]) -> Vec<u8> {
        self.icmp(kind, 0, &[&parameter.to_be_bytes()[..], about].concat())
    }

    /// Cuts the payload that `packet` has behind its fixed header into two fragments, the first of `first_length` bytes.
    pub(super) fn fragments(self, packet: &[u8], first_length: usize, id: u32) -> [Vec<u8>; 2] {
        let (protocol, payload) = (packet[6], &packet[40..]);
        let (first, later) = payload.split_at(first_length);
        [(0u16, 1u16, first), (first_length as u16, 0, later)].map(|(offset, more, data)| {
            let mut part = vec![protocol, 0];
            part.extend((offset | more).to_be_bytes());
            part.extend(id.to_be_bytes());
            part.extend(data);
            self.packet(FRAGMENT, &part)
        })
    }
}

/// Kinds of extension headers.
pub(super) const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
pub(super) const OPTIONS: u8 = 60;

/// Extension headers, each of a kind with all its bytes but the first.
#[derive(Debug, Clone, Default)]
pub(super) struct Extensions(Vec<(u8, Vec<u8>)>);

impl Extensions {
    /// Options headers of `length` bytes, a multiple of eight.
    pub(super) fn options(mut self, kind: u8, length: usize) -> Self {
        let mut rest = vec![(length / 8 - 1) as u8, 1, (length - 4) as u8];
        rest.resize(length - 1, 0);
        self.0.push((kind, rest));
        self
    }

    /// A routing header of a type.
    pub(super) fn routing(mut self, kind: u8) -> Self {
        self.0.push((ROUTING, vec![0, kind, 0, 0, 0, 0, 0]));
        self
    }

    /// An authentication header with a check value of twelve bytes.
    pub(super) fn authentication(mut self) -> Self {
        let mut rest = vec![4];
        rest.resize(23, 7);
        self.0.push((AUTHENTICATION, rest));
        self
    }

    /// The kind of the first header, and the bytes of all in front of `protocol`.
    fn before(&self, protocol: u8) -> (u8, Vec<u8>) {
        let mut bytes = Vec::new();
        let mut next = protocol;
        for (kind, rest) in self.0.iter().rev() {
            bytes.splice(..0, std::iter::once(next).chain(rest.iter().copied()));
            next = *kind;
        }
        (next, bytes)
    }
}

/// A tunnel packet of either outer family around an inner one of either.
pub(super) fn tunnel(source: IpAddr, destination: IpAddr, entropy_port: u16, vni: u32, inner: &[u8]) -> Vec<u8> {
    let (kind, class) = match inner[0] >> 4 {
        4 => (0x0800u16, inner[1]),
        _ => (0x86dd, inner[0] << 4 | inner[1] >> 4),
    };
    let mut geneve = vec![0, 0];
    geneve.extend(kind.to_be_bytes());
    geneve.extend(&vni.to_be_bytes()[1..]);
    geneve.push(0);
    geneve.extend(inner);
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            Ip { tos: class, ..Ip::new(source, destination, UDP) }.udp_unsummed(entropy_port, 6081, &geneve)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let mut datagram = [entropy_port, 6081, 8 + geneve.len() as u16, 0].map(u16::to_be_bytes).concat();
            datagram.extend(&geneve);
            let mut packet = Ip6 { class, ..Ip6::new(source, destination) }.packet(UDP, &datagram);
            // The flow label carries the entropy.
            packet[..4].copy_from_slice(&(6u32 << 28 | u32::from(class) << 20 | u32::from(entropy_port)).to_be_bytes());
            packet
        }
        _ => panic!("a tunnel's ends are of one family"),
    }
}

/// The EtherType of a packet.
pub(super) fn kind_of(packet: &[u8]) -> u16 {
    if packet[0] >> 4 == 4 { 0x0800 } else { 0x86dd }
}
