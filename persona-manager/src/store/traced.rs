//! Spans of what was published and not acknowledged yet. They end when their node or edge says that it has applied it.
//!
//! A node is told of a lease once its edges have acknowledged it, by a pass that nobody asked for. So what is published
//! shortly after an acknowledgement goes on with that one's trace.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry::Context;
use persona_core::ids::Generation;
use tracing::Span;
use tracing::field::Empty;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::records::AgentId;
use super::snapshot::Snapshot;
use crate::telemetry::TARGET;

/// Nodes and edges that one change is followed to; a change of the whole fleet has more, and they are not traced.
const FOLLOWED_COUNT_MAX: usize = 256;

/// Generations of one agent that are waited for; of an agent that is away the oldest end unacknowledged.
const WAITING_COUNT_MAX: usize = 8;

/// What is published within this time of an acknowledgement follows from it.
const CONSEQUENCE_TIME_MAX: Duration = Duration::from_secs(1);

/// What is waited for; clones share it.
#[derive(Clone, Default)]
pub(crate) struct Published(Arc<Mutex<Followed>>);

#[derive(Default)]
struct Followed {
    waiting: BTreeMap<AgentId, VecDeque<(Generation, Span)>>,
    /// The trace of the last acknowledgement.
    acknowledged: Option<(Context, Instant)>,
}

impl Published {
    /// Follows what a revision has published that the one before had not, as part of what caused it. None: no traced change did.
    pub(super) fn follow(&self, (before, snapshot): (&Snapshot, &Snapshot), cause: Option<&Span>) {
        let mut followed = self.lock();
        let acknowledged = followed.acknowledged.take().filter(|(_, at)| at.elapsed() < CONSEQUENCE_TIME_MAX);
        let cause = match (cause, acknowledged) {
            (Some(span), _) => span.context(),
            (None, Some((context, at))) => {
                followed.acknowledged = Some((context.clone(), at));
                context
            }
            (None, None) => return,
        };
        let generation = snapshot.generation();
        let new = snapshot.publications.changes_since(&before.publications).into_iter();
        for record in new.filter_map(|change| change.after).take(FOLLOWED_COUNT_MAX) {
            let span = tracing::info_span!(target: TARGET, parent: None, "agent.apply",
                persona.agent = %record.agent, persona.generation = %generation, persona.outcome = Empty);
            // It fails where nobody collects spans any more; then there is nothing to go on with.
            _ = span.set_parent(cause.clone());
            let of_agent = followed.waiting.entry(record.agent.clone()).or_default();
            of_agent.push_back((generation, span));
            if of_agent.len() > WAITING_COUNT_MAX {
                end(of_agent.pop_front(), "unacknowledged");
            }
        }
    }

    /// Ends what an agent has applied by now, and what it refused.
    pub(crate) fn acknowledge(&self, agent: &AgentId, applied: Generation, rejected: Option<Generation>) {
        let mut followed = self.lock();
        let Some(of_agent) = followed.waiting.get_mut(agent) else { return };
        let mut last = None;
        while of_agent.front().is_some_and(|(generation, _)| *generation <= applied) {
            last = end(of_agent.pop_front(), "applied");
        }
        while of_agent.front().is_some_and(|(generation, _)| Some(*generation) <= rejected) {
            end(of_agent.pop_front(), "rejected");
        }
        if of_agent.is_empty() {
            followed.waiting.remove(agent);
        }
        if let Some(last) = last {
            followed.acknowledged = Some((last, Instant::now()));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Followed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends a span, which dropping does, and returns the trace that it was part of.
fn end(waiting: Option<(Generation, Span)>, outcome: &str) -> Option<Context> {
    let (_, span) = waiting?;
    span.record("persona.outcome", outcome);
    Some(span.context())
}
