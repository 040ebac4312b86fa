//! Streams of desired state that agents have open: who has one counts as heard although it was told to report rarely.

use std::sync::{Arc, PoisonError};

use super::Live;
use crate::store::{AgentId, SharedMap};

/// Streams of desired state that an agent has open here.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sessions {
    /// How many.
    pub open: u32,
    /// When the last one ended, by the clock that never goes back, milliseconds.
    pub ended: u64,
    /// How long the agent was told that its next report may be in coming, milliseconds. None: as long as any other's.
    pub interval_ms: Option<u32>,
}

/// A stream of desired state that is open, until this is dropped.
pub(crate) struct Session {
    live: Arc<Live>,
    id: AgentId,
}

impl Drop for Session {
    fn drop(&mut self) {
        let ended = self.live.clock.monotonic_ms();
        self.live.change_sessions(&self.id, |sessions| {
            (sessions.open, sessions.ended) = (sessions.open.saturating_sub(1), ended);
        });
    }
}

impl Live {
    /// Notes that an agent has a stream of desired state open, for as long as what this returns is there.
    pub(crate) fn open_session(self: &Arc<Self>, id: &AgentId) -> Session {
        self.change_sessions(id, |sessions| sessions.open += 1);
        Session { live: Arc::clone(self), id: id.clone() }
    }

    /// Notes how long an agent is told that its next report may be in coming. None: it is told nothing, nor is one that has no
    /// stream open here.
    pub(crate) fn pace(&self, id: &AgentId, interval_ms: Option<u32>) -> Option<u32> {
        let known = self.sessions().get(id).map(|sessions| **sessions)?;
        let interval_ms = interval_ms.filter(|_| known.open > 0);
        if known.interval_ms != interval_ms {
            self.change_sessions(id, |sessions| sessions.interval_ms = interval_ms);
        }
        interval_ms
    }

    fn change_sessions(&self, id: &AgentId, change: impl FnOnce(&mut Sessions)) {
        let mut all = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sessions = all.get(id).map(|sessions| **sessions).unwrap_or_default();
        change(&mut sessions);
        all.insert(id.clone(), Arc::new(sessions));
    }

    /// Streams of desired state that agents have open, or had.
    pub(crate) fn sessions(&self) -> SharedMap<AgentId, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Forgets who is not registered and has no stream open.
    pub(super) fn forget_sessions(&self, is_registered: impl Fn(&AgentId) -> bool) {
        let mut all = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|id, of| of.open > 0 || is_registered(id));
    }
}
