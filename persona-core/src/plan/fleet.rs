//! A fleet as people and programs write it down: edges, nodes with their subjects, and what they may wear.
//!
//! Types only; `read` parses and checks, `tables` and `compile` turn it into what planning works on.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::policy::FleetPolicy;
use crate::document::Location;
use crate::ids::{Capability, EdgeName, GroupName, NodeName, PersonaName, SubjectId, WorkloadName};
use crate::units::{BitRate, Share, Span};

/// Everything that a plan rests on, but for the plan before it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fleet {
    /// Personas that subjects may wear.
    pub personas: Vec<FleetPersona>,
    /// Edges.
    pub edges: Vec<FleetEdge>,
    /// Nodes.
    pub nodes: Vec<FleetNode>,
    /// Sources of content that personas want to be close to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contents: Vec<Content>,
    /// Who may be where.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<FleetPolicy>,
    /// How plans are made.
    #[serde(default)]
    pub planning: Planning,
}

/// A persona, as far as planning needs it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FleetPersona {
    /// Its name.
    pub name: PersonaName,
    /// Edge groups that can carry it.
    pub groups: Vec<GroupName>,
    /// Capabilities that an edge must have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requires: Vec<Capability>,
    /// Capabilities that make an edge the better choice.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prefers: Vec<Capability>,
    /// The content source that its edge should be close to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// What the path to its edge must keep to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathLimits>,
}

/// What a path must keep to. A path that nobody measured keeps to nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PathLimits {
    /// Longest round trip, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_ms_max: Option<f64>,
    /// Most packets that may be lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_max: Option<Share>,
    /// Most jitter, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter_ms_max: Option<f64>,
}

/// An edge.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FleetEdge {
    /// Its name.
    pub name: EdgeName,
    /// Its group.
    pub group: GroupName,
    /// Where it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
    /// What it can carry.
    pub capacity: Capacity,
    /// Whether it may be planned with.
    #[serde(default)]
    pub service: Service,
    /// What it can do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<Capability>,
    /// Labels, for policies.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Its measured round trips to content sources, milliseconds by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub content_rtt_ms: BTreeMap<String, f64>,
}

/// Whether an edge may be planned with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Service {
    /// It serves.
    #[default]
    Serving,
    /// It serves, and something is wrong with it.
    Degraded,
    /// It still carries what it has, and is being emptied.
    Draining,
    /// Somebody works on it.
    Maintenance,
    /// It is dead or out of reach.
    Down,
}

impl Service {
    /// Whether subjects are planned onto it.
    pub fn takes_subjects(self) -> bool {
        matches!(self, Self::Serving | Self::Degraded)
    }

    /// Its word for people and programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Degraded => "degraded",
            Self::Draining => "draining",
            Self::Maintenance => "maintenance",
            Self::Down => "down",
        }
    }
}

/// What an edge can carry. What is absent has no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Capacity {
    /// Bits per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<BitRate>,
    /// Packets per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packets_per_sec: Option<u64>,
    /// Packets per second for which its processor has time, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processor_packets_per_sec: Option<u64>,
    /// Flows at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flows: Option<u64>,
    /// Leases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leases: Option<u64>,
}

/// What a subject needs, all of which is reserved for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Demand {
    /// Bits per second.
    #[serde(default)]
    pub rate: BitRate,
    /// Packets per second.
    #[serde(default)]
    pub packets_per_sec: u64,
    /// Flows at a time.
    #[serde(default)]
    pub flows: u64,
    /// Leases.
    #[serde(default = "one")]
    pub leases: u64,
}

fn one() -> u64 {
    1
}

impl Default for Demand {
    fn default() -> Self {
        Self { rate: BitRate(0), packets_per_sec: 0, flows: 0, leases: 1 }
    }
}

/// A node and the subjects on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FleetNode {
    /// Its name.
    pub name: NodeName,
    /// Where it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
    /// Labels of all its subjects, for policies.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Measured paths to edges.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub paths: BTreeMap<EdgeName, Path>,
    /// What runs on it.
    pub subjects: Vec<FleetSubject>,
}

/// A measured path.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Path {
    /// Round trip, milliseconds.
    pub rtt_ms: f64,
    /// Packets that are lost.
    #[serde(default)]
    pub loss: Share,
    /// Variation of the round trip, milliseconds.
    #[serde(default)]
    pub jitter_ms: f64,
}

/// Something that wears a persona.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FleetSubject {
    /// The workload. Absent: the host's own processes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<WorkloadName>,
    /// Personas that it may wear, the preferred one first.
    pub personas: Vec<PersonaName>,
    /// The only group that can carry it, whatever its personas' groups: there it holds its lease. Absent: each of theirs can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupName>,
    /// What it needs.
    #[serde(default)]
    pub demand: Demand,
    /// Capabilities that its edge must have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requires: Vec<Capability>,
    /// Capabilities that it would like its edge to have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prefers: Vec<Capability>,
    /// The content source that its edge should be close to, instead of its persona's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// Labels besides its node's, and stronger.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

impl FleetSubject {
    /// Its id, given its node.
    pub fn id(&self, node: &NodeName) -> SubjectId {
        match &self.workload {
            None => SubjectId::Node(node.clone()),
            Some(workload) => SubjectId::Workload(node.clone(), workload.clone()),
        }
    }
}

/// A source of content.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Content {
    /// What personas call it.
    pub name: String,
    /// Where it is, for edges that have not measured their way to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
}

/// How plans are made.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Planning {
    /// A subject moves for a better score only if it gains so many points.
    pub stickiness: f64,
    /// Subjects that may move in one plan when no edge came or went.
    pub move_budget: Share,
    /// Up to here, edges count as equally empty and scores alone decide.
    pub comfort: Share,
    /// How moves are spread over time.
    pub pace: Pace,
}

impl Default for Planning {
    fn default() -> Self {
        let move_budget = "1%".parse().expect("one per cent is a share");
        Self { stickiness: 4.0, move_budget, comfort: Share::default(), pace: Pace::default() }
    }
}

/// How moves are spread over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Pace {
    /// From one wave to the next.
    pub every: Span,
    /// What one edge may be given in one wave, of its capacity; a subject at least.
    pub arrivals: Share,
}

impl Default for Pace {
    fn default() -> Self {
        Self { every: Span(1_000), arrivals: "5%".parse().expect("five per cent is a share") }
    }
}
