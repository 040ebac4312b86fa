//! Real peers: servers, clients, containers and guests that others wrote, as the traffic of whole-system tests.

pub mod content;
pub mod coturn;
pub mod cpio;
pub mod docker;
pub mod faketime;
pub mod frr;
pub mod guest;
pub mod guest_system;
pub mod knot;
pub mod nginx;
pub mod oci;
pub mod openssh;
pub mod p0f;
pub mod programs;
pub mod prometheus;
pub mod wrk;
