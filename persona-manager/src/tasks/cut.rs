//! Bounds how long a subject's old flows may go on, where whoever switches it asks for that.
//!
//! Only the time is set here, and announced. The lease's life ends in due course, and its node cuts and counts what is
//! left when it forgets the lease.

use std::sync::Arc;

use persona_core::ids::SubjectId;
use persona_core::lease::LeaseState;
use persona_core::units::Span;
use serde_json::json;

use crate::store::{Draft, LeaseRecord};

/// Gives what a subject holds beside the leases for its new flows at most this long to end.
pub(crate) fn bound(draft: &mut Draft, subject: &SubjectId, grace_ms: u64) {
    let target = draft.state().subjects.get(subject).and_then(|record| record.target.clone());
    let is_for_new_flows = |lease: &LeaseRecord| target.iter().any(|target| target.leases().any(|id| id == lease.id));
    bound_those(draft, subject, grace_ms, |lease| !is_for_new_flows(lease));
}

/// Gives leases of a subject at most this long to end, once they are no longer for new flows.
pub(super) fn bound_those(
    draft: &mut Draft,
    subject: &SubjectId,
    grace_ms: u64,
    is_meant: impl Fn(&LeaseRecord) -> bool,
) {
    let meant: Vec<Arc<LeaseRecord>> = draft.state().leases_of(subject).filter(|it| is_meant(it)).cloned().collect();
    for lease in meant {
        if let Some(bounded) = bounded(&lease, grace_ms, draft.now_ms()) {
            announce(draft, &lease, grace_ms);
            draft.put(bounded);
        }
    }
}

/// The lease with a grace that is no longer than this. None: it has no flows, or too little time already.
fn bounded(lease: &LeaseRecord, grace_ms: u64, now_ms: u64) -> Option<LeaseRecord> {
    match lease.state {
        LeaseState::Active if lease.grace_ms.is_none_or(|grace| grace > grace_ms) => {
            Some(LeaseRecord { grace_ms: Some(grace_ms), ..lease.clone() })
        }
        LeaseState::Retiring { since, cut_at_ms } => {
            let at_ms = now_ms.saturating_add(grace_ms);
            let state = LeaseState::Retiring { since, cut_at_ms: Some(at_ms) };
            cut_at_ms.is_none_or(|known| known > at_ms).then(|| LeaseRecord { state, ..lease.clone() })
        }
        _ => None,
    }
}

fn announce(draft: &mut Draft, lease: &LeaseRecord, grace_ms: u64) {
    let when =
        if grace_ms == 0 { "as soon as the switch is in force".to_owned() } else { format!("in {}", Span(grace_ms)) };
    let message = format!("what is left of {}'s flows under lease {} is cut {when}", lease.subject, lease.id);
    let details =
        json!({ "subject": lease.subject, "persona": lease.persona, "space": lease.space, "graceMs": grace_ms });
    draft.event("lease.cut-announced", format!("lease/{}", lease.id), draft.actor(), message, details);
}
