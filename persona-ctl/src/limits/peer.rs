//! Which process is at the other end of a Unix socket.
#![expect(unsafe_code, reason = "SO_PEERCRED has no stable form in the standard library")]

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

/// The process that listened on the socket, as this process counts (unix(7)).
pub(super) fn process_behind(stream: &UnixStream) -> io::Result<u32> {
    let mut credentials = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    let (pointer, fd) = ((&raw mut credentials).cast(), stream.as_raw_fd());
    // SAFETY: the pointers describe `credentials` and its length, which outlive the call.
    let result = unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_PEERCRED, pointer, &raw mut length) };
    match (result, u32::try_from(credentials.pid)) {
        (0, Ok(pid)) if pid > 0 => Ok(pid),
        (0, _) => Err(io::Error::other("its process is not visible from here: it is in another process namespace")),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_at_both_ends_finds_itself() {
        let (one, _other) = UnixStream::pair().unwrap();
        assert_eq!(process_behind(&one).unwrap(), std::process::id());
    }
}
