//! What a persona asks of the edges that carry it: capabilities that they offer, and the path from the subject's node.
//!
//! Any edge of a group may carry a flow, so each must offer what is required; of paths, the best to the group counts.

use super::choose::Obstacle;
use super::question::{Candidate, GroupFacts, Question};
use crate::document::{Network, PathNeeds};
use crate::ids::{Capability, GroupName};

/// What is worn is given up only where a path is so many times worse than it may be: measured values waver.
const WORN_SLACK: f64 = 1.25;

/// Why a group is not what a candidate asks for.
pub(super) fn obstacles(
    question: &Question<'_>,
    candidate: &Candidate<'_>,
    network: &Network,
    (name, group): (&GroupName, &GroupFacts),
) -> impl Iterator<Item = Obstacle> {
    let slack = if question.worn == Some(candidate.persona) { WORN_SLACK } else { 1.0 };
    let path = network.path().and_then(|needs| bad_path(candidate, &needs, slack, name, group));
    lacking_edge(candidate, network, name, group).into_iter().chain(path)
}

/// How many of the capabilities that a persona prefers each edge of a group offers.
pub(super) fn preferred_count(network: &Network, group: &GroupFacts) -> usize {
    let is_offered = |capability: &&Capability| group.edges.iter().all(|edge| edge.capabilities.contains(capability));
    if group.edges.is_empty() { 0 } else { network.edges_prefer().iter().filter(is_offered).count() }
}

fn lacking_edge(
    candidate: &Candidate<'_>,
    network: &Network,
    name: &GroupName,
    group: &GroupFacts,
) -> Option<Obstacle> {
    let required = network.edges_require();
    let missing = group.edges.iter().find_map(|edge| {
        let lacks: Vec<&str> =
            required.iter().filter(|it| !edge.capabilities.contains(it)).map(Capability::as_str).collect();
        (!lacks.is_empty()).then(|| (&edge.name, lacks.join(", ")))
    });
    let (edge, lacks) = missing?;
    let first = lacks.split(", ").next().unwrap_or_default();
    Some(Obstacle::passing(
        format!("edge {edge} of group {name} does not offer {lacks}"),
        format!(
            "bind it if that is true (persona-ctl edge label {edge} capability/{first}=yes), name a pool of another group, or ask for less in network.edges.requires of {}",
            candidate.persona
        ),
    ))
}

fn bad_path(
    candidate: &Candidate<'_>,
    needs: &PathNeeds,
    slack: f64,
    name: &GroupName,
    group: &GroupFacts,
) -> Option<Obstacle> {
    let ms = |us: u32| f64::from(us) / 1_000.0;
    // Single precision is not to refuse what just keeps to the limit.
    let percent = |loss: f32| (f64::from(loss) * 1e6).round() / 10_000.0;
    let most_ms = |span: crate::units::Span| span.0 as f64;
    let measures = [
        ("round trip", " ms", group.rtt_us.map(ms), needs.latency.map(most_ms)),
        ("loss", " %", group.loss.map(percent), needs.loss.map(|it| f64::from(it.millionths()) / 10_000.0)),
        ("jitter", " ms", group.jitter_us.map(ms), needs.jitter.map(most_ms)),
    ];
    let mut wrong = Vec::new();
    for (what, unit, measured, most) in measures {
        let Some(most) = most else { continue };
        match measured {
            None => wrong.push(format!("nobody measured its {what} yet")),
            Some(measured) if measured > most * slack => {
                wrong.push(format!("its {what} is {measured:.1}{unit}, at most {most}{unit} is allowed"));
            }
            Some(_) => {}
        }
    }
    let hint = format!(
        "mend the path, widen network.edges.path of {}, or name a pool of a group that is closer",
        candidate.persona
    );
    (!wrong.is_empty()).then(|| Obstacle::passing(format!("the path to group {name}: {}", wrong.join("; ")), hint))
}
