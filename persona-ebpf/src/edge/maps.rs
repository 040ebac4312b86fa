//! An edge's maps and the look-ups in them.

use aya_ebpf::Global;
use aya_ebpf::helpers::{bpf_jiffies64, bpf_ktime_get_coarse_ns};
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, LruHashMap};
use persona_common::addr::Address6;
use persona_common::drop::DropReason;
use persona_common::edge::{
    self, EdgeBlock, EdgeConfig, EdgeNode, EdgePeer, EgressNetwork, NextHop, filter_bit, hint_cell, network_key, subnet,
};
use persona_common::encapsulation::ENCRYPTED_VNI;
use persona_common::fragment::{FragmentKey, FragmentValue};
use persona_common::maps::{
    ADDRESS_COUNT_MAX, ADDRESS_HINT_COUNT, EDGE_BLOCK_COUNT_MAX, EDGE_COUNT_MAX, FRAGMENT_COUNT_MAX, NETWORK_COUNT_MAX,
    NODE_COUNT_MAX, OWN_FILTER_COUNT, PEER_COUNT_MAX, PERSONA_COUNT_MAX, POLICED_RATE_COUNT_MAX, POLICER_COUNT_MAX,
};
use persona_common::node::EgressAddress;
use persona_common::police::{PolicedRates, Policer};
use persona_ebpf::frame::Frame;
use persona_ebpf::wire;

#[map]
static EDGE_CONFIG: Array<EdgeConfig> = Array::pinned(1, 0);

/// One cell; 1: the outside next hop answers.
#[map]
static OUTSIDE_ALIVE: Array<u32> = Array::pinned(1, 0);

#[map]
static ADDRESSES: HashMap<u32, EgressAddress> = HashMap::pinned(ADDRESS_COUNT_MAX, 0);

/// What `ADDRESSES` holds, for most of it.
#[map]
static ADDRESS_HINTS: Array<u64> = Array::pinned(ADDRESS_HINT_COUNT, 0);

/// IPv6 pools, by network of 48 bits.
#[map]
static NETWORKS: HashMap<[u32; 2], EgressNetwork> = HashMap::pinned(NETWORK_COUNT_MAX, 0);

/// A bit for every egress address and network: most destinations are none of our own, and this says so cheaply.
#[map]
static OWN_FILTER: Array<u64> = Array::pinned(OWN_FILTER_COUNT, 0);

/// Addresses that this edge answers for: egress addresses by ARP, next hops of IPv6 pools by neighbour advertisements.
#[map]
static OWNED: HashMap<Address6, u32> = HashMap::pinned(ADDRESS_COUNT_MAX, 0);

#[map]
static BLOCKS: Array<EdgeBlock> = Array::pinned(EDGE_BLOCK_COUNT_MAX, 0);

#[map]
static NODES: Array<EdgeNode> = Array::pinned(NODE_COUNT_MAX, 0);

/// Underlay address of a node → its index; user space's notebook.
#[map]
static NODE_INDICES: HashMap<Address6, u32> = HashMap::pinned(NODE_COUNT_MAX, 0);

/// By a node's index; 1: it hasn't been heard for three probe intervals.
#[map]
static NODE_SILENT: Array<u32> = Array::pinned(NODE_COUNT_MAX, 0);

/// By a node's index: when a probe of it was last seen, nanoseconds of the coarse clock.
#[map]
static NODE_HEARD: Array<u64> = Array::pinned(NODE_COUNT_MAX, 0);

#[map]
static PEERS: Array<EdgePeer> = Array::pinned(PEER_COUNT_MAX, 0);

/// By an edge's number; 1: it answers probes.
#[map]
static PEER_ALIVE: Array<u32> = Array::pinned(EDGE_COUNT_MAX, 0);

/// What first fragments from outside left behind.
#[map]
pub static FRAGMENTS: LruHashMap<FragmentKey, FragmentValue> = LruHashMap::pinned(FRAGMENT_COUNT_MAX, 0);

/// VNIs, by the index that blocks have and traffic is counted under.
#[map]
static PERSONAS: Array<u32> = Array::pinned(PERSONA_COUNT_MAX, 0);

/// Subjects that are held to a rate, by the index that their blocks have.
#[map]
static POLICERS: Array<Policer> = Array::pinned(POLICER_COUNT_MAX, 0);

/// What they are held to, by the index that they have.
#[map]
static POLICED_RATES: Array<PolicedRates> = Array::pinned(POLICED_RATE_COUNT_MAX, 0);

/// Who holds a block or a prefix, and where that node is.
#[derive(Clone, Copy)]
pub struct Holder {
    pub block: EdgeBlock,
    node_index: u32,
    pub node: &'static EdgeNode,
}

impl Holder {
    /// Whether packets to it are for the program at TC: this hook can't send into the encrypted tunnel.
    #[inline(always)]
    pub fn is_for_tc<F: Frame>(&self) -> bool {
        !F::HAS_WIRE && self.block.is_encrypted()
    }

    /// The way to its node.
    #[inline(always)]
    pub fn next_hop(&self) -> Result<&'static NextHop, DropReason> {
        if self.block.is_encrypted() { wire::hop() } else { Ok(&self.node.next_hop) }
    }

    /// The persona that it is held under, and [`ENCRYPTED_VNI`]; 0: none.
    #[inline(always)]
    pub fn vni(&self) -> u32 {
        let encrypted = if self.block.is_encrypted() { ENCRYPTED_VNI } else { 0 };
        PERSONAS.get(self.block.persona_index()).map_or(0, |vni| *vni | encrypted)
    }

    /// Whether both are held by one node.
    #[inline(always)]
    pub fn is_of_same_node(&self, other: &Self) -> bool {
        self.node_index == other.node_index
    }

    /// Whether the node hasn't been heard lately.
    #[inline(always)]
    pub fn is_silent(&self) -> bool {
        NODE_SILENT.get(self.node_index).is_some_and(|silent| *silent != 0)
    }
}

/// The edge's own facts.
#[inline(always)]
pub fn config() -> Result<&'static EdgeConfig, DropReason> {
    // Keeps the notebook in the object.
    core::hint::black_box(&NODE_INDICES);
    EDGE_CONFIG.get(0).ok_or(DropReason::Kernel)
}

/// Whether the outside next hop answers.
#[inline(always)]
pub fn is_outside_alive() -> bool {
    OUTSIDE_ALIVE.get(0).is_some_and(|alive| *alive != 0)
}

/// Notes that a probe of this address was seen; others than nodes leave no trace.
#[inline(always)]
pub fn note_heard(address: &Address6) {
    // SAFETY: an index never changes under its address; one that is given anew costs a wrong stamp, which ages.
    let Some(index) = (unsafe { NODE_INDICES.get(address) }) else { return };
    let Some(heard) = NODE_HEARD.get_ptr_mut(*index) else { return };
    // SAFETY: an aligned u64 in the map, valid for this run; user space reads it whole. A helper without arguments.
    unsafe { *heard = bpf_ktime_get_coarse_ns() };
}

/// Whether this edge answers for an address.
#[inline(always)]
pub fn owns(address: Address6) -> bool {
    OWNED.get_ptr(address).is_some()
}

/// Whether an address can be one of our own: an IPv4 address and zero, or the key of an IPv6 address's network.
#[inline(always)]
pub fn is_perhaps_own(first: u32, second: u32) -> bool {
    let (cell, bit) = filter_bit(first, second);
    OWN_FILTER.get(cell).is_some_and(|bits| *bits >> bit & 1 != 0)
}

/// The egress address, if it is one.
#[inline(always)]
pub fn egress_address(address: u32) -> Option<EgressAddress> {
    // SAFETY: values are replaced as a whole and copied here at once.
    unsafe { ADDRESSES.get(address) }.copied()
}

/// The egress address, if it is one that has a hint: most have, and it is found faster.
#[inline(always)]
pub fn hinted_address(address: u32) -> Option<EgressAddress> {
    ADDRESS_HINTS.get(hint_cell(address)).and_then(|hint| edge::hinted(*hint, address))
}

/// The cell of an address's /64, if that lies in one of our pools.
#[inline(always)]
pub fn egress_cell(address: &Address6) -> Option<u32> {
    // SAFETY: as above.
    let network = unsafe { NETWORKS.get(network_key(address)) }.copied()?;
    let offset = subnet(address).wrapping_sub(network.first_subnet);
    (offset < network.subnet_count).then_some(network.block_base + offset)
}

/// Who holds the block of a port.
#[inline(always)]
pub fn holder(address: EgressAddress, port: u16) -> Result<Holder, DropReason> {
    holder_of_cell(address.block_base + (port as u32 >> (address.block_bits & 31)))
}

/// Who holds what a cell stands for.
#[inline(always)]
pub fn holder_of_cell(cell: u32) -> Result<Holder, DropReason> {
    // One word, which user space replaces whole.
    let block = *BLOCKS.get(cell).ok_or(DropReason::Unleased)?;
    let node_index = block.node_index().ok_or(DropReason::Unleased)?;
    let node = NODES.get(node_index).ok_or(DropReason::Unleased)?;
    Ok(Holder { block, node_index, node })
}

/// The peer in a cell, if there is one.
#[inline(always)]
pub fn peer(index: u32) -> Option<&'static EdgePeer> {
    PEERS.get(index).filter(|peer| peer.number != 0)
}

/// Whether a peer answers probes.
#[inline(always)]
pub fn is_peer_alive(number: u32) -> bool {
    PEER_ALIVE.get(number).is_some_and(|alive| *alive != 0)
}

/// A subject that is policed.
#[inline(always)]
pub fn policer(index: u32) -> Option<*mut Policer> {
    POLICERS.get_ptr_mut(index)
}

/// What it is held to.
#[inline(always)]
pub fn policed_rates(index: u16) -> Option<&'static PolicedRates> {
    POLICED_RATES.get(index as u32)
}

/// Nanoseconds of the kernel's tick, which user space writes before it loads the object; 0: not known.
#[unsafe(no_mangle)]
pub static TICK_NS: Global<u64> = Global::new(0);

/// Nanoseconds of a clock that steps with the kernel's tick, which is short beside the shortest burst: ticks, which the kernel
/// has programs load where they would have to call for the coarse clock.
#[inline(always)]
pub fn now_ns(clock_offset_secs: u32) -> u64 {
    // SAFETY: helpers without arguments.
    let now_ns = match TICK_NS.load() {
        0 => unsafe { bpf_ktime_get_coarse_ns() },
        tick_ns => unsafe { bpf_jiffies64() }.wrapping_mul(tick_ns),
    };
    now_ns.wrapping_add((clock_offset_secs as i32 as u64).wrapping_mul(1_000_000_000))
}

/// Seconds of the coarse clock; its tick of a few milliseconds doesn't matter for ageing.
#[inline(always)]
pub fn now_secs(config: &EdgeConfig) -> u32 {
    // SAFETY: a helper without arguments.
    (unsafe { bpf_ktime_get_coarse_ns() } / 1_000_000_000) as u32 + 1 + config.clock_offset_secs
}
