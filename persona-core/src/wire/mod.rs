//! What the manager, the agents, the edges and the command line say to each other: JSON over HTTP, camelCase keys.
//!
//! `desired` is what the manager wants of a node or an edge, `agent` what those send back, `api` what people and
//! programs ask of the manager. Byte counts are bytes, rates are bits per second, times are milliseconds since the
//! Unix epoch unless a name says otherwise.

pub mod agent;
pub mod api;
pub mod ask;
pub mod conditions;
pub mod contents;
pub mod credential;
pub mod desired;
pub mod firewall;
pub mod guest;
mod item_map;
mod items;
pub mod limits;
pub mod load;
pub mod planning;
pub mod proof;
pub mod reach;
pub mod rollouts;
pub mod security;
pub mod signals;
pub mod software;
mod space;
pub mod told;
pub mod tunnel;
