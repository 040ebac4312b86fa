//! What a node's tables of flows still hold: the sweep that returns memory, and whether a lease has ended.
//!
//! Expiry is judged at use, by the programs. What is removed here was no longer believed anyway; a flow that comes back to
//! life between the look and the removal makes its entry anew.

use aya::Pod;
use persona_common::flow::FLOW_SHARED;
use persona_common::node::{LEASE_IS_CONFIGURED, LEASE_IS_PREFIX};
use persona_common::share::SharedKey;
use persona_core::ids::LeaseId;

use super::counters::SweepSummary;
use super::error::DataplaneError;
use super::maps::Table;
use super::node::NodeDataplane;
use super::node_maps::slots_per_block;

impl NodeDataplane {
    /// Whether no live flow is left under a lease. A lease that isn't in the maps is drained.
    pub fn drained(&self, lease: LeaseId) -> Result<bool, DataplaneError> {
        let Some(cell) = self.index.lease_cells.get(&lease.0) else { return Ok(true) };
        let now_secs = self.now_secs()?;
        for block in &cell.blocks[..cell.block_count as usize] {
            for slot in block.slot_base..block.slot_base + slots_per_block(cell.block_bits) {
                if self.maps.slots.get(slot)?.is_live(now_secs) {
                    return Ok(false);
                }
            }
        }
        if cell.flags & (LEASE_IS_PREFIX | LEASE_IS_CONFIGURED) != 0 {
            return Ok(self.live_record_count(lease, now_secs)? == 0);
        }
        let index = self.index.leases.get(&lease.0);
        let shared = self.shared_ports(now_secs)?;
        Ok(index.is_none_or(|index| !shared.contains_key(&(index, lease.0 as u32))))
    }

    /// The programs' clock.
    pub(super) fn now_secs(&self) -> Result<u32, DataplaneError> {
        Ok(super::sys::coarse_secs().wrapping_add(self.maps.config.get(0)?.clock_offset_secs))
    }

    /// Flows without slots that leave under a lease.
    pub(super) fn live_record_count(&self, lease: LeaseId, now_secs: u32) -> Result<usize, DataplaneError> {
        let Some(index) = self.index.leases.get(&lease.0) else { return Ok(0) };
        let records = self.maps.records.lock().expect("nobody panics while holding it").entries()?;
        let live = records.iter().filter(|(key, record)| {
            !key.is_of_any_remote()
                && record.lease_index == index
                && record.lease_id_low == lease.0 as u32
                && record.is_live(key.protocol, now_secs)
        });
        Ok(live.count())
    }

    /// Removes what has expired, or whose slot carries something else by now.
    pub fn sweep(&self) -> Result<SweepSummary, DataplaneError> {
        let now_secs = self.now_secs()?;
        let mut summary = SweepSummary::default();
        self.sweep_flows(now_secs, &mut summary)?;
        self.sweep_mappings(now_secs, &mut summary)?;
        self.sweep_records(now_secs, &mut summary)?;
        self.sweep_passing(now_secs)?;
        Ok(summary)
    }

    fn sweep_flows(&self, now_secs: u32, summary: &mut SweepSummary) -> Result<(), DataplaneError> {
        let maps = &self.maps;
        let mut flows = maps.flows.lock().expect("nobody panics while holding it");
        let mut shared = maps.shared.lock().expect("nobody panics while holding it");
        for (key, flow) in flows.entries()? {
            let is_live = if flow.flags & FLOW_SHARED != 0 {
                shared.get(&SharedKey::of(&key, &flow))?.is_some_and(|entry| entry.is_of(&key, &flow, now_secs))
            } else {
                let slot = maps.slots.get(flow.slot_index)?;
                slot.sequence == flow.sequence && slot.is_live(now_secs) && !flow.is_silent(key.protocol, now_secs)
            };
            if is_live {
                summary.live_flow_count += 1;
            } else {
                flows.remove(&key)?;
                summary.removed_flow_count += 1;
            }
        }
        for (key, entry) in shared.entries()? {
            if !entry.is_live(now_secs) {
                shared.remove(&key)?;
                summary.removed_mapping_count += 1;
            }
        }
        Ok(())
    }

    fn sweep_mappings(&self, now_secs: u32, summary: &mut SweepSummary) -> Result<(), DataplaneError> {
        let mut mappings = self.maps.mappings.lock().expect("nobody panics while holding it");
        for (key, mapping) in mappings.entries()? {
            let slot = self.maps.slots.get(mapping.slot_index)?;
            if slot.sequence != mapping.sequence || !slot.is_live(now_secs) {
                mappings.remove(&key)?;
                summary.removed_mapping_count += 1;
            }
        }
        Ok(())
    }

    fn sweep_records(&self, now_secs: u32, summary: &mut SweepSummary) -> Result<(), DataplaneError> {
        let mut records = self.maps.records.lock().expect("nobody panics while holding it");
        for (key, record) in records.entries()? {
            if record.is_live(key.protocol, now_secs) {
                summary.live_flow_count += usize::from(!key.is_of_any_remote());
            } else {
                records.remove(&key)?;
                summary.removed_flow_count += 1;
            }
        }
        Ok(())
    }

    /// Fragments, connections towards workloads and notes of strangers: nobody counts them.
    fn sweep_passing(&self, now_secs: u32) -> Result<(), DataplaneError> {
        let mut passing = self.maps.passing.lock().expect("nobody panics while holding it");
        retain(&mut passing.fragments, |_, value| value.is_fresh(now_secs))?;
        retain(&mut passing.towards, |key, record| record.is_live(key.protocol, now_secs))?;
        retain(&mut passing.openings, |key, record| record.is_live(key.protocol, now_secs))
    }
}

fn retain<K: Pod, V: Pod + PartialEq>(
    table: &mut Table<K, V>,
    keep: impl Fn(&K, &V) -> bool,
) -> Result<(), DataplaneError> {
    for (key, value) in table.entries()? {
        if !keep(&key, &value) {
            table.remove(&key)?;
        }
    }
    Ok(())
}
