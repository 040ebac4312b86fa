//! An IPv6 packet, read once and checked against its own lengths; extension headers are stepped over.

use aya_ebpf::macros::map;
use aya_ebpf::maps::PerCpuArray;
use persona_common::checksum::fold;
use persona_common::drop::DropReason;
use persona_common::flow::{TCP, UDP};
use persona_common::record::ICMPV6;

use crate::extension::walk;
use crate::frame::Frame;
use crate::header::{IPV6_LENGTH, Icmp, Ipv6, TCP_ACK, TCP_RST, TCP_SYN, Tcp, Udp};
use crate::outcome::{pack, unpack};
use crate::packet::{Direction, Kind, Part};

/// Bytes of extension headers that are stepped over.
pub const EXTENSION_LENGTH_MAX: usize = 256;

/// Bytes from the start of a packet that may have to be read: header, extension headers, the largest L4 header that is
/// read; or those of an ICMPv6 error and of the packet that it embeds.
pub const READ_LENGTH_MAX6: usize = 2 * (IPV6_LENGTH + EXTENSION_LENGTH_MAX) + 8 + 20;

/// Places in a frame are below this: the tunnel's headers with all their options, then the above.
const PLACE_MASK: u32 = 0x7ff;

/// ICMPv6 echo request and reply (RFC 4443 §4).
const ECHO_REQUEST: u8 = 128;
const ECHO_REPLY: u8 = 129;
/// ICMPv6 errors are 1 to 4: unreachable, too big, time exceeded, parameter problem (RFC 4443 §3).
const ERROR_FIRST: u8 = 1;
const ERROR_LAST: u8 = 4;

/// Bytes of an ICMPv6 error in front of what it embeds.
const ERROR_LENGTH: usize = 8;

#[map]
static PACKET: PerCpuArray<Packet6> = PerCpuArray::with_max_entries(1, 0);

/// What the programs need to know of a packet.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Packet6 {
    /// Its IP header.
    pub ip: Ipv6,
    /// Where the IP header starts in the frame: [`Self::at`].
    ip_at: u32,
    /// Where the L4 header starts in the frame: [`Self::l4_at`].
    l4_at: u32,
    /// Bytes of the IP packet.
    pub length: usize,
    /// Bytes of IP header, extension headers and L4 header.
    pub headers_length: usize,
    /// The subject's own port (for ICMPv6 the id); host order.
    pub local_port: u16,
    /// The other side's port, 0 for ICMPv6; host order.
    pub remote_port: u16,
    /// The protocol that the ports are of: its own, or an error's embedded one.
    pub protocol: u8,
    /// TCP flags, 0 otherwise.
    pub tcp_flags: u8,
    /// What it is.
    pub kind: Kind,
    /// How much of it this is.
    pub part: Part,
    /// The protocol that the fragment header names, which is the same in all fragments.
    pub fragment_protocol: u8,
    /// The fragment's id, host order.
    pub fragment_id: u32,
}

impl Packet6 {
    /// Reads the packet, or the part of one, whose IP header stands at `at`, into the one place that this CPU has for
    /// it. A later fragment has port 0 on both sides.
    ///
    /// What is read from a map has no history for the verifier, so that all paths to here are one from here on.
    #[inline(always)]
    pub fn read<F: Frame>(frame: &F, at: usize, direction: Direction) -> Result<&'static mut Self, DropReason> {
        unpack(read_apart(frame, at, direction))?;
        Self::kept()
    }

    /// The packet that was read last.
    #[inline(always)]
    pub fn kept() -> Result<&'static mut Self, DropReason> {
        let cell = PACKET.get_ptr_mut(0).ok_or(DropReason::Kernel)?;
        // SAFETY: a cell of this CPU, whose programs don't interrupt each other here; it was written before.
        Ok(unsafe { &mut *cell })
    }

    #[inline(always)]
    fn fill<F: Frame>(&mut self, frame: &F, at: usize, direction: Direction) -> Result<(), DropReason> {
        let ip: Ipv6 = frame.read(at).ok_or(DropReason::Malformed)?;
        let length = IPV6_LENGTH + u16::from_be(ip.payload_length) as usize;
        if !ip.is_version_6() || at + length > frame.length() {
            return Err(DropReason::Malformed);
        }
        *self = Self {
            ip,
            ip_at: at as u32,
            l4_at: (at + IPV6_LENGTH) as u32,
            length,
            headers_length: IPV6_LENGTH,
            local_port: 0,
            remote_port: 0,
            protocol: ip.next_header,
            tcp_flags: 0,
            kind: Kind::Flow,
            part: Part::Whole,
            fragment_protocol: ip.next_header,
            fragment_id: 0,
        };
        if ip.next_header != TCP && ip.next_header != UDP {
            frame.linearise(at + READ_LENGTH_MAX6);
            self.step_over_extensions(frame)?;
        }
        if self.part != Part::Later {
            self.read_l4(frame, direction)?;
        }
        Ok(())
    }

    #[inline(always)]
    fn step_over_extensions<F: Frame>(&mut self, frame: &F) -> Result<(), DropReason> {
        let headers = walk(frame, self.at(), self.ip.next_header, self.length)?;
        self.l4_at = self.ip_at + headers.length() as u32;
        self.headers_length = headers.length();
        self.protocol = headers.protocol();
        self.part = headers.part();
        self.fragment_protocol = headers.fragment_protocol();
        self.fragment_id = headers.fragment_id();
        Ok(())
    }

    #[inline(always)]
    fn read_l4<F: Frame>(&mut self, frame: &F, direction: Direction) -> Result<(), DropReason> {
        match self.protocol {
            TCP => self.read_tcp(frame, direction),
            UDP => self.read_udp(frame, direction),
            ICMPV6 => self.read_icmp(frame, direction),
            _ => {
                self.kind = Kind::Portless;
                Ok(())
            }
        }
    }

    #[inline(always)]
    fn read_tcp<F: Frame>(&mut self, frame: &F, direction: Direction) -> Result<(), DropReason> {
        let tcp: Tcp = frame.read(self.l4_at()).ok_or(self.too_short())?;
        let header_length = (tcp.offset >> 4) as usize * 4;
        if header_length < 20 {
            return Err(DropReason::Malformed);
        }
        self.add_l4_length(header_length)?;
        self.tcp_flags = tcp.flags;
        self.set_ports(tcp.source, tcp.destination, direction);
        Ok(())
    }

    #[inline(always)]
    fn read_udp<F: Frame>(&mut self, frame: &F, direction: Direction) -> Result<(), DropReason> {
        let udp: Udp = frame.read(self.l4_at()).ok_or(self.too_short())?;
        let before = self.headers_length;
        self.add_l4_length(size_of::<Udp>())?;
        let udp_length = u16::from_be(udp.length) as usize;
        let is_beyond = self.part == Part::Whole && before + udp_length > self.length;
        // Without a checksum nothing over IPv6 says whose it is (RFC 8200 §8.1).
        if udp_length < size_of::<Udp>() || is_beyond || udp.checksum == 0 {
            return Err(DropReason::Malformed);
        }
        self.set_ports(udp.source, udp.destination, direction);
        Ok(())
    }

    #[inline(always)]
    fn read_icmp<F: Frame>(&mut self, frame: &F, direction: Direction) -> Result<(), DropReason> {
        let icmp: Icmp = frame.read(self.l4_at()).ok_or(self.too_short())?;
        self.add_l4_length(size_of::<Icmp>())?;
        let echo = match direction {
            Direction::Outward => ECHO_REQUEST,
            Direction::Inward => ECHO_REPLY,
        };
        if icmp.kind == echo && icmp.code == 0 {
            self.local_port = u16::from_be(icmp.id);
            return Ok(());
        }
        if icmp.kind < ERROR_FIRST || icmp.kind > ERROR_LAST {
            return Err(DropReason::IcmpType);
        }
        if self.part != Part::Whole {
            return Err(DropReason::Fragment);
        }
        self.kind = Kind::Error;
        Ok(())
    }

    /// Where the IP header starts in the frame.
    #[inline(always)]
    pub fn at(&self) -> usize {
        (self.ip_at & PLACE_MASK) as usize
    }

    /// Where the L4 header starts in the frame; in a later fragment, where its data starts.
    #[inline(always)]
    pub fn l4_at(&self) -> usize {
        (self.l4_at & PLACE_MASK) as usize
    }

    /// What an error embeds. Its ports and protocol become the packet's own, as the subject sees them.
    #[inline(always)]
    pub fn read_embedded<F: Frame>(&mut self, frame: &F, direction: Direction) -> Result<Ipv6, DropReason> {
        let at = self.embedded_at();
        let ip: Ipv6 = frame.read(at).ok_or(DropReason::Malformed)?;
        let room = (self.at() + self.length).saturating_sub(at);
        if !ip.is_version_6() || room < IPV6_LENGTH {
            return Err(DropReason::Malformed);
        }
        let (mut l4_at, mut protocol) = (at + IPV6_LENGTH, ip.next_header);
        if protocol != TCP && protocol != UDP && protocol != ICMPV6 {
            let headers = walk(frame, at, ip.next_header, room)?;
            // A later fragment embeds no ports.
            if headers.part() == Part::Later {
                return Err(DropReason::Fragment);
            }
            (l4_at, protocol) = (at + headers.length(), headers.protocol());
        }
        if l4_at + 8 > self.at() + self.length {
            return Err(DropReason::Malformed);
        }
        self.protocol = protocol;
        self.read_embedded_ports(frame, l4_at, direction)?;
        Ok(ip)
    }

    /// The embedded packet went the other way: its source is ours in an error that comes in.
    #[inline(always)]
    fn read_embedded_ports<F: Frame>(&mut self, frame: &F, at: usize, direction: Direction) -> Result<(), DropReason> {
        let head: Icmp = frame.read(at).ok_or(DropReason::Malformed)?;
        let source = u16::from_ne_bytes([head.kind, head.code]);
        match (self.protocol, direction) {
            (TCP | UDP, Direction::Inward) => self.set_ports(source, head.checksum, Direction::Outward),
            (TCP | UDP, Direction::Outward) => self.set_ports(source, head.checksum, Direction::Inward),
            (ICMPV6, Direction::Inward) if head.kind == ECHO_REQUEST => self.local_port = u16::from_be(head.id),
            (ICMPV6, Direction::Outward) if head.kind == ECHO_REPLY => self.local_port = u16::from_be(head.id),
            (ICMPV6, _) => return Err(DropReason::NoMapping),
            _ => {}
        }
        Ok(())
    }

    /// Where the packet that an error embeds starts in the frame.
    #[inline(always)]
    pub fn embedded_at(&self) -> usize {
        self.l4_at() + ERROR_LENGTH
    }

    /// What a header that doesn't fit into the packet is: a tiny fragment (RFC 7112 §5), or nothing at all.
    #[inline(always)]
    fn too_short(&self) -> DropReason {
        if self.part == Part::First { DropReason::Fragment } else { DropReason::Malformed }
    }

    #[inline(always)]
    fn add_l4_length(&mut self, length: usize) -> Result<(), DropReason> {
        self.headers_length += length;
        if self.headers_length > self.length { Err(self.too_short()) } else { Ok(()) }
    }

    #[inline(always)]
    fn set_ports(&mut self, source: u16, destination: u16, direction: Direction) {
        let (source, destination) = (u16::from_be(source), u16::from_be(destination));
        (self.local_port, self.remote_port) = match direction {
            Direction::Outward => (source, destination),
            Direction::Inward => (destination, source),
        };
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
        self.tcp_flags & (TCP_SYN | TCP_ACK | TCP_RST) == TCP_SYN
    }

    /// Both ports in one number, the same for both directions.
    #[inline(always)]
    pub fn ports(&self) -> u32 {
        (self.local_port as u32) << 16 | self.remote_port as u32
    }

    /// The same packet, once whatever stood between the Ethernet header and it is gone.
    #[inline(always)]
    pub fn move_to(&mut self, at: usize) {
        self.l4_at = self.l4_at - self.ip_at + at as u32;
        self.ip_at = at as u32;
    }

    /// Counts one hop. The caller writes the header back.
    #[inline(always)]
    pub fn count_hop(&mut self) -> Result<(), DropReason> {
        if self.ip.hop_limit <= 1 {
            return Err(DropReason::TtlExpired);
        }
        self.ip.hop_limit -= 1;
        Ok(())
    }
}

/// A function of its own, for the sake of the stack.
#[inline(never)]
fn read_apart<F: Frame>(frame: &F, at: usize, direction: Direction) -> u64 {
    let Some(cell) = PACKET.get_ptr_mut(0) else { return pack(Err(DropReason::Kernel)) };
    // SAFETY: as in `read`; whatever the cell holds is a packet that was written whole, or zeros, which are one too.
    let packet = unsafe { &mut *cell };
    pack(packet.fill(frame, at, direction).map(|()| 0))
}

/// What the sum over a header's first eight bytes gains when `from` becomes `to`: a complete checksum in the socket
/// buffer must be told, because nothing in an IPv6 header makes up for it.
#[inline(always)]
pub fn sum_difference(from: &Ipv6, to: &Ipv6) -> u16 {
    let words = |ip: &Ipv6| {
        let last = u16::from_ne_bytes([ip.next_header, ip.hop_limit]) as u32;
        (ip.version_class_label & 0xffff) + (ip.version_class_label >> 16) + ip.payload_length as u32 + last
    };
    fold(words(to) + !fold(words(from)) as u32)
}
