//! The kernel programs on built packets (`BPF_PROG_TEST_RUN`): verdicts, bytes and counters; and on a chain of namespaces.

mod classify_devices;
mod edge_packets;
mod frames;
mod frames6;
mod guard6;
mod load;
mod namespace;
mod nat_complete;
mod nat_errors;
mod nat_fragments;
mod nat_frames;
mod nat_headers;
mod nat_live;
mod nat_ports;
mod nat_tcp;
mod nat_world;
mod node6_inward;
mod node6_outward;
mod node6_tables;
mod node6_world;
mod node_packets;
mod path;
mod run;
mod upgrade;
mod watching;
pub(crate) mod world;
