//! What a workload's interface and the host's side of it shall have, and the difference to what they have. Pure.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use persona_core::ids::WorkloadName;

use crate::netlink::{AddressLabel, LinkAddress, Neighbours, OurRoute};

/// The next hop that workloads are given: nobody's address, held by a permanent neighbour entry (RFC 3927's range).
pub(super) const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// The same for IPv6.
pub(super) const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0x7e, 1);

/// Of IPv4 routes.
const METRIC: u32 = 0;
/// Below every metric that kernels and routing daemons choose by themselves.
const METRIC6: u32 = 16;
/// Behind every other route: for flows of old leases when no lease is in force.
const METRIC_LAST: u32 = 0x7e50_0000;

/// The label of all IPv6 destinations that have no other (RFC 6724 §2.1).
const LABEL_OF_ALL: u32 = 1;

/// How the inside of a workload is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// Through the peer of its device.
    Peer,
    /// A file such as /run/netns/NAME.
    Namespace(PathBuf),
    /// A process inside.
    Process(u32),
    /// Not at all: addresses are offered on the device.
    Serve,
}

/// A leased address for a workload's own interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConfiguredLease {
    /// The address.
    pub address: IpAddr,
    /// 32, or the prefix's length.
    pub prefix_length: u8,
    /// Whether new connections shall take it; else it stays deprecated until its last flow has ended.
    pub is_current: bool,
    /// Largest packet, bytes.
    pub mtu: u16,
}

/// What one workload shall have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfiguredWorkload {
    /// Who.
    pub name: WorkloadName,
    /// The host's side of its device.
    pub ifindex: u32,
    /// How to get inside.
    pub reach: Reach,
    /// Its leases; none: what we put there goes.
    pub leases: Vec<ConfiguredLease>,
    /// Local IPv6 prefixes from which global destinations shall be preferred over IPv4 ones (`prefer-ipv6`).
    pub preferred_prefixes: Vec<(Ipv6Addr, u8)>,
}

/// Everything of ours in a network namespace, as it is or as it shall be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ours {
    pub addresses: BTreeSet<LinkAddress>,
    pub routes: BTreeSet<OurRoute>,
    /// Gateways' permanent neighbour entries.
    pub neighbours: Neighbours,
    pub labels: BTreeSet<AddressLabel>,
}

impl ConfiguredWorkload {
    /// What its interface with this index shall have, the host's side having this hardware address.
    pub(super) fn wanted_inside(&self, ifindex: u32, gateway_mac: [u8; 6]) -> Ours {
        let mut wanted = Ours::default();
        for lease in &self.leases {
            wanted.addresses.insert(LinkAddress {
                ifindex,
                address: lease.address,
                prefix_length: lease.prefix_length,
                is_deprecated: !lease.is_current,
                is_ours: true,
            });
        }
        for gateway in [IpAddr::V4(GATEWAY), IpAddr::V6(GATEWAY6)] {
            let mut of_family = self.leases.iter().filter(|lease| lease.address.is_ipv4() == gateway.is_ipv4());
            // The newest lease in force goes last in the list; without one the old ones still need a way.
            let Some(lease) = of_family.clone().find(|lease| lease.is_current).or(of_family.next_back()) else {
                continue;
            };
            wanted.neighbours.insert((ifindex, gateway), gateway_mac);
            for (destination, metric) in default_routes(gateway, lease.is_current) {
                wanted.routes.insert(OurRoute {
                    destination,
                    ifindex,
                    gateway: Some(gateway),
                    source: lease.is_current.then_some(lease.address),
                    mtu: Some(lease.mtu.into()),
                    metric,
                });
            }
        }
        wanted.labels = labels_of(&self.preferred_prefixes);
        wanted
    }

    /// The host's routes towards it.
    pub(super) fn wanted_on_host(&self, ifindex: u32) -> impl Iterator<Item = OurRoute> {
        self.leases.iter().map(move |lease| OurRoute {
            destination: (crate::netlink::network_of(lease.address, lease.prefix_length), lease.prefix_length),
            ifindex,
            gateway: None,
            source: None,
            mtu: None,
            metric: if lease.address.is_ipv4() { METRIC } else { METRIC6 },
        })
    }
}

/// Destinations and metrics that together lead everywhere. In IPv4 two halves go before any other default route whatever
/// its metric; one default beside another of the same metric would not: the kernel then takes the one whose gateway it
/// has heard of last (fib_select_default).
fn default_routes(gateway: IpAddr, is_current: bool) -> Vec<((IpAddr, u8), u32)> {
    let (nowhere, nowhere6) = (IpAddr::from(Ipv4Addr::UNSPECIFIED), IpAddr::from(Ipv6Addr::UNSPECIFIED));
    match (gateway, is_current) {
        (IpAddr::V4(_), true) => {
            vec![((nowhere, 1), METRIC), ((Ipv4Addr::new(128, 0, 0, 0).into(), 1), METRIC)]
        }
        (IpAddr::V4(_), false) => vec![((nowhere, 0), METRIC_LAST)],
        (IpAddr::V6(_), true) => vec![((nowhere6, 0), METRIC6)],
        (IpAddr::V6(_), false) => vec![((nowhere6, 0), METRIC_LAST)],
    }
}

impl Ours {
    /// What of ours is on one interface, among everything that was seen in its namespace.
    pub(super) fn among(
        ifindex: u32,
        addresses: Vec<LinkAddress>,
        routes: Vec<OurRoute>,
        neighbours: &Neighbours,
        labels: Vec<AddressLabel>,
    ) -> Self {
        let is_gateway = |address: IpAddr| address == IpAddr::V4(GATEWAY) || address == IpAddr::V6(GATEWAY6);
        Self {
            addresses: addresses.into_iter().filter(|address| address.is_ours && address.ifindex == ifindex).collect(),
            routes: routes.into_iter().filter(|route| route.ifindex == ifindex).collect(),
            neighbours: neighbours
                .iter()
                .filter(|((index, address), _)| *index == ifindex && is_gateway(*address))
                .map(|(key, mac)| (*key, *mac))
                .collect(),
            labels: our_labels(labels),
        }
    }

    /// What is in `self` and not in `other`.
    pub(super) fn without(&self, other: &Self) -> Self {
        let neighbours = self.neighbours.iter().filter(|(key, mac)| other.neighbours.get(*key) != Some(*mac));
        Self {
            addresses: self.addresses.difference(&other.addresses).copied().collect(),
            routes: self.routes.difference(&other.routes).copied().collect(),
            neighbours: neighbours.map(|(key, mac)| (*key, *mac)).collect(),
            labels: self.labels.difference(&other.labels).copied().collect(),
        }
    }
}

/// The labels that make global destinations preferred from these prefixes.
pub(super) fn labels_of(prefixes: &[(Ipv6Addr, u8)]) -> BTreeSet<AddressLabel> {
    prefixes.iter().map(|prefix| AddressLabel { prefix: *prefix, label: LABEL_OF_ALL }).collect()
}

/// Those among all labels that only we give.
pub(super) fn our_labels(labels: Vec<AddressLabel>) -> BTreeSet<AddressLabel> {
    labels.into_iter().filter(is_our_label).collect()
}

/// Labels that only we give: that of all destinations to a unique local prefix (RFC 4193), which has its own by default.
fn is_our_label(label: &AddressLabel) -> bool {
    let (address, length) = label.prefix;
    label.label == LABEL_OF_ALL && length > 7 && address.is_unique_local()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

    fn lease(address: &str, is_current: bool) -> ConfiguredLease {
        let address: IpAddr = address.parse().unwrap();
        ConfiguredLease { address, prefix_length: if address.is_ipv4() { 32 } else { 64 }, is_current, mtu: 1_400 }
    }

    fn workload(leases: Vec<ConfiguredLease>) -> ConfiguredWorkload {
        let name = "w1".parse().unwrap();
        ConfiguredWorkload { name, ifindex: 7, reach: Reach::Peer, leases, preferred_prefixes: Vec::new() }
    }

    #[test]
    fn a_lease_becomes_an_address_a_route_and_a_gateway() {
        let wanted = workload(vec![lease("203.0.113.9", true)]).wanted_inside(2, MAC);
        let address = wanted.addresses.first().unwrap();
        assert_eq!((address.prefix_length, address.is_deprecated), (32, false));
        assert_eq!(wanted.routes.iter().map(|route| route.destination.1).collect::<Vec<_>>(), [1, 1]);
        let route = wanted.routes.first().unwrap();
        assert_eq!((route.source, route.mtu, route.metric), (Some(address.address), Some(1_400), 0));
        assert_eq!(wanted.neighbours, [((2, GATEWAY.into()), MAC)].into());
    }

    #[test]
    fn an_old_lease_stays_deprecated_and_new_connections_take_the_new_one() {
        let leases = vec![lease("203.0.113.4", false), lease("203.0.113.9", true), lease("2001:db8:5::1", true)];
        let wanted = workload(leases).wanted_inside(2, MAC);
        let deprecated: Vec<_> = wanted.addresses.iter().filter(|address| address.is_deprecated).collect();
        assert_eq!(deprecated.len(), 1);
        assert_eq!(deprecated[0].address.to_string(), "203.0.113.4");
        let sources: Vec<_> = wanted.routes.iter().map(|route| route.source.unwrap().to_string()).collect();
        assert_eq!(sources, ["203.0.113.9", "203.0.113.9", "2001:db8:5::1"]);
    }

    #[test]
    fn without_a_lease_in_force_old_flows_keep_a_way_behind_all_others() {
        let wanted = workload(vec![lease("203.0.113.4", false)]).wanted_inside(2, MAC);
        let route = wanted.routes.first().unwrap();
        assert_eq!((route.source, route.metric), (None, METRIC_LAST));
        assert_eq!(workload(vec![]).wanted_inside(2, MAC), Ours::default(), "nothing leased: nothing of ours");
    }

    #[test]
    fn the_host_leads_leased_addresses_to_the_device() {
        let workload = workload(vec![lease("203.0.113.9", true), lease("2001:db8:5::1", false)]);
        let routes: Vec<_> = workload.wanted_on_host(7).map(|route| route.destination).collect();
        assert_eq!(routes, [("203.0.113.9".parse().unwrap(), 32), ("2001:db8:5::".parse().unwrap(), 64)]);
    }

    #[test]
    fn only_what_is_ours_is_ever_taken_away() {
        let address = |text: &str, is_ours| LinkAddress {
            ifindex: 2,
            address: text.parse().unwrap(),
            prefix_length: 32,
            is_deprecated: false,
            is_ours,
        };
        let label = |prefix: &str, length, label| AddressLabel { prefix: (prefix.parse().unwrap(), length), label };
        let labels = vec![label("::", 0, 1), label("fc00::", 7, 5), label("fd00:1::", 64, 1), label("fd00:2::", 64, 9)];
        let neighbours = [((2, GATEWAY.into()), MAC), ((2, "10.0.0.1".parse().unwrap()), MAC)].into();
        let addresses = vec![address("10.0.0.2", false), address("203.0.113.4", true)];
        let ours = Ours::among(2, addresses, Vec::new(), &neighbours, labels);
        assert_eq!(ours.addresses.len(), 1);
        assert_eq!(ours.neighbours.len(), 1);
        assert_eq!(ours.labels, [label("fd00:1::", 64, 1)].into());
        assert_eq!(ours.without(&ours), Ours::default());
    }
}
