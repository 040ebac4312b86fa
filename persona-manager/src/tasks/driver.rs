//! Wakes the pass: at once when a report changes what decisions rest on, and at least every tick for what time changes.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::kept::RECLAIM_INTERVAL_MS;
use crate::context::Context;
use crate::store::{AgentId, AgentRecord, LeaseRecord, Records, Snapshot};

/// Silence, expiry and quarantine are noticed this late at most.
const TICK: Duration = Duration::from_millis(250);

/// All reports are freed of what is over this often; of those that are concerned what is over goes with every turn.
const TIDY_INTERVAL: Duration = Duration::from_secs(10);

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
    let (mut tidied, mut tidied_whole) = (Tidied::default(), None::<Instant>);
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
        let snapshot = context.store.snapshot();
        match tidied_whole.is_none_or(|at| at.elapsed() >= TIDY_INTERVAL) {
            true => {
                tidied_whole = Some(Instant::now());
                tidied = Tidied { agents: snapshot.agents.clone(), leases: snapshot.leases.clone() };
                context.live.forget_agents(|id| snapshot.agents.contains_key(id));
                context.live.forget_leases(|id| snapshot.leases.contains_key(id));
            }
            false => tidied.follow(&context, &snapshot),
        }
    }
}

/// What there was when reports were last freed of what is over.
#[derive(Default)]
struct Tidied {
    agents: Records<AgentRecord>,
    leases: Records<LeaseRecord>,
}

impl Tidied {
    /// Forgets what was reported by and of those that are gone since.
    fn follow(&mut self, context: &Context, snapshot: &Snapshot) {
        let agents = std::mem::replace(&mut self.agents, snapshot.agents.clone());
        if agents.keys_gone_in(&snapshot.agents) {
            context.live.forget_agents(|id| snapshot.agents.contains_key(id));
        }
        let leases = std::mem::replace(&mut self.leases, snapshot.leases.clone());
        let gone = snapshot.leases.changes_since(&leases).into_iter().filter(|change| change.after.is_none());
        let holders: BTreeSet<AgentId> =
            gone.filter_map(|change| Some(AgentId::node(change.before?.subject.node()))).collect();
        if !holders.is_empty() {
            context.live.forget_leases_of(&holders, |id| snapshot.leases.contains_key(id));
        }
    }
}
