//! The kernel programs on built packets (`BPF_PROG_TEST_RUN`): verdicts, bytes and counters.

mod load;
mod world;
