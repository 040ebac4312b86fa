//! The kernel programs on built packets (`BPF_PROG_TEST_RUN`): verdicts, bytes and counters; and on a chain of namespaces.

mod edge_packets;
mod frames;
mod load;
mod namespace;
mod node_packets;
mod path;
mod run;
mod watching;
pub(crate) mod world;
