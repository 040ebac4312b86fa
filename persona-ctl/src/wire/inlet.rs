//! A way into the tunnel's device and out of it past all routes: whole IP packets to whatever far end they are addressed to,
//! and those that come back to one UDP port.
//!
//! No route leads into the device, and none shall: the far ends' addresses are the underlay's own.
#![expect(unsafe_code, reason = "AF_PACKET sockets have no safe form in the standard library")]

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use etherparse::{PacketBuilder, SlicedPacket, TransportSlice};

/// Hop limit of what is sent.
const HOP_LIMIT: u8 = 64;

/// A packet socket (packet(7)) without link-layer headers, bound to the tunnel's device.
#[derive(Debug)]
pub struct Inlet {
    fd: OwnedFd,
    ifindex: u32,
}

impl Inlet {
    /// A socket that only sends. Needs CAP_NET_RAW.
    pub fn open(ifindex: u32) -> io::Result<Self> {
        let kind = libc::SOCK_DGRAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // Protocol 0 hears nothing.
        // SAFETY: no memory is passed.
        let fd = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just given this descriptor to nobody else.
        Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(fd) }, ifindex })
    }

    /// A socket that also hears what comes out of the tunnel to a UDP port of this host, and nothing else.
    pub fn listen(ifindex: u32, port: u16) -> io::Result<Self> {
        let inlet = Self::open(ifindex)?;
        inlet.attach_filter(&mut filter(port))?;
        let address = inlet.device(libc::ETH_P_ALL as u16);
        // SAFETY: an address that lives through the call, with its length.
        let bound = unsafe { libc::bind(inlet.fd.as_raw_fd(), (&raw const address).cast(), length_of(&address)) };
        if bound == 0 { Ok(inlet) } else { Err(io::Error::last_os_error()) }
    }

    /// Sends a packet that begins with its IP header. Never waits.
    pub fn send(&self, packet: &[u8]) -> io::Result<()> {
        let protocol = match packet.first().map(|first| first >> 4) {
            Some(4) => libc::ETH_P_IP,
            Some(6) => libc::ETH_P_IPV6,
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        };
        let address = self.device(protocol as u16);
        // SAFETY: an open descriptor, a packet and an address that live through the call, with their lengths.
        let sent = unsafe {
            libc::sendto(
                self.fd.as_raw_fd(),
                packet.as_ptr().cast(),
                packet.len(),
                libc::MSG_DONTWAIT,
                (&raw const address).cast(),
                length_of(&address),
            )
        };
        if sent >= 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Sends a UDP datagram, without a checksum: what the tunnel carries is whole or isn't there (RFC 6935 §5).
    pub fn send_datagram(&self, from: SocketAddr, to: SocketAddr, payload: &[u8]) -> io::Result<()> {
        let builder = match (from.ip(), to.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                PacketBuilder::ipv4(source.octets(), destination.octets(), HOP_LIMIT)
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                PacketBuilder::ipv6(source.octets(), destination.octets(), HOP_LIMIT)
            }
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        };
        let mut packet = Vec::with_capacity(payload.len() + 48);
        builder.udp(from.port(), to.port()).write(&mut packet, payload).map_err(io::Error::other)?;
        let checksum_at = packet.len() - payload.len() - 2;
        packet[checksum_at..checksum_at + 2].fill(0);
        self.send(&packet)
    }

    /// Takes one waiting datagram: who sent it, and its payload's length in `buffer`.
    pub fn receive_datagram(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let mut packet = [0; 2_048];
        // SAFETY: an open descriptor, and a buffer of the length given.
        let length = unsafe { libc::recv(self.fd.as_raw_fd(), packet.as_mut_ptr().cast(), packet.len(), 0) };
        let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
        read(&packet[..length], buffer).ok_or_else(|| io::ErrorKind::Interrupted.into())
    }

    /// For waiting.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    fn device(&self, protocol: u16) -> libc::sockaddr_ll {
        libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: protocol.to_be(),
            sll_ifindex: self.ifindex as i32,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        }
    }

    fn attach_filter(&self, filter: &mut [libc::sock_filter]) -> io::Result<()> {
        let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
        let length = size_of_val(&program) as libc::socklen_t;
        // SAFETY: an open descriptor, and a program that lives through the call with all it points to.
        let outcome = unsafe {
            libc::setsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_ATTACH_FILTER,
                (&raw const program).cast(),
                length,
            )
        };
        if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

/// Sender and payload of a UDP packet that begins with its IP header.
fn read(packet: &[u8], buffer: &mut [u8]) -> Option<(usize, SocketAddr)> {
    let sliced = SlicedPacket::from_ip(packet).ok()?;
    let source = match sliced.net.as_ref()? {
        etherparse::NetSlice::Ipv4(ip) => IpAddr::V4(ip.header().source_addr()),
        etherparse::NetSlice::Ipv6(ip) => IpAddr::V6(ip.header().source_addr()),
        _ => return None,
    };
    let Some(TransportSlice::Udp(udp)) = sliced.transport else { return None };
    let payload = udp.payload();
    buffer.get_mut(..payload.len())?.copy_from_slice(payload);
    Some((payload.len(), SocketAddr::new(source, udp.source_port())))
}

fn length_of<T>(_: &T) -> libc::socklen_t {
    size_of::<T>() as libc::socklen_t
}

/// Classic BPF (Linux Documentation/networking/filter.rst): takes UDP to a port that comes in, over IPv4 without options or
/// over IPv6 without extension headers.
fn filter(port: u16) -> [libc::sock_filter; 15] {
    const OUTGOING: u32 = libc::PACKET_OUTGOING as u32;
    /// Where the kernel keeps a packet's type for filters (linux/filter.h, SKF_AD_OFF + SKF_AD_PKTTYPE).
    const PACKET_TYPE: u32 = (-0x1000_i32 + 4) as u32;
    let operation = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    [
        operation(0x30, 0, 0, PACKET_TYPE),
        operation(0x15, 12, 0, OUTGOING),
        operation(0x30, 0, 0, 0), // load byte: version
        operation(0x54, 0, 0, 0xf0),
        operation(0x15, 0, 4, 0x40), // is it IPv4?
        operation(0x30, 0, 0, 9),
        operation(0x15, 0, 7, 17), // is it UDP?
        operation(0x28, 0, 0, 22), // load half: destination port
        operation(0x15, 4, 5, u32::from(port)),
        operation(0x30, 0, 0, 6),
        operation(0x15, 0, 3, 17),
        operation(0x28, 0, 0, 42),
        operation(0x15, 0, 1, u32::from(port)),
        operation(0x06, 0, 0, 0xffff), // take it
        operation(0x06, 0, 0, 0),      // leave it
    ]
}
