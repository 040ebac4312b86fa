//! The way to the managers, the same for nodes and edges: register, renew the certificate, watch the desired state, report.
//!
//! The manager may be away for as long as it likes. The last desired state is kept in the state directory and stays in
//! force; reconnecting is tried at least every two seconds, with jitter; nothing is queued without a bound.

mod backoff;
mod client;
mod identity;
mod known;
mod link;
mod managers;
mod outbox;
mod session;
mod signs;
mod state_file;

pub use client::LinkError;
pub use identity::joined_managers;
pub(crate) use link::spread_of;
pub use link::{Asker, Link, LinkConfig, Reporter, start};
pub use outbox::Outbox;
pub use signs::Heard;
pub use state_file::{StateFile, replace};
