//! Who is on which edge while a plan is made, and how full that makes edges.
//!
//! Loads are sums of integers, so they are the same whatever the order; nothing is added that does not fit.

use super::coupled::Coupled;
use super::filter::Filter;
use super::fleet::Service;
use super::ground::{Candidate, Ground};
use super::outcome::MoveCause;
use super::score::health_score;
use super::tables::Amount;

/// Stands for no edge.
pub(super) const NOWHERE: u16 = u16::MAX;

/// Stands for an edge that the fleet no longer has.
pub(super) const GONE: u16 = u16::MAX - 1;

/// A half-made plan.
pub(super) struct State<'a> {
    pub(super) ground: &'a Ground,
    /// By subject, its edge or [`NOWHERE`].
    pub(super) edge_of: Vec<u16>,
    /// By subject, the edge that it can stay on, or [`NOWHERE`] if it may be put anywhere.
    pub(super) home: Vec<u16>,
    /// By subject, why it was moved last.
    pub(super) causes: Vec<MoveCause>,
    pub(super) loads: Vec<Amount>,
    /// By edge, what one unit of each dimension fills.
    per_unit: Vec<[f64; 4]>,
    /// By edge, whether subjects are planned onto it.
    is_open: Vec<bool>,
    /// By edge, how full its fullest dimension is; 1 is full.
    pub(super) fills: Vec<f64>,
    /// By edge, what its state adds to scores.
    health: Vec<i32>,
    /// By edge, the subjects on it.
    pub(super) members: Vec<Vec<u32>>,
    /// By subject, its place among the members of its edge.
    slots: Vec<u32>,
    pub(super) coupled: Coupled,
    /// Subjects that could stay and are elsewhere.
    pub(super) moved_count: usize,
    /// How many of them there may be.
    pub(super) budget: usize,
}

impl<'a> State<'a> {
    /// Takes over what holds of the current plan, subject by subject; who no longer fits where it was is free.
    pub(super) fn new(ground: &'a Ground, current: &[u16]) -> Self {
        let (subject_count, edge_count) = (ground.subjects.ids.len(), ground.tables.edges.len());
        let mut state = Self {
            ground,
            edge_of: vec![NOWHERE; subject_count],
            home: vec![NOWHERE; subject_count],
            causes: vec![MoveCause::New; subject_count],
            loads: vec![Amount::default(); edge_count],
            per_unit: ground.tables.edges.iter().map(|edge| edge.per_unit).collect(),
            is_open: ground.tables.edges.iter().map(|edge| edge.service.takes_subjects()).collect(),
            fills: vec![0.0; edge_count],
            health: ground.tables.edges.iter().map(|edge| health_score(edge.service)).collect(),
            members: vec![Vec::new(); edge_count],
            slots: vec![0; subject_count],
            coupled: Coupled::new(ground),
            moved_count: 0,
            budget: 0,
        };
        for (subject, edge) in current.iter().enumerate() {
            match state.obstacle(subject, *edge) {
                None => {
                    state.put(subject, *edge);
                    state.home[subject] = *edge;
                }
                Some(cause) => state.causes[subject] = cause,
            }
        }
        state
    }

    /// Why a subject cannot stay on its edge.
    fn obstacle(&self, subject: usize, edge: u16) -> Option<MoveCause> {
        match edge {
            NOWHERE => return Some(MoveCause::New),
            GONE => return Some(MoveCause::EdgeGone),
            _ => {}
        }
        match self.ground.tables.edges[usize::from(edge)].service {
            Service::Down => return Some(MoveCause::EdgeDown),
            Service::Maintenance => return Some(MoveCause::EdgeMaintenance),
            Service::Draining => return Some(MoveCause::EdgeDraining),
            Service::Serving | Service::Degraded => {}
        }
        if self.ground.candidate(subject, edge).is_none() {
            return Some(MoveCause::NoLongerAllowed);
        }
        self.refusal(subject, edge).map(|_| MoveCause::NoLongerFits)
    }

    /// Which filter about the others refuses an edge to a subject that is not on it.
    pub(super) fn refusal(&self, subject: usize, edge: u16) -> Option<Filter> {
        if self.fill_with(subject, edge).is_none() {
            return Some(Filter::Room);
        }
        self.others_refuse(subject, edge)
    }

    /// Which policy about others refuses an edge to a subject that is not on it.
    fn others_refuse(&self, subject: usize, edge: u16) -> Option<Filter> {
        let from = Some(self.edge_of[subject]).filter(|edge| *edge != NOWHERE);
        self.coupled.refusal(self.ground, &self.ground.subjects.facts[subject], from, edge)
    }

    /// How full an edge would be with a subject more. None: there is no room.
    pub(super) fn fill_with(&self, subject: usize, edge: u16) -> Option<f64> {
        self.fill_after(edge, subject, None)
    }

    /// How full an edge would be with one subject more and another one less. None: there is no room.
    pub(super) fn fill_after(&self, edge: u16, arriving: usize, leaving: Option<usize>) -> Option<f64> {
        let index = usize::from(edge);
        let facts = &self.ground.tables.edges[index];
        let (load, demand) = (&self.loads[index], &self.ground.subjects.facts[arriving].demand);
        let mut fill = 0.0;
        for dimension in 0..load.len() {
            let left = leaving.map_or(0, |subject| self.ground.subjects.facts[subject].demand[dimension]);
            let units = (load[dimension] - left).saturating_add(demand[dimension]);
            if units > facts.capacity[dimension] {
                return None;
            }
            fill = larger(fill, units as f64 * self.per_unit[index][dimension]);
        }
        // A product with a reciprocal may come out a hair above one.
        Some(fill.min(1.0))
    }

    /// How full an edge would be without one of its subjects.
    pub(super) fn fill_without(&self, edge: u16, leaving: usize) -> f64 {
        let index = usize::from(edge);
        let per_unit = &self.per_unit[index];
        let left = self.loads[index].iter().zip(&self.ground.subjects.facts[leaving].demand);
        left.zip(per_unit).map(|((load, units), per_unit)| (load - units) as f64 * per_unit).fold(0.0, larger)
    }

    /// What of an edge a subject takes in its fullest dimension.
    pub(super) fn size(&self, subject: usize, edge: u16) -> f64 {
        let units = &self.ground.subjects.facts[subject].units;
        let per_unit = &self.per_unit[usize::from(edge)];
        let parts: [f64; 4] = std::array::from_fn(|dimension| units[dimension] * per_unit[dimension]);
        larger(larger(parts[0], parts[1]), larger(parts[2], parts[3]))
    }

    /// How good an edge is as things stand, thousandths of points.
    pub(super) fn score(&self, candidate: &Candidate) -> i32 {
        candidate.score + self.health[usize::from(candidate.edge)]
    }

    /// Whether a subject may go to an edge if that gets no fuller than `most`.
    pub(super) fn takes(&self, subject: usize, edge: u16, most: f64) -> bool {
        self.fill_if_taken(subject, edge, most).is_some()
    }

    /// How full an edge gets with a subject that may go there if that is no fuller than `most`.
    pub(super) fn fill_if_taken(&self, subject: usize, edge: u16, most: f64) -> Option<f64> {
        let fill = self.fill_with(subject, edge).filter(|fill| self.is_open(edge) && *fill <= most)?;
        self.others_refuse(subject, edge).is_none().then_some(fill)
    }

    /// Whether subjects are planned onto an edge.
    pub(super) fn is_open(&self, edge: u16) -> bool {
        self.is_open[usize::from(edge)]
    }

    /// Whether a subject may be put anywhere without counting as a move.
    pub(super) fn is_free(&self, subject: usize) -> bool {
        self.home[subject] == NOWHERE
    }

    /// Whether a policy makes its place depend on others'.
    pub(super) fn is_coupled(&self, subject: usize) -> bool {
        let facts = &self.ground.subjects.facts[subject];
        !(facts.shares.is_empty() && facts.aparts.is_empty())
    }

    /// Moves that are left.
    pub(super) fn budget_left(&self) -> usize {
        self.budget.saturating_sub(self.moved_count)
    }

    /// What moving a subject from where it is takes from the budget: 1, or 0 if it is free or away from home anyway.
    pub(super) fn price(&self, subject: usize) -> usize {
        usize::from(!self.is_free(subject) && self.edge_of[subject] == self.home[subject])
    }

    /// Puts a subject on an edge, from wherever it is.
    pub(super) fn go(&mut self, subject: usize, edge: u16, cause: MoveCause) {
        self.take_away(subject);
        self.put(subject, edge);
        if !self.is_free(subject) {
            self.causes[subject] = cause;
        }
    }

    fn put(&mut self, subject: usize, edge: u16) {
        let index = usize::from(edge);
        self.edge_of[subject] = edge;
        self.slots[subject] = self.members[index].len() as u32;
        self.members[index].push(subject as u32);
        let facts = &self.ground.subjects.facts[subject];
        self.loads[index].iter_mut().zip(facts.demand).for_each(|(load, units)| *load += units);
        self.coupled.add(self.ground, facts, edge);
        self.moved_count += usize::from(!self.is_free(subject) && self.home[subject] != edge);
        self.refill(index);
    }

    fn take_away(&mut self, subject: usize) {
        let edge = std::mem::replace(&mut self.edge_of[subject], NOWHERE);
        if edge == NOWHERE {
            return;
        }
        let (index, slot) = (usize::from(edge), self.slots[subject] as usize);
        self.members[index].swap_remove(slot);
        if let Some(other) = self.members[index].get(slot) {
            self.slots[*other as usize] = slot as u32;
        }
        let facts = &self.ground.subjects.facts[subject];
        self.loads[index].iter_mut().zip(facts.demand).for_each(|(load, units)| *load -= units);
        self.coupled.remove(self.ground, facts, edge);
        self.moved_count -= usize::from(!self.is_free(subject) && self.home[subject] != edge);
        self.refill(index);
    }

    fn refill(&mut self, index: usize) {
        let per_unit = &self.per_unit[index];
        let shares = self.loads[index].iter().zip(per_unit).map(|(units, per_unit)| *units as f64 * per_unit);
        self.fills[index] = shares.fold(0.0, larger).min(1.0);
    }
}

/// The larger of two numbers, none of which is NaN; a third of the time of what has to ask.
fn larger(one: f64, other: f64) -> f64 {
    if one > other { one } else { other }
}
