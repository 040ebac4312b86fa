//! What a node's maps hold.

use crate::addr::AddressBe;
use crate::maps::BLOCKS_PER_LEASE_MAX;

/// The node's own facts. Map `NODE_CONFIG`, one cell.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NodeConfig {
    /// [`crate::ABI_VERSION`] of whoever made the maps.
    pub abi_version: u32,
    /// The node's address on the underlay; 0: none yet.
    pub underlay_address: AddressBe,
    /// Until when TCP in mid-stream is adopted, seconds of the coarse clock.
    pub adopt_until_secs: u32,
    /// 1: the guard drops every forwarded packet without a mark of ours.
    pub guard_all_forwarded: u32,
}

const _: () = assert!(size_of::<NodeConfig>() == 16 && align_of::<NodeConfig>() == 4);

/// A workload's host-side device. Map `DEVICES`, by interface index.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Device {
    /// The subject's index in `SUBJECTS`.
    pub subject_index: u32,
    /// The only source address that its packets may have.
    pub address: AddressBe,
}

const _: () = assert!(size_of::<Device>() == 8 && align_of::<Device>() == 4);

/// [`Subject::flags`]: the cell is in use.
pub const SUBJECT_PRESENT: u32 = 1;
/// [`Subject::flags`]: the subject wears a network section.
pub const SUBJECT_HAS_NETWORK: u32 = 2;
/// [`Subject::flags`]: TCP may pass.
pub const SUBJECT_TCP: u32 = 4;
/// [`Subject::flags`]: UDP may pass.
pub const SUBJECT_UDP: u32 = 8;
/// [`Subject::flags`]: ICMP echo may pass.
pub const SUBJECT_ICMP: u32 = 16;
/// [`Subject::flags`]: [`Subject::dscp`] is set on its packets.
pub const SUBJECT_SETS_DSCP: u32 = 32;

/// A subject that lives on the node. Map `SUBJECTS`, by an index that user space gives.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Subject {
    /// Its number, never reused.
    pub number: u32,
    /// `SUBJECT_*` bits.
    pub flags: u32,
    /// The lease for new flows: its index in `LEASES` plus one; 0: none.
    pub lease_index_plus_one: u32,
    /// `skb->priority` of its tunnel packets; 0: none.
    pub egress_class: u32,
    /// The device that leads to it; 0: none.
    pub ifindex: u32,
    /// DSCP to set, 0 to 63.
    pub dscp: u32,
}

const _: () = assert!(size_of::<Subject>() == 24 && align_of::<Subject>() == 4);

/// A block within a [`Lease`].
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LeaseBlock {
    /// Its first port.
    pub first_port: u32,
    /// Its first slot in `SLOTS`.
    pub slot_base: u32,
}

/// A lease of a subject of the node. Map `LEASES`, by an index that user space gives.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Its id, never reused; 0: the cell is free.
    pub id: u64,
    /// An edge may carry it only once its lease table has reached this generation.
    pub generation: u64,
    /// The egress address.
    pub address: AddressBe,
    /// The holder's index in `SUBJECTS`.
    pub subject_index: u32,
    /// The persona it is held under.
    pub vni: u32,
    /// The persona's index in `PERSONAS`.
    pub persona_index: u32,
    /// The group's index in `GROUPS`.
    pub group_index: u32,
    /// Largest inner IP packet, bytes.
    pub mtu: u32,
    /// log2 of the ports in a block.
    pub block_bits: u32,
    /// How many of `blocks` count.
    pub block_count: u32,
    /// The blocks.
    pub blocks: [LeaseBlock; BLOCKS_PER_LEASE_MAX],
}

const _: () = assert!(size_of::<Lease>() == 48 + 8 * BLOCKS_PER_LEASE_MAX && align_of::<Lease>() == 8);

impl Default for Lease {
    fn default() -> Self {
        Self {
            id: 0,
            generation: 0,
            address: 0,
            subject_index: 0,
            vni: 0,
            persona_index: 0,
            group_index: 0,
            mtu: 0,
            block_bits: 0,
            block_count: 0,
            blocks: [LeaseBlock::default(); BLOCKS_PER_LEASE_MAX],
        }
    }
}

/// An egress address. Map `ADDRESSES`, by address, on nodes and edges.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EgressAddress {
    /// Its first cell in `BLOCKS`.
    pub block_base: u32,
    /// log2 of the ports in a block.
    pub block_bits: u32,
}

const _: () = assert!(size_of::<EgressAddress>() == 8 && align_of::<EgressAddress>() == 4);

/// A block of an egress address. Map `BLOCKS`, by [`EgressAddress::block_base`] + block number.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NodeBlock {
    /// The lease's index in `LEASES` plus one; 0: not ours.
    pub lease_index_plus_one: u32,
    /// The block's first slot in `SLOTS`; one run of slots per protocol follows another.
    pub slot_base: u32,
}

const _: () = assert!(size_of::<NodeBlock>() == 8 && align_of::<NodeBlock>() == 4);

/// An edge, as the node reaches it. Map `EDGES`, by edge number.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EdgeHop {
    /// Its address on the underlay; 0: no such edge.
    pub address: AddressBe,
    /// The device that leads there.
    pub ifindex: u32,
    /// The next hop's address.
    pub next_hop: AddressBe,
}

const _: () = assert!(size_of::<EdgeHop>() == 12 && align_of::<EdgeHop>() == 4);

/// What probes say about an edge. Map `LIVENESS`, by edge number; written by one call on every change.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Liveness {
    /// The generation that its lease table has reached.
    pub generation: u64,
    /// 1: alive.
    pub alive: u32,
    /// 1: a probe has said anything yet.
    pub known: u32,
}

const _: () = assert!(size_of::<Liveness>() == 16 && align_of::<Liveness>() == 8);

/// An edge group. Map `GROUPS`, by an index that user space gives.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Group {
    /// FNV-1a of its name, so that a restarted agent finds it; 0: the cell is free.
    pub name_hash: u64,
    /// The first cell in `MAGLEV` of the table in force.
    pub row_base: u32,
    /// Zero.
    pub reserved: u32,
}

const _: () = assert!(size_of::<Group>() == 16 && align_of::<Group>() == 8);
