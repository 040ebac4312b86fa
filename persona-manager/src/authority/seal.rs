//! Signatures over the chain of events, by the key of a root: whoever trusts the fleet's roots can check them.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use persona_core::audit::{AuditSeal, EventHash, SealPurpose};
use persona_core::wire::api::{RetiredRoot, Succession};
use rcgen::SigningKey as _;
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::{Authority, AuthorityError, Root};
use crate::auth::sha256_hex;

/// The public keys of roots by the roots' ids.
#[derive(Debug, Clone, Default)]
pub struct SealKeys(BTreeMap<String, SealKey>);

#[derive(Debug, Clone)]
struct SealKey {
    bytes: Vec<u8>,
    /// The last event that it counts for. None: it counts for all.
    until_event: Option<u64>,
}

impl SealKeys {
    /// Reads root certificates in PEM; a text may hold several.
    pub fn read(pem: &str) -> Result<Self, AuthorityError> {
        let mut keys = BTreeMap::new();
        for der in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            let der = der.map_err(|_| AuthorityError::Root)?;
            let (_, certificate) = x509_parser::parse_x509_certificate(&der).map_err(|_| AuthorityError::Root)?;
            let bytes = certificate.public_key().subject_public_key.data.to_vec();
            keys.insert(sha256_hex(&der), SealKey { bytes, until_event: None });
        }
        if keys.is_empty() { Err(AuthorityError::Root) } else { Ok(Self(keys)) }
    }

    /// Leaves out every root but the one with this id.
    pub fn only(mut self, root: &str) -> Self {
        self.0.retain(|id, _| id == root);
        self
    }

    /// Adds retired roots that one of these, or one of those added, vouches for; others are left out.
    pub fn and_retired(mut self, retired: &[RetiredRoot]) -> Self {
        let mut left: Vec<&RetiredRoot> = retired.iter().collect();
        loop {
            let (vouched, others): (Vec<_>, Vec<_>) = left.into_iter().partition(|root| self.vouches_for(root));
            if vouched.is_empty() {
                return self;
            }
            for root in vouched {
                let Ok(Self(keys)) = Self::read(&root.certificate) else { continue };
                let until_event = Some(root.succession.until_event);
                for (id, key) in keys {
                    self.0.entry(id).or_insert(SealKey { until_event, ..key });
                }
            }
            left = others;
        }
    }

    fn vouches_for(&self, RetiredRoot { certificate, succession }: &RetiredRoot) -> bool {
        let Ok(der) = CertificateDer::from_pem_slice(certificate.as_bytes()) else { return false };
        let (Some(key), Ok(signature)) = (self.0.get(&succession.by), STANDARD.decode(&succession.signature)) else {
            return false;
        };
        key.verify(&Succession::statement(&sha256_hex(&der), succession.until_event), &signature)
    }

    /// Whether one of the roots signed a seal for this purpose.
    pub fn is_signed(&self, seal: &AuditSeal, purpose: SealPurpose) -> bool {
        let (Some(key), Ok(signature)) = (self.0.get(&seal.root), STANDARD.decode(&seal.signature)) else {
            return false;
        };
        key.until_event.is_none_or(|last| seal.number <= last) && key.verify(&seal.statement(purpose), &signature)
    }
}

impl SealKey {
    fn verify(&self, statement: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &self.bytes).verify(statement, signature).is_ok()
    }
}

impl Authority {
    /// Signs the chain of events up to one of them.
    pub(crate) fn seal(
        &self,
        event: (u64, EventHash),
        purpose: SealPurpose,
        now_ms: u64,
    ) -> Result<AuditSeal, AuthorityError> {
        self.signing().seal(event, purpose, now_ms)
    }
}

impl Root {
    /// Signs the chain of events up to one of them.
    pub(crate) fn seal(
        &self,
        (number, hash): (u64, EventHash),
        purpose: SealPurpose,
        now_ms: u64,
    ) -> Result<AuditSeal, AuthorityError> {
        let mut seal = AuditSeal { number, hash, time_ms: now_ms, root: self.id.clone(), signature: String::new() };
        let signature = self.issuer.key().sign(&seal.statement(purpose))?;
        seal.signature = STANDARD.encode(signature);
        Ok(seal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_is_good_for_its_event_its_purpose_and_under_its_root_only() {
        let (root, other) = (Root::make(1_790_000_000_000).unwrap(), Root::make(1_790_000_000_000).unwrap());
        let keys = SealKeys::read(&[root.certificate.as_str(), &other.certificate].concat()).unwrap();
        let seal = root.seal((7, EventHash([1; 32])), SealPurpose::Head, 9).unwrap();
        assert!(keys.is_signed(&seal, SealPurpose::Head));
        assert!(!keys.is_signed(&seal, SealPurpose::Stub));
        assert!(!keys.clone().only(&other.id).is_signed(&seal, SealPurpose::Head));
        for forged in [
            AuditSeal { number: 8, ..seal.clone() },
            AuditSeal { hash: EventHash([2; 32]), ..seal.clone() },
            AuditSeal { time_ms: 10, ..seal.clone() },
            AuditSeal { root: other.id.clone(), ..seal.clone() },
            AuditSeal { signature: "nonsense".to_owned(), ..seal.clone() },
            AuditSeal { signature: String::new(), ..seal },
        ] {
            assert!(!keys.is_signed(&forged, SealPurpose::Head), "{forged:?}");
        }
        assert!(SealKeys::read("").is_err() && SealKeys::read("nonsense").is_err());
    }

    #[test]
    fn a_retired_root_counts_as_far_as_its_successor_says_and_not_by_its_own_word() {
        let [oldest, old, root] = [1, 2, 3].map(|hour| Root::make(hour * 3_600_000).unwrap());
        let retired = |root: &Root, until_event, by: &Root| RetiredRoot {
            certificate: root.certificate.clone(),
            succession: by.succeeds(&root.id, until_event).unwrap(),
        };
        let seal = |root: &Root, number| root.seal((number, EventHash([1; 32])), SealPurpose::Head, 9).unwrap();
        let keys = |retired: &[RetiredRoot]| SealKeys::read(&root.certificate).unwrap().and_retired(retired);
        let chain = keys(&[retired(&oldest, 5, &old), retired(&old, 9, &root)]);
        for (root, number, is_good) in
            [(&oldest, 5, true), (&oldest, 6, false), (&old, 9, true), (&old, 10, false), (&root, 99, true)]
        {
            assert_eq!(chain.is_signed(&seal(root, number), SealPurpose::Head), is_good, "{number}");
        }
        let mut forged = retired(&old, 9, &root);
        forged.succession.until_event = 10;
        for unproven in [forged, retired(&old, 9, &old), retired(&old, 9, &oldest)] {
            assert!(!keys(&[unproven]).is_signed(&seal(&old, 9), SealPurpose::Head));
        }
    }
}
