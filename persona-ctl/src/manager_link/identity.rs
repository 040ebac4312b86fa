//! The node's own key and the bearer that the manager gave for it, both readable by their owner only.

use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use persona_core::wire::agent::proof_text;
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};

/// A key or bearer that cannot be kept.
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
    /// No randomness.
    #[error("the kernel gave no randomness for a key")]
    NoRandomness,
}

/// Who this node is to the manager.
#[derive(Debug)]
pub(super) struct Identity {
    key: Ed25519KeyPair,
    bearer_path: PathBuf,
    bearer: Option<String>,
}

impl Identity {
    /// Reads the key and bearer from the state directory, and makes a key where there is none.
    pub(super) fn open(state_dir: &Path) -> Result<Self, IdentityError> {
        let in_file = |path: &Path| {
            let path = path.to_owned();
            move |source| IdentityError::File { path, source }
        };
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(state_dir).map_err(in_file(state_dir))?;
        let (key_path, bearer_path) = (state_dir.join("key.pk8"), state_dir.join("bearer"));
        let document = match std::fs::read(&key_path) {
            Ok(document) => document,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let document =
                    Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| IdentityError::NoRandomness)?;
                write_private(&key_path, document.as_ref()).map_err(in_file(&key_path))?;
                document.as_ref().to_vec()
            }
            Err(error) => return Err(in_file(&key_path)(error)),
        };
        let key = Ed25519KeyPair::from_pkcs8(&document).map_err(|_| IdentityError::NotAKey(key_path))?;
        let bearer = std::fs::read_to_string(&bearer_path).ok();
        Ok(Self { key, bearer_path, bearer })
    }

    /// The public key in Base64.
    pub(super) fn public_key(&self) -> String {
        STANDARD.encode(self.key.public_key().as_ref())
    }

    /// The bearer, once there is one.
    pub(super) fn bearer(&self) -> Option<&str> {
        self.bearer.as_deref()
    }

    /// Keeps a new bearer.
    pub(super) fn set_bearer(&mut self, bearer: String) -> Result<(), IdentityError> {
        let path = self.bearer_path.clone();
        write_private(&path, bearer.as_bytes()).map_err(|source| IdentityError::File { path, source })?;
        self.bearer = Some(bearer);
        Ok(())
    }

    /// The value of the proof header for a request.
    pub(super) fn prove(&self, method: &str, path_and_query: &str, time_ms: u64, body: &[u8]) -> String {
        let body_hash: String = digest(&SHA256, body).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let signature = self.key.sign(proof_text(method, path_and_query, time_ms, &body_hash).as_bytes());
        format!("t={time_ms},s={}", STANDARD.encode(signature.as_ref()))
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

    use ring::signature::{ED25519, UnparsedPublicKey};

    use super::*;

    #[test]
    fn a_key_is_made_once_and_kept_private() {
        let directory = tempfile::tempdir().unwrap();
        let first = Identity::open(directory.path()).unwrap().public_key();
        assert_eq!(Identity::open(directory.path()).unwrap().public_key(), first);
        let mode = std::fs::metadata(directory.path().join("key.pk8")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_key_is_named() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("key.pk8"), "nonsense").unwrap();
        assert!(matches!(Identity::open(directory.path()), Err(IdentityError::NotAKey(_))));
    }

    #[test]
    fn a_bearer_outlives_the_process() {
        let directory = tempfile::tempdir().unwrap();
        Identity::open(directory.path()).unwrap().set_bearer("b1".into()).unwrap();
        assert_eq!(Identity::open(directory.path()).unwrap().bearer(), Some("b1"));
    }

    #[test]
    fn a_proof_verifies_under_the_public_key() {
        let directory = tempfile::tempdir().unwrap();
        let identity = Identity::open(directory.path()).unwrap();
        let proof = identity.prove("POST", "/v1/agent/report", 7, b"{}");
        let signature = STANDARD.decode(proof.strip_prefix("t=7,s=").unwrap()).unwrap();
        let body_hash: String = digest(&SHA256, b"{}").as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let text = proof_text("POST", "/v1/agent/report", 7, &body_hash);
        let key = STANDARD.decode(identity.public_key()).unwrap();
        UnparsedPublicKey::new(&ED25519, key).verify(text.as_bytes(), &signature).unwrap();
    }
}
