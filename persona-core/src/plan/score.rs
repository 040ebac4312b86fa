//! How good an edge is for a subject: named terms in thousandths of points, whose sum decides among edges with room.
//!
//! How full edges are is no term: it comes before all scores.

use super::filter::Pair;
use super::fleet::{Content, FleetEdge, Service};
use super::geometry::Point;
use crate::content::{ContentPlace, UNKNOWN_RTT_MS};

/// The terms, in the order in which they are told.
pub(super) const TERMS: [&str; 7] = ["order", "preferred", "latency", "loss", "jitter", "content", "health"];

/// Each place further down in the subject's list of personas.
const ORDER: i32 = -10_000;

/// Each preferred capability that the edge has.
const PREFERRED: i32 = 5_000;

/// Each millisecond of round trip, down to [`LATENCY_MIN`].
const PER_MS: f64 = -100.0;
const LATENCY_MIN: f64 = -20_000.0;

/// Round trip per kilometre of distance where nothing was measured: light in fibre, and half as much again for detours.
const RTT_MS_PER_KM: f64 = 0.015;

/// Each millionth of packets lost: 1 % costs five points, down to [`LOSS_MIN`].
const PER_LOST_MILLIONTH: f64 = -0.5;
const LOSS_MIN: f64 = -20_000.0;

/// Each millisecond of jitter, down to [`JITTER_MIN`].
const PER_JITTER_MS: f64 = -200.0;
const JITTER_MIN: f64 = -8_000.0;

/// An edge with which something is wrong.
const DEGRADED: i32 = -10_000;

/// The terms of a pair; `position` is the persona's place in the subject's list. Service is left out: it changes.
pub(super) fn terms(pair: &Pair<'_>, edge_index: usize, position: usize) -> [i32; TERMS.len()] {
    let prefers = pair.subject.prefers | pair.persona.prefers;
    let met = (prefers & pair.edge.capabilities).count_ones() as i32;
    let rtt_ms = match pair.path {
        Some(path) => path.rtt_ms,
        None => distance_ms(pair.subject.point, pair.edge.point),
    };
    let loss = pair.path.map_or(0.0, |path| f64::from(path.loss.millionths()) * PER_LOST_MILLIONTH);
    let jitter = pair.path.map_or(0.0, |path| path.jitter_ms * PER_JITTER_MS);
    [
        position as i32 * ORDER,
        met * PREFERRED,
        (rtt_ms * PER_MS).max(LATENCY_MIN) as i32,
        loss.max(LOSS_MIN) as i32,
        jitter.max(JITTER_MIN) as i32,
        content_scores(pair).get(edge_index).copied().unwrap_or(0),
        0,
    ]
}

/// What the subject asks for itself goes before what its persona says.
fn content_scores<'a>(pair: &'a Pair<'_>) -> &'a [i32] {
    pair.subject.content_scores.as_deref().unwrap_or(&pair.persona.content_scores)
}

/// What an edge's own state adds.
pub(super) fn health_score(service: Service) -> i32 {
    if service == Service::Degraded { DEGRADED } else { 0 }
}

/// What an edge's distance from a content source adds.
pub(super) fn content_score(edge: &FleetEdge, content: &Content) -> i32 {
    let estimated = || {
        let point = |location: &Option<_>| location.as_ref().and_then(Point::of);
        distance_ms(point(&edge.location), point(&content.location))
    };
    let rtt_ms = edge.content_rtt_ms.get(&content.name).copied().unwrap_or_else(estimated);
    (rtt_ms * PER_MS).max(LATENCY_MIN) as i32
}

/// The round trip between two places, as far as their distance says, milliseconds.
pub fn estimated_rtt_ms(from: ContentPlace, to: ContentPlace) -> f64 {
    let point = |place: ContentPlace| Point::at(place.latitude, place.longitude);
    point(from).distance_km(point(to)) * RTT_MS_PER_KM
}

fn distance_ms(from: Option<Point>, to: Option<Point>) -> f64 {
    match (from, to) {
        (Some(from), Some(to)) => from.distance_km(to) * RTT_MS_PER_KM,
        _ => UNKNOWN_RTT_MS,
    }
}
