//! What nodes and edges send to the manager: registration, and reports of what they see and did.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::desired::Item;
use super::proof::StateProof;
use crate::ids::{Capability, EdgeName, Generation, GroupName, LeaseId, SubjectId, WorkloadName};
use crate::units::Cidr;
use crate::wire::api::ProblemPart;
use crate::wire::conditions::Conditions;
use crate::wire::contents::ContentRtts;
use crate::wire::limits::LimitReport;
use crate::wire::security::SecurityReport;
use crate::wire::signals::SampleBatch;
use crate::wire::software::SoftwareReport;
use crate::wire::tunnel::TunnelReport;

/// The header of answers to nodes and edges, and to who comes with an access token: a digest of the roots that they shall
/// trust. Nodes and edges that trust others renew their certificate at once, and get them with it.
pub const ROOTS_HEADER: &str = "persona-roots";

/// The digest that stands in [`ROOTS_HEADER`]: SHA-256 in hex over the roots in PEM, in any order.
pub fn roots_digest<'a>(roots: impl IntoIterator<Item = &'a str>) -> String {
    let mut roots: Vec<&str> = roots.into_iter().map(str::trim).collect();
    roots.sort_unstable();
    crate::hex::encode(&Sha256::digest(roots.join("\n")))
}

/// What registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// A host that runs the agent.
    Node,
    /// A device that owns egress addresses.
    Edge,
}

/// `POST /v1/register`: a join token, or a key that is registered already, buys a certificate for the sender's key.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Register {
    /// The join token, `ID.SECRET`. Absent: the key of the request is registered.
    #[serde(default)]
    pub token: Option<String>,
    /// Node or edge.
    pub role: Role,
    /// Its name, unique per role.
    pub name: String,
    /// A certificate signing request in PEM, which proves possession of the key. Ed25519 or ECDSA P-256; only the key is
    /// taken from it.
    pub csr: String,
    /// Its address on the underlay, where tunnels end.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub address: IpAddr,
    /// Edges: the group it belongs to.
    pub group: Option<GroupName>,
    /// Nodes: capabilities it wants of a persona; edges: capabilities it offers.
    #[serde(default)]
    pub capabilities: Vec<Capability>,
    /// Edges: what it can carry.
    pub capacity: Option<EdgeCapacity>,
    /// Free labels, used by bindings' selectors.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The program's version.
    pub version: String,
}

/// What an edge says that it can carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EdgeCapacity {
    /// Bits per second, both directions together.
    pub bits_per_sec: u64,
    /// Leases.
    pub lease_count: u32,
    /// Packets per second, both directions together. Absent: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packets_per_sec: Option<u64>,
    /// Flows at a time. Absent: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow_count: Option<u64>,
    /// How much of its host's processor time may be in use, percent. Absent: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_percent: Option<u8>,
}

/// `POST /v1/agent/renew`: a new certificate for the same key, before the old one ends.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Renew {
    /// A certificate signing request in PEM by the key of the client certificate.
    pub csr: String,
}

/// The answer to [`Register`] and [`Renew`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Registered {
    /// The client certificate in PEM.
    pub certificate: String,
    /// When it ends, by the manager's clock.
    pub expires_ms: u64,
    /// For how long from now on it is good, milliseconds, which holds by any clock. Absent: an older manager does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime_ms: Option<u64>,
    /// The root certificates in PEM that managers' certificates may verify under.
    pub roots: Vec<String>,
    /// Send a report at least this often, milliseconds.
    pub report_interval_ms: u32,
}

/// Says in the answer to a report how long the next one may be in coming, milliseconds, where nothing is new. Absent: as long as
/// [`Registered::report_interval_ms`] says.
pub const REPORT_INTERVAL_HEADER: &str = "persona-report-interval-ms";

/// `POST /v1/agent/report`: what a node or an edge sees and did. Sent on change and at least every report interval. What a
/// manager does not know in it, it leaves out: agents may be newer.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The generation in force, applied whole and read back.
    pub applied: Generation,
    /// The proof that came with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<StateProof>,
    /// The newest generation that could not be applied; the applied one stays in force.
    pub rejected: Option<Rejection>,
    /// Nodes: the workloads found there. Complete: one that is missing is gone. Absent: unchanged.
    pub workloads: Option<Vec<WorkloadReport>>,
    /// Nodes: retiring leases whose last flow has ended.
    #[serde(default)]
    pub drained: Vec<LeaseId>,
    /// What probes to edges say (nodes: all edges in use; edges: peers of the group). Absent: unchanged.
    pub edges: Option<Vec<EdgeHealth>>,
    /// Edges: whether the outside next hop answers. Absent on nodes.
    pub outside_alive: Option<bool>,
    /// Edges: egress addresses and IPv6 next hops of the group that it answers ARP or ND for now.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Vec<String>>))]
    pub owned: Option<Vec<IpAddr>>,
    /// Edges: ranges that routes to it are announced for now. Absent: it announces none by its configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Vec<String>>))]
    pub announced: Option<Vec<Cidr>>,
    /// Edges: round trips to the sources of content that they shall measure the way to. Complete: one that is missing does not
    /// answer, or is not measured yet. Absent: unchanged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contents: Option<ContentRtts>,
    /// Nodes: how full leases are. A lease that is not listed is as it was.
    #[serde(default)]
    pub leases: Vec<LeaseUse>,
    /// Nodes: the least MTU of the ways to the edges it knows, or of the uplink while it knows none, bytes. Absent:
    /// unchanged.
    #[serde(default)]
    pub underlay_mtu: Option<u32>,
    /// Nodes: what they measured when they last asked for an assignment by themselves. Absent: unchanged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conditions: Option<Conditions>,
    /// Its encrypted tunnels. Absent: unchanged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<TunnelReport>,
    /// Nodes: the limits of every workload, wanted and actual. Absent: unchanged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Vec<LimitReport>>,
    /// Nodes: the software of everybody who shall have some, wanted and installed. Absent: unchanged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub software: Option<Vec<SoftwareReport>>,
    /// Nodes: the security settings of everybody who shall have some, wanted and actual. Absent: unchanged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security: Option<Vec<SecurityReport>>,
    /// Nodes: what was measured since the last report that was taken, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub samples: Vec<SampleBatch>,
    /// Things that happened since the last report, oldest first.
    #[serde(default)]
    pub events: Vec<AgentEvent>,
    /// Counters since the programs were first attached. Absent: unchanged.
    pub counters: Option<Counters>,
    /// The answer to [`Frame::Recall`](super::desired::Frame::Recall), one part with each report.
    #[serde(default)]
    pub holdings: Option<Holdings>,
}

/// The answer to a [`Report`] of which parts were left out, because they are not the sender's to say.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ReportTaken {
    /// The first of them, each with the reason. The rest was taken in.
    pub left_out: Vec<ProblemPart>,
}

/// Items that one part of [`Holdings`] may carry.
pub const HELD_ITEM_COUNT_MAX: usize = 4_096;

/// What a node or an edge has in force, whatever the store remembers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Holdings {
    /// The store incarnation that asked.
    pub incarnation: u32,
    /// Counts the parts of one answer, from 0. The first one replaces what came before.
    pub part: u32,
    /// Whether this is the last part.
    pub is_last: bool,
    /// Items of the state in force, at most [`HELD_ITEM_COUNT_MAX`] of them.
    pub items: Vec<Item>,
    /// The proof of that state: all its items together are what it is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<StateProof>,
}

/// How full a lease is. Slots are external ports per protocol; a prefix has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct LeaseUse {
    /// Which lease.
    pub lease: LeaseId,
    /// Slots that a live flow holds.
    pub live_slot_count: u32,
    /// Slots that there are.
    pub slot_count: u32,
    /// Ports that are shared between remotes because no slot was free.
    pub shared_port_count: u32,
}

/// A generation that could not be applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Rejection {
    /// Which.
    pub generation: Generation,
    /// Why: what, where, and what would be valid.
    pub reason: String,
}

/// A workload that an agent found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct WorkloadReport {
    /// Its name, unique on the node.
    pub name: WorkloadName,
    /// Its device on the host's side; for a workload told by a source prefix the device that leads to it, empty for one
    /// told by its cgroup and for one that is an instance only.
    pub device: String,
    /// The only IPv4 source address that its packets may have, beside configured leases.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub address: Option<Ipv4Addr>,
    /// The only IPv6 source prefix that its packets may have, beside configured leases.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub prefix6: Option<Cidr>,
    /// How its packets are told from others'.
    #[serde(default)]
    pub kind: WorkloadKind,
    /// Free labels, used by bindings' selectors.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Whether what tells its packets from others' is there now; always, where nothing does.
    pub attached: bool,
}

/// How a workload's packets are told from others'.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub enum WorkloadKind {
    /// By its host-side device.
    #[default]
    Device,
    /// By the cgroup of its sockets: processes of the host itself.
    Cgroup,
    /// By its source address, behind a device that others share.
    Source,
    /// Not at all: it keeps its ordinary network, and only its instance is limited and measured.
    Instance,
}

impl std::fmt::Display for WorkloadKind {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.pad(match self {
            Self::Device => "device",
            Self::Cgroup => "cgroup",
            Self::Source => "source",
            Self::Instance => "instance",
        })
    }
}

/// What probes to one edge say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct EdgeHealth {
    /// Which edge.
    pub edge: EdgeName,
    /// Whether it answered lately.
    pub alive: bool,
    /// Smoothed round-trip time, microseconds. Absent before the first answer.
    pub rtt_us: Option<u32>,
    /// Mean deviation of the round-trip time, microseconds (RFC 6298 §2's RTTVAR).
    pub jitter_us: Option<u32>,
    /// Share of the last probes that stayed unanswered, 0 to 1.
    pub loss: f32,
    /// The lease-table generation in its last answer.
    pub generation: Generation,
}

/// Something that happened at an agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct AgentEvent {
    /// When, by the agent's clock.
    pub time_ms: u64,
    /// A dotted name such as `edge.down`, `edge.up`, `workload.vanished`, `apply.rejected`, `address.taken-over`.
    pub name: String,
    /// What it is about: a subject, an edge, a device.
    pub about: String,
    /// A sentence for people.
    pub message: String,
}

/// What the data plane counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Counters {
    /// Per subject that lives here.
    pub subjects: Vec<SubjectCounters>,
    /// Per persona, by VNI.
    pub personas: BTreeMap<u32, Traffic>,
    /// Edges: everything carried, whichever persona's: what was counted when its process started, and all since.
    #[serde(default)]
    pub carried: Traffic,
    /// Drop reason → packets, those of the slow path included.
    pub drops: BTreeMap<String, u64>,
    /// What the slow path did since its process started.
    #[serde(default)]
    pub slow_path: SlowPathWork,
    /// Nodes: flows that were cut since its process started, because their lease's grace was over.
    #[serde(default)]
    pub cut_flows: u64,
    /// Edges: how much of the host's processor time is in use, millionths. It stands here and not in the report itself,
    /// where a manager of an earlier release would refuse it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_millionths: Option<u32>,
    /// Edges: how much of it goes into interrupts, in which packets are carried, millionths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packet_cpu_millionths: Option<u32>,
}

/// What the slow path did with packets that programs handed over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct SlowPathWork {
    /// Packets that were cut because they were too big.
    pub cut: u64,
    /// Fragments that had to wait for their first.
    pub waited: u64,
    /// Fragments that went on after their first had come.
    pub released: u64,
    /// Fragments whose first never came.
    pub expired: u64,
}

/// What was counted of one subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct SubjectCounters {
    /// Who.
    pub subject: SubjectId,
    /// Its traffic.
    pub traffic: Traffic,
    /// Flows that it opened under its persona, and connections opened towards it, past the persona too.
    #[serde(default)]
    pub opened_flows: u64,
    /// Packets from it or for it that were dropped. Those that are nobody's yet when they are dropped are not among them.
    #[serde(default)]
    pub dropped_packets: u64,
}

/// Packets and inner IP bytes, both directions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Traffic {
    /// From the subject.
    pub egress_packets: u64,
    /// From the subject, inner IP bytes.
    pub egress_bytes: u64,
    /// To the subject.
    pub ingress_packets: u64,
    /// To the subject, inner IP bytes.
    pub ingress_bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_newer_agent_says_besides_is_left_out() {
        let mut report = serde_json::to_value(Report { drained: vec![LeaseId(7)], ..Report::default() }).unwrap();
        report["moonPhase"] = "full".into();
        let read: Report = serde_json::from_value(report).unwrap();
        assert_eq!(read.drained, [LeaseId(7)]);
    }
}
