//! What the kernel has now, as far as a gateway depends on it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::config::GatewayConfig;
use crate::dataplane::gateway_tables::DeliveryEntry;
use crate::netlink::{Link, Neighbours, Netlink, NetlinkError, Path};

/// What the kernel has now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Observed {
    /// Every link.
    pub(super) links: Vec<Link>,
    /// Instance or node → the way there.
    pub(super) paths: BTreeMap<IpAddr, Path>,
    /// Hardware addresses that are resolved.
    pub(super) neighbours: Neighbours,
}

impl Observed {
    /// Looks. The ways to all instances that are reached directly, and to all nodes, are looked up.
    pub(super) async fn look(netlink: &Netlink, config: &GatewayConfig) -> Result<Self, NetlinkError> {
        let mut paths = BTreeMap::new();
        for destination in destinations(config) {
            if let Some(path) = netlink.path_to(destination).await? {
                paths.insert(destination, path);
            }
        }
        Ok(Self { links: netlink.links().await?, paths, neighbours: netlink.neighbours().await? })
    }

    /// The device of this name.
    pub(super) fn device(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }

    /// The device of this index.
    pub(super) fn link(&self, index: u32) -> Option<&Link> {
        self.links.iter().find(|link| link.index == index)
    }

    /// The devices that are there, and the names of those that are not.
    pub(super) fn devices<'a>(&'a self, names: &'a [String]) -> (Vec<&'a Link>, Vec<&'a str>) {
        let found = names.iter().filter_map(|name| self.device(name)).collect();
        (found, names.iter().filter(|name| self.device(name).is_none()).map(String::as_str).collect())
    }
}

fn destinations(config: &GatewayConfig) -> BTreeSet<IpAddr> {
    let of_service = config.file.service.iter().flat_map(|service| {
        service.instance.iter().map(|instance| match service.delivery_of(instance) {
            DeliveryEntry::Tunnel { node, .. } => node,
            DeliveryEntry::Nat | DeliveryEntry::L2 => instance.address,
        })
    });
    of_service.collect()
}
