//! Whether what a subject shall wear is in force: its node was told, and has acknowledged it.

use persona_core::ids::{Generation, SubjectId};

use crate::live::AgentLive;
use crate::store::{AgentId, Snapshot};

/// The generation published for an agent.
pub(crate) fn published(snapshot: &Snapshot, id: &AgentId) -> Generation {
    snapshot.desired.get(id).map_or(Generation::default(), |state| state.generation)
}

/// Whether its node (and, for a new lease, every edge) has acknowledged what the subject shall wear.
pub(crate) fn is_in_force(snapshot: &Snapshot, subject: &SubjectId, node: Option<&AgentLive>) -> bool {
    let record = snapshot.subjects.get(subject);
    let target = record.and_then(|record| record.target.as_ref());
    let told = record.and_then(|record| record.item.as_ref()).and_then(|item| item.network.as_ref());
    let is_told = told.map(|network| (network.lease, network.lease6)) == target.map(|it| (it.lease, it.lease6));
    is_told && node.is_some_and(|node| node.applied >= published(snapshot, &AgentId::node(subject.node())))
}
