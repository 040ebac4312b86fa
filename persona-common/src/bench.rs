//! What the benchmark's programs are told (`persona-ebpf/src/bench`). No role knows of it.

/// Flows of a plan; a power of two.
pub const PLAN_FLOW_COUNT_MAX: u32 = 1 << 20;

/// Bytes of headers in front of a packet's payload, at most.
pub const HEADERS_LENGTH_MAX: usize = 96;

/// Where the IP header stands in a bare packet, behind Ethernet.
pub const INNER_AT_BARE: usize = 14;

/// Where the inner IP header stands in Geneve over IPv4.
pub const INNER_AT_GENEVE: usize = INNER_AT_BARE + crate::ENCAPSULATION_LENGTH_V4;

/// Where the inner IP header stands in VXLAN over IPv4, the peer's tunnel: it holds an Ethernet header.
pub const INNER_AT_VXLAN: usize = INNER_AT_GENEVE + 14;

/// Which packets are made. Map `PLAN`, one cell.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Plan {
    /// Bytes of a frame.
    pub length: u32,
    /// Flows minus one: they follow one another in the order of `FLOWS`. Of a power of two.
    pub flow_mask: u32,
}

const _: () = assert!(size_of::<Plan>() == 8 && align_of::<Plan>() == 4);

/// Headers of every packet, before a flow's own fields are put in. Map `HEADERS`, one cell.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Headers {
    /// The bytes, in words of the machine's own order.
    pub words: [u64; HEADERS_LENGTH_MAX / 8],
}

const _: () = assert!(size_of::<Headers>() == HEADERS_LENGTH_MAX && align_of::<Headers>() == 8);

/// What is a flow's own, as it stands in a packet. Map `FLOWS`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flow {
    /// The inner packet's addresses.
    pub source: u32,
    /// Likewise.
    pub destination: u32,
    /// Both ports.
    pub ports: u32,
    /// Checksum of the inner IP header.
    pub ip_checksum: u16,
    /// Checksum of UDP.
    pub udp_checksum: u16,
    /// Source of the tunnel.
    pub outer_source: u32,
    /// Geneve's VNI and the byte behind it.
    pub vni_word: u32,
    /// Checksum of the outer IP header.
    pub outer_checksum: u16,
    /// Zero.
    pub reserved: u16,
    /// Zero.
    pub padding: u32,
}

const _: () = assert!(size_of::<Flow>() == 32 && align_of::<Flow>() == 4);
