//! The edge's maps, and what they say after a restart.

use std::collections::BTreeMap;

use aya::Ebpf;
use persona_common::edge::{EdgeBlock, EdgeConfig, EdgeNode};
use persona_common::maps::{NODE_COUNT_MAX, PERSONA_COUNT_MAX};
use persona_common::node::EgressAddress;

use super::error::DataplaneError;
use super::index::{Indices, Runs};
use super::maps::{Cells, DropCells, Table, TrafficCells};

/// Every map of an edge but those that have a lock of their own.
pub(super) struct EdgeMaps {
    pub(super) config: Cells<EdgeConfig>,
    pub(super) addresses: Table<u32, EgressAddress>,
    pub(super) blocks: Cells<EdgeBlock>,
    pub(super) nodes: Cells<EdgeNode>,
    pub(super) personas: Cells<u32>,
    pub(super) persona_traffic: TrafficCells,
    pub(super) drops: DropCells,
}

impl EdgeMaps {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, DataplaneError> {
        Ok(Self {
            config: Cells::take(ebpf, "EDGE_CONFIG")?,
            addresses: Table::take(ebpf, "ADDRESSES")?,
            blocks: Cells::take(ebpf, "BLOCKS")?,
            nodes: Cells::take(ebpf, "NODES")?,
            personas: Cells::take(ebpf, "PERSONAS")?,
            persona_traffic: TrafficCells::take(ebpf, "PERSONA_TRAFFIC")?,
            drops: DropCells::take(ebpf)?,
        })
    }
}

/// What user space remembers of the maps' contents.
pub(super) struct EdgeIndex {
    /// Underlay address of a node → index.
    pub(super) nodes: Indices<u32>,
    /// VNI → index.
    pub(super) personas: Indices<u32>,
    /// Egress address → its cells.
    pub(super) addresses: BTreeMap<u32, EgressAddress>,
    /// Cell of `BLOCKS` → what it holds, where that isn't nothing.
    pub(super) blocks: BTreeMap<u32, EdgeBlock>,
    /// Runs of `BLOCKS` in use.
    pub(super) block_runs: Runs,
}

impl EdgeIndex {
    /// Reads it back from the maps.
    pub(super) fn recover(maps: &EdgeMaps) -> Result<Self, DataplaneError> {
        let nodes = maps.nodes.used(|node| node.address != 0)?;
        let personas = maps.personas.used(|vni| *vni != 0)?;
        let addresses = maps.addresses.entries()?.into_iter().collect::<BTreeMap<_, _>>();
        let mut block_runs = Runs::default();
        let mut blocks = BTreeMap::new();
        for address in addresses.values() {
            let count = 65_536 >> address.block_bits;
            block_runs.reserve(address.block_base, count);
            for cell in address.block_base..address.block_base + count {
                let block = maps.blocks.get(cell)?;
                if block.node_index_plus_one != 0 {
                    blocks.insert(cell, block);
                }
            }
        }
        Ok(Self {
            nodes: Indices::new(0, NODE_COUNT_MAX, nodes.iter().map(|(index, node)| (node.address, *index))),
            personas: Indices::new(0, PERSONA_COUNT_MAX, personas.iter().map(|(index, vni)| (*vni, *index))),
            addresses,
            blocks,
            block_runs,
        })
    }
}
