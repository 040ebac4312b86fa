//! Router advertisements for guests: a leased prefix, offered on a device whose other end cannot be entered (RFC 4861 §4.2).
//!
//! The guest makes itself an address in the prefix (RFC 4862). An old prefix is announced with a preferred lifetime of 0
//! until its lease has drained: its addresses stay for the flows that have them, and no new one takes them. What is
//! announced no longer expires after [`LIFETIME_SECS`], for no guest lets a router shorten that to nothing.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddrV6};

use socket2::{Domain, Protocol, Socket, Type};

use super::plan::ConfiguredLease;
use crate::netlink::Link;

/// How long a guest keeps what it heard last, seconds.
pub(super) const LIFETIME_SECS: u32 = 300;

/// Neighbour discovery is believed only with this hop limit (RFC 4861 §6.1.2).
const HOP_LIMIT: u32 = 255;

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ROUTER_ADVERTISEMENT: u8 = 134;
const OPTION_SOURCE_LINK_LAYER: u8 = 1;
const OPTION_PREFIX: u8 = 3;
const OPTION_MTU: u8 = 5;
/// Prefix information: not on-link, for addresses (A) only: neighbours in it are reached through us.
const PREFIX_AUTONOMOUS: u8 = 0x40;

/// Announces the IPv6 leases on a device; without one that we are no router any more.
pub(super) fn announce(link: &Link, leases: &[ConfiguredLease]) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
    socket.set_multicast_if_v6(link.index)?;
    socket.set_multicast_hops_v6(HOP_LIMIT)?;
    socket.set_multicast_loop_v6(false)?;
    let to = SocketAddrV6::new(ALL_NODES, 0, 0, link.index);
    // The kernel puts in the device's link-local address as source, and the checksum.
    socket.send_to(&advertisement(link.mac.unwrap_or_default(), leases), &to.into()).map(drop)
}

fn advertisement(mac: [u8; 6], leases: &[ConfiguredLease]) -> Vec<u8> {
    let prefixes: Vec<(Ipv6Addr, &ConfiguredLease)> =
        leases.iter().filter_map(|lease| Some((prefix(lease)?, lease))).collect();
    let router_secs: u16 = if prefixes.is_empty() { 0 } else { LIFETIME_SECS as u16 };
    let mut bytes = vec![ROUTER_ADVERTISEMENT, 0, 0, 0, 64, 0];
    bytes.extend(router_secs.to_be_bytes());
    bytes.extend([0; 8]); // reachable and retransmission time: unspecified
    bytes.extend([OPTION_SOURCE_LINK_LAYER, 1]);
    bytes.extend(mac);
    if let Some(mtu) = prefixes.iter().map(|(_, lease)| lease.mtu).min() {
        bytes.extend([OPTION_MTU, 1, 0, 0]);
        bytes.extend(u32::from(mtu).to_be_bytes());
    }
    for (prefix, lease) in prefixes {
        let preferred_secs = if lease.is_current { LIFETIME_SECS } else { 0 };
        bytes.extend([OPTION_PREFIX, 4, lease.prefix_length, PREFIX_AUTONOMOUS]);
        bytes.extend(LIFETIME_SECS.to_be_bytes());
        bytes.extend(preferred_secs.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(prefix.octets());
    }
    bytes
}

fn prefix(lease: &ConfiguredLease) -> Option<Ipv6Addr> {
    match crate::netlink::network_of(lease.address, lease.prefix_length) {
        IpAddr::V6(prefix) => Some(prefix),
        IpAddr::V4(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(address: &str, is_current: bool) -> ConfiguredLease {
        ConfiguredLease { address: address.parse().unwrap(), prefix_length: 64, is_current, mtu: 1_400 }
    }

    #[test]
    fn old_prefixes_are_announced_as_deprecated() {
        let bytes = advertisement([2; 6], &[lease("2001:db8:4::1", false), lease("2001:db8:9::1", true)]);
        assert_eq!((bytes.len(), bytes[0], &bytes[6..8]), (16 + 8 + 8 + 2 * 32, 134, &[1, 44][..]));
        let (old, new) = (&bytes[32..64], &bytes[64..96]);
        assert_eq!((&old[..4], &old[8..12]), (&[3, 4, 64, 0x40][..], &[0; 4][..]));
        assert_eq!((&new[4..8], &new[8..12]), (&[0, 0, 1, 44][..], &[0, 0, 1, 44][..]));
        assert_eq!(new[16..24], [0x20, 1, 0x0d, 0xb8, 0, 9, 0, 0]);
    }

    #[test]
    fn without_a_prefix_we_are_no_router() {
        let bytes = advertisement([2; 6], &[ConfiguredLease { prefix_length: 32, ..lease("203.0.113.9", true) }]);
        assert_eq!((bytes.len(), &bytes[6..8]), (24, &[0, 0][..]));
    }
}
