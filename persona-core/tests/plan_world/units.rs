//! Fleets whose subjects need one lease each: the fullest edge of the best plan, by maximum flow.

use std::collections::BTreeMap;

use persona_core::ids::EdgeName;
use persona_core::plan::{Fleet, FleetEdge, Outcome, Plan, Planner};

use super::flow::Network;

/// A fleet whose subjects need one lease each, as numbers.
pub(crate) struct Units {
    pub(crate) capacities: Vec<u64>,
    pub(crate) choices: Vec<Vec<usize>>,
}

impl Units {
    pub(crate) fn of(fleet: &Fleet) -> Self {
        let open = |edge: &FleetEdge| edge.service.takes_subjects();
        let numbers: BTreeMap<&str, usize> =
            fleet.edges.iter().zip(0..).filter(|(it, _)| open(it)).map(|(it, at)| (it.group.as_str(), at)).collect();
        let groups: BTreeMap<_, _> = fleet.personas.iter().map(|persona| (&persona.name, &persona.groups)).collect();
        let subjects = fleet.nodes.iter().flat_map(|node| &node.subjects);
        let choices = subjects.map(|subject| {
            groups[&subject.personas[0]].iter().filter_map(|group| numbers.get(group.as_str()).copied()).collect()
        });
        let capacity = |edge: &FleetEdge| edge.capacity.leases.filter(|_| open(edge)).unwrap_or(0);
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

    pub(crate) fn optimum(&self) -> Option<f64> {
        let ends = (self.choices.len() + self.capacities.len(), self.choices.len() + self.capacities.len() + 1);
        self.lowest(|fill| self.network(fill, &[]).max_flow(ends.0, ends.1) == self.choices.len() as u64)
    }

    /// With at most so many subjects elsewhere than at home.
    pub(crate) fn optimum_within(&self, homes: &[Option<usize>], moves: usize) -> Option<f64> {
        let ends = (self.choices.len() + self.capacities.len(), self.choices.len() + self.capacities.len() + 1);
        self.lowest(|fill| {
            let (placed, cost) = self.network(fill, homes).cheapest_flow(ends.0, ends.1);
            placed == self.choices.len() as u64 && cost <= moves as i64
        })
    }
}

/// A planner that has planned a fleet from nothing, and what came of it.
pub(crate) fn planned(fleet: &Fleet) -> (Planner, Outcome) {
    let mut planner = Planner::new(fleet.clone(), &Plan::default()).expect("the fleet is right");
    let outcome = planner.replan();
    (planner, outcome)
}

/// Where those are who can stay, by subject; edges by their place in the fleet.
pub(crate) fn homes(fleet: &Fleet, plan: &Plan) -> Vec<Option<usize>> {
    let open = |name: &EdgeName| fleet.edges.iter().position(|it| it.name == *name && it.service.takes_subjects());
    let subjects = fleet.nodes.iter().flat_map(|node| node.subjects.iter().map(|subject| subject.id(&node.name)));
    subjects.map(|id| plan.subjects.get(&id).and_then(|placement| open(&placement.edge))).collect()
}
