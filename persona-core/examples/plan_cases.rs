//! Made-up fleets and how full the planner gets the fullest edge, a line of JSON each, for another solver to judge
//! (`cargo xtask test --planner`): those of `tests/plan_optimum.rs` with the optimum of its own flows, and larger ones.

#[path = "../tests/plan_world/mod.rs"]
mod plan_world;

use persona_core::plan::{Event, Outcome, Service};
use plan_world::units::{Units, homes, planned};
use plan_world::{Noise, unit_fleet};
use serde_json::json;

/// Fleets of each kind, as many as the tests have.
const SMALL_FROM_NOTHING: u64 = 300;
const SMALL_CHANGES: u64 = 200;

/// Larger fleets, up to 5,000 nodes over 100 edges, each planned from nothing and after an edge died and came back.
const LARGE: u64 = 60;

/// Whether our own flows find the optimum too: with thousands of subjects they would take minutes.
#[derive(Clone, Copy, PartialEq)]
enum Own {
    Asked,
    NotAsked,
}

fn main() {
    let mut noise = Noise(1);
    for round in 0..SMALL_FROM_NOTHING {
        let (subjects, edges) = (noise.between(10, 80) as usize, noise.between(4, 12) as usize);
        from_nothing(&format!("small {round}"), &mut noise, (subjects, edges), (1, 4), Own::Asked);
    }
    for (seed, what) in [(2, "death"), (3, "join")] {
        let mut noise = Noise(seed);
        for round in 0..SMALL_CHANGES {
            let size = (noise.between(40, 120) as usize, noise.between(5, 10) as usize);
            change(&format!("small {what} {round}"), &mut noise, size, (3, 5), what == "death", Own::Asked);
        }
    }
    let mut noise = Noise(5);
    for round in 0..LARGE {
        // The last is the largest.
        let subjects = if round + 1 == LARGE { 5_000 } else { noise.between(200, 5_000) as usize };
        let edges = if round + 1 == LARGE { 100 } else { noise.between(20, 100) as usize };
        from_nothing(&format!("large {round}"), &mut noise, (subjects, edges), (3, 6), Own::NotAsked);
        for what in ["death", "join"] {
            let name = format!("large {what} {round}");
            change(&name, &mut noise, (subjects, edges), (3, 6), what == "death", Own::NotAsked);
        }
    }
}

fn from_nothing(name: &str, noise: &mut Noise, size: (usize, usize), choices: (u64, u64), own: Own) {
    let fleet = unit_fleet(noise, size.0, size.1, choices);
    let (_, outcome) = planned(&fleet);
    let units = Units::of(&fleet);
    let optimum = if own == Own::Asked { json!(units.optimum()) } else { json!("not asked") };
    tell(name, &units, &outcome, &[], None, &optimum);
}

/// An edge dies, or one that was not there comes: the same as in the tests.
fn change(name: &str, noise: &mut Noise, size: (usize, usize), choices: (u64, u64), is_death: bool, own: Own) {
    let mut fleet = unit_fleet(noise, size.0, size.1, choices);
    let changed = noise.below(size.1 as u64) as usize;
    let after = if is_death { Service::Down } else { Service::Serving };
    if !is_death {
        fleet.edges[changed].service = Service::Maintenance;
    }
    let (mut planner, first) = planned(&fleet);
    if !first.refusals.is_empty() {
        return;
    }
    let plan = planner.plan();
    planner.apply(Event::Service(fleet.edges[changed].name.clone(), after)).expect("the fleet has the edge");
    let outcome = planner.replan();
    let budget = if is_death { first.edges[changed].subjects as usize / 5 } else { outcome.budget };
    let units = Units::of(planner.fleet());
    let homes = homes(planner.fleet(), &plan);
    let optimum = if own == Own::Asked { json!(units.optimum_within(&homes, budget)) } else { json!("not asked") };
    tell(name, &units, &outcome, &homes, Some(budget), &optimum);
}

fn tell(
    name: &str,
    units: &Units,
    outcome: &Outcome,
    homes: &[Option<usize>],
    budget: Option<usize>,
    optimum: &serde_json::Value,
) {
    let line = json!({
        "name": name,
        "capacities": units.capacities,
        "choices": units.choices,
        "homes": homes,
        "budget": budget,
        "planned": outcome.fullest,
        "refused": outcome.refusals.len(),
        "ours": optimum,
    });
    println!("{line}");
}
