//! The tunnel's headers over IPv4 and IPv6: outer IP, UDP and Geneve (RFC 8926), written and read.

use persona_common::addr::{Address6, MAPPED_WORD, is_mapped, mapped};
use persona_common::checksum::fold;
use persona_common::drop::DropReason;
use persona_common::flow::UDP;
use persona_common::probe::GENEVE_PORT;
use persona_common::{ENCAPSULATION_LENGTH_V4, ENCAPSULATION_LENGTH_V6};

use crate::frame::Frame;
use crate::front::PLAIN_VERSION_LENGTH;
use crate::header::{
    DONT_FRAGMENT, ETHERNET_LENGTH, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet, FRAGMENT_MASK, Geneve, IPV4_LENGTH,
    IPV6_LENGTH, Ipv4, Ipv6, TCP_LENGTH, Udp,
};

/// Time to live and hop limit of tunnel packets.
const OUTER_TTL: u8 = 64;

/// Geneve's O bit: a control packet.
pub const GENEVE_CONTROL: u8 = 0x80;
/// Geneve's C bit: there are options that must be understood (RFC 8926 §3.4).
const GENEVE_CRITICAL: u8 = 0x40;

/// Bytes of the headers of UDP and Geneve without options.
const UDP_GENEVE_LENGTH: usize = size_of::<Udp>() + size_of::<Geneve>();

/// The word that Geneve's header begins with among those of [`Tunnel::words_v4`]; its version and length are the first byte.
const GENEVE_WORD: usize = 7;

/// The tunnel's headers with all options that Geneve has room for are shorter than this, a mask.
const LENGTH_MASK: usize = 0x1ff;

/// All that stands between the Ethernet header and the inner packet, over IPv4.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct OuterV4 {
    pub ip: Ipv4,
    pub udp: Udp,
    pub geneve: Geneve,
}

impl OuterV4 {
    /// Whether these are the headers of a tunnel to `own` as nodes and edges make them: nothing optional, no mark, lengths that
    /// agree, in a frame of `frame_length` bytes.
    #[inline(always)]
    pub fn is_plain(&self, own: &Address6, frame_length: usize) -> bool {
        let (ip, udp, geneve) = (&self.ip, &self.udp, &self.geneve);
        let length = u16::from_be(ip.total_length) as usize;
        ip.destination == own[3]
            && own[2] == MAPPED_WORD
            && own[0] | own[1] == 0
            && ip.version_length == PLAIN_VERSION_LENGTH
            && ip.protocol == UDP
            && ip.fragment & FRAGMENT_MASK == 0
            && udp.destination == GENEVE_PORT.to_be()
            && geneve.version_length == 0
            && geneve.control == 0
            && geneve.protocol == ETHERTYPE_IPV4
            && geneve.reserved == 0
            && length >= ENCAPSULATION_LENGTH_V4
            && ETHERNET_LENGTH + length <= frame_length
            && u16::from_be(udp.length) as usize + size_of::<Ipv4>() == length
    }
}

/// The same over IPv6.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct OuterV6 {
    pub ip: Ipv6,
    pub udp: Udp,
    pub geneve: Geneve,
}

const _: () = assert!(size_of::<OuterV4>() == ENCAPSULATION_LENGTH_V4);
const _: () = assert!(size_of::<OuterV6>() == ENCAPSULATION_LENGTH_V6);

/// Between whom, under which persona. Both addresses are of one family, IPv4 mapped.
pub struct Tunnel {
    pub source: Address6,
    pub destination: Address6,
    pub vni: u32,
    /// The UDP source port.
    pub entropy_port: u16,
    /// The last byte of Geneve's base header: 0, or one of `persona_common::encapsulation`.
    pub marker: u8,
    /// Whether it is a control packet; only ever on the slow path.
    pub is_control: bool,
}

/// What is encapsulated.
#[derive(Clone, Copy)]
pub struct Inner {
    /// Bytes of the IP packet.
    pub length: usize,
    /// Its type of service or traffic class.
    pub tos: u8,
    pub is_ipv6: bool,
}

impl Tunnel {
    /// Whether the outer headers are IPv6.
    #[inline(always)]
    pub fn is_ipv6(&self) -> bool {
        !is_mapped(self.destination)
    }

    /// The headers over IPv4, in words: what is written all at once need not be put together byte by byte.
    #[inline(always)]
    pub fn words_v4(&self, inner: &Inner) -> [u32; ENCAPSULATION_LENGTH_V4 / 4] {
        let (ip, udp) = (inner.length + ENCAPSULATION_LENGTH_V4, clamped(inner.length + UDP_GENEVE_LENGTH));
        let control = if self.is_control { GENEVE_CONTROL } else { 0 };
        let kind = if inner.is_ipv6 { ETHERTYPE_IPV6 } else { ETHERTYPE_IPV4 };
        let mut words = [
            word([0x45 | (inner.tos as u16) << 8, clamped(ip)]),
            word([0, DONT_FRAGMENT]),
            word([OUTER_TTL as u16 | (UDP as u16) << 8, 0]),
            self.source[3],
            self.destination[3],
            word([self.entropy_port.to_be(), GENEVE_PORT.to_be()]),
            word([udp, 0]),
            word([(control as u16) << 8, kind]),
            (self.vni << 8 | self.marker as u32).to_be(),
        ];
        let mut sum = 0;
        let mut index = 0;
        while index < IPV4_LENGTH / 4 {
            sum += (words[index] & 0xffff) + (words[index] >> 16);
            index += 1;
        }
        words[2] |= word([0, !fold(sum)]);
        words
    }

    /// The headers over IPv6. The flow label carries the entropy too (RFC 6438 §3); the UDP checksum is zero (RFC 6935).
    #[inline(always)]
    pub fn headers_v6(&self, inner: &Inner) -> OuterV6 {
        let ip = Ipv6 {
            version_class_label: (6 << 28 | (inner.tos as u32) << 20 | self.entropy_port as u32).to_be(),
            payload_length: clamped(inner.length + UDP_GENEVE_LENGTH),
            next_header: UDP,
            hop_limit: OUTER_TTL,
            source: self.source,
            destination: self.destination,
        };
        OuterV6 { ip, udp: self.udp(inner), geneve: self.geneve(inner) }
    }

    #[inline(always)]
    fn udp(&self, inner: &Inner) -> Udp {
        Udp {
            source: self.entropy_port.to_be(),
            destination: GENEVE_PORT.to_be(),
            length: clamped(inner.length + UDP_GENEVE_LENGTH),
            checksum: 0,
        }
    }

    #[inline(always)]
    fn geneve(&self, inner: &Inner) -> Geneve {
        let vni = self.vni.to_be_bytes();
        Geneve {
            version_length: 0,
            control: if self.is_control { GENEVE_CONTROL } else { 0 },
            protocol: if inner.is_ipv6 { ETHERTYPE_IPV6 } else { ETHERTYPE_IPV4 },
            vni: [vni[1], vni[2], vni[3]],
            reserved: self.marker,
        }
    }
}

/// A word of two halves, each of which stands in a packet as it does in memory here: all machines are little-endian.
#[inline(always)]
const fn word([first, second]: [u16; 2]) -> u32 {
    first as u32 | (second as u32) << 16
}

/// A GSO packet may be longer than a length field can say; each of its segments gets its own length.
#[inline(always)]
fn clamped(length: usize) -> u16 {
    (if length > 0xffff { 0xffff } else { length as u16 }).to_be()
}

/// The tunnel's headers of a frame, read.
#[derive(Clone, Copy)]
pub struct Outer {
    /// Where the tunnel comes from, IPv4 mapped.
    pub source: Address6,
    /// Bytes of all headers, Geneve's options included.
    pub length: u16,
    /// Outer type of service or traffic class.
    pub tos: u8,
    pub is_ipv6: bool,
    pub udp: Udp,
    pub geneve: Geneve,
    /// Bytes of outer IP header and payload, as the header says.
    ip_length: u32,
}

impl Outer {
    /// What matters of headers without options over IPv4 around an IPv4 packet, once they are only to be taken away.
    pub const PLAIN_V4: Self = Self {
        source: [0; 4],
        length: ENCAPSULATION_LENGTH_V4 as u16,
        tos: 0,
        is_ipv6: false,
        udp: Udp { source: 0, destination: 0, length: 0, checksum: 0 },
        geneve: Geneve { version_length: 0, control: 0, protocol: ETHERTYPE_IPV4, vni: [0; 3], reserved: 0 },
        ip_length: 0,
    };

    /// The VNI.
    #[inline(always)]
    pub fn vni(&self) -> u32 {
        self.geneve.vni()
    }

    /// Whether it is a control packet.
    #[inline(always)]
    pub fn is_control(&self) -> bool {
        self.geneve.control & GENEVE_CONTROL != 0
    }

    /// Whether the inner packet is IPv6; else it is IPv4, once [`Self::check`] has passed.
    #[inline(always)]
    pub fn holds_ipv6(&self) -> bool {
        self.geneve.protocol == ETHERTYPE_IPV6
    }

    /// Where the inner packet starts in the frame.
    #[inline(always)]
    pub fn inner_at(&self) -> usize {
        ETHERNET_LENGTH + (self.length as usize & LENGTH_MASK)
    }

    /// Bytes of the outer IP header.
    #[inline(always)]
    pub fn ip_header_length(&self) -> usize {
        if self.is_ipv6 { size_of::<Ipv6>() } else { size_of::<Ipv4>() }
    }

    /// Brings the inner headers of an ordinary packet into the linear part, as [`Frame::linearise_headers`] does.
    #[inline(always)]
    pub fn linearise_inner<F: Frame>(&self, frame: &F) {
        let ip_length = if self.holds_ipv6() { IPV6_LENGTH } else { IPV4_LENGTH };
        frame.linearise(self.inner_at() + ip_length + TCP_LENGTH);
    }

    /// Refuses what nobody can have meant for us: another version, critical options, other inner protocols, lengths that
    /// lie. Options that are not critical are stepped over.
    #[inline(always)]
    pub fn check<F: Frame>(&self, frame: &F) -> Result<(), DropReason> {
        let is_version_zero = self.geneve.version_length >> 6 == 0;
        let is_understood = self.geneve.control & (GENEVE_CONTROL | GENEVE_CRITICAL) == 0;
        let is_ip = self.geneve.protocol == ETHERTYPE_IPV4 || self.geneve.protocol == ETHERTYPE_IPV6;
        if !is_version_zero || !is_understood || !is_ip {
            return Err(DropReason::Geneve);
        }
        let udp_length = u16::from_be(self.udp.length) as usize;
        let lies = self.ip_length < self.length as u32
            || ETHERNET_LENGTH + self.ip_length as usize > frame.length()
            || (udp_length + self.ip_header_length() != self.ip_length as usize && udp_length != 0xffff);
        if lies { Err(DropReason::Malformed) } else { Ok(()) }
    }
}

/// Gives a tunnel packet new outer headers in place, of the family that it has, around an inner packet of `inner.length`
/// bytes; `inner.tos` is the outer type of service. Geneve's options stay.
#[inline(always)]
pub fn readdress<F: Frame>(frame: &F, outer: &Outer, tunnel: &Tunnel, inner: &Inner) -> Result<(), DropReason> {
    let inner = Inner { length: inner.length + options_length(&outer.geneve), ..*inner };
    let version_length = outer.geneve.version_length;
    if outer.is_ipv6 {
        let mut headers = tunnel.headers_v6(&inner);
        headers.geneve.version_length = version_length;
        return frame.write(ETHERNET_LENGTH, headers);
    }
    let mut words = tunnel.words_v4(&inner);
    words[GENEVE_WORD] |= version_length as u32;
    frame.write(ETHERNET_LENGTH, words)
}

/// Reads the tunnel's headers of a frame that ends a tunnel at `address`; None: not a tunnel packet for us.
#[inline(always)]
pub fn read_outer<F: Frame>(frame: &F, address: &Address6) -> Option<Outer> {
    let ethernet: Ethernet = frame.read(0)?;
    read_outer_at(frame, ETHERNET_LENGTH, ethernet.kind, address)
}

/// As [`read_outer`], where the outer IP header stands at `at` and the EtherType in front of it is `kind`. Positions in
/// what is read are those of a frame without a tag.
#[inline(always)]
pub fn read_outer_at<F: Frame>(frame: &F, at: usize, kind: u16, address: &Address6) -> Option<Outer> {
    match kind {
        ETHERTYPE_IPV4 => read_v4(frame, at, address),
        ETHERTYPE_IPV6 => read_v6(frame, at, address),
        _ => None,
    }
}

#[inline(always)]
fn read_v4<F: Frame>(frame: &F, at: usize, address: &Address6) -> Option<Outer> {
    let ip: Ipv4 = frame.read(at)?;
    let is_tunnel = is_mapped(*address)
        && ip.destination == address[3]
        && ip.protocol == UDP
        && ip.version_length == 0x45
        && ip.fragment & FRAGMENT_MASK == 0;
    if !is_tunnel {
        return None;
    }
    let (udp, geneve) = read_udp_geneve(frame, at + size_of::<Ipv4>())?;
    Some(Outer {
        source: mapped(ip.source),
        length: (ENCAPSULATION_LENGTH_V4 + options_length(&geneve)) as u16,
        tos: ip.tos,
        is_ipv6: false,
        udp,
        geneve,
        ip_length: u16::from_be(ip.total_length) as u32,
    })
}

#[inline(always)]
fn read_v6<F: Frame>(frame: &F, at: usize, address: &Address6) -> Option<Outer> {
    let ip: Ipv6 = frame.read(at)?;
    if ip.destination != *address || ip.next_header != UDP || !ip.is_version_6() {
        return None;
    }
    let (udp, geneve) = read_udp_geneve(frame, at + size_of::<Ipv6>())?;
    Some(Outer {
        source: ip.source,
        length: (ENCAPSULATION_LENGTH_V6 + options_length(&geneve)) as u16,
        tos: ip.traffic_class(),
        is_ipv6: true,
        udp,
        geneve,
        ip_length: u16::from_be(ip.payload_length) as u32 + size_of::<Ipv6>() as u32,
    })
}

#[inline(always)]
fn read_udp_geneve<F: Frame>(frame: &F, at: usize) -> Option<(Udp, Geneve)> {
    let udp: Udp = frame.read(at)?;
    if udp.destination != GENEVE_PORT.to_be() {
        return None;
    }
    let geneve: Geneve = frame.read(at + size_of::<Udp>())?;
    Some((udp, geneve))
}

#[inline(always)]
fn options_length(geneve: &Geneve) -> usize {
    (geneve.version_length & 0x3f) as usize * 4
}

/// The checksum of a header without options whose checksum field is zero.
#[inline(always)]
pub fn header_checksum(ip: &Ipv4) -> u16 {
    let pair = |high: u8, low: u8| u16::from_ne_bytes([high, low]) as u32;
    let halves = |long: u32| (long & 0xffff) + (long >> 16);
    !fold(
        pair(ip.version_length, ip.tos)
            + ip.total_length as u32
            + ip.id as u32
            + ip.fragment as u32
            + pair(ip.ttl, ip.protocol)
            + halves(ip.source)
            + halves(ip.destination),
    )
}
