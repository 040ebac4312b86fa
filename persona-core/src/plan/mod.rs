//! Which edge every subject of a fleet is planned onto: filter, score, pick, for all of them at once.
//!
//! ```text
//!   fleet ──filter──▶ pairs of subject and edge ──score──▶ ┐
//!   current plan ──what still holds──▶ loads ──────────────┴▶ place ─▶ relieve ─▶ improve ─▶ next plan, moves, refusals
//! ```
//! The next plan is a function of the fleet and the current plan alone. First counts how full the fullest edge is, then
//! the scores; what a plan holds already moves only within a budget, and nothing is ever given more than there is.

mod budget;
mod chain;
mod compile;
mod coupled;
mod event;
mod explain;
mod filter;
mod fleet;
mod follow;
mod geometry;
mod ground;
mod improve;
mod level;
mod outcome;
mod place;
mod planner;
mod policy;
mod price;
mod read;
mod refuse;
mod relieve;
mod report;
mod score;
mod state;
mod tables;
mod waves;
mod wording;

pub use event::Event;
pub use explain::{ConsideredEdge, EdgeRefusal, SubjectExplanation, explain};
pub use filter::Filter;
pub use fleet::{
    Capacity, Content, Demand, Fleet, FleetEdge, FleetNode, FleetPersona, FleetSubject, Pace, Path, PathLimits,
    Planning, Service,
};
pub use outcome::{EdgeFill, FilterCount, Move, MoveCause, Nearest, Outcome, Placement, Plan, Refusal, RunnerUp};
pub use planner::Planner;
pub use policy::{Apart, EdgeSelector, FleetPolicy, GroupShare, Rule, SubjectSelector};
pub use read::{FleetError, parse_fleet, parse_plan};
pub use score::estimated_rtt_ms;
pub use waves::{Wave, WavePlan, waves, waves_of};
