//! The tunnel: outer IPv4 or IPv6, UDP, Geneve without options (RFC 8926).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::wire::{complement, put, short, sum};

/// A tunnel frame's headers, and what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tunnel<'a> {
    /// Where from.
    pub source: IpAddr,
    /// Where to.
    pub destination: IpAddr,
    /// Outer type of service or traffic class.
    pub tos: u8,
    /// UDP source port.
    pub entropy_port: u16,
    /// The persona.
    pub vni: u32,
    /// Geneve's control bit.
    pub is_control: bool,
    /// The last byte of Geneve's base header.
    pub marker: u8,
    /// EtherType of the inner packet.
    pub kind: u16,
    /// The inner packet.
    pub inner: &'a [u8],
}

/// Reads a frame that must be a tunnel frame in every detail; an error says which is wrong. Ethernet's padding may follow.
pub fn read(frame: &[u8]) -> Result<Tunnel<'_>, String> {
    let check = |is_right: bool, what: &str| if is_right { Ok(()) } else { Err(format!("tunnel: {what}")) };
    let (source, destination, tos, udp_at, end) = match short(frame, 12) {
        0x0800 => {
            let ip = frame.get(14..34).ok_or("tunnel: no outer header")?;
            check(ip[0] == 0x45 && ip[9] == 17, "outer header isn't plain UDP over IPv4")?;
            let end = 14 + usize::from(short(ip, 2));
            check(sum(ip, 0) == 0xffff, "outer header checksum")?;
            let address = |at: usize| IpAddr::from(Ipv4Addr::new(ip[at], ip[at + 1], ip[at + 2], ip[at + 3]));
            (address(12), address(16), ip[1], 34, end)
        }
        0x86dd => {
            let ip = frame.get(14..54).ok_or("tunnel: no outer header")?;
            check(ip[0] >> 4 == 6 && ip[6] == 17, "outer header isn't plain UDP over IPv6")?;
            let end = 54 + usize::from(short(ip, 4));
            let address =
                |at: usize| IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(&ip[at..at + 16]).expect("sixteen")));
            (address(8), address(24), (short(ip, 0) >> 4) as u8, 54, end)
        }
        kind => return Err(format!("tunnel: EtherType {kind:04x}")),
    };
    check(end <= frame.len() && end >= udp_at + 16, "outer length")?;
    let geneve = frame.get(udp_at + 8..udp_at + 16).ok_or("tunnel: no Geneve header")?;
    check(short(frame, udp_at + 2) == 6081, "destination port")?;
    check(usize::from(short(frame, udp_at + 4)) == end - udp_at, "UDP length")?;
    check(short(frame, udp_at + 6) == 0, "UDP checksum isn't zero")?;
    check(geneve[0] == 0 && geneve[1] & 0x7f == 0, "Geneve version, options or flags")?;
    Ok(Tunnel {
        source,
        destination,
        tos,
        entropy_port: short(frame, udp_at),
        vni: u32::from_be_bytes([0, geneve[4], geneve[5], geneve[6]]),
        is_control: geneve[1] & 0x80 != 0,
        marker: geneve[7],
        kind: short(geneve, 2),
        inner: &frame[udp_at + 16..end],
    })
}

/// The same frame between others of the same family. Its UDP checksum is zero and stays so.
pub fn readdressed(frame: &[u8], source: IpAddr, destination: IpAddr) -> Vec<u8> {
    let mut out = frame.to_vec();
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            out[26..30].copy_from_slice(&source.octets());
            out[30..34].copy_from_slice(&destination.octets());
            put(&mut out, 24, 0);
            let checksum = complement(sum(&out[14..34], 0));
            put(&mut out, 24, checksum);
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            out[22..38].copy_from_slice(&source.octets());
            out[38..54].copy_from_slice(&destination.octets());
        }
        _ => {}
    }
    out
}

/// Reads a frame as far as a receiver must: whose lengths agree, whatever options, checksums and traffic class it has.
/// Nothing: not a tunnel frame, or one whose headers lie.
pub fn read_loosely(frame: &[u8]) -> Option<Tunnel<'_>> {
    let (source, destination, tos, udp_at, end) = match short(frame, 12) {
        0x0800 => {
            let ip = frame.get(14..34)?;
            let is_plain = ip[0] == 0x45 && ip[9] == 17 && short(ip, 6) & 0x3fff == 0;
            let address = |at: usize| IpAddr::from(Ipv4Addr::new(ip[at], ip[at + 1], ip[at + 2], ip[at + 3]));
            let end = 14 + usize::from(short(ip, 2));
            is_plain.then_some((address(12), address(16), ip[1], 34, end))?
        }
        0x86dd => {
            let ip = frame.get(14..54)?;
            let is_plain = ip[0] >> 4 == 6 && ip[6] == 17;
            let address =
                |at: usize| IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(&ip[at..at + 16]).expect("sixteen")));
            let end = 54 + usize::from(short(ip, 4));
            is_plain.then_some((address(8), address(24), (short(ip, 0) >> 4) as u8, 54, end))?
        }
        _ => return None,
    };
    let geneve = frame.get(udp_at + 8..udp_at + 16)?;
    let inner_at = udp_at + 16 + usize::from(geneve[0] & 0x3f) * 4;
    let lies = short(frame, udp_at + 2) != 6081
        || end > frame.len()
        || end < inner_at
        // What a batch's length doesn't fit into says 65,535.
        || !matches!(usize::from(short(frame, udp_at + 4)), length if length == end - udp_at || length == 0xffff)
        || geneve[0] >> 6 != 0
        || geneve[1] & 0x40 != 0;
    if lies {
        return None;
    }
    Some(Tunnel {
        source,
        destination,
        tos,
        entropy_port: short(frame, udp_at),
        vni: u32::from_be_bytes([0, geneve[4], geneve[5], geneve[6]]),
        is_control: geneve[1] & 0x80 != 0,
        marker: geneve[7],
        kind: short(geneve, 2),
        // The inner packet says itself how long it is; what the frame has beyond the outer's end may be of it.
        inner: &frame[inner_at..],
    })
}
