//! An edge's maps and the look-ups in them.

use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap};
use persona_common::drop::DropReason;
use persona_common::edge::{EdgeBlock, EdgeConfig, EdgeNode};
use persona_common::maps::{ADDRESS_COUNT_MAX, BLOCK_COUNT_MAX, NODE_COUNT_MAX, PERSONA_COUNT_MAX};
use persona_common::node::EgressAddress;

#[map]
static EDGE_CONFIG: Array<EdgeConfig> = Array::pinned(1, 0);

/// One cell; 1: the outside next hop answers.
#[map]
static OUTSIDE_ALIVE: Array<u32> = Array::pinned(1, 0);

#[map]
static ADDRESSES: HashMap<u32, EgressAddress> = HashMap::pinned(ADDRESS_COUNT_MAX, 0);

/// Egress addresses that this edge answers ARP for.
#[map]
static OWNED: HashMap<u32, u32> = HashMap::pinned(ADDRESS_COUNT_MAX, 0);

#[map]
static BLOCKS: Array<EdgeBlock> = Array::pinned(BLOCK_COUNT_MAX, 0);

#[map]
static NODES: Array<EdgeNode> = Array::pinned(NODE_COUNT_MAX, 0);

/// VNIs, by the index that traffic is counted under; user space's notebook.
#[map]
static PERSONAS: Array<u32> = Array::pinned(PERSONA_COUNT_MAX, 0);

/// The edge's own facts.
#[inline(always)]
pub fn config() -> Result<&'static EdgeConfig, DropReason> {
    // Keeps the notebook in the object.
    core::hint::black_box(&PERSONAS);
    EDGE_CONFIG.get(0).ok_or(DropReason::Kernel)
}

/// Whether the outside next hop answers.
#[inline(always)]
pub fn is_outside_alive() -> bool {
    OUTSIDE_ALIVE.get(0).is_some_and(|alive| *alive != 0)
}

/// Whether this edge answers ARP for an address.
#[inline(always)]
pub fn owns(address: u32) -> bool {
    OWNED.get_ptr(address).is_some()
}

/// The egress address, if it is one.
#[inline(always)]
pub fn egress_address(address: u32) -> Option<EgressAddress> {
    // SAFETY: values are replaced as a whole and copied here at once.
    unsafe { ADDRESSES.get(address) }.copied()
}

/// Who holds the block of a port, and where that node is.
#[inline(always)]
pub fn holder(address: EgressAddress, port: u16) -> Result<(&'static EdgeBlock, &'static EdgeNode), DropReason> {
    let index = address.block_base + (port as u32 >> (address.block_bits & 15));
    let block = BLOCKS.get(index).ok_or(DropReason::Unleased)?;
    if block.node_index_plus_one == 0 {
        return Err(DropReason::Unleased);
    }
    let node = NODES.get(block.node_index_plus_one - 1).ok_or(DropReason::Unleased)?;
    Ok((block, node))
}
