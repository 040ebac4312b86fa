//! A raw socket that hears ICMP errors of one kind and nothing else.
#![expect(unsafe_code, reason = "raw sockets and ICMP filters have no safe form in the standard library")]

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use tokio::io::unix::AsyncFd;

/// linux/icmp.h.
const ICMP_FILTER: libc::c_int = 1;
/// linux/icmpv6.h.
const ICMPV6_FILTER: libc::c_int = 1;
/// Types that pass: destination unreachable; packet too big.
const DESTINATION_UNREACHABLE: u32 = 3;
const PACKET_TOO_BIG: u32 = 2;

/// The socket.
#[derive(Debug)]
pub(super) struct ErrorSocket(File);

impl ErrorSocket {
    /// Hears ICMP "destination unreachable". Needs CAP_NET_RAW.
    pub(super) fn ipv4() -> io::Result<Self> {
        let socket = Self::open(libc::AF_INET, libc::IPPROTO_ICMP)?;
        socket.filter(libc::SOL_RAW, ICMP_FILTER, &!(1_u32 << DESTINATION_UNREACHABLE))?;
        Ok(socket)
    }

    /// Hears ICMPv6 "packet too big". None: this kernel has no IPv6.
    pub(super) fn ipv6() -> io::Result<Option<Self>> {
        let socket = match Self::open(libc::AF_INET6, libc::IPPROTO_ICMPV6) {
            Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => return Ok(None),
            socket => socket?,
        };
        // A bit per type; set: it does not pass.
        let mut blocked = [u32::MAX; 8];
        blocked[0] = !(1 << PACKET_TOO_BIG);
        socket.filter(libc::IPPROTO_ICMPV6, ICMPV6_FILTER, &blocked)?;
        Ok(Some(socket))
    }

    /// Makes it one that tokio waits on. Needs a tokio runtime.
    pub(super) fn waiting(self) -> io::Result<AsyncFd<Self>> {
        // SAFETY: the descriptor is the same and open for as long as the value lives, for nobody else has it.
        unsafe { AsyncFd::register(self) }.map_err(io::Error::from)
    }

    /// Takes one waiting message: under IPv4 with its IP header, under IPv6 without.
    pub(super) fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.0).read(buffer)
    }

    fn open(family: libc::c_int, protocol: libc::c_int) -> io::Result<Self> {
        let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: no memory is passed.
        let fd = unsafe { libc::socket(family, kind, protocol) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just given this descriptor to nobody else.
        Ok(Self(File::from(unsafe { OwnedFd::from_raw_fd(fd) })))
    }

    fn filter<T>(&self, level: libc::c_int, option: libc::c_int, value: &T) -> io::Result<()> {
        let length = size_of::<T>() as libc::socklen_t;
        // SAFETY: an open descriptor, and a value that lives through the call, with its length.
        let outcome =
            unsafe { libc::setsockopt(self.0.as_raw_fd(), level, option, (&raw const *value).cast(), length) };
        if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

impl AsRawFd for ErrorSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
