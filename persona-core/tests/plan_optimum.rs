//! Plans beside the best that any plan could be, found by maximum flow: on hundreds of made-up fleets, from nothing and
//! after an edge died or came, there with no more moves than the planner may make.
//!
//! The flows are this test's own; a comparison with another solver's is a later step.

mod plan_world;

use std::collections::BTreeMap;

use persona_core::ids::EdgeName;
use persona_core::plan::{Event, Fleet, Outcome, Plan, Planner, Service};
use plan_world::flow::Network;
use plan_world::{Noise, edge, regional_fleet, unit_fleet};

/// How much fuller than in the best plan the fullest edge may be.
const NEAR: f64 = 1.05;

/// A fleet whose subjects need one lease each, as numbers.
struct Units {
    capacities: Vec<u64>,
    choices: Vec<Vec<usize>>,
}

impl Units {
    fn of(fleet: &Fleet) -> Self {
        let open = |edge: &persona_core::plan::FleetEdge| edge.service.takes_subjects();
        let numbers: BTreeMap<&str, usize> =
            fleet.edges.iter().zip(0..).filter(|(it, _)| open(it)).map(|(it, at)| (it.group.as_str(), at)).collect();
        let groups: BTreeMap<_, _> = fleet.personas.iter().map(|persona| (&persona.name, &persona.groups)).collect();
        let subjects = fleet.nodes.iter().flat_map(|node| &node.subjects);
        let choices = subjects.map(|subject| {
            groups[&subject.personas[0]].iter().filter_map(|group| numbers.get(group.as_str()).copied()).collect()
        });
        let capacity = |edge: &persona_core::plan::FleetEdge| edge.capacity.leases.filter(|_| open(edge)).unwrap_or(0);
        Self { capacities: fleet.edges.iter().map(capacity).collect(), choices: choices.collect() }
    }

    /// Subjects, edges, source, sink; no edge fuller than `fill`, being elsewhere than at home costs one.
    fn network(&self, fill: f64, homes: &[Option<usize>]) -> Network {
        let (subjects, edges) = (self.choices.len(), self.capacities.len());
        let mut network = Network::new(subjects + edges + 2);
        for (subject, choices) in self.choices.iter().enumerate() {
            network.arc(subjects + edges, subject, 1, 0);
            for edge in choices {
                let cost = homes.get(subject).is_some_and(|home| home.is_some_and(|home| home != *edge));
                network.arc(subject, subjects + edge, 1, i64::from(cost));
            }
        }
        for (edge, capacity) in self.capacities.iter().enumerate() {
            network.arc(subjects + edge, subjects + edges + 1, (*capacity as f64 * fill + 1e-9) as u64, 0);
        }
        network
    }

    /// The lowest fill of the fullest edge for which `is_possible` holds. None: nobody can place all.
    fn lowest(&self, is_possible: impl Fn(f64) -> bool) -> Option<f64> {
        let mut fills: Vec<f64> =
            self.capacities.iter().flat_map(|most| (1..=*most).map(|count| count as f64 / *most as f64)).collect();
        fills.sort_by(f64::total_cmp);
        let at = fills.partition_point(|fill| !is_possible(*fill));
        fills.get(at).copied()
    }

    fn optimum(&self) -> Option<f64> {
        let ends = (self.choices.len() + self.capacities.len(), self.choices.len() + self.capacities.len() + 1);
        self.lowest(|fill| self.network(fill, &[]).max_flow(ends.0, ends.1) == self.choices.len() as u64)
    }

    /// With at most so many subjects elsewhere than at home.
    fn optimum_within(&self, homes: &[Option<usize>], moves: usize) -> Option<f64> {
        let ends = (self.choices.len() + self.capacities.len(), self.choices.len() + self.capacities.len() + 1);
        self.lowest(|fill| {
            let (placed, cost) = self.network(fill, homes).cheapest_flow(ends.0, ends.1);
            placed == self.choices.len() as u64 && cost <= moves as i64
        })
    }
}

fn planned(fleet: &Fleet) -> (Planner, Outcome) {
    let mut planner = Planner::new(fleet.clone(), &Plan::default()).expect("the fleet is right");
    let outcome = planner.replan();
    (planner, outcome)
}

/// Where those are who can stay, by subject; edges by their place in the fleet.
fn homes(fleet: &Fleet, plan: &Plan) -> Vec<Option<usize>> {
    let open = |name: &EdgeName| fleet.edges.iter().position(|it| it.name == *name && it.service.takes_subjects());
    let subjects = fleet.nodes.iter().flat_map(|node| node.subjects.iter().map(|subject| subject.id(&node.name)));
    subjects.map(|id| plan.subjects.get(&id).and_then(|placement| open(&placement.edge))).collect()
}

#[test]
fn from_nothing_the_fullest_edge_is_near_the_optimum() {
    let (mut noise, mut exact, mut worst) = (Noise(1), 0, 1.0_f64);
    for round in 0..300 {
        let (subjects, edges) = (noise.between(10, 80) as usize, noise.between(4, 12) as usize);
        let fleet = unit_fleet(&mut noise, subjects, edges, (1, 4));
        let (_, outcome) = planned(&fleet);
        let Some(optimum) = Units::of(&fleet).optimum() else {
            assert!(!outcome.refusals.is_empty(), "round {round}: nobody can place all");
            continue;
        };
        assert!(outcome.refusals.is_empty(), "round {round}: {:?}", outcome.refusals);
        assert!(outcome.fullest <= optimum * NEAR, "round {round}: {} instead of {optimum}", outcome.fullest);
        assert!(outcome.bound <= optimum + 1e-9, "round {round}: the bound is none");
        worst = worst.max(outcome.fullest / optimum);
        exact += usize::from(outcome.fullest <= optimum + 1e-9);
    }
    eprintln!("300 fleets: {exact} at the optimum, the worst {:.2} % above", 100.0 * (worst - 1.0));
    assert!(exact >= 250, "{exact}");
}

#[test]
fn after_a_death_it_is_near_what_as_many_moves_can_reach() {
    let (mut noise, mut worst, mut count) = (Noise(2), 1.0_f64, 0);
    for round in 0..200 {
        let (subjects, edges) = (noise.between(40, 120) as usize, noise.between(5, 10) as usize);
        let fleet = unit_fleet(&mut noise, subjects, edges, (3, 5));
        let (mut planner, first) = planned(&fleet);
        let victim = noise.below(edges as u64) as usize;
        let share = first.edges[victim].subjects as usize;
        let plan = planner.plan();
        planner.apply(Event::Service(fleet.edges[victim].name.clone(), Service::Down)).unwrap();
        let outcome = planner.replan();
        assert!(outcome.moves.len() * 10 <= share * 12, "round {round}: {} moves for {share}", outcome.moves.len());
        let budget = (share as f64 * 0.2) as usize;
        let after = planner.fleet();
        let Some(optimum) = Units::of(after).optimum_within(&homes(after, &plan), budget) else { continue };
        assert!(outcome.refusals.is_empty(), "round {round}: {:?}", outcome.refusals);
        assert!(outcome.fullest <= optimum * NEAR, "round {round}: {} instead of {optimum}", outcome.fullest);
        worst = worst.max(outcome.fullest / optimum);
        count += 1;
    }
    eprintln!("{count} deaths: the worst {:.2} % above", 100.0 * (worst - 1.0));
    assert!(count >= 150, "{count}");
}

#[test]
fn after_a_join_it_is_near_what_as_many_moves_can_reach() {
    let (mut noise, mut worst) = (Noise(3), 1.0_f64);
    for round in 0..200 {
        let (subjects, edges) = (noise.between(40, 120) as usize, noise.between(5, 10) as usize);
        let mut fleet = unit_fleet(&mut noise, subjects, edges, (3, 5));
        let newcomer = noise.below(edges as u64) as usize;
        fleet.edges[newcomer].service = Service::Maintenance;
        let (mut planner, first) = planned(&fleet);
        if !first.refusals.is_empty() {
            continue;
        }
        let plan = planner.plan();
        planner.apply(Event::Service(fleet.edges[newcomer].name.clone(), Service::Serving)).unwrap();
        let outcome = planner.replan();
        assert!(outcome.moves.len() <= outcome.budget, "round {round}: {} moves", outcome.moves.len());
        let after = planner.fleet();
        let optimum = Units::of(after).optimum_within(&homes(after, &plan), outcome.budget).expect("nobody left");
        assert!(outcome.fullest <= optimum * NEAR, "round {round}: {} instead of {optimum}", outcome.fullest);
        worst = worst.max(outcome.fullest / optimum);
    }
    eprintln!("200 joins: the worst {:.2} % above", 100.0 * (worst - 1.0));
}

#[test]
fn five_thousand_nodes_on_a_hundred_edges_are_near_the_optimum() {
    let fleet = unit_fleet(&mut Noise(4), 5_000, 100, (3, 6));
    let (mut planner, outcome) = planned(&fleet);
    let optimum = Units::of(&fleet).optimum().expect("there is room");
    assert!(outcome.refusals.is_empty() && outcome.fullest <= optimum * NEAR, "{} {optimum}", outcome.fullest);
    let share = outcome.edges[7].subjects as usize;
    planner.apply(Event::Service(fleet.edges[7].name.clone(), Service::Down)).unwrap();
    let outcome = planner.replan();
    let optimum = Units::of(planner.fleet()).optimum().expect("there is room");
    assert!(outcome.fullest <= optimum * NEAR, "{} {optimum}", outcome.fullest);
    assert!(outcome.moves.len() * 10 <= share * 12, "{} moves for {share}", outcome.moves.len());
}

#[test]
fn subjects_of_unlike_sizes_come_near_a_flow_that_may_split_them() {
    for seed in 10..14 {
        let fleet = regional_fleet(&mut Noise(seed), 4_000, 5);
        let (_, outcome) = planned(&fleet);
        let demand: u64 = fleet.nodes.iter().flat_map(|node| &node.subjects).map(|it| it.demand.rate.0).sum();
        let capacity: u64 = fleet.edges.iter().filter_map(|edge| edge.capacity.rate).map(|rate| rate.0).sum();
        // Whatever the flow, the fullest edge is at least as full as the mean.
        let mean = demand as f64 / capacity as f64;
        assert!(outcome.fullest <= mean * NEAR, "{} instead of {mean}", outcome.fullest);
    }
}

#[test]
fn a_full_edge_makes_room_through_others() {
    // Who may only be on `a` finds it taken by somebody who could be on `b`, which is taken by somebody who could be on `c`.
    let mut fleet = Fleet { edges: ["a", "b", "c"].map(|name| edge(name, name, 1)).into(), ..Fleet::default() };
    let choices = [("n1", vec!["a", "b"]), ("n2", vec!["b", "c"]), ("n3", vec!["a"])];
    for (name, groups) in &choices {
        fleet.personas.push(plan_world::persona(name, groups.iter().map(|it| (*it).to_owned())));
        fleet.nodes.push(plan_world::node(name, vec![plan_world::subject(name, Default::default())]));
    }
    let (_, outcome) = planned(&fleet);
    assert_eq!((outcome.refusals.len(), outcome.fullest), (0, 1.0));
}
