//! The node's own key, and what the manager gave for it: the certificate, and the roots to trust. Readable by their owner
//! only; the key never leaves the host.

use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use persona_core::wire::agent::Registered;
use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};
use rustls::pki_types::PrivatePkcs8KeyDer;
use serde::{Deserialize, Serialize};

use crate::trust::ClientIdentity;

/// A key or certificate that cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file system refused.
    #[error("{path} cannot be used for the node's identity")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file holds something else.
    #[error(
        "{0} does not hold an Ed25519 key in PKCS#8; remove it to make a new one (the node must then be removed from the manager first)"
    )]
    NotAKey(PathBuf),
    /// A key or a request for a certificate could not be made.
    #[error("a key or a request for a certificate could not be made")]
    Make(#[from] rcgen::Error),
}

/// What the manager gave, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Membership {
    /// The certificate in PEM.
    pub(super) certificate: String,
    /// When it was given, by this host's clock.
    pub(super) given_ms: u64,
    /// When it ends, by the manager's clock.
    pub(super) expires_ms: u64,
    /// The same by this host's clock, which may be wrong. Absent: given by an older manager, or kept by an older release.
    #[serde(default)]
    pub(super) ends_ms: Option<u64>,
    /// The roots that a manager's certificate may verify under, in PEM.
    pub(super) roots: Vec<String>,
    /// URLs of the managers, from the join token.
    pub(super) managers: Vec<String>,
}

impl Membership {
    /// When the certificate ends by this host's clock, as far as that is known.
    pub(super) fn ends_ms(&self) -> u64 {
        self.ends_ms.unwrap_or(self.expires_ms)
    }
}

/// URLs of the managers that whoever has this state directory has joined; none, if it has not.
pub fn joined_managers(state_dir: &Path) -> Vec<String> {
    membership_in(&state_dir.join("membership.json")).map(|membership| membership.managers).unwrap_or_default()
}

/// A file that is damaged is as good as none: the key or a join token buys another certificate.
fn membership_in(path: &Path) -> Option<Membership> {
    std::fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok())
}

/// Who this node is to the manager.
#[derive(Debug)]
pub(super) struct Identity {
    key: KeyPair,
    membership_path: PathBuf,
    membership: Option<Membership>,
}

impl Identity {
    /// Reads the key and the certificate from the state directory, and makes a key where there is none.
    pub(super) fn open(state_dir: &Path) -> Result<Self, IdentityError> {
        let in_file = |path: &Path| {
            let path = path.to_owned();
            move |source| IdentityError::File { path, source }
        };
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(state_dir).map_err(in_file(state_dir))?;
        let (key_path, membership_path) = (state_dir.join("key.pk8"), state_dir.join("membership.json"));
        let document = match std::fs::read(&key_path) {
            Ok(document) => document,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let document = KeyPair::generate_for(&PKCS_ED25519)?.serialize_der();
                write_private(&key_path, &document).map_err(in_file(&key_path))?;
                document
            }
            Err(error) => return Err(in_file(&key_path)(error)),
        };
        let key = KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(document), &PKCS_ED25519);
        let key = key.map_err(|_| IdentityError::NotAKey(key_path))?;
        let membership = membership_in(&membership_path);
        Ok(Self { key, membership_path, membership })
    }

    /// A request for a certificate, in PEM.
    pub(super) fn signing_request(&self) -> Result<String, IdentityError> {
        Ok(CertificateParams::default().serialize_request(&self.key)?.pem()?)
    }

    /// What the manager gave, once it did.
    pub(super) fn membership(&self) -> Option<&Membership> {
        self.membership.as_ref()
    }

    /// The certificate and key to show, while the certificate is good.
    pub(super) fn shown(&self, now_ms: u64) -> Option<ClientIdentity<'_>> {
        let membership = self.membership.as_ref().filter(|membership| membership.ends_ms() > now_ms)?;
        Some(ClientIdentity { certificate: &membership.certificate, key: self.key.serialized_der() })
    }

    /// Keeps what the manager gave.
    pub(super) fn keep(&mut self, given: Registered, managers: &[String], now_ms: u64) -> Result<(), IdentityError> {
        let Registered { certificate, expires_ms, lifetime_ms, roots, .. } = given;
        let ends_ms = lifetime_ms.map(|lifetime_ms| now_ms.saturating_add(lifetime_ms));
        let managers = managers.to_vec();
        let membership = Membership { certificate, given_ms: now_ms, expires_ms, ends_ms, roots, managers };
        let bytes = serde_json::to_vec(&membership).expect("it has string keys only");
        let path = self.membership_path.clone();
        write_private(&path, &bytes).map_err(|source| IdentityError::File { path, source })?;
        self.membership = Some(membership);
        Ok(())
    }
}

/// Writes a file that only its owner may read, whole or not at all.
pub(super) fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let temporary = path.with_extension("new");
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_kept_private() {
        let directory = tempfile::tempdir().unwrap();
        let first = Identity::open(directory.path()).unwrap().key.public_key_pem();
        assert_eq!(Identity::open(directory.path()).unwrap().key.public_key_pem(), first);
        let mode = std::fs::metadata(directory.path().join("key.pk8")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_key_of_an_earlier_release_is_gone_on_with() {
        let directory = tempfile::tempdir().unwrap();
        let document = ring::signature::Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new()).unwrap();
        std::fs::write(directory.path().join("key.pk8"), document.as_ref()).unwrap();
        assert!(Identity::open(directory.path()).unwrap().signing_request().is_ok());
    }

    #[test]
    fn a_damaged_key_is_named() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("key.pk8"), "nonsense").unwrap();
        assert!(matches!(Identity::open(directory.path()), Err(IdentityError::NotAKey(_))));
    }

    fn given(expires_ms: u64, lifetime_ms: Option<u64>) -> Registered {
        let (certificate, roots) = ("c".to_owned(), vec!["r".to_owned()]);
        Registered { certificate, expires_ms, lifetime_ms, roots, report_interval_ms: 1 }
    }

    #[test]
    fn a_certificate_is_shown_for_as_long_as_it_was_given_by_a_clock_that_is_ahead_or_behind() {
        let directory = tempfile::tempdir().unwrap();
        for (now_ms, until_ms) in [(9_000, 9_500), (10, 510)] {
            Identity::open(directory.path()).unwrap().keep(given(1_000, Some(500)), &[], now_ms).unwrap();
            let again = Identity::open(directory.path()).unwrap();
            assert!(again.shown(until_ms - 1).is_some() && again.shown(until_ms).is_none(), "given at {now_ms}");
        }
    }

    #[test]
    fn a_certificate_outlives_the_process_until_it_ends() {
        let directory = tempfile::tempdir().unwrap();
        let given = given(1_000, None);
        Identity::open(directory.path()).unwrap().keep(given, &["https://m".into()], 500).unwrap();
        let again = Identity::open(directory.path()).unwrap();
        assert_eq!(again.membership().map(|it| it.managers.clone()), Some(vec!["https://m".to_owned()]));
        assert!(again.shown(999).is_some() && again.shown(1_000).is_none());
        std::fs::write(directory.path().join("membership.json"), "{\"half\":").unwrap();
        assert!(Identity::open(directory.path()).unwrap().membership().is_none());
    }
}
