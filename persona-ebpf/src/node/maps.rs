//! A node's maps and the clock.

use aya_ebpf::helpers::bpf_ktime_get_coarse_ns;
use aya_ebpf::macros::map;
use aya_ebpf::maps::lpm_trie::{Key, LpmTrie};
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray};
use persona_common::addr::Address6;
use persona_common::departure::{DEPARTURE_COUNT_MAX, DEPARTURE_DEVICE_COUNT_MAX, Departure};
use persona_common::drop::DropReason;
use persona_common::flow::{FlowKey, FlowValue, MappingKey, MappingValue, Slot};
use persona_common::fragment::{FragmentKey, FragmentValue};
use persona_common::maps::*;
use persona_common::node::{
    Device, EdgeHop, EgressAddress, Group, Lease, Liveness, NodeBlock, NodeConfig, SCOPE_BITS, ScopedAddress, Subject,
};
use persona_common::record::{Record, RecordKey};
use persona_common::share::{SharedFlow, SharedKey};
use persona_common::traffic::TrafficCell;

use crate::records::Held;

#[map]
pub static NODE_CONFIG: Array<NodeConfig> = Array::pinned(1, 0);
#[map]
pub static DEVICES: HashMap<u32, Device> = HashMap::pinned(SUBJECT_COUNT_MAX, 0);
/// Control group id (v2) → subject index.
#[map]
pub static CGROUPS: HashMap<u64, u32> = HashMap::pinned(CGROUP_COUNT_MAX, 0);
/// (shared device, source prefix) → subject index.
#[map]
pub static SOURCES: LpmTrie<ScopedAddress, u32> = LpmTrie::pinned(SOURCE_COUNT_MAX, 0);
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
/// TCP flows under the ports of others.
#[map]
pub static SHARED: HashMap<SharedKey, SharedFlow> = HashMap::pinned(SHARED_COUNT_MAX, 0);
/// Connections opened from outside, until their subject answers: the flow as the answer will have it → its slot.
#[map]
pub static OPENINGS: LruHashMap<FlowKey, MappingValue> = LruHashMap::pinned(OPENING_COUNT_MAX, 0);
/// What first fragments leave for later ones.
#[map]
pub static FRAGMENTS: LruHashMap<FragmentKey, FragmentValue> = LruHashMap::pinned(FRAGMENT_COUNT_MAX, 0);
/// Counters for the ids of fragments, by lease index.
#[map]
pub static FRAGMENT_COUNTERS: Array<u32> = Array::pinned(LEASE_COUNT_MAX, 0);
#[map]
pub static ADDRESSES: HashMap<u32, EgressAddress> = HashMap::pinned(ADDRESS_COUNT_MAX, 0);
#[map]
pub static BLOCKS: Array<NodeBlock> = Array::pinned(BLOCK_COUNT_MAX, 0);
/// Leased /64 → lease index.
#[map]
pub static PREFIXES: HashMap<[u32; 2], u32> = HashMap::pinned(LEASE_COUNT_MAX, 0);
/// What strangers have addressed, for the answer's sake: the flow as the answer will have it → the lease.
#[map]
pub static OPENINGS6: LruHashMap<RecordKey, Record> = LruHashMap::pinned(OPENING_COUNT_MAX, 0);
/// Connections opened towards workloads past every persona.
#[map]
pub static TOWARDS: LruHashMap<RecordKey, Record> = LruHashMap::pinned(TOWARDS_COUNT_MAX, 0);
/// Address under a lease → the host's own address that it stands for.
#[map]
pub static HOST_ADDRESSES: LruHashMap<Address6, Address6> = LruHashMap::pinned(HOST_ADDRESS_COUNT_MAX, 0);
/// Flows without slots: IPv6 and configured leases.
#[map]
pub static RECORDS: HashMap<RecordKey, Record> = HashMap::pinned(RECORD_COUNT_MAX, 0);
#[map]
pub static EDGES: Array<EdgeHop> = Array::pinned(EDGE_COUNT_MAX, 0);
/// Underlay address of an edge → its number.
#[map]
pub static EDGE_ADDRESSES: HashMap<Address6, u32> = HashMap::pinned(EDGE_COUNT_MAX, 0);
#[map]
pub static LIVENESS: Array<Liveness> = Array::pinned(EDGE_COUNT_MAX, 0);
#[map]
pub static GROUPS: Array<Group> = Array::pinned(GROUP_COUNT_MAX, 0);
/// First choice << 16 | second choice.
#[map]
pub static MAGLEV: Array<u32> = Array::pinned(MAGLEV_CELL_COUNT, 0);
/// What holds subjects to their rates by departure times.
#[map]
pub static DEPARTURES: Array<Departure> = Array::pinned(DEPARTURE_COUNT_MAX, 0);
/// Device → the cell of all that leaves by it, or [`persona_common::departure::BY_CLASS`].
#[map]
pub static DEPARTURE_DEVICES: HashMap<u32, u32> = HashMap::pinned(DEPARTURE_DEVICE_COUNT_MAX, 0);
#[map]
pub static BYPASS: LpmTrie<ScopedAddress, u32> = LpmTrie::pinned(BYPASS_COUNT_MAX, 0);
#[map]
pub static MANAGED: LpmTrie<ScopedAddress, u32> = LpmTrie::pinned(PREFIX_COUNT_MAX, 0);
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

/// What the longest prefix of a scope that covers an address stands for.
#[inline(always)]
pub fn find(table: &LpmTrie<ScopedAddress, u32>, scope: u32, address: Address6) -> Option<u32> {
    const ALL_BITS: u32 = SCOPE_BITS + 128;
    table.get(Key::new(ALL_BITS, ScopedAddress { scope: scope.to_be(), address })).copied()
}

/// The subject in a cell.
#[inline(always)]
pub fn subject(index: u32) -> Option<&'static Subject> {
    SUBJECTS.get(index)
}

/// The lease of an IPv6 address's /64.
#[inline(always)]
pub fn lease6(address: &Address6) -> Option<Held> {
    // SAFETY: values are replaced as a whole and copied here at once.
    let index = unsafe { PREFIXES.get([address[0], address[1]]) }.copied()?;
    Held::at(index)
}

/// The lease that configures an IPv6 prefix on a workload's interface.
#[inline(always)]
pub fn configured_lease6(address: &Address6) -> Option<Held> {
    lease6(address).filter(|held| held.lease.is_configured())
}

/// The lease that configures a whole IPv4 address on a workload's interface.
#[inline(always)]
pub fn configured_lease4(address: u32) -> Option<Held> {
    // SAFETY: values are replaced as a whole and copied here at once.
    let address = unsafe { ADDRESSES.get(address) }.copied()?;
    let block = BLOCKS.get(address.block_base)?;
    if address.block_bits != 16 || block.lease_index_plus_one == 0 {
        return None;
    }
    Held::at(block.lease_index_plus_one - 1).filter(|held| held.lease.is_configured())
}

/// Seconds of the coarse clock; its tick of a few milliseconds doesn't matter for ageing.
#[inline(always)]
pub fn now_secs() -> u32 {
    let offset_secs = NODE_CONFIG.get(0).map_or(0, |config| config.clock_offset_secs);
    // SAFETY: a helper without arguments.
    ((unsafe { bpf_ktime_get_coarse_ns() } / 1_000_000_000) as u32 + 1).wrapping_add(offset_secs)
}
