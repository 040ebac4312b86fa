//! Root certificates of the fleet.

use persona_core::wire::api::Succession;
use serde::{Deserialize, Serialize};

use crate::authority::Root;

/// A root certificate that is trusted. Its key lies in a file of the state directory, or here, sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RootRecord {
    /// SHA-256 of the certificate in DER, in hex.
    pub id: String,
    /// The certificate in PEM.
    pub certificate: String,
    /// When it was made.
    pub made_ms: u64,
    /// What it is used for.
    pub state: RootState,
    /// For whoever trusts the root that signed before and not this one yet.
    #[serde(default)]
    pub cross: Option<Cross>,
    /// Its key, for other managers on the same database.
    #[serde(default)]
    pub sealed_key: Option<SealedKey>,
    /// Its key, sealed with a key of `ca.seal_key_file`. None: it lies in a file.
    #[serde(default)]
    pub stored_key: Option<SealedKey>,
    /// What the root says that has followed it.
    #[serde(default)]
    pub succession: Option<Succession>,
}

/// A certificate of a root's key under the root that signed before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cross {
    /// The root that signed it.
    pub by: String,
    /// The certificate in PEM.
    pub certificate: String,
}

/// A root's key, sealed with the key of another root or a sealing key, which every manager has.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SealedKey {
    /// The root whose key opens it, or the sealing key.
    pub by: String,
    /// Nonce and ciphertext in standard Base64.
    pub text: String,
}

impl std::fmt::Debug for SealedKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "SealedKey(by {})", self.by)
    }
}

/// What a root is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum RootState {
    /// It is trusted and signs new certificates. There is one.
    Signing,
    /// It is trusted: it signed before.
    Trusted,
    /// It is trusted no more; its certificate is kept for what it signed of events.
    Retired,
}

impl RootRecord {
    /// Whether it is one that managers and agents trust.
    pub(crate) fn is_trusted(&self) -> bool {
        self.state != RootState::Retired
    }

    /// The record of a root.
    pub(crate) fn new(root: &Root, made_ms: u64, state: RootState) -> Self {
        Self {
            id: root.id.clone(),
            certificate: root.certificate.clone(),
            made_ms,
            state,
            cross: None,
            sealed_key: None,
            stored_key: None,
            succession: None,
        }
    }
}
