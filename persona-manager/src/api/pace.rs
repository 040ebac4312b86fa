//! How often agents are told to report.

use persona_core::ids::NodeName;
use persona_core::report_pace;
use persona_core::wire::agent::Role;

use crate::context::Context;
use crate::store::AgentId;

/// How long a node's next report may be in coming. None: as long as it was told when it registered. So it is for edges, for nodes
/// on which criteria or totals rest on what they measure, and for those whose streams other managers have.
pub(super) fn pace(context: &Context, id: &AgentId) -> Option<u32> {
    let node: NodeName = id.name.parse().ok().filter(|_| id.role == Role::Node)?;
    let snapshot = context.store.snapshot();
    let has_shares = snapshot.agents.get(id)?.node().is_some_and(|node| !node.shares.is_empty());
    let set_ms = context.config.report_interval_ms;
    let interval_ms = match has_shares || context.live.activations.rests_on(&node) {
        true => set_ms,
        false => {
            let is_watched = snapshot.rollouts.values().any(|rollout| rollout.progress.phase.is_running());
            report_pace::interval_ms(set_ms, snapshot.agents.len(), is_watched)
        }
    };
    context.live.pace(id, Some(interval_ms).filter(|interval_ms| *interval_ms > set_ms))
}
