//! Leases: what a subject holds under a persona, in either family.
//!
//! `need` says what that is, `occupancy` what is taken, `allocate` finds what is free and `free` counts it, `life` says when a lease may go
//! from one state to the next. All are pure: what is taken, what was acknowledged and what time it is are arguments.

mod allocate;
mod block;
mod free;
mod fullness;
mod life;
mod need;
mod occupancy;

pub use allocate::{Exhausted, PoolSpace};
pub use block::{PORT_FIRST, block_count_for, first_block, port_ranges};
pub use free::FreeSpace;
pub use fullness::Fullness;
pub use life::{EdgeAck, LeaseFacts, LeaseState, LeaseStep, step};
pub use need::{Need, PoolFamilies, needs};
pub use occupancy::Occupancy;
