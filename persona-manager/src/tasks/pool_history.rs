//! Notes each hour how full egress pools are, for a month.

use std::collections::BTreeSet;

use persona_core::document::PoolDocument;
use persona_core::ids::PoolName;

use crate::pools::PoolUse;
use crate::store::{Draft, PoolHistoryRecord, PoolSample};

/// Between two samples, milliseconds.
const INTERVAL_MS: u64 = 3_600_000;

/// Samples that are kept of a pool.
const SAMPLE_COUNT_MAX: usize = 720;

/// Notes what is due, and forgets pools that are gone.
pub(super) fn note(draft: &mut Draft) {
    let snapshot = draft.state().clone();
    let now_ms = draft.now_ms();
    let pools: Vec<&PoolDocument> = snapshot.pools().collect();
    // Of a pool that nothing was ever leased from there is nothing to note.
    let is_new = |pool: &&PoolDocument| !snapshot.pool_history.contains_key(&pool.metadata.name);
    let used: BTreeSet<&PoolName> = match pools.iter().any(is_new) {
        true => snapshot.leases.values().map(|lease| &lease.pool).collect(),
        false => BTreeSet::new(),
    };
    for pool in &pools {
        let name = &pool.metadata.name;
        let known = snapshot.pool_history.get(name);
        // A clock that was set back must not stop the notes.
        let is_due = |sample: &PoolSample| sample.at_ms.abs_diff(now_ms) >= INTERVAL_MS;
        let is_first = known.is_none() && used.contains(name);
        if !is_first && !known.is_some_and(|known| known.samples.last().is_none_or(is_due)) {
            continue;
        }
        let (blocks, prefixes) = PoolUse::of(&snapshot, pool).taken();
        let before = known.map(|known| known.samples.clone()).unwrap_or_default();
        let mut samples: Vec<PoolSample> = before.into_iter().filter(|sample| sample.at_ms < now_ms).collect();
        samples.push(PoolSample { at_ms: now_ms, blocks, prefixes });
        let surplus = samples.len().saturating_sub(SAMPLE_COUNT_MAX);
        samples.drain(..surplus);
        draft.put(PoolHistoryRecord { pool: name.clone(), samples });
    }
    let there: BTreeSet<&PoolName> = pools.iter().map(|pool| &pool.metadata.name).collect();
    let gone: Vec<PoolName> = snapshot.pool_history.keys().filter(|name| !there.contains(name)).cloned().collect();
    gone.iter().for_each(|name| draft.delete::<PoolHistoryRecord>(name));
}

#[cfg(test)]
mod tests {
    use persona_core::document::Document;
    use serde_json::json;

    use super::*;
    use crate::documents::{Conflicts, apply};
    use crate::live::Live;
    use crate::pools::forecast;
    use crate::store::{LeaseRecord, Snapshot};
    use crate::tasks::reports::Reports;

    fn lease(id: u64) -> LeaseRecord {
        let block = 1 + id;
        serde_json::from_value(json!({
            "id": id, "subject": format!("workload/n1/w{id}"), "persona": "p", "vni": 1, "group": "fra", "pool": "fra",
            "family": "ipv4", "address": "198.51.100.1", "blockBits": 10, "blocks": [block], "mtu": 1_400,
            "quarantine_ms": 1_000, "generation": 1, "state": "active",
        }))
        .unwrap()
    }

    #[test]
    fn a_pool_that_fills_is_told_when_it_is_full() {
        let pool = json!({ "apiVersion": "persona/v1", "kind": "EgressPool", "metadata": { "name": "fra" },
            "spec": { "addresses": ["198.51.100.1/32"], "group": "fra" } });
        let mut draft = Draft::new(&Snapshot::default(), 0);
        let reports = Reports::of(&Live::default(), 1_000, 1_000);
        apply(&mut draft, &reports, &[Document::from_json(pool).unwrap()], Conflicts::Refuse).unwrap();
        note(&mut draft);
        assert!(draft.state().pool_history.is_empty(), "nothing was leased yet");
        // A lease every eight hours, three of 63 blocks a day.
        for hour in 0..240_u64 {
            if hour.is_multiple_of(8) {
                draft.grant_lease(lease(hour / 8));
            }
            for minute in 0..3 {
                draft.set_time(hour * INTERVAL_MS + minute * 60_000);
                note(&mut draft);
            }
        }
        let snapshot = draft.state().clone();
        let (pool, history) = (snapshot.pools().next().unwrap(), snapshot.pool_history.values().next().unwrap());
        assert_eq!(history.samples.len(), 240, "one an hour");
        let of = PoolUse::of(&snapshot, pool);
        assert_eq!((of.blocks_leased, of.blocks_total), (30, 63));
        let found = forecast(history, &of).unwrap();
        let days = found.in_ms as f64 / 86_400_000.0;
        assert!((days - 11.0).abs() < 0.5, "33 blocks are left at three a day: {days}");
        for hour in 240..1_000_u64 {
            draft.set_time(hour * INTERVAL_MS);
            note(&mut draft);
        }
        assert_eq!(draft.state().pool_history.values().next().unwrap().samples.len(), SAMPLE_COUNT_MAX);
    }
}
