//! When an activation is scheduled: at one time, or at each time of a cron schedule in a time zone, each time for a while.
//!
//! It asks only what time it is, so it may be asked late, twice, or again after the clock was set: a window that is open
//! is open whoever looked meanwhile.

use std::fmt;

use jiff::Timestamp;
use jiff::civil::DateTime;

use super::clock::Zone;
use super::cron::Schedule;
use crate::units::Span;

/// The shortest window, milliseconds.
pub const SCHEDULED_FOR_MIN: u64 = 1_000;

/// The longest window, milliseconds: 31 days.
pub const SCHEDULED_FOR_MAX: u64 = 31 * 86_400_000;

/// The last time that can be written, milliseconds since the Unix epoch: the year 9999 lies before it.
const TIME_MAX: u64 = 253_402_214_400_000;

/// Times at which something begins, and how long it lasts.
#[derive(Debug, Clone)]
pub struct Timetable {
    times: Times,
    span: Span,
}

#[derive(Debug, Clone)]
enum Times {
    Once(u64),
    Every(Box<Schedule>, Zone),
}

/// A timetable that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimetableError {
    /// It would last too short or too long.
    #[error("{0} is no time for which something is scheduled: write 1s to 31d")]
    Span(Span),
    /// It lies beyond every calendar.
    #[error("{0} ms since 1970 is no time: write at most {TIME_MAX}")]
    Time(u64),
    /// Schedule or zone cannot be read.
    #[error("{0}")]
    Unreadable(String),
}

impl Timetable {
    /// Once, for `span` from a time on.
    pub fn once(at_ms: u64, span: Span) -> Result<Self, TimetableError> {
        if at_ms > TIME_MAX {
            return Err(TimetableError::Time(at_ms));
        }
        Ok(Self { times: Times::Once(at_ms), span: checked(span)? })
    }

    /// For `span` from each time of a cron schedule on, in a time zone.
    pub fn every(cron: &str, zone: &str, span: Span) -> Result<Self, TimetableError> {
        let schedule = Schedule::parse(cron).map_err(TimetableError::Unreadable)?;
        let zone = Zone::named(zone).map_err(TimetableError::Unreadable)?;
        Ok(Self { times: Times::Every(Box::new(schedule), zone), span: checked(span)? })
    }

    /// When the window that is open now was opened; of several the latest. None: none is open.
    pub fn opened(&self, wall_ms: u64) -> Option<u64> {
        match &self.times {
            Times::Once(at_ms) => (*at_ms..self.end_of(*at_ms)).contains(&wall_ms).then_some(*at_ms),
            Times::Every(schedule, zone) => schedule.opened(zone, wall_ms, self.span.0),
        }
    }

    /// When a window is opened next. None: never again.
    pub fn next(&self, wall_ms: u64) -> Option<u64> {
        match &self.times {
            Times::Once(at_ms) => (*at_ms > wall_ms).then_some(*at_ms),
            Times::Every(schedule, zone) => schedule.next(zone, wall_ms),
        }
    }

    /// When a window ends that was opened then.
    pub fn end_of(&self, opened_ms: u64) -> u64 {
        opened_ms.saturating_add(self.span.0)
    }

    /// Whether no window is open or will ever be.
    pub fn is_over(&self, wall_ms: u64) -> bool {
        self.opened(wall_ms).is_none() && self.next(wall_ms).is_none()
    }
}

impl fmt::Display for Timetable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.times {
            Times::Once(at_ms) => {
                let at =
                    Timestamp::from_millisecond(i64::try_from(*at_ms).unwrap_or(i64::MAX)).unwrap_or(Timestamp::MAX);
                write!(formatter, "at {at} for {}", self.span)
            }
            Times::Every(schedule, zone) => {
                write!(formatter, "every '{schedule}' {} for {}", zone.name(), self.span)
            }
        }
    }
}

/// The time that a text says, milliseconds since the Unix epoch: with an offset or `Z`, or as the clock of a zone shows it. One
/// that this clock skips is taken as much later, one that it shows twice the first time.
pub fn instant(text: &str, zone: &str) -> Result<u64, TimetableError> {
    let zone = Zone::named(zone).map_err(TimetableError::Unreadable)?;
    let ms = match text.parse::<Timestamp>() {
        Ok(timestamp) => Some(timestamp.as_millisecond()),
        Err(_) => text.parse::<DateTime>().ok().and_then(|local| zone.first_instant(local)),
    };
    ms.and_then(|ms| u64::try_from(ms).ok()).ok_or_else(|| {
        TimetableError::Unreadable(format!(
            "'{text}' is no time: write '2026-12-24 18:00', as the clock of the time zone shows it, or 2026-12-24T17:00:00Z"
        ))
    })
}

fn checked(span: Span) -> Result<Span, TimetableError> {
    match (SCHEDULED_FOR_MIN..=SCHEDULED_FOR_MAX).contains(&span.0) {
        true => Ok(span),
        false => Err(TimetableError::Span(span)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;

    fn at(text: &str) -> u64 {
        instant(text, "UTC").unwrap()
    }

    fn utc(ms: Option<u64>) -> Option<String> {
        ms.map(|ms| Timestamp::from_millisecond(ms as i64).unwrap().to_string())
    }

    fn nightly(cron: &str, hours: u64) -> Timetable {
        Timetable::every(cron, "Europe/Berlin", Span(hours * HOUR)).unwrap()
    }

    #[test]
    fn windows_are_opened_once_in_the_nights_when_the_clock_changes() {
        // From 02:30 on for two hours: skipped in March, so taken at 03:30; shown twice in October, so taken the first time.
        let table = nightly("30 2 * * *", 2);
        let cases = [
            ("2026-03-28T00:00:00Z", None, "2026-03-28T01:30:00Z"),
            ("2026-03-28T02:00:00Z", Some("2026-03-28T01:30:00Z"), "2026-03-29T01:30:00Z"),
            ("2026-03-29T01:29:59Z", None, "2026-03-29T01:30:00Z"),
            ("2026-03-29T03:29:59Z", Some("2026-03-29T01:30:00Z"), "2026-03-30T00:30:00Z"),
            ("2026-03-29T03:30:00Z", None, "2026-03-30T00:30:00Z"),
            ("2026-10-25T00:30:00Z", Some("2026-10-25T00:30:00Z"), "2026-10-26T01:30:00Z"),
            ("2026-10-25T02:29:59Z", Some("2026-10-25T00:30:00Z"), "2026-10-26T01:30:00Z"),
            ("2026-10-25T02:30:00Z", None, "2026-10-26T01:30:00Z"),
        ];
        for (now, opened, next) in cases {
            let now_ms = at(now);
            let got = (utc(table.opened(now_ms)), utc(table.next(now_ms)));
            assert_eq!(got, (opened.map(str::to_owned), Some(next.to_owned())), "{now}");
        }
    }

    #[test]
    fn every_minute_looked_at_forward_says_the_same_as_looked_at_back() {
        let schedules = ["*/20 * * * *", "30 2 * * *", "0 0,3 * * sun", "59 23 28-31 3,10 *"];
        for cron in schedules {
            let table = nightly(cron, 1);
            for begin in [at("2026-03-28T20:00:00Z"), at("2026-10-24T20:00:00Z")] {
                let mut next = table.next(begin - 1);
                for now_ms in (begin..begin + 12 * HOUR).step_by(60_000) {
                    if next == Some(now_ms) {
                        assert_eq!(table.opened(now_ms), next, "{cron}");
                        next = table.next(now_ms);
                    }
                    assert!(
                        next.is_some_and(|next| next > now_ms),
                        "{cron}: {:?} at {:?}",
                        utc(next),
                        utc(Some(now_ms))
                    );
                    assert_eq!(table.next(now_ms), next, "{cron} at {:?}", utc(Some(now_ms)));
                }
            }
        }
    }

    #[test]
    fn windows_that_overlap_go_on_from_the_latest_and_rare_ones_are_found() {
        let table = nightly("0 * * * *", 3);
        assert_eq!(utc(table.opened(at("2026-06-01T10:59:59Z"))), Some("2026-06-01T10:00:00Z".to_owned()));
        let leap = Timetable::every("0 12 29 feb *", "UTC", Span(HOUR)).unwrap();
        assert_eq!(utc(leap.next(at("2026-01-01T00:00:00Z"))), Some("2028-02-29T12:00:00Z".to_owned()));
        assert_eq!(utc(leap.next(at("2096-03-01T00:00:00Z"))), Some("2104-02-29T12:00:00Z".to_owned()));
        assert!(!leap.is_over(at("2026-01-01T00:00:00Z")));
    }

    #[test]
    fn once_is_over_afterwards() {
        let table = Timetable::once(at("2026-12-24T17:00:00Z"), Span(2 * HOUR)).unwrap();
        assert_eq!(table.to_string(), "at 2026-12-24T17:00:00Z for 2h");
        let cases = [
            ("2026-12-24T16:59:59Z", false, true, false),
            ("2026-12-24T17:00:00Z", true, false, false),
            ("2026-12-24T18:59:59Z", true, false, false),
            ("2026-12-24T19:00:00Z", false, false, true),
        ];
        for (now, is_open, comes, is_over) in cases {
            let now_ms = at(now);
            let got = (table.opened(now_ms).is_some(), table.next(now_ms).is_some(), table.is_over(now_ms));
            assert_eq!(got, (is_open, comes, is_over), "{now}");
        }
    }

    #[test]
    fn times_are_read_with_an_offset_or_as_a_clock_shows_them() {
        let cases = [
            ("2026-12-24 18:00", "Europe/Berlin", "2026-12-24T17:00:00Z"),
            ("2026-07-01T18:00", "Europe/Berlin", "2026-07-01T16:00:00Z"),
            ("2026-12-24T18:00:00+01:00", "UTC", "2026-12-24T17:00:00Z"),
            ("2026-03-29 02:30", "Europe/Berlin", "2026-03-29T01:30:00Z"),
            ("2026-10-25 02:30", "Europe/Berlin", "2026-10-25T00:30:00Z"),
            // A leap second has no time of its own.
            ("2016-12-31T23:59:60Z", "UTC", "2016-12-31T23:59:59Z"),
        ];
        for (text, zone, expected) in cases {
            assert_eq!(utc(instant(text, zone).ok()), Some(expected.to_owned()), "{text} {zone}");
        }
        for (text, zone, expected) in [
            ("tomorrow", "UTC", "write '2026-12-24 18:00'"),
            ("1969-12-31 00:00", "UTC", "is no time"),
            ("2026-12-24 18:00", "Mars", "no time zone"),
        ] {
            let error = instant(text, zone).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn what_lasts_too_long_or_never_comes_is_refused() {
        let refused = [
            Timetable::once(0, Span(999)).unwrap_err(),
            Timetable::once(u64::MAX, Span(1_000)).unwrap_err(),
            Timetable::every("0 0 * * *", "UTC", Span(SCHEDULED_FOR_MAX + 1)).unwrap_err(),
            Timetable::every("0 0 31 feb *", "UTC", Span(HOUR)).unwrap_err(),
            Timetable::every("0 0 * * *", "Europe/Berlni", Span(HOUR)).unwrap_err(),
        ];
        let expected =
            ["write 1s to 31d", "is no time", "write 1s to 31d", "never comes", "did you mean 'Europe/Berlin'?"];
        for (error, expected) in refused.iter().zip(expected) {
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
