//! The manager's own Unix socket, by which root on its host is the first administrator.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

/// The name of the socket in the state directory.
const SOCKET_NAME: &str = "admin.sock";

/// A socket that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error(
    "the socket {path} cannot be listened on; its path may have 107 bytes: choose a shorter `state_dir` if it is longer, and one for each manager"
)]
pub struct SocketError {
    /// Which.
    path: PathBuf,
    /// Why.
    source: std::io::Error,
}

/// The socket; dropping it removes its file.
#[derive(Debug)]
pub(crate) struct AdminSocket {
    pub(super) listener: UnixListener,
    path: PathBuf,
}

impl AdminSocket {
    /// Listens in the state directory. What an earlier manager left there is replaced, if
    /// nobody answers there: managers on one database may be on one host.
    pub(crate) fn bind(state_dir: &Path) -> Result<Self, SocketError> {
        let path = state_dir.join(SOCKET_NAME);
        if std::os::unix::net::UnixStream::connect(&path).is_ok() {
            return Err(SocketError { path, source: std::io::ErrorKind::AddrInUse.into() });
        }
        let bound = remove_if_there(&path).and_then(|()| UnixListener::bind(&path)).and_then(|listener| {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map(|()| listener)
        });
        match bound {
            Ok(listener) => Ok(Self { listener, path }),
            Err(source) => Err(SocketError { path, source }),
        }
    }
}

impl AdminSocket {
    /// The user that made the socket: the one that the manager runs as.
    pub(crate) fn owner(&self) -> Result<u32, SocketError> {
        let metadata = std::fs::metadata(&self.path);
        metadata.map(|it| it.uid()).map_err(|source| SocketError { path: self.path.clone(), source })
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        if let Err(error) = remove_if_there(&self.path) {
            tracing::debug!(error.cause = %error, "the socket's file could not be removed");
        }
    }
}

fn remove_if_there(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
