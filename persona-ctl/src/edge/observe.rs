//! What the kernel has now, as far as an edge depends on it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use persona_core::wire::desired::{DesiredState, Item};

use super::config::EdgeConfig;
use crate::agent::queues::Leaves;
use crate::dataplane::tables::NextHopEntry;
use crate::netlink::{Link, LinkAddress, Neighbours, Netlink, NetlinkError, Path};

/// The kernel could not be looked at, or lacks something.
#[derive(Debug, thiserror::Error)]
pub(super) enum ObserveError {
    /// A request failed.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// A device is not there.
    #[error("device {name} is not there: the devices here are {present}")]
    NoDevice {
        /// Its name.
        name: String,
        /// Those that are there.
        present: String,
    },
    /// The edge has no address on the underlay.
    #[error("inside device {0} has no address: give it one, or set address")]
    NoAddress(String),
}

/// What the kernel has now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Observed {
    /// The device towards the nodes.
    pub inside: Link,
    /// The device towards the outside.
    pub outside: Link,
    /// The edge's address on the underlay.
    pub address: IpAddr,
    /// Addresses to ask from on the inside.
    pub inside_senders: Senders,
    /// Addresses to ask from on the outside.
    pub outside_senders: Senders,
    /// Node or peer → the way there.
    pub paths: BTreeMap<IpAddr, Path>,
    /// Every link by index.
    pub links: BTreeMap<u32, Link>,
    /// Hardware addresses that are resolved.
    pub neighbours: Neighbours,
    /// Node or peer → what routers on the way there say that it carries, bytes.
    pub narrowed: BTreeMap<IpAddr, u32>,
    /// The encrypted tunnel's device, where there is one.
    pub wire_ifindex: Option<u32>,
    /// The queues of ours that packets may go through. None: the programs don't hang at TC, or somebody else has a root queue on
    /// the devices.
    pub leaves: Option<Leaves>,
}

/// A device's own addresses, one of each family.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Senders {
    /// For ARP.
    pub ipv4: Option<Ipv4Addr>,
    /// For neighbour discovery: the link-local one where there is one.
    pub ipv6: Option<Ipv6Addr>,
}

/// The devices found last, so that one that has been renamed is found again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Known {
    /// Index of the inside device.
    pub inside: Option<u32>,
    /// Index of the outside device.
    pub outside: Option<u32>,
}

impl Observed {
    /// Looks. The ways to all nodes and edges of `states` are looked up.
    pub(super) async fn look(
        netlink: &Netlink,
        config: &EdgeConfig,
        known: Known,
        states: &[&DesiredState],
    ) -> Result<Self, ObserveError> {
        let links = netlink.links().await?;
        let addresses = netlink.addresses().await?;
        let inside = find(&links, &config.inside, known.inside)?;
        let outside = find(&links, &config.outside, known.outside)?;
        let mut inside_senders = Senders::of(&addresses, inside.index);
        let address = config.address.or_else(|| underlay_address(&addresses, inside.index));
        let address = address.ok_or_else(|| ObserveError::NoAddress(inside.name.clone()))?;
        if let IpAddr::V4(address) = address {
            inside_senders.ipv4 = Some(address);
        }
        let mut paths = BTreeMap::new();
        for destination in states.iter().flat_map(|state| destinations(state)).collect::<BTreeSet<_>>() {
            if let Some(path) = netlink.path_to(destination).await? {
                paths.insert(destination, path);
            }
        }
        Ok(Self {
            outside_senders: Senders::of(&addresses, outside.index),
            inside,
            outside,
            address,
            inside_senders,
            paths,
            links: links.into_iter().map(|link| (link.index, link)).collect(),
            neighbours: netlink.neighbours().await?,
            narrowed: BTreeMap::new(),
            wire_ifindex: None,
            leaves: None,
        })
    }

    /// Its devices, to be found again.
    pub(super) fn known(&self) -> Known {
        Known { inside: Some(self.inside.index), outside: Some(self.outside.index) }
    }

    /// The next hop towards a node or peer. One without a way is tried on the inside itself: a missing route must not hold
    /// up all others.
    pub(super) fn next_hop_to(&self, destination: IpAddr) -> NextHopEntry {
        let way = self.paths.get(&destination).map(|path| (path.ifindex, path.next_hop));
        let (ifindex, via) = way.unwrap_or((self.inside.index, destination));
        self.next_hop(ifindex, via)
    }

    /// The largest packet that the way to a node carries as device and route say, bytes.
    pub(super) fn mtu_to(&self, node: IpAddr) -> u32 {
        let of_route = self.paths.get(&node).and_then(|path| path.mtu);
        of_route.unwrap_or(u32::MAX).min(self.inside.mtu)
    }

    /// A next hop on a device.
    pub(super) fn next_hop(&self, ifindex: u32, address: IpAddr) -> NextHopEntry {
        NextHopEntry {
            ifindex,
            address,
            source_mac: self.links.get(&ifindex).and_then(|link| link.mac).unwrap_or_default(),
            destination_mac: self.neighbours.get(&(ifindex, address)).copied(),
        }
    }
}

impl Senders {
    fn of(addresses: &[LinkAddress], ifindex: u32) -> Self {
        let on_device = || addresses.iter().filter(|address| address.ifindex == ifindex);
        let ipv4 = on_device().find_map(|address| match address.address {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        });
        let ipv6 = |is_link_local| {
            on_device().filter(move |address| address.is_link_local() == is_link_local).find_map(
                |address| match address.address {
                    IpAddr::V6(address) => Some(address),
                    IpAddr::V4(_) => None,
                },
            )
        };
        Self { ipv4, ipv6: ipv6(true).or_else(|| ipv6(false)) }
    }
}

/// A device's first IPv4 address, else its first IPv6 address that others can reach through a router.
fn underlay_address(addresses: &[LinkAddress], ifindex: u32) -> Option<IpAddr> {
    let reachable = || addresses.iter().filter(|address| address.ifindex == ifindex && !address.is_link_local());
    let ipv4 = reachable().find(|address| address.address.is_ipv4());
    ipv4.or_else(|| reachable().next()).map(|address| address.address)
}

fn find(links: &[Link], name: &str, known: Option<u32>) -> Result<Link, ObserveError> {
    let by_name = links.iter().find(|link| link.name == name);
    let found = by_name.or_else(|| links.iter().find(|link| Some(link.index) == known));
    found.cloned().ok_or_else(|| ObserveError::NoDevice {
        name: name.to_owned(),
        present: links.iter().map(|link| link.name.as_str()).collect::<Vec<_>>().join(", "),
    })
}

/// Underlay addresses that tunnels lead to.
fn destinations(state: &DesiredState) -> impl Iterator<Item = IpAddr> {
    state.items.values().filter_map(|item| match item {
        Item::Node(node) => Some(node.address),
        Item::Edge(edge) => Some(edge.address),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, name: &str) -> Link {
        Link {
            index,
            name: name.to_owned(),
            mtu: 1_500,
            mac: Some([index as u8; 6]),
            is_up: true,
            ..Default::default()
        }
    }

    fn address(ifindex: u32, text: &str) -> LinkAddress {
        LinkAddress { ifindex, address: text.parse().unwrap(), prefix_length: 64, is_deprecated: false, is_ours: false }
    }

    #[test]
    fn a_renamed_device_is_found_again_and_a_new_one_of_its_name_is_preferred() {
        let links = [link(1, "lo"), link(2, "renamed")];
        assert_eq!(find(&links, "out0", Some(2)).unwrap().index, 2);
        let error = find(&links, "out0", None).unwrap_err().to_string();
        assert!(error.contains("out0 is not there") && error.contains("lo, renamed"), "{error}");
        let links = [link(2, "renamed"), link(7, "out0")];
        assert_eq!(find(&links, "out0", Some(2)).unwrap().index, 7);
    }

    #[test]
    fn the_underlay_address_is_one_that_others_can_reach() {
        let both = [address(1, "fe80::1"), address(1, "fd00::1"), address(1, "10.0.0.1"), address(2, "10.0.0.2")];
        assert_eq!(underlay_address(&both, 1), Some("10.0.0.1".parse().unwrap()));
        assert_eq!(underlay_address(&both[..2], 1), Some("fd00::1".parse().unwrap()));
        assert_eq!(underlay_address(&both[..1], 1), None);
        let senders = Senders::of(&both, 1);
        assert_eq!(
            (senders.ipv4, senders.ipv6),
            Some("10.0.0.1".parse().ok()).zip(Some("fe80::1".parse().ok())).unwrap()
        );
    }
}
