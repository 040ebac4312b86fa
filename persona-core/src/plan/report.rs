//! From a finished plan to what is told of it: moves, refusals, how full edges get, and what is kept of each subject.

use super::filter::{Filter, PAIR_FILTERS};
use super::fleet::Service;
use super::ground::{Candidate, Ground};
use super::outcome::{EdgeFill, FilterCount, Move, Placement, Refusal, RunnerUp};
use super::refuse::{demand_of, refusal};
use super::state::{NOWHERE, State};
use super::tables::{Amount, DIMENSIONS};

/// Runners-up that a plan keeps.
const RUNNER_UP_COUNT: usize = 3;

/// By edge, load and subjects of a plan, whether or not it still holds.
pub(super) fn before_of(ground: &Ground, current: &[u16]) -> Vec<(Amount, u32)> {
    let mut before = vec![(Amount::default(), 0); ground.tables.edges.len()];
    for (facts, edge) in ground.subjects.facts.iter().zip(current) {
        if let Some((load, count)) = before.get_mut(usize::from(*edge)) {
            load.iter_mut().zip(facts.demand).for_each(|(sum, units)| *sum = sum.saturating_add(units));
            *count += 1;
        }
    }
    before
}

/// Who is refused, and who stays on an edge that drains.
pub(super) fn without_place(state: &State<'_>, current: &[u16], homeless: &[usize]) -> (Vec<Refusal>, Vec<usize>) {
    let edge = |subject: usize| state.ground.fleet.edges.get(usize::from(current[subject]));
    let drains = |subject: &&usize| edge(**subject).is_some_and(|it| it.service == Service::Draining);
    let (waiting, refused): (Vec<&usize>, Vec<&usize>) = homeless.iter().partition(|subject| drains(subject));
    let mut refused: Vec<usize> = refused.into_iter().copied().collect();
    refused.sort_unstable();
    let refusals = refused.into_iter().map(|it| refusal(state, it, edge(it).map(|edge| edge.name.clone())));
    (refusals.collect(), waiting.into_iter().copied().collect())
}

/// Who is elsewhere than before.
pub(super) fn moves(state: &State<'_>, current: &[u16]) -> Vec<Move> {
    let edges = &state.ground.fleet.edges;
    let changed = (0..current.len()).filter(|it| state.edge_of[*it] != NOWHERE && state.edge_of[*it] != current[*it]);
    let told = changed.map(|subject| Move {
        subject: state.ground.subjects.ids[subject].clone(),
        from: edges.get(usize::from(current[subject])).map(|edge| edge.name.clone()),
        to: edges[usize::from(state.edge_of[subject])].name.clone(),
        cause: state.causes[subject],
    });
    told.collect()
}

/// How full edges were and are, those who wait counted where they wait.
pub(super) fn fills(state: &State<'_>, before: &[(Amount, u32)], waiting: &[usize], current: &[u16]) -> Vec<EdgeFill> {
    let ground = state.ground;
    let mut loads = state.loads.clone();
    let mut counts: Vec<u32> = state.members.iter().map(|members| members.len() as u32).collect();
    for subject in waiting {
        let index = usize::from(current[*subject]);
        loads[index].iter_mut().zip(ground.subjects.facts[*subject].demand).for_each(|(load, units)| *load += units);
        counts[index] += 1;
    }
    let parts = |index: usize, load: &Amount| {
        let per_unit = ground.tables.edges[index].per_unit;
        let parts = load.iter().zip(per_unit).map(|(units, per_unit)| *units as f64 * per_unit);
        parts.zip(DIMENSIONS).fold(
            (0.0, None),
            |(most, name), (part, dimension)| {
                if part > most { (part, Some(dimension)) } else { (most, name) }
            },
        )
    };
    let told = ground.fleet.edges.iter().enumerate().map(|(index, edge)| {
        let (after, dimension) = parts(index, &loads[index]);
        EdgeFill {
            edge: edge.name.clone(),
            service: edge.service,
            subjects_before: before[index].1,
            subjects: counts[index],
            load: demand_of(&loads[index]),
            before: parts(index, &before[index].0).0,
            after,
            dimension,
        }
    });
    told.collect()
}

/// What is kept of a subject that is on an edge.
pub(super) fn placement(state: &State<'_>, subject: usize, edge: u16) -> Placement {
    let ground = state.ground;
    let points = |candidate: &Candidate| f64::from(state.score(candidate)) / 1_000.0;
    let own = ground.candidate(subject, edge);
    let mut others: Vec<_> = ground.subjects.candidates[subject].iter().filter(|it| it.edge != edge).collect();
    let mut counts: Vec<(Filter, u32)> =
        PAIR_FILTERS.into_iter().zip(ground.subjects.tallies[subject].map(u32::from)).collect();
    let is_closed = |candidate: &&Candidate| !state.is_open(candidate.edge);
    counts.push((Filter::Service, others.iter().filter(|candidate| is_closed(candidate)).count() as u32));
    others.retain(|candidate| state.is_open(candidate.edge));
    others.sort_by_key(|candidate| (std::cmp::Reverse(state.score(candidate)), candidate.edge));
    let runner_up = |candidate: &Candidate| RunnerUp {
        edge: ground.fleet.edges[usize::from(candidate.edge)].name.clone(),
        score: points(candidate),
    };
    let personas = &ground.subjects.facts[subject].personas;
    let persona = personas[own.map_or(0, |candidate| usize::from(candidate.persona))];
    Placement {
        persona: ground.fleet.personas[usize::from(persona)].name.clone(),
        edge: ground.fleet.edges[usize::from(edge)].name.clone(),
        score: own.map_or(0.0, points),
        next: others.into_iter().take(RUNNER_UP_COUNT).map(runner_up).collect(),
        refused: counts
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .map(|(filter, count)| FilterCount { filter, count })
            .collect(),
    }
}
