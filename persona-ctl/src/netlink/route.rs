//! The way to an address, as the kernel would send a packet there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures_util::TryStreamExt;
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteMetric, RouteType, RouteVia};
use rtnetlink::RouteMessageBuilder;

use super::{Netlink, NetlinkError, failed};

/// The way to a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path {
    /// The device that leads there.
    pub ifindex: u32,
    /// The next hop: the destination itself where it is on-link. An IPv4 destination may have an IPv6 next hop (RFC 5549).
    pub next_hop: IpAddr,
    /// The source that the kernel would choose.
    pub source: Option<IpAddr>,
    /// The route's own MTU, where it has one, bytes.
    pub mtu: Option<u32>,
}

impl Netlink {
    /// The way to `destination`. None: there is no route, or only one that rejects.
    pub async fn path_to(&self, destination: IpAddr) -> Result<Option<Path>, NetlinkError> {
        let request = match destination {
            IpAddr::V4(address) => RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(address, 32).build(),
            IpAddr::V6(address) => RouteMessageBuilder::<Ipv6Addr>::new().destination_prefix(address, 128).build(),
        };
        let mut found = self.handle.route().get(request).execute();
        match found.try_next().await {
            Ok(message) => Ok(message.and_then(|message| read(&message, destination))),
            Err(rtnetlink::Error::NetlinkError(error)) if is_unreachable(error.raw_code()) => Ok(None),
            Err(error) => Err(failed(format!("route to {destination}"))(error)),
        }
    }
}

fn is_unreachable(code: i32) -> bool {
    [libc::ENETUNREACH, libc::EHOSTUNREACH, libc::EACCES, libc::EINVAL].contains(&-code)
}

fn read(message: &RouteMessage, destination: IpAddr) -> Option<Path> {
    if !matches!(message.header.kind, RouteType::Unicast) {
        return None;
    }
    let mut path = Path { ifindex: 0, next_hop: destination, source: None, mtu: None };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => path.ifindex = *index,
            RouteAttribute::Gateway(gateway) => path.next_hop = ip_address(gateway).unwrap_or(path.next_hop),
            RouteAttribute::Via(via) => path.next_hop = via_address(via).unwrap_or(path.next_hop),
            RouteAttribute::PrefSource(source) => path.source = ip_address(source),
            RouteAttribute::Metrics(metrics) => path.mtu = metrics.iter().find_map(route_mtu),
            _ => {}
        }
    }
    (path.ifindex != 0).then_some(path)
}

/// The address in a route's attribute.
pub(super) fn ip_address(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

fn via_address(via: &RouteVia) -> Option<IpAddr> {
    match via {
        RouteVia::Inet(address) => Some((*address).into()),
        RouteVia::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

/// A route's own MTU.
pub(super) fn route_mtu(metric: &RouteMetric) -> Option<u32> {
    match metric {
        RouteMetric::Mtu(mtu) if *mtu > 0 => Some(*mtu),
        _ => None,
    }
}
