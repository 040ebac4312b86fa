//! The UDP socket that probes go out of and answers come back to.
#![expect(unsafe_code, reason = "SO_NO_CHECK has no safe form in the standard library")]

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;

/// A non-blocking socket on `source` without UDP checksums, so that the reflecting program need not mend one.
pub(super) fn open(source: Ipv4Addr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((source, 0))?;
    socket.set_nonblocking(true)?;
    let on: libc::c_int = 1;
    // SAFETY: the descriptor is open, and the option's value is an int of the length given.
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NO_CHECK,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if outcome == 0 { Ok(socket) } else { Err(io::Error::last_os_error()) }
}
