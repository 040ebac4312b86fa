//! The UDP socket of user-space WireGuard.
#![expect(unsafe_code, reason = "SO_MARK and IP_MTU_DISCOVER have no safe form in the standard library")]

use std::io;
use std::net::{IpAddr, UdpSocket};
use std::os::fd::AsRawFd;

use persona_common::BYPASS_MARK;

/// Room for what comes and goes at once, bytes.
const BUFFER_BYTES: libc::c_int = 8 << 20;

/// A non-blocking socket on an address and port. The programs for the host's own packets let it pass by its mark; what is
/// too big for a link is cut on the way, as the kernel's WireGuard has it, so that routers can't stop a tunnel.
pub(super) fn open(address: IpAddr, port: u16) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((address, port))?;
    socket.set_nonblocking(true)?;
    set(&socket, libc::SOL_SOCKET, libc::SO_MARK, BYPASS_MARK as libc::c_int)?;
    set(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, BUFFER_BYTES)?;
    set(&socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, BUFFER_BYTES)?;
    match address {
        IpAddr::V4(_) => set(&socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DONT)?,
        IpAddr::V6(_) => set(&socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DONT)?,
    }
    Ok(socket)
}

fn set(socket: &UdpSocket, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: an open descriptor, and an int of the length given that lives through the call.
    let outcome = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), length) };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
