//! Neighbour discovery frames (RFC 4861): solicitations that ask a next hop for a sign of life, and unsolicited
//! advertisements that tell everyone who answers for an address now.

use std::net::Ipv6Addr;

use persona_common::checksum::fold;

const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];
const ICMPV6: u8 = 58;
/// Only what no router has forwarded is believed (RFC 4861 §7.1).
const HOP_LIMIT: u8 = 255;
const ROUTER_ADVERTISEMENT: u8 = 134;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// "Router" and "override" (RFC 4861 §4.4): whoever has another hardware address in mind shall forget it.
const ROUTER_OVERRIDE: u8 = 0xa0;
const OPTION_SOURCE_MAC: u8 = 1;
const OPTION_TARGET_MAC: u8 = 2;

const ETHERNET_LENGTH: usize = 14;
const ICMP_AT: usize = ETHERNET_LENGTH + 40;
const TARGET_AT: usize = ICMP_AT + 8;

/// Asks who has `target`. A `sender` of `::` asks as a duplicate check would: the answer goes to all nodes of the link.
pub(super) fn solicitation(mac: [u8; 6], sender: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
    // An unspecified source must not tell a hardware address (RFC 4861 §4.3).
    let option = (!sender.is_unspecified()).then_some((OPTION_SOURCE_MAC, mac));
    frame(mac, sender, solicited_node(target), [NEIGHBOUR_SOLICITATION, 0], target, option)
}

/// Tells all nodes of the link that `address` is at `mac` now.
pub(super) fn advertisement(mac: [u8; 6], address: Ipv6Addr) -> Vec<u8> {
    let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let option = Some((OPTION_TARGET_MAC, mac));
    frame(mac, address, all_nodes, [NEIGHBOUR_ADVERTISEMENT, ROUTER_OVERRIDE], address, option)
}

/// The address that a frame shows to be alive: an advertisement's target, or whoever solicits or advertises a router.
/// None: nothing of the kind.
pub(super) fn sender_of(frame: &[u8]) -> Option<Ipv6Addr> {
    let address = |at: usize| Some(Ipv6Addr::from(<[u8; 16]>::try_from(frame.get(at..at + 16)?).ok()?));
    let is_discovery = frame.get(12..14)? == ETHERTYPE_IPV6
        && frame.get(ETHERNET_LENGTH)? >> 4 == 6
        && *frame.get(ETHERNET_LENGTH + 6)? == ICMPV6
        && *frame.get(ETHERNET_LENGTH + 7)? == HOP_LIMIT
        && *frame.get(ICMP_AT + 1)? == 0;
    if !is_discovery {
        return None;
    }
    match *frame.get(ICMP_AT)? {
        NEIGHBOUR_ADVERTISEMENT => address(TARGET_AT),
        NEIGHBOUR_SOLICITATION | ROUTER_ADVERTISEMENT => address(ETHERNET_LENGTH + 8),
        _ => None,
    }
}

/// The multicast address that neighbour solicitations for `address` go to (RFC 4291 §2.7.1).
pub(super) fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]))
}

/// The Ethernet address of an IPv6 multicast address (RFC 2464 §7).
fn multicast_mac(group: Ipv6Addr) -> [u8; 6] {
    let [.., a, b, c, d] = group.octets();
    [0x33, 0x33, a, b, c, d]
}

fn frame(
    mac: [u8; 6],
    source: Ipv6Addr,
    group: Ipv6Addr,
    [kind, flags]: [u8; 2],
    target: Ipv6Addr,
    option: Option<(u8, [u8; 6])>,
) -> Vec<u8> {
    let mut message = vec![kind, 0, 0, 0, flags, 0, 0, 0];
    message.extend_from_slice(&target.octets());
    if let Some((option, mac)) = option {
        message.extend_from_slice(&[option, 1]);
        message.extend_from_slice(&mac);
    }
    let checksum = checksum(source, group, &message);
    message[2..4].copy_from_slice(&checksum);
    let mut frame = multicast_mac(group).to_vec();
    frame.extend_from_slice(&mac);
    frame.extend_from_slice(&ETHERTYPE_IPV6);
    frame.extend_from_slice(&[0x60, 0, 0, 0, 0, message.len() as u8, ICMPV6, HOP_LIMIT]);
    frame.extend_from_slice(&source.octets());
    frame.extend_from_slice(&group.octets());
    frame.extend_from_slice(&message);
    frame
}

/// ICMPv6's checksum over pseudo header and message (RFC 4443 §2.3), whose own field holds zero.
fn checksum(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> [u8; 2] {
    let words = |bytes: &[u8]| -> u32 {
        bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]))).sum()
    };
    let pseudo = words(&source.octets()) + words(&destination.octets()) + message.len() as u32 + u32::from(ICMPV6);
    (!fold(pseudo + words(message))).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];

    fn address(text: &str) -> Ipv6Addr {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_alive_is_read() {
        let (sender, target) = (address("fe80::9"), address("2001:db8::1:2:3"));
        assert_eq!(sender_of(&solicitation(MAC, sender, target)), Some(sender));
        let advertised = advertisement(MAC, target);
        assert_eq!(sender_of(&advertised), Some(target));
        for length in 0..TARGET_AT + 16 {
            assert_eq!(sender_of(&advertised[..length]), None, "{length}");
        }
        for (what, at) in [("another protocol", 13), ("forwarded by a router", 21), ("a code", ICMP_AT + 1)] {
            let mut other = advertised.clone();
            other[at] ^= 1;
            assert_eq!(sender_of(&other), None, "{what}");
        }
    }

    #[test]
    fn frames_are_as_the_rfcs_say() {
        let target = address("2001:db8::1:2:3");
        let asked = solicitation(MAC, address("fe80::9"), target);
        assert_eq!(asked[..6], [0x33, 0x33, 0xff, 2, 0, 3]);
        assert_eq!(asked[TARGET_AT + 16..], [1, 1, 2, 0, 0, 0, 0, 9], "the asker's hardware address");
        let anonymous = solicitation(MAC, Ipv6Addr::UNSPECIFIED, target);
        assert_eq!(anonymous.len(), TARGET_AT + 16, "no hardware address from nobody");
        let told = advertisement(MAC, target);
        assert_eq!((&told[..6], told[ICMP_AT + 4]), (&[0x33, 0x33, 0, 0, 0, 1][..], 0xa0));
        for frame in [asked, anonymous, told] {
            let part = |at: usize| Ipv6Addr::from(<[u8; 16]>::try_from(&frame[at..at + 16]).unwrap());
            assert_eq!(checksum(part(22), part(38), &frame[ICMP_AT..]), [0, 0], "the checksum is right");
        }
    }
}
