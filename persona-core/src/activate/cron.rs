//! Cron schedules of five fields, and whether a window that opens at each of their times is open.
//!
//! A time that the clock skips is taken an hour later, one that comes twice is taken once, unless the hour is `*`: then
//! every hour of real time counts. Days match as in cron(8): where both day fields are given, either suffices.

use std::fmt;
use std::ops::RangeInclusive;

use jiff::civil::Date;

use super::clock::Zone;

/// Around a change of the clock times are out of order by an hour or two, milliseconds.
const DISORDER_MS: i64 = 3 * 3_600_000;

/// So many days ahead every schedule comes: between two 29ths of February lie up to eight years.
const DAYS_AHEAD: usize = 8 * 366 + 2;

/// A schedule: each field as a set of bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Schedule {
    text: String,
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    /// Sunday is 0.
    weekdays: u64,
    is_every_hour: bool,
    is_every_day: bool,
    is_every_weekday: bool,
}

/// One field: its name, its numbers, and words for them from the first number on.
struct Field {
    name: &'static str,
    numbers: RangeInclusive<u32>,
    words: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field { name: "minute", numbers: 0..=59, words: &[] },
    Field { name: "hour", numbers: 0..=23, words: &[] },
    Field { name: "day of the month", numbers: 1..=31, words: &[] },
    Field {
        name: "month",
        numbers: 1..=12,
        words: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
    },
    Field { name: "weekday", numbers: 0..=7, words: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] },
];

impl Schedule {
    /// Reads `MINUTE HOUR DAY MONTH WEEKDAY`; the error says what would be valid.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split_ascii_whitespace().collect();
        let Ok(parts) = <[&str; 5]>::try_from(parts) else {
            return Err(format!(
                "'{text}' is no schedule: write MINUTE HOUR DAY MONTH WEEKDAY, such as '0 22 * * 1-5'"
            ));
        };
        let mut sets = [0; 5];
        for (index, part) in parts.iter().enumerate() {
            sets[index] = FIELDS[index].set_of(part)?;
        }
        let [minutes, hours, days, months, weekdays] = sets;
        let schedule = Self {
            text: parts.join(" "),
            minutes,
            hours,
            days,
            months,
            weekdays: weekdays | (weekdays >> 7 & 1),
            is_every_hour: parts[1] == "*",
            is_every_day: parts[2].starts_with('*'),
            is_every_weekday: parts[4].starts_with('*'),
        };
        if schedule.never_comes() {
            return Err(format!("'{text}' never comes: no month that it names has such a day"));
        }
        Ok(schedule)
    }

    fn never_comes(&self) -> bool {
        let longest = |month: u32| [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][month as usize - 1];
        let months = (1..=12).filter(|month| self.months >> month & 1 == 1);
        self.is_every_weekday && months.map(longest).all(|days: u32| self.days.trailing_zeros() > days)
    }

    /// Whether now lies within `span_ms` after some time of the schedule.
    pub(super) fn is_open(&self, zone: &Zone, wall_ms: u64, span_ms: u64) -> bool {
        self.recent(zone, wall_ms, span_ms).next().is_some()
    }

    /// The latest time of the schedule that is less than `span_ms` ago.
    pub(super) fn opened(&self, zone: &Zone, wall_ms: u64, span_ms: u64) -> Option<u64> {
        let mut recent = self.recent(zone, wall_ms, span_ms);
        let first = recent.next()?;
        let latest = recent.take_while(|opening| *opening >= first - DISORDER_MS).fold(first, i64::max);
        u64::try_from(latest).ok()
    }

    /// The first time of the schedule after now.
    pub(super) fn next(&self, zone: &Zone, wall_ms: u64) -> Option<u64> {
        let now = i64::try_from(wall_ms).ok()?;
        let days = std::iter::successors(Some(zone.local(wall_ms).date()), |day| day.tomorrow().ok());
        let of_day = |day: Date| self.openings(zone, day).filter(|opening| *opening > now).min();
        let mut coming = days.take(DAYS_AHEAD).filter(|day| self.has_day(*day)).filter_map(of_day);
        let first = coming.next()?;
        // Around a change of the clock the day after may begin with an earlier one.
        let next = coming.next().map_or(first, |other| first.min(other));
        u64::try_from(next).ok()
    }

    /// Times of the schedule that are less than `span_ms` ago, the latest first but for those around a change of the clock.
    fn recent<'a>(&'a self, zone: &'a Zone, wall_ms: u64, span_ms: u64) -> impl Iterator<Item = i64> + 'a {
        let now = i64::try_from(wall_ms).unwrap_or(i64::MAX);
        let opened_after = now.saturating_sub(i64::try_from(span_ms).unwrap_or(i64::MAX));
        let days = std::iter::successors(Some(zone.local(wall_ms).date()), |day| day.yesterday().ok());
        let days = days.take((span_ms / 86_400_000 + 3) as usize).filter(|day| self.has_day(*day));
        let back = days.flat_map(move |day| self.openings(zone, day));
        let back = back.take_while(move |opening| *opening >= opened_after.saturating_sub(DISORDER_MS));
        back.filter(move |opening| *opening <= now && *opening > opened_after)
    }

    fn has_day(&self, date: Date) -> bool {
        let is_in = |set: u64, bit: i8| set >> bit & 1 == 1;
        let day = is_in(self.days, date.day());
        let weekday = is_in(self.weekdays, date.weekday().to_sunday_zero_offset());
        let matches = if self.is_every_day || self.is_every_weekday { day && weekday } else { day || weekday };
        matches && is_in(self.months, date.month())
    }

    /// The times of a day, the latest first, milliseconds since the Unix epoch.
    fn openings<'a>(&'a self, zone: &'a Zone, day: Date) -> impl Iterator<Item = i64> + 'a {
        let hours = (0..24_i8).rev().filter(|hour| self.hours >> hour & 1 == 1);
        let minutes = || (0..60_i8).rev().filter(|minute| self.minutes >> minute & 1 == 1);
        let times = hours.flat_map(move |hour| minutes().map(move |minute| day.at(hour, minute, 0, 0)));
        times.flat_map(|local| {
            let every = self.is_every_hour.then(|| zone.instants(local));
            let once = if self.is_every_hour { None } else { zone.first_instant(local) };
            every.into_iter().flatten().chain(once)
        })
    }
}

impl Field {
    fn set_of(&self, text: &str) -> Result<u64, String> {
        text.split(',').try_fold(0, |set, item| Ok(set | self.item(item)?))
    }

    /// `*`, `a`, `a-b`, each with `/step`.
    fn item(&self, text: &str) -> Result<u64, String> {
        let (range, step) = text.split_once('/').map_or((text, None), |(range, step)| (range, Some(step)));
        let step_count = match step {
            None => 1,
            Some(step) => step.parse().ok().filter(|step| *step > 0).ok_or_else(|| self.wrong(text))?,
        };
        let (first, last) = (*self.numbers.start(), *self.numbers.end());
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (first, last),
            Some((from, to)) => (self.number(from, text)?, self.number(to, text)?),
            None if step.is_some() => (self.number(range, text)?, last),
            None => (self.number(range, text)?, self.number(range, text)?),
        };
        if from > to {
            return Err(self.wrong(text));
        }
        Ok((from..=to).step_by(step_count).fold(0, |set, number| set | 1 << number))
    }

    fn number(&self, text: &str, item: &str) -> Result<u32, String> {
        let word = self.words.iter().position(|word| word.eq_ignore_ascii_case(text));
        let number = word.map(|index| index as u32 + self.numbers.start()).or_else(|| text.parse().ok());
        number.filter(|number| self.numbers.contains(number)).ok_or_else(|| self.wrong(item))
    }

    fn wrong(&self, item: &str) -> String {
        let (first, last) = (self.numbers.start(), self.numbers.end());
        let words = if self.words.is_empty() { String::new() } else { format!(" or {} …", self.words[0]) };
        format!(
            "'{item}' is no {}: write *, {first} to {last}{words}, a range such as {first}-{last}, or */2",
            self.name
        )
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::super::clock::ClockReading;
    use super::*;
    use crate::units::Span;

    fn openings(schedule: &str, zone: &str, from: &str, hours: u64) -> Vec<String> {
        // Windows of a minute, looked at every minute: each opening shows once.
        let reading =
            ClockReading::Cron(Box::new(Schedule::parse(schedule).unwrap()), Span(60_000), Zone::named(zone).unwrap());
        let start = from.parse::<jiff::Timestamp>().unwrap().as_millisecond() as u64;
        let minutes = (0..hours * 60).map(|minute| start + minute * 60_000);
        let open = minutes.filter(|ms| reading.read(*ms) == 1.0);
        open.map(|ms| jiff::Timestamp::from_millisecond(ms as i64).unwrap().strftime("%dT%H:%M").to_string()).collect()
    }

    #[test]
    fn windows_open_at_the_times_of_the_schedule() {
        let cases = [
            ("0 22 * * *", "UTC", "2026-01-01T00:00:00Z", 48, vec!["01T22:00", "02T22:00"]),
            ("*/30 9 * * mon", "UTC", "2026-01-05T00:00:00Z", 24, vec!["05T09:00", "05T09:30"]),
            ("0 0 1 * sun", "UTC", "2026-01-31T12:00:00Z", 36, vec!["01T00:00"]),
            ("0 6 * * 1-5", "UTC", "2026-01-03T00:00:00Z", 72, vec!["05T06:00"]),
            // The night that has no 02:30, and the one that has two.
            ("30 2 * * *", "Europe/Berlin", "2026-03-28T22:00:00Z", 6, vec!["29T01:30"]),
            ("30 2 * * *", "Europe/Berlin", "2026-10-24T22:00:00Z", 6, vec!["25T00:30"]),
            (
                "30 * * * *",
                "Europe/Berlin",
                "2026-10-24T22:00:00Z",
                5,
                vec!["24T22:30", "24T23:30", "25T00:30", "25T01:30", "25T02:30"],
            ),
            ("30 * * * *", "Europe/Berlin", "2026-03-28T23:00:00Z", 3, vec!["28T23:30", "29T00:30", "29T01:30"]),
        ];
        for (schedule, zone, from, hours, expected) in cases {
            assert_eq!(openings(schedule, zone, from, hours), expected, "{schedule} {zone} {from}");
        }
    }

    #[test]
    fn a_window_stays_open_for_its_span_of_real_time() {
        let reading = |span| {
            ClockReading::Cron(
                Box::new(Schedule::parse("0 22 * * *").unwrap()),
                Span(span),
                Zone::named("Europe/Berlin").unwrap(),
            )
        };
        let at = |text: &str| text.parse::<jiff::Timestamp>().unwrap().as_millisecond() as u64;
        // Eight hours from 22:00 on: until 07:00 in the short night of March, until 05:00 in the long one of October.
        let night = reading(8 * 3_600_000);
        assert_eq!((night.read(at("2026-03-29T04:59:00Z")), night.read(at("2026-03-29T05:00:00Z"))), (1.0, 0.0));
        assert_eq!((night.read(at("2026-10-25T03:59:00Z")), night.read(at("2026-10-25T04:00:00Z"))), (1.0, 0.0));
        assert_eq!(reading(7 * 86_400_000).read(at("2026-10-25T03:59:00Z")), 1.0);
    }

    #[test]
    fn wrong_schedules_are_refused_with_what_would_be_valid() {
        let cases = [
            ("0 22 * *", "write MINUTE HOUR DAY MONTH WEEKDAY"),
            ("60 * * * *", "'60' is no minute: write *, 0 to 59"),
            ("0 5-3 * * *", "'5-3' is no hour"),
            ("0 0 * * fry", "'fry' is no weekday: write *, 0 to 7 or sun …"),
            ("*/0 * * * *", "'*/0' is no minute"),
            ("0 0 31 feb *", "never comes"),
        ];
        for (text, expected) in cases {
            let error = Schedule::parse(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
        assert!(Schedule::parse("0 0 * * 7").unwrap().weekdays & 1 == 1);
    }
}
