//! Wakes the pass: at once when a report changes what decisions rest on, and at least every tick for what time changes.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::kept::RECLAIM_INTERVAL_MS;
use crate::context::Context;

/// Silence, expiry and quarantine are noticed this late at most.
const TICK: Duration = Duration::from_millis(250);

/// What was put off is done this soon.
const SOON: Duration = Duration::from_millis(RECLAIM_INTERVAL_MS);

/// A turn of the manager's own loop, for whoever watches over it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Turn {
    /// How many there were.
    pub count: u64,
    /// Whether this manager makes changes; of several on one database, one does.
    pub leads: bool,
}

/// Runs until the manager stops. Each turn is counted in `turns`.
pub(crate) async fn run(context: Context, turns: watch::Sender<Turn>) {
    let mut tidied = Instant::now();
    loop {
        let wait = if context.live.comes_back_soon.load(Ordering::Relaxed) { SOON } else { TICK };
        tokio::select! {
            () = context.live.wake.notified() => {}
            () = tokio::time::sleep(wait) => {}
            () = context.stop.cancelled() => return,
        }
        let leads = context.store.standing().leads();
        turns.send_modify(|turn| *turn = Turn { count: turn.count + 1, leads });
        if !leads {
            continue; // The manager that leads does that.
        }
        // An empty job: the pass that follows it does the work.
        if let Err(refusal) = context.store.change(|_| Ok(())).await {
            tracing::warn!(reason = refusal.detail(), "an assignment pass failed");
        }
        if tidied.elapsed() >= TICK {
            tidied = Instant::now();
            let snapshot = context.store.snapshot();
            context.live.forget_agents(|id| snapshot.agents.contains_key(id));
            context.live.forget_leases(|id| snapshot.leases.contains_key(id));
        }
    }
}
