//! What waits to be reported. Newer values replace older ones; events are bounded, the oldest give way.

use std::collections::VecDeque;
use std::time::{SystemTime, UNIX_EPOCH};

use persona_core::wire::agent::{AgentEvent, Report};

/// Most events that wait while the manager is away.
const EVENT_COUNT_MAX: usize = 1_000;

/// Most events in one report.
const EVENT_COUNT_PER_REPORT: usize = 200;

/// The report in the making.
#[derive(Debug, Clone, Default)]
pub struct Outbox {
    /// Everything but events, in its newest form.
    pub report: Report,
    events: VecDeque<AgentEvent>,
}

impl Outbox {
    /// Adds an event of now.
    pub fn push_event(&mut self, name: &str, about: impl Into<String>, message: impl Into<String>) {
        if self.events.len() == EVENT_COUNT_MAX {
            self.events.pop_front();
        }
        let (about, message) = (about.into(), message.into());
        self.events.push_back(AgentEvent { time_ms: now_ms(), name: name.to_owned(), about, message });
    }

    /// The report to send now. Its events stay here until [`sent`](Self::sent).
    pub fn to_report(&self) -> Report {
        let events = self.events.iter().take(EVENT_COUNT_PER_REPORT).cloned().collect();
        Report { events, ..self.report.clone() }
    }

    /// The manager has taken a report: its events need not be sent again.
    pub fn sent(&mut self, report: &Report) {
        // While the report was under way, the oldest may have given way to new ones.
        for event in &report.events {
            if self.events.front() == Some(event) {
                self.events.pop_front();
            }
        }
    }

    /// Whether events still wait.
    pub fn has_events(&self) -> bool {
        !self.events.is_empty()
    }
}

/// Milliseconds since the Unix epoch.
pub(super) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_wait_until_they_were_taken_and_never_pile_up() {
        let mut outbox = Outbox::default();
        (0..EVENT_COUNT_MAX + 5).for_each(|index| outbox.push_event("edge.down", index.to_string(), ""));
        let report = outbox.to_report();
        assert_eq!(report.events.len(), EVENT_COUNT_PER_REPORT);
        assert_eq!(report.events[0].about, "5", "the oldest gave way");
        assert_eq!(outbox.to_report().events[0].about, "5", "not lost when a report fails");
        outbox.sent(&report);
        assert_eq!(outbox.to_report().events[0].about, "205");
    }
}
