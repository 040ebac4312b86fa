//! What planning gives: the plan, what moves, what is refused, and how full edges get.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::filter::Filter;
use super::fleet::{Demand, Service};
use crate::ids::{EdgeName, PersonaName, SubjectId};

/// Who is planned onto which edge.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Plan {
    /// The edges that were there to be planned onto, by name; others have come since.
    pub edges: Vec<EdgeName>,
    /// Every subject that has a place.
    pub subjects: BTreeMap<SubjectId, Placement>,
}

/// A subject's place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Placement {
    /// The persona that it wears there.
    pub persona: PersonaName,
    /// Its edge.
    pub edge: EdgeName,
    /// The edge's score, in points.
    pub score: f64,
    /// The next best edges, at most three.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub next: Vec<RunnerUp>,
    /// How many edges each filter refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<FilterCount>,
}

/// An edge that was not chosen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunnerUp {
    /// Which.
    pub edge: EdgeName,
    /// Its score, in points.
    pub score: f64,
}

/// How many edges a filter refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FilterCount {
    /// Which filter.
    pub filter: Filter,
    /// So many.
    pub count: u32,
}

/// Why a subject is put on an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum MoveCause {
    /// It had none.
    New,
    /// Its edge is down.
    EdgeDown,
    /// Its edge is no longer part of the fleet.
    EdgeGone,
    /// Its edge is being emptied.
    EdgeDraining,
    /// Somebody works on its edge.
    EdgeMaintenance,
    /// A filter refuses its edge now.
    NoLongerAllowed,
    /// It, or those beside it, need more than there is.
    NoLongerFits,
    /// Another edge was too full.
    Balance,
    /// The other edge is enough better.
    Better,
}

impl MoveCause {
    /// A fragment for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::New => "it had no edge",
            Self::EdgeDown => "its edge is down",
            Self::EdgeGone => "its edge is gone",
            Self::EdgeDraining => "its edge is draining",
            Self::EdgeMaintenance => "its edge is in maintenance",
            Self::NoLongerAllowed => "its edge is no longer allowed",
            Self::NoLongerFits => "it no longer fits on its edge",
            Self::Balance => "its edge was too full",
            Self::Better => "the new edge is better",
        }
    }

    /// Whether it had to move.
    pub fn is_forced(self) -> bool {
        !matches!(self, Self::New | Self::Balance | Self::Better)
    }
}

/// A subject that is put on another edge, or on its first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Move {
    /// Who.
    pub subject: SubjectId,
    /// Where it was. None: nowhere, or on an edge that is no longer part of the fleet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<EdgeName>,
    /// Where it goes.
    pub to: EdgeName,
    /// Why.
    pub cause: MoveCause,
}

/// A subject without a place.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Refusal {
    /// Who.
    pub subject: SubjectId,
    /// Where it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<EdgeName>,
    /// A sentence for people.
    pub reason: String,
    /// How many edges each filter refused.
    pub refused: Vec<FilterCount>,
    /// The nearest thing that could be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nearest: Option<Nearest>,
}

/// The nearest thing that could be, for a subject that cannot have what it asks for.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Nearest {
    /// The edge.
    pub edge: EdgeName,
    /// The persona.
    pub persona: PersonaName,
    /// What it could have there: its demand, scaled down to the room that is left. None: room is not what is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub demand: Option<Demand>,
    /// What would have to change, a sentence each.
    pub hints: Vec<String>,
}

/// How full an edge is.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EdgeFill {
    /// Which.
    pub edge: EdgeName,
    /// Whether it is planned with.
    pub service: Service,
    /// Subjects before.
    pub subjects_before: u32,
    /// Subjects now.
    pub subjects: u32,
    /// What is reserved.
    pub load: Demand,
    /// How full it was, by its fullest dimension; 1 is full.
    pub before: f64,
    /// How full it is.
    pub after: f64,
    /// Which dimension is fullest. None: nothing is reserved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dimension: Option<&'static str>,
}

/// What one run of planning did.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// What moves, by subject.
    pub moves: Vec<Move>,
    /// Who has no place.
    pub refusals: Vec<Refusal>,
    /// Who stays on an edge that is being emptied, because nobody else has room.
    pub waiting: Vec<SubjectId>,
    /// How full edges get.
    pub edges: Vec<EdgeFill>,
    /// Moves of subjects that could have stayed, and how many of these were allowed.
    pub moved_by_choice: usize,
    /// See [`Outcome::moved_by_choice`].
    pub budget: usize,
    /// How full the fullest edge gets.
    pub fullest: f64,
    /// No plan for these subjects can have a fullest edge below this.
    pub bound: f64,
}
