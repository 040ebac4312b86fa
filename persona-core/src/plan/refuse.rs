//! Why somebody has no place, and what comes nearest to it.

use std::collections::BTreeMap;

use super::explain::{ConsideredEdge, considered};
use super::fleet::Demand;
use super::outcome::{FilterCount, Nearest, Refusal};
use super::state::State;
use super::tables::{Amount, DIMENSIONS, LEASES};
use crate::ids::EdgeName;
use crate::units::BitRate;

/// The refusal of a subject that is nowhere.
pub(super) fn refusal(state: &State<'_>, subject: usize, from: Option<EdgeName>) -> Refusal {
    let ground = state.ground;
    let edges = considered(state, subject);
    let mut counts: BTreeMap<_, u32> = BTreeMap::new();
    for edge in &edges {
        if let Some(refusal) = edge.refusals.first() {
            *counts.entry(refusal.filter).or_default() += 1;
        }
    }
    let refused: Vec<FilterCount> = counts.into_iter().map(|(filter, count)| FilterCount { filter, count }).collect();
    let told: Vec<String> = refused.iter().map(|it| format!("{} by {}", it.count, it.filter.as_str())).collect();
    let reason = match told.is_empty() {
        true => "the fleet has no edges".to_owned(),
        false => format!("no edge can take it: {} refused", told.join(", ")),
    };
    let nearest = by_room(state, subject, &edges).or_else(|| by_filters(&edges));
    Refusal { subject: ground.subjects.ids[subject].clone(), from, reason, refused, nearest }
}

/// Of edges that lack room only, the one that has most of what is needed.
fn by_room(state: &State<'_>, subject: usize, edges: &[ConsideredEdge]) -> Option<Nearest> {
    let ground = state.ground;
    let mut best: Option<(f64, usize)> = None;
    for candidate in &ground.subjects.candidates[subject] {
        let index = usize::from(candidate.edge);
        if !edges[index].lacks_room_only() {
            continue;
        }
        let part = part_with_room(&ground.subjects.facts[subject].demand, &free_of(state, candidate.edge));
        if best.is_none_or(|(most, _)| part > most) {
            best = Some((part, index));
        }
    }
    let (part, index) = best?;
    let demand = ground.subjects.facts[subject].demand;
    let could = scaled(&demand, &free_of(state, index as u16), part);
    let short = (0..demand.len()).filter(|dimension| could[*dimension] < demand[*dimension]);
    let told = short.map(|it| format!("ask for at most {} {} instead of {}", could[it], DIMENSIONS[it], demand[it]));
    let is_something = (0..demand.len()).all(|dimension| could[dimension] > 0 || demand[dimension] == 0);
    Some(Nearest {
        edge: edges[index].edge.clone(),
        persona: edges[index].persona.clone()?,
        demand: is_something.then(|| demand_of(&could)),
        hints: match is_something {
            true => told.collect(),
            false => edges[index].refusals.iter().map(|refusal| refusal.hint.clone()).collect(),
        },
    })
}

/// The edge that the fewest filters refuse.
fn by_filters(edges: &[ConsideredEdge]) -> Option<Nearest> {
    let named = edges.iter().filter(|edge| edge.persona.is_some());
    let nearest = named.min_by_key(|edge| edge.refusals.len())?;
    Some(Nearest {
        edge: nearest.edge.clone(),
        persona: nearest.persona.clone()?,
        demand: None,
        hints: nearest.refusals.iter().map(|refusal| refusal.hint.clone()).collect(),
    })
}

/// What is left of an edge.
pub(super) fn free_of(state: &State<'_>, edge: u16) -> Amount {
    let index = usize::from(edge);
    let mut free = state.ground.tables.edges[index].capacity;
    free.iter_mut().zip(state.loads[index]).for_each(|(units, load)| *units = units.saturating_sub(load));
    free
}

/// The part of a demand that there is room for. Leases come whole, so they are left out.
fn part_with_room(demand: &Amount, free: &Amount) -> f64 {
    let needed = demand.iter().zip(free).take(LEASES).filter(|(units, _)| **units > 0);
    needed.map(|(units, free)| *free as f64 / *units as f64).fold(1.0, f64::min)
}

fn scaled(demand: &Amount, free: &Amount, part: f64) -> Amount {
    let mut scaled = *demand;
    scaled.iter_mut().take(LEASES).for_each(|units| *units = (*units as f64 * part) as u64);
    scaled.iter_mut().zip(free).for_each(|(units, free)| *units = (*units).min(*free));
    scaled
}

/// An amount as people write it.
pub(super) fn demand_of(amount: &Amount) -> Demand {
    Demand { rate: BitRate(amount[0]), packets_per_sec: amount[1], flows: amount[2], leases: amount[3] }
}
