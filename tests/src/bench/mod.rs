//! The benchmarks: ours and its peers in turns; of the data plane on the same packets, into the same sinks.
//!
//! [`measures`] lists what is measured; each gives rows for the [`report`]. `docs/benchmarks/README.md` says what they mean.

pub mod chain;
pub mod clock;
pub mod control;
pub mod crowd;
pub mod devices;
pub mod edge_cost;
pub mod edge_rate;
pub mod edge_tables;
pub mod end_to_end;
pub mod feed;
pub mod gateway;
pub mod instances;
pub mod kernel_way;
pub mod kills;
pub mod measures;
pub mod new_flows;
pub mod node_cost;
pub mod node_personas;
pub mod node_tables;
pub mod packets;
pub mod place;
pub mod plots;
pub mod policing;
pub mod processor;
pub mod rates;
pub mod rates_many;
pub mod report;
pub mod row;
pub mod samples;
pub mod tap;
pub mod wireguard;
