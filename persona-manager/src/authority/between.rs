//! TLS from one manager to another: the one that follows shows a certificate that only the fleet's CA gives, to managers,
//! and takes nobody but a manager for the one that leads.

use std::sync::Arc;

use persona_core::wire::credential::MANAGER_NAME;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::{Authority, AuthorityError, trusted_ders};
use crate::store::Snapshot;

/// A configuration for requests to other managers.
pub(crate) fn client_config(
    authority: &Authority,
    snapshot: &Snapshot,
    now_ms: u64,
) -> Result<ClientConfig, AuthorityError> {
    let mut roots = RootCertStore::empty();
    for root in trusted_ders(snapshot)? {
        roots.add(root)?;
    }
    let provider = Arc::new(default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
    let verifier = ByManagerName(verifier.map_err(|_| AuthorityError::Root)?);
    let (chain, key) = authority.issue_between(&authority.signing(), now_ms)?;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// rustls's own verifier, under the name that all managers have: a URL may hold any address of one.
#[derive(Debug)]
struct ByManagerName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for ByManagerName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let name = ServerName::try_from(MANAGER_NAME).expect("a constant that is a host name");
        self.0.verify_server_cert(end_entity, intermediates, &name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
