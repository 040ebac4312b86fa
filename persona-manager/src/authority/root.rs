//! A root: its certificate and its key.

use persona_core::wire::credential::Pin;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PublicKeyData as _,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::issue::{date, serial};
use crate::auth::{random_hex, sha256_hex};
use crate::store::Cross;

/// How long a root is good for: ten years, milliseconds.
const LIFETIME_MS: u64 = 10 * 365 * 24 * 3_600_000;

/// How far certificates are dated back, for clocks that are behind: an hour, milliseconds.
pub(super) const BACKDATE_MS: u64 = 3_600_000;

/// A root with its key.
pub(crate) struct Root {
    /// SHA-256 of the certificate in DER, in hex.
    pub id: String,
    /// The certificate in PEM.
    pub certificate: String,
    /// The certificate in DER.
    pub der: CertificateDer<'static>,
    /// Signs with it.
    pub(super) issuer: Issuer<'static, KeyPair>,
}

impl Root {
    /// Makes a new root.
    pub(crate) fn make(now_ms: u64) -> Result<Self, rcgen::Error> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        // The number tells roots of one fleet, and of several, apart in error messages of other programs.
        let certificate = params(&format!("Persona root {}", random_hex::<4>()), now_ms).self_signed(&key)?;
        Self::new(certificate.pem(), certificate.der().clone(), key)
    }

    /// A certificate of this root's name and key under another root.
    pub(super) fn cross_signed_by(&self, other: &Root, now_ms: u64) -> Result<Cross, rcgen::Error> {
        let unreadable = || rcgen::Error::CouldNotParseCertificate;
        let (_, parsed) = x509_parser::parse_x509_certificate(&self.der).map_err(|_| unreadable())?;
        let name = parsed.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
        let certificate = params(name.ok_or_else(unreadable)?, now_ms).signed_by(self.issuer.key(), &other.issuer)?;
        Ok(Cross { by: other.id.clone(), certificate: certificate.pem() })
    }

    /// Reads a root; the key must belong to the certificate.
    pub(super) fn read(certificate: &str, key: &str) -> Result<Self, rcgen::Error> {
        let der = CertificateDer::from_pem_slice(certificate.as_bytes());
        let der = der.map_err(|_| rcgen::Error::CouldNotParseCertificate)?;
        let key = KeyPair::from_pem(key)?;
        let (_, parsed) =
            x509_parser::parse_x509_certificate(&der).map_err(|_| rcgen::Error::CouldNotParseCertificate)?;
        if parsed.public_key().subject_public_key.data.as_ref() != key.der_bytes() {
            return Err(rcgen::Error::CouldNotParseKeyPair);
        }
        Self::new(certificate.to_owned(), der, key)
    }

    fn new(certificate: String, der: CertificateDer<'static>, key: KeyPair) -> Result<Self, rcgen::Error> {
        let issuer = Issuer::from_ca_cert_der(&der, key)?;
        Ok(Self { id: sha256_hex(&der), certificate, der, issuer })
    }

    /// What join tokens carry of it.
    pub(crate) fn pin(&self) -> Pin {
        let digest = ring::digest::digest(&ring::digest::SHA256, &self.der);
        Pin(digest.as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }

    /// Its key in DER, for what is sealed with it only.
    pub(super) fn key_der(&self) -> Vec<u8> {
        self.issuer.key().serialize_der()
    }

    /// Its key in PEM, for the key file only.
    pub(super) fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }
}

fn params(name: &str, now_ms: u64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    // One below: the certificate of the root that follows.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.serial_number = Some(serial());
    params.not_before = date(now_ms.saturating_sub(BACKDATE_MS));
    params.not_after = date(now_ms + LIFETIME_MS);
    params
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_is_read_as_it_was_made_and_only_with_its_own_key() {
        let (root, other) = (Root::make(1_790_000_000_000).unwrap(), Root::make(1_790_000_000_000).unwrap());
        let again = Root::read(&root.certificate, &root.key_pem()).unwrap();
        assert_eq!((&again.id, again.key_pem()), (&root.id, root.key_pem()));
        assert_eq!(root.pin().to_string(), root.id);
        assert!(Root::read(&root.certificate, &other.key_pem()).is_err());
        assert!(Root::read("nonsense", &root.key_pem()).is_err());
    }
}
