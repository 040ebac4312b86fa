//! How often nodes report that have nothing new to say: as often as their manager is set to, and less often in a fleet so large
//! that taking reports would be most of what the manager does. What is new is reported at once, whatever the pace.

/// Reports that a manager wants of all nodes together, a second.
pub const REPORTS_PER_SEC: u32 = 500;

/// The longest time between two reports, milliseconds.
pub const INTERVAL_MS_MAX: u32 = 60_000;

/// While something rests on what nodes count (a rollout is being watched), no interval is longer, milliseconds.
pub const WATCHED_INTERVAL_MS_MAX: u32 = 5_000;

/// Milliseconds between two reports of a node, where the manager is set to `set_ms` and has so many nodes.
pub fn interval_ms(set_ms: u32, node_count: usize, is_watched: bool) -> u32 {
    let most = if is_watched { WATCHED_INTERVAL_MS_MAX } else { INTERVAL_MS_MAX };
    let paced = node_count as u64 * 1_000 / u64::from(REPORTS_PER_SEC);
    u32::try_from(paced).unwrap_or(u32::MAX).min(most).max(set_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_fleet_reports_as_it_is_told_and_a_large_one_as_its_manager_has_time() {
        for (set_ms, node_count, is_watched, expected) in [
            (1_000, 0, false, 1_000),
            (1_000, 500, false, 1_000),
            (1_000, 1_000, false, 2_000),
            (10_000, 1_000, false, 10_000),
            (1_000, 18_000, false, 36_000),
            (1_000, 18_000, true, 5_000),
            (10_000, 18_000, true, 10_000),
            (1_000, 1_000_000, false, 60_000),
        ] {
            assert_eq!(interval_ms(set_ms, node_count, is_watched), expected, "{node_count} nodes, {set_ms} ms");
        }
    }
}
