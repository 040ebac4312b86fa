//! Which persona a subject wears in its network section, and by which edge group: filter, score, pick.
//!
//! ```text
//!   candidates ──filter: capabilities, policies, serving edges, room at pool and edges──▶ able ──score──▶ best
//! ```
//! The answer is a function of the question alone, and says of every candidate why it was refused or how it scored,
//! and what would change that.

mod capacity;
mod choose;
mod closeness;
mod fitness;
mod ledger;
mod policy;
mod question;
mod score;

pub use choose::{Decision, Pick, choose};
pub use ledger::{Labels, Ledger, Seat, Spread};
pub use policy::is_forbidden;
pub use question::{Activated, Candidate, GroupEdge, GroupFacts, PoolFacts, Question};
