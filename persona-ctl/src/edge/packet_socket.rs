//! A raw socket on one device for ARP or neighbour discovery; reads and writes whole frames.
#![expect(unsafe_code, reason = "AF_PACKET sockets have no safe form in the standard library")]

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// What a socket hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hearing {
    /// Nothing: it only speaks.
    Nothing,
    /// ARP.
    Arp,
    /// ICMPv6 from router solicitation (133) to redirect (137).
    NeighbourDiscovery,
}

/// A packet socket (packet(7)) that is bound to one device.
#[derive(Debug)]
pub(super) struct PacketSocket(File);

/// Classic BPF (Linux Documentation/networking/filter.rst): accepts neighbour discovery without extension headers, so
/// that this process is not woken for every IPv6 packet that the device hands to its host.
const NEIGHBOUR_DISCOVERY_ONLY: [libc::sock_filter; 7] = [
    operation(0x30, 0, 0, 20), // load byte: next header
    operation(0x15, 0, 4, 58), // is it ICMPv6?
    operation(0x30, 0, 0, 54), // load byte: type
    operation(0x35, 0, 2, 133),
    operation(0x25, 1, 0, 137),
    operation(0x06, 0, 0, 0xffff), // accept
    operation(0x06, 0, 0, 0),      // ignore
];

const fn operation(code: u16, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt, jf, k }
}

impl PacketSocket {
    /// Opens a non-blocking socket on the device.
    pub(super) fn open(ifindex: u32, hearing: Hearing) -> io::Result<Self> {
        let protocol = match hearing {
            Hearing::Nothing => 0,
            Hearing::Arp => libc::ETH_P_ARP,
            Hearing::NeighbourDiscovery => libc::ETH_P_IPV6,
        };
        let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // Protocol 0 hears nothing before the filter is there.
        // SAFETY: no memory is passed.
        let fd = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just given this descriptor to nobody else.
        let socket = Self(File::from(unsafe { OwnedFd::from_raw_fd(fd) }));
        if hearing == Hearing::NeighbourDiscovery {
            socket.attach_filter()?;
        }
        socket.bind(ifindex, (protocol as u16).to_be())?;
        Ok(socket)
    }

    /// Sends one frame.
    pub(super) fn send(&self, frame: &[u8]) -> io::Result<()> {
        (&self.0).write(frame).map(drop)
    }

    /// Takes one waiting frame.
    pub(super) fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.0).read(buffer)
    }

    /// For waiting.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    fn bind(&self, ifindex: u32, protocol: u16) -> io::Result<()> {
        let address = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: protocol,
            sll_ifindex: ifindex as i32,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: the address lives through the call and its length is given.
        let bound = unsafe { libc::bind(self.0.as_raw_fd(), (&raw const address).cast(), length) };
        if bound == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    fn attach_filter(&self) -> io::Result<()> {
        let mut filter = NEIGHBOUR_DISCOVERY_ONLY;
        let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
        self.set(libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
    }

    fn set<T>(&self, level: libc::c_int, option: libc::c_int, value: &T) -> io::Result<()> {
        let length = size_of::<T>() as libc::socklen_t;
        // SAFETY: an open descriptor, and a value (with all it points to) that lives through the call, with its length.
        let outcome =
            unsafe { libc::setsockopt(self.0.as_raw_fd(), level, option, (&raw const *value).cast(), length) };
        if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}
