//! The edge's process: fills the edge's lease table, watches its surroundings and decides which egress addresses to
//! answer for.
//!
//! Three threads beside the async loop, none of which the loop can delay: the prober asks the peers, the ARP watcher
//! asks the next hops on both sides, and the guardian decides ownership and announces it. When this process dies, the
//! data path goes on unchanged.

mod announce;
mod arp;
mod config;
mod guardian;
mod life;
mod ownership;
mod packet_socket;
mod tables;
mod watcher;

pub use config::{EdgeConfig, EdgeFile, HookChoice};
pub use life::run;
