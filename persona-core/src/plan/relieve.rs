//! The fullest edges made emptier, one chain of moves after another, until they are empty enough or nothing helps.

use super::chain::{Movers, Search};
use super::level::Levels;
use super::state::State;

/// What a chain of subjects that are free anyway must gain, of the edge's fill.
const GAIN_FREE: f64 = 0.002;

/// What a chain must gain in which somebody moves who could stay.
const GAIN_MOVED: f64 = 0.01;

/// Relieves edges, the fullest first. Notes where it could not: there the level is what it is.
pub(super) fn relieve(state: &mut State<'_>, levels: &mut Levels, search: &mut Search) {
    let mut is_done: Vec<bool> = (0..state.fills.len()).map(|edge| !state.is_open(edge as u16)).collect();
    while let Some(edge) = fullest(state, &is_done) {
        let (index, fill) = (usize::from(edge), state.fills[usize::from(edge)]);
        if fill <= levels.enough[index] {
            is_done[index] = true;
            continue;
        }
        if search.relieve(state, edge, Movers::Free, fill * (1.0 - GAIN_FREE)) {
            continue;
        }
        let most = fill * (1.0 - GAIN_MOVED);
        if state.budget_left() > 0 && search.relieve(state, edge, Movers::Anybody, most) {
            continue;
        }
        // Whoever is on these edges can only go to others of them, none of which is emptier.
        for reached in search.reached() {
            is_done[usize::from(*reached)] = true;
            let level = &mut levels.reached[usize::from(*reached)];
            *level = level.max(fill);
        }
    }
}

fn fullest(state: &State<'_>, is_done: &[bool]) -> Option<u16> {
    let mut fullest: Option<usize> = None;
    for edge in (0..is_done.len()).filter(|edge| !is_done[*edge]) {
        if fullest.is_none_or(|other| state.fills[edge] > state.fills[other]) {
            fullest = Some(edge);
        }
    }
    fullest.map(|edge| edge as u16)
}
