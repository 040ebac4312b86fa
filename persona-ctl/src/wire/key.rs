//! X25519 keys: the private one in a file beside the state, made once; public ones as text.

use std::fmt;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use boringtun::x25519;
use ring::rand::{SecureRandom, SystemRandom};

/// The file in the state directory: one line of Base64, as `wg genkey` writes it.
pub(super) const FILE_NAME: &str = "wireguard.key";

/// Bytes of a key.
const LENGTH: usize = 32;

/// A key that is of no use.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file system refused.
    #[error("{path} cannot be used for the tunnel's private key")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file holds something else.
    #[error("{0} does not hold a WireGuard key, 32 bytes in Base64: remove it, and a new one is made")]
    NotAKey(PathBuf),
    /// Others may read it.
    #[error("{path} has mode {mode:o}, so others than its owner may know the key: remove it, and a new one is made")]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The system gave no random numbers.
    #[error("there are no random numbers to make the tunnel's key of")]
    Random,
}

/// A private key. `Debug` leaves it out.
#[derive(Clone)]
pub struct PrivateKey(x25519::StaticSecret);

/// A public key, written as 44 characters of Base64.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublicKey(pub [u8; LENGTH]);

impl PrivateKey {
    /// The key in a state directory; made if there is none.
    pub fn in_directory(directory: &Path) -> Result<Self, KeyError> {
        Self::in_file(&directory.join(FILE_NAME))
    }

    /// The key in a file; made if there is none.
    pub(super) fn in_file(path: &Path) -> Result<Self, KeyError> {
        if let Some(key) = Self::read(path)? {
            return Ok(key);
        }
        let key = Self::random()?;
        key.store(path).map_err(|source| KeyError::File { path: path.to_owned(), source })?;
        Ok(key)
    }

    /// The key in a file, if there is one.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, KeyError> {
        let path = path.to_owned();
        let failed = |source| KeyError::File { path: path.clone(), source };
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let mode = std::fs::metadata(&path).map_err(failed)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyError::Exposed { path, mode });
        }
        let bytes = decode(text.trim()).ok_or(KeyError::NotAKey(path))?;
        Ok(Some(Self(bytes.into())))
    }

    /// A new key.
    pub fn random() -> Result<Self, KeyError> {
        let mut bytes = [0; LENGTH];
        SystemRandom::new().fill(&mut bytes).map_err(|_| KeyError::Random)?;
        Ok(Self(bytes.into()))
    }

    /// The public key that belongs to it.
    pub fn public(&self) -> PublicKey {
        PublicKey(x25519::PublicKey::from(&self.0).to_bytes())
    }

    pub(super) fn secret(&self) -> x25519::StaticSecret {
        self.0.clone()
    }

    /// Written whole or not at all: a file that is half there would be no key.
    fn store(&self, path: &Path) -> std::io::Result<()> {
        if let Some(directory) = path.parent() {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        }
        let unfinished = path.with_extension("key.new");
        let mut file =
            std::fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
        file.write_all(STANDARD.encode(self.0.to_bytes()).as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        std::fs::rename(&unfinished, path)
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "PrivateKey(of {})", self.public())
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// A text that is no public key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no WireGuard key: write 32 bytes in Base64, 44 characters")]
pub struct InvalidKey(String);

impl FromStr for PublicKey {
    type Err = InvalidKey;
    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        decode(text).map(Self).ok_or_else(|| InvalidKey(text.to_owned()))
    }
}

fn decode(text: &str) -> Option<[u8; LENGTH]> {
    STANDARD.decode(text).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_for_its_owner_only() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state");
        let key = PrivateKey::in_directory(&state).unwrap();
        let mode = std::fs::metadata(state.join(FILE_NAME)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(PrivateKey::in_directory(&state).unwrap().public(), key.public());
        let shown = format!("{key:?}");
        assert!(!shown.contains(std::fs::read_to_string(state.join(FILE_NAME)).unwrap().trim()), "{shown}");
    }

    #[test]
    fn what_others_may_read_or_is_no_key_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE_NAME);
        PrivateKey::in_directory(directory.path()).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(PrivateKey::in_directory(directory.path()), Err(KeyError::Exposed { mode: 0o640, .. })));
        std::fs::write(&path, "c2hvcnQ=\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(PrivateKey::in_directory(directory.path()), Err(KeyError::NotAKey(_))));
    }

    #[test]
    fn a_public_key_is_what_the_rfc_computes_and_reads_back() {
        // RFC 7748 §6.1, Alice.
        let private: [u8; 32] = std::array::from_fn(|at| {
            u8::from_str_radix(
                &"77076d0a7318a57d3c16c17251b26645df4c2f92ebc099f4ddf7b8dd2c4f2f2a"[at * 2..at * 2 + 2],
                16,
            )
            .unwrap_or(0)
        });
        let key = PrivateKey(private.into());
        let text = key.public().to_string();
        assert_eq!(text.parse::<PublicKey>().unwrap(), key.public());
        assert_eq!(text.len(), 44);
        assert!("AAAA".parse::<PublicKey>().unwrap_err().to_string().contains("32 bytes"));
    }
}
