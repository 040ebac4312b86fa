//! How full edges may get for the sake of scores, and how full the fullest must be at least.

use super::ground::Ground;
use super::state::State;
use super::tables::{Amount, UNLIMITED};
use crate::units::Share;

/// An edge may be this much fuller than the mean of those that it shares subjects with before balance counts more than
/// scores.
const SLACK: f64 = 1.02;

/// By edge, how full it may get.
pub(super) struct Levels {
    /// What is near enough to the optimum, whatever the scores say.
    pub(super) enough: Vec<f64>,
    /// What could not be avoided: [`Levels::enough`], or how full the fullest of an edge's bottleneck stays.
    pub(super) reached: Vec<f64>,
}

impl Levels {
    /// The levels for what every subject of the fleet needs.
    pub(super) fn new(ground: &Ground, components: &[u16]) -> Self {
        let everybody = 0..ground.subjects.ids.len();
        let means = means(ground, components, everybody);
        let comfort = f64::from(ground.fleet.planning.comfort.millionths()) / f64::from(Share::WHOLE);
        let enough: Vec<f64> = components.iter().map(|it| (means[usize::from(*it)] * SLACK).max(comfort)).collect();
        Self { reached: enough.clone(), enough }
    }
}

/// A number that the fullest edge cannot be below while those subjects are placed that are.
pub(super) fn bound(state: &State<'_>, components: &[u16]) -> f64 {
    let placed = (0..state.edge_of.len()).filter(|subject| state.edge_of[*subject] != super::state::NOWHERE);
    means(state.ground, components, placed).into_iter().fold(0.0, f64::max)
}

/// By component, how full its open edges are on the mean with some subjects. What nobody limits does not count.
fn means(ground: &Ground, components: &[u16], subjects: impl Iterator<Item = usize>) -> Vec<f64> {
    let mut demands = vec![Amount::default(); components.len()];
    let mut capacities = vec![[0.0_f64; 4]; components.len()];
    for (component, edge) in components.iter().zip(&ground.tables.edges) {
        if edge.service.takes_subjects() {
            for (sum, units) in capacities[usize::from(*component)].iter_mut().zip(edge.capacity) {
                *sum += if units == UNLIMITED { f64::INFINITY } else { units as f64 };
            }
        }
    }
    for subject in subjects {
        let Some(first) = ground.subjects.candidates[subject].first() else { continue };
        let component = usize::from(components[usize::from(first.edge)]);
        let demand = ground.subjects.facts[subject].demand;
        demands[component].iter_mut().zip(demand).for_each(|(sum, units)| *sum = sum.saturating_add(units));
    }
    let mean = |(demand, capacity): (Amount, [f64; 4])| {
        let shares = demand.into_iter().zip(capacity).filter(|(units, _)| *units > 0);
        shares.map(|(units, capacity)| units as f64 / capacity.max(1.0)).fold(0.0, f64::max)
    };
    demands.into_iter().zip(capacities).map(mean).collect()
}
