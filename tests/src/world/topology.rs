//! Namespaces, links and addresses. Nothing here knows of personas.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use super::{Families, Hook};
use crate::ledger::Ledger;
use crate::netns::{Forwarding, Namespace, run};

/// Where an edge stands.
#[derive(Debug, Clone, Copy)]
pub struct EdgePlace {
    /// Its name.
    pub name: &'static str,
    /// Its group.
    pub group: &'static str,
    /// Its address on the underlay.
    pub inside: &'static str,
    /// Its own address on the outside segment.
    pub outside: &'static str,
    /// The interface identifier of its IPv6 addresses, on both.
    pub interface6: &'static str,
}

/// The edges.
pub const EDGES: [EdgePlace; 3] = [
    EdgePlace { name: "fra1", group: "frankfurt", inside: "192.168.77.21", outside: "203.0.113.11", interface6: "21" },
    EdgePlace { name: "fra2", group: "frankfurt", inside: "192.168.77.22", outside: "203.0.113.12", interface6: "22" },
    EdgePlace { name: "tok1", group: "tokyo", inside: "192.168.77.31", outside: "203.0.113.13", interface6: "31" },
];

/// Where a node stands.
#[derive(Debug, Clone, Copy)]
pub struct NodePlace {
    /// Its name.
    pub name: &'static str,
    /// Its address on the underlay.
    pub address: &'static str,
    /// The interface identifier of its IPv6 address there.
    pub interface6: &'static str,
}

/// The node that every world has.
pub const FIRST_NODE: NodePlace = NodePlace { name: super::NODE, address: "192.168.77.11", interface6: "11" };

/// Another one, for worlds that want two.
pub const SECOND_NODE: NodePlace = NodePlace { name: "n2", address: "192.168.77.12", interface6: "12" };

/// Where a workload stands.
#[derive(Debug, Clone, Copy)]
pub struct WorkloadPlace {
    /// Its name, and that of its device on the node.
    pub name: &'static str,
    /// Its address.
    pub address: &'static str,
    /// The node's address towards it.
    pub gateway: &'static str,
    /// Its IPv6 address.
    pub address6: &'static str,
    /// The node's IPv6 address towards it.
    pub gateway6: &'static str,
}

/// The workloads.
pub const WORKLOADS: [WorkloadPlace; 2] = [
    WorkloadPlace {
        name: "w1",
        address: "10.10.1.2",
        gateway: "10.10.1.1",
        address6: "fd00:10:10:1::2",
        gateway6: "fd00:10:10:1::1",
    },
    WorkloadPlace {
        name: "w2",
        address: "10.10.2.2",
        gateway: "10.10.2.1",
        address6: "fd00:10:10:2::2",
        gateway6: "fd00:10:10:2::1",
    },
];

/// A container, for worlds that bring one.
pub const CONTAINER: WorkloadPlace = WorkloadPlace {
    name: "c1",
    address: "10.10.3.2",
    gateway: "10.10.3.1",
    address6: "fd00:10:10:3::2",
    gateway6: "fd00:10:10:3::1",
};

/// A QEMU guest, for worlds that bring one.
pub const GUEST: WorkloadPlace = WorkloadPlace {
    name: "v1",
    address: "10.10.4.2",
    gateway: "10.10.4.1",
    address6: "fd00:10:10:4::2",
    gateway6: "fd00:10:10:4::1",
};

/// The ranges that workloads' addresses lie in.
pub const WORKLOAD_RANGES: [&str; 2] = ["10.10.0.0/16", "fd00:10:10::/48"];

/// The underlay's IPv6 prefix, where that is its family.
pub(super) const UNDERLAY_PREFIX6: &str = "fd77::";

/// The outside segment's IPv6 prefix.
const OUTSIDE_PREFIX6: &str = "2001:db8:77::";

/// The IPv6 pools of the fixture, and the next hops that their edges answer for.
const POOL_ROUTES6: [(&str, &str); 2] = [("2001:db8:1::/56", "2001:db8:77::f"), ("2001:db8:2::/56", "2001:db8:77::e")];

/// The edges' next hop.
pub(super) const ROUTER_ADDRESS: &str = "203.0.113.1";

/// The edges' next hop for IPv6.
pub(super) const ROUTER_ADDRESS6: &str = "2001:db8:77::1";

/// All namespaces of a world.
#[derive(Debug, Clone)]
pub struct Namespaces {
    /// The underlay's bridge; the manager and the command line run here too.
    pub underlay: Namespace,
    /// The node.
    pub node: Namespace,
    /// The workloads, by name.
    pub workloads: BTreeMap<&'static str, Namespace>,
    /// The edges, by name.
    pub edges: BTreeMap<&'static str, Namespace>,
    /// The outside segment's bridge.
    pub outside: Namespace,
    /// The edges' next hop.
    pub router: Namespace,
    /// The host behind it.
    pub internet: Namespace,
}

impl Namespaces {
    /// Makes them all, connected and addressed.
    pub fn build(ledger: &Ledger, prefix: &str, hook: Hook, families: Families) -> Result<Self> {
        let make = |name: &str, forwarding| Namespace::create(ledger, &format!("{prefix}-{name}"), forwarding);
        let mut namespaces = Self {
            underlay: make("underlay", Forwarding::Off)?,
            node: make("n1", Forwarding::On)?,
            workloads: BTreeMap::new(),
            edges: BTreeMap::new(),
            outside: make("outside", Forwarding::Off)?,
            router: make("router", Forwarding::On)?,
            internet: make("internet", Forwarding::Off)?,
        };
        for place in WORKLOADS {
            namespaces.workloads.insert(place.name, make(place.name, Forwarding::Off)?);
        }
        for place in EDGES {
            namespaces.edges.insert(place.name, make(place.name, Forwarding::Off)?);
        }
        namespaces.connect_underlay(families)?;
        namespaces.connect_workloads()?;
        namespaces.connect_outside()?;
        if families != Families::Ipv4 {
            namespaces.address_outside6()?;
        }
        if hook == Hook::Xdp {
            namespaces.suit_xdp()?;
        }
        Ok(namespaces)
    }

    /// All of them.
    pub fn all(&self) -> Vec<&Namespace> {
        let fixed = [&self.underlay, &self.node, &self.outside, &self.router, &self.internet];
        fixed.into_iter().chain(self.workloads.values()).chain(self.edges.values()).collect()
    }

    /// Cuts both links of an edge, or mends them, at the far ends: the edge loses carrier, as if a cable were pulled.
    pub fn set_edge_links(&self, edge: &str, state: LinkState) -> Result<()> {
        self.set_edge_link(edge, EdgeSide::Inside, state)?;
        self.set_edge_link(edge, EdgeSide::Outside, state)
    }

    /// Cuts or mends one of them.
    pub fn set_edge_link(&self, edge: &str, side: EdgeSide, state: LinkState) -> Result<()> {
        let word = match state {
            LinkState::Cut => "down",
            LinkState::Whole => "up",
        };
        let bridge = match side {
            EdgeSide::Inside => &self.underlay,
            EdgeSide::Outside => &self.outside,
        };
        bridge.ip(&format!("link set {edge} {word}")).map(drop)
    }

    /// The hardware address of an edge's device.
    pub fn edge_mac(&self, edge: &str, device: &str) -> Result<String> {
        mac_of(&self.edges[edge], device)
    }

    fn connect_underlay(&self, families: Families) -> Result<()> {
        add_bridge(&self.underlay)?;
        let manager = underlay_address(families, "192.168.77.1", "1");
        self.underlay.add_address("br0", &with_length(&manager))?;
        self.connect_node(&self.node, &FIRST_NODE, families)?;
        for place in EDGES {
            let inside = place.underlay_address(families);
            connect_to_bridge(&self.edges[place.name], "in0", &self.underlay, place.name, &inside)?;
            fix_address(&self.edges[place.name], "in0", &self.underlay, place.name)?;
        }
        Ok(())
    }

    /// Connects a node with the underlay.
    pub(super) fn connect_node(&self, node: &Namespace, place: &NodePlace, families: Families) -> Result<()> {
        connect_to_bridge(node, "up0", &self.underlay, place.name, &place.underlay_address(families))
    }

    fn connect_workloads(&self) -> Result<()> {
        for place in WORKLOADS {
            self.attach(&self.node, &place, &self.workloads[place.name])?;
        }
        Ok(())
    }

    /// Connects a workload's namespace with a node by a veth pair.
    pub(super) fn attach(&self, node: &Namespace, place: &WorkloadPlace, workload: &Namespace) -> Result<()> {
        workload.link("eth0", node, place.name)?;
        workload.add_address("eth0", &format!("{}/24", place.address))?;
        workload.add_address("eth0", &format!("{}/64", place.address6))?;
        address_device(node, place)?;
        workload.ip(&format!("route add default via {}", place.gateway))?;
        workload.ip(&format!("-6 route add default via {}", place.gateway6)).map(drop)
    }

    /// Makes a tap device for a guest, as a hypervisor does, with headers that say how a packet shall be segmented.
    pub(super) fn add_tap(&self, place: &WorkloadPlace) -> Result<()> {
        self.node.ip(&format!("tuntap add {} mode tap vnet_hdr", place.name))?;
        self.node.ip(&format!("link set {} up", place.name))?;
        address_device(&self.node, place)
    }

    fn connect_outside(&self) -> Result<()> {
        add_bridge(&self.outside)?;
        connect_to_bridge(&self.router, "seg0", &self.outside, "router", ROUTER_ADDRESS)?;
        for place in EDGES {
            connect_to_bridge(&self.edges[place.name], "out0", &self.outside, place.name, place.outside)?;
            fix_address(&self.edges[place.name], "out0", &self.outside, place.name)?;
        }
        self.router.link("net0", &self.internet, "eth0")?;
        self.router.add_address("net0", "198.51.100.1/24")?;
        self.internet.add_address("eth0", &format!("{}/24", super::INTERNET_ADDRESS))?;
        self.internet.ip("route add default via 198.51.100.1")?;
        Ok(())
    }

    /// IPv6 on the outside: the router has a route for each pool, by way of the address that the pool's edges answer for.
    fn address_outside6(&self) -> Result<()> {
        self.router.add_address("seg0", &format!("{ROUTER_ADDRESS6}/64"))?;
        for place in EDGES {
            let address = format!("{OUTSIDE_PREFIX6}{}/64", place.interface6);
            self.edges[place.name].add_address("out0", &address)?;
        }
        for (pool, next_hop) in POOL_ROUTES6 {
            self.router.ip(&format!("-6 route add {pool} via {next_hop}"))?;
        }
        self.router.add_address("net0", "2001:db8:51::1/64")?;
        self.internet.add_address("eth0", &format!("{}/64", super::INTERNET_ADDRESS6))?;
        self.internet.ip("-6 route add default via 2001:db8:51::1").map(drop)
    }

    /// XDP on veth: frames sent by a program arrive only where the far end runs NAPI, and a sender that leaves its
    /// checksums to the device would have them delivered wrong.
    fn suit_xdp(&self) -> Result<()> {
        for workload in self.workloads.values() {
            workload.set_offloads("eth0", "tx off")?;
        }
        self.internet.set_offloads("eth0", "tx off")?;
        self.underlay.set_offloads("n1", "gro on")?;
        for edge in self.edges.keys() {
            self.underlay.set_offloads(edge, "gro on")?;
            self.outside.set_offloads(edge, "gro on")?;
        }
        Ok(())
    }
}

impl EdgePlace {
    /// Its address on the underlay.
    pub fn underlay_address(&self, families: Families) -> String {
        underlay_address(families, self.inside, self.interface6)
    }
}

impl NodePlace {
    /// Its address on the underlay.
    pub fn underlay_address(&self, families: Families) -> String {
        underlay_address(families, self.address, self.interface6)
    }
}

/// The node's side of a workload's link.
fn address_device(node: &Namespace, place: &WorkloadPlace) -> Result<()> {
    node.add_address(place.name, &format!("{}/24", place.gateway))?;
    node.add_address(place.name, &format!("{}/64", place.gateway6))
}

/// An address of the underlay's family.
pub(super) fn underlay_address(families: Families, address: &str, interface6: &str) -> String {
    match families {
        Families::Ipv4 | Families::BothOverIpv4 => address.to_owned(),
        Families::BothOverIpv6 => format!("{UNDERLAY_PREFIX6}{interface6}"),
    }
}

/// An address with the length of its segment's prefix.
fn with_length(address: &str) -> String {
    format!("{address}/{}", if address.contains(':') { 64 } else { 24 })
}

/// Whether an edge's links carry frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkState {
    /// They do not.
    Cut,
    /// They do.
    Whole,
}

/// Which side of an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EdgeSide {
    /// Towards the nodes.
    Inside,
    /// Towards the internet.
    Outside,
}

/// Makes a bridge remember an edge's address for good. Otherwise the cut of its link would make the bridge forget it
/// and flood what is meant for it to the other edges, which would carry it: a help that no test should count on.
fn fix_address(edge: &Namespace, device: &str, bridge: &Namespace, port: &str) -> Result<()> {
    let address = mac_of(edge, device)?;
    run("bridge", &["-n", &bridge.name, "fdb", "replace", &address, "dev", port, "master", "static"]).map(drop)
}

fn mac_of(namespace: &Namespace, device: &str) -> Result<String> {
    let links: serde_json::Value = serde_json::from_str(&namespace.ip(&format!("-j link show dev {device}"))?)?;
    links[0]["address"].as_str().map(str::to_owned).context("a veth has an address")
}

fn add_bridge(namespace: &Namespace) -> Result<()> {
    namespace.ip("link add br0 type bridge forward_delay 0")?;
    namespace.ip("link set br0 up").map(drop)
}

fn connect_to_bridge(host: &Namespace, device: &str, bridge: &Namespace, port: &str, address: &str) -> Result<()> {
    host.link(device, bridge, port)?;
    bridge.ip(&format!("link set {port} master br0"))?;
    host.add_address(device, &with_length(address))
}
