//! How the manager is told from an impostor: its certificate verifies under the fleet's own roots, or under the one root
//! that a token pins.
//!
//! Its name is not compared with the URL's: the fleet's CA gives certificates for servers to managers only, so a manager
//! may have any address, and more of them later.

mod verifier;

use std::sync::Arc;

use persona_core::wire::credential::{InvalidCredential, Pin};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use verifier::ManagerVerifier;

/// What the manager's certificate must verify under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// One of these roots, in PEM.
    Roots(Vec<String>),
    /// The root with this digest, which the manager shows.
    Pin(Pin),
}

/// The client certificate of a node or an edge and its key.
#[derive(Debug, Clone, Copy)]
pub struct ClientIdentity<'a> {
    /// The certificate in PEM.
    pub certificate: &'a str,
    /// The key in PKCS#8.
    pub key: &'a [u8],
}

/// Trust that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The roots.
    #[error("the root certificates are not valid PEM, or none is among them")]
    Roots,
    /// The client certificate.
    #[error("the client certificate at hand cannot be used")]
    Identity,
    /// The pin.
    #[error("the pin of the manager's root cannot be used")]
    Pin(#[from] InvalidCredential),
    /// TLS.
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
}

impl Trust {
    /// Reads roots from a file's text, which may hold several in PEM.
    pub fn from_pem(text: &str) -> Result<Self, TrustError> {
        let end = "-----END CERTIFICATE-----\n";
        let text = text.replace("\r\n", "\n");
        let roots: Vec<String> = text.split_inclusive(end).filter(|it| it.contains(end)).map(str::to_owned).collect();
        read_roots(&roots).map(|_| Self::Roots(roots))
    }

    /// A configuration of TLS that speaks these protocols and shows this certificate.
    pub fn client_config(
        &self,
        identity: Option<ClientIdentity<'_>>,
        protocols: &[&str],
    ) -> Result<ClientConfig, TrustError> {
        let provider = Arc::new(default_provider());
        let verifier = match self {
            Self::Roots(roots) => ManagerVerifier::by_roots(read_roots(roots)?, provider.clone())?,
            Self::Pin(pin) => ManagerVerifier::by_pin(*pin, provider.clone()),
        };
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match identity {
            None => config.with_no_client_auth(),
            Some(identity) => {
                let read = CertificateDer::pem_slice_iter(identity.certificate.as_bytes());
                let chain = read.collect::<Result<_, _>>().map_err(|_| TrustError::Identity)?;
                let key = PrivateKeyDer::try_from(identity.key.to_vec()).map_err(|_| TrustError::Identity)?;
                config.with_client_auth_cert(chain, key).map_err(|_| TrustError::Identity)?
            }
        };
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Ok(config)
    }
}

/// The beginning of a client for plain HTTP and sockets, which trusts nobody over TLS and looks for no roots on the host.
pub fn plain_http() -> reqwest::ClientBuilder {
    let nobody = Trust::Pin(Pin([0; 32])).client_config(None, &[]).expect("a pin and TLS 1.3 make a configuration");
    reqwest::Client::builder().tls_backend_preconfigured(nobody).no_proxy()
}

fn read_roots(roots: &[String]) -> Result<RootCertStore, TrustError> {
    let mut store = RootCertStore::empty();
    for root in roots {
        let root = CertificateDer::from_pem_slice(root.as_bytes()).map_err(|_| TrustError::Roots)?;
        store.add(root).map_err(|_| TrustError::Roots)?;
    }
    if store.is_empty() { Err(TrustError::Roots) } else { Ok(store) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_are_read_one_by_one_and_nothing_else_is_taken_for_one() {
        let root = || {
            let key = rcgen::KeyPair::generate().unwrap();
            rcgen::CertificateParams::default().self_signed(&key).unwrap().pem().replace("\r\n", "\n")
        };
        let roots = [root(), root()];
        assert_eq!(Trust::from_pem(&roots.concat()).unwrap(), Trust::Roots(roots.to_vec()));
        for bad in ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert!(matches!(Trust::from_pem(bad), Err(TrustError::Roots)), "{bad}");
        }
    }
}
