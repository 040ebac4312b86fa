//! A change for many subjects, made in waves: who is moved when, and what speaks against going on.
//!
//! A rollout observes, moves a share of its members, soaks, and moves the next share, until a sign of health speaks against it.
//! Then it halts, and only a command takes it further or back. Nothing here knows what moving means.

mod gate;
mod order;
mod progress;
mod spec;

pub use gate::{Evidence, Fault, Health, MovedSigns, NodeErrors, SubjectSigns};
pub use order::{in_order, restored, wave_count};
pub use progress::{Command, Look, Phase, Progress, RefusedCommand, Step};
pub use spec::{Gate, InvalidRollout, RolloutSpec};
