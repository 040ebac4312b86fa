//! An IPv4 packet, read once and checked against its own lengths.

use persona_common::checksum::{replace_long, replace_word};
use persona_common::drop::DropReason;
use persona_common::flow::{ICMP, TCP, UDP};

use crate::embedded::Embedded;
use crate::encapsulation::Inner;
use crate::frame::Frame;
use crate::front;
use crate::header::{FRAGMENT_OFFSET_MASK, IPV4_LENGTH, Icmp, Ipv4, MORE_FRAGMENTS, Tcp, Udp};
use crate::options;

/// ICMP echo reply.
const ECHO_REPLY: u8 = 0;
/// ICMP echo request.
const ECHO_REQUEST: u8 = 8;
/// ICMP destination unreachable, time exceeded, parameter problem.
const ERRORS: [u8; 3] = [3, 11, 12];

/// The most bytes of an IP packet (RFC 791 §3.1).
const PACKET_LENGTH_MAX: usize = 65_535;

/// Bytes from the start of an IPv4 packet that may have to be read: a whole header, an ICMP error's, a whole embedded
/// header, and as much of the embedded L4 header as has a checksum.
pub const READ_LENGTH_MAX: usize = 60 + 8 + 60 + 20;

/// Which way a packet goes, as the subject sees it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the subject: its own port is the source.
    Outward,
    /// To the subject: its own port is the destination.
    Inward,
}

impl Direction {
    /// The ICMP echo that belongs to a subject's own flow: what it asks, and what it is answered.
    #[inline(always)]
    pub const fn echo(self) -> u8 {
        match self {
            Self::Outward => ECHO_REQUEST,
            Self::Inward => ECHO_REPLY,
        }
    }
}

/// What a packet is to address translation.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// TCP, UDP, or an ICMP echo whose id is its port.
    Flow,
    /// An ICMP error; ports and protocol are those of the packet that it embeds.
    Error,
    /// A protocol without ports.
    Portless,
}

/// How much of a packet this is.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Whole,
    /// Its first fragment, with the L4 header.
    First,
    /// A later fragment, without ports.
    Later,
}

/// What the programs need to know of a packet. The order of the fields is [`Packet::forget_path`]'s.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub struct Packet {
    /// Where the IP header starts in the frame.
    pub at: usize,
    /// Bytes of the IP packet.
    pub length: usize,
    /// Bytes of IP header and L4 header, options included.
    pub headers_length: usize,
    /// The subject's own port (for ICMP the id), or the egress port that stands for it; host order.
    pub local_port: u16,
    /// The other side's port, 0 for ICMP; host order.
    pub remote_port: u16,
    /// The protocol that the ports are of: its own, or an error's embedded one.
    pub protocol: u8,
    /// TCP flags, 0 otherwise.
    pub tcp_flags: u8,
    /// What it is.
    pub kind: Kind,
    /// How much of it this is.
    pub part: Part,
    /// Its IP header's fixed part.
    pub ip: Ipv4,
    /// Whether the L4 checksum is there (UDP may go without).
    pub has_checksum: bool,
    reserved: u8,
    reserved_word: u16,
}

const _: () =
    assert!(core::mem::offset_of!(Packet, local_port) == 24 && core::mem::offset_of!(Packet, has_checksum) == 52);

impl Packet {
    /// Reads the whole packet with ports, or echo, whose IP header stands at `at`; refuses everything else.
    #[inline(always)]
    pub fn read<F: Frame>(frame: &F, at: usize, direction: Direction) -> Result<Self, DropReason> {
        let packet = Self::read_any(frame, at, direction)?;
        match (packet.part, packet.kind) {
            (Part::Whole, Kind::Flow) => Ok(packet),
            (Part::Whole, Kind::Error) => Err(DropReason::IcmpType),
            (Part::Whole, Kind::Portless) => Err(DropReason::ProtocolWithoutPort),
            _ => Err(DropReason::Fragment),
        }
    }

    /// Reads the packet, or the part of one, whose IP header stands at `at`. A later fragment has port 0 on both sides.
    #[inline(always)]
    pub fn read_any<F: Frame>(frame: &F, at: usize, direction: Direction) -> Result<Self, DropReason> {
        let mut packet = Self::blank(frame.read(at).ok_or(DropReason::Malformed)?, at);
        packet.fill(frame, direction)?;
        Ok(packet)
    }

    /// A packet of which nothing but its header is known yet, for [`Self::fill`].
    #[inline(always)]
    pub fn blank(ip: Ipv4, at: usize) -> Self {
        Self {
            ip,
            at,
            length: 0,
            headers_length: 0,
            local_port: 0,
            remote_port: 0,
            protocol: ip.protocol,
            tcp_flags: 0,
            has_checksum: true,
            kind: Kind::Flow,
            part: Part::Whole,
            reserved: 0,
            reserved_word: 0,
        }
    }

    /// Makes the verifier forget by which path the packet was read: it knows the bytes on the stack one by one, but a
    /// long word of them only as any number. Without this it walks the rest of the program once per kind of packet.
    #[inline(always)]
    pub fn forget_path(&mut self) {
        for word in [3, 6] {
            let word = (&raw mut *self).cast::<u64>().wrapping_add(word);
            // SAFETY: an aligned long word within the packet, read and written back as it is.
            unsafe { word.write_volatile(word.read_volatile()) };
        }
    }

    /// Reads the rest.
    #[inline(always)]
    pub fn fill<F: Frame>(&mut self, frame: &F, direction: Direction) -> Result<(), DropReason> {
        let header_length = self.ip_header_length();
        self.length = u16::from_be(self.ip.total_length) as usize;
        self.headers_length = header_length + 8;
        if self.ip.version_length >> 4 != 4
            || header_length < IPV4_LENGTH
            || self.length < header_length
            || self.at + self.length > frame.length()
        {
            return Err(DropReason::Malformed);
        }
        if header_length != IPV4_LENGTH {
            frame.linearise(self.at + READ_LENGTH_MAX);
            options::check(frame, self.at, header_length - IPV4_LENGTH)?;
        }
        if self.ip.fragment & (FRAGMENT_OFFSET_MASK | MORE_FRAGMENTS) != 0 {
            self.part = self.read_part()?;
            if self.part == Part::Later {
                self.headers_length = header_length;
                return Ok(());
            }
        }
        match self.ip.protocol {
            TCP => self.read_tcp(frame, direction),
            UDP => self.read_udp(frame, direction),
            ICMP => self.read_icmp(frame, direction),
            _ => {
                self.kind = Kind::Portless;
                self.headers_length = header_length;
                Ok(())
            }
        }
    }

    /// What an encapsulation has to know of it.
    #[inline(always)]
    pub fn inner(&self) -> Inner {
        Inner { length: self.length, tos: self.ip.tos, is_ipv6: false }
    }

    /// Bytes of the IP header, options included.
    #[inline(always)]
    pub fn ip_header_length(&self) -> usize {
        (self.ip.version_length & 15) as usize * 4
    }

    /// Where the L4 header starts in the frame. Computed each time, from a field that has a bound.
    #[inline(always)]
    pub fn l4_at(&self) -> usize {
        self.at + self.ip_header_length()
    }

    /// Says that the packet now stands at `at`.
    #[inline(always)]
    pub fn move_to(&mut self, at: usize) {
        self.at = at;
    }

    /// Packets that segmentation will make of it.
    #[inline(always)]
    pub fn packet_count<F: Frame>(&self, frame: &F) -> u64 {
        front::packet_count(frame.segmentation(), self.length, self.headers_length)
    }

    /// IP bytes of all packets that segmentation will make of it.
    #[inline(always)]
    pub fn byte_count(&self, packet_count: u64) -> u64 {
        self.length as u64 + (packet_count - 1) * self.headers_length as u64
    }

    /// The largest IP packet that it will be on the wire.
    #[inline(always)]
    pub fn length_on_wire<F: Frame>(&self, frame: &F) -> usize {
        match frame.segmentation().size as usize {
            0 => self.length,
            size => self.headers_length + size,
        }
    }

    /// Whether it is a TCP packet that opens a connection.
    #[inline(always)]
    pub fn opens_connection(&self) -> bool {
        use crate::header::{TCP_ACK, TCP_RST, TCP_SYN};
        self.tcp_flags & (TCP_SYN | TCP_ACK | TCP_RST) == TCP_SYN
    }

    /// Both ports in one number, the same for both directions.
    #[inline(always)]
    pub fn ports(&self, local_port: u16) -> u32 {
        (local_port as u32) << 16 | self.remote_port as u32
    }

    /// Counts one hop. The caller writes the header back.
    #[inline(always)]
    pub fn count_hop(&mut self) -> Result<(), DropReason> {
        if self.ip.ttl <= 1 {
            return Err(DropReason::TtlExpired);
        }
        self.set_ttl(self.ip.ttl - 1);
        Ok(())
    }

    /// Sets the time to live. The caller writes the header back.
    #[inline(always)]
    pub fn set_ttl(&mut self, ttl: u8) {
        let word = |ttl: u8| u16::from_ne_bytes([ttl, self.ip.protocol]);
        self.ip.checksum = replace_word(self.ip.checksum, word(self.ip.ttl), word(ttl));
        self.ip.ttl = ttl;
    }

    /// Sets the type of service. The caller writes the header back.
    #[inline(always)]
    pub fn set_tos(&mut self, tos: u8) {
        let word = |tos: u8| u16::from_ne_bytes([self.ip.version_length, tos]);
        self.ip.checksum = replace_word(self.ip.checksum, word(self.ip.tos), word(tos));
        self.ip.tos = tos;
    }

    /// Sets the id, in host order. The caller writes the header back.
    #[inline(always)]
    pub fn set_id(&mut self, id: u16) {
        self.ip.checksum = replace_word(self.ip.checksum, self.ip.id, id.to_be());
        self.ip.id = id.to_be();
    }

    /// Sets the source address. The caller writes the header back.
    #[inline(always)]
    pub fn set_source(&mut self, address: u32) {
        self.ip.checksum = replace_long(self.ip.checksum, self.ip.source, address);
        self.ip.source = address;
    }

    /// Sets the destination address. The caller writes the header back.
    #[inline(always)]
    pub fn set_destination(&mut self, address: u32) {
        self.ip.checksum = replace_long(self.ip.checksum, self.ip.destination, address);
        self.ip.destination = address;
    }

    /// Which fragment it is. Refuses those that only an attacker makes (RFC 1858 §3, RFC 791 §3.2).
    #[inline(always)]
    fn read_part(&self) -> Result<Part, DropReason> {
        let offset = (u16::from_be(self.ip.fragment & FRAGMENT_OFFSET_MASK)) as usize * 8;
        let has_more = self.ip.fragment & MORE_FRAGMENTS != 0;
        let payload_length = self.length - self.ip_header_length();
        let lies = payload_length == 0
            || (has_more && !payload_length.is_multiple_of(8))
            || offset + self.length > PACKET_LENGTH_MAX;
        if lies {
            return Err(DropReason::Malformed);
        }
        if offset == 0 {
            return Ok(Part::First);
        }
        // It would overwrite the flags that the first fragment was judged by (RFC 1858 §3.2).
        if offset == 8 && self.ip.protocol == TCP { Err(DropReason::Fragment) } else { Ok(Part::Later) }
    }

    /// What a header that doesn't fit into the packet is: a tiny fragment (RFC 1858 §2), or nothing at all.
    #[inline(always)]
    fn too_short(&self) -> DropReason {
        if self.part == Part::First { DropReason::Fragment } else { DropReason::Malformed }
    }

    #[inline(always)]
    fn set_ports(&mut self, source: u16, destination: u16, direction: Direction) {
        let (source, destination) = (u16::from_be(source), u16::from_be(destination));
        (self.local_port, self.remote_port) = match direction {
            Direction::Outward => (source, destination),
            Direction::Inward => (destination, source),
        };
    }

    #[inline(always)]
    fn read_tcp<F: Frame>(&mut self, frame: &F, direction: Direction) -> Result<(), DropReason> {
        let tcp: Tcp = frame.read(self.l4_at()).ok_or(self.too_short())?;
        let header_length = (tcp.offset >> 4) as usize * 4;
        if header_length < 20 {
            return Err(DropReason::Malformed);
        }
        self.headers_length = self.ip_header_length() + header_length;
        if self.headers_length > self.length {
            return Err(self.too_short());
        }
        self.tcp_flags = tcp.flags;
        self.set_ports(tcp.source, tcp.destination, direction);
        Ok(())
    }

    #[inline(always)]
    fn read_udp<F: Frame>(&mut self, frame: &F, direction: Direction) -> Result<(), DropReason> {
        let udp: Udp = frame.read(self.l4_at()).ok_or(self.too_short())?;
        if self.headers_length > self.length {
            return Err(self.too_short());
        }
        let udp_length = u16::from_be(udp.length) as usize;
        let is_beyond = self.part == Part::Whole && self.ip_header_length() + udp_length > self.length;
        if udp_length < 8 || is_beyond {
            return Err(DropReason::Malformed);
        }
        self.has_checksum = udp.checksum != 0;
        self.set_ports(udp.source, udp.destination, direction);
        Ok(())
    }

    #[inline(always)]
    fn read_icmp<F: Frame>(&mut self, frame: &F, direction: Direction) -> Result<(), DropReason> {
        let icmp: Icmp = frame.read(self.l4_at()).ok_or(self.too_short())?;
        if self.headers_length > self.length {
            return Err(self.too_short());
        }
        if icmp.kind == direction.echo() && icmp.code == 0 {
            self.local_port = u16::from_be(icmp.id);
            return Ok(());
        }
        if icmp.kind != ERRORS[0] && icmp.kind != ERRORS[1] && icmp.kind != ERRORS[2] {
            return Err(DropReason::IcmpType);
        }
        if self.part != Part::Whole {
            return Err(DropReason::Fragment);
        }
        let embedded = Embedded::read(frame, self, direction)?;
        self.kind = Kind::Error;
        self.protocol = embedded.ip.protocol;
        self.local_port = embedded.local_port;
        self.remote_port = embedded.remote_port;
        Ok(())
    }
}
