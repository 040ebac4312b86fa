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
    let offers = Offers::of(state);
    for round in 0..ROUND_COUNT {
        let mut asked = state.fills.clone();
        for wanted in offers.by_subject().filter_map(|offers| wanted(offers, &prices)) {
            asked[usize::from(wanted.edge)] += wanted.size;
        }
        let step = FIRST_STEP / (1 + round) as f64;
        for (edge, price) in prices.iter_mut().enumerate() {
            let over = asked[edge] / levels.enough[edge].max(f64::EPSILON) - 1.0;
            *price = (*price + step * over.clamp(-1.0, 2.0)).max(0.0);
        }
    }
    prices
}

/// An edge that a subject may ask for.
#[derive(Clone, Copy)]
struct Offer {
    score: f64,
    size: f64,
    edge: u16,
}

/// What everybody who is free may ask for, one after the other: each round goes through all of it.
struct Offers {
    all: Vec<Offer>,
    ends: Vec<usize>,
}

impl Offers {
    fn of(state: &State<'_>) -> Self {
        let free = || (0..state.edge_of.len()).filter(|it| state.edge_of[*it] == NOWHERE);
        let candidates = &state.ground.subjects.candidates;
        let count = free().map(|subject| candidates[subject].len()).sum();
        let mut offers = Self { all: Vec::with_capacity(count), ends: Vec::new() };
        for subject in free() {
            let open = candidates[subject].iter().filter(|candidate| state.is_open(candidate.edge));
            offers.all.extend(open.map(|candidate| Offer {
                score: f64::from(state.score(candidate)),
                size: state.size(subject, candidate.edge),
                edge: candidate.edge,
            }));
            offers.ends.push(offers.all.len());
        }
        offers
    }

    fn by_subject(&self) -> impl Iterator<Item = &[Offer]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.all[start..*end])
    }
}

/// The offer worth most, the first of equals.
fn wanted<'a>(offers: &'a [Offer], prices: &[f64]) -> Option<&'a Offer> {
    let (mut most, mut best) = (f64::NEG_INFINITY, None);
    for offer in offers {
        let worth = offer.score - prices[usize::from(offer.edge)] * offer.size;
        if best.is_none() || worth > most {
            (most, best) = (worth, Some(offer));
        }
    }
    best
}
