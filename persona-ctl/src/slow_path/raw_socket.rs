//! Sends whole IP packets, headers included, with our mark: raw sockets of both families.
#![expect(unsafe_code, reason = "raw sockets, SO_MARK and SO_PRIORITY have no safe form in the standard library")]

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use persona_common::PERSONA_MARK;

/// Room for what is sent at once: all pieces of a few large packets.
const SEND_BUFFER_BYTES: libc::c_int = 4 << 20;

/// A pair of raw sockets whose packets our programs and the guard know by their mark.
#[derive(Debug)]
pub(super) struct RawSocket {
    ipv4: Socket,
    /// None: this kernel has no IPv6.
    ipv6: Option<Socket>,
}

#[derive(Debug)]
struct Socket {
    fd: OwnedFd,
    class: u32,
    ifindex: u32,
}

impl RawSocket {
    /// Opens the sockets. Needs CAP_NET_RAW and CAP_NET_ADMIN.
    pub(super) fn open() -> io::Result<Self> {
        let ipv6 = match Socket::open(libc::AF_INET6) {
            Ok(socket) => Some(socket),
            Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => None,
            Err(error) => return Err(error),
        };
        Ok(Self { ipv4: Socket::open(libc::AF_INET)?, ipv6 })
    }

    /// Sends a packet that begins with its IP header to `destination`, in this queueing class (`skb->priority`), out of
    /// this device; device 0: where the routes lead. Never waits.
    pub(super) fn send(&mut self, packet: &[u8], destination: IpAddr, class: u32, ifindex: u32) -> io::Result<()> {
        match destination {
            IpAddr::V4(destination) => {
                self.ipv4.prepare(class, ifindex)?;
                let address = libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: 0,
                    sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(destination.octets()) },
                    sin_zero: [0; 8],
                };
                self.ipv4.send(packet, &address)
            }
            IpAddr::V6(destination) => {
                let socket = self.ipv6.as_mut().ok_or(io::ErrorKind::Unsupported)?;
                socket.prepare(class, ifindex)?;
                let address = libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as libc::sa_family_t,
                    sin6_port: 0,
                    sin6_flowinfo: 0,
                    sin6_addr: libc::in6_addr { s6_addr: destination.octets() },
                    sin6_scope_id: 0,
                };
                socket.send(packet, &address)
            }
        }
    }
}

impl Socket {
    /// `IPPROTO_RAW` implies that headers are included, under both families (raw(7), net/ipv6/raw.c).
    fn open(family: libc::c_int) -> io::Result<Self> {
        let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: no memory is passed.
        let fd = unsafe { libc::socket(family, kind, libc::IPPROTO_RAW) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just given this descriptor to nobody else.
        let socket = Self { fd: unsafe { OwnedFd::from_raw_fd(fd) }, class: 0, ifindex: 0 };
        socket.set(libc::SO_MARK, PERSONA_MARK as libc::c_int)?;
        socket.set(libc::SO_SNDBUFFORCE, SEND_BUFFER_BYTES)?;
        Ok(socket)
    }

    fn prepare(&mut self, class: u32, ifindex: u32) -> io::Result<()> {
        if self.class != class {
            self.set(libc::SO_PRIORITY, class as libc::c_int)?;
            self.class = class;
        }
        if self.ifindex != ifindex {
            self.set(libc::SO_BINDTOIFINDEX, ifindex as libc::c_int)?;
            self.ifindex = ifindex;
        }
        Ok(())
    }

    fn set(&self, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
        let length = size_of::<libc::c_int>() as libc::socklen_t;
        // SAFETY: an open descriptor, and an int of the length given that lives through the call.
        let outcome = unsafe {
            libc::setsockopt(self.fd.as_raw_fd(), libc::SOL_SOCKET, option, (&raw const value).cast(), length)
        };
        if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    fn send<A>(&self, packet: &[u8], address: &A) -> io::Result<()> {
        let length = size_of::<A>() as libc::socklen_t;
        // SAFETY: an open descriptor, a packet and an address that live through the call, with their lengths.
        let sent = unsafe {
            libc::sendto(
                self.fd.as_raw_fd(),
                packet.as_ptr().cast(),
                packet.len(),
                libc::MSG_DONTWAIT,
                (&raw const *address).cast(),
                length,
            )
        };
        if sent >= 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}
