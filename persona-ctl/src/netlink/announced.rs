//! Routes that lead nowhere and are there to be read: a routing daemon takes them from their table and tells others.
//!
//! They are blackholes: packets for egress addresses are taken by programs before the kernel asks its tables, and one that
//! no program took must not go back to the router that sent it. Known by a protocol number of their own, so that neither
//! the routes of an agent on the same host nor anybody else's are touched.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures_util::TryStreamExt;
use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use persona_core::units::Cidr;

use super::route::ip_address;
use super::{Netlink, NetlinkError, failed};

/// The protocol number of announced routes: in the range that the kernel leaves to users, beside [`super::OUR_PROTOCOL`].
pub const ANNOUNCED_PROTOCOL: u8 = 0x7f;

/// Their metric in both families, IPv6's own default: whoever has a better route to the same place is not overruled.
const METRIC: u32 = 1_024;

/// An announced route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AnnouncedRoute {
    /// The number of its routing table.
    pub table: u32,
    /// Where it leads.
    pub destination: Cidr,
}

impl Netlink {
    /// Opens a connection whose lists of routes the kernel narrows down itself: a table may hold a million of others'.
    pub fn open_strict() -> Result<Self, NetlinkError> {
        let (connection, handle, _) = rtnetlink::new_connection_with_strict_check().map_err(NetlinkError::Open)?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    /// Announced routes of both families, in one table or in all.
    pub async fn announced_routes(&self, table: Option<u32>) -> Result<BTreeSet<AnnouncedRoute>, NetlinkError> {
        let mut routes = BTreeSet::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut request = message(family, table);
            request.header.kind = RouteType::Unspec;
            let found: Result<Vec<RouteMessage>, _> = self.handle.route().get(request).execute().try_collect().await;
            match found {
                Ok(messages) => routes.extend(messages.iter().filter_map(read)),
                // A table that nobody has put a route into yet does not exist.
                Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -libc::ENOENT => {}
                Err(error) => return Err(failed("list of announced routes")(error)),
            }
        }
        routes.retain(|route| table.is_none_or(|table| route.table == table));
        Ok(routes)
    }

    /// Announces. One that is there already is an error.
    pub async fn announce_route(&self, route: &AnnouncedRoute) -> Result<(), NetlinkError> {
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::NewRoute(whole_message(route)));
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
        self.acknowledged(request, || format!("announced route {} in table {}", route.destination, route.table)).await
    }

    /// Takes an announcement back.
    pub async fn withdraw_route(&self, route: &AnnouncedRoute) -> Result<(), NetlinkError> {
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::DelRoute(whole_message(route)));
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK;
        let what = || format!("removal of announced route {} from table {}", route.destination, route.table);
        self.acknowledged(request, what).await
    }
}

/// What all messages about announced routes say.
fn message(family: AddressFamily, table: Option<u32>) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family;
    message.header.protocol = RouteProtocol::Other(ANNOUNCED_PROTOCOL);
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::BlackHole;
    message.attributes.extend(table.map(RouteAttribute::Table));
    message
}

fn whole_message(route: &AnnouncedRoute) -> RouteMessage {
    let destination = route.destination.address();
    let (family, address) = match destination {
        IpAddr::V4(address) => (AddressFamily::Inet, RouteAddress::Inet(address)),
        IpAddr::V6(address) => (AddressFamily::Inet6, RouteAddress::Inet6(address)),
    };
    let mut message = message(family, Some(route.table));
    message.header.destination_prefix_length = route.destination.prefix_length();
    message.attributes.push(RouteAttribute::Priority(METRIC));
    if route.destination.prefix_length() > 0 {
        message.attributes.push(RouteAttribute::Destination(address));
    }
    message
}

fn read(message: &RouteMessage) -> Option<AnnouncedRoute> {
    if u8::from(message.header.protocol) != ANNOUNCED_PROTOCOL || message.header.kind != RouteType::BlackHole {
        return None;
    }
    let mut address: IpAddr = match message.header.address_family {
        AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
        AddressFamily::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    let mut table = message.header.table.into();
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(found) => address = ip_address(found)?,
            RouteAttribute::Table(number) => table = *number,
            _ => {}
        }
    }
    Some(AnnouncedRoute { table, destination: Cidr::new(address, message.header.destination_prefix_length)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for (table, destination) in
            [(254, "203.0.113.64/28"), (126, "2001:db8:1::/56"), (70_000, "198.51.100.7"), (1, "0.0.0.0/0")]
        {
            let route = AnnouncedRoute { table, destination: destination.parse().unwrap() };
            assert_eq!(read(&whole_message(&route)), Some(route));
        }
        let mut others = whole_message(&AnnouncedRoute { table: 254, destination: "203.0.113.64/28".parse().unwrap() });
        others.header.protocol = RouteProtocol::Other(super::super::OUR_PROTOCOL);
        assert_eq!(read(&others), None, "an agent's route");
    }
}
