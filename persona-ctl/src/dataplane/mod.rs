//! The kernel side as user space sees it: load, attach, pin, fill and read the programs and maps of persona-ebpf.

pub mod attach;
pub mod bpffs;
pub mod counters;
pub mod detach;
pub mod edge;
mod edge_maps;
mod edge_room;
pub mod error;
mod features;
mod index;
mod loader;
mod maps;
pub mod node;
mod node_apply;
mod node_maps;
mod node_room;
mod node_rows;
mod node_validate;
pub mod object;
mod sys;
pub mod tables;
pub mod watch;
mod writers;

pub use counters::{RawCounters, SweepSummary};
pub use detach::{DetachReport, detach};
pub use edge::{EdgeDataplane, EdgeOptions, Hook};
pub use error::DataplaneError;
pub use features::KernelFeatures;
pub use node::{NodeDataplane, NodeOptions};
pub use sys::{interface_name as device_name, monotonic_now};
pub use writers::{LivenessWriter, OwnershipWriter};
