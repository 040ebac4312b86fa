//! The front of the packet that nearly every packet is, looked at where it stands: IPv4 without options, whole, TCP, UDP
//! or an echo, with lengths that agree. Everything else is for the general way, which reads whatever there is.
//!
//! Nothing is copied out of the frame but what is asked for, and no verdict is given here.

use persona_common::flow::{ICMP, TCP, UDP};

use crate::frame::{Frame, Segmentation};
use crate::header::{FRAGMENT_OFFSET_MASK, ICMP_LENGTH, IPV4_LENGTH, Icmp, Ipv4, MORE_FRAGMENTS, Tcp, Udp};
use crate::packet::Direction;

/// Version 4, five words of header.
pub const PLAIN_VERSION_LENGTH: u8 = 0x45;

/// What is known of such a packet beside its IP header.
#[derive(Clone, Copy)]
pub struct Front {
    /// Bytes of the IP packet.
    pub length: usize,
    /// Bytes of IP header and L4 header, options included.
    pub headers_length: usize,
    /// Source port, host order; of what a subject asks by echo its id, of an answer 0.
    pub source_port: u16,
    /// Destination port, host order; of the answer to an echo its id, of what is asked 0.
    pub destination_port: u16,
    /// TCP's flags; 0 of others.
    pub tcp_flags: u8,
    /// The transport's checksum, as it stands there.
    pub checksum: u16,
}

/// The packet whose header is `ip` and stands at `at`, a constant; None: it isn't such a packet. Of echoes, only what a subject
/// asks is one outwards, and only an answer inwards.
#[inline(always)]
pub fn look<F: Frame>(frame: &F, at: usize, ip: &Ipv4, direction: Direction) -> Option<Front> {
    let length = u16::from_be(ip.total_length) as usize;
    let is_plain = ip.version_length == PLAIN_VERSION_LENGTH
        && ip.fragment & (FRAGMENT_OFFSET_MASK | MORE_FRAGMENTS) == 0
        && at + length <= frame.length();
    if !is_plain {
        return None;
    }
    match ip.protocol {
        UDP => {
            let udp: &Udp = frame.peek(at + IPV4_LENGTH)?;
            let udp_length = u16::from_be(udp.length) as usize;
            let fits = udp_length >= size_of::<Udp>() && IPV4_LENGTH + udp_length <= length;
            fits.then(|| Front {
                length,
                headers_length: IPV4_LENGTH + size_of::<Udp>(),
                source_port: u16::from_be(udp.source),
                destination_port: u16::from_be(udp.destination),
                tcp_flags: 0,
                checksum: udp.checksum,
            })
        }
        TCP => {
            let tcp: &Tcp = frame.peek(at + IPV4_LENGTH)?;
            let header_length = (tcp.offset >> 4) as usize * 4;
            let fits = header_length >= size_of::<Tcp>() && IPV4_LENGTH + header_length <= length;
            fits.then(|| Front {
                length,
                headers_length: IPV4_LENGTH + header_length,
                source_port: u16::from_be(tcp.source),
                destination_port: u16::from_be(tcp.destination),
                tcp_flags: tcp.flags,
                checksum: tcp.checksum,
            })
        }
        ICMP => {
            let icmp: &Icmp = frame.peek(at + IPV4_LENGTH)?;
            let is_echo = icmp.kind == direction.echo() && icmp.code == 0;
            let id = u16::from_be(icmp.id);
            let (source_port, destination_port) = match direction {
                Direction::Outward => (id, 0),
                Direction::Inward => (0, id),
            };
            (is_echo && IPV4_LENGTH + ICMP_LENGTH <= length).then_some(Front {
                length,
                headers_length: IPV4_LENGTH + ICMP_LENGTH,
                source_port,
                destination_port,
                tcp_flags: 0,
                checksum: icmp.checksum,
            })
        }
        _ => None,
    }
}

impl Front {
    /// Packets that segmentation will make of it.
    #[inline(always)]
    pub fn packet_count<F: Frame>(&self, frame: &F) -> u64 {
        packet_count(frame.segmentation(), self.length, self.headers_length)
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

    /// Both ports in one number, the local one first, as `Packet::ports` has them.
    #[inline(always)]
    pub fn ports(local_port: u16, remote_port: u16) -> u32 {
        (local_port as u32) << 16 | remote_port as u32
    }
}

/// Packets that segmentation will make of one of `length` bytes, `headers_length` of them headers.
#[inline(always)]
pub fn packet_count(segmentation: Segmentation, length: usize, headers_length: usize) -> u64 {
    if segmentation.size == 0 {
        return 1;
    }
    if segmentation.count != 0 {
        return segmentation.count as u64;
    }
    let payload = length.saturating_sub(headers_length) as u64;
    let count = payload.div_ceil(segmentation.size as u64);
    if count == 0 { 1 } else { count }
}
