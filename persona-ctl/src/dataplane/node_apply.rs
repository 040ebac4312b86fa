//! Writes the difference between tables and maps, in an order in which no packet sees half of a change: what others
//! point at comes first and goes last.

use std::collections::BTreeSet;

use persona_common::firewall::SubjectFirewall;
use persona_common::hint::{Sender, device_hint, device_hint_cell, hinted_sender};
use persona_common::maps::GROUP_COUNT_MAX;
use persona_common::node::{DEVICE_SHARED, Device, EdgeHop, NodeConfig, Subject, VLAN_PRESENT, VLAN_SERVICE};
use persona_core::ids::{EdgeNumber, Generation};

use super::error::DataplaneError;
use super::maps::{address_be, address6};
use super::node::NodeDataplane;
use super::node_firewall::{Firewalls, with_firewall};
use super::node_prefixes::{bypassed, managed, sources};
use super::node_room;
use super::node_rows::name_hash;
use super::node_subjects::subject_cell;
use super::node_wire::edges_by_wire;
use super::tables::{DeviceEntry, NodeTables, SubjectEntry, VlanProtocol, VlanTag};

pub(super) fn full(what: &str) -> DataplaneError {
    DataplaneError::Invalid(format!("no room for another {what}"))
}

impl NodeDataplane {
    pub(super) fn apply_validated(&mut self, tables: &NodeTables) -> Result<(), DataplaneError> {
        node_room::check(&self.index, tables, self.maps.slots.len()).map_err(DataplaneError::Invalid)?;
        let firewalls = Firewalls::of(tables)?;
        debug_assert!(tables.rows_by_name().len() <= GROUP_COUNT_MAX as usize);
        self.put_config(tables)?;
        self.put_wire(tables)?;
        self.put_edges(tables)?;
        for (name, rows) in tables.rows_by_name() {
            self.put_rows(&name, &rows)?;
        }
        for subject in &tables.subjects {
            self.give_subject_index(subject)?;
        }
        for lease in &tables.leases {
            self.put_lease(lease, tables)?;
        }
        self.maps.bypass.put_all(&bypassed(&self.index, tables))?;
        self.put_firewalls(&firewalls)?;
        for subject in &tables.subjects {
            let index = self.subject_index(subject);
            let worn = self.put_firewall_of(index, firewalls.key_of(subject.number))?;
            let cell = subject_cell(&self.index, subject, tables);
            self.maps.subjects.put(index, with_firewall(cell, worn))?;
        }
        self.maps.sources.put_all(&sources(&self.index, tables))?;
        self.maps.managed.put_all(&managed(tables))?;
        self.put_cgroups(tables)?;
        self.watch_host(!tables.cgroups.is_empty())?;
        self.put_devices(tables)?;
        self.remove_surplus(tables)?;
        self.retain_firewalls(&firewalls)
    }

    fn subject_index(&self, subject: &SubjectEntry) -> u32 {
        self.index.subjects.get(&subject.number.0).expect("subjects are given their indices first")
    }

    fn put_config(&mut self, tables: &NodeTables) -> Result<(), DataplaneError> {
        let config = NodeConfig {
            underlay_address: tables.underlay_address.map_or([0; 4], address6),
            slow_ifindex: tables.slow_ifindex.unwrap_or(0),
            ..self.maps.config.get(0)?
        };
        self.maps.config.put(0, config)
    }

    fn put_edges(&mut self, tables: &NodeTables) -> Result<(), DataplaneError> {
        for edge in &tables.edges {
            let hop =
                EdgeHop { address: address6(edge.address), next_hop: address6(edge.next_hop), ifindex: edge.ifindex };
            self.maps.edges.put(edge.number.0.into(), hop)?;
            self.maps.edge_addresses.put(hop.address, edge.number.0.into())?;
        }
        for (number, hop) in edges_by_wire(tables) {
            self.maps.edges.put(number, hop)?;
            self.wire_numbers.insert(number);
        }
        Ok(())
    }

    fn give_subject_index(&mut self, subject: &SubjectEntry) -> Result<(), DataplaneError> {
        if self.index.subjects.get(&subject.number.0).is_none() {
            let index = self.index.subjects.give(subject.number.0).ok_or_else(|| full("subject"))?;
            self.maps.subject_traffic.clear(index)?;
            self.maps.subject_counts.clear(index)?;
            self.maps.subject_firewalls.set(index, SubjectFirewall::default())?;
            let cell = Subject {
                number: subject.number.0,
                flags: persona_common::node::SUBJECT_PRESENT,
                ..Subject::default()
            };
            self.maps.subjects.set(index, cell)?;
        }
        Ok(())
    }

    fn put_cgroups(&mut self, tables: &NodeTables) -> Result<(), DataplaneError> {
        for cgroup in &tables.cgroups {
            let subject_index = self.index.subjects.get(&cgroup.subject.0).expect("validated");
            self.maps.cgroups.put(cgroup.id, subject_index)?;
        }
        Ok(())
    }

    fn put_devices(&mut self, tables: &NodeTables) -> Result<(), DataplaneError> {
        for device in &tables.devices {
            let known = self.maps.devices.get(&device.ifindex)?;
            let cell = self.device_cell(device);
            self.maps.devices.put(device.ifindex, cell)?;
            self.put_device_hint(device.ifindex, &cell)?;
            if known.is_none()
                && let Err(error) = self.attach_device(device.ifindex)
            {
                self.maps.devices.remove(&device.ifindex)?;
                return Err(error);
            }
        }
        Ok(())
    }

    /// Programs need not ask the table for a device whose packets are all of one subject and one source. Of two devices that
    /// share a cell one has it.
    fn put_device_hint(&mut self, ifindex: u32, device: &Device) -> Result<(), DataplaneError> {
        let is_simple = device.flags & DEVICE_SHARED == 0 && device.vlan == 0;
        let sender = Sender::of(device);
        if is_simple && sender.address != 0 {
            return self.maps.device_hints.put(device_hint_cell(ifindex), device_hint(ifindex, sender));
        }
        self.clear_device_hint(ifindex)
    }

    /// Takes a device's hint back, if it has one.
    pub(super) fn clear_device_hint(&mut self, ifindex: u32) -> Result<(), DataplaneError> {
        let cell = device_hint_cell(ifindex);
        if hinted_sender(self.maps.device_hints.get(cell)?, ifindex).is_some() {
            self.maps.device_hints.set(cell, 0)?;
        }
        Ok(())
    }

    fn device_cell(&self, device: &DeviceEntry) -> Device {
        let subject = device.subject.map(|number| self.index.subjects.get(&number.0).expect("validated"));
        let (prefix, length) = device.prefix6.map_or(([0; 4], 0), |(prefix, length)| (address6(prefix.into()), length));
        let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
        let mask = persona_common::addr::address6(mask.to_be_bytes());
        Device {
            subject_index: subject.unwrap_or(0),
            address: device.address.map_or(0, address_be),
            flags: if subject.is_none() { DEVICE_SHARED } else { 0 },
            vlan: vlan_cell(device.vlan),
            prefix: std::array::from_fn(|word| prefix[word] & mask[word]),
            prefix_mask: mask,
            has_prefix: device.prefix6.is_some().into(),
        }
    }

    fn remove_surplus(&mut self, tables: &NodeTables) -> Result<(), DataplaneError> {
        let devices = tables.devices.iter().map(|device| device.ifindex).collect::<BTreeSet<_>>();
        for (ifindex, _) in self.maps.devices.entries()? {
            if !devices.contains(&ifindex) {
                self.forget_device(ifindex)?;
            }
        }
        let cgroups = tables.cgroups.iter().map(|cgroup| cgroup.id).collect::<BTreeSet<_>>();
        for (id, _) in self.maps.cgroups.entries()? {
            if !cgroups.contains(&id) {
                self.maps.cgroups.remove(&id)?;
            }
        }
        self.maps.sources.retain(&sources(&self.index, tables))?;
        self.maps.bypass.retain(&bypassed(&self.index, tables))?;
        self.maps.managed.retain(&managed(tables))?;
        let subjects = tables.subjects.iter().map(|subject| subject.number.0).collect::<BTreeSet<_>>();
        for number in self.index.subjects.surplus(|number| subjects.contains(number)) {
            if let Some(index) = self.index.subjects.take_back(&number) {
                self.maps.subjects.set(index, Subject::default())?;
            }
        }
        self.remove_leases(tables)?;
        let groups: BTreeSet<u64> = tables.rows_by_name().keys().map(|name| name_hash(name)).collect();
        for key in self.index.groups.surplus(|key| groups.contains(key)) {
            self.remove_group(key)?;
        }
        self.remove_edges(tables)
    }

    fn remove_edges(&mut self, tables: &NodeTables) -> Result<(), DataplaneError> {
        let addresses = tables.edges.iter().map(|edge| address6(edge.address)).collect::<BTreeSet<_>>();
        let numbers = tables.edges.iter().map(|edge| u32::from(edge.number.0)).collect::<BTreeSet<_>>();
        for (address, number) in self.maps.edge_addresses.entries()? {
            if !addresses.contains(&address) {
                self.maps.edge_addresses.remove(&address)?;
            }
            if !numbers.contains(&number) {
                self.forget_edge(number)?;
            }
        }
        let by_wire = edges_by_wire(tables).into_iter().map(|(number, _)| number).collect::<BTreeSet<_>>();
        let surplus = self.wire_numbers.difference(&by_wire).filter(|number| !numbers.contains(number));
        for number in surplus.copied().collect::<Vec<_>>() {
            self.forget_edge(number)?;
        }
        self.wire_numbers = by_wire;
        Ok(())
    }

    fn forget_edge(&mut self, number: u32) -> Result<(), DataplaneError> {
        self.set_edge_liveness(EdgeNumber(number as u16), false, Generation::default())?;
        self.maps.edges.set(number, EdgeHop::default())
    }
}

/// A tag as device and subject cells hold it.
pub(super) fn vlan_cell(vlan: Option<VlanTag>) -> u32 {
    vlan.map_or(0, |tag| {
        let kind = if tag.protocol == VlanProtocol::Service { VLAN_SERVICE } else { 0 };
        VLAN_PRESENT | kind | u32::from(tag.id)
    })
}
