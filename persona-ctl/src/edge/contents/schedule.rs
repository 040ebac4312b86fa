//! When which source is measured, and what is known of each. Time and jitter are passed in.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use persona_core::content::ContentSource;
use persona_core::wire::contents::ContentRtts;

/// From one source to the next at least.
const GAP: Duration = Duration::from_millis(250);

/// From one look at a source to the next.
const INTERVAL: Duration = Duration::from_secs(60);

/// The same for one that does not answer any more.
const SILENT_INTERVAL: Duration = Duration::from_secs(300);

/// What was measured is believed until so many looks in a row have failed.
const FAILURE_COUNT_MAX: u32 = 3;

/// What is known of all sources.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    sources: BTreeMap<String, Standing>,
    /// Nothing is measured before.
    free_at: Option<Instant>,
}

#[derive(Debug)]
struct Standing {
    source: ContentSource,
    due: Instant,
    round_trip: Option<Duration>,
    failure_count: u32,
    is_looked_at: bool,
}

impl Schedule {
    /// Measures these from now on; what stays keeps what is known of it, and what is new is measured at once.
    pub(super) fn follow(&mut self, sources: &[ContentSource], now: Instant) {
        self.sources.retain(|_, known| sources.contains(&known.source));
        for source in sources {
            self.sources.entry(source.to_string()).or_insert_with(|| Standing {
                source: source.clone(),
                due: now,
                round_trip: None,
                failure_count: 0,
                is_looked_at: false,
            });
        }
    }

    /// What is measured next, and when.
    pub(super) fn next(&self) -> Option<(ContentSource, Instant)> {
        let next = self.sources.values().min_by_key(|known| known.due)?;
        Some((next.source.clone(), self.free_at.map_or(next.due, |free_at| next.due.max(free_at))))
    }

    /// Notes a look at a source. `spread` shortens a time by chance.
    pub(super) fn note(
        &mut self,
        source: &ContentSource,
        round_trip: Option<Duration>,
        now: Instant,
        spread: impl Fn(Duration) -> Duration,
    ) {
        self.free_at = Some(now + GAP);
        let Some(known) = self.sources.get_mut(&source.to_string()) else { return };
        known.is_looked_at = true;
        known.failure_count = if round_trip.is_some() { 0 } else { known.failure_count.saturating_add(1) };
        let is_silent = known.failure_count >= FAILURE_COUNT_MAX;
        if round_trip.is_some() || is_silent {
            known.round_trip = round_trip;
        }
        known.due = now + spread(if is_silent { SILENT_INTERVAL } else { INTERVAL });
    }

    /// Whether each has been looked at.
    pub(super) fn is_whole(&self) -> bool {
        self.sources.values().all(|known| known.is_looked_at)
    }

    /// The round trips that are known, microseconds.
    pub(super) fn round_trips(&self) -> ContentRtts {
        let known = self.sources.iter().filter_map(|(name, known)| Some((name, known.round_trip?)));
        known.map(|(name, time)| (name.clone(), u32::try_from(time.as_micros()).unwrap_or(u32::MAX))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(names: &[&str]) -> Vec<ContentSource> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    /// Measures for so long, a look takes no time; answers how often each was looked at.
    fn looks(
        schedule: &mut Schedule,
        from: Instant,
        secs: u64,
        answers: impl Fn(&str) -> bool,
    ) -> BTreeMap<String, u32> {
        let (mut now, mut counts) = (from, BTreeMap::new());
        while let Some((source, at)) = schedule.next().filter(|(_, at)| *at < from + Duration::from_secs(secs)) {
            now = now.max(at);
            *counts.entry(source.to_string()).or_default() += 1;
            let round_trip = answers(&source.to_string()).then_some(Duration::from_micros(700));
            schedule.note(&source, round_trip, now, |time| time);
        }
        counts
    }

    #[test]
    fn each_is_looked_at_once_a_minute_and_seldom_while_it_is_silent() {
        let (mut schedule, start) = (Schedule::default(), Instant::now());
        schedule.follow(&sources(&["a.example", "b.example"]), start);
        let counts = looks(&mut schedule, start, 600, |name| name == "a.example");
        assert_eq!((counts["a.example"], counts["b.example"]), (10, 4), "three looks, and one more after five minutes");
        assert_eq!(schedule.round_trips(), [("a.example".to_owned(), 700)].into());
    }

    #[test]
    fn many_are_looked_at_one_after_the_other() {
        let (mut schedule, start) = (Schedule::default(), Instant::now());
        let names: Vec<String> = (0..256).map(|number| format!("c{number}.example")).collect();
        schedule.follow(&sources(&names.iter().map(String::as_str).collect::<Vec<_>>()), start);
        let counts = looks(&mut schedule, start, 640, |_| true);
        let all: u32 = counts.values().sum();
        assert_eq!(counts.len(), 256);
        assert!(all <= 640 * 4 && counts.values().all(|count| (9..=11).contains(count)), "{all}");
    }

    #[test]
    fn what_was_measured_outlives_two_failures_and_not_its_source() {
        let (mut schedule, now) = (Schedule::default(), Instant::now());
        let both = sources(&["a.example", "198.51.100.10"]);
        schedule.follow(&both, now);
        for source in &both {
            assert!(!schedule.is_whole());
            schedule.note(source, Some(Duration::from_millis(9)), now, |time| time);
        }
        assert!(schedule.is_whole());
        schedule.note(&both[0], None, now, |time| time);
        schedule.note(&both[0], None, now, |time| time);
        assert_eq!(schedule.round_trips().len(), 2);
        schedule.note(&both[0], None, now, |time| time);
        assert_eq!(schedule.round_trips(), [("198.51.100.10".to_owned(), 9_000)].into());
        schedule.follow(&both[..1], now);
        assert_eq!(schedule.round_trips().len(), 0);
        schedule.note(&both[1], Some(Duration::ZERO), now, |time| time);
        assert_eq!(schedule.round_trips().len(), 0, "nobody asks for it any more");
    }
}
