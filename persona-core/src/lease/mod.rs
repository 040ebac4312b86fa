//! Leases: the port blocks of an egress address that a subject holds under a persona.
//!
//! `allocate` finds free blocks, `life` says when a lease may go from one state to the next. Both are pure: what is
//! taken, what was acknowledged and what time it is are arguments.

mod allocate;
mod life;

pub use allocate::{Exhausted, Grant, Occupancy, PORT_FIRST, PoolSpace, block_count_for, first_block, port_ranges};
pub use life::{EdgeAck, LeaseFacts, LeaseState, LeaseStep, step};
