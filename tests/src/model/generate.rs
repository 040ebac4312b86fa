//! Frames as workloads, servers and attackers make them: well-formed ones of every kind, and mutations of them.
//!
//! The same seed gives the same frames.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::packet::{ICMP, ICMPV6, Packet, TCP, UDP};
use super::wire::{complement, put, short, sum};

/// A generator of numbers: SplitMix64 (Steele, Lea, Flood 2014), a bijection with full avalanche.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The sequence of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.number() % bound.max(1) as u64) as usize
    }

    /// Whether something with this chance happens, per cent.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// One of several.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// What frames are about: addresses that mean something in the world that is tested.
#[derive(Debug, Clone)]
pub struct Places {
    /// Sources of the workloads, of both families, some of them wrong.
    pub sources: Vec<IpAddr>,
    /// Destinations: servers, near ones, our own pools, odd ones.
    pub destinations: Vec<IpAddr>,
    /// Inner ports; more than a lease has, so that ports run out.
    pub port_count: usize,
    /// Remote ports: of servers, and in the blocks of our own leases.
    pub remote_ports: Vec<u16>,
}

/// A packet of a workload, well formed but for what is said beside it.
pub fn packet(random: &mut Random, places: &Places) -> Vec<u8> {
    let source = random.pick(&places.sources);
    let same_family: Vec<IpAddr> =
        places.destinations.iter().copied().filter(|it| it.is_ipv4() == source.is_ipv4()).collect();
    let destination = random.pick(&same_family);
    let protocol = match (random.below(20), source.is_ipv4()) {
        (0..8, _) => TCP,
        (8..15, _) => UDP,
        (15..19, true) => ICMP,
        (15..19, false) => ICMPV6,
        (_, _) => random.pick(&[47, 50, 132, 0xfd]),
    };
    let ports = (2_000 + random.below(places.port_count) as u16, random.pick(&places.remote_ports));
    let payload_length = match random.below(10) {
        0 => 0,
        1..7 => random.below(64),
        7..9 => random.below(1_400),
        _ => 1_300 + random.below(400),
    };
    let payload: Vec<u8> = (0..payload_length).map(|at| at as u8).collect();
    let l4 = transport(random, protocol, (source, destination), ports, &payload);
    around(random, protocol, source, destination, &l4)
}

/// What a server may send back to the packet that reached it: a reply, an error about it, a fragment, or nothing like it.
pub fn reply(random: &mut Random, to: &[u8]) -> Option<Vec<u8>> {
    let packet = Packet::read(to).ok()?;
    let (source, destination) = (packet.destination, packet.source);
    if random.chance(15) && !packet.is_icmp_error(to) {
        return Some(error_about(random, to, &packet));
    }
    let payload: Vec<u8> = (0..random.below(300)).map(|at| at as u8 ^ 0x55).collect();
    let ports = (packet.destination_port, packet.source_port);
    let l4 = match packet.protocol {
        ICMP | ICMPV6 => echo(packet.protocol, (source, destination), false, packet.source_port, &payload),
        protocol => transport(random, protocol, (source, destination), ports, &payload),
    };
    Some(around(random, packet.protocol, source, destination, &l4))
}

/// A frame as the other side would send it: addresses and ports change places, which leaves every checksum right.
pub fn turned_around(frame: &[u8]) -> Vec<u8> {
    let mut turned = frame.to_vec();
    let (source_at, length, ports_at) = match short(frame, 12) {
        0x0800 if frame.len() >= 34 => (26, 4, 14 + usize::from(frame[14] & 15) * 4),
        0x86dd if frame.len() >= 54 => (22, 16, 54),
        _ => return turned,
    };
    let mut swap = |at: usize, length: usize| {
        if let Some(pair) = turned.get_mut(at..at + 2 * length) {
            pair.rotate_left(length);
        }
    };
    swap(source_at, length);
    swap(ports_at, 2);
    turned
}

/// An Ethernet frame around a packet.
pub fn frame(packet: &[u8], destination: [u8; 6], source: [u8; 6]) -> Vec<u8> {
    let kind: [u8; 2] = if packet.first().is_some_and(|first| first >> 4 == 6) { [0x86, 0xdd] } else { [8, 0] };
    [&destination[..], &source, &kind, packet].concat()
}

/// Breaks a frame: flips bytes, lies about lengths, cuts it, or makes it longer.
pub fn mutate(random: &mut Random, frame: &mut Vec<u8>) {
    for _ in 0..=random.below(3) {
        match random.below(8) {
            0 => frame.truncate(14 + random.below(frame.len().saturating_sub(13))),
            1 => frame.extend(std::iter::repeat_n(random.number() as u8, random.below(40))),
            // Mostly among the headers, where it hurts.
            2..6 => {
                let bound = if random.chance(80) { 110 } else { frame.len() };
                let at = random.below(frame.len().min(bound));
                frame[at] ^= 1 << random.below(8);
            }
            6 => {
                let at = random.below(frame.len().min(110));
                frame[at] = random.number() as u8;
            }
            _ => {
                let at = random.below(frame.len().min(110).saturating_sub(1).max(1));
                let value = random.pick(&[0, 1, 0x7fff, 0xffff, 0x8000, 20, 40]);
                put(frame, at, value);
            }
        }
    }
    // Newer kernels run no program on a frame that is shorter than its own header.
    let length_min = match short(frame, 12) {
        0x0800 => 14 + 20,
        0x86dd => 14 + 40,
        _ => 15,
    };
    frame.resize(frame.len().max(length_min), 0);
}

fn transport(
    random: &mut Random,
    protocol: u8,
    ends: (IpAddr, IpAddr),
    (source_port, destination_port): (u16, u16),
    payload: &[u8],
) -> Vec<u8> {
    let ports = [source_port.to_be_bytes(), destination_port.to_be_bytes()].concat();
    match protocol {
        TCP => {
            let flags = match random.below(10) {
                0..5 => 2,
                5..7 => 16,
                7 => 17,
                8 => 4,
                _ => random.pick(&[18, 0, 0x3f, 24]),
            };
            let options: &[u8] = random.pick(&[
                &[][..],
                &[2, 4, 5, 180],
                &[1, 2, 4, 5, 180, 1, 1, 1],
                &[2, 4, 0xff, 0xff, 4, 2, 1, 0],
                &[8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 2, 4, 35, 40, 1, 1],
                &[2, 3, 5, 1],
                // As Linux writes them; at an odd offset; twice, with one that lies about its length.
                &[2, 4, 5, 180, 4, 2, 8, 10, 0, 1, 2, 3, 0, 0, 0, 0, 1, 3, 3, 7],
                &[1, 8, 10, 9, 8, 7, 6, 5, 4, 3, 2, 2, 4, 5, 180, 0],
                &[8, 10, 1, 1, 1, 1, 1, 1, 1, 1, 8, 9, 2, 2, 2, 2, 2, 2, 2, 8, 10, 3, 3, 3, 3, 3, 3, 3, 3, 0, 8, 10],
            ]);
            let offset = (((20 + options.len()) / 4) << 4) as u8;
            let fixed = [0, 0, 0, 1, 0, 0, 0, 2, offset, flags, 0x10, 0, 0, 0, 0, 0];
            summed([&ports[..], &fixed, options, payload].concat(), 16, protocol, ends)
        }
        UDP => {
            let length = (8 + payload.len() as u16).to_be_bytes();
            let bytes = [&ports[..], &length, &[0, 0], payload].concat();
            if ends.0.is_ipv4() && random.chance(20) { bytes } else { summed(bytes, 6, protocol, ends) }
        }
        ICMP | ICMPV6 => {
            let is_request = random.chance(85);
            let bytes = echo(protocol, ends, is_request, source_port, payload);
            if !random.chance(15) {
                return bytes;
            }
            // An error about something that the workload might have received.
            let embedded = embedded_towards(random, ends, source_port);
            icmp(
                protocol,
                ends,
                random.pick(&[3, 11, 12, 1, 2, 4, 5]),
                random.pick(&[0, 3, 4]),
                [0, 0, 5, 100],
                &embedded,
            )
        }
        _ => payload.to_vec(),
    }
}

/// The headers of a packet that came from `ends.1` to `ends.0`, as an error quotes them.
fn embedded_towards(random: &mut Random, ends: (IpAddr, IpAddr), port: u16) -> Vec<u8> {
    let protocol = random.pick(&[TCP, UDP]);
    let ports = [random.pick(&[53u16, 80, 443]).to_be_bytes(), port.to_be_bytes()].concat();
    let l4 = summed([&ports[..], &[0, 20, 0, 0], &[7; 12]].concat(), 6, protocol, (ends.1, ends.0));
    around(&mut Random::new(0), protocol, ends.1, ends.0, &l4)
}

fn echo(protocol: u8, ends: (IpAddr, IpAddr), is_request: bool, id: u16, payload: &[u8]) -> Vec<u8> {
    let kind = match (protocol, is_request) {
        (ICMP, true) => 8,
        (ICMP, false) => 0,
        (_, true) => 128,
        (_, false) => 129,
    };
    let id = id.to_be_bytes();
    icmp(protocol, ends, kind, 0, [id[0], id[1], 0, 1], payload)
}

fn icmp(protocol: u8, ends: (IpAddr, IpAddr), kind: u8, code: u8, rest: [u8; 4], payload: &[u8]) -> Vec<u8> {
    summed([&[kind, code, 0, 0][..], &rest, payload].concat(), 2, protocol, ends)
}

fn summed(mut bytes: Vec<u8>, checksum_at: usize, protocol: u8, ends: (IpAddr, IpAddr)) -> Vec<u8> {
    let start = if protocol == ICMP { 0 } else { pseudo_sum(protocol, ends, bytes.len()) };
    put(&mut bytes, checksum_at, 0);
    let checksum = match complement(sum(&bytes, start)) {
        0 if protocol == UDP => 0xffff,
        checksum => checksum,
    };
    put(&mut bytes, checksum_at, checksum);
    bytes
}

fn pseudo_sum(protocol: u8, (source, destination): (IpAddr, IpAddr), length: usize) -> u32 {
    let as_packet = Packet {
        source,
        destination,
        l4_at: 0,
        length: 0,
        protocol,
        part: super::packet::Part::Whole,
        source_port: 0,
        destination_port: 0,
    };
    as_packet.pseudo_sum(length)
}

/// The IP header around an L4 packet, now and then with options, extension headers or a fragment's marks.
fn around(random: &mut Random, protocol: u8, source: IpAddr, destination: IpAddr, l4: &[u8]) -> Vec<u8> {
    let tos = random.pick(&[0, 0, 0, 0xb8, 1, 2, 3]);
    let ttl = random.pick(&[64, 64, 64, 64, 64, 128, 2, 1, 0]);
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            around_v4(random, protocol, (source, destination), (tos, ttl), l4)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            around_v6(random, protocol, (source, destination), (tos, ttl), l4)
        }
        _ => Vec::new(),
    }
}

fn around_v4(
    random: &mut Random,
    protocol: u8,
    (source, destination): (Ipv4Addr, Ipv4Addr),
    (tos, ttl): (u8, u8),
    l4: &[u8],
) -> Vec<u8> {
    let options: &[u8] = if random.chance(90) {
        &[]
    } else {
        random.pick(&[
            &[1, 1, 1, 0][..],
            &[7, 7, 4, 0, 0, 0, 0, 0],
            &[148, 4, 0, 0],
            &[131, 7, 4, 1, 2, 3, 4, 0],
            &[68, 40, 5, 0],
        ])
    };
    // Whole with or without DF, first fragment, later fragment, last fragment.
    let fragment: u16 = random.pick(&[0x4000, 0x4000, 0x4000, 0x4000, 0, 0, 0x2000, 0x2010, 0x0010, 0x2001]);
    let id = random.below(64) as u16;
    let header_length = 20 + options.len();
    let length = (header_length + l4.len()) as u16;
    let mut bytes = vec![0x40 | (header_length / 4) as u8, tos];
    bytes.extend([length, id, fragment].map(u16::to_be_bytes).concat());
    bytes.extend([ttl, protocol, 0, 0]);
    bytes.extend(source.octets());
    bytes.extend(destination.octets());
    bytes.extend(options);
    let checksum = complement(sum(&bytes, 0));
    put(&mut bytes, 10, checksum);
    bytes.extend(l4);
    bytes
}

fn around_v6(
    random: &mut Random,
    protocol: u8,
    (source, destination): (Ipv6Addr, Ipv6Addr),
    (tos, ttl): (u8, u8),
    l4: &[u8],
) -> Vec<u8> {
    let mut headers: Vec<(u8, Vec<u8>)> = Vec::new();
    while random.chance(12) && headers.len() < 10 {
        headers.push(match random.below(6) {
            0 => (0, vec![0, 0, 1, 4, 0, 0, 0, 0]),
            1 => (60, vec![0, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            2 => (43, vec![0, 0, 2, 0, 0, 0, 0, 0]),
            3 => (43, vec![0, 0, 0, 0, 0, 0, 0, 0]),
            4 => (44, vec![0, 0, 0, random.pick(&[0, 1]), 0, 0, 0, random.below(64) as u8]),
            _ => (44, vec![0, 0, 0, random.pick(&[8, 9]), 0, 0, 0, random.below(64) as u8]),
        });
    }
    let kinds: Vec<u8> = headers.iter().map(|(kind, _)| *kind).chain([protocol]).collect();
    let mut body = Vec::new();
    for (index, (_, mut header)) in headers.into_iter().enumerate() {
        header[0] = kinds[index + 1];
        body.extend(header);
    }
    body.extend(l4);
    let mut bytes = (6u32 << 28 | u32::from(tos) << 20 | random.below(1 << 20) as u32).to_be_bytes().to_vec();
    bytes.extend((body.len() as u16).to_be_bytes());
    bytes.extend([kinds[0], ttl]);
    bytes.extend(source.octets());
    bytes.extend(destination.octets());
    bytes.extend(body);
    bytes
}

/// An error from the server or a router on the way, about a packet that left.
fn error_about(random: &mut Random, about: &[u8], packet: &Packet) -> Vec<u8> {
    let is_ipv4 = packet.source.is_ipv4();
    let from = match (random.chance(50), packet.destination) {
        (true, destination) => destination,
        (false, IpAddr::V4(_)) => Ipv4Addr::new(198, 51, 100, 1).into(),
        (false, IpAddr::V6(_)) => "2001:db8:ffff::1".parse().expect("an address"),
    };
    let quoted = &about[..about.len().min(if is_ipv4 { 28 + random.below(40) } else { 48 + random.below(200) })];
    let ends = (from, packet.source);
    let (protocol, kind) =
        if is_ipv4 { (ICMP, random.pick(&[3, 11, 12])) } else { (ICMPV6, random.pick(&[1, 2, 3, 4])) };
    let code = if kind == 3 && is_ipv4 { random.pick(&[1, 3, 4]) } else { 0 };
    let l4 = icmp(protocol, ends, kind, code, [0, 0, 5, 0], quoted);
    around(&mut Random::new(random.number() | 1), protocol, from, packet.source, &l4)
}

/// The Ethernet addresses of a frame, both.
pub fn macs(frame: &[u8]) -> ([u8; 6], [u8; 6]) {
    let six = |at: usize| frame[at..at + 6].try_into().expect("a frame has them");
    (six(0), six(6))
}

/// The length that an IP packet's header says, if it has one.
pub fn stated_length(packet: &[u8]) -> usize {
    match packet.first().map(|first| first >> 4) {
        Some(4) => usize::from(short(packet, 2)),
        Some(6) => 40 + usize::from(short(packet, 4)),
        _ => 0,
    }
}
