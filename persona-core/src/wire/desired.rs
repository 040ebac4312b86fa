//! Desired state: all effects that the assignments of one node or one edge imply, published whole with a generation.
//!
//! The state is a map of keyed items. A watch stream starts with a snapshot and goes on with deltas over that map;
//! whoever finds a gap or a digest that does not match asks for the stream anew and gets a snapshot.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use super::space::{AddressFamily, LeaseSpace, PREFIX_LENGTH, WHOLE_ADDRESS_BITS};
pub use crate::document::{Assign, Filtering};
use crate::ids::{
    EdgeName, EdgeNumber, Generation, GroupName, LeaseId, NodeName, PersonaName, PoolName, SubjectId, SubjectNumber,
    Vni,
};
use crate::units::Cidr;

/// All that one node or one edge shall be, at one generation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct DesiredState {
    /// The version of this state.
    pub generation: Generation,
    /// Item key (see [`Item::key`]) → item.
    pub items: BTreeMap<String, Item>,
}

/// One part of a desired state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Item {
    /// To nodes and edges: an edge that exists.
    Edge(EdgeItem),
    /// To nodes: a subject that lives there and what it wears.
    Subject(SubjectItem),
    /// To nodes: leases of its own subjects; to edges: all leases of their group.
    Lease(LeaseItem),
    /// To edges: egress addresses that the group carries.
    Pool(PoolItem),
    /// To edges: a node whose packets may come.
    Node(NodeItem),
    /// To both: how to probe.
    Probe(ProbeItem),
}

/// An edge, as nodes and its peers need to know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct EdgeItem {
    /// Its name.
    pub name: EdgeName,
    /// Its number, stable for its life.
    pub number: EdgeNumber,
    /// Its group.
    pub group: GroupName,
    /// Where tunnels end: its address on the underlay.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub address: IpAddr,
    /// Share of the group's flows, relative to the other edges, 1 to 1,000; 0 takes no flows.
    pub weight: u16,
    /// Whether the manager counts it as in service. A node judges liveness itself by probes; this takes an edge out of
    /// the Maglev tables.
    pub in_service: bool,
    /// Whether it is being emptied: new flows avoid it (it counts as weight 0 in the Maglev tables), old ones stay, and
    /// it is as alive as any other.
    #[serde(default)]
    pub draining: bool,
}

/// A subject and the effective persona it wears, in numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct SubjectItem {
    /// Who.
    pub subject: SubjectId,
    /// Its number, stable for its life.
    pub number: SubjectNumber,
    /// The network section in force. Absent: the subject has no way out and its packets are counted drops.
    pub network: Option<SubjectNetwork>,
    /// The rates in force.
    pub qos: SubjectQos,
    /// SHA-256 of the effective persona's canonical form, in hex.
    pub digest: String,
}

/// The network section that a subject wears.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct SubjectNetwork {
    /// The persona that the section is from.
    pub persona: PersonaName,
    /// Its version.
    pub version: u32,
    /// Its unique id, the VNI of its packets.
    pub vni: Vni,
    /// Largest inner IP packet, bytes.
    pub mtu: u16,
    /// IP protocol numbers that may pass, ascending (1 and 58 together for ICMP, 6 TCP, 17 UDP). Numbers without ports
    /// stand here only where every lease is a whole address or a prefix.
    pub protocols: Vec<u8>,
    /// The edge group that carries its flows.
    pub group: GroupName,
    /// The IPv4 lease for new flows. Its item is in the same state. Older leases of the subject stay as items until
    /// drained. Absent: IPv4 has no way out.
    #[serde(default)]
    pub lease: Option<LeaseId>,
    /// The IPv6 lease for new flows, likewise.
    #[serde(default)]
    pub lease6: Option<LeaseId>,
    /// Whether names shall be resolved to IPv6 before IPv4 (RFC 6724's policy table on the subject).
    #[serde(default)]
    pub prefer_ipv6: bool,
    /// Whether the node rewrites the source or the subject's interface has the leased address.
    #[serde(default)]
    pub assign: Assign,
    /// Who outside may answer.
    #[serde(default)]
    pub filtering: Filtering,
    /// Destinations that take the subject's ordinary way, beside the host's own list.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub bypass: Vec<Cidr>,
}

/// Rates and marks that a subject wears.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct SubjectQos {
    /// Upwards, bits per second of inner IP bytes. Absent: no limit.
    pub egress_bps: Option<u64>,
    /// Downwards, bits per second of inner IP bytes. Absent: no limit.
    pub ingress_bps: Option<u64>,
    /// How much may pass at once above the rate, bytes.
    pub burst_bytes: Option<u64>,
    /// DSCP to set on outer and inner headers, 0 to 63 (RFC 2474). Absent: copied.
    pub dscp: Option<u8>,
}

/// Port blocks of an egress address, or a prefix, held by one subject under one persona.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct LeaseItem {
    /// Which lease.
    pub id: LeaseId,
    /// Who holds it.
    pub subject: SubjectId,
    /// The holder's node.
    pub node: NodeName,
    /// Where the node's tunnels end: its address on the underlay.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub node_address: IpAddr,
    /// The persona that it is held under.
    pub vni: Vni,
    /// The group whose edges carry it.
    pub group: GroupName,
    /// The pool that it is from.
    pub pool: PoolName,
    /// What it consists of.
    #[serde(flatten)]
    pub space: LeaseSpace,
    /// Whether the subject's interface has it (`assign: configure`) and nothing is rewritten.
    #[serde(default)]
    pub configured: bool,
    /// Largest inner IP packet, bytes: an edge answers larger ones with frag-needed or packet-too-big.
    pub mtu: u16,
    /// The generation in which edges first learnt of it; an edge whose lease table is older must not be used for it.
    pub generation: Generation,
    /// Set when new flows no longer use it: the node reports it as drained when its last flow has ended.
    pub retiring: bool,
}

/// The addresses of an egress pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct PoolItem {
    /// Its name.
    pub name: PoolName,
    /// Every egress address in it.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub addresses: Vec<Ipv4Addr>,
    /// log2 of the ports in a block.
    pub block_bits: u8,
    /// IPv6 prefixes of 48 to 64 bits, out of which leases are cut.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub prefixes: Vec<Cidr>,
    /// The address that the outside routes the prefixes to; the owner among the group's edges answers for it.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub next_hop6: Option<Ipv6Addr>,
}

/// A node whose packets an edge accepts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct NodeItem {
    /// Its name.
    pub name: NodeName,
    /// Its address on the underlay.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub address: IpAddr,
}

/// How often to probe, and when silence means death.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ProbeItem {
    /// Time between probes, milliseconds.
    pub interval_ms: u32,
    /// An edge is dead when nothing was heard from it for this many intervals.
    pub multiplier: u8,
}

impl Default for ProbeItem {
    fn default() -> Self {
        Self { interval_ms: 50, multiplier: 3 }
    }
}

impl Item {
    /// The key under which the item stands in [`DesiredState::items`].
    pub fn key(&self) -> String {
        match self {
            Self::Edge(edge) => format!("edge/{}", edge.name),
            Self::Subject(subject) => format!("subject/{}", subject.subject),
            Self::Lease(lease) => format!("lease/{}", lease.id),
            Self::Pool(pool) => format!("pool/{}", pool.name),
            Self::Node(node) => format!("node/{}", node.name),
            Self::Probe(_) => "probe".to_owned(),
        }
    }
}

/// One message of a watch stream: a line of JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum Frame {
    /// The whole state.
    #[serde(rename_all = "camelCase")]
    Snapshot {
        /// The state.
        state: DesiredState,
        /// [`DesiredState::digest`] of it.
        digest: String,
    },
    /// What changed since generation `from`.
    #[serde(rename_all = "camelCase")]
    Delta {
        /// The generation that this builds on.
        from: Generation,
        /// The generation that it leads to.
        to: Generation,
        /// Items that are new or different.
        upsert: BTreeMap<String, Item>,
        /// Keys that are gone.
        remove: Vec<String>,
        /// [`DesiredState::digest`] of the result.
        digest: String,
    },
    /// Nothing changed; the stream is alive.
    #[serde(rename_all = "camelCase")]
    Bookmark {
        /// The generation in force.
        generation: Generation,
    },
}

/// A frame that does not continue the state at hand; the stream must be opened anew.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokenStream {
    /// A delta builds on another generation.
    #[error("delta builds on generation {from}, but {have} is in force")]
    Gap {
        /// What the delta builds on.
        from: Generation,
        /// What is in force.
        have: Generation,
    },
    /// The result is not what the manager has.
    #[error("digest of generation {0} does not match")]
    Digest(Generation),
}

impl DesiredState {
    /// SHA-256 over the canonical JSON of generation and items, in hex.
    pub fn digest(&self) -> String {
        let text = serde_json::to_vec(self).expect("a desired state has string keys only");
        Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Adds an item, replacing one with the same key.
    pub fn insert(&mut self, item: Item) {
        self.items.insert(item.key(), item);
    }

    /// The frame that leads from `self` to `next`.
    pub fn delta_to(&self, next: &DesiredState) -> Frame {
        let upsert = next.items.iter().filter(|(key, item)| self.items.get(*key) != Some(item));
        let remove = self.items.keys().filter(|key| !next.items.contains_key(*key));
        Frame::Delta {
            from: self.generation,
            to: next.generation,
            upsert: upsert.map(|(key, item)| (key.clone(), item.clone())).collect(),
            remove: remove.cloned().collect(),
            digest: next.digest(),
        }
    }

    /// The frame that carries the whole of `self`.
    pub fn to_snapshot(&self) -> Frame {
        Frame::Snapshot { state: self.clone(), digest: self.digest() }
    }

    /// The state after `frame`, or why the stream must be opened anew.
    pub fn after(&self, frame: Frame) -> Result<DesiredState, BrokenStream> {
        match frame {
            Frame::Bookmark { generation } if generation == self.generation => Ok(self.clone()),
            Frame::Bookmark { generation: from } => Err(BrokenStream::Gap { from, have: self.generation }),
            Frame::Snapshot { state, digest } => state.checked(&digest),
            Frame::Delta { from, .. } if from != self.generation => {
                Err(BrokenStream::Gap { from, have: self.generation })
            }
            Frame::Delta { to, upsert, remove, digest, .. } => {
                let mut next = DesiredState { generation: to, items: self.items.clone() };
                next.items.retain(|key, _| !remove.contains(key));
                next.items.extend(upsert);
                next.checked(&digest)
            }
        }
    }

    fn checked(self, digest: &str) -> Result<DesiredState, BrokenStream> {
        if self.digest() == digest { Ok(self) } else { Err(BrokenStream::Digest(self.generation)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(number: u64, probes: &[ProbeItem], nodes: &[&str]) -> DesiredState {
        let mut state = DesiredState { generation: Generation::new(1, number), ..Default::default() };
        probes.iter().for_each(|probe| state.insert(Item::Probe(*probe)));
        for name in nodes {
            let address = IpAddr::from([10, 0, 0, 1]);
            state.insert(Item::Node(NodeItem { name: name.parse().unwrap(), address }));
        }
        state
    }

    #[test]
    fn a_delta_leads_from_one_state_to_the_next() {
        let before = state(1, &[ProbeItem::default()], &["a", "b"]);
        let after = state(2, &[], &["b", "c"]);
        let frame: Frame = serde_json::from_str(&serde_json::to_string(&before.delta_to(&after)).unwrap()).unwrap();
        assert_eq!(before.after(frame).unwrap(), after);
    }

    #[test]
    fn a_gap_or_a_wrong_digest_breaks_the_stream() {
        let (one, two, three) = (state(1, &[], &[]), state(2, &[], &["a"]), state(3, &[], &["b"]));
        assert!(matches!(one.after(two.delta_to(&three)), Err(BrokenStream::Gap { .. })));
        let Frame::Delta { from, to, upsert, remove, .. } = one.delta_to(&two) else { unreachable!() };
        let forged = Frame::Delta { from, to, upsert, remove, digest: "00".into() };
        assert!(matches!(one.after(forged), Err(BrokenStream::Digest(_))));
    }
}
