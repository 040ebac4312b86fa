//! Better scores without fuller edges: first for those who are free, then, where no edge came or went, for everybody.

use super::level::Levels;
use super::outcome::MoveCause;
use super::state::{NOWHERE, State};

/// How often everybody who is free is looked at.
const ROUND_COUNT: usize = 3;

/// Moves who is free to better edges with room, until nobody gains or the rounds are over.
pub(super) fn improve_free(state: &mut State<'_>, levels: &Levels) {
    let free: Vec<usize> = (0..state.edge_of.len()).filter(|it| state.is_free(*it)).collect();
    for _ in 0..ROUND_COUNT {
        let mut has_moved = false;
        for subject in &free {
            if let Some((edge, _)) = better(state, levels, *subject, 1) {
                state.go(*subject, edge, MoveCause::Better);
                has_moved = true;
            }
        }
        if !has_moved {
            break;
        }
    }
}

/// Moves those who gain most, if it is enough to be worth it, within the budget.
pub(super) fn improve_placed(state: &mut State<'_>, levels: &Levels) {
    let worth_it = (state.ground.fleet.planning.stickiness * 1_000.0).max(1.0) as i32;
    let placed = (0..state.edge_of.len()).filter(|it| !state.is_free(*it) && state.edge_of[*it] == state.home[*it]);
    let gains = placed.filter_map(|subject| Some((better(state, levels, subject, worth_it)?.1, subject)));
    let mut gains: Vec<(i32, usize)> = gains.collect();
    gains.sort_by_key(|(gain, subject)| (std::cmp::Reverse(*gain), *subject));
    for (_, subject) in gains {
        if state.budget_left() == 0 {
            break;
        }
        // Others may have taken the room meanwhile.
        if let Some((edge, _)) = better(state, levels, subject, worth_it) {
            state.go(subject, edge, MoveCause::Better);
        }
    }
}

/// The best edge with room for a subject, if it gains at least so much, and what it gains.
fn better(state: &State<'_>, levels: &Levels, subject: usize, gain_min: i32) -> Option<(u16, i32)> {
    let (ground, here) = (state.ground, state.edge_of[subject]);
    if here == NOWHERE {
        return None;
    }
    let now = state.score(ground.candidate(subject, here)?);
    let mut best: Option<(u16, i32)> = None;
    for candidate in ground.subjects.candidates[subject].iter().filter(|candidate| candidate.edge != here) {
        let gain = state.score(candidate) - now;
        let is_better = gain >= best.map_or(gain_min, |(_, most)| most + 1);
        if is_better && state.takes(subject, candidate.edge, levels.reached[usize::from(candidate.edge)]) {
            best = Some((candidate.edge, gain));
        }
    }
    best
}
