//! The authority's files: a key per root that only the manager may read, and the trusted roots for everybody. And a key
//! on its way to another manager's files, sealed.

use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::sealing::{seal_text, unseal_text};
use super::{AuthorityError, Root, trusted_pems};
use crate::store::Snapshot;

/// The name of the file with the trusted roots in PEM, for `curl --cacert` and the like.
const ROOTS_FILE: &str = "roots.pem";

/// Makes a directory that only its owner may enter; one that is there is closed to others.
pub(crate) fn make_private_directory(path: &Path) -> Result<(), AuthorityError> {
    let in_file = |source| AuthorityError::File { path: path.to_owned(), source };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(in_file)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).map_err(in_file)
}

/// Where the key of a root lies.
pub(super) fn path(directory: &Path, id: &str) -> PathBuf {
    directory.join(format!("root-{}.key", &id[..id.len().min(16)]))
}

/// Reads the key of a root.
pub(super) fn read(directory: &Path, id: &str) -> Result<String, AuthorityError> {
    let path = path(directory, id);
    std::fs::read_to_string(&path).map_err(|source| match source.kind() {
        ErrorKind::NotFound => AuthorityError::KeyMissing(path),
        _ => AuthorityError::File { path, source },
    })
}

/// Writes the key of a root: it is on disk before anybody may rely on it.
pub(super) fn write(directory: &Path, root: &Root) -> Result<(), AuthorityError> {
    let path = path(directory, &root.id);
    write_whole(&path, root.key_pem().as_bytes()).map_err(|source| AuthorityError::File { path, source })
}

/// Writes the trusted roots.
pub(super) fn write_roots(directory: &Path, snapshot: &Snapshot) -> Result<(), AuthorityError> {
    let path = directory.join(ROOTS_FILE);
    let written = write_whole(&path, trusted_pems(snapshot).concat().as_bytes());
    written.map_err(|source| AuthorityError::File { path, source })
}

/// Puts a file that is its owner's alone in the place of one, on disk when this returns.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let temporary = path.with_extension("new");
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(&temporary);
    file.and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        std::fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    })
}

/// What the keys of roots seal; nothing else is ever encrypted with what comes of it.
const SEAL_SALT: &[u8] = b"persona root key 1";

/// The key of a root, sealed with the key of another.
pub(super) fn seal(root: &Root, opener: &Root) -> Result<String, AuthorityError> {
    seal_secret(&root.key_pem(), &root.id, opener)
}

/// A secret, sealed with the key of a root. `id` says whose it is.
pub(super) fn seal_secret(text: &str, id: &str, opener: &Root) -> Result<String, AuthorityError> {
    seal_text(text, id, SEAL_SALT, &opener.key_der())
}

/// Opens what [`seal`] or [`seal_secret`] made of what has this id.
pub(super) fn unseal(text: &str, id: &str, opener: &Root) -> Result<String, AuthorityError> {
    unseal_text(text, id, SEAL_SALT, &opener.key_der())
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    #[test]
    fn a_sealed_key_opens_with_the_root_that_it_is_sealed_with_only() {
        let [root, opener, other] = [1, 2, 3].map(|hour| Root::make(hour * 3_600_000).unwrap());
        let text = seal(&root, &opener).unwrap();
        assert_eq!(unseal(&text, &root.id, &opener).unwrap(), root.key_pem());
        assert!(!String::from_utf8_lossy(&STANDARD.decode(&text).unwrap()).contains("PRIVATE"));
        assert_ne!(seal(&root, &opener).unwrap(), text, "a nonce of its own");
        assert!(unseal(&text, &root.id, &other).is_err() && unseal(&text, &other.id, &opener).is_err());
        for bad in ["", "nonsense", &text[4..], &text[..text.len() - 4]] {
            assert!(matches!(unseal(bad, &root.id, &opener), Err(AuthorityError::Sealed)), "{bad}");
        }
    }
}
