//! How many flows each instance of a gateway has: what somebody who drains one waits for.

use std::collections::BTreeMap;

use super::error::DataplaneError;
use super::gateway::GatewayDataplane;
use super::gateway_maps::{InstanceKey, instance_key, number_of};
use super::gateway_tables::ServiceKey;
use super::sys;

/// Flows in force, by instance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FlowCounts(BTreeMap<InstanceKey, usize>);

impl FlowCounts {
    /// Those of one instance.
    pub fn of(&self, service: ServiceKey, name: &str) -> usize {
        self.0.get(&instance_key(service, name)).copied().unwrap_or(0)
    }
}

impl GatewayDataplane {
    /// Counts flows in force that have not ended. Goes through the whole table: a fraction of a second when it is full.
    pub fn flow_counts(&self) -> Result<FlowCounts, DataplaneError> {
        let now_secs = sys::monotonic_now().as_secs() as u32 + 1 + self.maps.config.get(0)?.clock_offset_secs;
        let by_index: BTreeMap<u32, InstanceKey> =
            self.index.instances.iter().map(|(key, index)| (index, *key)).collect();
        let mut sequences = BTreeMap::new();
        for index in by_index.keys() {
            sequences.insert(*index, self.maps.instances.get(*index)?.sequence);
        }
        let mut counts = FlowCounts::default();
        for (_, flow) in self.maps.flows.entries()? {
            let Some(key) = by_index.get(&flow.instance_index) else { continue };
            let is_its = sequences.get(&flow.instance_index) == Some(&flow.sequence);
            let is_in_force = flow.is_live(number_of(key.0.protocol) as u8, now_secs) && !flow.is_closed();
            if is_its && is_in_force {
                *counts.0.entry(*key).or_default() += 1;
            }
        }
        Ok(counts)
    }
}
