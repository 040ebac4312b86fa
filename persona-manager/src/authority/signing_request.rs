//! Requests for certificates as nodes and edges send them: only the key of one is taken, and that its sender has it is checked.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateSigningRequestParams, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PublicKey, PublicKeyData as _};

/// A certificate signing request whose signature was checked.
pub(crate) struct SigningRequest {
    pub(super) key: PublicKey,
}

/// What is no request that can be signed, and why.
#[derive(Debug, thiserror::Error)]
#[error("csr is not valid ({0}): send a PKCS#10 request in PEM by an Ed25519 or P-256 key")]
pub(crate) struct InvalidRequest(String);

impl SigningRequest {
    /// Reads a request in PEM and checks that its sender has the key.
    pub(crate) fn read(pem: &str) -> Result<Self, InvalidRequest> {
        let request =
            CertificateSigningRequestParams::from_pem(pem).map_err(|error| InvalidRequest(error.to_string()))?;
        let key = request.public_key;
        let is_known = [&PKCS_ED25519, &PKCS_ECDSA_P256_SHA256].into_iter().any(|known| key.algorithm() == known);
        if is_known { Ok(Self { key }) } else { Err(InvalidRequest("its key is of another kind".to_owned())) }
    }

    /// The public key's bytes in standard Base64, by which a node or an edge is known.
    pub(crate) fn public_key(&self) -> String {
        STANDARD.encode(self.key.der_bytes())
    }
}
