//! An IPv4 packet with ports, read once and checked against its own lengths.

use persona_common::checksum::{replace_long, replace_word};
use persona_common::drop::DropReason;
use persona_common::flow::{ICMP, TCP, UDP};

use crate::frame::Frame;
use crate::header::{FRAGMENT_MASK, Icmp, Ipv4, Tcp, Udp};

/// ICMP echo reply.
const ECHO_REPLY: u8 = 0;
/// ICMP echo request.
const ECHO_REQUEST: u8 = 8;

/// Which way a packet goes, as the subject sees it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the subject: its own port is the source.
    Outward,
    /// To the subject: its own port is the destination.
    Inward,
}

/// What the programs need to know of a packet.
#[derive(Clone, Copy)]
pub struct Packet {
    /// Its IP header.
    pub ip: Ipv4,
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
    /// TCP flags, 0 otherwise.
    pub tcp_flags: u8,
    /// Whether the L4 checksum is there (UDP may go without).
    pub has_checksum: bool,
}

impl Packet {
    /// Reads the packet whose IP header stands at `at`.
    #[inline(always)]
    pub fn read<F: Frame>(frame: &F, at: usize, direction: Direction) -> Result<Self, DropReason> {
        let ip: Ipv4 = frame.read(at).ok_or(DropReason::Malformed)?;
        let length = u16::from_be(ip.total_length) as usize;
        if ip.version_length != 0x45 {
            let has_options = ip.version_length >> 4 == 4 && ip.version_length & 15 > 5;
            return Err(if has_options { DropReason::IpOptions } else { DropReason::Malformed });
        }
        if length < 20 || at + length > frame.length() {
            return Err(DropReason::Malformed);
        }
        if ip.fragment & FRAGMENT_MASK != 0 {
            return Err(DropReason::Fragment);
        }
        let mut packet = Self {
            ip,
            at,
            length,
            headers_length: 28,
            local_port: 0,
            remote_port: 0,
            tcp_flags: 0,
            has_checksum: true,
        };
        match ip.protocol {
            TCP => packet.read_tcp(frame, direction)?,
            UDP => packet.read_udp(frame, direction)?,
            ICMP => packet.read_icmp(frame, direction)?,
            _ => return Err(DropReason::ProtocolWithoutPort),
        }
        Ok(packet)
    }

    /// Packets that segmentation will make of it.
    #[inline(always)]
    pub fn packet_count<F: Frame>(&self, frame: &F) -> u64 {
        let segmentation = frame.segmentation();
        if segmentation.size == 0 {
            return 1;
        }
        if segmentation.count != 0 {
            return segmentation.count as u64;
        }
        let payload = self.length.saturating_sub(self.headers_length) as u64;
        let count = payload.div_ceil(segmentation.size as u64);
        if count == 0 { 1 } else { count }
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
        let word = |ttl: u8, protocol: u8| u16::from_ne_bytes([ttl, protocol]);
        let (from, to) = (word(self.ip.ttl, self.ip.protocol), word(self.ip.ttl - 1, self.ip.protocol));
        self.ip.ttl -= 1;
        self.ip.checksum = replace_word(self.ip.checksum, from, to);
        Ok(())
    }

    /// Sets the type of service. The caller writes the header back.
    #[inline(always)]
    pub fn set_tos(&mut self, tos: u8) {
        let word = |tos: u8| u16::from_ne_bytes([0x45, tos]);
        self.ip.checksum = replace_word(self.ip.checksum, word(self.ip.tos), word(tos));
        self.ip.tos = tos;
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
        let tcp: Tcp = frame.read(self.at + 20).ok_or(DropReason::Malformed)?;
        let header_length = (tcp.offset >> 4) as usize * 4;
        if header_length < 20 || 20 + header_length > self.length {
            return Err(DropReason::Malformed);
        }
        self.headers_length = 20 + header_length;
        self.tcp_flags = tcp.flags;
        self.set_ports(tcp.source, tcp.destination, direction);
        Ok(())
    }

    #[inline(always)]
    fn read_udp<F: Frame>(&mut self, frame: &F, direction: Direction) -> Result<(), DropReason> {
        let udp: Udp = frame.read(self.at + 20).ok_or(DropReason::Malformed)?;
        let udp_length = u16::from_be(udp.length) as usize;
        if udp_length < 8 || 20 + udp_length > self.length {
            return Err(DropReason::Malformed);
        }
        self.has_checksum = udp.checksum != 0;
        self.set_ports(udp.source, udp.destination, direction);
        Ok(())
    }

    #[inline(always)]
    fn read_icmp<F: Frame>(&mut self, frame: &F, direction: Direction) -> Result<(), DropReason> {
        let icmp: Icmp = frame.read(self.at + 20).ok_or(DropReason::Malformed)?;
        if self.length < 28 {
            return Err(DropReason::Malformed);
        }
        let echo = match direction {
            Direction::Outward => ECHO_REQUEST,
            Direction::Inward => ECHO_REPLY,
        };
        if icmp.kind != echo || icmp.code != 0 {
            return Err(DropReason::IcmpType);
        }
        self.local_port = u16::from_be(icmp.id);
        Ok(())
    }
}
