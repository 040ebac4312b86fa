//! Where no webhook may go: to what is the manager's host's own business.
//!
//! Whoever may make webhooks would else have the manager ask, from where it stands, what is reached from there alone: its own
//! loopback, its link, the metadata of its cloud. So addresses are judged when they are connected to, not only names when they
//! are written: a name may lead anywhere by then.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::units::Cidr;

/// Addresses of clouds' metadata that no range below covers: Alibaba's, and EC2's in IPv6.
const METADATA: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)), IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254))];

/// Whether an address is the host's own, its link's or its cloud's, and not among those that are allowed all the same.
pub fn is_private_business(address: IpAddr, allowed: &[Cidr]) -> bool {
    let address = address.to_canonical();
    if allowed.iter().any(|range| range.contains(address)) {
        return false;
    }
    let is_near = match address {
        IpAddr::V4(v4) => {
            v4.is_loopback() || v4.is_link_local() || v4.is_multicast() || v4.is_broadcast() || v4.octets()[0] == 0
        }
        IpAddr::V6(v6) => {
            v6.is_loopback() || v6.is_unspecified() || v6.is_unicast_link_local() || v6.is_multicast() || embeds_v4(v6)
        }
    };
    is_near || METADATA.contains(&address)
}

/// Prefixes that lead to an IPv4 address by way of a translator: NAT64 (RFC 6052), 6to4 (RFC 3056), IPv4-compatible.
fn embeds_v4(address: Ipv6Addr) -> bool {
    let [first, second, third, ..] = address.segments();
    (first, second) == (0x64, 0xff9b) || first == 0x2002 || (first, second, third) == (0, 0, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_near_the_host_is_not_sent_to_unless_it_is_allowed() {
        let near = [
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "169.254.169.254",
            "224.0.0.1",
            "255.255.255.255",
            "100.100.100.200",
            "::1",
            "::",
            "fe80::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "fd00:ec2::254",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "::7f00:1",
        ];
        for address in near {
            assert!(is_private_business(address.parse().unwrap(), &[]), "{address}");
        }
        for address in ["203.0.113.9", "10.0.0.9", "192.168.7.1", "2001:db8::1", "fd00::1"] {
            assert!(!is_private_business(address.parse().unwrap(), &[]), "{address}");
        }
        let allowed = ["127.0.0.0/8".parse().unwrap()];
        assert!(!is_private_business("127.0.0.1".parse().unwrap(), &allowed));
        assert!(!is_private_business("::ffff:127.0.0.1".parse().unwrap(), &allowed), "the same address");
        assert!(is_private_business("::1".parse().unwrap(), &allowed));
    }
}
