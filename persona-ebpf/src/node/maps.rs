//! A node's maps and the clock.

use aya_ebpf::helpers::bpf_ktime_get_coarse_ns;
use aya_ebpf::macros::map;
use aya_ebpf::maps::lpm_trie::{Key, LpmTrie};
use aya_ebpf::maps::{Array, HashMap, PerCpuArray};
use persona_common::drop::DropReason;
use persona_common::flow::{FlowKey, FlowValue, MappingKey, MappingValue, Slot};
use persona_common::maps::*;
use persona_common::node::{Device, EdgeHop, EgressAddress, Group, Lease, Liveness, NodeBlock, NodeConfig, Subject};
use persona_common::traffic::TrafficCell;

#[map]
pub static NODE_CONFIG: Array<NodeConfig> = Array::pinned(1, 0);
#[map]
pub static DEVICES: HashMap<u32, Device> = HashMap::pinned(SUBJECT_COUNT_MAX, 0);
#[map]
pub static SUBJECTS: Array<Subject> = Array::pinned(SUBJECT_COUNT_MAX, 0);
#[map]
pub static SUBJECT_TRAFFIC: PerCpuArray<TrafficCell> = PerCpuArray::pinned(SUBJECT_COUNT_MAX, 0);
#[map]
pub static LEASES: Array<Lease> = Array::pinned(LEASE_COUNT_MAX, 0);
/// Next-fit cursors: three per lease, in the order of `slot_protocol_index`.
#[map]
pub static CURSORS: Array<u32> = Array::pinned(LEASE_COUNT_MAX * 3, 0);
#[map]
pub static FLOWS: HashMap<FlowKey, FlowValue> = HashMap::pinned(FLOW_COUNT_MAX, 0);
#[map]
pub static MAPPINGS: HashMap<MappingKey, MappingValue> = HashMap::pinned(MAPPING_COUNT_MAX, 0);
#[map]
pub static SLOTS: Array<Slot> = Array::pinned(SLOT_COUNT_DEFAULT, 0);
#[map]
pub static ADDRESSES: HashMap<u32, EgressAddress> = HashMap::pinned(ADDRESS_COUNT_MAX, 0);
#[map]
pub static BLOCKS: Array<NodeBlock> = Array::pinned(BLOCK_COUNT_MAX, 0);
#[map]
pub static EDGES: Array<EdgeHop> = Array::pinned(EDGE_COUNT_MAX, 0);
/// Underlay address of an edge → its number.
#[map]
pub static EDGE_ADDRESSES: HashMap<u32, u32> = HashMap::pinned(EDGE_COUNT_MAX, 0);
#[map]
pub static LIVENESS: Array<Liveness> = Array::pinned(EDGE_COUNT_MAX, 0);
#[map]
pub static GROUPS: Array<Group> = Array::pinned(GROUP_COUNT_MAX, 0);
/// First choice << 16 | second choice.
#[map]
pub static MAGLEV: Array<u32> = Array::pinned(MAGLEV_CELL_COUNT, 0);
#[map]
pub static BYPASS: LpmTrie<u32, u32> = LpmTrie::pinned(PREFIX_COUNT_MAX, 0);
#[map]
pub static MANAGED: LpmTrie<u32, u32> = LpmTrie::pinned(PREFIX_COUNT_MAX, 0);
/// VNIs, by the index that traffic is counted under; user space's notebook.
#[map]
pub static PERSONAS: Array<u32> = Array::pinned(PERSONA_COUNT_MAX, 0);

/// The node's own facts.
#[inline(always)]
pub fn config() -> Result<&'static NodeConfig, DropReason> {
    // Keeps the notebook in the object.
    core::hint::black_box(&PERSONAS);
    NODE_CONFIG.get(0).ok_or(DropReason::Kernel)
}

/// Whether a prefix of a table covers an address.
#[inline(always)]
pub fn covers(table: &LpmTrie<u32, u32>, address: u32) -> bool {
    table.get(Key::new(32, address)).is_some()
}

/// Seconds of the coarse clock; its tick of a few milliseconds doesn't matter for ageing.
#[inline(always)]
pub fn now_secs() -> u32 {
    // SAFETY: a helper without arguments.
    (unsafe { bpf_ktime_get_coarse_ns() } / 1_000_000_000) as u32 + 1
}
