//! The parts of a desired state: edges, subjects, leases, pools, nodes, and how to probe.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::firewall::SubjectFirewall;
use super::limits::SubjectResources;
use super::security::SubjectSecurity;
use super::software::SubjectSoftware;
use super::space::LeaseSpace;
use crate::document::{Assign, EnforceAt, Filtering, Normalise, SharedScope};
use crate::ids::{
    EdgeName, EdgeNumber, Generation, GroupName, LeaseId, NodeName, PersonaName, PoolName, SubjectId, SubjectNumber,
    Vni,
};
use crate::units::{Cidr, Share};

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
    /// The limits in force on its instance. Absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Box<SubjectResources>>,
    /// The packages that it shall have. Absent: none are asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub software: Option<Box<SubjectSoftware>>,
    /// The security settings beside the firewall. Absent: none are asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security: Option<Box<SubjectSecurity>>,
    /// The firewall rules in force. Absent: none, and everything passes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firewall: Option<Box<SubjectFirewall>>,
    /// SHA-256 of the effective persona's canonical form, in hex.
    pub digest: String,
}

impl SubjectItem {
    /// Whether it takes one of the node's classes on the uplink.
    pub fn needs_class(&self) -> bool {
        let impair = self.network.as_ref().and_then(|network| network.impair);
        let has_rate = self.qos.enforce_at != EnforceAt::Edge && self.qos.egress_most_bps().is_some();
        has_rate || impair.is_some_and(|impair| impair.needs_queue())
    }
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
    /// Edges of the group that carry its flows as long as one of them lives; then the others do: as planned, or where edges hold
    /// its rates. None: all by weights.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub planned: Vec<EdgeName>,
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
    /// What of the subject's host its packets shall not betray.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub normalise: Vec<Normalise>,
    /// What is made worse on purpose. Absent: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub impair: Option<SubjectImpair>,
}

/// What is made worse of a subject's packets on purpose, in each direction. A rate stands with the other rates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct SubjectImpair {
    /// Added to each, milliseconds.
    #[serde(default)]
    pub delay_ms: u64,
    /// How far the delay strays to either side, milliseconds.
    #[serde(default)]
    pub jitter_ms: u64,
    /// What share of them is lost.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub loss: Share,
    /// What share of them goes twice.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub duplicate: Share,
    /// What share of them is not delayed and so overtakes others.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub reorder: Share,
}

impl SubjectImpair {
    /// Whether a queue of the kernel's is needed for it (netem); loss needs none.
    pub fn needs_queue(&self) -> bool {
        self.delay_ms > 0 || self.duplicate.millionths() > 0
    }
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
    /// What it shares with the node's other subjects whose rates are from the same persona. Absent: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared: Option<SharedQos>,
    /// Where it is held to its rates.
    #[serde(default, skip_serializing_if = "EnforceAt::is_node")]
    pub enforce_at: EnforceAt,
}

impl SubjectQos {
    /// The most that the subject may send, bits per second: its own rate, or the total that it has a share of.
    pub fn egress_most_bps(&self) -> Option<u64> {
        let total_bps = self.shared.as_ref().and_then(|shared| shared.egress_bps);
        self.egress_bps.into_iter().chain(total_bps).min()
    }

    /// The most that it may get, likewise.
    pub fn ingress_most_bps(&self) -> Option<u64> {
        let total_bps = self.shared.as_ref().and_then(|shared| shared.ingress_bps);
        self.ingress_bps.into_iter().chain(total_bps).min()
    }
}

/// A total for all subjects whose rates are from one persona.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct SharedQos {
    /// The persona.
    pub persona: PersonaName,
    /// Whether it is the node's own, or all nodes' together: then the node has of it what a [`ShareItem`] says.
    #[serde(default, skip_serializing_if = "SharedScope::is_node")]
    pub scope: SharedScope,
    /// Upwards, bits per second of inner IP bytes. While versions of the persona differ, the lowest of them counts. Absent: no
    /// total.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress_bps: Option<u64>,
    /// Downwards, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress_bps: Option<u64>,
    /// What the subject has of it upwards even when all want more. Absent: an equal share of what is left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guaranteed_bps: Option<u64>,
}

/// What a node has of a persona's total over all nodes, bits per second of inner IP bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ShareItem {
    /// The persona.
    pub persona: PersonaName,
    /// Upwards.
    pub egress_bps: u64,
    /// Downwards.
    pub ingress_bps: u64,
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
    /// To edges: what the holder is held to, over all its leases. Absent: no rate is in force, or whoever published it was of an
    /// earlier release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rates: Option<LeaseRates>,
    /// Whether its packets go through the encrypted tunnel and through nothing else.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub encrypted: bool,
}

/// The rates of a lease's holder, behind which an edge polices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct LeaseRates {
    /// The holder's number.
    pub subject_number: SubjectNumber,
    /// Upwards, bits per second of inner IP bytes. Absent: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress_bps: Option<u64>,
    /// Downwards, bits per second of inner IP bytes. Absent: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress_bps: Option<u64>,
    /// How much may pass at once above the rate, bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst_bytes: Option<u64>,
    /// Whether edges hold the holder to the rates themselves, and don't only drop what is far beyond them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub held: bool,
    /// Where they do, the DSCP of its packets, 0 to 63: whether they wait behind bulk, and who goes first. Absent: copied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dscp: Option<u8>,
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
