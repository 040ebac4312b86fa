//! Webhooks: events, posted to where people want them, signed, in order, and tried again until they are taken or given up.
//!
//! ```text
//!   events in the store ─ done ─► worker per webhook ─ sender ─► receiver
//!                                   └─ given up ─► dead letters ─ retry ─┘
//! ```
//! What is still to be sent is the log of events itself, from a number on that is stored: nothing queues in memory, and a
//! manager that takes the lead goes on where the other one was. An event may come twice, never not at all.

mod change;
mod sender;
mod worker;

pub(crate) use change::{create, dead_letters, delete, found, retry, tag, view};
pub(crate) use sender::checked_url;
pub(crate) use worker::{Troubles, run};
