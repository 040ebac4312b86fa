//! The edge's process: fills the edge's lease table, watches its surroundings and decides which egress addresses to
//! answer for.
//!
//! Threads beside the async loop, none of which the loop can delay: the prober asks the peers, the watcher asks the next
//! hops on both sides, the listener sees which nodes are heard, and the guardian decides ownership, announces it and tells
//! the data path. The slow path has one more, and so has what measures the ways to contents.
//! When this process dies, the data path goes on unchanged.

mod announce;
mod arp;
mod carried;
mod catch_up;
mod config;
mod contents;
mod groups;
mod guardian;
mod hearing;
mod life;
mod neighbour_discovery;
mod observe;
mod ownership;
mod packet_socket;
mod processor;
mod queues;
mod report;
mod routes;
mod shaping;
mod surroundings;
mod tables;
mod watcher;

pub use config::{EdgeConfig, EdgeFile, HookChoice, STATE_DIR};
pub use life::run;
