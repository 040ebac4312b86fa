//! When personas are put on by themselves.

use persona_core::activate::{Timetable, TimetableError};
use persona_core::ids::{PersonaName, ScheduleName, SubjectId};
use persona_core::units::Span;
use serde::{Deserialize, Serialize};

/// A persona that is put on by itself, for a while each time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ScheduleRecord {
    /// On whom.
    pub subject: SubjectId,
    /// Its name, unique for the subject.
    pub name: ScheduleName,
    /// The persona.
    pub persona: PersonaName,
    /// When.
    pub times: ScheduledTimes,
    /// For how long each time, milliseconds.
    pub for_ms: u64,
    /// When it was made.
    pub made_ms: u64,
    /// By whom.
    pub by: String,
    /// The opening of the window in which the persona was last put on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opened_ms: Option<u64>,
    /// Windows that were opened until then are not used: one of them was released.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub released_ms: Option<u64>,
}

/// When.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ScheduledTimes {
    /// Once, milliseconds since the Unix epoch.
    At(u64),
    /// At each time of a cron schedule in a time zone.
    Every {
        /// Minute, hour, day, month, weekday.
        cron: String,
        /// Its IANA name.
        zone: String,
    },
}

impl ScheduleRecord {
    /// Its times, to be asked.
    pub(crate) fn timetable(&self) -> Result<Timetable, TimetableError> {
        match &self.times {
            ScheduledTimes::At(at_ms) => Timetable::once(*at_ms, Span(self.for_ms)),
            ScheduledTimes::Every { cron, zone } => Timetable::every(cron, zone, Span(self.for_ms)),
        }
    }

    /// Whether a window that was opened then is used.
    pub(crate) fn uses(&self, opened_ms: u64) -> bool {
        self.released_ms.is_none_or(|released_ms| opened_ms > released_ms)
    }
}
