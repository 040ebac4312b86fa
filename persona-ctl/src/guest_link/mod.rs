//! The host's end of what is said with agents inside guests: what their workloads wear goes in, what became of it and what
//! is measured inside comes back.
//!
//! ```text
//!   state in force ─► want ─► session ══ virtio-serial port ══ agent --guest
//!   reports, events, signals ◄─ heard ◄──┘
//! ```
//! What is believed of a guest is decided in `persona_core::guest`. A guest that says nothing is unknown and keeps what it has.

mod heard;
mod keeper;
mod lines;
mod session;

pub use heard::Heard;
pub use keeper::{Guests, Worn};
pub(crate) use lines::Lines;
