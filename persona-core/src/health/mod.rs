//! Whether an edge serves, and whether one that does not is fenced, from what everybody says about it.
//!
//! `testimony` is what a node or a peer says, `hold` how long an edge that flaps is kept out, `judge` decides the state
//! with its reason, `fence` says whether an edge can no longer do harm with an old lease table, `cut_off` whether a node's trouble
//! is its own. All are pure.

mod cut_off;
mod fence;
mod hold;
mod judge;
mod testimony;

pub use cut_off::{Probed, is_cut_off};
pub use fence::{Fence, fence};
pub use hold::{HOLD_BASE_MS, HOLD_MAX_MS, Hold};
pub use judge::{Contact, EdgeFacts, EdgeState, Judgement, judge};
pub use testimony::{Says, Testimony, WitnessKind};
