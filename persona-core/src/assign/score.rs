//! How good a candidate is: named terms, whose sum decides.

use std::collections::BTreeMap;

use super::closeness;
use super::fitness::preferred_count;
use super::question::{Candidate, GroupFacts, Question};
use crate::document::PersonaSpec;

/// A person's choice is above everything that is measured.
const MANUAL: f64 = 1_000.0;

/// Under a request, a worn persona that satisfies it stays.
const SATISFIES_REQUEST: f64 = 500.0;

/// What criteria chose is above every wish, and below what satisfies a request.
const ACTIVATED: f64 = 400.0;

/// Each place further down in the binding's order.
const ORDER: f64 = -10.0;

/// Each preferred or wanted capability that it, or every edge of its group, has.
const PREFERRED: f64 = 5.0;

/// A group that is full; in proportion below.
const LOAD: f64 = -8.0;

/// Each ten milliseconds of round-trip time, down to [`DISTANCE_MIN`].
const DISTANCE_PER_10_MS: f64 = -1.0;
const DISTANCE_MIN: f64 = -8.0;

/// Each hundredth of probes that stay unanswered, down to [`LOSS_MIN`]: more than a place in the binding's order.
const LOSS_PER_PERCENT: f64 = -5.0;
const LOSS_MIN: f64 = -20.0;

/// A guarantee of which the node's uplink carries nothing; in proportion below.
const RATE: f64 = -8.0;

/// What is worn stays unless something else is clearly better.
pub(super) const STICKINESS: f64 = 4.0;

/// The score terms of a candidate that can be worn.
pub(super) fn terms(
    question: &Question<'_>,
    candidate: &Candidate<'_>,
    spec: &PersonaSpec,
    group: &GroupFacts,
) -> BTreeMap<String, f64> {
    let is_worn = question.worn == Some(candidate.persona);
    let wished = candidate.preferred.iter().chain(question.wants);
    let met = wished.filter(|capability| spec.capabilities.contains(capability)).count();
    let edges = spec.network.as_ref().map_or(0, |network| preferred_count(network, group));
    let distance = group.rtt_us.map_or(0.0, |rtt| f64::from(rtt) / 10_000.0 * DISTANCE_PER_10_MS);
    let loss = group.loss.map_or(0.0, |loss| f64::from(loss) * 100.0 * LOSS_PER_PERCENT);
    let terms = [
        ("manual", if question.manual == Some(candidate.persona) { MANUAL } else { 0.0 }),
        ("satisfiesRequest", if is_worn && !question.requested.is_empty() { SATISFIES_REQUEST } else { 0.0 }),
        ("activated", if question.has_activated(candidate.persona) { ACTIVATED } else { 0.0 }),
        ("order", candidate.position as f64 * ORDER),
        ("preferred", met as f64 * PREFERRED),
        ("edges", edges as f64 * PREFERRED),
        ("load", group.load().min(1.0) * LOAD),
        ("distance", distance.max(DISTANCE_MIN)),
        ("loss", loss.max(LOSS_MIN)),
        ("content", closeness::points_of(question, candidate, group)),
        ("rate", missing_rate(question, spec) * RATE),
        ("stickiness", if is_worn { STICKINESS } else { 0.0 }),
    ];
    terms.into_iter().filter(|(_, value)| *value != 0.0).map(|(name, value)| (name.to_owned(), value)).collect()
}

/// What part of a persona's guarantee the node's uplink does not carry, 0 to 1.
fn missing_rate(question: &Question<'_>, spec: &PersonaSpec) -> f64 {
    let guaranteed = spec.guaranteed_bps();
    match question.uplink_bps {
        Some(uplink) if guaranteed > uplink => 1.0 - uplink as f64 / guaranteed as f64,
        _ => 0.0,
    }
}
