//! What the node measures of its link and its paths, and the question for another assignment when that has changed.
//!
//! [`persona_core::conditions`] decides when; what was measured then goes along with every report.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use persona_core::available::{Available, UplinkLook};
use persona_core::conditions::{Damper, Measured, PathMeasure};
use persona_core::ids::EdgeNumber;
use persona_core::liveness::LOSS_WINDOW;
use persona_core::units::BitRate;
use persona_core::wire::conditions::Conditions;
use persona_core::wire::desired::{EdgeItem, ProbeItem};

use super::observe::Observed;
use crate::dataplane::link_rate;
use crate::probe::Health;

/// Longer than from one look to the next.
const LOOK: Duration = Duration::from_secs(2);

/// Asks by itself.
#[derive(Debug)]
pub(super) struct Asking {
    damper: Damper,
    started: Instant,
    /// When edges were last seen dead.
    died: BTreeMap<EdgeNumber, Instant>,
    /// What the uplink carries in fact.
    available: Available,
}

impl Default for Asking {
    fn default() -> Self {
        Self {
            damper: Damper::default(),
            started: Instant::now(),
            died: BTreeMap::new(),
            available: Available::default(),
        }
    }
}

impl Asking {
    /// Notes that an edge is dead.
    pub(super) fn note_death(&mut self, edge: EdgeNumber, now: Instant) {
        self.died.insert(edge, now);
    }

    /// Notes a look at the uplink.
    pub(super) fn note_uplink(&mut self, look: UplinkLook) {
        self.available.turn(self.started.elapsed().as_millis() as u64, look);
    }

    /// What the uplink carries in fact, bits per second. None: it was not busy lately.
    pub(super) fn available_bps(&self) -> Option<u64> {
        self.available.bps()
    }

    /// What was lost while an edge was dead says nothing of the way to it: as long as that is among the probes that loss is
    /// counted over, an edge that lives again has lost nothing.
    pub(super) fn without_deaths(
        &mut self,
        mut health: BTreeMap<EdgeNumber, Health>,
        probe: ProbeItem,
        now: Instant,
    ) -> BTreeMap<EdgeNumber, Health> {
        let counted = Duration::from_millis(u64::from(LOSS_WINDOW) * u64::from(probe.interval_ms)) + LOOK;
        for (edge, health) in &mut health {
            if !health.verdict.alive {
                self.note_death(*edge, now);
            } else if self.died.get(edge).is_some_and(|died| now.duration_since(*died) < counted) {
                health.quality.loss = 0.0;
            }
        }
        self.died.retain(|edge, died| health.contains_key(edge) && now.duration_since(*died) < counted);
        health
    }

    /// Takes in what is measured now. Returns what to ask with, if it is time to.
    pub(super) fn turn(&mut self, measured: &Measured) -> Option<Conditions> {
        let now_ms = self.started.elapsed().as_millis() as u64;
        let cause = self.damper.turn(now_ms, measured)?;
        self.damper.conditions(&cause)
    }
}

/// What a pass and the prober see.
pub(super) fn measured(
    observed: &Observed,
    edges: &BTreeMap<EdgeNumber, EdgeItem>,
    health: &BTreeMap<EdgeNumber, Health>,
    uplink_rate: Option<BitRate>,
    available_bps: Option<u64>,
) -> Measured {
    let mut measured = Measured {
        device: observed.uplink.name.clone(),
        is_up: observed.uplink.is_up,
        mtu: observed.uplink.mtu,
        address: observed.address,
        // The configuration goes before what the device says.
        rate_bps: uplink_rate.map(|rate| rate.0).or_else(|| link_rate(&observed.uplink.name).ok().flatten()),
        available_bps,
        ..Measured::default()
    };
    for (edge, health) in health.iter().filter_map(|(number, health)| Some((edges.get(number)?, health))) {
        let rtt_us = health.quality.rtt_us.filter(|_| health.verdict.alive);
        let loss = if health.verdict.alive { health.quality.loss } else { 1.0 };
        let path = PathMeasure { rtt_us, loss };
        let best = measured.paths.entry(edge.group.clone()).or_insert(path);
        if is_better(&path, best) {
            *best = path;
        }
    }
    measured
}

/// One that answers is better than one that does not; of those that do, the nearer.
fn is_better(one: &PathMeasure, other: &PathMeasure) -> bool {
    let distance = |path: &PathMeasure| path.rtt_us.unwrap_or(u32::MAX);
    distance(one) < distance(other)
}

#[cfg(test)]
mod tests {
    use persona_core::ids::Generation;
    use persona_core::liveness::{Quality, Verdict};

    use super::*;
    use crate::netlink::Link;

    fn edge(name: &str, group: &str) -> EdgeItem {
        EdgeItem {
            name: name.parse().unwrap(),
            number: EdgeNumber(1),
            group: group.parse().unwrap(),
            address: [10, 0, 0, 9].into(),
            weight: 100,
            in_service: true,
            draining: false,
        }
    }

    fn health(alive: bool, rtt_us: Option<u32>, loss: f32) -> Health {
        let generation = Generation::default();
        Health { verdict: Verdict { alive, generation }, quality: Quality { rtt_us, jitter_us: None, loss } }
    }

    #[test]
    fn a_group_is_as_near_as_its_nearest_living_edge() {
        let edges = [(1, edge("f1", "fra")), (2, edge("f2", "fra")), (3, edge("f3", "fra")), (4, edge("t1", "tok"))];
        let edges = edges.map(|(number, edge)| (EdgeNumber(number), edge)).into();
        let health = [
            (1, health(true, Some(9_000), 0.1)),
            (2, health(true, Some(4_000), 0.2)),
            (3, health(false, Some(1_000), 0.5)),
            (4, health(false, Some(1_000), 0.5)),
            (9, health(true, Some(1), 0.0)),
        ];
        let health = health.map(|(number, health)| (EdgeNumber(number), health)).into();
        let uplink = Link { name: "up0".into(), mtu: 1_500, is_up: true, ..Link::default() };
        let observed = Observed { uplink, address: Some([10, 0, 0, 1].into()), ..Observed::default() };
        let measured = measured(&observed, &edges, &health, Some(BitRate(7)), Some(5));
        let path = |group: &str| measured.paths[&group.parse().unwrap()];
        assert_eq!(path("fra"), PathMeasure { rtt_us: Some(4_000), loss: 0.2 });
        assert_eq!(path("tok"), PathMeasure { rtt_us: None, loss: 1.0 });
        assert_eq!((measured.paths.len(), measured.rate_bps, measured.mtu), (2, Some(7), 1_500));
        assert_eq!(measured.available_bps, Some(5));
    }

    #[test]
    fn what_an_edge_lost_while_it_was_dead_is_not_the_paths() {
        let (mut asking, start, probe) =
            (Asking::default(), Instant::now(), ProbeItem { interval_ms: 50, multiplier: 3 });
        let mut loss_at = |secs: u64, alive: bool, loss: f32| {
            let health = [(EdgeNumber(1), health(alive, Some(1), loss))].into();
            let seen = asking.without_deaths(health, probe, start + Duration::from_secs(secs));
            seen[&EdgeNumber(1)].quality.loss
        };
        assert_eq!(loss_at(0, true, 0.1), 0.1, "it has not died");
        assert_eq!(loss_at(1, false, 0.4), 0.4);
        assert_eq!(loss_at(2, true, 0.4), 0.0);
        assert_eq!(loss_at(7, true, 0.1), 0.0, "100 probes are 5 s");
        assert_eq!(loss_at(8, true, 0.1), 0.1);
    }
}
