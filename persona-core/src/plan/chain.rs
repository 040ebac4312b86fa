//! Chains of moves: one subject makes room for another, until the last goes where there is room.
//!
//! A breadth-first search over edges finds a shortest one. Where none of a set of edges leads out of it, no plan can
//! make the fullest of them emptier.

use super::outcome::MoveCause;
use super::state::State;

/// Who may move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Movers {
    /// Subjects that have no place to stay at.
    Free,
    /// Anybody, within the budget.
    Anybody,
}

/// How an edge was come to.
#[derive(Debug, Clone, Copy)]
struct Step {
    subject: u32,
    from: u16,
    /// What the chain up to here takes from the budget.
    price: usize,
    /// How full the edge to relieve is without the first of the chain.
    relieved: f64,
    /// Hops from where the search began.
    hop: u16,
}

impl Step {
    /// Where a search begins.
    fn first(subject: u32, from: u16) -> Self {
        Self { subject, from, price: 0, relieved: 0.0, hop: 0 }
    }

    /// A hop further.
    fn next(self, subject: u32, from: u16) -> Self {
        Self { subject, from, hop: self.hop + 1, ..self }
    }
}

/// A chain's end: how full the fuller of its first and last edge would be, how full the last, which that is, the step to
/// it.
type End = (f64, f64, u16, Step);

/// Scratch space of searches, kept from one to the next.
pub(super) struct Search {
    steps: Vec<Option<Step>>,
    queue: Vec<u16>,
}

impl Search {
    /// For so many edges.
    pub(super) fn new(edge_count: usize) -> Self {
        Self { steps: vec![None; edge_count], queue: Vec::new() }
    }

    /// Takes one subject off an edge, by a chain after which no edge is fuller than `most` or than it was.
    /// False: there is no such chain; [`Search::reached`] then has the edges that were come to.
    pub(super) fn relieve(&mut self, state: &mut State<'_>, edge: u16, movers: Movers, most: f64) -> bool {
        self.clear();
        // The edge itself counts as come to, so that no chain leads back.
        self.steps[usize::from(edge)] = Some(Step::first(u32::MAX, edge));
        self.queue.push(edge);
        self.run(state, movers, most)
    }

    /// Puts a subject that is nowhere on some edge, others making room.
    pub(super) fn place(&mut self, state: &mut State<'_>, subject: usize, movers: Movers, most: f64) -> bool {
        self.clear();
        let ground = state.ground;
        for candidate in ground.subjects.candidates[subject].iter().filter(|candidate| state.is_open(candidate.edge)) {
            self.steps[usize::from(candidate.edge)] = Some(Step::first(subject as u32, candidate.edge));
            self.queue.push(candidate.edge);
        }
        self.run(state, movers, most)
    }

    /// The edges that the last search came to.
    pub(super) fn reached(&self) -> &[u16] {
        &self.queue
    }

    fn clear(&mut self) {
        self.queue.drain(..).for_each(|edge| self.steps[usize::from(edge)] = None);
    }

    /// Goes outwards a hop at a time. Moves that cost nothing go to the first edge with room; of those that do, the one that
    /// helps most is worth the search.
    fn run(&mut self, state: &mut State<'_>, movers: Movers, most: f64) -> bool {
        let mut next = 0;
        while next < self.queue.len() {
            let (hop_end, mut best) = (self.queue.len(), None);
            while next < hop_end && (best.is_none() || movers == Movers::Anybody) {
                self.expand(state, self.queue[next], movers, most, &mut best);
                next += 1;
            }
            if let Some((.., last, step)) = best {
                self.steps[usize::from(last)] = Some(step);
                return self.carry_out(state, last);
            }
        }
        false
    }

    /// Looks at who could leave an edge and whereto; notes the best end.
    fn expand(&mut self, state: &State<'_>, edge: u16, movers: Movers, most: f64, best: &mut Option<End>) {
        let Some(step) = self.steps[usize::from(edge)] else { return };
        for member in &state.members[usize::from(edge)] {
            let leaving = *member as usize;
            let may_leave = movers == Movers::Anybody || state.is_free(leaving);
            let price = step.price + state.price(leaving);
            if !may_leave || price > state.budget_left() {
                continue;
            }
            // Most of the time is spent here: everything else is worked out for those only who could get further.
            let mut relieved = None;
            for candidate in &state.ground.subjects.candidates[leaving] {
                let to = usize::from(candidate.edge);
                let is_new = self.steps[to].is_none();
                let is_rival = || movers == Movers::Anybody && self.steps[to].is_some_and(|it| it.hop == step.hop + 1);
                if !(is_new || is_rival()) || !state.is_open(candidate.edge) {
                    continue;
                }
                let reach = relieved.get_or_insert_with(|| leave(state, step, edge, leaving, most));
                let Some(fill_left) = *reach else { break };
                let reach = Step { relieved: fill_left, price, ..step.next(*member, edge) };
                let end = state.fill_if_taken(leaving, candidate.edge, most);
                // Policies about others are judged as things stand, which in the middle of a chain they do not.
                if end.is_none() && state.is_coupled(leaving) {
                    continue;
                }
                if is_new {
                    self.steps[to] = Some(reach);
                    self.queue.push(candidate.edge);
                }
                if let Some(fill) = end {
                    let fuller = fill.max(reach.relieved);
                    if best.is_none_or(|(least, last, ..)| (fuller, fill) < (least, last)) {
                        *best = Some((fuller, fill, candidate.edge, reach));
                    }
                    if movers == Movers::Free {
                        return;
                    }
                }
            }
        }
    }

    /// Makes the moves, the last first, so that there is room for each. False: the subject to place is refused after all.
    fn carry_out(&self, state: &mut State<'_>, last: u16) -> bool {
        let mut edge = last;
        while let Some(step) = self.steps[usize::from(edge)].filter(|step| step.subject != u32::MAX) {
            let (subject, is_first) = (step.subject as usize, step.from == edge);
            if is_first && state.refusal(subject, edge).is_some() {
                return false;
            }
            state.go(subject, edge, MoveCause::Balance);
            if is_first {
                break;
            }
            edge = step.from;
        }
        true
    }
}

/// Whether it helps that a subject leaves an edge: how full the edge to relieve is then. Whoever comes instead must not make
/// the edge fuller than it may be or is; where nobody comes, it must get emptier.
fn leave(state: &State<'_>, step: Step, edge: u16, leaving: usize, most: f64) -> Option<f64> {
    let now = state.fills[usize::from(edge)];
    if step.subject == u32::MAX {
        return Some(state.fill_without(edge, leaving)).filter(|fill| *fill < now);
    }
    let fill = state.fill_after(edge, step.subject as usize, Some(leaving))?;
    (fill <= most.max(now)).then_some(step.relieved)
}
