//! What lies in a packet alone: what it must be refused for, whose business it is, which ends it has.

use std::net::{IpAddr, Ipv6Addr};

use persona_common::drop::DropReason;

use super::packet::{ICMP, ICMPV6, Packet, Part, TCP, UDP};
use super::rewrite::End;
use super::wire::short;

/// Which way a packet goes, seen from the workload.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Outward,
    Inward,
}

pub(super) fn address_at(bytes: &[u8], is_ipv6: bool, at: usize) -> IpAddr {
    if is_ipv6 {
        Ipv6Addr::from(<[u8; 16]>::try_from(&bytes[at..at + 16]).expect("sixteen")).into()
    } else {
        IpAddr::from(<[u8; 4]>::try_from(&bytes[at..at + 4]).expect("four"))
    }
}

pub(super) fn covers(prefixes: &[(IpAddr, u8)], address: IpAddr) -> bool {
    prefixes.iter().any(|(prefix, length)| match (prefix, address) {
        (IpAddr::V4(prefix), IpAddr::V4(address)) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(*length)).unwrap_or(0);
            prefix.to_bits() & mask == address.to_bits() & mask
        }
        (IpAddr::V6(prefix), IpAddr::V6(address)) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(*length)).unwrap_or(0);
            prefix.to_bits() & mask == address.to_bits() & mask
        }
        _ => false,
    })
}

/// Multicast, limited broadcast, link-local; DHCP and neighbour discovery towards the host's own neighbourhood.
pub(super) fn is_link_business(bytes: &[u8], is_ipv6: bool, near: &[(IpAddr, u8)]) -> bool {
    let is_near = covers(near, address_at(bytes, is_ipv6, if is_ipv6 { 24 } else { 16 }));
    let is_link_local = |at: usize| bytes[at] == 0xfe && bytes[at + 1] & 0xc0 == 0x80;
    if is_ipv6 {
        let is_discovery = bytes[6] == ICMPV6 && bytes.get(40).is_some_and(|kind| (133..=137).contains(kind));
        return bytes[24] == 0xff || is_link_local(24) || is_link_local(8) || (is_discovery && is_near);
    }
    let is_dhcp =
        bytes[0] == 0x45 && bytes[9] == UDP && bytes.len() >= 28 && (short(bytes, 20), short(bytes, 22)) == (68, 67);
    let is_everybody = bytes[16] & 0xf0 == 224 || bytes[16..20] == [255; 4];
    is_everybody || (bytes[16] == 169 && bytes[17] == 254) || (is_dhcp && is_near)
}

/// Reasons that lie in the packet alone.
pub(super) fn shape_refusals(packet: &Packet, bytes: &[u8], way: Way) -> Vec<u32> {
    let mut refusals = Vec::new();
    let mut refuse = |reason: DropReason| refusals.push(reason as u32);
    let l4_length = packet.length - packet.l4_at.min(packet.length);
    if packet.source.is_ipv4() {
        option_refusals(&bytes[20..packet.l4_at], &mut refuse);
    } else {
        refuse_headers(packet, bytes, &mut refuse);
    }
    if packet.part != Part::Whole {
        fragment_refusals(packet, bytes, l4_length, &mut refuse);
    }
    if packet.part == Part::Later {
        return refusals;
    }
    let l4 = &bytes[packet.l4_at.min(packet.length)..packet.length];
    match packet.protocol {
        TCP => {
            let header_length = usize::from(l4.get(12).copied().unwrap_or(0) >> 4) * 4;
            if l4.len() < 20 || header_length < 20 || header_length > l4.len() {
                refuse(DropReason::Malformed);
                refuse(DropReason::Fragment);
            }
        }
        UDP => {
            let udp_length = usize::from(short(l4, 4));
            if l4.len() < 8 || udp_length < 8 || (packet.part == Part::Whole && udp_length > l4.len()) {
                refuse(DropReason::Malformed);
                refuse(DropReason::Fragment);
            }
            // Over IPv6 the checksum isn't optional (RFC 8200 §8.1).
            if packet.source.is_ipv6() && l4.len() >= 8 && short(l4, 6) == 0 {
                refuse(DropReason::Malformed);
            }
        }
        ICMP if packet.source.is_ipv4() => icmp_refusals(packet, bytes, l4, (8, 0), way, &mut refuse),
        ICMPV6 if packet.source.is_ipv6() => icmp_refusals(packet, bytes, l4, (128, 129), way, &mut refuse),
        _ => {}
    }
    refusals
}

fn icmp_refusals(
    packet: &Packet,
    bytes: &[u8],
    l4: &[u8],
    (request, reply): (u8, u8),
    way: Way,
    refuse: &mut impl FnMut(DropReason),
) {
    let wanted = if way == Way::Outward { request } else { reply };
    if l4.len() < 8 {
        refuse(DropReason::Malformed);
        refuse(DropReason::Fragment);
    } else if packet.is_icmp_error(bytes) {
        if packet.part != Part::Whole {
            refuse(DropReason::Fragment);
        }
    } else if l4[0] != wanted || l4[1] != 0 {
        refuse(DropReason::IcmpType);
    }
}

fn option_refusals(options: &[u8], refuse: &mut impl FnMut(DropReason)) {
    let mut at = 0;
    while at < options.len() {
        match options[at] {
            0 => return,
            1 => at += 1,
            131 | 137 => return refuse(DropReason::IpOptions),
            _ => {
                let size = usize::from(options.get(at + 1).copied().unwrap_or(0));
                if size < 2 || at + size > options.len() {
                    return refuse(DropReason::Malformed);
                }
                at += size;
            }
        }
    }
}

/// Too many or too long extension headers, and routing type 0.
fn refuse_headers(packet: &Packet, bytes: &[u8], refuse: &mut impl FnMut(DropReason)) {
    let (mut next, mut at, mut count) = (bytes[6], 40, 0);
    let mut is_first_fragment = false;
    while at < packet.l4_at {
        count += 1;
        if next == 44 {
            let data_length = packet.length - (at + 8);
            let offset = usize::from(short(bytes, at + 2) & 0xfff8);
            let has_more = bytes[at + 3] & 1 == 1;
            // One that is neither first nor later is a whole packet (RFC 6946).
            let is_part = has_more || offset != 0;
            if is_first_fragment {
                refuse(DropReason::ExtensionHeaders);
            }
            is_first_fragment |= has_more && offset == 0;
            let is_cut_wrong = has_more && !data_length.is_multiple_of(8);
            let is_part_wrong = is_cut_wrong || offset + data_length > 65_535;
            if data_length == 0 || (is_part && is_part_wrong) {
                refuse(DropReason::Malformed);
                refuse(DropReason::ExtensionHeaders);
                refuse(DropReason::Fragment);
            }
        }
        if next == 43 && bytes.get(at + 2) == Some(&0) {
            refuse(DropReason::ExtensionHeaders);
        }
        let size = match next {
            44 => 8,
            51 => (usize::from(bytes[at + 1]) + 2) * 4,
            _ => (usize::from(bytes[at + 1]) + 1) * 8,
        };
        (next, at) = (bytes[at], at + size);
    }
    if count > 8 || packet.l4_at > 40 + 256 {
        refuse(DropReason::ExtensionHeaders);
    }
    if matches!(next, 0 | 43 | 44 | 51 | 60) && packet.part != Part::Later {
        refuse(DropReason::ExtensionHeaders);
    }
}

fn fragment_refusals(packet: &Packet, bytes: &[u8], payload: usize, refuse: &mut impl FnMut(DropReason)) {
    if packet.source.is_ipv4() {
        let word = short(bytes, 6);
        let offset = usize::from(word & 0x1fff) * 8;
        let has_more = word & 0x2000 != 0;
        if payload == 0 || (has_more && !payload.is_multiple_of(8)) || offset + packet.length > 65_535 {
            refuse(DropReason::Malformed);
        }
        if offset == 8 && packet.protocol == TCP {
            refuse(DropReason::Fragment);
        }
    }
}

/// Whether a packet is a TCP SYN and nothing else.
pub(super) fn opens_connection(packet: &Packet, bytes: &[u8]) -> bool {
    packet.protocol == TCP && bytes.get(packet.l4_at + 13).is_some_and(|flags| flags & 0x16 == 2)
}

/// Inner end and remote of a packet from a workload.
pub(super) fn ends(packet: &Packet) -> (End, End) {
    let remote_port = if matches!(packet.protocol, TCP | UDP) { packet.destination_port } else { 0 };
    ((packet.source, packet.source_port), (packet.destination, remote_port))
}

/// The port on our side of the packet that an error embeds: its source's for an error that comes in, which is about what
/// went out.
pub(super) fn embedded_port(error: &Packet, bytes: &[u8], way: Way) -> u16 {
    let at = error.l4_at + 8;
    if error.source.is_ipv6() {
        return 0;
    }
    let l4_at = at + usize::from(bytes.get(at).copied().unwrap_or(0) & 15) * 4;
    match (bytes.get(at + 9), way) {
        (Some(&TCP | &UDP), Way::Inward) => short(bytes, l4_at),
        (Some(&TCP | &UDP), Way::Outward) => short(bytes, l4_at + 2),
        _ => short(bytes, l4_at + 4),
    }
}
