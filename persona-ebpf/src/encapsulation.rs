//! The tunnel's headers: outer IPv4, UDP and Geneve (RFC 8926).

use persona_common::checksum::fold;
use persona_common::drop::DropReason;
use persona_common::probe::GENEVE_PORT;

use crate::frame::Frame;
use crate::header::{DONT_FRAGMENT, ETHERNET_LENGTH, ETHERTYPE_IPV4, FRAGMENT_MASK, Geneve, Ipv4, Udp};

/// Where the inner packet starts in a tunnel frame.
pub const INNER_AT: usize = ETHERNET_LENGTH + size_of::<Outer>();

/// Time to live of tunnel packets.
const OUTER_TTL: u8 = 64;

/// Geneve's O bit: a control packet.
const GENEVE_CONTROL: u8 = 0x80;

/// All that stands between the Ethernet header and the inner packet.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Outer {
    pub ip: Ipv4,
    pub udp: Udp,
    pub geneve: Geneve,
}

const _: () = assert!(size_of::<Outer>() == persona_common::ENCAPSULATION_LENGTH);

/// Between whom, under which persona.
pub struct Tunnel {
    pub source: u32,
    pub destination: u32,
    pub vni: u32,
    /// The UDP source port.
    pub entropy_port: u16,
}

impl Outer {
    /// The headers around an inner packet of `inner_length` bytes with type of service `tos`.
    #[inline(always)]
    pub fn new(tunnel: &Tunnel, inner_length: usize, tos: u8) -> Self {
        // A GSO packet may be longer than the field; each of its segments gets its own length.
        let length =
            |headers: usize| (if inner_length + headers > 0xffff { 0xffff } else { inner_length + headers }) as u16;
        let mut ip = Ipv4 {
            version_length: 0x45,
            tos,
            total_length: length(36).to_be(),
            id: 0,
            fragment: DONT_FRAGMENT,
            ttl: OUTER_TTL,
            protocol: persona_common::flow::UDP,
            checksum: 0,
            source: tunnel.source,
            destination: tunnel.destination,
        };
        ip.checksum = header_checksum(&ip);
        let udp = Udp {
            source: tunnel.entropy_port.to_be(),
            destination: GENEVE_PORT.to_be(),
            length: length(16).to_be(),
            checksum: 0,
        };
        let vni = tunnel.vni.to_be_bytes();
        let geneve = Geneve {
            version_length: 0,
            control: 0,
            protocol: ETHERTYPE_IPV4,
            vni: [vni[1], vni[2], vni[3]],
            reserved: 0,
        };
        Self { ip, udp, geneve }
    }

    /// The VNI.
    #[inline(always)]
    pub fn vni(&self) -> u32 {
        let vni = self.geneve.vni;
        u32::from_be_bytes([0, vni[0], vni[1], vni[2]])
    }

    /// Whether it is a control packet.
    #[inline(always)]
    pub fn is_control(&self) -> bool {
        self.geneve.control & GENEVE_CONTROL != 0
    }

    /// Refuses what our programs never send: options, other inner protocols, lengths that lie.
    #[inline(always)]
    pub fn check<F: Frame>(&self, frame: &F) -> Result<(), DropReason> {
        let is_ours =
            self.geneve.version_length == 0 && self.geneve.control == 0 && self.geneve.protocol == ETHERTYPE_IPV4;
        if !is_ours {
            return Err(DropReason::Geneve);
        }
        let ip_length = u16::from_be(self.ip.total_length) as usize;
        let udp_length = u16::from_be(self.udp.length) as usize;
        let lies = ip_length < size_of::<Self>()
            || ip_length + ETHERNET_LENGTH > frame.length()
            || (udp_length + size_of::<Ipv4>() != ip_length && ip_length != 0xffff);
        if lies { Err(DropReason::Malformed) } else { Ok(()) }
    }
}

/// Reads the tunnel's headers of a frame that ends a tunnel at `address`; None: not a tunnel packet for us.
#[inline(always)]
pub fn read_outer<F: Frame>(frame: &F, address: u32) -> Option<Outer> {
    let ethernet: crate::header::Ethernet = frame.read(0)?;
    if ethernet.kind != ETHERTYPE_IPV4 {
        return None;
    }
    let ip: Ipv4 = frame.read(ETHERNET_LENGTH)?;
    let is_tunnel = ip.destination == address
        && ip.protocol == persona_common::flow::UDP
        && ip.version_length == 0x45
        && ip.fragment & FRAGMENT_MASK == 0;
    if !is_tunnel {
        return None;
    }
    let udp: Udp = frame.read(ETHERNET_LENGTH + 20)?;
    if udp.destination != GENEVE_PORT.to_be() {
        return None;
    }
    let geneve: Geneve = frame.read(ETHERNET_LENGTH + 28)?;
    Some(Outer { ip, udp, geneve })
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
