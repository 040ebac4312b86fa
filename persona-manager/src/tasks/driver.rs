//! Wakes the pass: at once when a report changes what decisions rest on, and at least every tick for what time changes.

use std::time::Duration;

use crate::context::Context;

/// Silence, expiry and quarantine are noticed this late at most.
const TICK: Duration = Duration::from_millis(250);

/// Runs until the manager stops.
pub(crate) async fn run(context: Context) {
    loop {
        tokio::select! {
            () = context.live.wake.notified() => {}
            () = tokio::time::sleep(TICK) => {}
            () = context.stop.cancelled() => return,
        }
        if !context.store.standing().leads() {
            continue; // The manager that leads does that.
        }
        // An empty job: the pass that follows it does the work.
        if let Err(refusal) = context.store.change(|_| Ok(())).await {
            tracing::warn!(reason = refusal.detail(), "an assignment pass failed");
        }
        let snapshot = context.store.snapshot();
        context.live.forget_agents(|id| snapshot.agents.contains_key(id));
        context.live.forget_leases(|id| snapshot.leases.contains_key(id));
    }
}
