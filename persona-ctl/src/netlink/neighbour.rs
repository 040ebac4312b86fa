//! The kernel's neighbour table: hardware addresses of next hops.

use std::collections::BTreeMap;
use std::net::IpAddr;

use futures_util::TryStreamExt;
use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{Netlink, NetlinkError};

/// (device, address) → hardware address.
pub type Neighbours = BTreeMap<(u32, IpAddr), [u8; 6]>;

impl Netlink {
    /// Every resolved neighbour of both families.
    pub async fn neighbours(&self) -> Result<Neighbours, NetlinkError> {
        let mut neighbours = Neighbours::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut found = self.handle.neighbours().get().set_address_family(family).execute();
            while let Some(message) = found.try_next().await.map_err(super::failed("list of neighbours"))? {
                neighbours.extend(read(&message));
            }
        }
        Ok(neighbours)
    }

    /// Asks the kernel to find out, or confirm, the hardware address of `address` (as `ip neigh … use` does).
    pub async fn resolve_neighbour(&self, ifindex: u32, address: IpAddr) -> Result<(), NetlinkError> {
        let mut message = message(ifindex, address);
        message.header.state = NeighbourState::None;
        message.header.flags = NeighbourFlags::Use;
        self.send_neighbour(RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE | NLM_F_REPLACE, || {
            format!("resolution of neighbour {address}")
        })
        .await
    }

    /// Says for good which hardware address a neighbour has; it is not asked for any more.
    pub async fn put_permanent_neighbour(
        &self,
        ifindex: u32,
        address: IpAddr,
        mac: [u8; 6],
    ) -> Result<(), NetlinkError> {
        let mut message = message(ifindex, address);
        message.header.state = NeighbourState::Permanent;
        message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.to_vec()));
        self.send_neighbour(RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE | NLM_F_REPLACE, || {
            format!("neighbour {address} on device {ifindex}")
        })
        .await
    }

    /// Forgets a neighbour.
    pub async fn remove_neighbour(&self, ifindex: u32, address: IpAddr) -> Result<(), NetlinkError> {
        let message = message(ifindex, address);
        self.send_neighbour(RouteNetlinkMessage::DelNeighbour(message), 0, || {
            format!("removal of neighbour {address} from device {ifindex}")
        })
        .await
    }

    async fn send_neighbour(
        &self,
        message: RouteNetlinkMessage,
        flags: u16,
        what: impl Fn() -> String,
    ) -> Result<(), NetlinkError> {
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        self.acknowledged(request, what).await
    }
}

fn message(ifindex: u32, address: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    let (family, destination) = match address {
        IpAddr::V4(address) => (AddressFamily::Inet, NeighbourAddress::Inet(address)),
        IpAddr::V6(address) => (AddressFamily::Inet6, NeighbourAddress::Inet6(address)),
    };
    message.header.family = family;
    message.header.ifindex = ifindex;
    message.attributes.push(NeighbourAttribute::Destination(destination));
    message
}

fn read(message: &NeighbourMessage) -> Option<((u32, IpAddr), [u8; 6])> {
    if matches!(message.header.state, NeighbourState::Failed | NeighbourState::Incomplete) {
        return None;
    }
    let mut address = None;
    let mut mac = None;
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(found)) => address = Some(IpAddr::V4(*found)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(found)) => address = Some(IpAddr::V6(*found)),
            NeighbourAttribute::LinkLayerAddress(found) => mac = found.as_slice().try_into().ok(),
            _ => {}
        }
    }
    Some(((message.header.ifindex, address?), mac?))
}
