//! The fleet's own certificate authority: roots, and the certificates that managers, nodes and edges get from it.
//!
//! Which roots are trusted stands in the store; their keys lie in the state directory and never leave it. A root
//! is made once, by the manager that holds the store's lock. Nodes and edges make their own keys and send requests, of
//! which nothing but the key is taken.

mod between;
mod certificate;
mod issue;
mod keys;
mod root;
mod seal;
mod succession;
mod tls;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use persona_core::wire::api::RetiredRoot;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::clock::now_ms;
use crate::config::Config;
use crate::store::{RootRecord, RootState, SealedKey, Snapshot, Store};

pub(crate) use between::client_config;
pub(crate) use certificate::{AgentCertificate, ends_ms, is_manager, issuer_of};
pub(crate) use issue::{MANAGER_LIFETIME_MS, SigningRequest};
pub(crate) use keys::make_private_directory;
pub(crate) use root::Root;
pub use seal::SealKeys;
pub(crate) use succession::{agents_under, followed_by_next, is_trusted_issuer, retire, succeed, tokens_under};
pub(crate) use tls::Tls;

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
        "the key of the store's root certificate is not there: bring {0} back from the backup that belongs to the store, or copy it from the state directory of another manager on the same database"
    )]
    KeyMissing(PathBuf),
    /// A key file holds something else.
    #[error("{0} does not hold the key of the store's root certificate: bring it back from the backup")]
    NotTheKey(PathBuf),
    /// The store's sealed key of the newest root is not that key.
    #[error(
        "the key of the newest root certificate cannot be opened as the store has it: copy it from the state directory of the manager that made it"
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
    directory: PathBuf,
    /// Names and addresses for certificates of managers, beside the one that all have.
    names: Vec<String>,
    addresses: Vec<IpAddr>,
    signing: Mutex<Arc<Root>>,
}

impl Authority {
    /// Opens the authority of a store, and makes its first root where it has none.
    pub(crate) async fn open(config: &Config, address: IpAddr, store: &Store) -> Result<Arc<Self>, AuthorityError> {
        let directory = config.state_dir();
        make_private_directory(&directory)?;
        await_root(&directory, store).await?;
        let signing = read_signing(&directory, &store.snapshot())?;
        keys::write_roots(&directory, &store.snapshot())?;
        let addresses = if address.is_unspecified() { Vec::new() } else { vec![address] };
        let names = config.names.clone();
        Ok(Arc::new(Self { directory, names, addresses, signing: Mutex::new(Arc::new(signing)) }))
    }

    /// The root that signs now.
    pub(crate) fn signing(&self) -> Arc<Root> {
        self.signing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Seals a secret of something with an id, for whoever has the keys of the roots.
    pub(crate) fn seal_secret(&self, id: &str, secret: &str) -> Result<SealedKey, AuthorityError> {
        let signing = self.signing();
        Ok(SealedKey { by: signing.id.clone(), text: keys::seal_text(secret, id, &signing)? })
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
        keys::unseal(&sealed.text, id, &read_root(&self.directory, record)?)
    }

    /// Takes over what the store says of roots by now. Whoever else is about to waits: both write the same files.
    pub(crate) fn follow(&self, store: &Store) -> Result<(), AuthorityError> {
        let mut signing = self.signing.lock().unwrap_or_else(PoisonError::into_inner);
        let snapshot = store.snapshot();
        if signing_record(&snapshot)?.id != signing.id {
            *signing = Arc::new(read_signing(&self.directory, &snapshot)?);
        }
        keys::write_roots(&self.directory, &snapshot)
    }
}

/// Makes the first root where this manager leads; where it follows, the one that leads is about to.
async fn await_root(directory: &Path, store: &Store) -> Result<(), AuthorityError> {
    let begun = Instant::now();
    while store.snapshot().roots.is_empty() {
        if store.standing().leads() {
            return make_root(directory, store).await;
        }
        if begun.elapsed() > ROOT_PATIENCE {
            return Err(AuthorityError::Store("the manager that leads has made none yet; try again".to_owned()));
        }
        tokio::time::sleep(ROOT_PAUSE).await;
    }
    Ok(())
}

async fn make_root(directory: &Path, store: &Store) -> Result<(), AuthorityError> {
    let made = Root::make(now_ms())?;
    keys::write(directory, &made)?;
    let record = RootRecord::new(&made, now_ms(), RootState::Signing);
    let put = move |draft: &mut crate::store::Draft| {
        let message = "the first root certificate was made".to_owned();
        draft.event("root.made", format!("root/{}", record.id), "manager", message, serde_json::json!({}));
        draft.put(record);
        Ok(())
    };
    store.change(put).await.map_err(|refusal| AuthorityError::Store(refusal.detail().to_owned()))
}

/// The certificates of all roots that are trusted, in PEM.
pub(crate) fn trusted_pems(snapshot: &Snapshot) -> Vec<String> {
    trusted(snapshot).map(|root| root.certificate.clone()).collect()
}

fn trusted(snapshot: &Snapshot) -> impl Iterator<Item = &Arc<RootRecord>> {
    snapshot.roots.values().filter(|root| root.is_trusted())
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
    let make = || persona_core::wire::agent::roots_digest(trusted(snapshot).map(|root| root.certificate.as_str()));
    snapshot.roots_digest(make).to_owned()
}

fn trusted_ders(snapshot: &Snapshot) -> Result<Vec<CertificateDer<'static>>, AuthorityError> {
    let read = |root: &Arc<RootRecord>| CertificateDer::from_pem_slice(root.certificate.as_bytes());
    trusted(snapshot).map(read).collect::<Result<_, _>>().map_err(|_| AuthorityError::Root)
}

fn signing_record(snapshot: &Snapshot) -> Result<&RootRecord, AuthorityError> {
    let signing = snapshot.roots.values().find(|root| root.state == RootState::Signing);
    signing.map(AsRef::as_ref).ok_or(AuthorityError::Root)
}

fn read_signing(directory: &Path, snapshot: &Snapshot) -> Result<Root, AuthorityError> {
    let record = signing_record(snapshot)?;
    match (read_root(directory, record), &record.sealed_key) {
        (Err(AuthorityError::KeyMissing(_)), Some(sealed)) => {
            let opener = snapshot.roots.get(&sealed.by).ok_or(AuthorityError::Root)?;
            let key = keys::unseal(&sealed.text, &record.id, &read_root(directory, opener)?)?;
            let root = Root::read(&record.certificate, &key).map_err(|_| AuthorityError::Sealed)?;
            keys::write(directory, &root)?;
            Ok(root)
        }
        (read, _) => read,
    }
}

fn read_root(directory: &Path, record: &RootRecord) -> Result<Root, AuthorityError> {
    let key = keys::read(directory, &record.id)?;
    let not_the_key = |_| AuthorityError::NotTheKey(keys::path(directory, &record.id));
    Root::read(&record.certificate, &key).map_err(not_the_key)
}
