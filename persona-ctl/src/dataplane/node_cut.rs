//! Flows that are cut: those that still live under a lease when the node is told to forget it.
//!
//! Nothing that points at their slots is believed any more from then on, whoever gets slots and index next. Flows under
//! shared ports and flows without slots need nothing: their entries name the lease's id.

use std::collections::HashMap;

use persona_common::flow::{FLOW_SHARED, Slot};
use persona_core::ids::{LeaseId, SubjectNumber};

use super::error::DataplaneError;
use super::node::NodeDataplane;
use super::node_maps::slots_per_block;

/// Flows that a lease took with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CutLease {
    /// Which lease.
    pub lease: LeaseId,
    /// Whose flows.
    pub subject: SubjectNumber,
    /// How many they were.
    pub flow_count: u32,
}

/// Slots that carry something: index → the slot, and the lease that it belongs to.
type LiveSlots = HashMap<u32, (Slot, u64)>;

impl NodeDataplane {
    /// What was cut since this was last asked.
    pub fn take_cut(&mut self) -> Vec<CutLease> {
        std::mem::take(&mut self.cut)
    }

    /// Ends what lives under leases that are about to be forgotten, and notes how many flows that were.
    pub(super) fn cut(&mut self, leases: &[u64]) -> Result<(), DataplaneError> {
        if leases.is_empty() {
            return Ok(());
        }
        let now_secs = self.now_secs()?;
        let live = self.live_slots(leases, now_secs)?;
        let mut counts = self.slot_flows(&live, now_secs)?;
        self.add_other_flows(leases, now_secs, &mut counts)?;
        for (index, (slot, _)) in live {
            let emptied = Slot { sequence: slot.sequence.wrapping_add(1), ..Slot::default() };
            self.maps.slots.set(index, emptied)?;
        }
        for (lease, flow_count) in counts {
            let Some(cell) = self.index.lease_cells.get(&lease) else { continue };
            let subject = SubjectNumber(self.maps.subjects.get(cell.subject_index)?.number);
            self.cut.push(CutLease { lease: LeaseId(lease), subject, flow_count });
        }
        Ok(())
    }

    fn live_slots(&self, leases: &[u64], now_secs: u32) -> Result<LiveSlots, DataplaneError> {
        let mut live = LiveSlots::new();
        for lease in leases {
            let Some(cell) = self.index.lease_cells.get(lease) else { continue };
            for block in &cell.blocks[..cell.block_count as usize] {
                for index in block.slot_base..block.slot_base + slots_per_block(cell.block_bits) {
                    let slot = self.maps.slots.get(index)?;
                    if slot.is_live(now_secs) {
                        live.insert(index, (slot, *lease));
                    }
                }
            }
        }
        Ok(live)
    }

    /// Flows that have one of these slots, per lease.
    fn slot_flows(&self, live: &LiveSlots, now_secs: u32) -> Result<HashMap<u64, u32>, DataplaneError> {
        let mut counts = HashMap::new();
        if live.is_empty() {
            return Ok(counts);
        }
        for (key, flow) in self.maps.flows.lock().expect("nobody panics while holding it").entries()? {
            let Some((slot, lease)) = live.get(&flow.slot_index) else { continue };
            let is_own = flow.flags & FLOW_SHARED == 0 && flow.sequence == slot.sequence;
            if is_own && !flow.is_silent(key.protocol, now_secs) {
                *counts.entry(*lease).or_default() += 1;
            }
        }
        Ok(counts)
    }

    /// Flows under shared ports, and those without slots.
    fn add_other_flows(
        &self,
        leases: &[u64],
        now_secs: u32,
        counts: &mut HashMap<u64, u32>,
    ) -> Result<(), DataplaneError> {
        let (shared, recorded) = (self.shared_ports(now_secs)?, self.recorded_flows(now_secs)?);
        for lease in leases {
            let Some(index) = self.index.leases.get(lease) else { continue };
            let key = (index, *lease as u32);
            let flow_count = [&shared, &recorded].iter().filter_map(|flows| flows.get(&key)).sum::<u32>();
            if flow_count > 0 {
                *counts.entry(*lease).or_default() += flow_count;
            }
        }
        Ok(())
    }
}
