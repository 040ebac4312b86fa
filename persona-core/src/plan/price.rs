//! Prices of room, so that those who gain least from a wanted edge leave it to others.
//!
//! Everybody who is free asks for the edge worth most to them; where more is asked for than there is, the price rises.
//! A few rounds make a good order to place them in; whether there is room is decided then, not here.

use super::level::Levels;
use super::state::{NOWHERE, State};

/// Rounds of asking.
const ROUND_COUNT: usize = 7;

/// What a whole edge costs more after the first round for each time that it was asked for too much, thousandths of points.
const FIRST_STEP: f64 = 400_000.0;

/// By edge, the price of the whole of it, thousandths of points.
pub(super) fn prices(state: &State<'_>, levels: &Levels) -> Vec<f64> {
    let mut prices = vec![0.0; state.fills.len()];
    let free: Vec<usize> = (0..state.edge_of.len()).filter(|it| state.edge_of[*it] == NOWHERE).collect();
    for round in 0..ROUND_COUNT {
        let mut asked = state.fills.clone();
        for subject in &free {
            if let Some(edge) = wanted(state, &prices, *subject) {
                asked[usize::from(edge)] += state.size(*subject, edge);
            }
        }
        let step = FIRST_STEP / (1 + round) as f64;
        for (edge, price) in prices.iter_mut().enumerate() {
            let over = asked[edge] / levels.enough[edge].max(f64::EPSILON) - 1.0;
            *price = (*price + step * over.clamp(-1.0, 2.0)).max(0.0);
        }
    }
    prices
}

fn wanted(state: &State<'_>, prices: &[f64], subject: usize) -> Option<u16> {
    let ground = state.ground;
    let mut best: Option<(f64, u16)> = None;
    for candidate in ground.subjects.candidates[subject].iter().filter(|candidate| state.is_open(candidate.edge)) {
        let price = prices[usize::from(candidate.edge)] * state.size(subject, candidate.edge);
        let worth = f64::from(state.score(candidate)) - price;
        if best.is_none_or(|(most, _)| worth > most) {
            best = Some((worth, candidate.edge));
        }
    }
    best.map(|(_, edge)| edge)
}
