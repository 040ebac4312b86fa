//! Revoking a node's or an edge's key: it is out at once and for good, and takes nobody new meanwhile.

use persona_core::wire::api::Revoke;
use serde_json::json;

use crate::error::Refusal;
use crate::store::{AgentId, Draft, RevocationRecord};
use crate::tasks::removal;

/// The longest reason, bytes.
const REASON_LENGTH_MAX: usize = 1_000;

/// Revokes the key of a node or an edge. What it holds stays leased until it is deleted.
pub(crate) fn revoke(draft: &mut Draft, id: &AgentId, order: &Revoke) -> Result<(), Refusal> {
    let reason = checked_reason(&order.reason)?;
    let Some(agent) = draft.state().agents.get(id).cloned() else {
        return Err(Refusal::not_found(format!("there is no {id}: nothing of it could come in")));
    };
    if draft.state().revocations.contains_key(&agent.public_key) {
        return Ok(());
    }
    removal::set_draining(draft, id, true)?;
    let message = format!("the key of {id} was revoked: {reason}");
    draft.event("agent.revoked", id, draft.actor(), message, json!({ "reason": reason }));
    draft.put(RevocationRecord {
        public_key: agent.public_key.clone(),
        agent: id.clone(),
        revoked_ms: draft.now_ms(),
        actor: draft.actor().to_string(),
        reason: reason.to_owned(),
    });
    Ok(())
}

/// What somebody gave as the reason of a grave order, without spaces around it; there must be one.
pub(crate) fn checked_reason(reason: &str) -> Result<&str, Refusal> {
    let reason = reason.trim();
    if (1..=REASON_LENGTH_MAX).contains(&reason.len()) {
        return Ok(reason);
    }
    Err(Refusal::invalid(format!("reason is empty or longer than {REASON_LENGTH_MAX} bytes: say why")))
}
