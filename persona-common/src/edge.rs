//! What an edge's maps hold, beside the egress addresses in [`crate::node::EgressAddress`].

use crate::addr::AddressBe;

/// A next hop with all that XDP and TC need.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NextHop {
    /// The device that leads there; 0: none.
    pub ifindex: u32,
    /// The next hop's address; 0: the packet's own destination, which is on-link.
    pub address: AddressBe,
    /// That device's own hardware address.
    pub source_mac: [u8; 6],
    /// The next hop's hardware address.
    pub destination_mac: [u8; 6],
    /// 1: `destination_mac` is known.
    pub resolved: u32,
}

const _: () = assert!(size_of::<NextHop>() == 24 && align_of::<NextHop>() == 4);

/// The edge's own facts. Map `EDGE_CONFIG`, one cell.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EdgeConfig {
    /// The generation of the lease table.
    pub generation: u64,
    /// [`crate::ABI_VERSION`] of whoever made the maps.
    pub abi_version: u32,
    /// The edge's address on the underlay; 0: none yet.
    pub underlay_address: AddressBe,
    /// Where packets to the outside go.
    pub outside: NextHop,
}

const _: () = assert!(size_of::<EdgeConfig>() == 40 && align_of::<EdgeConfig>() == 8);

/// A block of an egress address. Map `BLOCKS`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EdgeBlock {
    /// The node's index in `NODES` plus one; 0: not leased.
    pub node_index_plus_one: u32,
    /// The persona it is held under.
    pub vni: u32,
    /// The persona's index in `PERSONAS`.
    pub persona_index: u32,
    /// Largest inner IP packet, bytes.
    pub mtu: u32,
}

const _: () = assert!(size_of::<EdgeBlock>() == 16 && align_of::<EdgeBlock>() == 4);

/// A node, as the edge reaches it. Map `NODES`, by an index that user space gives.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EdgeNode {
    /// Its address on the underlay; 0: the cell is free.
    pub address: AddressBe,
    /// The way there.
    pub next_hop: NextHop,
}

const _: () = assert!(size_of::<EdgeNode>() == 28 && align_of::<EdgeNode>() == 4);
