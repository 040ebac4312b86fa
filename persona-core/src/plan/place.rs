//! A place for everybody who has none: large subjects first, then those who have most to lose.

use super::chain::{Movers, Search};
use super::ground::Candidate;
use super::level::Levels;
use super::outcome::MoveCause;
use super::state::{NOWHERE, State};

/// Places who is free; answers those for whom there is no room.
pub(super) fn place(state: &mut State<'_>, levels: &Levels, search: &mut Search) -> Vec<usize> {
    let prices = super::price::prices(state, levels);
    let mut order: Vec<(usize, Turn)> = free(state).map(|subject| (subject, turn(state, &prices, subject))).collect();
    order.sort_by_key(|(subject, turn)| (*turn, *subject));
    let mut homeless = Vec::new();
    for (subject, _) in order {
        let chosen = best_with_room(state, levels, &prices, subject).or_else(|| emptiest(state, subject));
        match chosen {
            Some(edge) => state.go(subject, edge, MoveCause::New),
            None => homeless.push(subject),
        }
    }
    while make_room(state, search, &mut homeless) {}
    homeless
}

/// Lets others make room for those who have none; whether somebody was helped, and somebody else still waits.
fn make_room(state: &mut State<'_>, search: &mut Search, homeless: &mut Vec<usize>) -> bool {
    let before = homeless.len();
    homeless.retain(|subject| {
        if let Some(edge) = emptiest(state, *subject) {
            state.go(*subject, edge, MoveCause::New);
            return false;
        }
        let with_free = search.place(state, *subject, Movers::Free, 1.0);
        !(with_free || search.place(state, *subject, Movers::Anybody, 1.0))
    });
    !homeless.is_empty() && homeless.len() < before
}

fn free(state: &State<'_>) -> impl Iterator<Item = usize> {
    (0..state.edge_of.len()).filter(|subject| state.edge_of[*subject] == NOWHERE)
}

/// When it is a subject's turn, the lowest first: by size class, then by what it loses without its best edge.
type Turn = (std::cmp::Reverse<u32>, std::cmp::Reverse<i64>);

fn turn(state: &State<'_>, prices: &[f64], subject: usize) -> Turn {
    let ground = state.ground;
    let open = || ground.subjects.candidates[subject].iter().filter(|candidate| state.is_open(candidate.edge));
    let (mut best, mut second, mut size) = (f64::MIN, f64::MIN, 0.0_f64);
    for candidate in open() {
        let worth = worth(state, prices, subject, candidate);
        (best, second) = if worth > best { (worth, best) } else { (best, second.max(worth)) };
        size = size.max(state.size(subject, candidate.edge));
    }
    let regret = if second == f64::MIN { i64::MAX } else { (best - second) as i64 };
    // What fills a hundredth of an edge or less is small; each class above is twice as large.
    let class = (size * 100.0).max(1.0) as u64;
    (std::cmp::Reverse(class.ilog2()), std::cmp::Reverse(regret))
}

/// What an edge is worth to a subject: its score, less what the room that it takes there costs.
fn worth(state: &State<'_>, prices: &[f64], subject: usize, candidate: &Candidate) -> f64 {
    let edge = usize::from(candidate.edge);
    f64::from(state.score(candidate)) - prices[edge] * state.size(subject, candidate.edge)
}

/// The edge worth most that stays empty enough.
fn best_with_room(state: &State<'_>, levels: &Levels, prices: &[f64], subject: usize) -> Option<u16> {
    let ground = state.ground;
    let mut best: Option<(f64, u16)> = None;
    for candidate in &ground.subjects.candidates[subject] {
        let worth = worth(state, prices, subject, candidate);
        let is_better = best.is_none_or(|(most, _)| worth > most);
        if is_better && state.takes(subject, candidate.edge, levels.enough[usize::from(candidate.edge)]) {
            best = Some((worth, candidate.edge));
        }
    }
    best.map(|(_, edge)| edge)
}

/// The edge that would be the least full.
fn emptiest(state: &State<'_>, subject: usize) -> Option<u16> {
    let ground = state.ground;
    let able = ground.subjects.candidates[subject].iter().filter(|candidate| state.takes(subject, candidate.edge, 1.0));
    let filled = able.filter_map(|candidate| Some((state.fill_with(subject, candidate.edge)?, candidate)));
    let least = filled.min_by(|(fill, one), (other_fill, other)| {
        fill.total_cmp(other_fill).then_with(|| state.score(other).cmp(&state.score(one)))
    });
    least.map(|(_, candidate)| candidate.edge)
}
