//! A year of a fleet's life in seconds: edges die, drain, come back and join, nodes come and go, loads follow the day.
//!
//! After every event the plan keeps both bounds: few moves, and a fullest edge near the lowest fill there can be.

mod plan_world;

use std::collections::{BTreeMap, BTreeSet};

use persona_core::ids::{EdgeName, GroupName, PersonaName};
use persona_core::plan::{Event, Outcome, Plan, Planner, Service};
use persona_core::units::BitRate;
use plan_world::{Noise, regional_fleet, regional_node};

const REGION_COUNT: usize = 5;
const NODE_COUNT: usize = 1_500;
const EVENTS_PER_DAY: u64 = 4;

/// What was seen of a year.
#[derive(Default)]
struct Year {
    deaths: usize,
    drains: usize,
    joins: usize,
    node_changes: usize,
    load_changes: usize,
    moves: usize,
    worst: f64,
}

struct World {
    planner: Planner,
    noise: Noise,
    next_node: usize,
    out: Vec<EdgeName>,
    year: Year,
}

impl World {
    fn new() -> Self {
        let mut noise = Noise(2027);
        let fleet = regional_fleet(&mut noise, NODE_COUNT, REGION_COUNT);
        let mut planner = Planner::new(fleet, &Plan::default()).expect("it is there");
        assert!(planner.replan().refusals.is_empty());
        Self { planner, noise, next_node: NODE_COUNT, out: Vec::new(), year: Year::default() }
    }

    /// Plans, and checks what holds after every event. `floor` is what no plan can be below that makes no more moves than
    /// this one may, besides the mean.
    fn replan(&mut self, what: &str, floor: f64) -> Outcome {
        let outcome = self.planner.replan();
        assert!(outcome.refusals.is_empty(), "{what}: {:?}", outcome.refusals.first());
        assert!(outcome.moved_by_choice <= outcome.budget, "{what}: {} moved", outcome.moved_by_choice);
        for edge in &outcome.edges {
            assert!(edge.after <= 1.0, "{what}: {} is overbooked", edge.edge);
        }
        let lowest = outcome.bound.max(floor);
        let above = outcome.fullest / lowest;
        assert!(above <= 1.05, "{what}: {} instead of {lowest}", outcome.fullest);
        self.year.worst = self.year.worst.max(above);
        self.year.moves += outcome.moves.iter().filter(|it| it.from.is_some()).count();
        outcome
    }

    fn serving(&mut self) -> EdgeName {
        let edges = self.planner.fleet().edges.iter().filter(|edge| edge.service.takes_subjects());
        let names: Vec<EdgeName> = edges.map(|edge| edge.name.clone()).collect();
        names[self.noise.below(names.len() as u64) as usize].clone()
    }

    fn edge_goes(&mut self, service: Service) {
        if self.out.len() >= 4 {
            return;
        }
        let edge = self.serving();
        let plan = self.planner.plan();
        self.planner.apply(Event::Service(edge.clone(), service)).expect("it is there");
        let floor = lowest_around(&self.planner, &plan, &edge);
        let outcome = self.replan("an edge goes", floor);
        let fill = outcome.edges.iter().find(|fill| fill.edge == edge).expect("it is there");
        let moves = outcome.moves.iter().filter(|it| it.from.is_some()).count();
        assert!(moves * 10 <= fill.subjects_before as usize * 12, "{moves} moves for {}", fill.subjects_before);
        assert_eq!(fill.subjects, 0, "nobody stays on {edge}");
        self.out.push(edge);
        *if service == Service::Down { &mut self.year.deaths } else { &mut self.year.drains } += 1;
    }

    fn edge_comes(&mut self) {
        let Some(edge) = self.out.pop() else { return };
        self.planner.apply(Event::Service(edge.clone(), Service::Serving)).expect("it is there");
        let outcome = self.replan("an edge comes", 0.0);
        let moves = outcome.moves.iter().filter(|it| it.from.is_some()).count();
        assert!(moves <= outcome.budget);
        let share = NODE_COUNT as f64 / (REGION_COUNT * 8) as f64;
        assert!(outcome.budget as f64 <= 1.2 * 3.0 * share, "a budget of {} for about {share}", outcome.budget);
        self.year.joins += 1;
    }

    fn nodes_change(&mut self) {
        for _ in 0..NODE_COUNT / 200 {
            let nodes = &self.planner.fleet().nodes;
            let leaving = nodes[self.noise.below(nodes.len() as u64) as usize].name.clone();
            self.planner.apply(Event::NodeLeft(leaving)).expect("it is there");
            let node = regional_node(&mut self.noise, self.next_node, REGION_COUNT);
            self.planner.apply(Event::Node(Box::new(node))).expect("it is there");
            self.next_node += 1;
        }
        let outcome = self.replan("nodes change", 0.0);
        assert!(outcome.moves.iter().filter(|it| it.from.is_some()).count() <= outcome.budget);
        self.year.node_changes += 1;
    }

    /// One node in fifty needs more or less than yesterday.
    fn load_changes(&mut self) {
        let nodes: Vec<_> = self.planner.fleet().nodes.iter().step_by(50).cloned().collect();
        for node in nodes {
            let mut demand = node.subjects[0].demand;
            demand.rate = BitRate(self.noise.between(1, 39) * 1_000_000);
            self.planner.apply(Event::Demand(node.subjects[0].id(&node.name), demand)).expect("it is there");
        }
        self.replan("loads change", 0.0);
        self.year.load_changes += 1;
    }
}

/// Whoever was on an edge that goes must find room among those edges that one of them may be on. Even if the largest subjects
/// there are moved elsewhere, as many as may, what stays fills these edges so much on the mean.
fn lowest_around(planner: &Planner, plan: &Plan, gone: &EdgeName) -> f64 {
    let fleet = planner.fleet();
    let rates: BTreeMap<_, u64> =
        fleet.nodes.iter().map(|node| (node.subjects[0].id(&node.name), node.subjects[0].demand.rate.0)).collect();
    let persona =
        |name: &PersonaName| fleet.personas.iter().find(|persona| persona.name == *name).expect("it is there");
    let forced = || plan.subjects.values().filter(|placement| placement.edge == *gone);
    let groups: BTreeSet<&GroupName> = forced().flat_map(|placement| &persona(&placement.persona).groups).collect();
    let around = fleet.edges.iter().filter(|edge| groups.contains(&edge.group) && edge.service.takes_subjects());
    let capacities: BTreeMap<&EdgeName, u64> =
        around.map(|edge| (&edge.name, edge.capacity.rate.expect("each edge has one").0)).collect();
    let there = plan.subjects.iter().filter(|(_, placement)| capacities.contains_key(&placement.edge));
    let mut staying: Vec<u64> = there.map(|(id, _)| rates[id]).collect();
    staying.sort_unstable();
    staying.truncate(staying.len().saturating_sub(forced().count() / 5));
    let arriving: u64 = plan.subjects.iter().filter(|(_, it)| it.edge == *gone).map(|(id, _)| rates[id]).sum();
    (staying.iter().sum::<u64>() + arriving) as f64 / capacities.values().sum::<u64>() as f64
}

#[test]
fn a_year_of_churn_keeps_both_bounds() {
    let mut world = World::new();
    for _ in 0..365 * EVENTS_PER_DAY {
        match world.noise.below(100) {
            0..8 => world.edge_goes(Service::Down),
            8..16 => world.edge_goes(Service::Draining),
            16..40 => world.edge_comes(),
            40..70 => world.nodes_change(),
            _ => world.load_changes(),
        }
    }
    let Year { deaths, drains, joins, node_changes, load_changes, moves, worst } = world.year;
    eprintln!(
        "{deaths} deaths, {drains} drains, {joins} joins, {node_changes} exchanges of nodes, {load_changes} of loads: {moves} moves, worst {:.2} % above",
        100.0 * (worst - 1.0)
    );
    assert!(deaths >= 50 && drains >= 50 && joins >= 100, "a year has all kinds of events");
}
