//! Time as a signal: hour, weekday, a daily stretch, a cron window, each in a time zone and right across its changes.
//!
//! The time zone database is compiled in. Two clocks are told apart: the wall's, which calendars ask, and a steady one,
//! which measures how long something holds and never goes back.

use std::fmt;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{TimeZone, TimeZoneDatabase};

use super::cron::Schedule;
use crate::nearest::nearest;
use crate::units::Span;

/// Now, on both clocks. Whoever has only one may pass it twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Milliseconds since the Unix epoch. It may jump; leap seconds do not exist in it.
    pub wall_ms: u64,
    /// Milliseconds of a clock that only goes forward.
    pub steady_ms: u64,
}

impl Moment {
    /// Both clocks show the same.
    pub fn of(ms: u64) -> Self {
        Self { wall_ms: ms, steady_ms: ms }
    }
}

/// A time zone by its name.
#[derive(Debug, Clone)]
pub(super) struct Zone {
    name: String,
    zone: TimeZone,
}

impl Zone {
    pub(super) fn utc() -> Self {
        Self { name: "UTC".to_owned(), zone: TimeZone::UTC }
    }

    /// Its name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The zone of an IANA name; the error says what would be valid.
    pub(super) fn named(name: &str) -> Result<Self, String> {
        let database = TimeZoneDatabase::bundled();
        if let Ok(zone) = database.get(name) {
            return Ok(Self { name: name.to_owned(), zone });
        }
        let names: Vec<String> = database.available().map(|name| name.to_string()).collect();
        let meant = nearest(name, names.iter().map(String::as_str)).map(|name| format!("did you mean '{name}'? "));
        let hint = meant.unwrap_or_default();
        Err(format!("'{name}' is no time zone; {hint}write an IANA name such as 'Europe/Berlin' or 'UTC'"))
    }

    /// What the clock shows.
    pub(super) fn local(&self, wall_ms: u64) -> DateTime {
        let timestamp = Timestamp::from_millisecond(i64::try_from(wall_ms).unwrap_or(i64::MAX));
        self.zone.to_datetime(timestamp.unwrap_or(Timestamp::MAX))
    }

    /// When the clock shows this. A skipped time is taken as long after the last one before the gap as if there were
    /// none; of a time that comes twice, the first.
    pub(super) fn first_instant(&self, local: DateTime) -> Option<i64> {
        self.zone.to_ambiguous_timestamp(local).compatible().ok().map(Timestamp::as_millisecond)
    }

    /// Every time the clock shows this: none in a gap, two in a fold.
    pub(super) fn instants(&self, local: DateTime) -> impl Iterator<Item = i64> {
        use jiff::tz::AmbiguousOffset::{Fold, Gap, Unambiguous};
        let offsets = match self.zone.to_ambiguous_timestamp(local).offset() {
            Unambiguous { offset } => [Some(offset), None],
            Gap { .. } => [None, None],
            Fold { before, after } => [Some(after), Some(before)],
        };
        offsets
            .into_iter()
            .flatten()
            .filter_map(move |offset| offset.to_timestamp(local).ok())
            .map(Timestamp::as_millisecond)
    }
}

/// What of time a criterion asks for.
#[derive(Debug, Clone)]
pub(super) enum ClockReading {
    Hour(Zone),
    Minute(Zone),
    /// Monday is 1, Sunday 7 (ISO 8601).
    Weekday(Zone),
    Day(Zone),
    Month(Zone),
    /// Minutes of the day: from the first until before the second, across midnight where the second is smaller.
    Between(u16, u16, Zone),
    /// For so long after each time of the schedule.
    Cron(Box<Schedule>, Span, Zone),
}

impl ClockReading {
    /// Its value now: a number, or 1 and 0 for true and false.
    pub(super) fn read(&self, wall_ms: u64) -> f64 {
        match self {
            Self::Hour(zone) => f64::from(zone.local(wall_ms).hour()),
            Self::Minute(zone) => f64::from(zone.local(wall_ms).minute()),
            Self::Weekday(zone) => f64::from(zone.local(wall_ms).weekday().to_monday_one_offset()),
            Self::Day(zone) => f64::from(zone.local(wall_ms).day()),
            Self::Month(zone) => f64::from(zone.local(wall_ms).month()),
            Self::Between(from, to, zone) => {
                let local = zone.local(wall_ms);
                let minute = local.hour() as u16 * 60 + local.minute() as u16;
                let is_inside =
                    if from < to { (*from..*to).contains(&minute) } else { minute >= *from || minute < *to };
                f64::from(u8::from(is_inside))
            }
            Self::Cron(schedule, span, zone) => f64::from(u8::from(schedule.is_open(zone, wall_ms, span.0))),
        }
    }
}

impl fmt::Display for ClockReading {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |formatter: &mut fmt::Formatter<'_>, name: &str, zone: &Zone| match zone.name.as_str() {
            "UTC" => write!(formatter, "{name}()"),
            zone => write!(formatter, "{name}('{zone}')"),
        };
        let clock = |minute: &u16| format!("{:02}:{:02}", minute / 60, minute % 60);
        match self {
            Self::Hour(zone) => plain(formatter, "hour", zone),
            Self::Minute(zone) => plain(formatter, "minute", zone),
            Self::Weekday(zone) => plain(formatter, "weekday", zone),
            Self::Day(zone) => plain(formatter, "day", zone),
            Self::Month(zone) => plain(formatter, "month", zone),
            Self::Between(from, to, zone) => {
                write!(formatter, "between('{}', '{}', '{}')", clock(from), clock(to), zone.name)
            }
            Self::Cron(schedule, span, zone) => write!(formatter, "cron('{schedule}', {span}, '{}')", zone.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> u64 {
        text.parse::<Timestamp>().unwrap().as_millisecond() as u64
    }

    #[test]
    fn calendars_follow_their_zone_across_its_changes() {
        let berlin = Zone::named("Europe/Berlin").unwrap();
        let cases = [
            ("2026-03-29T00:59:00Z", 1.0, 7.0),
            ("2026-03-29T01:00:00Z", 3.0, 7.0),
            ("2026-10-25T00:30:00Z", 2.0, 7.0),
            ("2026-10-25T01:30:00Z", 2.0, 7.0),
            ("2026-10-25T02:30:00Z", 3.0, 7.0),
            ("2026-10-25T23:00:00Z", 0.0, 1.0),
            // The leap second 2016-12-31T23:59:60Z has no time of its own.
            ("2016-12-31T23:59:59Z", 0.0, 7.0),
        ];
        for (time, hour, weekday) in cases {
            let read = |reading: ClockReading| reading.read(at(time));
            let got = (read(ClockReading::Hour(berlin.clone())), read(ClockReading::Weekday(berlin.clone())));
            assert_eq!(got, (hour, weekday), "{time}");
        }
    }

    #[test]
    fn a_daily_stretch_may_cross_midnight() {
        let night = ClockReading::Between(22 * 60, 6 * 60, Zone::named("Europe/Berlin").unwrap());
        let cases = [
            ("2026-01-01T20:59:00Z", 0.0),
            ("2026-01-01T21:00:00Z", 1.0),
            ("2026-01-02T04:59:00Z", 1.0),
            ("2026-01-02T05:00:00Z", 0.0),
            ("2026-07-01T20:00:00Z", 1.0),
        ];
        cases.iter().for_each(|(time, expected)| assert_eq!(night.read(at(time)), *expected, "{time}"));
    }

    #[test]
    fn unknown_zones_are_refused_with_what_would_be_valid() {
        let error = Zone::named("Europe/Berlni").unwrap_err();
        assert!(error.contains("did you mean 'Europe/Berlin'?"), "{error}");
    }

    #[test]
    fn times_at_the_ends_of_the_calendar_do_not_panic() {
        let month = ClockReading::Month(Zone::named("Asia/Tokyo").unwrap());
        [0, u64::MAX, i64::MAX as u64].iter().for_each(|ms| assert!((1.0..=12.0).contains(&month.read(*ms))));
    }
}
