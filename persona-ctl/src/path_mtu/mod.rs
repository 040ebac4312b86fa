//! What the ways through the underlay really carry: ICMP errors about our own tunnel packets, heard on raw sockets.
//!
//! No socket owns a tunnel packet, so the kernel learns nothing from such an error. A role says whom its tunnels lead to
//! ([`PathMtus::follow`]), is woken by news, and holds what it tunnels to what is [`known`](PathMtus::known).

mod listener;
mod memory;
mod quote;
mod socket;

pub use listener::PathMtus;
