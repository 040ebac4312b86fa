//! A fleet kept ready for planning: events change it, and each plan goes on from the one before.
//!
//! What is kept between plans is only what reading the fleet and the plan anew would give, so that both come to the same.

use std::collections::{BTreeMap, BTreeSet};

use super::budget::budget;
use super::chain::Search;
use super::event::Event;
use super::explain::{self, SubjectExplanation};
use super::fleet::{Fleet, FleetEdge, FleetNode};
use super::ground::Ground;
use super::improve::{improve_free, improve_placed};
use super::level::{Levels, bound};
use super::outcome::{Outcome, Placement, Plan};
use super::place::place;
use super::read::{FleetError, check_capacity, check_fleet, check_node};
use super::relieve::relieve;
use super::report::{before_of, fills, moves, placement, without_place};
use super::state::{GONE, NOWHERE, State};
use super::tables::Amount;
use crate::ids::{EdgeName, NodeName, SubjectId};
use crate::nearest::nearest;

/// A fleet and its plan.
#[derive(Debug, Clone)]
pub struct Planner {
    ground: Ground,
    /// By subject, its edge, [`NOWHERE`] or [`GONE`].
    current: Vec<u16>,
    /// Where the last plan has those who left since, or whose edge did.
    gone: BTreeMap<SubjectId, EdgeName>,
    /// The edges that the last plan could put subjects on.
    known: BTreeSet<EdgeName>,
}

impl Planner {
    /// Reads a fleet and the plan that it has. What the plan says of subjects that the fleet lacks is forgotten.
    pub fn new(fleet: Fleet, plan: &Plan) -> Result<Self, Vec<FleetError>> {
        refuse(check_fleet(&fleet))?;
        let ground = Ground::new(fleet);
        let (mut current, mut gone) = (vec![NOWHERE; ground.subjects.ids.len()], BTreeMap::new());
        for (subject, placement) in &plan.subjects {
            let edge = ground.tables.edge_index.get(&placement.edge).copied();
            let index = ground.index_of(subject);
            if let Some(index) = index {
                current[index] = edge.unwrap_or(GONE);
            }
            if index.is_none() || edge.is_none() {
                gone.insert(subject.clone(), placement.edge.clone());
            }
        }
        Ok(Self { ground, current, gone, known: plan.edges.iter().cloned().collect() })
    }

    /// The fleet as it is now, in order of names.
    pub fn fleet(&self) -> &Fleet {
        &self.ground.fleet
    }

    /// Takes note of a change; nothing moves before [`Planner::replan`].
    pub fn apply(&mut self, event: Event) -> Result<(), Vec<FleetError>> {
        match event {
            Event::Service(edge, service) => {
                let index = self.edge_index(&edge)?;
                self.ground.fleet.edges[index].service = service;
                self.ground.tables.edges[index].service = service;
            }
            Event::Capacity(edge, capacity) => {
                let index = self.edge_index(&edge)?;
                refuse(check_capacity(&format!("edge {edge}"), &capacity))?;
                self.ground.fleet.edges[index].capacity = capacity;
                self.ground.tables.set_capacity(index, &capacity);
            }
            Event::Demand(subject, demand) => {
                let index = self.ground.index_of(&subject);
                let index = index.ok_or_else(|| unknown("subject", &subject, None))?;
                self.ground.set_demand(index, demand);
            }
            Event::Node(node) => {
                refuse(check_node(&self.ground.fleet, &node))?;
                let name = node.name.clone();
                self.replace_node(&name, Some(*node));
            }
            Event::NodeLeft(node) => {
                if !self.ground.fleet.nodes.iter().any(|other| other.name == node) {
                    let names = self.ground.fleet.nodes.iter().map(|node| node.name.as_str());
                    return Err(unknown("node", &node, nearest(node.as_str(), names)));
                }
                self.replace_node(&node, None);
            }
            Event::Edge(edge) => {
                let name = edge.name.clone();
                return self.replace_edge(&name, Some(*edge));
            }
            Event::EdgeLeft(edge) => {
                self.edge_index(&edge)?;
                return self.replace_edge(&edge, None);
            }
        }
        Ok(())
    }

    fn edge_index(&self, edge: &EdgeName) -> Result<usize, Vec<FleetError>> {
        let index = self.ground.tables.edge_index.get(edge);
        index.map(|index| usize::from(*index)).ok_or_else(|| {
            let names = self.ground.fleet.edges.iter().map(|edge| edge.name.as_str());
            unknown("edge", edge, nearest(edge.as_str(), names))
        })
    }

    /// Puts a node in, in the place of the one of that name, or takes it out. Who comes back before the next plan is where
    /// the last one had it.
    fn replace_node(&mut self, name: &NodeName, new: Option<FleetNode>) {
        let before = self.ground.subjects_of(name);
        for (id, edge) in self.ground.subjects.ids[before.clone()].iter().zip(&self.current[before.clone()]) {
            if let Some(edge) = self.ground.fleet.edges.get(usize::from(*edge)) {
                self.gone.insert(id.clone(), edge.name.clone());
            }
        }
        self.ground.replace_node(name, new);
        let place = |id: &SubjectId| match self.gone.get(id) {
            None => NOWHERE,
            Some(edge) => self.ground.tables.edge_index.get(edge).copied().unwrap_or(GONE),
        };
        let new: Vec<u16> = self.ground.subjects.ids[self.ground.subjects_of(name)].iter().map(place).collect();
        self.current.splice(before, new);
    }

    /// Puts an edge in, in the place of the one of that name, or takes it out.
    fn replace_edge(&mut self, name: &EdgeName, new: Option<FleetEdge>) -> Result<(), Vec<FleetError>> {
        let mut fleet = self.ground.fleet.clone();
        fleet.edges.retain(|edge| edge.name != *name);
        fleet.edges.extend(new);
        self.read_anew(fleet)
    }

    /// Makes the next plan.
    pub fn replan(&mut self) -> Outcome {
        let components = self.ground.components();
        let mut state = State::new(&self.ground, &self.current);
        let before = before_of(&self.ground, &self.current);
        let name = |edge: u16| &self.ground.fleet.edges[usize::from(edge)].name;
        let is_new = |edge: &u16| state.is_open(*edge) && !self.known.contains(name(*edge));
        let joined: Vec<u16> = (0..components.len() as u16).filter(is_new).collect();
        let is_first = self.current.iter().all(|edge| *edge == NOWHERE);
        let has_event = !joined.is_empty() || (0..self.current.len()).any(|it| is_forced(&state, &self.current, it));
        state.budget = if is_first { 0 } else { budget(&state, &self.current, &joined) };
        let mut levels = Levels::new(&self.ground, &components);
        let mut search = Search::new(components.len());
        place(&mut state, &levels, &mut search);
        relieve(&mut state, &mut levels, &mut search);
        improve_free(&mut state, &levels);
        if !has_event {
            improve_placed(&mut state, &levels);
        }
        // Where others moved meanwhile, there may be room by now.
        let homeless = place(&mut state, &levels, &mut search);
        let (refusals, waiting) = without_place(&state, &self.current, &homeless);
        let outcome = Outcome {
            moves: moves(&state, &self.current),
            refusals,
            waiting: waiting.iter().map(|subject| self.ground.subjects.ids[*subject].clone()).collect(),
            edges: fills(&state, &before, &waiting, &self.current),
            moved_by_choice: state.moved_count,
            budget: state.budget,
            fullest: state.fills.iter().copied().fold(0.0, f64::max),
            bound: bound(&state, &components),
        };
        let mut next = state.edge_of;
        waiting.iter().for_each(|subject| next[*subject] = self.current[*subject]);
        self.current = next;
        self.gone.clear();
        let open = self.ground.fleet.edges.iter().filter(|edge| edge.service.takes_subjects());
        self.known = open.map(|edge| edge.name.clone()).collect();
        outcome
    }

    /// The plan as it is kept, with each subject's runners-up and what filters refused it.
    pub fn plan(&self) -> Plan {
        let state = State::new(&self.ground, &self.current);
        let mut plan = Plan { edges: self.known.iter().cloned().collect(), ..Plan::default() };
        for (subject, edge) in self.placed() {
            plan.subjects.insert(self.ground.subjects.ids[subject].clone(), placement(&state, subject, edge));
        }
        plan
    }

    /// The same of some subjects: those of them that have a place.
    pub fn placed_among<'a>(
        &self,
        subjects: impl IntoIterator<Item = &'a SubjectId>,
    ) -> BTreeMap<SubjectId, Placement> {
        let state = State::new(&self.ground, &self.current);
        let known = subjects.into_iter().filter_map(|subject| Some((subject, self.ground.index_of(subject)?)));
        let placed = known.filter(|(_, index)| !matches!(self.current[*index], NOWHERE | GONE));
        placed.map(|(subject, index)| (subject.clone(), placement(&state, index, self.current[index]))).collect()
    }

    /// Every subject that has a place, and its edge.
    pub fn placements(&self) -> impl Iterator<Item = (&SubjectId, &EdgeName)> {
        let edges = &self.ground.fleet.edges;
        self.placed().map(|(subject, edge)| (&self.ground.subjects.ids[subject], &edges[usize::from(edge)].name))
    }

    /// The edges that the last plan could put subjects on.
    pub fn known_edges(&self) -> &BTreeSet<EdgeName> {
        &self.known
    }

    /// Reads another fleet, going on from the plan that there is.
    pub(super) fn read_anew(&mut self, fleet: Fleet) -> Result<(), Vec<FleetError>> {
        *self = Self::new(fleet, &self.places())?;
        Ok(())
    }

    /// The plan without what only people read, those included whose edge is gone.
    fn places(&self) -> Plan {
        let mut plan = Plan { edges: self.known.iter().cloned().collect(), ..Plan::default() };
        let name = |edge: u16| self.ground.fleet.edges[usize::from(edge)].name.clone();
        let placed = self.placed().map(|(subject, edge)| (self.ground.subjects.ids[subject].clone(), name(edge)));
        let gone = self.gone.iter().map(|(subject, edge)| (subject.clone(), edge.clone()));
        let persona = self.ground.fleet.personas.first().map(|persona| &persona.name);
        for (subject, edge) in placed.chain(gone) {
            let persona = persona.expect("whoever has a place has a persona").clone();
            let placement = Placement { persona, edge, score: 0.0, next: Vec::new(), refused: Vec::new() };
            plan.subjects.insert(subject, placement);
        }
        plan
    }

    fn placed(&self) -> impl Iterator<Item = (usize, u16)> {
        let all = self.current.iter().copied().enumerate();
        all.filter(|(_, edge)| !matches!(*edge, NOWHERE | GONE))
    }

    /// Why a subject is where it is, every edge considered. None: the fleet has no such subject.
    pub fn explain(&self, subject: &SubjectId) -> Option<SubjectExplanation> {
        let index = self.ground.index_of(subject)?;
        let state = State::new(&self.ground, &self.current);
        Some(explain::explanation(&state, index, self.current[index]))
    }

    /// By edge, what the plan reserves.
    pub(super) fn loads(&self) -> Vec<Amount> {
        before_of(&self.ground, &self.current).into_iter().map(|(load, _)| load).collect()
    }

    /// What there is to plan with.
    pub(super) fn ground(&self) -> &Ground {
        &self.ground
    }
}

fn refuse(errors: Vec<FleetError>) -> Result<(), Vec<FleetError>> {
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

fn unknown(what: &str, name: &dyn std::fmt::Display, meant: Option<&str>) -> Vec<FleetError> {
    let hint = meant.map(|meant| format!("; did you mean {meant}?")).unwrap_or_default();
    vec![FleetError { path: String::new(), message: format!("the fleet has no {what} {name}{hint}") }]
}

fn is_forced(state: &State<'_>, current: &[u16], subject: usize) -> bool {
    current[subject] != NOWHERE && state.is_free(subject)
}
