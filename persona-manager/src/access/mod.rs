//! Who comes, and what they may do.

mod peer;

pub(crate) use peer::{Origin, Peer};
