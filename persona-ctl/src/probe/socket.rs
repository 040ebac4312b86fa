//! The UDP socket that probes go out of and answers come back to.
#![expect(unsafe_code, reason = "SO_NO_CHECK and UDP_NO_CHECK6_* have no safe form in the standard library")]

use std::io;
use std::net::{IpAddr, UdpSocket};
use std::os::fd::AsRawFd;

/// linux/udp.h: packets that leave over IPv6 have a checksum of zero.
const UDP_NO_CHECK6_TX: libc::c_int = 101;
/// linux/udp.h: packets with a checksum of zero are taken over IPv6.
const UDP_NO_CHECK6_RX: libc::c_int = 102;

/// A non-blocking socket on `source` without UDP checksums, so that the reflecting program need not mend one. Over IPv6
/// that takes two options (RFC 6936): the kernel would neither send nor take a zero there by itself.
pub(super) fn open(source: IpAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((source, 0))?;
    socket.set_nonblocking(true)?;
    let options: &[(libc::c_int, libc::c_int)] = match source {
        IpAddr::V4(_) => &[(libc::SOL_SOCKET, libc::SO_NO_CHECK)],
        IpAddr::V6(_) => &[(libc::IPPROTO_UDP, UDP_NO_CHECK6_TX), (libc::IPPROTO_UDP, UDP_NO_CHECK6_RX)],
    };
    options.iter().try_for_each(|(level, name)| switch_on(&socket, *level, *name))?;
    Ok(socket)
}

fn switch_on(socket: &UdpSocket, level: libc::c_int, name: libc::c_int) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the descriptor is open, and the option's value is an int of the length given.
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
