//! The process at the other end of a Unix socket, held on to so that its number is not another's meanwhile.
#![expect(unsafe_code, reason = "getsockopt(2) for SO_PEERPIDFD has no safe form in the libraries that are used")]

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use tokio::net::UnixStream;

/// A process descriptor of who connected (Linux 6.5, include/uapi/asm-generic/socket.h).
const SO_PEERPIDFD: libc::c_int = 77;

/// Who connected.
#[derive(Debug)]
pub(super) struct Peer {
    /// Its process number here.
    pub(super) pid: u32,
    /// Its user.
    pub(super) uid: u32,
    /// Holds on to it, where the kernel can.
    process: Option<OwnedFd>,
}

impl Peer {
    /// Who connected, as the kernel says.
    pub(super) fn of(stream: &UnixStream) -> io::Result<Self> {
        let credentials = stream.peer_cred()?;
        let pid = credentials.pid().and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid > 0);
        let pid = pid.ok_or_else(|| io::Error::other("the kernel does not know the process in this namespace"))?;
        Ok(Self { pid, uid: credentials.uid(), process: process_of(stream)? })
    }

    /// Whether its number is still its own. A kernel that cannot hold on to it is taken at its word: it was when it connected.
    pub(super) fn is_there(&self) -> bool {
        let Some(process) = &self.process else { return true };
        // Of a process that is gone the kernel says -1 (fs/pidfs.c).
        let facts = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", process.as_raw_fd())).unwrap_or_default();
        facts.lines().any(|line| line.strip_prefix("Pid:").is_some_and(|pid| pid.trim() == self.pid.to_string()))
    }
}

fn process_of(stream: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let mut descriptor: libc::c_int = -1;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the socket is open for as long as `stream` lives; the kernel writes one int of the given length.
    let outcome = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_PEERPIDFD,
            (&raw mut descriptor).cast(),
            &raw mut length,
        )
    };
    if outcome == 0 {
        // SAFETY: the kernel made this descriptor for us, and nobody else has it.
        return Ok(Some(unsafe { OwnedFd::from_raw_fd(descriptor) }));
    }
    match io::Error::last_os_error() {
        error if error.raw_os_error() == Some(libc::ENOPROTOOPT) => Ok(None),
        error => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_connected_is_told_and_is_there_under_its_own_number_only() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let _own = UnixStream::connect(&path).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        let peer = Peer::of(&accepted).unwrap();
        assert_eq!(peer.pid, std::process::id());
        assert!(peer.is_there());
        if peer.process.is_some() {
            assert!(!Peer { pid: peer.pid + 1, ..peer }.is_there(), "the number is another's");
        }
    }
}
