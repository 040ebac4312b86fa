//! What follows from intended and reported state: edge health, assignment, leases, desired states.
//!
//! `driver` says when; the others say what. All run inside the store's writer, on the draft of the next snapshot.

mod activation;
mod alerts;
pub(crate) mod assignment;
pub(crate) mod audit;
mod clock_steps;
pub(crate) mod cut;
mod desired;
mod desired_world;
pub(crate) mod driver;
mod exhaustion;
pub(crate) mod facts;
mod grant;
mod health;
mod holding;
pub(crate) mod in_force;
pub(crate) mod kept;
pub(crate) mod lease_rate;
mod leases;
pub(crate) mod maintenance;
mod pool_history;
mod queue;
pub(crate) mod recovery;
pub(crate) mod removal;
pub(crate) mod reports;
pub(crate) mod room;
pub(crate) mod roots;
pub(crate) mod schedules;
pub(crate) mod shares;
pub(crate) mod standing;
mod tell;
pub(crate) mod wear;
