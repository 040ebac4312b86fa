//! The edge's maps, and what they say after a restart.

use std::collections::BTreeMap;

use aya::Ebpf;
use persona_common::addr::Address6;
use persona_common::edge::{EdgeBlock, EdgeConfig, EdgeNode, EdgePeer, EgressNetwork, NextHop};
use persona_common::maps::{
    NODE_COUNT_MAX, PEER_COUNT_MAX, PERSONA_COUNT_MAX, POLICED_RATE_COUNT_MAX, POLICER_COUNT_MAX,
};
use persona_common::node::EgressAddress;
use persona_common::police::{PolicedRates, Policer};

use super::edge_spaces::{Run, Space};
use super::error::DataplaneError;
use super::index::{Indices, Runs};
use super::maps::{Cells, DropCells, Table, TrafficCells};

/// Every map of an edge but those that have a lock of their own.
pub(super) struct EdgeMaps {
    pub(super) config: Cells<EdgeConfig>,
    pub(super) addresses: Table<u32, EgressAddress>,
    pub(super) address_hints: Cells<u64>,
    pub(super) networks: Table<[u32; 2], EgressNetwork>,
    pub(super) own_filter: Cells<u64>,
    pub(super) blocks: Cells<EdgeBlock>,
    pub(super) nodes: Cells<EdgeNode>,
    pub(super) node_indices: Table<Address6, u32>,
    pub(super) node_silent: Cells<u32>,
    pub(super) peers: Cells<EdgePeer>,
    pub(super) wire: Cells<NextHop>,
    pub(super) personas: Cells<u32>,
    pub(super) policers: Cells<Policer>,
    pub(super) policed_rates: Cells<PolicedRates>,
    pub(super) persona_traffic: TrafficCells,
    pub(super) drops: DropCells,
}

impl EdgeMaps {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, DataplaneError> {
        Ok(Self {
            config: Cells::take(ebpf, "EDGE_CONFIG")?,
            addresses: Table::take(ebpf, "ADDRESSES")?,
            address_hints: Cells::take(ebpf, "ADDRESS_HINTS")?,
            networks: Table::take(ebpf, "NETWORKS")?,
            own_filter: Cells::take(ebpf, "OWN_FILTER")?,
            blocks: Cells::take(ebpf, "BLOCKS")?,
            nodes: Cells::take(ebpf, "NODES")?,
            node_indices: Table::take(ebpf, "NODE_INDICES")?,
            node_silent: Cells::take(ebpf, "NODE_SILENT")?,
            peers: Cells::take(ebpf, "PEERS")?,
            wire: Cells::take(ebpf, "WIRE")?,
            personas: Cells::take(ebpf, "PERSONAS")?,
            policers: Cells::take(ebpf, "POLICERS")?,
            policed_rates: Cells::take(ebpf, "POLICED_RATES")?,
            persona_traffic: TrafficCells::take(ebpf, "PERSONA_TRAFFIC")?,
            drops: DropCells::take(ebpf)?,
        })
    }
}

/// What user space remembers of the maps' contents.
pub(super) struct EdgeIndex {
    /// Underlay address of a node → index.
    pub(super) nodes: Indices<Address6>,
    /// Number of a peer → index.
    pub(super) peers: Indices<u32>,
    /// VNI → index.
    pub(super) personas: Indices<u32>,
    /// Number of a subject that is policed → index; 0 is nobody's.
    pub(super) policers: Indices<u32>,
    /// What such subjects are held to → index; 0 is nobody's.
    pub(super) policed_rates: Indices<PolicedRates>,
    /// Egress address or network → its cells.
    pub(super) spaces: BTreeMap<Space, Run>,
    /// Cell of `ADDRESS_HINTS` → what it holds, where that isn't nothing.
    pub(super) hints: BTreeMap<u32, u64>,
    /// Cell of `BLOCKS` → what it holds, where that isn't nothing.
    pub(super) blocks: BTreeMap<u32, EdgeBlock>,
    /// Runs of `BLOCKS` in use.
    pub(super) block_runs: Runs,
}

impl EdgeIndex {
    /// Reads it back from the maps.
    pub(super) fn recover(maps: &EdgeMaps) -> Result<Self, DataplaneError> {
        let nodes = maps.nodes.used(|node| node.address != [0; 4])?;
        let peers = maps.peers.used(|peer| peer.number != 0)?;
        let personas = maps.personas.used(|vni| *vni != 0)?;
        let policers = maps.policers.used(|policer| policer.rates_index != 0)?;
        let policed_rates = maps.policed_rates.used(|rates| *rates != PolicedRates::default())?;
        let addresses = maps.addresses.entries()?.into_iter().map(|(key, value)| Run::of_address(key, &value));
        let networks = maps.networks.entries()?.into_iter().map(|(key, value)| Run::of_network(key, &value));
        let spaces = addresses.chain(networks).collect::<BTreeMap<_, _>>();
        let hints = maps.address_hints.used(|hint| *hint != 0)?.into_iter().collect();
        let mut block_runs = Runs::default();
        let mut blocks = BTreeMap::new();
        for run in spaces.values() {
            block_runs.reserve(run.base, run.shape.count());
            for cell in run.cells() {
                let block = maps.blocks.get(cell)?;
                if block.node_index().is_some() {
                    blocks.insert(cell, block);
                }
            }
        }
        Ok(Self {
            nodes: Indices::new(0, NODE_COUNT_MAX, nodes.iter().map(|(index, node)| (node.address, *index))),
            peers: Indices::new(0, PEER_COUNT_MAX, peers.iter().map(|(index, peer)| (peer.number, *index))),
            personas: Indices::new(0, PERSONA_COUNT_MAX, personas.iter().map(|(index, vni)| (*vni, *index))),
            policers: Indices::new(1, POLICER_COUNT_MAX, policers.iter().map(|(index, it)| (it.subject, *index))),
            policed_rates: Indices::new(
                1,
                POLICED_RATE_COUNT_MAX,
                policed_rates.iter().map(|(index, it)| (*it, *index)),
            ),
            spaces,
            hints,
            blocks,
            block_runs,
        })
    }
}
