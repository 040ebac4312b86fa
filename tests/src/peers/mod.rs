//! Real peers: servers, clients, containers and guests that others wrote, as the traffic of whole-system tests.

pub mod content;
pub mod nginx;
pub mod programs;
