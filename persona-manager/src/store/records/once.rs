//! Answers that were given under idempotency keys.

use serde::{Deserialize, Serialize};

/// An answer that is given again when it is asked for again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OnceRecord {
    /// A digest of who asked and of the key.
    pub id: String,
    /// Who asked.
    pub sender: String,
    /// SHA-256 of what was asked, in hex.
    pub request: String,
    /// The answer, encrypted under the key, in standard Base64.
    pub answer: String,
    /// When it was given.
    pub made_ms: u64,
}
