//! A link of the chain: SHA-256, written as 64 hex digits.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::hex;

/// The hash of an event and of all before it; written as 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(value_type = String))]
#[serde(try_from = "String", into = "String")]
pub struct EventHash(pub [u8; 32]);

/// A text that is no hash.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a hash is 64 hex digits")]
pub struct InvalidHash;

impl EventHash {
    /// What the first event of a chain links to.
    pub const GENESIS: Self = Self([0; 32]);
}

impl fmt::Display for EventHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex::write(formatter, &self.0)
    }
}

impl fmt::Debug for EventHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl FromStr for EventHash {
    type Err = InvalidHash;
    fn from_str(text: &str) -> Result<Self, InvalidHash> {
        // One spelling only.
        let is_lower = !text.bytes().any(|byte| byte.is_ascii_uppercase());
        hex::decode_32(text).filter(|_| is_lower).map(Self).ok_or(InvalidHash)
    }
}

impl TryFrom<String> for EventHash {
    type Error = InvalidHash;
    fn try_from(text: String) -> Result<Self, InvalidHash> {
        text.parse()
    }
}

impl From<EventHash> for String {
    fn from(hash: EventHash) -> Self {
        hash.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_read_as_it_was_written_and_in_one_spelling_only() {
        let text = "0f".repeat(32);
        assert_eq!(text.parse::<EventHash>().unwrap().to_string(), text);
        for bad in ["", "0f", &"0F".repeat(32), &"é".repeat(32), &"0g".repeat(32), &"0f".repeat(33)] {
            assert_eq!(bad.parse::<EventHash>(), Err(InvalidHash), "{bad}");
        }
    }
}
