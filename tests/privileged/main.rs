//! Tests that need root: real programs in the real kernel, real packets.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in its set-up")]

mod agent_configure;
mod agent_guard;
mod agent_life;
mod agent_prefer_ipv6;
mod agent_probe;
mod cluster;
mod first_steps;
mod gateway;
mod lifecycle;
mod limits;
mod netlink;
mod peers;
mod programs;
mod slow_path;
mod verifier;
