//! Writes the difference between tables and maps, in an order in which no packet sees half of a change: what others
//! point at comes first and goes last.

use std::collections::{BTreeMap, BTreeSet};

use persona_common::flow::Slot;
use persona_common::maps::BLOCK_COUNT_MAX;
use persona_common::node::{
    Device, EdgeHop, EgressAddress, Lease, LeaseBlock, NodeBlock, NodeConfig, SUBJECT_HAS_NETWORK, SUBJECT_ICMP,
    SUBJECT_PRESENT, SUBJECT_SETS_DSCP, SUBJECT_TCP, SUBJECT_UDP, Subject,
};
use persona_core::ids::{EdgeNumber, Generation};

use super::error::DataplaneError;
use super::maps::address_be;
use super::node::NodeDataplane;
use super::node_maps::slots_per_block;
use super::node_room;
use super::node_rows::name_hash;
use super::tables::{LeaseEntry, NodeTables, SubjectEntry};

fn full(what: &str) -> DataplaneError {
    DataplaneError::Invalid(format!("no room for another {what}"))
}

impl NodeDataplane {
    pub(super) fn apply_validated(&mut self, tables: &NodeTables) -> Result<(), DataplaneError> {
        node_room::check(&self.index, tables, self.maps.slots.len()).map_err(DataplaneError::Invalid)?;
        self.put_config(tables)?;
        self.put_edges(tables)?;
        for table in &tables.groups {
            self.put_group(table)?;
        }
        self.maps.bypass.replace(&tables.bypass)?;
        for subject in &tables.subjects {
            self.give_subject_index(subject)?;
        }
        for lease in &tables.leases {
            self.put_lease(lease)?;
        }
        for subject in &tables.subjects {
            self.put_subject(subject, tables)?;
        }
        self.maps.managed.replace(&tables.managed)?;
        self.put_devices(tables)?;
        self.remove_surplus(tables)
    }

    fn put_config(&mut self, tables: &NodeTables) -> Result<(), DataplaneError> {
        let underlay_address = tables.underlay_address.map_or(0, address_be);
        let config = NodeConfig { underlay_address, ..self.maps.config.get(0)? };
        self.maps.config.put(0, config)
    }

    fn put_edges(&mut self, tables: &NodeTables) -> Result<(), DataplaneError> {
        for edge in &tables.edges {
            let hop = EdgeHop {
                address: address_be(edge.address),
                ifindex: edge.ifindex,
                next_hop: address_be(edge.next_hop),
            };
            self.maps.edges.put(edge.number.0.into(), hop)?;
            self.maps.edge_addresses.put(hop.address, edge.number.0.into())?;
        }
        Ok(())
    }

    fn give_subject_index(&mut self, subject: &SubjectEntry) -> Result<(), DataplaneError> {
        if self.index.subjects.get(&subject.number.0).is_none() {
            let index = self.index.subjects.give(subject.number.0).ok_or_else(|| full("subject"))?;
            self.maps.subject_traffic.clear(index)?;
            let cell = Subject { number: subject.number.0, flags: SUBJECT_PRESENT, ..Subject::default() };
            self.maps.subjects.set(index, cell)?;
        }
        Ok(())
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

    fn put_lease(&mut self, entry: &LeaseEntry) -> Result<(), DataplaneError> {
        let address = self.put_address(entry)?;
        let known = self.index.lease_cells.get(&entry.id.0).copied();
        let index = match self.index.leases.get(&entry.id.0) {
            Some(index) => index,
            None => self.index.leases.give(entry.id.0).ok_or_else(|| full("lease"))?,
        };
        let mut cell = Lease {
            id: entry.id.0,
            generation: entry.generation.0,
            address: address_be(entry.address),
            subject_index: self.index.subjects.get(&entry.subject.0).expect("subjects come first"),
            vni: entry.vni.0,
            persona_index: self.give_persona_index(entry.vni.0)?,
            group_index: self.index.groups.get(&name_hash(entry.group.as_str())).expect("groups come first"),
            mtu: entry.mtu.into(),
            block_bits: entry.block_bits.into(),
            block_count: entry.blocks.len() as u32,
            ..Lease::default()
        };
        let bases = known.map(|lease| slot_bases(&lease)).unwrap_or_default();
        for (at, block) in entry.blocks.iter().enumerate() {
            let first_port = u32::from(*block) << entry.block_bits;
            let slot_base = match bases.get(&first_port) {
                Some(base) => *base,
                None => self.give_slots(cell.block_bits)?,
            };
            cell.blocks[at] = LeaseBlock { first_port, slot_base };
        }
        if known == Some(cell) {
            return Ok(());
        }
        if known.is_none() {
            for protocol in 0..3 {
                self.maps.cursors.set(index * 3 + protocol, 0)?;
            }
        }
        self.maps.leases.set(index, cell)?;
        for (block, held) in entry.blocks.iter().zip(&cell.blocks) {
            let value = NodeBlock { lease_index_plus_one: index + 1, slot_base: held.slot_base };
            self.maps.blocks.put(address.block_base + u32::from(*block), value)?;
        }
        self.index.lease_cells.insert(entry.id.0, cell);
        if let Some(known) = known {
            self.release_blocks(&known, &slot_bases(&cell))?;
        }
        Ok(())
    }

    fn put_address(&mut self, entry: &LeaseEntry) -> Result<EgressAddress, DataplaneError> {
        let key = address_be(entry.address);
        if let Some(address) = self.index.addresses.get(&key) {
            return Ok(*address);
        }
        let block_bits = u32::from(entry.block_bits);
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

    fn put_subject(&mut self, subject: &SubjectEntry, tables: &NodeTables) -> Result<(), DataplaneError> {
        let index = self.index.subjects.get(&subject.number.0).expect("given above");
        let device = tables.devices.iter().find(|device| device.subject == subject.number);
        let mut cell = Subject {
            number: subject.number.0,
            flags: SUBJECT_PRESENT,
            ifindex: device.map_or(0, |device| device.ifindex),
            ..Subject::default()
        };
        if let Some(network) = &subject.network {
            let lease_index = self.index.leases.get(&network.lease.0).expect("leases come first");
            cell.lease_index_plus_one = lease_index + 1;
            cell.egress_class = network.egress_class;
            cell.dscp = network.dscp.unwrap_or(0).into();
            cell.flags |= SUBJECT_HAS_NETWORK;
            for (is_set, bit) in [
                (network.allow.tcp, SUBJECT_TCP),
                (network.allow.udp, SUBJECT_UDP),
                (network.allow.icmp, SUBJECT_ICMP),
                (network.dscp.is_some(), SUBJECT_SETS_DSCP),
            ] {
                cell.flags |= if is_set { bit } else { 0 };
            }
        }
        self.maps.subjects.put(index, cell)
    }

    fn put_devices(&mut self, tables: &NodeTables) -> Result<(), DataplaneError> {
        for device in &tables.devices {
            let subject_index = self.index.subjects.get(&device.subject.0).expect("given above");
            let cell = Device { subject_index, address: address_be(device.address) };
            let known = self.maps.devices.get(&device.ifindex)?;
            self.maps.devices.put(device.ifindex, cell)?;
            if known.is_none()
                && let Err(error) = self.attach_device(device.ifindex)
            {
                self.maps.devices.remove(&device.ifindex)?;
                return Err(error);
            }
        }
        Ok(())
    }

    fn remove_surplus(&mut self, tables: &NodeTables) -> Result<(), DataplaneError> {
        let devices = tables.devices.iter().map(|device| device.ifindex).collect::<BTreeSet<_>>();
        for (ifindex, _) in self.maps.devices.entries()? {
            if !devices.contains(&ifindex) {
                self.forget_device(ifindex)?;
            }
        }
        let subjects = tables.subjects.iter().map(|subject| subject.number.0).collect::<BTreeSet<_>>();
        for number in self.index.subjects.surplus(|number| subjects.contains(number)) {
            if let Some(index) = self.index.subjects.take_back(&number) {
                self.maps.subjects.set(index, Subject::default())?;
            }
        }
        let leases = tables.leases.iter().map(|lease| lease.id.0).collect::<BTreeSet<_>>();
        for id in self.index.leases.surplus(|id| leases.contains(id)) {
            self.remove_lease(id)?;
        }
        self.remove_addresses()?;
        let groups = tables.groups.iter().map(|group| name_hash(group.group.as_str())).collect::<BTreeSet<_>>();
        for key in self.index.groups.surplus(|key| groups.contains(key)) {
            self.remove_group(key)?;
        }
        self.remove_edges(tables)
    }

    fn remove_lease(&mut self, id: u64) -> Result<(), DataplaneError> {
        if let Some(cell) = self.index.lease_cells.remove(&id) {
            self.release_blocks(&cell, &BTreeMap::new())?;
        }
        if let Some(index) = self.index.leases.take_back(&id) {
            self.maps.leases.set(index, Lease::default())?;
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

    fn remove_edges(&mut self, tables: &NodeTables) -> Result<(), DataplaneError> {
        let addresses = tables.edges.iter().map(|edge| address_be(edge.address)).collect::<BTreeSet<_>>();
        let numbers = tables.edges.iter().map(|edge| u32::from(edge.number.0)).collect::<BTreeSet<_>>();
        for (address, number) in self.maps.edge_addresses.entries()? {
            if !addresses.contains(&address) {
                self.maps.edge_addresses.remove(&address)?;
            }
            if !numbers.contains(&number) {
                self.set_edge_liveness(EdgeNumber(number as u16), false, Generation::default())?;
                self.maps.edges.set(number, EdgeHop::default())?;
            }
        }
        Ok(())
    }
}

/// First port → first slot of a lease's blocks.
fn slot_bases(lease: &Lease) -> BTreeMap<u32, u32> {
    lease.blocks[..lease.block_count as usize].iter().map(|block| (block.first_port, block.slot_base)).collect()
}
