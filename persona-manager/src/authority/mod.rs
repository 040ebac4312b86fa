//! The fleet's own certificate authority: roots, and the certificates that managers, nodes and edges get from it.
//!
//! Which roots are trusted stands in the store; their keys lie in the state directory and never leave it, or are in the
//! store too, sealed. A root is made once, by the manager that holds the store's lock. Nodes and edges make their own keys
//! and send requests, of which nothing but the key is taken.

mod between;
mod certificate;
mod issue;
mod keys;
mod proof;
mod root;
mod seal;
mod sealing;
mod signing_request;
mod succession;
mod tls;
mod vault;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use persona_core::wire::api::RetiredRoot;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::clock::now_ms;
use crate::config::Config;
use crate::error::Refusal;
use crate::store::{Draft, Records, RootRecord, RootState, SealedKey, Snapshot, Store};

pub(crate) use between::client_config;
pub(crate) use certificate::{AgentCertificate, ends_ms, is_manager, issuer_of};
pub(crate) use issue::MANAGER_LIFETIME_MS;
pub(crate) use keys::make_private_directory;
pub(crate) use root::Root;
pub use seal::SealKeys;
pub use sealing::{SealingError, SealingKeys};
pub(crate) use signing_request::SigningRequest;
pub(crate) use succession::{agents_under, followed_by_next, is_trusted_issuer, retire, succeed, tokens_under};
pub(crate) use tls::Tls;
pub(crate) use vault::Vault;

/// A manager that follows waits at most this long for the first root, and looks after each pause.
const ROOT_PATIENCE: Duration = Duration::from_secs(15);
const ROOT_PAUSE: Duration = Duration::from_millis(100);

/// A certificate authority that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file of it.
    #[error("{path} cannot be used for the certificate authority")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The key of a root that the store names is not there.
    #[error(
        "the key of the store's root certificate is not there: bring {0} back from the backup that belongs to the store, or copy it from the state directory of another manager on the same database, or set ca.seal_key_file there first"
    )]
    KeyMissing(PathBuf),
    /// The keys are sealed in the store, and nothing here opens them.
    #[error(
        "the key of the store's root certificate is sealed in the store with the sealing key {by}: set ca.seal_key_file to the file that has it, which the other managers on the same database have too"
    )]
    SealKeyFileMissing {
        /// The sealing key.
        by: String,
    },
    /// The sealing keys.
    #[error(transparent)]
    Sealing(#[from] SealingError),
    /// A key file holds something else.
    #[error("{0} does not hold the key of the store's root certificate: bring it back from the backup")]
    NotTheKey(PathBuf),
    /// The store's sealed key of the newest root is not that key.
    #[error(
        "the key of a root certificate cannot be opened as the store has it: it was changed there; bring the store back from a backup, or the key from the state directory of the manager that made it"
    )]
    Sealed,
    /// The store names no root, or one that cannot be read.
    #[error("the store's root certificate cannot be read: restore the store from a backup")]
    Root,
    /// A certificate could not be made.
    #[error("a certificate could not be made")]
    Certificate(#[from] rcgen::Error),
    /// TLS could not be set up.
    #[error("TLS could not be set up")]
    Tls(#[from] rustls::Error),
    /// The first root could not be stored.
    #[error("the first root certificate could not be stored: {0}")]
    Store(String),
}

/// The certificate authority of this manager.
pub(crate) struct Authority {
    vault: Vault,
    /// Names and addresses for certificates of managers, beside the one that all have.
    names: Vec<String>,
    addresses: Vec<IpAddr>,
    signing: Mutex<Arc<Root>>,
}

impl Authority {
    /// Opens the authority of a store, and makes its first root where it has none.
    pub(crate) async fn open(config: &Config, address: IpAddr, store: &Store) -> Result<Arc<Self>, AuthorityError> {
        let vault = Vault::new(config);
        make_private_directory(vault.directory())?;
        await_root(&vault, store).await?;
        let signing = vault.read_signing(&store.snapshot())?;
        keys::write_roots(vault.directory(), &store.snapshot())?;
        let addresses = if address.is_unspecified() { Vec::new() } else { vec![address] };
        let names = config.names.clone();
        Ok(Arc::new(Self { vault, names, addresses, signing: Mutex::new(Arc::new(signing)) }))
    }

    /// The root that signs now.
    pub(crate) fn signing(&self) -> Arc<Root> {
        self.signing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Seals a secret of something with an id, for whoever has the keys of the roots.
    pub(crate) fn seal_secret(&self, id: &str, secret: &str) -> Result<SealedKey, AuthorityError> {
        let signing = self.signing();
        Ok(SealedKey { by: signing.id.clone(), text: keys::seal_secret(secret, id, &signing)? })
    }

    /// Opens what [`Self::seal_secret`] made.
    pub(crate) fn open_secret(
        &self,
        id: &str,
        sealed: &SealedKey,
        snapshot: &Snapshot,
    ) -> Result<String, AuthorityError> {
        let signing = self.signing();
        if sealed.by == signing.id {
            return keys::unseal(&sealed.text, id, &signing);
        }
        let record = snapshot.roots.get(&sealed.by).ok_or(AuthorityError::Root)?;
        keys::unseal(&sealed.text, id, &self.vault.read(record)?)
    }

    /// Takes over what the store says of roots by now. Whoever else is about to waits: both write the same files.
    pub(crate) fn follow(&self, store: &Store) -> Result<(), AuthorityError> {
        let mut signing = self.signing.lock().unwrap_or_else(PoisonError::into_inner);
        let snapshot = store.snapshot();
        if signing_record(&snapshot)?.id != signing.id {
            *signing = Arc::new(self.vault.read_signing(&snapshot)?);
        }
        keys::write_roots(self.vault.directory(), &snapshot)
    }

    /// Seals keys of roots in the store that are not sealed there with the key that seals now. Only the manager that leads
    /// does. Returns how many.
    pub(crate) async fn seal_keys(&self, store: &Store) -> Result<usize, AuthorityError> {
        let snapshot = store.snapshot();
        if !store.standing().leads() {
            return Ok(0);
        }
        let sealed = self.vault.to_seal(&snapshot)?;
        if sealed.is_empty() {
            return Ok(0);
        }
        for path in sealed.iter().filter_map(|(id, _)| self.vault.plain_file(id)) {
            tracing::info!(root.key_file = %path.display(), "this key is sealed in the store now: remove the file once all managers have ca.seal_key_file");
        }
        let count = sealed.len();
        let put = move |draft: &mut Draft| put_sealed(draft, sealed);
        let outcome = store.change(put).await;
        outcome.map(|()| count).map_err(|refusal| AuthorityError::Store(refusal.detail().to_owned()))
    }
}

/// Makes the first root where this manager leads; where it follows, the one that leads is about to.
async fn await_root(vault: &Vault, store: &Store) -> Result<(), AuthorityError> {
    let begun = Instant::now();
    while store.snapshot().roots.is_empty() {
        if store.standing().leads() {
            return make_root(vault, store).await;
        }
        if begun.elapsed() > ROOT_PATIENCE {
            return Err(AuthorityError::Store("the manager that leads has made none yet; try again".to_owned()));
        }
        tokio::time::sleep(ROOT_PAUSE).await;
    }
    Ok(())
}

async fn make_root(vault: &Vault, store: &Store) -> Result<(), AuthorityError> {
    let made = Root::make(now_ms())?;
    let stored_key = vault.keep(&made)?;
    let record = RootRecord { stored_key, ..RootRecord::new(&made, now_ms(), RootState::Signing) };
    let put = move |draft: &mut Draft| {
        let message = "the first root certificate was made".to_owned();
        draft.event("root.made", format!("root/{}", record.id), "manager", message, serde_json::json!({}));
        draft.put(record);
        Ok(())
    };
    store.change(put).await.map_err(|refusal| AuthorityError::Store(refusal.detail().to_owned()))
}

fn put_sealed(draft: &mut Draft, sealed: Vec<(String, SealedKey)>) -> Result<(), Refusal> {
    for (id, key) in sealed {
        let Some(record) = draft.state().roots.get(&id).cloned() else { continue };
        let message = format!("the key of root {id} is sealed in the store with the sealing key {}", key.by);
        let details = serde_json::json!({ "before": record.stored_key.as_ref().map(|key| &key.by), "after": key.by });
        draft.event("root.sealed", format!("root/{id}"), crate::access::MANAGER, message, details);
        draft.put(RootRecord { stored_key: Some(key), ..(*record).clone() });
    }
    Ok(())
}

/// The certificates of all roots that are trusted, in PEM.
pub(crate) fn trusted_pems(snapshot: &Snapshot) -> Vec<String> {
    trusted(&snapshot.roots).map(|root| root.certificate.clone()).collect()
}

fn trusted(roots: &Records<RootRecord>) -> impl Iterator<Item = &Arc<RootRecord>> {
    roots.values().filter(|root| root.is_trusted())
}

/// Roots that are trusted no more, and what their successors say of them.
pub(crate) fn retired_roots(snapshot: &Snapshot) -> Vec<RetiredRoot> {
    let retired = snapshot.roots.values().filter(|root| !root.is_trusted());
    let view = |root: &Arc<RootRecord>| {
        Some(RetiredRoot { certificate: root.certificate.clone(), succession: root.succession.clone()? })
    };
    retired.filter_map(view).collect()
}

/// The digest of the trusted roots, for [`persona_core::wire::agent::ROOTS_HEADER`].
pub(crate) fn roots_digest(snapshot: &Snapshot) -> String {
    let make =
        || persona_core::wire::agent::roots_digest(trusted(&snapshot.roots).map(|root| root.certificate.as_str()));
    snapshot.roots_digest(make).to_owned()
}

fn trusted_ders(snapshot: &Snapshot) -> Result<Vec<CertificateDer<'static>>, AuthorityError> {
    let read = |root: &Arc<RootRecord>| CertificateDer::from_pem_slice(root.certificate.as_bytes());
    trusted(&snapshot.roots).map(read).collect::<Result<_, _>>().map_err(|_| AuthorityError::Root)
}

fn signing_record(snapshot: &Snapshot) -> Result<&RootRecord, AuthorityError> {
    let signing = snapshot.roots.values().find(|root| root.state == RootState::Signing);
    signing.map(AsRef::as_ref).ok_or(AuthorityError::Root)
}
