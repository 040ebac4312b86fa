//! Leases in the maps: their cells, the blocks and slots of IPv4 ones, the prefixes of IPv6 ones.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

use persona_common::encapsulation::VNI_MASK;
use persona_common::flow::Slot;
use persona_common::maps::BLOCK_COUNT_MAX;
use persona_common::node::{
    EgressAddress, LEASE_HAS_INNER_PREFIX, LEASE_IS_CONFIGURED, LEASE_IS_PREFIX, LEASE_IS_WHOLE, Lease, LeaseBlock,
    NodeBlock,
};
use persona_common::translation::adjustment;
use persona_core::wire::desired::WHOLE_ADDRESS_BITS;

use super::error::DataplaneError;
use super::maps::{address_be, address6};
use super::node::NodeDataplane;
use super::node_apply::full;
use super::node_maps::slots_per_block;
use super::node_rows::name_hash;
use super::node_subjects::inner_prefix;
use super::node_wire::vni_cell;
use super::tables::{LeaseEntry, LeaseSpace, NodeTables};

/// A leased /64 as maps hold it.
pub(super) fn prefix_words(prefix: Ipv6Addr) -> [u32; 2] {
    let [high, low, ..] = address6(prefix.into());
    [high, low]
}

impl NodeDataplane {
    /// Makes a lease's cell and whatever leads to it what the entry says.
    pub(super) fn put_lease(&mut self, entry: &LeaseEntry, tables: &NodeTables) -> Result<(), DataplaneError> {
        let known = self.index.lease_cells.get(&entry.id.0).copied();
        let index = match self.index.leases.get(&entry.id.0) {
            Some(index) => index,
            None => self.index.leases.give(entry.id.0).ok_or_else(|| full("lease"))?,
        };
        let cell = self.lease_cell(entry, tables, known)?;
        if known == Some(cell) {
            return Ok(());
        }
        if known.is_none() {
            for protocol in 0..3 {
                self.maps.cursors.set(index * 3 + protocol, 0)?;
            }
        }
        self.maps.leases.set(index, cell)?;
        self.lead_to_lease(entry, index, &cell)?;
        self.index.lease_cells.insert(entry.id.0, cell);
        if let Some(known) = known {
            self.release_blocks(&known, &slot_bases(&cell))?;
        }
        Ok(())
    }

    fn lease_cell(
        &mut self,
        entry: &LeaseEntry,
        tables: &NodeTables,
        known: Option<Lease>,
    ) -> Result<Lease, DataplaneError> {
        let mut cell = Lease {
            id: entry.id.0,
            generation: entry.generation.0,
            subject_index: self.index.subjects.get(&entry.subject.0).expect("subjects come first"),
            vni: vni_cell(entry.vni.0, tables.wire.is_encrypted(&entry.space)),
            persona_index: self.give_persona_index(entry.vni.0)?,
            group_index: self.index.groups.get(&name_hash(&tables.rows_of(entry))).expect("tables of edges come first"),
            mtu: entry.mtu.into(),
            flags: if entry.configured { LEASE_IS_CONFIGURED } else { 0 },
            ..Lease::default()
        };
        match &entry.space {
            LeaseSpace::Ports { address, block_bits, blocks } => {
                cell.address = address_be(*address);
                cell.block_bits = (*block_bits).into();
                if *block_bits == WHOLE_ADDRESS_BITS {
                    cell.flags |= LEASE_IS_WHOLE;
                }
                if !entry.configured {
                    self.fill_blocks(&mut cell, blocks, known)?;
                }
            }
            LeaseSpace::Prefix { prefix } => {
                cell.flags |= LEASE_IS_PREFIX | LEASE_IS_WHOLE;
                cell.prefix = prefix_words(*prefix);
                if let Some(inner) = inner_prefix(tables, entry.subject) {
                    cell.flags |= LEASE_HAS_INNER_PREFIX;
                    cell.inner_prefix = prefix_words(inner);
                    cell.adjustment = adjustment(cell.inner_prefix, cell.prefix).into();
                }
            }
        }
        Ok(cell)
    }

    fn fill_blocks(&mut self, cell: &mut Lease, blocks: &[u16], known: Option<Lease>) -> Result<(), DataplaneError> {
        let bases = known.map(|lease| slot_bases(&lease)).unwrap_or_default();
        for (at, block) in blocks.iter().enumerate() {
            let first_port = u32::from(*block) << cell.block_bits;
            let slot_base = match bases.get(&first_port) {
                Some(base) => *base,
                None => self.give_slots(cell.block_bits)?,
            };
            cell.blocks[at] = LeaseBlock { first_port, slot_base };
        }
        cell.block_count = blocks.len() as u32;
        Ok(())
    }

    /// The way from an egress address or prefix to its lease.
    fn lead_to_lease(&mut self, entry: &LeaseEntry, index: u32, cell: &Lease) -> Result<(), DataplaneError> {
        match &entry.space {
            LeaseSpace::Prefix { prefix } => self.maps.prefixes.put(prefix_words(*prefix), index),
            LeaseSpace::Ports { address, block_bits, blocks } => {
                let address = self.put_address(*address, *block_bits)?;
                for (at, block) in blocks.iter().enumerate() {
                    let slot_base = cell.blocks[at].slot_base;
                    let value = NodeBlock { lease_index_plus_one: index + 1, slot_base };
                    self.maps.blocks.put(address.block_base + u32::from(*block), value)?;
                }
                Ok(())
            }
        }
    }

    fn give_persona_index(&mut self, vni: u32) -> Result<u32, DataplaneError> {
        if let Some(index) = self.index.personas.get(&vni) {
            return Ok(index);
        }
        let index = self.index.personas.give(vni).ok_or_else(|| full("persona"))?;
        self.maps.persona_traffic.clear(index)?;
        self.maps.personas.set(index, vni)?;
        Ok(index)
    }

    fn put_address(&mut self, address: Ipv4Addr, block_bits: u8) -> Result<EgressAddress, DataplaneError> {
        let key = address_be(address);
        if let Some(address) = self.index.addresses.get(&key) {
            return Ok(*address);
        }
        let block_bits = u32::from(block_bits);
        let block_base =
            self.index.block_runs.give(65_536 >> block_bits, BLOCK_COUNT_MAX).ok_or_else(|| full("egress address"))?;
        let address = EgressAddress { block_base, block_bits };
        self.maps.addresses.put(key, address)?;
        self.index.addresses.insert(key, address);
        Ok(address)
    }

    /// Free slots for a block, emptied so that nothing that points at their past finds them.
    fn give_slots(&mut self, block_bits: u32) -> Result<u32, DataplaneError> {
        let count = slots_per_block(block_bits);
        let base = self.index.slot_runs.give(count, self.maps.slots.len()).ok_or_else(|| full("port block"))?;
        for index in base..base + count {
            let slot = self.maps.slots.get(index)?;
            if slot.sequence != 0 || slot.last_seen_secs != 0 {
                let emptied = Slot { sequence: slot.sequence.wrapping_add(1), ..Slot::default() };
                self.maps.slots.set(index, emptied)?;
            }
        }
        Ok(base)
    }

    /// Takes back the blocks of a lease's old cell that are not among `kept`.
    fn release_blocks(&mut self, lease: &Lease, kept: &BTreeMap<u32, u32>) -> Result<(), DataplaneError> {
        let address = self.index.addresses.get(&lease.address).copied();
        for block in &lease.blocks[..lease.block_count as usize] {
            if kept.contains_key(&block.first_port) {
                continue;
            }
            if let Some(address) = address {
                let cell = address.block_base + (block.first_port >> lease.block_bits);
                // Another lease may have got the block meanwhile.
                if self.maps.blocks.get(cell)?.slot_base == block.slot_base {
                    self.maps.blocks.set(cell, NodeBlock::default())?;
                }
            }
            self.index.slot_runs.take_back(block.slot_base);
        }
        Ok(())
    }

    /// Removes leases that the tables don't give any more.
    pub(super) fn remove_leases(&mut self, tables: &NodeTables) -> Result<(), DataplaneError> {
        let leases = tables.leases.iter().map(|lease| lease.id.0).collect::<BTreeSet<_>>();
        let surplus = self.index.leases.surplus(|id| leases.contains(id));
        self.cut(&surplus)?;
        for id in surplus {
            self.remove_lease(id)?;
        }
        self.remove_personas()?;
        self.remove_addresses()
    }

    /// Takes back the indices of personas that no lease is left of.
    fn remove_personas(&mut self) -> Result<(), DataplaneError> {
        let held = self.index.lease_cells.values().map(|lease| lease.vni & VNI_MASK).collect::<BTreeSet<_>>();
        for vni in self.index.personas.surplus(|vni| held.contains(vni)) {
            if let Some(index) = self.index.personas.take_back(&vni) {
                self.maps.personas.set(index, 0)?;
            }
        }
        Ok(())
    }

    fn remove_lease(&mut self, id: u64) -> Result<(), DataplaneError> {
        let Some(index) = self.index.leases.take_back(&id) else { return Ok(()) };
        if let Some(cell) = self.index.lease_cells.remove(&id) {
            self.release_blocks(&cell, &BTreeMap::new())?;
            self.release_whole(&cell, index)?;
        }
        self.maps.leases.set(index, Lease::default())
    }

    /// Takes away the way to a prefix or a whole address, unless another lease has got it meanwhile.
    fn release_whole(&mut self, lease: &Lease, index: u32) -> Result<(), DataplaneError> {
        if lease.flags & LEASE_IS_PREFIX != 0 {
            if self.maps.prefixes.get(&lease.prefix)? == Some(index) {
                self.maps.prefixes.remove(&lease.prefix)?;
            }
        } else if lease.is_configured()
            && let Some(address) = self.index.addresses.get(&lease.address)
            && self.maps.blocks.get(address.block_base)?.lease_index_plus_one == index + 1
        {
            self.maps.blocks.set(address.block_base, NodeBlock::default())?;
        }
        Ok(())
    }

    /// Forgets addresses that no lease is left of.
    fn remove_addresses(&mut self) -> Result<(), DataplaneError> {
        let held = self.index.lease_cells.values().map(|lease| lease.address).collect::<BTreeSet<_>>();
        let surplus = self.index.addresses.keys().copied().filter(|key| !held.contains(key)).collect::<Vec<_>>();
        for key in surplus {
            self.maps.addresses.remove(&key)?;
            if let Some(address) = self.index.addresses.remove(&key) {
                self.index.block_runs.take_back(address.block_base);
            }
        }
        Ok(())
    }
}

/// First port → first slot of a lease's blocks.
fn slot_bases(lease: &Lease) -> BTreeMap<u32, u32> {
    lease.blocks[..lease.block_count as usize].iter().map(|block| (block.first_port, block.slot_base)).collect()
}
