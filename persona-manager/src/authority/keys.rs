//! The authority's files: a key per root that only the manager may read, and the trusted roots for everybody.

use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

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
    write_whole(&path(directory, &root.id), root.key_pem().as_bytes())
}

/// Writes the trusted roots.
pub(super) fn write_roots(directory: &Path, snapshot: &Snapshot) -> Result<(), AuthorityError> {
    write_whole(&directory.join(ROOTS_FILE), trusted_pems(snapshot).concat().as_bytes())
}

fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), AuthorityError> {
    let in_file = |source| AuthorityError::File { path: path.to_owned(), source };
    let temporary = path.with_extension("new");
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(&temporary);
    let written = file.and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        std::fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    });
    written.map_err(in_file)
}
