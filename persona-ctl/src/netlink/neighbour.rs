//! The kernel's neighbour table: hardware addresses of next hops.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use futures_util::TryStreamExt;
use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{Netlink, NetlinkError};

/// (device, address) → hardware address.
pub type Neighbours = BTreeMap<(u32, Ipv4Addr), [u8; 6]>;

impl Netlink {
    /// Every resolved IPv4 neighbour.
    pub async fn neighbours(&self) -> Result<Neighbours, NetlinkError> {
        let mut found = self.handle.neighbours().get().set_address_family(AddressFamily::Inet).execute();
        let mut neighbours = Neighbours::new();
        while let Some(message) = found.try_next().await.map_err(super::failed("list of neighbours"))? {
            neighbours.extend(read(&message));
        }
        Ok(neighbours)
    }

    /// Asks the kernel to find out, or confirm, the hardware address of `address` (as `ip neigh … use` does).
    pub async fn resolve_neighbour(&self, ifindex: u32, address: Ipv4Addr) -> Result<(), NetlinkError> {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.ifindex = ifindex;
        message.header.state = NeighbourState::None;
        message.header.flags = NeighbourFlags::Use;
        message.attributes.push(NeighbourAttribute::Destination(NeighbourAddress::Inet(address)));
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::NewNeighbour(message));
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
        self.acknowledged(request, || format!("resolution of neighbour {address}")).await
    }
}

fn read(message: &NeighbourMessage) -> Option<((u32, Ipv4Addr), [u8; 6])> {
    if matches!(message.header.state, NeighbourState::Failed | NeighbourState::Incomplete) {
        return None;
    }
    let mut address = None;
    let mut mac = None;
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(found)) => address = Some(*found),
            NeighbourAttribute::LinkLayerAddress(found) => mac = found.as_slice().try_into().ok(),
            _ => {}
        }
    }
    Some(((message.header.ifindex, address?), mac?))
}
