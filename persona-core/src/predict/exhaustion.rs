//! When something is full if it goes on filling as it did: the median of the slopes between all pairs of samples (Theil and Sen),
//! which a few odd days do not move.

/// Samples are brought together into so many, each the most of its time.
const POINT_COUNT_MAX: u64 = 48;

/// A history that is shorter says nothing, milliseconds: half a day.
const SPAN_MS_MIN: u64 = 43_200_000;

/// What is further away is not told, milliseconds: a year.
const HORIZON_MS: f64 = 365.0 * 86_400_000.0;

const DAY_MS: f64 = 86_400_000.0;

/// How much was used at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// When, milliseconds.
    pub at_ms: u64,
    /// How much.
    pub used: u64,
}

/// When it is full.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Exhaustion {
    /// In about so long after the last sample, milliseconds.
    pub in_ms: u64,
    /// It grows by so much a day.
    pub per_day: f64,
}

/// When something with room for `total` is full. None: it does not fill, not within a year, or nothing is known. Samples come in
/// the order of their times.
pub fn exhaustion(history: &[Usage], total: u64) -> Option<Exhaustion> {
    let (first, last) = (history.first()?, history.last()?);
    let span_ms = last.at_ms.saturating_sub(first.at_ms);
    if span_ms < SPAN_MS_MIN {
        return None;
    }
    let points = peaks(history, first.at_ms, span_ms.div_ceil(POINT_COUNT_MAX).max(1));
    let per_ms = median_slope(&points)?;
    let left = total.saturating_sub(points.last()?.used) as f64;
    let in_ms = left / per_ms;
    (per_ms > 0.0 && in_ms <= HORIZON_MS).then_some(Exhaustion { in_ms: in_ms as u64, per_day: per_ms * DAY_MS })
}

/// The most of each time of this length, at its last sample.
fn peaks(history: &[Usage], start_ms: u64, length_ms: u64) -> Vec<Usage> {
    let mut points: Vec<(u64, Usage)> = Vec::new();
    for usage in history {
        let index = usage.at_ms.saturating_sub(start_ms) / length_ms;
        match points.last_mut().filter(|(of, _)| *of == index) {
            Some((_, point)) => *point = Usage { at_ms: usage.at_ms, used: point.used.max(usage.used) },
            None => points.push((index, *usage)),
        }
    }
    points.into_iter().map(|(_, point)| point).collect()
}

/// The median of the slopes between all pairs of points, per millisecond.
fn median_slope(points: &[Usage]) -> Option<f64> {
    let pairs =
        points.iter().enumerate().flat_map(|(index, one)| points[index + 1..].iter().map(move |other| (one, other)));
    let slope = |(one, other): (&Usage, &Usage)| {
        let ms = other.at_ms.saturating_sub(one.at_ms);
        (ms > 0).then(|| (other.used as f64 - one.used as f64) / ms as f64)
    };
    let mut slopes: Vec<f64> = pairs.filter_map(slope).collect();
    slopes.sort_by(f64::total_cmp);
    slopes.get(slopes.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR_MS: u64 = 3_600_000;

    /// A sample each hour.
    fn history(hours: u64, used: impl Fn(u64) -> u64) -> Vec<Usage> {
        (0..hours).map(|hour| Usage { at_ms: hour * HOUR_MS, used: used(hour) }).collect()
    }

    fn days(found: Option<Exhaustion>) -> Option<f64> {
        found.map(|found| found.in_ms as f64 / DAY_MS)
    }

    #[test]
    fn what_fills_evenly_is_full_when_it_must_be() {
        let found = days(exhaustion(&history(240, |hour| hour * 2), 910)).unwrap();
        assert!((found - 9.0).abs() < 0.1, "432 are left at 48 a day: {found}");
        let full = exhaustion(&history(240, |hour| hour * 2), 478).unwrap();
        assert_eq!((full.in_ms, full.per_day.round()), (0, 48.0), "it is full now");
    }

    #[test]
    fn what_does_not_fill_or_is_not_known_says_nothing() {
        type Course = fn(u64) -> u64;
        let courses: [(Course, u64, &str); 5] = [
            (|_| 70, 240, "flat"),
            (|hour| 500 - hour, 240, "shrinking"),
            (|hour| hour * 2, 11, "half a day is not over"),
            (|hour| hour / 48, 240, "not within a year"),
            (|hour| if hour == 200 { 400 } else { 70 }, 240, "one peak"),
        ];
        for (course, hours, what) in courses {
            assert_eq!(exhaustion(&history(hours, course), 1_000), None, "{what}");
        }
        assert_eq!(exhaustion(&[], 10), None);
    }

    /// Backtest: at each day of a filling with a daily rhythm, a burst and a clean-up, how many days the forecast is off, beside
    /// the naive one, which goes on as the last day did.
    #[test]
    fn it_beats_going_on_as_the_last_day_did() {
        let course = |hour: u64| {
            let rhythm = if hour % 24 < 12 { 30 } else { 0 };
            let burst = if (300..310).contains(&hour) { 200 } else { 0 };
            let cleaned = if hour >= 500 { 60 } else { 0 };
            (200 + hour + rhythm + burst).saturating_sub(cleaned)
        };
        let total = 1_100;
        let full_at = (0..).find(|hour| course(*hour) >= total && *hour > 400).unwrap();
        let (mut ours, mut naive) = (Vec::new(), Vec::new());
        for day in 3..full_at / 24 {
            let hours = day * 24;
            let truth = (full_at - hours) as f64 / 24.0;
            let seen = history(hours, course);
            let off = |guess: Option<f64>| guess.map_or(365.0, |guess| (guess - truth).abs());
            ours.push(off(days(exhaustion(&seen, total))));
            let (last, before) = (seen[seen.len() - 1].used as f64, seen[seen.len() - 20].used as f64);
            let per_day = (last - before) / 19.0 * 24.0;
            naive.push(off((per_day > 0.0).then(|| (total as f64 - last) / per_day)));
        }
        let median = |mut errors: Vec<f64>| {
            errors.sort_by(f64::total_cmp);
            errors[errors.len() / 2]
        };
        let (ours, naive) = (median(ours), median(naive));
        assert!(ours < 3.0 && ours < naive / 3.0, "{ours:.1} days off, the naive one {naive:.1}");
    }

    proptest! {
        /// More room is never full sooner, and noise below a tenth of what it grows by in the time moves the answer little.
        #[test]
        fn more_room_lasts_longer(per_hour in 1_u64..50, noise in proptest::collection::vec(0_u64..20, 240), total in 0_u64..50_000) {
            let seen = history(240, |hour| hour * per_hour + noise[hour as usize] * per_hour / 10);
            let (small, large) = (exhaustion(&seen, total), exhaustion(&seen, total + 1_000));
            if let (Some(small), Some(large)) = (small, large) {
                prop_assert!(small.in_ms <= large.in_ms);
                let per_day = (per_hour * 24) as f64;
                prop_assert!((small.per_day - per_day).abs() < per_day * 0.1, "{} of {per_day}", small.per_day);
            }
            prop_assert!(small.is_some() || large.is_none());
        }
    }
}
