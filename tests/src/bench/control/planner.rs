//! Planning a large fleet, beside what a plain consistent hash would do: time, and how much fuller than need be the fullest edge is.

#[path = "../../../../persona-core/tests/plan_world/mod.rs"]
mod plan_world;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Instant;

use anyhow::{Result, ensure};
use persona_core::ids::{EdgeName, PersonaName};
use persona_core::plan::{Event, Fleet, Plan, Planner, Service};
use plan_world::optimum::optimum;
use plan_world::{Noise, regional_fleet};

use crate::bench::measures::Run;
use crate::bench::row::{Better, Goal, Row};
use crate::bench::samples::Samples;

/// A subject a node, in regions of eight edges, of which three are open to each.
const NODE_COUNT: usize = 100_000;
const REGION_COUNT: usize = 125;

/// Points of an edge on a ring, as ketama has them.
const POINT_COUNT: u32 = 160;

/// The peer's name.
const HASH: &str = "consistent hash";

/// What one way to assign took in all rounds.
#[derive(Default)]
struct Taken {
    from_nothing_ms: Samples,
    death_ms: Samples,
    excess: Samples,
    death_excess: Samples,
}

/// Plans from nothing, and after an edge's death.
pub fn measure(run: &Run<'_>) -> Result<Vec<Row>> {
    let fleet = regional_fleet(&mut Noise(42), NODE_COUNT, REGION_COUNT);
    let dying = fleet.edges[fleet.edges.len() / 2].name.clone();
    let mut after = fleet.clone();
    after.edges.iter_mut().filter(|edge| edge.name == dying).for_each(|edge| edge.service = Service::Down);
    let bests = [optimum(&fleet), optimum(&after)];
    let [mut ours, mut hash]: [Taken; 2] = Default::default();
    for round in 0..run.rounds {
        run.say(&format!("planner: round {} of {}", round + 1, run.rounds));
        let (own, nothing) = (fleet.clone(), Plan::default());
        let start = Instant::now();
        let mut planner = Planner::new(own, &nothing).map_err(|errors| anyhow::anyhow!("{errors:?}"))?;
        let outcome = planner.replan();
        ours.from_nothing_ms.push(ms(start));
        ensure!(outcome.refusals.is_empty(), "there is room for all, and {} got none", outcome.refusals.len());
        ours.excess.push(excess(outcome.fullest, bests[0]));
        let start = Instant::now();
        planner.apply(Event::Service(dying.clone(), Service::Down)).map_err(|errors| anyhow::anyhow!("{errors:?}"))?;
        let outcome = planner.replan();
        ours.death_ms.push(ms(start));
        ours.death_excess.push(excess(outcome.fullest, bests[1]));
        for (fleet, best, took_ms, over) in [
            (&fleet, bests[0], &mut hash.from_nothing_ms, &mut hash.excess),
            (&after, bests[1], &mut hash.death_ms, &mut hash.death_excess),
        ] {
            let start = Instant::now();
            let placed = by_hash(fleet);
            took_ms.push(ms(start));
            over.push(excess(fullest(fleet, &placed), best));
        }
        run.step();
    }
    let row =
        |name: &str, unit, ours, hash| Row::new(format!("planner/{name}"), unit, Better::Less, ours).beside(HASH, hash);
    let over = "% over the optimum";
    Ok(vec![
        row("from nothing", "ms", ours.from_nothing_ms, hash.from_nothing_ms).reach(Goal::AtMost(1_000.0)),
        row("fullest edge", over, ours.excess, hash.excess).reach(Goal::AtMost(5.0)),
        row("edge dies", "ms", ours.death_ms, hash.death_ms).reach(Goal::AtMost(50.0)),
        row("fullest edge afterwards", over, ours.death_excess, hash.death_excess),
    ])
}

fn ms(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}

fn excess(fullest: f64, best: f64) -> f64 {
    (fullest / best - 1.0) * 100.0
}

/// Each subject on the edge whose point follows its own, of those that serve in the groups of its persona.
fn by_hash(fleet: &Fleet) -> Vec<&EdgeName> {
    let mut rings: BTreeMap<&PersonaName, Vec<(u64, &EdgeName)>> = BTreeMap::new();
    for persona in &fleet.personas {
        let edges =
            fleet.edges.iter().filter(|edge| edge.service.takes_subjects() && persona.groups.contains(&edge.group));
        let points = edges.flat_map(|edge| (0..POINT_COUNT).map(|point| (hash_of(&(&edge.name, point)), &edge.name)));
        let mut ring: Vec<_> = points.collect();
        ring.sort_unstable();
        rings.insert(&persona.name, ring);
    }
    let subjects = fleet.nodes.iter().flat_map(|node| node.subjects.iter().map(move |subject| (&node.name, subject)));
    let place = |(node, subject): (_, &persona_core::plan::FleetSubject)| {
        let ring = &rings[&subject.personas[0]];
        let own = hash_of(node);
        let next = ring.partition_point(|(point, _)| *point < own);
        ring[next % ring.len()].1
    };
    subjects.map(place).collect()
}

fn hash_of(it: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    it.hash(&mut hasher);
    hasher.finish()
}

/// How full the fullest edge is by rate.
fn fullest(fleet: &Fleet, placed: &[&EdgeName]) -> f64 {
    let mut carried: BTreeMap<&EdgeName, u64> = BTreeMap::new();
    let subjects = fleet.nodes.iter().flat_map(|node| &node.subjects);
    for (subject, edge) in subjects.zip(placed) {
        *carried.entry(edge).or_default() += subject.demand.rate.0;
    }
    let fills =
        fleet.edges.iter().filter_map(|edge| Some(*carried.get(&edge.name)? as f64 / edge.capacity.rate?.0 as f64));
    fills.fold(0.0, f64::max)
}
