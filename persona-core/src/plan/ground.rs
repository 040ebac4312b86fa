//! What planning works on: tables, and for every subject its facts and the edges that it may be on, with scores.
//!
//! Subjects are numbered by node and workload. An event changes only what it concerns; the result is the same as that of
//! reading the changed fleet anew.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use super::compile::NodeReader;
use super::fleet::{Demand, Fleet, FleetNode};
use super::geometry::Point;
use super::tables::{Amount, Tables, Wanted, amount_of};
use crate::ids::{NodeName, SubjectId, WorkloadName};

/// A subject.
#[derive(Debug, Clone)]
pub(super) struct SubjectFacts {
    pub(super) demand: Amount,
    /// The same as fractions, which is what sizes are made of.
    pub(super) units: [f64; 4],
    /// Numbers of its personas, the preferred one first.
    pub(super) personas: Vec<u16>,
    /// The only group that can carry it.
    pub(super) group: Option<u16>,
    pub(super) requires: Wanted,
    pub(super) prefers: u128,
    /// The policies that are for it.
    pub(super) policies: u64,
    /// Rules about groups' shares that count it.
    pub(super) shares: Vec<u8>,
    /// Rules about distance that count it, with the number of its label's value.
    pub(super) aparts: Vec<(u8, u32)>,
    pub(super) point: Option<Point>,
    /// Thousandths of points for each edge's distance from the content that it asks for itself. None: its persona's counts.
    pub(super) content_scores: Option<Arc<[i32]>>,
}

/// An edge that a subject may be on, as far as anything but load and service is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) edge: u16,
    /// The place of the persona in the subject's list.
    pub(super) persona: u8,
    /// Thousandths of points.
    pub(super) score: i32,
}

/// How many edges each of the filters refused that look at the pair alone.
pub(super) type Tally = [u16; super::filter::PAIR_FILTERS.len()];

/// Values of labels that rules about distance compare, each with a number.
pub(super) type LabelValues = HashMap<(u8, String), u32>;

/// Subjects, by number.
#[derive(Debug, Clone, Default)]
pub(super) struct Subjects {
    pub(super) ids: Vec<SubjectId>,
    pub(super) facts: Vec<SubjectFacts>,
    /// In the order of edges.
    pub(super) candidates: Vec<Vec<Candidate>>,
    pub(super) tallies: Vec<Tally>,
}

impl Subjects {
    fn replace(&mut self, range: std::ops::Range<usize>, new: Self) {
        self.ids.splice(range.clone(), new.ids);
        self.facts.splice(range.clone(), new.facts);
        self.candidates.splice(range.clone(), new.candidates);
        self.tallies.splice(range, new.tallies);
    }
}

/// All of it.
#[derive(Debug, Clone)]
pub(super) struct Ground {
    pub(super) fleet: Fleet,
    pub(super) tables: Tables,
    pub(super) subjects: Subjects,
    pub(super) values: LabelValues,
    /// By edge, which others it shares subjects with, directly or through others. None: not known yet.
    components: Option<Vec<u16>>,
}

/// The order of subjects: by node, the host itself before its workloads.
pub(super) fn order_of(one: &SubjectId, other: &SubjectId) -> Ordering {
    one.node().cmp(other.node()).then_with(|| workload_of(one).cmp(&workload_of(other)))
}

fn workload_of(subject: &SubjectId) -> Option<&WorkloadName> {
    match subject {
        SubjectId::Node(_) => None,
        SubjectId::Workload(_, workload) => Some(workload),
    }
}

impl Ground {
    /// The ground of a fleet that was checked.
    pub(super) fn new(mut fleet: Fleet) -> Self {
        fleet.edges.sort_by(|one, other| one.name.cmp(&other.name));
        fleet.nodes.sort_by(|one, other| one.name.cmp(&other.name));
        fleet.nodes.iter_mut().for_each(sort_subjects);
        let tables = Tables::new(&fleet);
        let mut ground = Self {
            fleet: Fleet::default(),
            tables,
            subjects: Subjects::default(),
            values: LabelValues::new(),
            components: None,
        };
        ground.fleet = fleet;
        ground.read_subjects();
        ground
    }

    fn read_subjects(&mut self) {
        let Self { fleet, tables, subjects, values, .. } = self;
        let mut reader = NodeReader::new(fleet, tables, values);
        fleet.nodes.iter().for_each(|node| reader.read(node, subjects));
        self.components = None;
    }

    /// The numbers of a node's subjects.
    pub(super) fn subjects_of(&self, node: &NodeName) -> std::ops::Range<usize> {
        let start = self.subjects.ids.partition_point(|id| id.node() < node);
        let length = self.subjects.ids[start..].iter().take_while(|id| id.node() == node).count();
        start..start + length
    }

    /// The number of a subject.
    pub(super) fn index_of(&self, subject: &SubjectId) -> Option<usize> {
        self.subjects.ids.binary_search_by(|id| order_of(id, subject)).ok()
    }

    /// Puts a node's subjects in the place of those that it had; answers which these were.
    pub(super) fn replace_node(&mut self, node: &NodeName, new: Option<FleetNode>) -> std::ops::Range<usize> {
        let range = self.subjects_of(node);
        let at = self.fleet.nodes.partition_point(|other| other.name < *node);
        let is_there = self.fleet.nodes.get(at).is_some_and(|other| other.name == *node);
        let old = usize::from(is_there);
        let new = new.map(|mut node| {
            sort_subjects(&mut node);
            node
        });
        let mut read = Subjects::default();
        if let Some(node) = &new {
            NodeReader::new(&self.fleet, &self.tables, &mut self.values).read(node, &mut read);
        }
        self.subjects.replace(range.clone(), read);
        self.fleet.nodes.splice(at..at + old, new);
        self.components = None;
        range
    }

    /// The candidate that stands for a subject on an edge.
    pub(super) fn candidate(&self, subject: usize, edge: u16) -> Option<&Candidate> {
        let candidates = &self.subjects.candidates[subject];
        candidates.binary_search_by_key(&edge, |candidate| candidate.edge).ok().map(|at| &candidates[at])
    }

    /// By edge, the number of the component that it is in: edges that share subjects, directly or through others.
    pub(super) fn find_components(&self) -> Vec<u16> {
        let find = || find_components(self.tables.edges.len(), &self.subjects.candidates);
        self.components.clone().unwrap_or_else(find)
    }

    /// The same, kept for the next time.
    pub(super) fn components(&mut self) -> Vec<u16> {
        let components = self.find_components();
        self.components = Some(components.clone());
        components
    }

    /// Writes down what a subject needs now.
    pub(super) fn set_demand(&mut self, subject: usize, demand: Demand) {
        let facts = &mut self.subjects.facts[subject];
        facts.demand = amount_of(&demand);
        facts.units = facts.demand.map(|units| units as f64);
        let id = &self.subjects.ids[subject];
        let at = self.fleet.nodes.partition_point(|node| node.name < *id.node());
        let node = &mut self.fleet.nodes[at];
        let own = node.subjects.iter_mut().find(|own| own.workload.as_ref() == workload_of(id));
        own.expect("every subject stands in the fleet").demand = demand;
    }
}

fn sort_subjects(node: &mut FleetNode) {
    node.subjects.sort_by(|one, other| one.workload.cmp(&other.workload));
}

fn find_components(edge_count: usize, candidates: &[Vec<Candidate>]) -> Vec<u16> {
    let mut parents: Vec<u16> = (0..edge_count as u16).collect();
    fn root(parents: &mut [u16], mut edge: u16) -> u16 {
        while parents[usize::from(edge)] != edge {
            let above = parents[usize::from(parents[usize::from(edge)])];
            parents[usize::from(edge)] = above;
            edge = above;
        }
        edge
    }
    for candidates in candidates {
        let Some((first, others)) = candidates.split_first() else { continue };
        let mut lowest = root(&mut parents, first.edge);
        for other in others {
            let found = root(&mut parents, other.edge);
            // The lowest number stands for all, so that the order of subjects does not matter.
            let (low, high) = (lowest.min(found), lowest.max(found));
            parents[usize::from(high)] = low;
            lowest = low;
        }
    }
    (0..edge_count as u16).map(|edge| root(&mut parents, edge)).collect()
}
