//! The way to an address, as the kernel would send a packet there.

use std::net::Ipv4Addr;

use futures_util::TryStreamExt;
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteMetric, RouteType};
use rtnetlink::RouteMessageBuilder;

use super::{Netlink, NetlinkError, failed};

/// The way to a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path {
    /// The device that leads there.
    pub ifindex: u32,
    /// The next hop: the destination itself where it is on-link.
    pub next_hop: Ipv4Addr,
    /// The source that the kernel would choose.
    pub source: Option<Ipv4Addr>,
    /// The route's own MTU, where it has one, bytes.
    pub mtu: Option<u32>,
}

impl Netlink {
    /// The way to `destination`. None: there is no route, or only one that rejects.
    pub async fn path_to(&self, destination: Ipv4Addr) -> Result<Option<Path>, NetlinkError> {
        let request = RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(destination, 32).build();
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

fn read(message: &RouteMessage, destination: Ipv4Addr) -> Option<Path> {
    if !matches!(message.header.kind, RouteType::Unicast) {
        return None;
    }
    let mut path = Path { ifindex: 0, next_hop: destination, source: None, mtu: None };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => path.ifindex = *index,
            RouteAttribute::Gateway(RouteAddress::Inet(gateway)) => path.next_hop = *gateway,
            RouteAttribute::Via(via) => path.next_hop = via_ipv4(via).unwrap_or(path.next_hop),
            RouteAttribute::PrefSource(RouteAddress::Inet(source)) => path.source = Some(*source),
            RouteAttribute::Metrics(metrics) => path.mtu = metrics.iter().find_map(route_mtu),
            _ => {}
        }
    }
    (path.ifindex != 0).then_some(path)
}

fn via_ipv4(via: &netlink_packet_route::route::RouteVia) -> Option<Ipv4Addr> {
    match via {
        netlink_packet_route::route::RouteVia::Inet(address) => Some(*address),
        _ => None,
    }
}

fn route_mtu(metric: &RouteMetric) -> Option<u32> {
    match metric {
        RouteMetric::Mtu(mtu) if *mtu > 0 => Some(*mtu),
        _ => None,
    }
}
