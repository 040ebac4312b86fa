//! TLS of the listener: one configuration for everybody, with or without a client certificate, made anew when roots
//! change or the manager's own certificate is half through its life.
//!
//! Sessions are never resumed, so that every connection of a node or an edge is verified.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio_rustls::TlsAcceptor;

use super::{Authority, AuthorityError, MANAGER_LIFETIME_MS, trusted_ders};
use crate::store::{Records, RootRecord, Snapshot, Store};

/// What the listener needs to accept TLS.
pub(crate) struct Tls {
    authority: Arc<Authority>,
    store: Store,
    current: Mutex<Current>,
}

struct Current {
    acceptor: TlsAcceptor,
    /// The roots that are trusted.
    roots: Records<RootRecord>,
    made_ms: u64,
}

impl Tls {
    /// Makes the first configuration.
    pub(crate) fn new(authority: Arc<Authority>, store: Store, now_ms: u64) -> Result<Self, AuthorityError> {
        let snapshot = store.snapshot();
        let acceptor = acceptor(&authority, &snapshot, now_ms)?;
        let current = Mutex::new(Current { acceptor, roots: snapshot.roots.clone(), made_ms: now_ms });
        Ok(Self { authority, store, current })
    }

    /// What accepts a connection now. If nothing newer can be made, the last one goes on.
    pub(crate) fn acceptor(&self, now_ms: u64) -> TlsAcceptor {
        let snapshot = self.store.snapshot();
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let is_old = now_ms.saturating_sub(current.made_ms) > MANAGER_LIFETIME_MS / 2;
        if is_old || !current.roots.is_same(&snapshot.roots) {
            let made = self.authority.follow(&self.store).and_then(|()| acceptor(&self.authority, &snapshot, now_ms));
            match made {
                Ok(acceptor) => {
                    *current = Current { acceptor, roots: snapshot.roots.clone(), made_ms: now_ms };
                }
                Err(error) => tracing::error!(error = ?error, "certificates cannot be renewed; the last ones go on"),
            }
        }
        current.acceptor.clone()
    }
}

fn acceptor(authority: &Authority, snapshot: &Snapshot, now_ms: u64) -> Result<TlsAcceptor, AuthorityError> {
    let mut roots = RootCertStore::empty();
    for root in trusted_ders(snapshot)? {
        roots.add(root)?;
    }
    let provider = Arc::new(default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let verifier = verifier.allow_unauthenticated().build().map_err(|_| AuthorityError::Root)?;
    let (chain, key) = authority.issue_manager(&authority.signing(), snapshot, now_ms)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
