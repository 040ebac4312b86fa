//! Tells of leases whose ports run out: once per episode.

use std::sync::Arc;

use persona_core::lease::Fullness;
use serde_json::json;

use super::reports::Reports;
use crate::store::{AgentId, Draft, LeaseRecord};

/// Notes leases that have become fuller or emptier, from what their nodes report.
pub(super) fn note(draft: &mut Draft, reports: &Reports) {
    let leases: Vec<Arc<LeaseRecord>> = draft.state().leases.values().cloned().collect();
    for lease in leases {
        let node = reports.get(&AgentId::node(lease.subject.node()));
        let Some(held) = node.and_then(|node| node.leases.get(&lease.id)) else { continue };
        let fullness = lease.fullness.after(held);
        if fullness == lease.fullness {
            continue;
        }
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
