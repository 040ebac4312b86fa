//! Rests and graces last as long as they were meant, whatever is done to the clock that people read.
//!
//! Their ends are kept in that clock's time, for people. When it is set, they move along. While no manager runs nobody
//! sees it being set, so what rests at the start of one rests anew: longer than needed, and never too short.

use std::sync::Arc;

use persona_core::lease::LeaseState;
use persona_core::units::Span;
use serde_json::json;

use crate::clock::Passage;
use crate::live::Live;
use crate::store::{Draft, LeaseRecord};

/// Gives the draft the time of the pass, and moves what waits if the clock was set.
pub(super) fn follow(draft: &mut Draft, live: &Live) {
    let moment = live.clock.moment();
    draft.set_time(moment.now_ms);
    match live.steps.look(moment) {
        Passage::Steady => {}
        Passage::Unknown => move_ends(draft, rested_anew),
        Passage::Stepped(by_ms) => {
            note(draft, by_ms);
            move_ends(draft, |lease, _| moved(lease, by_ms));
        }
    }
}

fn note(draft: &mut Draft, by_ms: i64) {
    let way = if by_ms < 0 { "back" } else { "forward" };
    let message =
        format!("the manager's clock was set {way} by {}: rests and graces move along", Span(by_ms.unsigned_abs()));
    tracing::warn!(clock.step_ms = by_ms, "{message}");
    draft.event("clock.stepped", "manager", "manager", message, json!({ "byMs": by_ms }));
}

fn move_ends(draft: &mut Draft, end: impl Fn(&LeaseRecord, u64) -> LeaseState) {
    let (now_ms, leases) = (draft.now_ms(), draft.state().leases.values().cloned());
    let leases: Vec<Arc<LeaseRecord>> = leases.collect();
    for lease in leases {
        let state = end(&lease, now_ms);
        if state != lease.state {
            draft.put(LeaseRecord { state, ..(*lease).clone() });
        }
    }
}

fn moved(lease: &LeaseRecord, by_ms: i64) -> LeaseState {
    match lease.state {
        LeaseState::Quarantine { free_at_ms } => {
            LeaseState::Quarantine { free_at_ms: free_at_ms.saturating_add_signed(by_ms) }
        }
        LeaseState::Retiring { since, cut_at_ms } => {
            LeaseState::Retiring { since, cut_at_ms: cut_at_ms.map(|at_ms| at_ms.saturating_add_signed(by_ms)) }
        }
        state => state,
    }
}

/// What rests rests anew; a grace is not longer than it was given.
fn rested_anew(lease: &LeaseRecord, now_ms: u64) -> LeaseState {
    match lease.state {
        LeaseState::Quarantine { .. } => LeaseState::Quarantine { free_at_ms: now_ms + lease.quarantine_ms },
        LeaseState::Retiring { since, cut_at_ms: Some(at_ms) } => {
            let last_ms = lease.grace_ms.map_or(at_ms, |grace_ms| now_ms.saturating_add(grace_ms));
            LeaseState::Retiring { since, cut_at_ms: Some(at_ms.min(last_ms)) }
        }
        state => state,
    }
}
