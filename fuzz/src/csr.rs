//! Requests for certificates, which anybody who reaches a manager may send.

#[path = "../../persona-manager/src/authority/signing_request.rs"]
mod signing_request;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use signing_request::SigningRequest;

/// Reads bytes as a request in PEM, and as the inside of one.
pub fn read(bytes: &[u8]) {
    if let Ok(pem) = std::str::from_utf8(bytes) {
        take(pem);
    }
    let label = "CERTIFICATE REQUEST";
    take(&format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(bytes)));
}

/// A key that was taken has a length that Ed25519 or P-256 has; a refusal says something.
fn take(pem: &str) {
    match SigningRequest::read(pem) {
        Ok(request) => {
            let key = STANDARD.decode(request.public_key()).expect("it is Base64");
            assert!([32, 65].contains(&key.len()), "a key of {} bytes", key.len());
        }
        Err(error) => assert!(error.to_string().starts_with("csr is not valid")),
    }
}
