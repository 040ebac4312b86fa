//! What the data plane is told, in domain types: the border between the agents, which decide, and the maps, which hold.
//!
//! A table is always given whole. The data plane compares it with what the pinned maps hold and writes the difference,
//! in an order in which no packet ever sees half of a change. It gives indices in maps itself, and finds them again in
//! the maps after a restart.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use persona_core::ids::{EdgeNumber, Generation, GroupName, LeaseId, SubjectNumber, Vni};
pub use persona_core::wire::desired::{Filtering, LeaseSpace};
pub use persona_core::wire::firewall::FirewallRule;

/// Everything a node's programs need.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeTables {
    /// The node's own address on the underlay.
    pub underlay_address: Option<IpAddr>,
    /// The TAP device of the slow path. None: what needs it is a counted drop.
    pub slow_ifindex: Option<u32>,
    /// The subjects that live here.
    pub subjects: Vec<SubjectEntry>,
    /// Workload devices.
    pub devices: Vec<DeviceEntry>,
    /// Control groups whose processes are a subject. An entry covers the groups below it, until a nearer one.
    pub cgroups: Vec<CgroupEntry>,
    /// Subjects behind shared devices, by their source addresses.
    pub sources: Vec<SourceEntry>,
    /// Leases of the subjects, retiring ones included.
    pub leases: Vec<LeaseEntry>,
    /// All edges of all groups in use.
    pub edges: Vec<EdgeEntry>,
    /// One Maglev table per group.
    pub groups: Vec<GroupTable>,
    /// Tables that go before a group's own, for the leases of some subjects.
    pub planned: Vec<PlannedTable>,
    /// Destinations (address, prefix length) that pass by every persona: local subnets, the host's own addresses.
    pub bypass: Vec<(IpAddr, u8)>,
    /// Source ranges that the guard never lets out untouched, beside the devices above.
    pub managed: Vec<(IpAddr, u8)>,
    /// The encrypted tunnel to edges.
    pub wire: WireTable,
}

/// What goes through the encrypted tunnel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WireTable {
    /// The tunnel's device. None: there is none, and what needs it is a counted drop.
    pub ifindex: Option<u32>,
    /// Leases whose packets go through it and through nothing else.
    pub encrypted: HashSet<LeaseSpace>,
    /// Nodes: underlay addresses of edges that it leads to.
    pub edges: BTreeSet<IpAddr>,
}

impl WireTable {
    /// Whether a lease's packets go through the tunnel.
    pub fn is_encrypted(&self, space: &LeaseSpace) -> bool {
        self.encrypted.contains(space)
    }
}

impl NodeTables {
    /// Every Maglev table over the edges' own numbers, and its name.
    pub(super) fn named_rows(&self) -> impl Iterator<Item = (String, &Rows)> {
        let own = self.groups.iter().map(|table| (table.group.to_string(), &table.rows));
        own.chain(self.planned.iter().map(|table| (table.name(), &table.rows)))
    }

    /// Every Maglev table by its name, by which it is found again after a restart: those above, and of each that encrypted
    /// leases take a second one.
    pub(super) fn rows_by_name(&self) -> BTreeMap<String, NamedRows<'_>> {
        let beside: BTreeMap<_, _> = self.named_rows().collect();
        let leases = self.leases.iter().filter(|lease| self.wire.is_encrypted(&lease.space));
        let by_wire = leases.filter_map(|lease| {
            let rows = beside.get(&self.rows_beside(lease))?;
            Some((self.rows_of(lease), NamedRows { rows, by_wire: true }))
        });
        let by_wire: BTreeMap<_, _> = by_wire.collect();
        let beside = beside.into_iter().map(|(name, rows)| (name, NamedRows { rows, by_wire: false }));
        beside.chain(by_wire).collect()
    }

    /// The name of the table that a lease's flows take. No group's name has a slash.
    pub(super) fn rows_of(&self, lease: &LeaseEntry) -> String {
        let name = self.rows_beside(lease);
        if self.wire.is_encrypted(&lease.space) { format!("{name}/encrypted") } else { name }
    }

    fn rows_beside(&self, lease: &LeaseEntry) -> String {
        let is_for = |table: &&PlannedTable| table.group == lease.group && table.subjects.contains(&lease.subject);
        self.planned.iter().find(is_for).map_or_else(|| lease.group.to_string(), PlannedTable::name)
    }
}

/// A subject that lives on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubjectEntry {
    /// Its number.
    pub number: SubjectNumber,
    /// Its persona, while it has one. None: its packets are counted drops.
    pub network: Option<SubjectEgress>,
    /// Its firewall rules, in their order. None: everything passes.
    pub firewall: Vec<FirewallRule>,
}

/// How a subject's new flows leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubjectEgress {
    /// The persona's unique id.
    pub vni: Vni,
    /// Largest inner IP packet, bytes.
    pub mtu: u16,
    /// What may pass.
    pub allow: AllowedProtocols,
    /// DSCP to set, inner and outer. None: copied.
    pub dscp: Option<u8>,
    /// The queueing class on the uplink, as in `skb->priority`: qdisc handle major << 16 | class minor. 0: none.
    pub egress_class: u32,
    /// The lease for new IPv4 flows. None: IPv4 has no way out.
    pub lease: Option<LeaseId>,
    /// The lease for new IPv6 flows, likewise.
    pub lease6: Option<LeaseId>,
    /// Who outside may answer.
    pub filtering: Filtering,
    /// Destinations that pass by this persona, beside the host's list.
    pub bypass: Vec<(IpAddr, u8)>,
    /// What is hidden of its packets.
    pub normalise: Normalisation,
    /// What is made worse of its packets on purpose.
    pub impair: Impairment,
}

/// What the programs make worse of a subject's packets on purpose, in each direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Impairment {
    /// How many of a million are lost; at most a million.
    pub loss_millionths: u32,
    /// Whether those to its device take [`persona_common::node::DELAYED_CLASS`] of the queue there.
    pub is_delayed: bool,
}

/// What of its host a subject's packets don't show outside. (A DSCP is hidden by setting one.)
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Normalisation {
    /// How many hops they began with and have gone: TTL and hop limit.
    pub hops: bool,
    /// Their identifications and flow labels.
    pub id: bool,
    /// The host's clock in TCP's timestamps.
    pub timestamps: bool,
    /// The order of TCP options, and the window of SYNs.
    pub options: bool,
}

/// Protocols that a persona lets pass.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AllowedProtocols {
    /// TCP (6).
    pub tcp: bool,
    /// UDP (17).
    pub udp: bool,
    /// ICMP and ICMPv6 (1, 58): echo and errors.
    pub icmp: bool,
    /// Protocols without ports, under leases of a whole address or a prefix.
    pub other: bool,
}

/// A workload's host-side device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceEntry {
    /// Its interface index.
    pub ifindex: u32,
    /// The subject behind it. None: several are, and [`NodeTables::sources`] tells them apart.
    pub subject: Option<SubjectNumber>,
    /// The only IPv4 source that its packets may have, beside configured leases.
    pub address: Option<Ipv4Addr>,
    /// The prefix that its IPv6 sources must lie in, beside configured leases: 64 to 128 bits.
    pub prefix6: Option<(Ipv6Addr, u8)>,
    /// The VLAN tag that its packets carry. None: untagged.
    pub vlan: Option<VlanTag>,
}

/// A VLAN tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VlanTag {
    /// Its VLAN id, 1 to 4,094.
    pub id: u16,
    /// Which kind of tag.
    pub protocol: VlanProtocol,
}

/// The kind of a VLAN tag.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum VlanProtocol {
    /// A customer's, EtherType 0x8100.
    #[default]
    #[serde(rename = "802.1q")]
    Customer,
    /// A service's, EtherType 0x88a8.
    #[serde(rename = "802.1ad")]
    Service,
}

/// A control group whose processes are a subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupEntry {
    /// Its id in the v2 tree: the inode number of its directory.
    pub id: u64,
    /// Which subject.
    pub subject: SubjectNumber,
}

/// A subject behind a shared device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceEntry {
    /// Its source addresses (address, prefix length); IPv6: 64 to 128 bits.
    pub prefix: (IpAddr, u8),
    /// Which subject.
    pub subject: SubjectNumber,
    /// The shared device that leads to it.
    pub ifindex: u32,
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
    /// What is leased.
    pub space: LeaseSpace,
    /// The group whose edges carry it.
    pub group: GroupName,
    /// Largest inner IP packet, bytes.
    pub mtu: u16,
    /// An edge may carry it only once its lease table has reached this generation.
    pub generation: Generation,
    /// Whether the workload's own interface has it; then nothing is rewritten.
    pub configured: bool,
}

/// An edge, as a node reaches it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EdgeEntry {
    /// Its number: the index in the kernel's table.
    pub number: EdgeNumber,
    /// Its address on the underlay.
    pub address: IpAddr,
    /// The device that leads to it.
    pub ifindex: u32,
    /// The next hop towards it: itself where it is on-link.
    pub next_hop: IpAddr,
}

/// First and second choice per row, `persona_core::maglev::ROW_COUNT` rows; 0 stands for no edge.
pub type Rows = Vec<(EdgeNumber, EdgeNumber)>;

/// Rows as they stand in the maps: over the edges' own numbers, or over those that they have in the encrypted tunnel.
#[derive(Debug, Clone, Copy)]
pub(super) struct NamedRows<'a> {
    pub(super) rows: &'a Rows,
    pub(super) by_wire: bool,
}

/// A group's Maglev table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupTable {
    /// Which group.
    pub group: GroupName,
    /// Its rows.
    pub rows: Rows,
}

/// A Maglev table for the leases that some subjects hold in a group, in the place of the group's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedTable {
    /// Which group; one of [`NodeTables::groups`].
    pub group: GroupName,
    /// The edges that it prefers.
    pub edges: Vec<EdgeNumber>,
    /// For whom it is; nobody is in two tables of a group.
    pub subjects: BTreeSet<SubjectNumber>,
    /// Its rows.
    pub rows: Rows,
}

impl PlannedTable {
    /// What it is found again by after a restart; no group has such a name.
    fn name(&self) -> String {
        let edges: Vec<String> = self.edges.iter().map(ToString::to_string).collect();
        format!("{}>{}", self.group, edges.join(","))
    }
}

/// Everything an edge's programs need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EdgeTables {
    /// The edge's own number.
    pub number: EdgeNumber,
    /// The edge's own address on the underlay.
    pub underlay_address: Option<IpAddr>,
    /// The TAP device of the slow path. None: what needs it is a counted drop.
    pub slow_ifindex: Option<u32>,
    /// The generation of the lease table, told to whoever probes.
    pub generation: Generation,
    /// Every IPv4 egress address of the group.
    pub addresses: Vec<EgressAddressEntry>,
    /// Every IPv6 pool of the group: prefixes of 48 to 64 bits.
    pub prefixes: Vec<(Ipv6Addr, u8)>,
    /// Every lease of the group.
    pub leases: Vec<EdgeLeaseEntry>,
    /// Nodes whose packets are accepted.
    pub nodes: Vec<NodeEntry>,
    /// The other edges of the group.
    pub peers: Vec<PeerEntry>,
    /// Where IPv4 packets to the outside go.
    pub outside: Option<NextHopEntry>,
    /// Where IPv6 packets to the outside go.
    pub outside6: Option<NextHopEntry>,
    /// The encrypted tunnel to nodes and peers.
    pub wire: WireTable,
}

impl Default for EdgeTables {
    fn default() -> Self {
        Self {
            number: EdgeNumber(0),
            underlay_address: None,
            slow_ifindex: None,
            generation: Generation::default(),
            addresses: Vec::new(),
            prefixes: Vec::new(),
            leases: Vec::new(),
            nodes: Vec::new(),
            peers: Vec::new(),
            outside: None,
            outside6: None,
            wire: WireTable::default(),
        }
    }
}

/// An egress address of the edge's group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EgressAddressEntry {
    /// The address.
    pub address: Ipv4Addr,
    /// log2 of the ports in a block of its pool; 16: the whole address is one block.
    pub block_bits: u8,
}

/// A lease, as an edge needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EdgeLeaseEntry {
    /// Blocks of one of [`EdgeTables::addresses`], cut as that says, or a /64 within one of [`EdgeTables::prefixes`].
    pub space: LeaseSpace,
    /// The holder's node; one of [`EdgeTables::nodes`].
    pub node: IpAddr,
    /// The persona it is held under.
    pub vni: Vni,
    /// Largest inner IP packet, bytes.
    pub mtu: u16,
    /// What its holder is held to, the same in all leases of one subject. None: any rate may pass.
    pub policed: Option<PolicedSubject>,
}

/// A subject that an edge polices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PolicedSubject {
    /// Its number.
    pub number: SubjectNumber,
    /// Upwards, bits per second of inner IP bytes. None: any.
    pub egress_bps: Option<u64>,
    /// Downwards, bits per second of inner IP bytes. None: any.
    pub ingress_bps: Option<u64>,
    /// How much passes at once above the rate, bytes; 0: not said.
    pub burst_bytes: u64,
    /// What becomes of what is beyond the rates.
    pub policing: Policing,
}

/// What an edge does with packets of a subject beyond its rates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Policing {
    /// The node's queues hold the rates; only what is far beyond them is dropped.
    #[default]
    BehindNode,
    /// The edge's own queues hold the rates: the minor of its class on the way out, an even number; that on the way in is the
    /// next one. What is far beyond the rates is dropped as well.
    InClass(u16),
    /// The edge has no queue for it and drops what is beyond the rates themselves.
    AtRate,
}

/// A node, as an edge reaches it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeEntry {
    /// Its address on the underlay.
    pub address: IpAddr,
    /// The way there.
    pub next_hop: NextHopEntry,
}

/// Another edge of the group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerEntry {
    /// Its number.
    pub number: EdgeNumber,
    /// Its address on the underlay.
    pub address: IpAddr,
    /// The way there.
    pub next_hop: NextHopEntry,
}

/// A next hop: resolved addresses are needed by XDP, TC asks the kernel's neighbour table itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextHopEntry {
    /// The device that leads there.
    pub ifindex: u32,
    /// The next hop's address. An unspecified one (`0.0.0.0`, `::`): the destination itself, on-link.
    pub address: IpAddr,
    /// That device's own hardware address.
    pub source_mac: [u8; 6],
    /// The next hop's hardware address; None until it is resolved.
    pub destination_mac: Option<[u8; 6]>,
}
