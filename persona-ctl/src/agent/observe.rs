//! What the kernel has now, as far as a node's desired state depends on it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use persona_core::ids::{EdgeNumber, WorkloadName};
use persona_core::wire::desired::{DesiredState, Item};

use super::cgroup;
use super::config::AgentConfig;
use super::downward::Demands;
use super::queues::Leaves;
use super::workload_config::{Told, WorkloadConfig};
use crate::netlink::{Link, LinkAddress, Netlink, NetlinkError, Path};

/// What a pass sees.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Observed {
    /// The uplink.
    pub uplink: Link,
    /// The node's address on the underlay.
    pub address: Option<IpAddr>,
    /// Workload → its device's index, for those whose device is there.
    pub attached: BTreeMap<WorkloadName, u32>,
    /// Path → id, for the configured control groups that are there.
    pub cgroups: BTreeMap<String, u64>,
    /// Every device of this namespace.
    pub links: Vec<Link>,
    /// Edge → the way there, for those that have one.
    pub paths: BTreeMap<EdgeNumber, Path>,
    /// Every address of this host.
    pub addresses: Vec<LinkAddress>,
    /// Edge's address → what routers on the way there say that it carries, bytes.
    pub narrowed: BTreeMap<IpAddr, u32>,
    /// What subjects want of totals downwards, by what they have used.
    pub demands: Demands,
    /// The encrypted tunnel's device, where there is one.
    pub wire_ifindex: Option<u32>,
    /// The queues that classes may have.
    pub leaves: Leaves,
}

/// An observation that cannot be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum ObserveError {
    /// The kernel did not answer.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// The uplink is not there.
    #[error("uplink {uplink} is not there: the devices here are {present}")]
    NoUplink {
        /// Its configured name.
        uplink: String,
        /// Those that are there.
        present: String,
    },
    /// The uplink has no address.
    #[error("uplink {0} has no address but link-local ones: give it one, or set address")]
    NoAddress(String),
}

impl Observed {
    /// Looks at the kernel. A way to an edge that is gone for the moment is taken from `before`, and so is the device behind a
    /// configured name that is not there any more: a device that was only renamed is followed.
    pub(super) async fn look(
        netlink: &Netlink,
        config: &AgentConfig,
        desired: &[&DesiredState],
        before: Option<&Observed>,
    ) -> Result<Self, ObserveError> {
        let links = netlink.links().await?;
        let addresses = netlink.addresses().await?;
        let uplink = find_link(&links, &config.uplink, before.map(|before| before.uplink.index)).cloned();
        let uplink = uplink.ok_or_else(|| no_uplink(config, &links))?;
        let address = config.address.or_else(|| first_address(&addresses, uplink.index));
        // An uplink that flaps has no address for a moment; the one before is as good.
        let address = address.or_else(|| before.and_then(|before| before.address));
        let address = address.ok_or_else(|| ObserveError::NoAddress(config.uplink.clone()))?;
        let mut paths = BTreeMap::new();
        for (edge, edge_address) in desired.iter().flat_map(|state| edges(state)) {
            let path = netlink.path_to(edge_address).await?;
            let path = path.or_else(|| before.and_then(|before| before.paths.get(&edge).copied()));
            paths.extend(path.map(|path| (edge, path)));
        }
        let attached = config.file.workload.iter().filter_map(|workload| {
            let index_before = before.and_then(|before| before.attached.get(workload.name())).copied();
            let link = find_link(&links, workload.device.as_ref()?, index_before)?;
            Some((workload.name().clone(), link.index))
        });
        let attached = attached.collect();
        let cgroups = cgroup::ids_of(config.groups());
        let (narrowed, demands) = Default::default();
        let wire_ifindex = before.and_then(|before| before.wire_ifindex);
        let leaves = before.map(|before| before.leaves).unwrap_or_default();
        Ok(Self {
            uplink,
            address: Some(address),
            attached,
            cgroups,
            links,
            paths,
            addresses,
            narrowed,
            demands,
            wire_ifindex,
            leaves,
        })
    }

    /// A device by its index.
    pub(super) fn link(&self, index: u32) -> Option<&Link> {
        self.links.iter().find(|link| link.index == index)
    }

    /// Whether what a workload is told by is there.
    pub(super) fn has(&self, workload: &WorkloadConfig) -> bool {
        match workload.told() {
            Told::Device(_) | Told::Source(_) => self.attached.contains_key(workload.name()),
            Told::Cgroup(path) => self.cgroups.contains_key(path),
            // Whether its instance is there is told with its limits.
            Told::Nothing => true,
        }
    }

    /// The largest packet that the way to an edge carries as its device and route say, bytes.
    pub(super) fn mtu_to(&self, edge: EdgeNumber) -> Option<u32> {
        let path = self.paths.get(&edge)?;
        let link_mtu = self.link(path.ifindex)?.mtu;
        Some(path.mtu.unwrap_or(u32::MAX).min(link_mtu))
    }

    /// The least of the ways to all edges, or the uplink's while there is none: what reports carry.
    pub(super) fn underlay_mtu(&self) -> u32 {
        let least = self.paths.keys().filter_map(|edge| self.mtu_to(*edge)).min().unwrap_or(self.uplink.mtu);
        self.narrowed.values().copied().fold(least, u32::min)
    }
}

/// The device of a name, or else the one that had it when it was last seen.
fn find_link<'a>(links: &'a [Link], name: &str, index_before: Option<u32>) -> Option<&'a Link> {
    let named = links.iter().find(|link| link.name == name);
    named.or_else(|| links.iter().find(|link| Some(link.index) == index_before))
}

fn no_uplink(config: &AgentConfig, links: &[Link]) -> ObserveError {
    let present: Vec<&str> = links.iter().map(|link| link.name.as_str()).collect();
    ObserveError::NoUplink { uplink: config.uplink.clone(), present: present.join(", ") }
}

fn first_address(addresses: &[LinkAddress], ifindex: u32) -> Option<IpAddr> {
    let mut on_device: Vec<&LinkAddress> = addresses
        .iter()
        .filter(|address| address.ifindex == ifindex && !address.is_link_local() && !address.is_deprecated)
        .collect();
    on_device.sort_by_key(|address| address.address.is_ipv6());
    on_device.first().map(|address| address.address)
}

fn edges(state: &DesiredState) -> impl Iterator<Item = (EdgeNumber, IpAddr)> {
    state.items.values().filter_map(|item| match item {
        Item::Edge(edge) => Some((edge.number, edge.address)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, name: &str) -> Link {
        Link { index, name: name.into(), ..Default::default() }
    }

    #[test]
    fn a_renamed_device_is_followed_and_a_new_one_of_the_name_goes_first() {
        let cases = [
            (vec![link(7, "veth1")], None, Some(7)),
            (vec![link(7, "other")], Some(7), Some(7)),
            (vec![link(7, "other"), link(9, "veth1")], Some(7), Some(9)),
            (vec![link(8, "other")], Some(7), None),
            (vec![link(9, "veth1")], Some(7), Some(9)),
        ];
        for (links, before, expected) in cases {
            assert_eq!(find_link(&links, "veth1", before).map(|link| link.index), expected, "{links:?}");
        }
    }

    #[test]
    fn the_underlay_address_is_ipv4_first_and_never_link_local() {
        let address = |text: &str| LinkAddress {
            ifindex: 1,
            address: text.parse().unwrap(),
            prefix_length: 24,
            is_deprecated: false,
            is_ours: false,
        };
        let cases: [(&[&str], Option<&str>); 4] = [
            (&["2001:db8::1", "10.0.0.1"], Some("10.0.0.1")),
            (&["fe80::1", "2001:db8::1"], Some("2001:db8::1")),
            (&["fe80::1"], None),
            (&[], None),
        ];
        for (present, expected) in cases {
            let addresses: Vec<_> = present.iter().map(|text| address(text)).collect();
            assert_eq!(first_address(&addresses, 1), expected.map(|text| text.parse().unwrap()), "{present:?}");
        }
    }
}
