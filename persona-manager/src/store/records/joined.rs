//! Who has joined with a token.

use serde::{Deserialize, Serialize};

/// A key that joined with a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JoinedKeyRecord {
    /// The token's id.
    pub token: String,
    /// The key, standard Base64.
    pub public_key: String,
}
