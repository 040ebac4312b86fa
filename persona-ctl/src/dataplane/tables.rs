//! What the data plane is told, in domain types: the border between the agents, which decide, and the maps, which hold.
//!
//! A table is always given whole. The data plane compares it with what the pinned maps hold and writes the difference,
//! in an order in which no packet ever sees half of a change. It gives indices in maps itself, and finds them again in
//! the maps after a restart.

use std::net::Ipv4Addr;

use persona_core::ids::{EdgeNumber, Generation, GroupName, LeaseId, SubjectNumber, Vni};

/// Everything a node's programs need.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeTables {
    /// The node's own address on the underlay.
    pub underlay_address: Option<Ipv4Addr>,
    /// The subjects that live here.
    pub subjects: Vec<SubjectEntry>,
    /// Workload devices.
    pub devices: Vec<DeviceEntry>,
    /// Leases of the subjects, retiring ones included.
    pub leases: Vec<LeaseEntry>,
    /// All edges of all groups in use.
    pub edges: Vec<EdgeEntry>,
    /// One Maglev table per group.
    pub groups: Vec<GroupTable>,
    /// Destinations (address, prefix length) that pass by the persona: local subnets, the host's own addresses.
    pub bypass: Vec<(Ipv4Addr, u8)>,
    /// Source ranges that the guard never lets out untouched, beside the devices above.
    pub managed: Vec<(Ipv4Addr, u8)>,
}

/// A subject that lives on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubjectEntry {
    /// Its number.
    pub number: SubjectNumber,
    /// Its persona, while it has one. None: its packets are counted drops.
    pub network: Option<SubjectEgress>,
}

/// How a subject's new flows leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubjectEgress {
    /// The persona's unique id.
    pub vni: Vni,
    /// Largest inner IP packet, bytes.
    pub mtu: u16,
    /// Whether TCP, UDP and ICMP may pass.
    pub allow: AllowedProtocols,
    /// DSCP to set, inner and outer. None: copied.
    pub dscp: Option<u8>,
    /// The queueing class on the uplink, as in `skb->priority`: qdisc handle major << 16 | class minor. 0: none.
    pub egress_class: u32,
    /// The lease for new flows.
    pub lease: LeaseId,
}

/// Protocols that a persona lets pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AllowedProtocols {
    /// TCP (6).
    pub tcp: bool,
    /// UDP (17).
    pub udp: bool,
    /// ICMP echo (1).
    pub icmp: bool,
}

/// A workload's host-side device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceEntry {
    /// Its interface index.
    pub ifindex: u32,
    /// The subject behind it.
    pub subject: SubjectNumber,
    /// The only source address that its packets may have.
    pub address: Ipv4Addr,
}

/// A lease of one of this node's subjects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseEntry {
    /// Its id.
    pub id: LeaseId,
    /// Its holder.
    pub subject: SubjectNumber,
    /// The persona it is held under.
    pub vni: Vni,
    /// The egress address.
    pub address: Ipv4Addr,
    /// log2 of the ports in a block.
    pub block_bits: u8,
    /// The blocks, ascending.
    pub blocks: Vec<u16>,
    /// The group whose edges carry it.
    pub group: GroupName,
    /// Largest inner IP packet, bytes.
    pub mtu: u16,
    /// An edge may carry it only once its lease table has reached this generation.
    pub generation: Generation,
}

/// An edge, as a node reaches it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EdgeEntry {
    /// Its number: the index in the kernel's table.
    pub number: EdgeNumber,
    /// Its address on the underlay.
    pub address: Ipv4Addr,
    /// The device that leads to it.
    pub ifindex: u32,
    /// The next hop towards it: itself where it is on-link.
    pub next_hop: Ipv4Addr,
}

/// A group's Maglev table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupTable {
    /// Which group.
    pub group: GroupName,
    /// First and second choice per row, `persona_core::maglev::ROW_COUNT` rows; 0 stands for no edge.
    pub rows: Vec<(EdgeNumber, EdgeNumber)>,
}

/// Everything an edge's programs need.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EdgeTables {
    /// The edge's own address on the underlay.
    pub underlay_address: Option<Ipv4Addr>,
    /// The generation of the lease table, told to whoever probes.
    pub generation: Generation,
    /// Every egress address of the group.
    pub addresses: Vec<EgressAddressEntry>,
    /// Every lease of the group.
    pub leases: Vec<EdgeLeaseEntry>,
    /// Nodes whose packets are accepted.
    pub nodes: Vec<NodeEntry>,
    /// Where packets to the outside go.
    pub outside: Option<NextHopEntry>,
}

/// An egress address of the edge's group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EgressAddressEntry {
    /// The address.
    pub address: Ipv4Addr,
    /// log2 of the ports in a block of its pool.
    pub block_bits: u8,
}

/// A lease, as an edge needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EdgeLeaseEntry {
    /// The egress address; one of [`EdgeTables::addresses`].
    pub address: Ipv4Addr,
    /// The blocks, ascending.
    pub blocks: Vec<u16>,
    /// The holder's node; one of [`EdgeTables::nodes`].
    pub node: Ipv4Addr,
    /// The persona it is held under.
    pub vni: Vni,
    /// Largest inner IP packet, bytes.
    pub mtu: u16,
}

/// A node, as an edge reaches it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeEntry {
    /// Its address on the underlay.
    pub address: Ipv4Addr,
    /// The way there.
    pub next_hop: NextHopEntry,
}

/// A next hop: resolved addresses are needed by XDP, TC asks the kernel's neighbour table itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextHopEntry {
    /// The device that leads there.
    pub ifindex: u32,
    /// The next hop's address.
    pub address: Ipv4Addr,
    /// That device's own hardware address.
    pub source_mac: [u8; 6],
    /// The next hop's hardware address; None until it is resolved.
    pub destination_mac: Option<[u8; 6]>,
}
