//! How much of a fleet changes by people and programs may reach within an hour, all of them together.
//!
//! A change reaches the subjects that wear or are carried otherwise after it. What repairs (failover, rollback, revocation,
//! drain by health) never asks here. Times are milliseconds of the manager's clock, which may step.

use serde::{Deserialize, Serialize};

/// What a change reached counts for this long: an hour, milliseconds.
pub const WINDOW_MS: u64 = 3_600_000;

/// How much may be reached within an hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReachLimit {
    /// Of the fleet's subjects, percent: 1 to 100.
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 100))]
    pub percent_per_hour: u8,
    /// So many subjects may be reached at least, however small the fleet is.
    #[serde(default)]
    pub subjects_at_least: u32,
}

/// A limit that nothing could be judged by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("percentPerHour is {0}; use 1 to 100, or no limit at all")]
pub struct InvalidReach(u8);

/// Subjects that changes have reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reached {
    /// When, milliseconds.
    pub at_ms: u64,
    /// How many.
    pub subject_count: u32,
}

/// A change that reaches too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooFar {
    /// What it would reach.
    pub subject_count: u32,
    /// What may be reached within an hour.
    pub allowed: u32,
    /// What was reached within the last.
    pub used: u32,
    /// When there is room for it. None: never, it is more than all that is allowed.
    pub room_at_ms: Option<u64>,
}

impl TooFar {
    /// What may be reached now.
    pub fn left(&self) -> u32 {
        self.allowed.saturating_sub(self.used)
    }
}

impl ReachLimit {
    /// Refuses a limit that lets nothing pass, or more than everything.
    pub fn check(self) -> Result<(), InvalidReach> {
        if (1..=100).contains(&self.percent_per_hour) { Ok(()) } else { Err(InvalidReach(self.percent_per_hour)) }
    }

    /// How many of so many subjects may be reached within an hour.
    pub fn allowed(self, fleet_count: u32) -> u32 {
        let share = u64::from(fleet_count) * u64::from(self.percent_per_hour) / 100;
        self.subjects_at_least.max(share as u32)
    }

    /// Judges a change that would reach `subject_count` of `fleet_count` subjects now, after what was reached before.
    pub fn judge(self, fleet_count: u32, past: &[Reached], subject_count: u32, now_ms: u64) -> Result<(), TooFar> {
        let (allowed, used) = (self.allowed(fleet_count), used(past, now_ms));
        if subject_count == 0 || u64::from(used) + u64::from(subject_count) <= u64::from(allowed) {
            return Ok(());
        }
        let room_at_ms = (subject_count <= allowed).then(|| room_at(past, allowed - subject_count, now_ms));
        Err(TooFar { subject_count, allowed, used, room_at_ms })
    }
}

/// What was reached within the last hour. What a clock that stepped back puts into the future counts too.
pub fn used(past: &[Reached], now_ms: u64) -> u32 {
    let counts = past.iter().filter(|it| is_counted(it, now_ms)).map(|it| u64::from(it.subject_count));
    u32::try_from(counts.sum::<u64>()).unwrap_or(u32::MAX)
}

/// Whether it still counts.
pub fn is_counted(reached: &Reached, now_ms: u64) -> bool {
    now_ms < reached.at_ms.saturating_add(WINDOW_MS)
}

/// When no more than `most` of what was reached counts any longer.
fn room_at(past: &[Reached], most: u32, now_ms: u64) -> u64 {
    let mut counted: Vec<Reached> = past.iter().filter(|it| is_counted(it, now_ms)).copied().collect();
    counted.sort_by_key(|it| it.at_ms);
    let mut rest = counted.iter().map(|it| u64::from(it.subject_count)).sum::<u64>();
    for reached in counted {
        if rest <= u64::from(most) {
            break;
        }
        rest -= u64::from(reached.subject_count);
        if rest <= u64::from(most) {
            return reached.at_ms.saturating_add(WINDOW_MS);
        }
    }
    now_ms
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limit(percent_per_hour: u8, subjects_at_least: u32) -> ReachLimit {
        ReachLimit { percent_per_hour, subjects_at_least }
    }

    fn reached(at_ms: u64, subject_count: u32) -> Reached {
        Reached { at_ms, subject_count }
    }

    #[test]
    fn a_share_of_the_fleet_is_let_through_and_at_least_so_many() {
        for (percent, at_least, fleet, allowed) in [
            (25, 0, 100, 25),
            (25, 10, 12, 10),
            (1, 0, 99, 0),
            (100, 0, 7, 7),
            (33, 0, 10, 3),
            (100, 0, u32::MAX, u32::MAX),
        ] {
            assert_eq!(limit(percent, at_least).allowed(fleet), allowed, "{percent} % of {fleet}");
        }
        assert!(limit(0, 5).check().is_err() && limit(101, 0).check().is_err() && limit(1, 0).check().is_ok());
    }

    #[test]
    fn what_is_refused_says_what_is_left_and_when_there_is_room() {
        let past = [reached(1_000, 10), reached(5_000, 10)];
        let judge = |count, now_ms| limit(25, 0).judge(100, &past, count, now_ms);
        assert_eq!(judge(5, 6_000), Ok(()));
        let refused = judge(6, 6_000).unwrap_err();
        assert_eq!((refused.allowed, refused.used, refused.left()), (25, 20, 5));
        assert_eq!(refused.room_at_ms, Some(1_000 + WINDOW_MS));
        assert_eq!(judge(16, 6_000).unwrap_err().room_at_ms, Some(5_000 + WINDOW_MS));
        assert_eq!(judge(26, 6_000).unwrap_err().room_at_ms, None, "more than all that is allowed");
        assert_eq!(judge(25, 5_000 + WINDOW_MS), Ok(()), "an hour later nothing of it counts");
        assert_eq!(judge(0, 6_000), Ok(()), "what reaches nobody is never refused");
        let over = limit(25, 0).judge(100, &[reached(1_000, 900)], 1, 2_000).unwrap_err();
        assert_eq!((over.left(), over.room_at_ms), (0, Some(1_000 + WINDOW_MS)), "an admin may have gone over it");
    }

    proptest! {
        /// Whatever is let through, no hour ever has more than is allowed; and what was refused is let through when it was said.
        #[test]
        fn no_hour_has_more_than_is_allowed(
            percent in 1_u8..=100,
            at_least in 0_u32..20,
            fleet in 0_u32..500,
            changes in proptest::collection::vec((0_u64..2_000_000, 0_u32..200), 1..60),
        ) {
            let limit = limit(percent, at_least);
            let (mut past, mut now_ms): (Vec<Reached>, u64) = (Vec::new(), 0);
            for (pause_ms, count) in changes {
                now_ms += pause_ms;
                match limit.judge(fleet, &past, count, now_ms) {
                    Ok(()) => past.push(reached(now_ms, count)),
                    Err(TooFar { room_at_ms: Some(at_ms), .. }) => {
                        prop_assert!(at_ms > now_ms);
                        prop_assert_eq!(limit.judge(fleet, &past, count, at_ms), Ok(()));
                        prop_assert!(limit.judge(fleet, &past, count, at_ms - 1).is_err());
                    }
                    Err(refused) => prop_assert!(count > refused.allowed),
                }
                prop_assert!(used(&past, now_ms) <= limit.allowed(fleet));
            }
        }
    }
}
