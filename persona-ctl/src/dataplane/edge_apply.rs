//! Makes an edge's maps what its tables say.
//!
//! What is pointed at comes before what points at it, and goes after it: a packet in between finds the old or the new
//! state of each lease, never a row of somebody else.

use std::collections::{BTreeMap, BTreeSet};

use persona_common::addr::{AddressBe, mapped};
use persona_common::edge::{EdgeBlock, EdgeConfig, EdgeNode, EdgePeer, EgressNetwork, Leased};
use persona_common::node::EgressAddress;
use persona_core::wire::desired::LeaseSpace;

use super::edge::EdgeDataplane;
use super::edge_spaces::{self, Run, Shape, Space, subnet_of};
use super::edge_wire::relays_by_wire;
use super::error::DataplaneError;
use super::maps::{address_be, address6, next_hop};
use super::node_wire::wire_hop;
use super::tables::{EdgeLeaseEntry, EdgeTables};

impl EdgeDataplane {
    /// The tables are valid and fit.
    pub(super) fn apply_validated(&mut self, tables: &EdgeTables) -> Result<(), DataplaneError> {
        self.put_wire(tables)?;
        self.put_nodes(tables)?;
        self.put_peers(tables)?;
        self.put_facts(tables)?;
        self.put_policers(tables)?;
        let runs = self.reserve_runs(tables)?;
        let wanted = self.wanted_blocks(tables, &runs)?;
        for (cell, block) in &wanted {
            if self.index.blocks.get(cell) != Some(block) {
                self.maps.blocks.set(*cell, *block)?;
                self.index.blocks.insert(*cell, *block);
            }
        }
        self.put_spaces(&runs)?;
        self.remove_spaces(&runs)?;
        let surplus = self.index.blocks.keys().copied().filter(|cell| !wanted.contains_key(cell)).collect::<Vec<_>>();
        for cell in surplus {
            self.maps.blocks.set(cell, EdgeBlock::default())?;
            self.index.blocks.remove(&cell);
        }
        self.release_runs(runs);
        self.remove_policers(tables)?;
        self.remove_nodes(tables)?;
        self.remove_peers(tables)?;
        let config = EdgeConfig { generation: tables.generation.0, ..self.maps.config.get(0)? };
        self.maps.config.put(0, config)
    }

    fn put_facts(&mut self, tables: &EdgeTables) -> Result<(), DataplaneError> {
        let peer_count = self.index.peers.iter().map(|(_, index)| index + 1).max().unwrap_or(0);
        let config = EdgeConfig {
            number: tables.number.0.into(),
            underlay_address: tables.underlay_address.map_or([0; 4], address6),
            outside: tables.outside.as_ref().map(next_hop).unwrap_or_default(),
            outside6: tables.outside6.as_ref().map(next_hop).unwrap_or_default(),
            slow_ifindex: tables.slow_ifindex.unwrap_or(0),
            peer_count,
            mtu_min: tables.leases.iter().map(|lease| lease.mtu.into()).min().unwrap_or(0),
            ..self.maps.config.get(0)?
        };
        self.maps.config.put(0, config)
    }

    fn put_nodes(&mut self, tables: &EdgeTables) -> Result<(), DataplaneError> {
        for node in &tables.nodes {
            let address = address6(node.address);
            let index = match self.index.nodes.get(&address) {
                Some(index) => index,
                None => {
                    let index = self.index.nodes.give(address).ok_or_else(|| full("node"))?;
                    self.maps.node_silent.put(index, 0)?;
                    index
                }
            };
            self.maps.nodes.put(index, EdgeNode { address, next_hop: next_hop(&node.next_hop) })?;
            self.maps.node_indices.put(address, index)?;
        }
        Ok(())
    }

    fn put_peers(&mut self, tables: &EdgeTables) -> Result<(), DataplaneError> {
        for peer in &tables.peers {
            let number = peer.number.0.into();
            let index = match self.index.peers.get(&number) {
                Some(index) => index,
                None => self.index.peers.give(number).ok_or_else(|| full("peer"))?,
            };
            let next_hop = if relays_by_wire(tables) { wire_hop(&tables.wire) } else { next_hop(&peer.next_hop) };
            let value = EdgePeer { number, address: address6(peer.address), next_hop };
            self.maps.peers.put(index, value)?;
        }
        Ok(())
    }

    /// Where everything will be. Cells that are new are empty.
    fn reserve_runs(&mut self, tables: &EdgeTables) -> Result<BTreeMap<Space, Run>, DataplaneError> {
        let wanted = edge_spaces::shapes(tables);
        let runs = edge_spaces::plan(&self.index.spaces, &mut self.index.block_runs, &wanted)
            .map_err(DataplaneError::Invalid)?;
        for (space, run) in &runs {
            if self.index.spaces.get(space) != Some(run) {
                for cell in run.cells() {
                    self.maps.blocks.put(cell, EdgeBlock::default())?;
                }
            }
        }
        Ok(runs)
    }

    fn wanted_blocks(
        &mut self,
        tables: &EdgeTables,
        runs: &BTreeMap<Space, Run>,
    ) -> Result<BTreeMap<u32, EdgeBlock>, DataplaneError> {
        let mut wanted = BTreeMap::new();
        for lease in &tables.leases {
            let value = self.block_of(lease, tables.wire.is_encrypted(&lease.space))?;
            match &lease.space {
                LeaseSpace::Ports { address, blocks, .. } => {
                    let run = runs[&Space::Address(address_be(*address))];
                    wanted.extend(blocks.iter().map(|block| (run.cell((*block).into()), value)));
                }
                LeaseSpace::Prefix { prefix } => {
                    let (space, number) = subnet_of(*prefix);
                    wanted.insert(runs[&space].cell(number), value);
                }
            }
        }
        Ok(wanted)
    }

    fn block_of(&mut self, lease: &EdgeLeaseEntry, is_encrypted: bool) -> Result<EdgeBlock, DataplaneError> {
        let node_index = self.index.nodes.get(&address6(lease.node)).expect("validated, and nodes come first");
        let persona_index = match self.index.personas.get(&lease.vni.0) {
            Some(index) => index,
            None => {
                let index = self.index.personas.give(lease.vni.0).ok_or_else(|| full("persona"))?;
                self.maps.persona_traffic.clear(index)?;
                self.maps.personas.set(index, lease.vni.0)?;
                index
            }
        };
        let policer = lease.policed.and_then(|subject| self.index.policers.get(&subject.number.0));
        Ok(EdgeBlock::leased(Leased {
            node_index,
            persona_index,
            policer_index: policer.unwrap_or(0),
            is_encrypted,
            mtu: lease.mtu,
        }))
    }

    /// Points the programs at the runs; the filter lets the new ones through first.
    fn put_spaces(&mut self, runs: &BTreeMap<Space, Run>) -> Result<(), DataplaneError> {
        self.put_filter(&edge_spaces::filter(self.index.spaces.keys().chain(runs.keys())))?;
        for (space, run) in runs {
            match (space, run.shape) {
                (Space::Address(key), Shape::Ports { block_bits }) => {
                    self.maps.addresses.put(*key, EgressAddress { block_base: run.base, block_bits })?;
                }
                (Space::Network(key), Shape::Subnets { first, count }) => {
                    let value = EgressNetwork { block_base: run.base, first_subnet: first, subnet_count: count };
                    self.maps.networks.put(*key, value)?;
                }
                _ => unreachable!("an address has ports, a network has subnets"),
            }
        }
        self.put_hints(edge_spaces::hints(runs))
    }

    /// An address that goes loses its hint first, one that comes gets it last.
    fn put_hints(&mut self, wanted: BTreeMap<u32, u64>) -> Result<(), DataplaneError> {
        for cell in self.index.hints.keys().filter(|cell| !wanted.contains_key(cell)) {
            self.maps.address_hints.set(*cell, 0)?;
        }
        for (cell, hint) in &wanted {
            if self.index.hints.get(cell) != Some(hint) {
                self.maps.address_hints.set(*cell, *hint)?;
            }
        }
        self.index.hints = wanted;
        Ok(())
    }

    fn remove_spaces(&mut self, runs: &BTreeMap<Space, Run>) -> Result<(), DataplaneError> {
        for space in self.index.spaces.keys().filter(|space| !runs.contains_key(space)) {
            match space {
                Space::Address(key) => {
                    self.maps.addresses.remove(key)?;
                    self.disown(*key)?;
                }
                Space::Network(key) => self.maps.networks.remove(key)?,
            }
        }
        self.put_filter(&edge_spaces::filter(runs.keys()))
    }

    fn disown(&self, address: AddressBe) -> Result<(), DataplaneError> {
        self.owned.lock().expect("nobody panics while holding it").remove(&mapped(address))
    }

    fn put_filter(&mut self, cells: &[u64]) -> Result<(), DataplaneError> {
        for (index, cell) in (0..).zip(cells) {
            self.maps.own_filter.put(index, *cell)?;
        }
        Ok(())
    }

    /// Gives back the cells that nothing points at any more.
    fn release_runs(&mut self, runs: BTreeMap<Space, Run>) {
        for (space, run) in &self.index.spaces {
            if runs.get(space) != Some(run) {
                self.index.block_runs.take_back(run.base);
            }
        }
        self.index.spaces = runs;
    }

    fn remove_nodes(&mut self, tables: &EdgeTables) -> Result<(), DataplaneError> {
        let nodes = tables.nodes.iter().map(|node| address6(node.address)).collect::<BTreeSet<_>>();
        for address in self.index.nodes.surplus(|address| nodes.contains(address)) {
            if let Some(index) = self.index.nodes.take_back(&address) {
                self.maps.node_indices.remove(&address)?;
                self.maps.nodes.set(index, EdgeNode::default())?;
            }
        }
        Ok(())
    }

    fn remove_peers(&mut self, tables: &EdgeTables) -> Result<(), DataplaneError> {
        let peers = tables.peers.iter().map(|peer| u32::from(peer.number.0)).collect::<BTreeSet<_>>();
        for number in self.index.peers.surplus(|number| peers.contains(number)) {
            if let Some(index) = self.index.peers.take_back(&number) {
                self.maps.peers.set(index, EdgePeer::default())?;
            }
        }
        Ok(())
    }
}

fn full(what: &str) -> DataplaneError {
    DataplaneError::Invalid(format!("no room for another {what}"))
}
