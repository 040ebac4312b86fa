//! IPv4 addresses of the namespace's links.

use std::net::{IpAddr, Ipv4Addr};

use futures_util::TryStreamExt;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};

use super::{Netlink, NetlinkError, failed};

/// An address on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkAddress {
    /// The link's interface index.
    pub ifindex: u32,
    /// The address.
    pub address: Ipv4Addr,
    /// The length of its subnet's prefix.
    pub prefix_length: u8,
}

impl LinkAddress {
    /// The subnet that the address stands in.
    pub fn subnet(&self) -> (Ipv4Addr, u8) {
        let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix_length)).unwrap_or(0);
        (Ipv4Addr::from_bits(self.address.to_bits() & mask), self.prefix_length)
    }
}

impl Netlink {
    /// All IPv4 addresses of the namespace, in the kernel's order.
    pub async fn addresses(&self) -> Result<Vec<LinkAddress>, NetlinkError> {
        let mut found = self.handle.address().get().execute();
        let mut addresses = Vec::new();
        while let Some(message) = found.try_next().await.map_err(failed("list of addresses"))? {
            addresses.extend(read(&message));
        }
        Ok(addresses)
    }
}

fn read(message: &AddressMessage) -> Option<LinkAddress> {
    if message.header.family != AddressFamily::Inet {
        return None;
    }
    // IFA_LOCAL is the address itself; IFA_ADDRESS is the peer's on a point-to-point link.
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(IpAddr::V4(address)) => Some(*address),
        _ => None,
    });
    let address = local.or_else(|| {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(IpAddr::V4(address)) => Some(*address),
            _ => None,
        })
    })?;
    Some(LinkAddress { ifindex: message.header.index, address, prefix_length: message.header.prefix_len })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subnets_are_cut_at_the_prefix() {
        for (prefix_length, subnet) in
            [(24, [10, 1, 2, 0]), (32, [10, 1, 2, 3]), (0, [0, 0, 0, 0]), (31, [10, 1, 2, 2])]
        {
            let address = LinkAddress { ifindex: 1, address: Ipv4Addr::new(10, 1, 2, 3), prefix_length };
            assert_eq!(address.subnet(), (Ipv4Addr::from(subnet), prefix_length));
        }
    }
}
