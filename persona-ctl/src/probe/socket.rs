//! The UDP socket that probes go out of and answers come back to.
#![expect(unsafe_code, reason = "SO_NO_CHECK and UDP_NO_CHECK6_* have no safe form in the standard library")]

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use crate::wire::Inlet;

/// What probes go out of and answers come back to.
#[derive(Debug)]
pub(super) struct ProbeSocket {
    udp: UdpSocket,
    /// The way through the encrypted tunnel, for probes of the tunnel. The UDP socket then only holds the port.
    inlet: Option<(Inlet, SocketAddr)>,
}

impl ProbeSocket {
    /// Probes that take the underlay's routes.
    pub(super) fn open(source: IpAddr) -> io::Result<Self> {
        Ok(Self { udp: open(source)?, inlet: None })
    }

    /// Probes through the device of the encrypted tunnel.
    pub(super) fn through(source: IpAddr, ifindex: u32) -> io::Result<Self> {
        let udp = open(source)?;
        let own = udp.local_addr()?;
        Ok(Self { inlet: Some((Inlet::listen(ifindex, own.port())?, own)), udp })
    }

    /// Sends a datagram.
    pub(super) fn send_to(&self, payload: &[u8], to: SocketAddr) -> io::Result<()> {
        match &self.inlet {
            None => self.udp.send_to(payload, to).map(drop),
            Some((inlet, own)) => inlet.send_datagram(*own, to, payload),
        }
    }

    /// Takes a waiting datagram.
    pub(super) fn receive_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        match &self.inlet {
            None => self.udp.recv_from(buffer),
            Some((inlet, _)) => inlet.receive_datagram(buffer),
        }
    }

    /// For waiting.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.inlet.as_ref().map_or_else(|| self.udp.as_fd(), |(inlet, _)| inlet.as_fd())
    }
}

/// linux/udp.h: packets that leave over IPv6 have a checksum of zero.
const UDP_NO_CHECK6_TX: libc::c_int = 101;
/// linux/udp.h: packets with a checksum of zero are taken over IPv6.
const UDP_NO_CHECK6_RX: libc::c_int = 102;

/// A non-blocking socket on `source` without UDP checksums, so that the reflecting program need not mend one. Over IPv6
/// that takes two options (RFC 6936): the kernel would neither send nor take a zero there by itself.
fn open(source: IpAddr) -> io::Result<UdpSocket> {
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
