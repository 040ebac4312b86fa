//! The node's maps, and what they say after a restart.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;

use aya::Ebpf;
use persona_common::addr::Address6;
use persona_common::departure::Departure;
use persona_common::edge::NextHop;
use persona_common::firewall::{FirewallService, FirewallSet, SubjectFirewall};
use persona_common::flow::{FlowKey, FlowValue, MappingKey, MappingValue, SLOT_PROTOCOL_COUNT, Slot};
use persona_common::fragment::{FragmentKey, FragmentValue};
use persona_common::maps::{
    FIREWALL_SET_COUNT_MAX, GROUP_COUNT_MAX, LEASE_COUNT_MAX, PERSONA_COUNT_MAX, SUBJECT_COUNT_MAX,
};
use persona_common::node::{
    Device, EdgeHop, EgressAddress, Group, Lease, NodeBlock, NodeConfig, SUBJECT_PRESENT, Subject,
};
use persona_common::record::{Record, RecordKey};
use persona_common::share::{SharedFlow, SharedKey};
use persona_common::traffic::SubjectCounts;

use super::error::DataplaneError;
use super::index::{Indices, Runs};
use super::maps::{Cells, CpuCells, DropCells, Prefixes, Table, TrafficCells};

/// Every map of a node but the one for liveness. Those behind a lock are written through a shared reference.
pub(super) struct NodeMaps {
    pub(super) config: Cells<NodeConfig>,
    pub(super) devices: Table<u32, Device>,
    pub(super) device_hints: Cells<u64>,
    /// Control group id → subject index.
    pub(super) cgroups: Table<u64, u32>,
    pub(super) sources: Prefixes,
    pub(super) subjects: Cells<Subject>,
    pub(super) subject_traffic: TrafficCells,
    pub(super) subject_counts: CpuCells<SubjectCounts>,
    pub(super) leases: Cells<Lease>,
    pub(super) cursors: Cells<u32>,
    pub(super) flows: Mutex<Table<FlowKey, FlowValue>>,
    pub(super) mappings: Mutex<Table<MappingKey, MappingValue>>,
    /// Flows under the ports of others.
    pub(super) shared: Mutex<Table<SharedKey, SharedFlow>>,
    pub(super) slots: Cells<Slot>,
    pub(super) addresses: Table<u32, EgressAddress>,
    pub(super) blocks: Cells<NodeBlock>,
    /// Leased /64 → lease index.
    pub(super) prefixes: Table<[u32; 2], u32>,
    pub(super) records: Mutex<Table<RecordKey, Record>>,
    pub(super) passing: Mutex<PassingMaps>,
    pub(super) edges: Cells<EdgeHop>,
    pub(super) edge_addresses: Table<Address6, u32>,
    pub(super) groups: Cells<Group>,
    pub(super) wire: Cells<NextHop>,
    pub(super) maglev: Cells<u32>,
    pub(super) departures: Cells<Departure>,
    /// Device → cell.
    pub(super) departure_devices: Table<u32, u32>,
    pub(super) bypass: Prefixes,
    pub(super) managed: Prefixes,
    pub(super) firewalls: Cells<FirewallSet>,
    pub(super) firewall_remotes: Prefixes<u64>,
    pub(super) firewall_services: Table<FirewallService, u64>,
    pub(super) subject_firewalls: Cells<SubjectFirewall>,
    pub(super) personas: Cells<u32>,
    pub(super) persona_traffic: TrafficCells,
    pub(super) drops: DropCells,
}

impl NodeMaps {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, DataplaneError> {
        Ok(Self {
            config: Cells::take(ebpf, "NODE_CONFIG")?,
            devices: Table::take(ebpf, "DEVICES")?,
            device_hints: Cells::take(ebpf, "DEVICE_HINTS")?,
            cgroups: Table::take(ebpf, "CGROUPS")?,
            sources: Prefixes::take(ebpf, "SOURCES")?,
            subjects: Cells::take(ebpf, "SUBJECTS")?,
            subject_traffic: TrafficCells::take(ebpf, "SUBJECT_TRAFFIC")?,
            subject_counts: CpuCells::take(ebpf, "SUBJECT_COUNTS")?,
            leases: Cells::take(ebpf, "LEASES")?,
            cursors: Cells::take(ebpf, "CURSORS")?,
            flows: Mutex::new(Table::take(ebpf, "FLOWS")?),
            mappings: Mutex::new(Table::take(ebpf, "MAPPINGS")?),
            shared: Mutex::new(Table::take(ebpf, "SHARED")?),
            slots: Cells::take(ebpf, "SLOTS")?,
            addresses: Table::take(ebpf, "ADDRESSES")?,
            blocks: Cells::take(ebpf, "BLOCKS")?,
            prefixes: Table::take(ebpf, "PREFIXES")?,
            records: Mutex::new(Table::take(ebpf, "RECORDS")?),
            passing: Mutex::new(PassingMaps::take(ebpf)?),
            edges: Cells::take(ebpf, "EDGES")?,
            edge_addresses: Table::take(ebpf, "EDGE_ADDRESSES")?,
            groups: Cells::take(ebpf, "GROUPS")?,
            wire: Cells::take(ebpf, "WIRE")?,
            maglev: Cells::take(ebpf, "MAGLEV")?,
            departures: Cells::take(ebpf, "DEPARTURES")?,
            departure_devices: Table::take(ebpf, "DEPARTURE_DEVICES")?,
            bypass: Prefixes::take(ebpf, "BYPASS")?,
            managed: Prefixes::take(ebpf, "MANAGED")?,
            firewalls: Cells::take(ebpf, "FIREWALLS")?,
            firewall_remotes: Prefixes::take(ebpf, "FIREWALL_REMOTES")?,
            firewall_services: Table::take(ebpf, "FIREWALL_SERVICES")?,
            subject_firewalls: Cells::take(ebpf, "SUBJECT_FIREWALLS")?,
            personas: Cells::take(ebpf, "PERSONAS")?,
            persona_traffic: TrafficCells::take(ebpf, "PERSONA_TRAFFIC")?,
            drops: DropCells::take(ebpf)?,
        })
    }
}

/// What only the programs write, and a sweep tidies up.
pub(super) struct PassingMaps {
    pub(super) fragments: Table<FragmentKey, FragmentValue>,
    pub(super) towards: Table<RecordKey, Record>,
    pub(super) openings: Table<RecordKey, Record>,
}

impl PassingMaps {
    fn take(ebpf: &mut Ebpf) -> Result<Self, DataplaneError> {
        Ok(Self {
            fragments: Table::take(ebpf, "FRAGMENTS")?,
            towards: Table::take(ebpf, "TOWARDS")?,
            openings: Table::take(ebpf, "OPENINGS6")?,
        })
    }
}

/// What user space remembers of the maps' contents.
#[derive(Clone)]
pub(super) struct NodeIndex {
    /// Subject number → index.
    pub(super) subjects: Indices<u32>,
    /// Lease id → index.
    pub(super) leases: Indices<u64>,
    /// Lease id → what its cell holds.
    pub(super) lease_cells: BTreeMap<u64, Lease>,
    /// Hash of a group's name → index.
    pub(super) groups: Indices<u64>,
    /// Hash of a group's name → rows in force.
    pub(super) group_rows: BTreeMap<u64, Arc<[u32]>>,
    /// Hash of a group's name → what its spare half holds, where this process has written it.
    pub(super) spare_rows: BTreeMap<u64, Arc<[u32]>>,
    /// VNI → index.
    pub(super) personas: Indices<u32>,
    /// Hash of a set of firewall rules → index.
    pub(super) firewalls: Indices<u64>,
    /// Egress address → its cells.
    pub(super) addresses: BTreeMap<u32, EgressAddress>,
    /// Runs of `BLOCKS` in use.
    pub(super) block_runs: Runs,
    /// Runs of `SLOTS` in use.
    pub(super) slot_runs: Runs,
}

impl NodeIndex {
    /// Reads it back from the maps.
    pub(super) fn recover(maps: &NodeMaps) -> Result<Self, DataplaneError> {
        let subjects = maps.subjects.used(|subject| subject.flags & SUBJECT_PRESENT != 0)?;
        let leases = maps.leases.used(|lease| lease.id != 0)?;
        let groups = maps.groups.used(|group| group.name_hash != 0)?;
        let personas = maps.personas.used(|vni| *vni != 0)?;
        let firewalls = maps.firewalls.used(|set| set.key != 0)?;
        let addresses = maps.addresses.entries()?.into_iter().collect::<BTreeMap<_, _>>();
        let mut block_runs = Runs::default();
        for address in addresses.values() {
            block_runs.reserve(address.block_base, 65_536 >> address.block_bits);
        }
        let mut slot_runs = Runs::default();
        for (_, lease) in &leases {
            for block in &lease.blocks[..lease.block_count as usize] {
                slot_runs.reserve(block.slot_base, slots_per_block(lease.block_bits));
            }
        }
        Ok(Self {
            subjects: Indices::new(0, SUBJECT_COUNT_MAX, subjects.iter().map(|(index, it)| (it.number, *index))),
            leases: Indices::new(0, LEASE_COUNT_MAX, leases.iter().map(|(index, it)| (it.id, *index))),
            lease_cells: leases.iter().map(|(_, lease)| (lease.id, *lease)).collect(),
            groups: Indices::new(0, GROUP_COUNT_MAX, groups.iter().map(|(index, it)| (it.name_hash, *index))),
            group_rows: BTreeMap::new(),
            spare_rows: BTreeMap::new(),
            personas: Indices::new(0, PERSONA_COUNT_MAX, personas.iter().map(|(index, vni)| (*vni, *index))),
            firewalls: Indices::new(0, FIREWALL_SET_COUNT_MAX, firewalls.iter().map(|(index, it)| (it.key, *index))),
            addresses,
            block_runs,
            slot_runs,
        })
    }
}

/// Slots that a block of `block_bits` takes.
pub(super) fn slots_per_block(block_bits: u32) -> u32 {
    SLOT_PROTOCOL_COUNT << block_bits
}
