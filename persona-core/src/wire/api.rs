//! What people and programs ask of the manager under `/v1`, and what it answers.
//!
//! | method, path | body → answer |
//! |---|---|
//! | `POST /v1/apply?dryRun=` | [`Apply`] → [`Applied`] |
//! | `GET /v1/personas` · `/{name}?version=` · `/{name}/versions` | → [`PersonaView`]s |
//! | `POST /v1/personas/{name}/rollback` · `DELETE /v1/personas/{name}` | [`Rollback`] → [`PersonaView`] |
//! | `GET /v1/bindings` · `/{name}` · `DELETE` | → [`DocumentView`] |
//! | `GET /v1/egress-pools` · `/{name}` · `DELETE` | → [`PoolView`] |
//! | `GET /v1/nodes` `/edges` `/workloads` `/leases` (each also `/{name or id}`) | → lists of views |
//! | `POST /v1/nodes/{name}/drain` `/undrain` · `POST /v1/edges/{name}/drain` `/undrain` | → [`NodeView`] · [`EdgeView`] |
//! | `PUT /v1/edges/{name}/weight` · `DELETE /v1/nodes/{name}?force=` `/v1/edges/{name}?force=` | [`EdgeWeight`] → [`EdgeView`] |
//! | `GET/PUT /v1/settings/probe` | [`super::desired::ProbeItem`] |
//! | `POST/GET/DELETE /v1/join-tokens` | [`NewJoinToken`] → [`JoinTokenSecret`] |
//! | `POST /v1/switch` · `DELETE /v1/switch/{subject}` | [`Switch`] → [`AssignmentView`] |
//! | `POST /v1/request` · `DELETE /v1/request/{subject}` | [`CapabilityRequest`] → [`AssignmentView`] |
//! | `GET /v1/explain/{subject}` · `GET /v1/status` | → [`Explanation`] · [`Status`] |
//! | `GET /v1/events?since=&follow=&limit=` | → [`Page`] of [`EventView`], or an NDJSON stream with `follow=true` |
//!
//! Errors are `application/problem+json` (RFC 9457): [`Problem`]. Lists are [`Page`]s.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

use super::agent::{Counters, EdgeCapacity, EdgeHealth, LeaseUse, Rejection, Role, WorkloadKind};
use super::desired::LeaseSpace;
use crate::ids::{
    Capability, EdgeName, EdgeNumber, Generation, GroupName, LeaseId, NodeName, PersonaName, PoolName, SubjectId, Vni,
    WorkloadName,
};
use crate::units::Cidr;

/// One page of a list.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Page<T> {
    /// The page's entries.
    pub items: Vec<T>,
    /// Give this as `pageToken` for the next page. Absent on the last one.
    pub next_page_token: Option<String>,
}

/// An error, RFC 9457.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// A stable relative URI such as `/problems/unknown-persona`.
    #[serde(rename = "type")]
    pub kind: String,
    /// A short sentence, the same for every problem of the type.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong this time, and what would be valid.
    pub detail: String,
    /// Each part of the input that is wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<ProblemPart>,
}

/// One wrong part of the input.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ProblemPart {
    /// Where, as a path in the document such as `spec.network.mtu`, or empty.
    pub path: String,
    /// What is wrong and what would be valid.
    pub detail: String,
}

/// `POST /v1/apply`: documents to store, all or none.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Apply {
    /// Documents as JSON objects (`apiVersion`, `kind`, `metadata`, `spec`).
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<Object>))]
    pub documents: Vec<serde_json::Value>,
}

/// What `apply` did.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Applied {
    /// One entry per document, in order.
    pub results: Vec<AppliedDocument>,
}

/// What `apply` did with one document.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct AppliedDocument {
    /// `Persona`, `Binding` or `EgressPool`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// `created`, `updated` or `unchanged`.
    pub outcome: String,
    /// The version in force afterwards.
    pub version: u32,
    /// Sections that are stored but not enforced by this release, and other things worth knowing.
    pub warnings: Vec<String>,
}

/// A stored persona version.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct PersonaView {
    /// Its name.
    pub name: PersonaName,
    /// Its version, from 1.
    pub version: u32,
    /// The newest version of this persona.
    pub latest_version: u32,
    /// Its unique id.
    pub vni: Vni,
    /// SHA-256 of the canonical document, in hex.
    pub digest: String,
    /// When it was stored.
    pub created_ms: u64,
    /// Subjects that wear it now, in any section.
    pub wearers: u32,
    /// The document.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub document: serde_json::Value,
}

/// A stored binding or another document without versions of its own on the data plane.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct DocumentView {
    /// Its name.
    pub name: String,
    /// Its version, from 1.
    pub version: u32,
    /// When it was stored.
    pub created_ms: u64,
    /// The document.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub document: serde_json::Value,
}

/// `POST /v1/personas/{name}/rollback`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rollback {
    /// The version whose content becomes a new version. Absent: the one before the newest.
    pub to: Option<u32>,
}

/// An egress pool and how full it is.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct PoolView {
    /// Its name.
    pub name: PoolName,
    /// The document.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub document: serde_json::Value,
    /// Blocks in all.
    pub blocks_total: u32,
    /// Blocks leased.
    pub blocks_leased: u32,
    /// Blocks in quarantine.
    pub blocks_quarantined: u32,
    /// IPv4 addresses in all.
    pub addresses_total: u32,
    /// IPv4 addresses of which nobody holds a port, to be leased whole.
    pub addresses_free: u32,
    /// IPv6 /64 in all.
    pub prefixes_total: u32,
    /// IPv6 /64 leased.
    pub prefixes_leased: u32,
    /// IPv6 /64 in quarantine.
    pub prefixes_quarantined: u32,
}

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
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Whether it reported lately.
    pub up: bool,
    /// Whether it takes nobody new.
    pub draining: bool,
    /// Leases of its subjects that edges carry.
    pub lease_count: u32,
    /// External ports that live flows hold, of all leases.
    pub live_slot_count: u64,
    /// The least MTU of its ways to edges, bytes. Absent: it did not say.
    pub underlay_mtu: Option<u32>,
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
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// `up`, `down` or `new`.
    pub state: String,
    /// Why it is in that state.
    pub reason: String,
    /// What is wrong with it although it serves.
    pub flags: Vec<String>,
    /// Its share of the group's flows, relative to the others.
    pub weight: u16,
    /// Whether new flows avoid it.
    pub draining: bool,
    /// Whether it was deleted and is forgetting its leases.
    pub leaving: bool,
    /// Why it may still do harm with an old lease table. Absent: it is fenced.
    pub unfenced: Option<String>,
    /// Traffic between its last two reports.
    pub bits_per_sec: u64,
    /// What everybody who probes it measures.
    pub probes: Vec<EdgeProbe>,
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

/// `PUT /v1/edges/{name}/weight`.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EdgeWeight {
    /// Share of the group's flows, relative to the other edges: 1 to 1,000, 100 by default.
    pub weight: u16,
}

/// A workload and what it wears.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct WorkloadView {
    /// The subject it is.
    pub subject: SubjectId,
    /// Its node.
    pub node: NodeName,
    /// Its name there.
    pub name: WorkloadName,
    /// Its host-side device.
    pub device: String,
    /// The IPv4 source address that its packets must have.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub address: Option<Ipv4Addr>,
    /// The IPv6 source prefix that its packets must have.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub prefix6: Option<Cidr>,
    /// How its packets are told from others'.
    pub kind: WorkloadKind,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Whether the device is there now.
    pub attached: bool,
    /// What it wears.
    pub assignment: AssignmentView,
}

/// A lease.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct LeaseView {
    /// Its id.
    pub id: LeaseId,
    /// Who holds it.
    pub subject: SubjectId,
    /// Under which persona.
    pub persona: PersonaName,
    /// That persona's unique id.
    pub vni: Vni,
    /// From which pool.
    pub pool: PoolName,
    /// What it consists of.
    #[serde(flatten)]
    pub space: LeaseSpace,
    /// Port ranges, first and last port of each, ascending; none for a prefix.
    pub ports: Vec<(u16, u16)>,
    /// Whether the subject's interface has it and nothing is rewritten.
    pub configured: bool,
    /// How full it is, as its node last said.
    #[serde(rename = "use")]
    pub use_: Option<LeaseUse>,
    /// `publishing` (edges are learning it), `active`, `retiring` (its last flows go on), `revoking` (edges are
    /// forgetting it) or `quarantine`.
    pub state: String,
    /// In quarantine: when it is free again.
    pub free_at_ms: Option<u64>,
    /// The generation in which edges first learnt of it.
    pub generation: Generation,
}

/// `POST /v1/join-tokens`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewJoinToken {
    /// What may join with it.
    pub role: Role,
    /// The only name that may join with it. Absent: any.
    pub name: Option<String>,
    /// How many different keys may join with it.
    #[serde(default = "one")]
    pub uses: u32,
    /// How long it is good for, milliseconds.
    pub ttl_ms: u64,
}

fn one() -> u32 {
    1
}

/// A new join token; the secret is shown only here.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct JoinTokenSecret {
    /// Its id, for listing and revoking.
    pub id: String,
    /// The secret.
    pub token: String,
    /// When it expires.
    pub expires_ms: u64,
}

/// A join token without its secret.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct JoinTokenView {
    /// Its id.
    pub id: String,
    /// What may join with it.
    pub role: Role,
    /// The only name that may join with it.
    pub name: Option<String>,
    /// Uses left.
    pub uses_left: u32,
    /// When it expires.
    pub expires_ms: u64,
}

/// `POST /v1/switch`: a person decides.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Switch {
    /// Who.
    pub subject: SubjectId,
    /// What it shall wear, in every section that the persona has.
    pub persona: PersonaName,
    /// Reverts by itself after this time, milliseconds. Absent: until taken back.
    pub for_ms: Option<u64>,
}

/// `POST /v1/request`: an application says what it needs, the manager chooses.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CapabilityRequest {
    /// Who.
    pub subject: SubjectId,
    /// What its persona must have.
    pub capabilities: Vec<Capability>,
    /// For how long, milliseconds. Absent: until taken back.
    pub for_ms: Option<u64>,
}

/// What a subject wears, per section, and why.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct AssignmentView {
    /// Who.
    pub subject: SubjectId,
    /// Section name → what is worn there. A section that is missing has nothing in force.
    pub sections: BTreeMap<String, SectionAssignment>,
    /// The IPv4 lease for new flows.
    pub lease: Option<LeaseId>,
    /// The IPv6 lease for new flows.
    pub lease6: Option<LeaseId>,
    /// Whether the node (and, for a new lease, every edge) has acknowledged it.
    pub in_force: bool,
    /// Whether the call changed anything. False from a request that the worn persona already satisfied.
    pub changed: bool,
}

/// What a subject wears in one section.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct SectionAssignment {
    /// The persona.
    pub persona: PersonaName,
    /// Its version.
    pub version: u32,
    /// The layer that decided: `nodeDefault`, `binding`, `activation`, `request` or `manual`.
    pub layer: String,
    /// A sentence for people.
    pub reason: String,
    /// When it reverts by itself.
    pub until_ms: Option<u64>,
}

/// `GET /v1/explain/{subject}`: how the decision came about.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// What is in force.
    pub assignment: AssignmentView,
    /// The IPv4 lease in use, if any.
    pub lease: Option<LeaseView>,
    /// The IPv6 lease in use, if any.
    pub lease6: Option<LeaseView>,
    /// Every persona that was considered for the network section, best first.
    pub considered: Vec<Considered>,
    /// Every field of the effective persona: path, value, and the persona and layer that it comes from.
    pub effective: Vec<EffectiveField>,
}

/// One persona that was considered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Considered {
    /// Which.
    pub persona: PersonaName,
    /// Its version.
    pub version: u32,
    /// Whether it is worn.
    pub chosen: bool,
    /// Why it could not be chosen; empty if it could.
    pub refusals: Vec<String>,
    /// Score terms by name; the sum decides.
    pub scores: BTreeMap<String, f64>,
    /// What would change the answer.
    pub hint: Option<String>,
}

/// One field of an effective persona and where it comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct EffectiveField {
    /// Such as `network.mtu`.
    pub path: String,
    /// Its value.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub value: serde_json::Value,
    /// `persona@version`.
    pub persona: String,
    /// The layer that put it there.
    pub layer: String,
}

/// `GET /v1/status`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The manager's version.
    pub version: String,
    /// The store's revision.
    pub revision: Generation,
    /// Nodes that are up, and in all.
    pub nodes: (u32, u32),
    /// Edges that are up, and in all.
    pub edges: (u32, u32),
    /// Workloads.
    pub workloads: u32,
    /// Subjects that should have a network persona and have none, with the reason.
    pub unassigned: BTreeMap<String, String>,
    /// Nodes and edges that have not acknowledged what is published for them.
    pub behind: Vec<String>,
    /// Nodes and edges that rejected what is published for them, with the reason.
    pub rejected: BTreeMap<String, String>,
}

/// Something that happened.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct EventView {
    /// Ascending, without gaps in one store incarnation.
    pub number: u64,
    /// When.
    pub time_ms: u64,
    /// A dotted name such as `assignment.changed`, `edge.down`, `lease.freed`.
    pub name: String,
    /// What it is about.
    pub about: String,
    /// Who did it: `manager`, `node/NAME`, `edge/NAME` or `operator`.
    pub actor: String,
    /// A sentence for people, with the reason.
    pub message: String,
    /// Before and after, where that says something.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub details: serde_json::Value,
}
