//! Probing of edges, by nodes and by the edges of a group among each other.
//!
//! A thread of its own, so that nothing that the async runtime does can delay it. What it decides is in
//! [`persona_core::liveness`]; what it learns goes to the data path at once, from this thread, through the caller's
//! [`Outcome`] function, and only then to whoever reports it.

mod clock;
mod prober;
mod socket;

pub use clock::{monotonic_ns, prefer_this_thread, sleep_until_readable};
pub use prober::{Health, Outcome, Prober, Target};
