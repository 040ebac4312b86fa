//! Vocabulary and decisions of Persona.
//!
//! Everything here is pure: no I/O, no async, no unsafe; clock and randomness are arguments.
//! The manager, the agents and the command line share these types, so a word means the same everywhere.
#![forbid(unsafe_code)]

pub mod activate;
pub mod alert;
pub mod assign;
pub mod audit;
pub mod available;
pub mod capacity;
pub mod compose;
pub mod conditions;
pub mod content;
pub mod divide;
pub mod document;
pub mod firewall;
pub mod fleet_share;
pub mod gateway;
pub mod geofeed;
pub mod guest;
pub mod health;
pub mod hex;
pub mod ids;
pub mod label_selector;
pub mod lease;
pub mod limit;
pub mod liveness;
pub mod maglev;
mod nearest;
pub mod ownership;
pub mod plan;
pub mod predict;
pub mod quota;
pub mod ranges;
pub mod reach;
pub mod report_pace;
pub mod rollout;
pub mod security;
pub mod signal;
pub mod software;
pub mod trial;
pub mod units;
pub mod webhook;
pub mod wire;
