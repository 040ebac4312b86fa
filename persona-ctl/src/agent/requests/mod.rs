//! What applications on this node ask for themselves, over a socket that any of them may use: who asks is found out from the
//! kernel, and the manager decides.
//!
//! ```text
//!   application ──line of JSON──▶ serve ── peer, who: whose process? ──▶ manager: POST /v1/agent/ask
//! ```

mod client;
mod peer;
mod serve;
mod who;

pub use client::{LocalError, ask};
pub(super) use serve::{RequestSocket, serve};
pub(super) use who::Places;
