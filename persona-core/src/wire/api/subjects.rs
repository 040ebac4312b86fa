//! Workloads, their leases, and who wears what for which reason.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::content::ContentSource;
use crate::ids::{Capability, Generation, LeaseId, NodeName, PersonaName, PoolName, SubjectId, Vni, WorkloadName};
use crate::units::Cidr;
use crate::wire::agent::{LeaseUse, WorkloadKind};
use crate::wire::desired::LeaseSpace;
use crate::wire::limits::LimitReport;

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
    /// Its labels: what its node says of it, with the bound ones over them.
    pub labels: BTreeMap<String, String>,
    /// Those of its labels that are bound to it or its node; the others are its node's word.
    #[serde(default)]
    pub bound_labels: BTreeMap<String, String>,
    /// Whether the device is there now.
    pub attached: bool,
    /// What it wears.
    pub assignment: AssignmentView,
    /// Its limits, wanted and actual, as its node last said. Absent: it did not say.
    #[serde(default)]
    pub limits: Option<LimitReport>,
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
    /// Whether its packets go through the encrypted tunnel only.
    #[serde(default)]
    pub encrypted: bool,
    /// How full it is, as its node last said.
    #[serde(rename = "use")]
    pub use_: Option<LeaseUse>,
    /// `publishing` (edges are learning it), `active`, `retiring` (its last flows go on), `revoking` (edges are
    /// forgetting it) or `quarantine`.
    pub state: String,
    /// In quarantine: when it is free again.
    pub free_at_ms: Option<u64>,
    /// Retiring under a grace: when what is left of its flows is cut.
    #[serde(default)]
    pub cut_at_ms: Option<u64>,
    /// The generation in which edges first learnt of it.
    pub generation: Generation,
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
    /// Cuts what is left of its old flows after this time, milliseconds; 0: at once. Absent: what the persona that it
    /// leaves says, else they go on until they end.
    #[serde(default)]
    pub cut_after_ms: Option<u64>,
}

/// `DELETE /v1/switch/{subject}`: the query.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SwitchEnd {
    /// As in [`Switch`].
    pub cut_after_ms: Option<u64>,
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
    /// The source of content that its edge should be close to, whatever its persona says: `{ place: { latitude, longitude } }`,
    /// `{ prefix: CIDR }` or `{ name: HOST }`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub content: Option<ContentSource>,
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
