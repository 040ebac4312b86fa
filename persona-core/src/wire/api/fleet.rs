//! Nodes and edges.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::ids::{Capability, EdgeName, EdgeNumber, Generation, GroupName, NodeName};
use crate::units::Cidr;
use crate::wire::agent::{Counters, EdgeCapacity, EdgeHealth, Rejection};
use crate::wire::contents::ContentRtts;
use crate::wire::desired::ShareItem;
use crate::wire::load::EdgeLoad;
use crate::wire::tunnel::TunnelReport;

/// A registered node.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct NodeView {
    /// Its name.
    pub name: NodeName,
    /// Its address on the underlay.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub address: IpAddr,
    /// Capabilities it wants.
    pub capabilities: Vec<Capability>,
    /// Its labels: what it says of itself, with the bound ones over them.
    pub labels: BTreeMap<String, String>,
    /// Those of its labels that are bound, by its join token or by people; the others are its own word.
    #[serde(default)]
    pub bound_labels: BTreeMap<String, String>,
    /// Why its key was revoked. Absent: it is not.
    #[serde(default)]
    pub revoked: Option<String>,
    /// Whether it reported lately.
    pub up: bool,
    /// Whether it hears none of the edges that it probes, though one of them serves: its own network is cut off, or its way to them.
    #[serde(default)]
    pub cut_off: bool,
    /// Whether it takes nobody new.
    pub draining: bool,
    /// Leases of its subjects that edges carry.
    pub lease_count: u32,
    /// External ports that live flows hold, of all leases.
    pub live_slot_count: u64,
    /// The least MTU of its ways to edges, bytes. Absent: it did not say.
    pub underlay_mtu: Option<u32>,
    /// Its encrypted tunnels.
    #[serde(default)]
    pub tunnel: TunnelReport,
    /// What it is told to have of totals over all nodes.
    #[serde(default)]
    pub shares: Vec<ShareItem>,
    /// When it last reported.
    pub seen_ms: u64,
    /// Its program's version.
    pub version: String,
    /// The generation published for it.
    pub desired: Generation,
    /// The generation it acknowledged.
    pub applied: Generation,
    /// The generation it rejected, and why.
    pub rejected: Option<Rejection>,
    /// What its probes say.
    pub edges: Vec<EdgeHealth>,
    /// What its data plane counted.
    pub counters: Counters,
}

/// A registered edge.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct EdgeView {
    /// Its name.
    pub name: EdgeName,
    /// Its number in the data plane.
    pub number: EdgeNumber,
    /// Its group.
    pub group: GroupName,
    /// Its address on the underlay.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub address: IpAddr,
    /// Capabilities it offers.
    pub capabilities: Vec<Capability>,
    /// What it can carry.
    pub capacity: Option<EdgeCapacity>,
    /// Its labels: what it says of itself, with the bound ones over them.
    pub labels: BTreeMap<String, String>,
    /// Those of its labels that are bound, by its join token or by people; the others are its own word.
    #[serde(default)]
    pub bound_labels: BTreeMap<String, String>,
    /// `up`, `down` or `new`.
    pub state: String,
    /// Why it is in that state.
    pub reason: String,
    /// What is wrong with it although it serves.
    pub flags: Vec<String>,
    /// Its share of the group's flows, relative to the others.
    pub weight: u16,
    /// Why its key was revoked. Absent: it is not.
    #[serde(default)]
    pub revoked: Option<String>,
    /// Whether new flows avoid it.
    pub draining: bool,
    /// Since when it is in maintenance, and why: it is emptied as if it drained, and nobody is told if it goes away. Absent: it is not.
    #[serde(default)]
    pub maintenance: Option<Maintenance>,
    /// Whether it was deleted and is forgetting its leases.
    pub leaving: bool,
    /// Why it may still do harm with an old lease table. Absent: it is fenced.
    pub unfenced: Option<String>,
    /// Its encrypted tunnels.
    #[serde(default)]
    pub tunnel: TunnelReport,
    /// Traffic between its last two reports.
    pub bits_per_sec: u64,
    /// What it carries, and how full it is.
    #[serde(default)]
    pub load: EdgeLoad,
    /// What everybody who probes it measures.
    pub probes: Vec<EdgeProbe>,
    /// Its round trips to sources of content, microseconds.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub content_rtt_us: ContentRtts,
    /// When it last reported.
    pub seen_ms: u64,
    /// Its program's version.
    pub version: String,
    /// The generation published for it.
    pub desired: Generation,
    /// The generation it acknowledged.
    pub applied: Generation,
    /// The generation it rejected, and why.
    pub rejected: Option<Rejection>,
    /// Egress addresses and IPv6 next hops that it answers ARP or ND for.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub owned: Vec<IpAddr>,
    /// Ranges that routes to it are announced for. Absent: it announces none by its configuration.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Vec<String>>))]
    pub announced: Option<Vec<Cidr>>,
    /// Leases that it carries.
    pub lease_count: u32,
    /// What its data plane counted.
    pub counters: Counters,
}

/// What one node or peer measures of an edge.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct EdgeProbe {
    /// Who: `node/NAME` or `edge/NAME`.
    pub from: String,
    /// What.
    #[serde(flatten)]
    pub health: EdgeHealth,
}

/// Somebody works on an edge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Maintenance {
    /// Why, for people. Absent: nobody said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Since when, milliseconds since 1970.
    pub since_ms: u64,
}

/// `PUT /v1/edges/{name}/maintenance`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MaintenanceOrder {
    /// Why, for people; one line of at most 200 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The labels of a node, an edge or a workload, by whose word they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct LabelsView {
    /// Whose: `node/NAME`, `edge/NAME` or `workload/NODE/NAME`.
    pub of: String,
    /// Labels that are bound to it: selectors' `labels` match these.
    pub labels: BTreeMap<String, String>,
    /// Workloads: labels that are bound to its node and count for it too.
    #[serde(default)]
    pub inherited: BTreeMap<String, String>,
    /// What it, or its node, says of itself: only selectors' `claimedLabels` match these.
    pub claimed: BTreeMap<String, String>,
}

/// `PUT /v1/labels/{subject}`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SetLabels {
    /// All labels that are bound to it from now on.
    pub labels: BTreeMap<String, String>,
}

/// `PUT /v1/edges/{name}/weight`.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EdgeWeight {
    /// Share of the group's flows, relative to the other edges: 1 to 1,000, 100 by default.
    pub weight: u16,
}

/// `POST /v1/nodes/{name}/revoke`, `POST /v1/edges/{name}/revoke`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Revoke {
    /// Why; it is kept in the event log.
    pub reason: String,
}
