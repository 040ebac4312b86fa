//! What the kernel has now, as far as a node's desired state depends on it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use persona_core::ids::{EdgeNumber, WorkloadName};
use persona_core::wire::desired::{DesiredState, Item};

use super::config::AgentConfig;
use crate::netlink::{Link, LinkAddress, Netlink, NetlinkError, Path};

/// What a pass sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Observed {
    /// The uplink.
    pub uplink: Link,
    /// The node's address on the underlay.
    pub address: Ipv4Addr,
    /// Workload → its device's index, for those whose device is there.
    pub attached: BTreeMap<WorkloadName, u32>,
    /// Device index → MTU.
    pub mtus: BTreeMap<u32, u32>,
    /// Edge → the way there, for those that have one.
    pub paths: BTreeMap<EdgeNumber, Path>,
    /// Every address of this host.
    pub addresses: Vec<LinkAddress>,
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
    #[error("uplink {0} has no IPv4 address: give it one, or set address")]
    NoAddress(String),
}

impl Observed {
    /// Looks at the kernel. A way to an edge that is gone for the moment is taken from `before`.
    pub(super) async fn look(
        netlink: &Netlink,
        config: &AgentConfig,
        desired: &[&DesiredState],
        before: Option<&Observed>,
    ) -> Result<Self, ObserveError> {
        let links = netlink.links().await?;
        let addresses = netlink.addresses().await?;
        let uplink = find_uplink(&links, &config.uplink)?;
        let address = config.address.and_then(ipv4).or_else(|| first_address(&addresses, uplink.index));
        let address = address.ok_or_else(|| ObserveError::NoAddress(config.uplink.clone()))?;
        let mut paths = BTreeMap::new();
        for (edge, edge_address) in desired.iter().flat_map(|state| edges(state)) {
            let path = netlink.path_to(edge_address).await?;
            let path = path.or_else(|| before.and_then(|before| before.paths.get(&edge).copied()));
            paths.extend(path.map(|path| (edge, path)));
        }
        let attached = config.file.workload.iter().filter_map(|workload| {
            let link = links.iter().find(|link| Some(&link.name) == workload.device.as_ref())?;
            Some((workload.name().clone(), link.index))
        });
        Ok(Self {
            address,
            attached: attached.collect(),
            mtus: links.iter().map(|link| (link.index, link.mtu)).collect(),
            uplink,
            paths,
            addresses,
        })
    }
}

fn find_uplink(links: &[Link], name: &str) -> Result<Link, ObserveError> {
    links.iter().find(|link| link.name == name).cloned().ok_or_else(|| {
        let present: Vec<&str> = links.iter().map(|link| link.name.as_str()).collect();
        ObserveError::NoUplink { uplink: name.to_owned(), present: present.join(", ") }
    })
}

fn first_address(addresses: &[LinkAddress], ifindex: u32) -> Option<Ipv4Addr> {
    let mut on_device = addresses.iter().filter(|address| address.ifindex == ifindex);
    on_device.find_map(|address| ipv4(address.address))
}

fn ipv4(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

fn edges(state: &DesiredState) -> impl Iterator<Item = (EdgeNumber, IpAddr)> {
    state.items.values().filter_map(|item| match item {
        Item::Edge(edge) => Some((edge.number, edge.address)),
        _ => None,
    })
}
