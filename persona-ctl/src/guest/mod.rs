//! `persona-ctl agent --guest`: the agent inside a guest, which its host tells what to be.
//!
//! ```text
//!   virtio-serial port ── want ─► settings: kernel parameters, in one transaction
//!                      ◄─ tell ──  packages: the package manager, held, with a way back
//!                                  system: what the guest's own kernel measures
//! ```
//! It keeps what it has when its host says nothing, when it stops, and when it dies. What it may change, the guest's own
//! configuration says.

mod config;
mod journal;
mod life;
mod packages;
mod port;
mod work;

pub use config::{GuestConfig, GuestFile};
pub use life::run;
