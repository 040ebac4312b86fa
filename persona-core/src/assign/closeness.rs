//! How close a group's edges are to the source of content that a request or a persona names.
//!
//! Of a group, the nearest serving edge counts, as it does for the path from the node.

use super::question::{Candidate, GroupFacts, Question};
use crate::content::{ContentSource, UNKNOWN_RTT_MS};
use crate::document::Network;
use crate::plan::estimated_rtt_ms;

/// Each ten milliseconds, down to [`CLOSENESS_MIN`].
const PER_10_MS: f64 = -1.0;
const CLOSENESS_MIN: f64 = -20.0;

/// The source that counts for a candidate: what the request says goes before what the persona says.
pub(super) fn source<'a>(question: &Question<'a>, network: &'a Network) -> Option<&'a ContentSource> {
    question.content.or_else(|| network.content())
}

/// Points for a group's distance from a source.
pub(super) fn points(source: &ContentSource, group: &GroupFacts) -> f64 {
    let measured = || group.content_rtt_us.get(&source.to_string()).map(|us| f64::from(*us) / 1_000.0);
    let rtt_ms = match source {
        ContentSource::Place(place) => group.places.iter().map(|from| estimated_rtt_ms(*from, *place)).reduce(f64::min),
        ContentSource::Prefix(_) | ContentSource::Name(_) => measured(),
    };
    (rtt_ms.unwrap_or(UNKNOWN_RTT_MS) / 10.0 * PER_10_MS).max(CLOSENESS_MIN)
}

/// The same for a candidate in one of its groups; 0 where it is to be close to nothing.
pub(super) fn points_of(question: &Question<'_>, candidate: &Candidate<'_>, group: &GroupFacts) -> f64 {
    let network = candidate.spec.and_then(|spec| spec.network.as_ref());
    network.and_then(|network| source(question, network)).map_or(0.0, |source| points(source, group))
}
