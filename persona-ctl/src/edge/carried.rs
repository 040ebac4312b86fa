//! What an edge carried in all, summed from counters per persona.
//!
//! A persona's counter goes when the persona does, and starts at zero when its place is taken; the sum must do neither, for
//! who watches a counter that falls takes it for a restart.

use std::collections::BTreeMap;

use persona_core::ids::Vni;
use persona_core::wire::agent::Traffic;

/// A sum that never falls.
#[derive(Debug, Clone, Default)]
pub(super) struct Carried {
    last: BTreeMap<Vni, Traffic>,
    total: Traffic,
}

impl Carried {
    /// Adds what came since the last call.
    pub(super) fn count(&mut self, personas: &BTreeMap<Vni, Traffic>) {
        for (vni, now) in personas {
            let before = self.last.get(vni).copied().unwrap_or_default();
            add_increase(&mut self.total, before, *now);
        }
        self.last.clone_from(personas);
    }

    /// The sum.
    pub(super) fn total(&self) -> Traffic {
        self.total
    }
}

fn add_increase(total: &mut Traffic, before: Traffic, now: Traffic) {
    // Less than before is a counter that was made anew.
    let increase = |before: u64, now: u64| now.checked_sub(before).unwrap_or(now);
    total.egress_packets += increase(before.egress_packets, now.egress_packets);
    total.egress_bytes += increase(before.egress_bytes, now.egress_bytes);
    total.ingress_packets += increase(before.ingress_packets, now.ingress_packets);
    total.ingress_bytes += increase(before.ingress_bytes, now.ingress_bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_survives_personas_that_go_and_come_anew() {
        let traffic = |count: u64| Traffic {
            egress_packets: count,
            egress_bytes: count * 100,
            ingress_packets: count * 2,
            ingress_bytes: count * 200,
        };
        let mut carried = Carried::default();
        for (counters, expected) in [
            (vec![(7, 5)], 5),
            (vec![(7, 8), (9, 1)], 9),
            (vec![(9, 1)], 9),
            (vec![(7, 2), (9, 3)], 13),
            (vec![(7, 1), (9, 3)], 14),
        ] {
            carried.count(&counters.iter().map(|(vni, count)| (Vni(*vni), traffic(*count))).collect());
            assert_eq!(carried.total(), traffic(expected), "{counters:?}");
        }
    }
}
