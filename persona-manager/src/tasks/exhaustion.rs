//! Tells of leases whose ports run out: once per episode.

use std::sync::Arc;

use persona_core::lease::Fullness;
use persona_core::wire::agent::LeaseUse;
use serde_json::json;

use super::reports::{Reports, Seen};
use crate::store::{AgentId, Draft, LeaseRecord};

/// Notes leases that have become fuller or emptier, from what their nodes have reported since `seen`, if that is known.
pub(super) fn note(draft: &mut Draft, reports: &Reports, seen: Option<&Seen>) {
    let told =
        reports.told_since(seen).into_iter().flat_map(|(id, live)| live.leases.values().map(move |held| (id, held)));
    let changed = told.filter_map(|(id, held)| {
        let lease = draft.state().leases.get(&held.lease)?;
        let is_own = *id == AgentId::node(lease.subject.node());
        let fullness = lease.fullness.after(held);
        (is_own && fullness != lease.fullness).then(|| (Arc::clone(lease), *held, fullness))
    });
    let changed: Vec<(Arc<LeaseRecord>, LeaseUse, Fullness)> = changed.collect();
    for (lease, held, fullness) in changed {
        let (live, slots, shared) = (held.live_slot_count, held.slot_count, held.shared_port_count);
        let use_text =
            format!("lease {} of {}: {live} of {slots} ports are held, {shared} are shared", lease.id, lease.subject);
        let (name, message) = match fullness {
            Fullness::Exhausted => ("lease.ports-exhausted", format!("{use_text}; new flows are refused")),
            Fullness::Near => ("lease.ports-nearly-exhausted", use_text),
            Fullness::Fine => ("lease.ports-available", use_text),
        };
        let remedy = "raise network.egress.portsPerSubject of its persona";
        let details = json!({ "subject": lease.subject, "persona": lease.persona, "use": held, "remedy": remedy });
        draft.event(name, format!("lease/{}", lease.id), "manager", message, details);
        draft.put(LeaseRecord { fullness, ..(*lease).clone() });
    }
}
