//! A model of the data plane in plain Rust, written from `docs/packets.md` apart from the programs, to hold them against.
//!
//! What the contract leaves open (which free port a mapping gets, which edge a flow takes) the model reads from what the
//! program did, and judges: was that port free, in the lease, the same as before? Everything else it predicts byte by
//! byte. Mappings age by the same clock on both sides; in the seconds around a limit either answer is right.

mod delivery;
pub mod edge;
mod edge_refusals;
mod firewall;
pub mod generate;
pub mod guard;
mod leaving;
pub mod nat;
pub mod node;
pub mod packet;
pub mod rewrite;
mod shape;
pub mod towards;
pub mod tunnel;
pub mod wire;

use persona_common::drop::DropReason;

/// What a program did with a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// Dropped; which counter went up is judged separately where it is known.
    Dropped,
    /// Handed on, with the mark it carries then.
    Passed {
        /// `skb->mark`.
        mark: u32,
    },
    /// Sent to a device, or decapsulated and handed up the host's own stack, with its bytes.
    Redirected {
        /// The frame.
        frame: Vec<u8>,
    },
}

/// What the model says must happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// What was seen is what must happen.
    Agreed,
    /// It must be a drop for one of these reasons, and is a drop.
    Drop(Vec<DropReason>),
    /// What was seen must not happen.
    Disagreed(String),
}

impl Verdict {
    /// A disagreement.
    pub fn no(text: impl Into<String>) -> Self {
        Self::Disagreed(text.into())
    }

    /// A drop must have been seen, for one of these reasons.
    pub fn dropped(seen: &Seen, reasons: &[DropReason]) -> Self {
        match seen {
            Seen::Dropped => Self::Drop(reasons.to_vec()),
            other => Self::no(format!("must be dropped as {reasons:?}, but is {other:?}")),
        }
    }
}
