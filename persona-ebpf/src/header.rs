//! Headers as they stand in a packet. Multi-byte fields are big-endian there: `u16::from_be(field)` reads one.

/// Bytes of an Ethernet header.
pub const ETHERNET_LENGTH: usize = size_of::<Ethernet>();

/// Where a frame has its EtherType.
pub const KIND_AT: usize = 12;

/// Bytes of an IPv4 header without options.
pub const IPV4_LENGTH: usize = size_of::<Ipv4>();
/// Bytes of an IPv6 header without extension headers.
pub const IPV6_LENGTH: usize = size_of::<Ipv6>();
/// Bytes of a TCP header without options.
pub const TCP_LENGTH: usize = size_of::<Tcp>();

/// Bytes of an ICMP header.
pub const ICMP_LENGTH: usize = size_of::<Icmp>();

/// EtherType of IPv4, as it stands in a packet.
pub const ETHERTYPE_IPV4: u16 = 0x0800u16.to_be();
/// EtherType of ARP, as it stands in a packet.
pub const ETHERTYPE_ARP: u16 = 0x0806u16.to_be();
/// EtherType of IPv6, as it stands in a packet.
pub const ETHERTYPE_IPV6: u16 = 0x86ddu16.to_be();

/// EtherType of an 802.1Q tag, as it stands in a packet.
pub const ETHERTYPE_VLAN: u16 = 0x8100u16.to_be();
/// EtherType of an 802.1ad tag, as it stands in a packet.
pub const ETHERTYPE_QINQ: u16 = 0x88a8u16.to_be();
/// Bytes of a tag.
pub const VLAN_LENGTH: usize = 4;

/// The don't-fragment flag, as it stands in a packet.
pub const DONT_FRAGMENT: u16 = 0x4000u16.to_be();
/// More-fragments flag and fragment offset, as they stand in a packet.
pub const FRAGMENT_MASK: u16 = 0x3fffu16.to_be();
/// The fragment offset, as it stands in a packet.
pub const FRAGMENT_OFFSET_MASK: u16 = 0x1fffu16.to_be();
/// The more-fragments flag, as it stands in a packet.
pub const MORE_FRAGMENTS: u16 = 0x2000u16.to_be();

/// TCP's FIN flag.
pub const TCP_FIN: u8 = 1;
/// TCP's SYN flag.
pub const TCP_SYN: u8 = 2;
/// TCP's RST flag.
pub const TCP_RST: u8 = 4;
/// TCP's ACK flag.
pub const TCP_ACK: u8 = 16;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Ethernet {
    pub destination: [u8; 6],
    pub source: [u8; 6],
    pub kind: u16,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Ipv4 {
    pub version_length: u8,
    pub tos: u8,
    pub total_length: u16,
    pub id: u16,
    pub fragment: u16,
    pub ttl: u8,
    pub protocol: u8,
    pub checksum: u16,
    pub source: u32,
    pub destination: u32,
}

/// IPv6 (RFC 8200 §3).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Ipv6 {
    /// Four bits of version, eight of traffic class, twenty of flow label.
    pub version_class_label: u32,
    pub payload_length: u16,
    pub next_header: u8,
    pub hop_limit: u8,
    pub source: [u32; 4],
    pub destination: [u32; 4],
}

impl Ipv6 {
    /// Whether the version field says 6.
    #[inline(always)]
    pub fn is_version_6(&self) -> bool {
        self.version_class_label & 0xf000_0000u32.to_be() == 0x6000_0000u32.to_be()
    }

    /// The traffic class: DSCP and ECN.
    #[inline(always)]
    pub fn traffic_class(&self) -> u8 {
        (u32::from_be(self.version_class_label) >> 20) as u8
    }

    /// Sets the traffic class.
    #[inline(always)]
    pub fn set_traffic_class(&mut self, class: u8) {
        let others = self.version_class_label & !0x0ff0_0000u32.to_be();
        self.version_class_label = others | ((class as u32) << 20).to_be();
    }

    /// Says that the packet belongs to no flow that has a label (RFC 6437 §2).
    #[inline(always)]
    pub fn clear_flow_label(&mut self) {
        self.version_class_label &= 0xfff0_0000u32.to_be();
    }
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Tcp {
    pub source: u16,
    pub destination: u16,
    pub sequence: u32,
    pub acknowledgement: u32,
    pub offset: u8,
    pub flags: u8,
    pub window: u16,
    pub checksum: u16,
    pub urgent: u16,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Udp {
    pub source: u16,
    pub destination: u16,
    pub length: u16,
    pub checksum: u16,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Icmp {
    pub kind: u8,
    pub code: u8,
    pub checksum: u16,
    pub id: u16,
    pub sequence: u16,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Geneve {
    pub version_length: u8,
    pub control: u8,
    pub protocol: u16,
    pub vni: [u8; 3],
    pub reserved: u8,
}

impl Geneve {
    /// The VNI.
    #[inline(always)]
    pub const fn vni(&self) -> u32 {
        u32::from_be_bytes([0, self.vni[0], self.vni[1], self.vni[2]])
    }
}

/// ARP for IPv4 over Ethernet (RFC 826).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Arp {
    pub hardware: u16,
    pub protocol: u16,
    pub hardware_length: u8,
    pub protocol_length: u8,
    pub operation: u16,
    pub sender_mac: [u8; 6],
    pub sender_address: [u8; 4],
    pub target_mac: [u8; 6],
    pub target_address: [u8; 4],
}

const _: () = assert!(
    size_of::<Ethernet>() == 14
        && size_of::<Ipv4>() == 20
        && size_of::<Ipv6>() == 40
        && size_of::<Tcp>() == 20
        && size_of::<Udp>() == 8
        && size_of::<Icmp>() == 8
        && size_of::<Geneve>() == 8
        && size_of::<Arp>() == 28
);
