//! What follows from intended and reported state: edge health, assignment, leases, desired states.
//!
//! `driver` says when; the others say what. All run inside the store's writer, on the draft of the next snapshot.

pub mod assignment;
mod desired;
pub mod driver;
mod health;
