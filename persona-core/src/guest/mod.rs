//! What a host believes of a guest, and a guest of its host.
//!
//! ```text
//!   desired state ─► want ══ lines of JSON ══► read_want ─► applied inside
//!   reports, signals ◄─ read_tell ◄══════════ tell: settings, packages, values
//! ```
//! A guest is its owner's: what it says is taken for a claim about itself and nothing else, within bounds. A host could do
//! anything to a guest anyway, but what it wants is looked through all the same, for it comes from documents.

mod heard;
mod read;

pub use heard::{security_report, software_report};
pub use read::{Unheard, read_tell, read_want};
