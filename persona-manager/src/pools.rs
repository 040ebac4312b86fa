//! How full egress pools are, and when they are full if they go on filling as they did.

use std::sync::Arc;

use persona_core::document::PoolDocument;
use persona_core::lease::{LeaseState, Occupancy};
use persona_core::predict::{Exhaustion, Usage, exhaustion};

use crate::store::{LeaseRecord, PoolHistoryRecord, Snapshot};
use crate::tasks::facts::space_of;

/// What of a pool is held, what rests, and what there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PoolUse {
    /// Blocks in all.
    pub blocks_total: u32,
    /// Blocks leased.
    pub blocks_leased: u32,
    /// Blocks in quarantine.
    pub blocks_quarantined: u32,
    /// IPv4 addresses in all.
    pub addresses_total: u32,
    /// IPv4 addresses of which nobody holds a port.
    pub addresses_free: u32,
    /// IPv6 /64 in all.
    pub prefixes_total: u32,
    /// IPv6 /64 leased.
    pub prefixes_leased: u32,
    /// IPv6 /64 in quarantine.
    pub prefixes_quarantined: u32,
}

impl PoolUse {
    /// What is held of a pool.
    pub(crate) fn of(snapshot: &Snapshot, pool: &PoolDocument) -> Self {
        let space = space_of(&pool.spec);
        let mut occupancy = Occupancy::default();
        snapshot.leases.values().for_each(|lease| occupancy.hold(&lease.space));
        let of_pool = || snapshot.leases.values().filter(|lease| lease.pool == pool.metadata.name);
        let is_resting = |lease: &&Arc<LeaseRecord>| matches!(lease.state, LeaseState::Quarantine { .. });
        let blocks = |lease: &Arc<LeaseRecord>| match &lease.space {
            space_held if space_held.is_whole_address() => space.blocks_per_address(),
            space_held => space_held.port_ranges().len() as u32,
        };
        let prefixes = |lease: &Arc<LeaseRecord>| u32::from(lease.space.prefix().is_some());
        Self {
            blocks_total: space.block_count(),
            blocks_leased: of_pool().filter(|lease| !is_resting(lease)).map(blocks).sum(),
            blocks_quarantined: of_pool().filter(is_resting).map(blocks).sum(),
            addresses_total: space.addresses.len() as u32,
            addresses_free: space.free_address_count(&occupancy),
            prefixes_total: space.prefix_count(),
            prefixes_leased: of_pool().filter(|lease| !is_resting(lease)).map(prefixes).sum(),
            prefixes_quarantined: of_pool().filter(is_resting).map(prefixes).sum(),
        }
    }

    /// Blocks and prefixes that nobody can be leased now.
    pub(crate) fn taken(&self) -> (u32, u32) {
        (self.blocks_leased + self.blocks_quarantined, self.prefixes_leased + self.prefixes_quarantined)
    }
}

/// When the pool is full if it goes on as it did: its blocks or its prefixes, whichever comes first.
pub(crate) fn forecast(history: &PoolHistoryRecord, of: &PoolUse) -> Option<Exhaustion> {
    let usage = |used: fn(&crate::store::PoolSample) -> u32| -> Vec<Usage> {
        history.samples.iter().map(|sample| Usage { at_ms: sample.at_ms, used: used(sample).into() }).collect()
    };
    let blocks = exhaustion(&usage(|sample| sample.blocks), of.blocks_total.into());
    let prefixes = exhaustion(&usage(|sample| sample.prefixes), of.prefixes_total.into());
    let known = blocks.filter(|_| of.blocks_total > 0).into_iter().chain(prefixes.filter(|_| of.prefixes_total > 0));
    known.min_by_key(|found| found.in_ms)
}
