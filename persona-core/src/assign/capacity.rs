//! Room at the edges of a group: leases and guaranteed rates are reserved, and never more than the edges state.
//!
//! What a subject holds already it keeps, whatever became of the room since.

use super::choose::Obstacle;
use super::question::{Candidate, GroupFacts, Question};
use crate::document::PersonaSpec;
use crate::ids::GroupName;
use crate::units::BitRate;

/// Why the edges of a group have no room for a candidate, with the nearest that they have room for. `lease_count` leases are new.
pub(super) fn obstacles(
    question: &Question<'_>,
    candidate: &Candidate<'_>,
    spec: &PersonaSpec,
    (name, group): (&GroupName, &GroupFacts),
    lease_count: usize,
) -> impl Iterator<Item = Obstacle> {
    let leases = lack_of_leases(name, group, lease_count as u64);
    leases.into_iter().chain(lack_of_rate(question, candidate, spec, name, group))
}

fn lack_of_leases(name: &GroupName, group: &GroupFacts, needed: u64) -> Option<Obstacle> {
    let (capacity, edge) = group.lease_capacity.as_ref()?;
    let room = group.lease_room().filter(|room| *room < needed)?;
    let refusal = format!(
        "capacity: edge {edge} of group {name} can hold {capacity} leases and there are {}: {needed} more are needed",
        group.lease_count
    );
    let fewer =
        if room > 0 { format!("ask for at most {room} (one address family needs one), ") } else { String::new() };
    let hint = format!(
        "{fewer}raise capacity.lease_count of edge {edge} if it can hold more, name a pool of another group, or wait for leases to end"
    );
    Some(Obstacle::passing(refusal, hint))
}

fn lack_of_rate(
    question: &Question<'_>,
    candidate: &Candidate<'_>,
    spec: &PersonaSpec,
    name: &GroupName,
    group: &GroupFacts,
) -> Option<Obstacle> {
    let needed = spec.guaranteed_bps();
    if needed <= question.ledger.guaranteed_to(question.subject, name) {
        return None;
    }
    let capacity = group.guarantee_capacity()?;
    let reserved = question.ledger.guaranteed_beside(question.subject, name);
    let room = capacity.saturating_sub(reserved);
    if needed <= room {
        return None;
    }
    let (needed, capacity, reserved, room) = (BitRate(needed), BitRate(capacity), BitRate(reserved), BitRate(room));
    let refusal = format!(
        "capacity: the serving edges of group {name} can carry {capacity}, of which {reserved} are guaranteed to others: {needed} more are needed"
    );
    let hint = format!(
        "lower qos.guaranteedRate of {} to at most {room}, name a pool of another group, or add an edge to group {name}",
        candidate.persona
    );
    Some(Obstacle::passing(refusal, hint))
}
