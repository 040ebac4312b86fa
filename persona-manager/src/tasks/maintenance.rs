//! Edges that somebody works on: emptied like those that drain, and expected to come and go.

use persona_core::health::EdgeState;
use persona_core::wire::api::Maintenance;
use serde_json::json;

use super::health::consequence;
use super::removal::{not_registered, registered};
use crate::error::Refusal;
use crate::store::{AgentDetails, AgentId, AgentRecord, Draft, EdgeDetails};

/// Longest reason, bytes.
const REASON_LENGTH_MAX: usize = 200;

/// Takes an edge into maintenance, or says another reason for it. Returns whether that changed anything.
pub(crate) fn begin(draft: &mut Draft, name: &str, reason: Option<String>) -> Result<bool, Refusal> {
    if reason.as_ref().is_some_and(|it| it.len() > REASON_LENGTH_MAX || it.contains(char::is_control)) {
        return Err(Refusal::invalid(format!(
            "that is no reason for a list: write one line of at most {REASON_LENGTH_MAX} bytes"
        )));
    }
    let (id, record, edge) = edge(draft, name)?;
    if edge.maintenance.as_ref().is_some_and(|known| known.reason == reason) {
        return Ok(false);
    }
    let since_ms = edge.maintenance.as_ref().map_or(draft.now_ms(), |known| known.since_ms);
    let why = reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    let message = format!("{id} is in maintenance{why}: new flows avoid it, and it may come and go");
    draft.event("edge.maintenance", &id, draft.actor(), message, json!({ "reason": reason }));
    put(draft, record, EdgeDetails { maintenance: Some(Maintenance { reason, since_ms }), ..edge });
    Ok(true)
}

/// Ends it. An edge that is down then is told of like any other that goes down. Returns whether that changed anything.
pub(crate) fn end(draft: &mut Draft, name: &str) -> Result<bool, Refusal> {
    let (id, record, edge) = edge(draft, name)?;
    let Some(ended) = edge.maintenance.clone() else { return Ok(false) };
    let message = format!("the maintenance of {id} is over");
    draft.event(
        "edge.maintenance-ended",
        &id,
        draft.actor(),
        message,
        json!({ "reason": ended.reason, "sinceMs": ended.since_ms }),
    );
    if edge.state == EdgeState::Down {
        let message = format!("{id} is down: {}. {}", edge.reason, consequence(draft, &record, &edge));
        let details = json!({ "before": "maintenance", "after": edge.state.to_string(), "group": edge.group });
        draft.event("edge.down", &id, "manager", message, details);
    }
    put(draft, record, EdgeDetails { maintenance: None, ..edge });
    Ok(true)
}

fn edge(draft: &Draft, name: &str) -> Result<(AgentId, AgentRecord, EdgeDetails), Refusal> {
    let id = AgentId::edge(name);
    let record = registered(draft.state(), &id)?;
    let edge = record.edge().cloned().ok_or_else(|| not_registered(&id))?;
    Ok((id, (*record).clone(), edge))
}

fn put(draft: &mut Draft, record: AgentRecord, edge: EdgeDetails) {
    draft.put(AgentRecord { details: AgentDetails::Edge(edge), ..record });
}
