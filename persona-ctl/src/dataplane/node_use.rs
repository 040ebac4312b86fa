//! How full leases are, counted over the maps.

use std::collections::BTreeMap;

use persona_core::ids::LeaseId;
use persona_core::wire::agent::LeaseUse;

use super::error::DataplaneError;
use super::node::NodeDataplane;
use super::node_maps::slots_per_block;

impl NodeDataplane {
    /// Slots that live flows hold, and slots that there are, per lease; flows and no slots where a lease needs none. Walks all mappings: for every few
    /// seconds, not for every packet.
    pub fn lease_use(&self) -> Result<Vec<LeaseUse>, DataplaneError> {
        let now_secs = self.now_secs()?;
        let mut live = BTreeMap::<u32, u32>::new();
        let mappings = self.maps.mappings.lock().expect("nobody panics while holding it").entries()?;
        for (key, mapping) in mappings {
            let slot = self.maps.slots.get(mapping.slot_index)?;
            if slot.sequence == mapping.sequence && slot.is_live(now_secs) {
                *live.entry(key.lease_index).or_default() += 1;
            }
        }
        let shared = self.shared_ports(now_secs)?;
        let recorded = self.recorded_flows(now_secs)?;
        let all = self.index.leases.iter().filter_map(|(id, index)| {
            let cell = self.index.lease_cells.get(id)?;
            let flows = if cell.block_count > 0 { live.get(&index) } else { recorded.get(&(index, *id as u32)) };
            Some(LeaseUse {
                lease: LeaseId(*id),
                live_slot_count: flows.copied().unwrap_or(0),
                slot_count: cell.block_count * slots_per_block(cell.block_bits),
                shared_port_count: shared.get(&(index, *id as u32)).copied().unwrap_or(0),
            })
        });
        Ok(all.collect())
    }

    /// Flows without slots, by lease index and the low half of the lease's id.
    pub(super) fn recorded_flows(&self, now_secs: u32) -> Result<BTreeMap<(u32, u32), u32>, DataplaneError> {
        let mut counts = BTreeMap::new();
        let records = self.maps.records.lock().expect("nobody panics while holding it").entries()?;
        for (key, record) in records {
            if !key.is_of_any_remote() && record.is_live(key.protocol, now_secs) {
                *counts.entry((record.lease_index, record.lease_id_low)).or_default() += 1;
            }
        }
        Ok(counts)
    }

    /// Flows under a port that another flow owns, by lease index and the low half of the lease's id.
    pub(super) fn shared_ports(&self, now_secs: u32) -> Result<BTreeMap<(u32, u32), u32>, DataplaneError> {
        let mut counts = BTreeMap::new();
        for (_, flow) in self.maps.shared.lock().expect("nobody panics while holding it").entries()? {
            if flow.is_live(now_secs) {
                *counts.entry((flow.lease_index, flow.lease_id_low)).or_default() += 1;
            }
        }
        Ok(counts)
    }
}
