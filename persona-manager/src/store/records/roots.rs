//! Root certificates of the fleet.

use serde::{Deserialize, Serialize};

use crate::authority::Root;

/// A root certificate that is trusted. Its key lies in a file of the state directory.
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
}

/// What a root is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum RootState {
    /// It is trusted and signs new certificates. There is one.
    Signing,
    /// It is trusted: it signed before, or will next.
    Trusted,
}

impl RootRecord {
    /// The record of a root.
    pub(crate) fn new(root: &Root, made_ms: u64, state: RootState) -> Self {
        Self { id: root.id.clone(), certificate: root.certificate.clone(), made_ms, state }
    }
}
