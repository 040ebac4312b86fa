//! Links: who is there, how big, with which hardware address.

use futures_util::TryStreamExt;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};

use super::{Netlink, NetlinkError, failed};

/// A network device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    /// Its interface index.
    pub index: u32,
    /// Its name now.
    pub name: String,
    /// Its MTU, bytes.
    pub mtu: u32,
    /// Its hardware address, where it has one of six bytes.
    pub mac: Option<[u8; 6]>,
    /// Whether it is up.
    pub is_up: bool,
    /// The bridge, bond or the like that it is a port of.
    pub controller: Option<u32>,
    /// Its other end, where it has one.
    pub peer: Option<Peer>,
}

/// The other end of a veth, or the device below a VLAN or macvlan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Its interface index, in its own namespace.
    pub index: u32,
    /// The number of its namespace, as ours calls it. None: it is in ours.
    pub namespace_id: Option<i32>,
}

impl Netlink {
    /// All links of the namespace.
    pub async fn links(&self) -> Result<Vec<Link>, NetlinkError> {
        let mut found = self.handle.link().get().execute();
        let mut links = Vec::new();
        while let Some(message) = found.try_next().await.map_err(failed("list of links"))? {
            links.push(read(&message));
        }
        Ok(links)
    }
}

fn read(message: &LinkMessage) -> Link {
    let mut link =
        Link { index: message.header.index, is_up: message.header.flags.contains(LinkFlags::Up), ..Default::default() };
    let (mut peer, mut namespace_id) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Address(mac) => link.mac = mac.as_slice().try_into().ok(),
            LinkAttribute::Controller(index) => link.controller = Some(*index),
            LinkAttribute::Link(index) => peer = Some(*index),
            LinkAttribute::LinkNetNsId(id) => namespace_id = Some(*id),
            _ => {}
        }
    }
    link.peer = peer.filter(|index| *index != 0).map(|index| Peer { index, namespace_id });
    link
}
