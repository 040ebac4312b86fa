//! How many subjects that could stay may move all the same.
//!
//! An edge's death or drain allows a fifth of what it carried besides, an edge that came six fifths of its fair share.
//! Without either, the fleet's own budget holds.

use super::ground::Ground;
use super::state::{GONE, NOWHERE, State};
use super::tables::UNLIMITED;
use crate::units::Share;

/// Moves besides those that have to be, of those.
const BESIDES_FORCED: f64 = 0.2;

/// Moves for an edge that came, of its fair share.
const OF_FAIR_SHARE: f64 = 1.2;

/// Moves that are allowed. `current` is where subjects were, `joined` are the edges that came since.
pub(super) fn budget(state: &State<'_>, current: &[u16], joined: &[u16]) -> usize {
    let is_forced = |(subject, edge): (usize, &u16)| *edge != NOWHERE && state.is_free(subject);
    let forced = current.iter().enumerate().filter(|it| is_forced(*it)).count();
    let fair: f64 = joined.iter().map(|edge| fair_share(state.ground, *edge)).sum();
    if forced > 0 || !joined.is_empty() {
        // A sum of shares may come out a hair below the whole number that it is.
        return (BESIDES_FORCED * forced as f64 + OF_FAIR_SHARE * fair + 1e-6) as usize;
    }
    let placed = current.iter().filter(|edge| !matches!(**edge, NOWHERE | GONE)).count() as u64;
    let millionths = u64::from(state.ground.fleet.planning.move_budget.millionths());
    (placed * millionths / u64::from(Share::WHOLE)) as usize
}

/// How many subjects an edge would have if each were spread over its open edges by their capacity.
pub(super) fn fair_share(ground: &Ground, edge: u16) -> f64 {
    let dimension = scarcest(ground);
    let weights: Vec<f64> = ground.tables.edges.iter().map(|it| weight(ground, it.capacity[dimension])).collect();
    let is_open = |edge: u16| ground.tables.edges[usize::from(edge)].service.takes_subjects();
    let part = |subject: usize| {
        let candidates = ground.subjects.candidates[subject].iter().filter(|candidate| is_open(candidate.edge));
        let sum: f64 = candidates.map(|candidate| weights[usize::from(candidate.edge)]).sum();
        weights[usize::from(edge)] / sum
    };
    (0..ground.subjects.ids.len()).filter(|subject| ground.candidate(*subject, edge).is_some()).map(part).sum()
}

/// What has no limit weighs as if it were as large as the whole fleet needs.
fn weight(ground: &Ground, units: u64) -> f64 {
    if units == UNLIMITED { ground.subjects.ids.len() as f64 } else { units as f64 }
}

/// The dimension of which the fleet needs the largest part.
fn scarcest(ground: &Ground) -> usize {
    let part = |dimension: usize| {
        let needed: f64 = ground.subjects.facts.iter().map(|facts| facts.demand[dimension] as f64).sum();
        let there = ground.tables.edges.iter().map(|edge| edge.capacity[dimension]);
        let there: f64 = there.map(|units| if units == UNLIMITED { f64::INFINITY } else { units as f64 }).sum();
        needed / there.max(1.0)
    };
    (0..4).max_by(|one, other| part(*one).total_cmp(&part(*other))).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Format;
    use crate::plan::{Plan, Planner, Service, parse_fleet};

    /// 90 nodes over three edges that are alike, `c` in service or not.
    fn planner(service: Service) -> Planner {
        let nodes: Vec<String> = (0..90).map(|it| format!("{{name: n{it}, subjects: [{{personas: [p]}}]}}")).collect();
        let edge = |name: &str, service: Service| {
            format!("{{name: {name}, group: g, capacity: {{leases: 100}}, service: {}}}", service.as_str())
        };
        let edges = [edge("a", Service::Serving), edge("b", Service::Serving), edge("c", service)].join(", ");
        let nodes = nodes.join(", ");
        let text = format!("{{personas: [{{name: p, groups: [g]}}], edges: [{edges}], nodes: [{nodes}]}}");
        let mut planner = Planner::new(parse_fleet(&text, Format::Yaml).unwrap(), &Plan::default()).unwrap();
        planner.replan();
        planner
    }

    #[test]
    fn a_fair_share_is_what_spreading_by_capacity_would_give() {
        assert!((fair_share(planner(Service::Serving).ground(), 2) - 30.0).abs() < 1e-6);
    }

    #[test]
    fn each_event_has_its_budget() {
        let cases = [
            // Came: six fifths of 30.
            (Service::Maintenance, Service::Serving, 36, 30),
            // Died, drains: a fifth of 30, none of which is needed, since the others stay alike.
            (Service::Serving, Service::Down, 6, 30),
            (Service::Serving, Service::Draining, 6, 30),
        ];
        for (before, after, budget, moves) in cases {
            let mut planner = planner(before);
            planner.apply(crate::plan::Event::Service("c".parse().unwrap(), after)).unwrap();
            let outcome = planner.replan();
            assert_eq!((outcome.budget, outcome.moves.len()), (budget, moves), "{before:?} to {after:?}");
        }
        let mut planner = planner(Service::Serving);
        let idle = planner.replan();
        assert_eq!((idle.budget, idle.moves.len()), (0, 0), "one per cent of 90 is none");
    }
}
