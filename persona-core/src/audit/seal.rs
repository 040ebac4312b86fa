//! A signature over the chain up to an event.

use serde::{Deserialize, Serialize};

use super::EventHash;

/// What somebody with the manager's key vouches for: the chain up to this event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct AuditSeal {
    /// The event up to which it vouches.
    pub number: u64,
    /// That event's hash.
    pub hash: EventHash,
    /// When it was signed, milliseconds since 1970.
    pub time_ms: u64,
    /// The root certificate whose key signed: SHA-256 in hex.
    pub root: String,
    /// ECDSA P-256 with SHA-256 over [`AuditSeal::statement`], in DER, in standard Base64.
    pub signature: String,
}

/// What a seal says of its event. A signature for one purpose is none for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SealPurpose {
    /// The chain was like this.
    Head,
    /// Events up to this one were dropped for their age.
    Stub,
}

impl AuditSeal {
    /// The bytes that are signed.
    pub fn statement(&self, purpose: SealPurpose) -> Vec<u8> {
        let purpose = match purpose {
            SealPurpose::Head => "head",
            SealPurpose::Stub => "stub",
        };
        let Self { number, hash, time_ms, root, .. } = self;
        // No certificate begins with this text: the key that signs those signs nothing else by it.
        format!("persona audit {purpose} 1\nevent {number}\nhash {hash}\ntime {time_ms}\nroot {root}\n").into_bytes()
    }
}
