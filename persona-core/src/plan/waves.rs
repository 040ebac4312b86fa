//! Moves spread over time, so that no edge is handed more at once than it can take in, and never more than it has room for.
//!
//! A subject that moves is reserved on both edges until its wave is over, unless its old edge is dead.

use std::collections::HashMap;

use serde::Serialize;

use super::outcome::{Move, MoveCause, Outcome};
use super::planner::Planner;
use super::tables::{Amount, UNLIMITED};
use crate::units::Share;

/// Moves that are made together.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Wave {
    /// When, milliseconds after the first.
    pub at_ms: u64,
    /// What moves.
    pub moves: Vec<Move>,
}

/// All waves of a plan.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WavePlan {
    /// One after the other.
    pub waves: Vec<Wave>,
    /// What cannot be made without more room than there is, because each would have to go first.
    pub stuck: Vec<Move>,
}

/// The waves of the moves that the planner's last plan asks for.
pub fn waves(planner: &Planner, outcome: &Outcome) -> WavePlan {
    waves_of(planner, &outcome.moves)
}

/// The waves of moves that lead to the planner's last plan, from wherever those who move are.
pub fn waves_of(planner: &Planner, moves: &[Move]) -> WavePlan {
    let ground = planner.ground();
    let pace = ground.fleet.planning.pace;
    let mut loads = before(planner, moves);
    let mut waiting: Vec<&Move> = moves.iter().collect();
    waiting.sort_by_key(|it| urgency(it.cause));
    let mut plan = WavePlan::default();
    while !waiting.is_empty() {
        let mut wave = Wave { at_ms: plan.waves.len() as u64 * pace.every.0, moves: Vec::new() };
        let mut arrived: HashMap<u16, Amount> = HashMap::new();
        let mut later = Vec::new();
        for it in waiting {
            let (demand, to) = (demand_of(planner, it), edge_of(planner, it));
            let capacity = &ground.tables.edges[usize::from(to)].capacity;
            let so_far = arrived.get(&to);
            let has_room = fits(&loads[usize::from(to)], &demand, capacity);
            let may_arrive = so_far.is_none_or(|so_far| fits(so_far, &demand, &at_once(capacity, pace.arrivals)));
            if has_room && may_arrive {
                add(&mut loads[usize::from(to)], &demand);
                add(arrived.entry(to).or_default(), &demand);
                wave.moves.push(it.clone());
            } else {
                later.push(it);
            }
        }
        if wave.moves.is_empty() {
            plan.stuck = later.into_iter().cloned().collect();
            break;
        }
        wave.moves.iter().for_each(|it| leave(planner, it, &mut loads));
        waiting = later;
        plan.waves.push(wave);
    }
    plan
}

/// Who is cut off comes first, who could as well stay last.
fn urgency(cause: MoveCause) -> u8 {
    match cause {
        MoveCause::EdgeDown | MoveCause::EdgeGone => 0,
        MoveCause::NoLongerAllowed | MoveCause::NoLongerFits => 1,
        MoveCause::EdgeMaintenance | MoveCause::EdgeDraining => 2,
        MoveCause::New => 3,
        MoveCause::Balance | MoveCause::Better => 4,
    }
}

/// By edge, what is reserved before the first wave.
fn before(planner: &Planner, moves: &[Move]) -> Vec<Amount> {
    let mut loads = planner.loads();
    for it in moves {
        let demand = demand_of(planner, it);
        subtract(&mut loads[usize::from(edge_of(planner, it))], &demand);
        if let Some(from) = from_of(planner, it) {
            add(&mut loads[usize::from(from)], &demand);
        }
    }
    loads
}

fn leave(planner: &Planner, it: &Move, loads: &mut [Amount]) {
    if let Some(from) = from_of(planner, it) {
        subtract(&mut loads[usize::from(from)], &demand_of(planner, it));
    }
}

fn edge_of(planner: &Planner, it: &Move) -> u16 {
    planner.ground().tables.edge_index[&it.to]
}

fn from_of(planner: &Planner, it: &Move) -> Option<u16> {
    it.from.as_ref().and_then(|from| planner.ground().tables.edge_index.get(from)).copied()
}

fn demand_of(planner: &Planner, it: &Move) -> Amount {
    let index = planner.ground().index_of(&it.subject).expect("moves are of subjects of the fleet");
    planner.ground().subjects.facts[index].demand
}

/// What may arrive in one wave.
fn at_once(capacity: &Amount, share: Share) -> Amount {
    let part = |units: u64| u128::from(units) * u128::from(share.millionths()) / u128::from(Share::WHOLE);
    capacity.map(|units| if units == UNLIMITED { UNLIMITED } else { part(units) as u64 })
}

fn fits(load: &Amount, demand: &Amount, capacity: &Amount) -> bool {
    load.iter().zip(demand).zip(capacity).all(|((load, units), most)| load.saturating_add(*units) <= *most)
}

fn add(load: &mut Amount, demand: &Amount) {
    load.iter_mut().zip(demand).for_each(|(load, units)| *load = load.saturating_add(*units));
}

fn subtract(load: &mut Amount, demand: &Amount) {
    load.iter_mut().zip(demand).for_each(|(load, units)| *load = load.saturating_sub(*units));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Format;
    use crate::plan::{Event, Plan, Service, parse_fleet};

    /// So many nodes that each need a lease, over edges with so many each.
    fn planner(nodes: usize, edges: &[(&str, u64)]) -> Planner {
        let edge = |(name, leases): &(&str, u64)| format!("{{name: {name}, group: g, capacity: {{leases: {leases}}}}}");
        let edges: Vec<String> = edges.iter().map(edge).collect();
        let nodes: Vec<String> =
            (0..nodes).map(|it| format!("{{name: n{it}, subjects: [{{personas: [p]}}]}}")).collect();
        let (edges, nodes) = (edges.join(", "), nodes.join(", "));
        let text = format!("{{personas: [{{name: p, groups: [g]}}], edges: [{edges}], nodes: [{nodes}]}}");
        let mut planner = Planner::new(parse_fleet(&text, Format::Yaml).unwrap(), &Plan::default()).unwrap();
        assert!(planner.replan().refusals.is_empty());
        planner
    }

    #[test]
    fn survivors_are_given_a_share_of_their_capacity_at_a_time() {
        let mut planner = planner(90, &[("a", 100), ("b", 100), ("c", 100)]);
        planner.apply(Event::Service("a".parse().unwrap(), Service::Down)).unwrap();
        let outcome = planner.replan();
        let plan = waves(&planner, &outcome);
        assert_eq!(plan.waves.iter().map(|wave| wave.moves.len()).sum::<usize>(), outcome.moves.len());
        assert!(plan.stuck.is_empty() && plan.waves.len() == outcome.moves.len().div_ceil(10), "{plan:?}");
        for (number, wave) in plan.waves.iter().enumerate() {
            assert_eq!(wave.at_ms, number as u64 * 1_000);
            for edge in ["b", "c"] {
                assert!(wave.moves.iter().filter(|it| it.to.as_str() == edge).count() <= 5);
            }
        }
    }

    #[test]
    fn whoever_makes_room_goes_first_and_a_subject_larger_than_a_share_goes_alone() {
        let mut planner = planner(6, &[("a", 4), ("b", 4)]);
        planner.apply(Event::Service("a".parse().unwrap(), Service::Draining)).unwrap();
        let outcome = planner.replan();
        let plan = waves(&planner, &outcome);
        // `b` has one lease left, and a twentieth of four is none: one comes, the others wait on the edge that drains.
        assert_eq!((plan.waves.len(), outcome.moves.len(), outcome.waiting.len()), (1, 1, 2));
        assert!(outcome.refusals.is_empty() && plan.stuck.is_empty());
    }
}
