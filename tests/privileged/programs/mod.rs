//! The kernel programs on built packets (`BPF_PROG_TEST_RUN`): verdicts, bytes and counters.

mod load;
mod namespace;
mod path;
mod world;
