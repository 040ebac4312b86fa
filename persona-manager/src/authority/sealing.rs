//! Texts sealed by ChaCha20-Poly1305 (RFC 8439) under keys by HKDF (RFC 5869), and the file of keys that seal the roots' own.
//!
//! The file is `ca.seal_key_file`: 32 random bytes in hex a line, for its owner only. The first line seals, each opens, so
//! that one key can follow another while managers run. What is sealed is bound to the root's id, which is the SHA-256 of
//! its certificate: of its serial number, and of the one fleet that it was made for.

use std::fmt;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use persona_core::hex;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};
use ring::rand::{SecureRandom as _, SystemRandom};

use super::AuthorityError;
use crate::auth::{random_hex, sha256_hex};
use crate::store::SealedKey;

/// What the keys of the file are used for; nothing else is ever encrypted with what comes of it.
const FILE_SALT: &[u8] = b"persona root key in the store 1";

/// Bytes of a key.
const KEY_LENGTH: usize = 32;

/// Digits of a key's digest that name it.
const ID_LENGTH: usize = 16;

/// So many keys may stand in a file, and so many bytes.
const KEY_COUNT_MAX: usize = 16;
const FILE_LENGTH_MAX: u64 = 16_384;

/// A file of sealing keys that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SealingError {
    /// It cannot be read or written.
    #[error("the sealing keys in {path} cannot be read or written")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Others can read it.
    #[error("{path} has mode {mode:04o}, so others than its owner can get at its sealing keys: chmod 0600 {path}")]
    Open {
        /// Which file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It is none.
    #[error(
        "{path} is no file of sealing keys: {detail}; `persona-ctl manager seal-key make {path}` makes one where there is none"
    )]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// It has another key.
    #[error(
        "a root's key is sealed in the store with the sealing key {by}, and {path} has {known}: put the line of {by} into it, or name the file that has it as ca.seal_key_file"
    )]
    Other {
        /// Which file.
        path: PathBuf,
        /// The key that is needed.
        by: String,
        /// The keys that are there.
        known: String,
    },
}

/// The sealing keys of a file, the one that seals first.
#[derive(Clone, PartialEq, Eq)]
pub struct SealingKeys {
    path: PathBuf,
    keys: Vec<[u8; KEY_LENGTH]>,
}

impl fmt::Debug for SealingKeys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SealingKeys({}: {})", self.path.display(), self.ids().join(", "))
    }
}

impl SealingKeys {
    /// Reads a file, which must be its owner's alone.
    pub fn read(path: &Path) -> Result<Self, SealingError> {
        let in_file = |source| SealingError::File { path: path.to_owned(), source };
        let content = |detail: String| SealingError::Content { path: path.to_owned(), detail };
        let about = std::fs::metadata(path).map_err(in_file)?;
        let mode = about.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(SealingError::Open { path: path.to_owned(), mode });
        }
        if about.len() > FILE_LENGTH_MAX {
            return Err(content(format!("it has more than {FILE_LENGTH_MAX} bytes")));
        }
        let text = std::fs::read_to_string(path).map_err(in_file)?;
        let mut keys = Vec::new();
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
            let key = hex::decode_32(line.trim());
            keys.push(key.ok_or_else(|| content(format!("line {} is not 64 hex digits", index + 1)))?);
        }
        match keys.len() {
            0 => Err(content("there is no key in it".to_owned())),
            1..=KEY_COUNT_MAX => Ok(Self { path: path.to_owned(), keys }),
            _ => Err(content(format!("it has more than {KEY_COUNT_MAX} keys: forget the old ones"))),
        }
    }

    /// Makes a file with a new key where there is none.
    pub fn make(path: &Path) -> Result<Self, SealingError> {
        let made = Self { path: path.to_owned(), keys: vec![new_key()] };
        let mut options = std::fs::OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(path);
        let written = file.and_then(|mut file| {
            file.write_all(made.text().as_bytes())?;
            file.sync_all()
        });
        written.map_err(|source| match source.kind() {
            ErrorKind::AlreadyExists => SealingError::File {
                path: path.to_owned(),
                source: std::io::Error::other("it exists; `seal-key rotate` adds a key to it"),
            },
            _ => SealingError::File { path: path.to_owned(), source },
        })?;
        Ok(made)
    }

    /// Puts a new key before those of a file, which go on opening.
    pub fn rotate(path: &Path) -> Result<Self, SealingError> {
        let mut keys = Self::read(path)?;
        if keys.keys.len() == KEY_COUNT_MAX {
            let detail = format!("it has {KEY_COUNT_MAX} keys: forget the old ones first");
            return Err(SealingError::Content { path: path.to_owned(), detail });
        }
        keys.keys.insert(0, new_key());
        keys.replace()?;
        Ok(keys)
    }

    /// Takes all keys out of a file but the one that seals.
    pub fn forget(path: &Path) -> Result<Self, SealingError> {
        let mut keys = Self::read(path)?;
        keys.keys.truncate(1);
        keys.replace()?;
        Ok(keys)
    }

    fn replace(&self) -> Result<(), SealingError> {
        super::keys::write_whole(&self.path, self.text().as_bytes())
            .map_err(|source| SealingError::File { path: self.path.clone(), source })
    }

    fn text(&self) -> String {
        let head =
            "# Keys that seal the keys of the certificate authority in the store; the first line seals, each opens.\n";
        let lines = self.keys.iter().map(|key| format!("{}\n", hex::encode(key)));
        std::iter::once(head.to_owned()).chain(lines).collect()
    }

    /// What names the keys: the beginnings of their digests, the one that seals first.
    pub fn ids(&self) -> Vec<String> {
        self.keys.iter().map(id_of).collect()
    }

    /// What names the key that seals.
    pub(super) fn sealing_id(&self) -> String {
        id_of(&self.keys[0])
    }

    /// Seals the key of a root.
    pub(super) fn seal(&self, root: &super::Root) -> Result<SealedKey, AuthorityError> {
        let text = seal_text(&root.key_pem(), &root.id, FILE_SALT, &self.keys[0])?;
        Ok(SealedKey { by: self.sealing_id(), text })
    }

    /// Opens the key of the root that has this id.
    pub(super) fn open(&self, id: &str, sealed: &SealedKey) -> Result<String, AuthorityError> {
        let key = self.keys.iter().find(|key| id_of(key) == sealed.by);
        let key = key.ok_or_else(|| SealingError::Other {
            path: self.path.clone(),
            by: sealed.by.clone(),
            known: self.ids().join(", "),
        })?;
        unseal_text(&sealed.text, id, FILE_SALT, key)
    }
}

fn new_key() -> [u8; KEY_LENGTH] {
    hex::decode_32(&random_hex::<KEY_LENGTH>()).expect("as many bytes as were asked for")
}

fn id_of(key: &[u8; KEY_LENGTH]) -> String {
    let mut id = sha256_hex(&[b"persona sealing key\n".as_slice(), key].concat());
    id.truncate(ID_LENGTH);
    id
}

/// Seals a text of what has this id with what a secret gives under a salt, which says what for.
pub(super) fn seal_text(text: &str, id: &str, salt: &[u8], secret: &[u8]) -> Result<String, AuthorityError> {
    let mut nonce = [0; NONCE_LEN];
    SystemRandom::new().fill(&mut nonce).map_err(|_| AuthorityError::Sealed)?;
    let mut text = text.as_bytes().to_vec();
    let associated = Aad::from(id.as_bytes());
    key_for(id, salt, secret)?
        .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), associated, &mut text)
        .map_err(|_| AuthorityError::Sealed)?;
    Ok(STANDARD.encode([nonce.as_slice(), &text].concat()))
}

/// Opens what [`seal_text`] made of what has this id.
pub(super) fn unseal_text(text: &str, id: &str, salt: &[u8], secret: &[u8]) -> Result<String, AuthorityError> {
    let mut bytes = STANDARD.decode(text).map_err(|_| AuthorityError::Sealed)?;
    let (nonce, sealed) = bytes.split_at_mut_checked(NONCE_LEN).ok_or(AuthorityError::Sealed)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| AuthorityError::Sealed)?;
    let opened = key_for(id, salt, secret)?.open_in_place(nonce, Aad::from(id.as_bytes()), sealed);
    let opened = opened.map_err(|_| AuthorityError::Sealed)?;
    String::from_utf8(opened.to_vec()).map_err(|_| AuthorityError::Sealed)
}

fn key_for(id: &str, salt: &[u8], secret: &[u8]) -> Result<LessSafeKey, AuthorityError> {
    let secret = Salt::new(HKDF_SHA256, salt).extract(secret);
    let info = [id.as_bytes()];
    let key = secret.expand(&info, &CHACHA20_POLY1305).map_err(|_| AuthorityError::Sealed)?;
    Ok(LessSafeKey::new(UnboundKey::from(key)))
}

#[cfg(test)]
mod tests {
    use super::super::Root;
    use super::*;

    #[test]
    fn what_a_file_seals_it_opens_also_after_another_key_has_followed_and_no_other_file_does() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("seal.key");
        let root = Root::make(1_790_000_000_000).unwrap();
        let first = SealingKeys::make(&path).unwrap();
        let sealed = first.seal(&root).unwrap();
        assert_eq!(first.open(&root.id, &sealed).unwrap(), root.key_pem());
        assert!(!format!("{first:?} {sealed:?}").contains(&hex::encode(&first.keys[0])));

        let both = SealingKeys::rotate(&path).unwrap();
        assert_eq!((both.ids().len(), &both.ids()[1]), (2, &first.ids()[0]));
        assert_eq!(SealingKeys::read(&path).unwrap(), both);
        assert_eq!(both.open(&root.id, &sealed).unwrap(), root.key_pem());
        let anew = both.seal(&root).unwrap();
        let second = SealingKeys::forget(&path).unwrap();
        assert_eq!(second.open(&root.id, &anew).unwrap(), root.key_pem());

        let refused = second.open(&root.id, &sealed).unwrap_err().to_string();
        assert!(refused.contains(&first.ids()[0]) && refused.contains(&second.ids()[0]), "{refused}");
        assert!(second.open("another root", &anew).is_err(), "it is bound to its root");
        for text in ["", "nonsense", &anew.text[4..], &anew.text[..anew.text.len() - 4]] {
            let broken = SealedKey { text: text.to_owned(), ..anew.clone() };
            assert!(matches!(second.open(&root.id, &broken), Err(AuthorityError::Sealed)), "{text}");
        }
    }

    #[test]
    fn a_file_that_others_read_or_that_holds_something_else_is_refused_with_what_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("seal.key");
        let refusal = |path: &Path| format!("{:#}", anyhow::Error::new(SealingKeys::read(path).unwrap_err()));
        assert!(refusal(&path).contains("No such file"), "{}", refusal(&path));
        let made = SealingKeys::make(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(SealingKeys::make(&path).is_err(), "a key is never overwritten");
        assert_eq!(SealingKeys::read(&path).unwrap(), made);
        let zeros = "0".repeat(64);
        for (text, mode, part) in [
            (made.text(), 0o640, "chmod 0600"),
            (made.text(), 0o604, "0604"),
            (String::new(), 0o600, "no key"),
            ("# nothing\n".to_owned(), 0o600, "no key"),
            (format!("{zeros}\n{zeros}0\n"), 0o600, "line 2"),
            (format!("{zeros}\n").repeat(17), 0o600, "more than 16 keys"),
            ("#".repeat(20_000), 0o600, "bytes"),
        ] {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let told = refusal(&path);
            assert!(told.contains(part) && !told.contains(&zeros), "{told}");
        }
    }
}
