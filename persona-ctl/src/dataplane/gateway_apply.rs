//! Tables into maps: what packets are led to is written before what leads them there, and taken away after it.

use std::collections::{BTreeMap, BTreeSet};

use persona_common::addr::Address6;
use persona_common::gateway::*;
use persona_core::gateway::rows::{self, Candidate};

use super::error::DataplaneError;
use super::gateway::GatewayDataplane;
use super::gateway_maps::{InstanceKey, endpoint, instance_cell, instance_key, number_of, state_bits};
use super::gateway_tables::{DeliveryEntry, GatewayTables, InstanceEntry, ServiceEntry, ServiceKey};
use super::maps::{address_be, address6};

impl GatewayDataplane {
    pub(super) fn apply_validated(&mut self, tables: &GatewayTables) -> Result<(), DataplaneError> {
        self.put_config(tables)?;
        for entry in &tables.devices {
            let device = GatewayDevice { mac: entry.mac, reserved: 0, mtu: entry.mtu };
            self.maps.devices.put(entry.ifindex, device)?;
        }
        for service in &tables.services {
            self.put_service(service)?;
        }
        self.put_vips(tables)?;
        self.remove_services(tables)?;
        self.remove_instances(tables)?;
        self.remove_endpoints(tables)?;
        self.remove_devices(tables)
    }

    fn put_config(&mut self, tables: &GatewayTables) -> Result<(), DataplaneError> {
        let underlay4 = tables.underlay4.map_or([0; 4], |address| persona_common::addr::mapped(address_be(address)));
        let underlay6 = tables.underlay6.map_or([0; 4], |address| address6(address.into()));
        let config = self.maps.config.get(0)?;
        self.maps.config.put(0, GatewayConfig { underlay4, underlay6, ..config })
    }

    fn put_service(&mut self, entry: &ServiceEntry) -> Result<(), DataplaneError> {
        let full = || DataplaneError::Invalid(format!("more than {SERVICE_COUNT_MAX} services"));
        let known = self.index.services.get(&entry.key);
        let index = known.or_else(|| self.index.services.give(entry.key)).ok_or_else(full)?;
        if known.is_none() {
            self.maps.service_traffic.clear(index)?;
        }
        let mut numbers = Vec::with_capacity(entry.instances.len());
        for instance in &entry.instances {
            numbers.push(self.put_instance(entry.key, index, instance)? as u16 + 1);
        }
        let candidates = entry.instances.iter().zip(&numbers).map(|(instance, number)| Candidate {
            number: *number,
            name: &instance.name,
            weight: instance.weight,
            takes_new: instance.state.is_alive && !instance.state.is_draining,
        });
        let rows = rows::build(SERVICE_ROW_COUNT as usize, &candidates.collect::<Vec<_>>());
        let rows = rows.into_iter().map(|(first, second)| pack_row(first, second)).collect();
        let row_base = self.put_rows(index, known.is_none(), rows)?;
        let service = Service {
            address: address6(entry.key.address),
            port: entry.key.port,
            protocol: number_of(entry.key.protocol),
            flags: if entry.affinity.is_some() { SERVICE_HAS_CLIENT_AFFINITY } else { 0 },
            row_base,
            affinity_secs: entry.affinity.map_or(0, |affinity| affinity.as_secs() as u32),
        };
        self.maps.services.put(index, service)?;
        self.maps.service_indices.put(endpoint(entry.key.address, entry.key.port, entry.key.protocol), index)
    }

    /// Its cell, its state, and the endpoint that its replies are known by. Gives its index.
    fn put_instance(
        &mut self,
        service: ServiceKey,
        service_index: u32,
        entry: &InstanceEntry,
    ) -> Result<u32, DataplaneError> {
        let key = instance_key(service, &entry.name);
        let full = || DataplaneError::Invalid(format!("more than {INSTANCE_COUNT_MAX} instances"));
        let known = self.index.instances.get(&key);
        let index = known.or_else(|| self.index.instances.give(key)).ok_or_else(full)?;
        let before = self.maps.instances.get(index)?;
        let mut cell = instance_cell(entry, &key, service_index, before.sequence);
        if !is_same(&before, &cell) {
            // Flows of whoever was there before are not this one's.
            cell.sequence = before.sequence.wrapping_add(1);
            self.maps.states.put(index, 0)?;
            self.maps.instance_traffic.clear(index)?;
            self.maps.opened.clear(index)?;
        }
        self.maps.instances.put(index, cell)?;
        if entry.delivery == DeliveryEntry::Nat {
            self.maps.endpoints.put(endpoint(entry.address, entry.port, service.protocol), index)?;
        }
        self.maps.states.put(index, state_bits(entry.state))?;
        Ok(index)
    }

    /// Writes rows into the service's spare half, unless they are in force already; gives the half to be in force.
    fn put_rows(&mut self, index: u32, is_new: bool, rows: Vec<u32>) -> Result<u32, DataplaneError> {
        let halves = [index * 2 * SERVICE_ROW_COUNT, (index * 2 + 1) * SERVICE_ROW_COUNT];
        let in_force = self.maps.services.get(index)?.row_base;
        if !is_new && *self.rows_in_force(index, in_force)? == rows {
            return Ok(in_force);
        }
        let spare = if is_new || in_force != halves[0] { halves[0] } else { halves[1] };
        for (cell, row) in (spare..).zip(&rows) {
            self.maps.rows.set(cell, *row)?;
        }
        self.index.rows.insert(index, rows);
        Ok(spare)
    }

    /// The rows that packets see, read once after a restart.
    fn rows_in_force(&mut self, index: u32, row_base: u32) -> Result<&Vec<u32>, DataplaneError> {
        if !self.index.rows.contains_key(&index) {
            let cells = row_base..row_base + SERVICE_ROW_COUNT;
            let rows = cells.map(|cell| self.maps.rows.get(cell)).collect::<Result<_, _>>()?;
            self.index.rows.insert(index, rows);
        }
        Ok(&self.index.rows[&index])
    }

    fn put_vips(&mut self, tables: &GatewayTables) -> Result<(), DataplaneError> {
        let mut wanted: BTreeMap<Address6, u32> = BTreeMap::new();
        for service in &tables.services {
            *wanted.entry(address6(service.key.address)).or_default() |=
                if service.is_answered { VIP_IS_ANSWERED } else { 0 };
        }
        for (address, flags) in &wanted {
            self.maps.vips.put(*address, *flags)?;
        }
        for (address, _) in self.maps.vips.entries()? {
            if !wanted.contains_key(&address) {
                self.maps.vips.remove(&address)?;
            }
        }
        Ok(())
    }

    fn remove_services(&mut self, tables: &GatewayTables) -> Result<(), DataplaneError> {
        let wanted: BTreeSet<ServiceKey> = tables.services.iter().map(|service| service.key).collect();
        for key in self.index.services.surplus(|key| wanted.contains(key)) {
            self.maps.service_indices.remove(&endpoint(key.address, key.port, key.protocol))?;
            if let Some(index) = self.index.services.take_back(&key) {
                self.maps.services.put(index, Service::default())?;
                self.index.rows.remove(&index);
            }
        }
        Ok(())
    }

    fn remove_instances(&mut self, tables: &GatewayTables) -> Result<(), DataplaneError> {
        let keys = |service: &ServiceEntry| {
            let service_key = service.key;
            service.instances.iter().map(move |it| instance_key(service_key, &it.name)).collect::<Vec<InstanceKey>>()
        };
        let wanted: BTreeSet<InstanceKey> = tables.services.iter().flat_map(keys).collect();
        for key in self.index.instances.surplus(|key| wanted.contains(key)) {
            let Some(index) = self.index.instances.take_back(&key) else { continue };
            self.maps.states.put(index, 0)?;
            let sequence = self.maps.instances.get(index)?.sequence.wrapping_add(1);
            self.maps.instances.put(index, Instance { sequence, ..Instance::default() })?;
        }
        Ok(())
    }

    fn remove_endpoints(&mut self, tables: &GatewayTables) -> Result<(), DataplaneError> {
        let mut wanted = BTreeSet::new();
        for service in &tables.services {
            let translated = service.instances.iter().filter(|it| it.delivery == DeliveryEntry::Nat);
            wanted.extend(translated.map(|it| endpoint(it.address, it.port, service.key.protocol)));
        }
        for (endpoint, _) in self.maps.endpoints.entries()? {
            if !wanted.contains(&endpoint) {
                self.maps.endpoints.remove(&endpoint)?;
            }
        }
        Ok(())
    }

    fn remove_devices(&mut self, tables: &GatewayTables) -> Result<(), DataplaneError> {
        for (ifindex, _) in self.maps.devices.entries()? {
            if !tables.devices.iter().any(|device| device.ifindex == ifindex) {
                self.maps.devices.remove(&ifindex)?;
            }
        }
        Ok(())
    }
}

/// Whether a cell still stands for the same instance.
fn is_same(before: &Instance, now: &Instance) -> bool {
    let identity =
        |it: &Instance| (it.delivery, it.address, it.port, it.tunnel_id, it.node, it.name_hash, it.service_index);
    identity(before) == identity(now)
}
