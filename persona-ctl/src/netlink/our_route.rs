//! Routes that Persona puts into the main table, known by their protocol number; nobody else's is touched.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures_util::TryStreamExt;
use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric, RouteProtocol, RouteScope,
    RouteType,
};
use rtnetlink::RouteMessageBuilder;

use super::route::{ip_address, route_mtu};
use super::{Netlink, NetlinkError, OUR_PROTOCOL, failed};

/// A route of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct OurRoute {
    /// First address and prefix length of its destinations.
    pub destination: (IpAddr, u8),
    /// The device that leads there.
    pub ifindex: u32,
    /// The next hop, taken as on-link. None: the destinations themselves are.
    pub gateway: Option<IpAddr>,
    /// The source that new connections take.
    pub source: Option<IpAddr>,
    /// Largest packet, bytes.
    pub mtu: Option<u32>,
    /// The lower the sooner. IPv6 has no 0.
    pub metric: u32,
}

impl Netlink {
    /// Our routes in the main table, both families.
    pub async fn our_routes(&self) -> Result<Vec<OurRoute>, NetlinkError> {
        let mut routes = Vec::new();
        for request in [RouteMessageBuilder::<Ipv4Addr>::new().build(), RouteMessageBuilder::<Ipv6Addr>::new().build()]
        {
            let messages = self.handle.route().get(request).execute();
            let messages: Vec<RouteMessage> = messages.try_collect().await.map_err(failed("list of routes"))?;
            let ours = messages.iter().filter(|message| {
                message.header.table == RouteHeader::RT_TABLE_MAIN && u8::from(message.header.protocol) == OUR_PROTOCOL
            });
            routes.extend(ours.filter_map(read));
        }
        Ok(routes)
    }

    /// Puts a route before others of its destination and metric. One that is there already is an error.
    pub async fn put_route(&self, route: &OurRoute) -> Result<(), NetlinkError> {
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::NewRoute(message(route)));
        // Neither EXCL nor REPLACE nor APPEND: the kernel puts it first, as `ip route prepend` does.
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE;
        self.acknowledged(request, || format!("route {}", Shown(route))).await
    }

    /// Puts a route in the place of the first one with its destination and metric.
    pub async fn replace_route(&self, route: &OurRoute) -> Result<(), NetlinkError> {
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::NewRoute(message(route)));
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
        self.acknowledged(request, || format!("route {}", Shown(route))).await
    }

    /// Removes a route of ours.
    pub async fn remove_route(&self, route: &OurRoute) -> Result<(), NetlinkError> {
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::DelRoute(message(route)));
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK;
        self.acknowledged(request, || format!("removal of route {}", Shown(route))).await
    }
}

struct Shown<'a>(&'a OurRoute);

impl std::fmt::Display for Shown<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let OurRoute { destination: (address, length), ifindex, gateway, .. } = self.0;
        write!(formatter, "{address}/{length} on device {ifindex}")?;
        gateway.map_or(Ok(()), |gateway| write!(formatter, " via {gateway}"))
    }
}

fn message(route: &OurRoute) -> RouteMessage {
    let (destination, length) = route.destination;
    let mut message = match destination {
        IpAddr::V4(_) => RouteMessageBuilder::<Ipv4Addr>::new().build(),
        IpAddr::V6(_) => RouteMessageBuilder::<Ipv6Addr>::new().build(),
    };
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Other(OUR_PROTOCOL);
    message.header.kind = RouteType::Unicast;
    let is_direct = route.gateway.is_none() && destination.is_ipv4();
    message.header.scope = if is_direct { RouteScope::Link } else { RouteScope::Universe };
    message.header.destination_prefix_length = length;
    let mut attributes = vec![RouteAttribute::Oif(route.ifindex)];
    if length > 0 {
        attributes.push(RouteAttribute::Destination(route_address(destination)));
    }
    if let Some(gateway) = route.gateway {
        message.header.flags |= RouteFlags::Onlink;
        attributes.push(RouteAttribute::Gateway(route_address(gateway)));
    }
    attributes.extend(route.source.map(|source| RouteAttribute::PrefSource(route_address(source))));
    attributes.extend(route.mtu.map(|mtu| RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu)])));
    if route.metric > 0 {
        attributes.push(RouteAttribute::Priority(route.metric));
    }
    message.attributes = attributes;
    message
}

fn route_address(address: IpAddr) -> RouteAddress {
    match address {
        IpAddr::V4(address) => RouteAddress::Inet(address),
        IpAddr::V6(address) => RouteAddress::Inet6(address),
    }
}

fn read(message: &RouteMessage) -> Option<OurRoute> {
    let nowhere: IpAddr = match message.header.address_family {
        netlink_packet_route::AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
        netlink_packet_route::AddressFamily::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    let length = message.header.destination_prefix_length;
    let mut route =
        OurRoute { destination: (nowhere, length), ifindex: 0, gateway: None, source: None, mtu: None, metric: 0 };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => route.destination.0 = ip_address(address)?,
            RouteAttribute::Oif(index) => route.ifindex = *index,
            RouteAttribute::Gateway(address) => route.gateway = ip_address(address),
            RouteAttribute::PrefSource(address) => route.source = ip_address(address),
            RouteAttribute::Metrics(metrics) => route.mtu = metrics.iter().find_map(route_mtu),
            RouteAttribute::Priority(metric) => route.metric = *metric,
            _ => {}
        }
    }
    Some(route)
}
