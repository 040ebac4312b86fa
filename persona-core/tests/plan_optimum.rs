//! Plans beside the best that any plan could be, found by maximum flow: on hundreds of made-up fleets, from nothing and
//! after an edge died or came, there with no more moves than the planner may make.
//!
//! The flows are this test's own. `cargo xtask test --planner` has another solver judge the same fleets, and larger ones.

mod plan_world;

use persona_core::plan::{Event, Fleet, Service};
use plan_world::units::{Units, homes, planned};
use plan_world::{Noise, edge, regional_fleet, unit_fleet};

/// How much fuller than in the best plan the fullest edge may be.
const NEAR: f64 = 1.05;

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
