//! Verifies the manager's certificate with rustls's own verifier, under the name that all managers have.

use std::sync::Arc;

use persona_core::wire::credential::{MANAGER_NAME, Pin};
use ring::digest::{SHA256, digest};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme};

/// What a pin does not match.
#[derive(thiserror::Error)]
#[error(
    "no root that the manager shows is the one that the token pins ({0}): somebody else answers there, or the token is older than the manager's root"
)]
struct NotPinned(Pin);

/// rustls tells errors of others by `Debug` only.
impl std::fmt::Debug for NotPinned {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, formatter)
    }
}

#[derive(Debug)]
enum Under {
    Roots(Arc<WebPkiServerVerifier>),
    Pin(Pin),
}

/// Verifies under roots or a pin.
#[derive(Debug)]
pub(super) struct ManagerVerifier {
    under: Under,
    provider: Arc<CryptoProvider>,
}

impl ManagerVerifier {
    pub(super) fn by_roots(roots: RootCertStore, provider: Arc<CryptoProvider>) -> Result<Self, Error> {
        Ok(Self { under: Under::Roots(under(roots, provider.clone())?), provider })
    }

    pub(super) fn by_pin(pin: Pin, provider: Arc<CryptoProvider>) -> Self {
        Self { under: Under::Pin(pin), provider }
    }

    /// The verifier under the pinned root, which has to be among the certificates that came.
    fn pinned(&self, pin: Pin, shown: &[CertificateDer<'_>]) -> Result<Arc<WebPkiServerVerifier>, Error> {
        let is_pinned = |certificate: &&CertificateDer<'_>| digest(&SHA256, certificate).as_ref() == pin.0;
        let Some(root) = shown.iter().find(is_pinned) else {
            return Err(CertificateError::Other(OtherError(Arc::new(NotPinned(pin)))).into());
        };
        let mut roots = RootCertStore::empty();
        roots.add(root.clone().into_owned())?;
        under(roots, self.provider.clone())
    }
}

fn under(roots: RootCertStore, provider: Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>, Error> {
    let built = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
    built.map_err(|error| Error::General(error.to_string()))
}

impl ServerCertVerifier for ManagerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verifier = match &self.under {
            Under::Roots(verifier) => verifier.clone(),
            Under::Pin(pin) => self.pinned(*pin, intermediates)?,
        };
        let name = ServerName::try_from(MANAGER_NAME).expect("a constant that is a host name");
        verifier.verify_server_cert(end_entity, intermediates, &name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
