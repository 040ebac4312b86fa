//! Addresses of the namespace's links, both families: read, put, taken away.
//!
//! Addresses that Persona puts on a link carry [`OUR_PROTOCOL`] (IFA_PROTO, Linux 5.18), so that they are known again
//! after a restart and nobody else's is ever touched.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures_util::TryStreamExt;
use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage};
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressMessage, AddressProtocol, AddressScope, CacheInfo,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{Netlink, NetlinkError, failed};

/// The protocol number that addresses, routes and neighbours of ours carry: in the range that the kernel leaves to users.
pub const OUR_PROTOCOL: u8 = 0x7e;

/// A lifetime without end, seconds (INFINITY_LIFE_TIME).
const FOREVER: u32 = u32::MAX;

/// An address on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkAddress {
    /// The link's interface index.
    pub ifindex: u32,
    /// The address.
    pub address: IpAddr,
    /// The length of its subnet's prefix.
    pub prefix_length: u8,
    /// Whether new connections avoid it (RFC 4862 §5.5.4).
    pub is_deprecated: bool,
    /// Whether Persona put it there.
    pub is_ours: bool,
}

impl LinkAddress {
    /// The subnet that the address stands in.
    pub fn subnet(&self) -> (IpAddr, u8) {
        (network_of(self.address, self.prefix_length), self.prefix_length)
    }

    /// Whether it is an IPv6 address that is valid on its link only (RFC 4291 §2.5.6).
    pub fn is_link_local(&self) -> bool {
        matches!(self.address, IpAddr::V6(address) if address.is_unicast_link_local())
    }
}

/// The first address of the subnet that `address` stands in.
pub fn network_of(address: IpAddr, prefix_length: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32_u32.saturating_sub(prefix_length.into())).unwrap_or(0);
            Ipv4Addr::from_bits(v4.to_bits() & mask).into()
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128_u32.saturating_sub(prefix_length.into())).unwrap_or(0);
            Ipv6Addr::from_bits(v6.to_bits() & mask).into()
        }
    }
}

impl Netlink {
    /// All addresses of the namespace, in the kernel's order. IPv6 addresses that are still tentative or a duplicate are left out.
    pub async fn addresses(&self) -> Result<Vec<LinkAddress>, NetlinkError> {
        let mut found = self.handle.address().get().execute();
        let mut addresses = Vec::new();
        while let Some(message) = found.try_next().await.map_err(failed("list of addresses"))? {
            addresses.extend(read(&message));
        }
        Ok(addresses)
    }

    /// Puts an address on a link as ours, or changes whether it is deprecated. It brings no route of its own and is not
    /// checked for duplicates: a lease has one holder.
    pub async fn put_address(&self, wanted: &LinkAddress) -> Result<(), NetlinkError> {
        let LinkAddress { ifindex, address, prefix_length, is_deprecated, .. } = *wanted;
        let mut message = message(ifindex, address, prefix_length);
        let mut lifetime = CacheInfo::default();
        lifetime.ifa_preferred = if is_deprecated { 0 } else { FOREVER };
        lifetime.ifa_valid = FOREVER;
        message.attributes.push(AddressAttribute::CacheInfo(lifetime));
        message.attributes.push(AddressAttribute::Protocol(AddressProtocol::Other(OUR_PROTOCOL)));
        let flags = match address {
            IpAddr::V4(_) => AddressFlags::Noprefixroute,
            IpAddr::V6(_) => AddressFlags::Noprefixroute | AddressFlags::Nodad,
        };
        message.attributes.push(AddressAttribute::Flags(flags));
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::NewAddress(message));
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
        self.acknowledged(request, || format!("address {address}/{prefix_length} on device {ifindex}")).await
    }

    /// Takes an address off a link.
    pub async fn remove_address(&self, present: &LinkAddress) -> Result<(), NetlinkError> {
        let LinkAddress { ifindex, address, prefix_length, .. } = *present;
        let message = message(ifindex, address, prefix_length);
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::DelAddress(message));
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK;
        self.acknowledged(request, || format!("removal of address {address} from device {ifindex}")).await
    }
}

fn message(ifindex: u32, address: IpAddr, prefix_length: u8) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.index = ifindex;
    message.header.prefix_len = prefix_length;
    message.header.scope = AddressScope::Universe;
    message.attributes = vec![AddressAttribute::Address(address), AddressAttribute::Local(address)];
    message
}

fn read(message: &AddressMessage) -> Option<LinkAddress> {
    let mut address = None;
    let mut local = None;
    let mut flags = AddressFlags::from_bits_retain(message.header.flags.bits().into());
    let mut is_ours = false;
    for attribute in &message.attributes {
        match attribute {
            // IFA_LOCAL is the address itself; IFA_ADDRESS is the peer's on a point-to-point link.
            AddressAttribute::Local(found) => local = Some(*found),
            AddressAttribute::Address(found) => address = Some(*found),
            AddressAttribute::Flags(found) => flags = *found,
            AddressAttribute::Protocol(protocol) => is_ours = u8::from(*protocol) == OUR_PROTOCOL,
            _ => {}
        }
    }
    let is_usable = !flags.intersects(AddressFlags::Tentative | AddressFlags::Dadfailed)
        || flags.contains(AddressFlags::Optimistic);
    is_usable.then_some(LinkAddress {
        ifindex: message.header.index,
        address: local.or(address)?,
        prefix_length: message.header.prefix_len,
        is_deprecated: flags.contains(AddressFlags::Deprecated),
        is_ours,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subnets_are_cut_at_the_prefix() {
        for (address, prefix_length, subnet) in [
            ("10.1.2.3", 24, "10.1.2.0"),
            ("10.1.2.3", 32, "10.1.2.3"),
            ("10.1.2.3", 0, "0.0.0.0"),
            ("10.1.2.3", 31, "10.1.2.2"),
            ("2001:db8:1:2::5", 64, "2001:db8:1:2::"),
            ("2001:db8::5", 128, "2001:db8::5"),
            ("2001:db8::5", 0, "::"),
        ] {
            let (address, subnet) = (address.parse().unwrap(), subnet.parse().unwrap());
            let address = LinkAddress { ifindex: 1, address, prefix_length, is_deprecated: false, is_ours: false };
            assert_eq!(address.subnet(), (subnet, prefix_length));
        }
    }
}
