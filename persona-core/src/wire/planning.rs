//! How the live fleet is planned: what is set through the API, and what is seen of the plan.

use serde::{Deserialize, Serialize};

use crate::ids::{EdgeName, GroupName, PersonaName, PoolName, SubjectId};
use crate::plan::{Content, Demand, FleetPolicy, Plan, Planning};

/// Whether the plan takes effect.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub enum PlanMode {
    /// It is advice: flows are spread over a group's edges by their weights.
    #[default]
    Advise,
    /// Nodes are told each subject's planned edge, which carries it as long as it lives.
    Steer,
}

impl PlanMode {
    /// Its word for people and programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Advise => "advise",
            Self::Steer => "steer",
        }
    }
}

/// `GET /v1/settings/planning`, `PUT` the same.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PlanSettings {
    /// Whether the plan takes effect.
    pub mode: PlanMode,
    /// How plans are made.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub planning: Planning,
    /// Who may be on which edge.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<Object>))]
    pub policies: Vec<FleetPolicy>,
    /// Sources of content that the policies and personas of a simulation may name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<Object>))]
    pub contents: Vec<Content>,
}

/// `GET /v1/plan`: who is planned onto which edge, and how full edges are.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct PlanView {
    /// Whether it takes effect. As advice it is made anew for every question, from nothing.
    pub mode: PlanMode,
    /// Every edge.
    pub edges: Vec<PlannedEdge>,
    /// Every subject that wears a persona with a network section.
    pub subjects: Vec<PlannedSubject>,
    /// The same as `simulate --plan` reads it.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub plan: Plan,
}

/// An edge in the plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct PlannedEdge {
    /// Which.
    pub edge: EdgeName,
    /// Its group.
    pub group: GroupName,
    /// `serving`, `degraded`, `draining`, `maintenance` or `down`.
    pub service: String,
    /// Subjects that are planned onto it.
    pub subjects: u32,
    /// What the plan reserves there: rate, packets per second, flows, leases.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub planned: Demand,
    /// How full that makes it, by its fullest dimension; 1 is full.
    pub planned_fullness: f64,
    /// How full it is by what it measures. Absent: it did not state what it can carry.
    pub measured_fullness: Option<f64>,
}

/// A subject in the plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct PlannedSubject {
    /// Who.
    pub subject: SubjectId,
    /// The persona that it wears.
    pub persona: PersonaName,
    /// The group in which it holds its lease.
    pub group: GroupName,
    /// Its edge. Absent: the plan has none for it, and the whole group carries it by weights.
    pub edge: Option<EdgeName>,
    /// Since when it is there. Absent: the plan is advice, or has no edge for it.
    pub since_ms: Option<u64>,
    /// What is reserved for it.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub demand: Demand,
    /// Why it is there, or why nowhere.
    pub reason: String,
}

/// `POST /v1/simulate`: what would happen if documents were applied.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct WhatIf {
    /// Subjects that would wear or lease something else.
    pub changed: u32,
    /// Of these, who would have no way out.
    pub refused: u32,
    /// The first thousand of them, those without a way out first.
    pub changes: Vec<WornChange>,
    /// How full pools would get, while old leases are still there.
    pub pools: Vec<PoolForecast>,
    /// How full a plan would make edges. Empty: the fleet cannot be planned.
    pub edges: Vec<EdgeForecast>,
}

/// A subject that would wear or lease something else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct WornChange {
    /// Who.
    pub subject: SubjectId,
    /// What its network section is now. Absent: nothing.
    pub before: Option<Worn>,
    /// What it would be. Absent: nothing.
    pub after: Option<Worn>,
    /// Why.
    pub reason: String,
}

/// A persona in a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Worn {
    /// Which.
    pub persona: PersonaName,
    /// Its version.
    pub version: u32,
}

/// How full a pool would get: what is leased or rests, of what there is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct PoolForecast {
    /// Which.
    pub pool: PoolName,
    /// Blocks of ports that there would be.
    pub blocks_total: u32,
    /// Blocks that are taken.
    pub blocks_before: u32,
    /// Blocks that would be.
    pub blocks_after: u32,
    /// IPv6 /64 that there would be.
    pub prefixes_total: u32,
    /// IPv6 /64 that are taken.
    pub prefixes_before: u32,
    /// IPv6 /64 that would be.
    pub prefixes_after: u32,
}

/// How full a plan would make an edge, by its fullest dimension; 1 is full.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct EdgeForecast {
    /// Which.
    pub edge: EdgeName,
    /// For what is there now.
    pub before: f64,
    /// Subjects planned onto it.
    pub subjects_before: u32,
    /// For what would be.
    pub after: f64,
    /// Subjects that would be.
    pub subjects_after: u32,
}
