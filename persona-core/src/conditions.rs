//! When a node asks for another assignment by itself: what it measures is no longer what the last one rests on.
//!
//! Measurements jitter, and links flap. So small differences count for nothing, paths have to stay different for a while, and
//! between two questions there is a pause that grows as long as they follow each other.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::ids::GroupName;
use crate::wire::conditions::{Conditions, PathCondition};

/// Paths have to be different for so long, milliseconds.
const HOLD_MS: u64 = 3_000;

/// The pause after one question, milliseconds; each that follows soon doubles it.
const PAUSE_MS: u64 = 10_000;

/// The longest pause, milliseconds.
const PAUSE_MS_MAX: u64 = 320_000;

/// After so many pauses without a question, the next one is the first again.
const CALM_PAUSES: u64 = 5;

/// After the start, what does not answer in this time is taken not to, milliseconds.
const BOOT_MS_MAX: u64 = 3_000;

/// A round trip is different from so many microseconds on, and from such a part of the one before on.
const RTT_US_MIN: u32 = 5_000;
const RTT_PART: f64 = 0.25;

/// Loss is different from so many points on, 1 is all.
const LOSS_MIN: f32 = 0.02;

/// A rate is different from such a part on.
const RATE_PART: f64 = 0.25;

/// Changes that a cause names.
const CHANGES_MAX: usize = 8;

/// What a node measures.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Measured {
    /// Its device towards the underlay.
    pub device: String,
    /// Whether that is up.
    pub is_up: bool,
    /// The largest packet that it carries, bytes.
    pub mtu: u32,
    /// The node's address on the underlay.
    pub address: Option<IpAddr>,
    /// What the device carries, bits per second. None: it does not say.
    pub rate_bps: Option<u64>,
    /// What it carried in fact while it was busy, bits per second. None: it was not busy lately.
    pub available_bps: Option<u64>,
    /// Edge group → the best path to an edge of it.
    pub paths: BTreeMap<GroupName, PathMeasure>,
}

/// The best path to a group.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct PathMeasure {
    /// Round-trip time, microseconds. None: none of its edges answers.
    pub rtt_us: Option<u32>,
    /// Share of probes that stay unanswered, 0 to 1.
    pub loss: f32,
}

/// Decides when to ask. Times are milliseconds of a clock that never goes back.
#[derive(Debug, Clone, Default)]
pub struct Damper {
    started_ms: Option<u64>,
    asked: Option<(Measured, u64)>,
    differs_since_ms: Option<u64>,
    pause_ms: u64,
    count: u64,
}

impl Damper {
    /// Takes in what is measured now. Returns why to ask, if it is time to.
    pub fn turn(&mut self, now_ms: u64, measured: &Measured) -> Option<String> {
        let started_ms = *self.started_ms.get_or_insert(now_ms);
        let Some((asked, asked_ms)) = &self.asked else {
            let is_known = !measured.paths.is_empty() && measured.paths.values().all(|path| path.rtt_us.is_some());
            let is_late = now_ms.saturating_sub(started_ms) >= BOOT_MS_MAX;
            return (is_known || is_late).then(|| self.ask(now_ms, measured, "the agent has started".to_owned()));
        };
        let (of_link, of_paths) = (link_changes(asked, measured), path_changes(asked, measured));
        if of_link.is_empty() && of_paths.is_empty() {
            self.differs_since_ms = None;
            return None;
        }
        let since_ms = *self.differs_since_ms.get_or_insert(now_ms);
        let is_held = !of_link.is_empty() || now_ms.saturating_sub(since_ms) >= HOLD_MS;
        if !is_held || now_ms.saturating_sub(*asked_ms) < self.pause_ms {
            return None;
        }
        let mut changes: Vec<String> = of_link.into_iter().chain(of_paths).collect();
        if let Some(more) = changes.len().checked_sub(CHANGES_MAX).filter(|more| *more > 0) {
            changes.truncate(CHANGES_MAX);
            changes.push(format!("and {more} more"));
        }
        Some(self.ask(now_ms, measured, changes.join(", ")))
    }

    fn ask(&mut self, now_ms: u64, measured: &Measured, cause: String) -> String {
        let calm_ms = self.asked.as_ref().map_or(0, |(_, asked_ms)| now_ms.saturating_sub(*asked_ms));
        let is_calm = self.pause_ms == 0 || calm_ms >= self.pause_ms.saturating_mul(CALM_PAUSES);
        self.pause_ms = if is_calm { PAUSE_MS } else { (self.pause_ms * 2).min(PAUSE_MS_MAX) };
        self.asked = Some((measured.clone(), now_ms));
        self.differs_since_ms = None;
        self.count += 1;
        cause
    }

    /// What the node has asked with last, as it is told. None: it has not asked yet.
    pub fn conditions(&self, cause: &str) -> Option<Conditions> {
        let (measured, _) = self.asked.as_ref()?;
        let path = |(group, path): (&GroupName, &PathMeasure)| PathCondition {
            group: group.clone(),
            rtt_us: path.rtt_us,
            loss: path.loss,
        };
        Some(Conditions {
            number: self.count,
            cause: cause.to_owned(),
            rate_bps: measured.rate_bps,
            available_bps: measured.available_bps,
            paths: measured.paths.iter().map(path).collect(),
        })
    }
}

fn link_changes(before: &Measured, now: &Measured) -> Vec<String> {
    let mut changes = Vec::new();
    if before.device != now.device {
        changes.push(format!("uplink {} → {}", before.device, now.device));
    }
    if before.is_up != now.is_up {
        changes.push(format!("uplink {} is {}", now.device, if now.is_up { "up" } else { "down" }));
    }
    if before.address != now.address {
        let told = |address: Option<IpAddr>| address.map_or("none".to_owned(), |address| address.to_string());
        changes.push(format!("address {} → {}", told(before.address), told(now.address)));
    }
    if before.mtu != now.mtu {
        changes.push(format!("MTU {} → {}", before.mtu, now.mtu));
    }
    changes
}

fn path_changes(before: &Measured, now: &Measured) -> Vec<String> {
    let mut changes = Vec::new();
    if let (Some(old), Some(new)) = (before.rate_bps, now.rate_bps)
        && old.abs_diff(new) as f64 > old as f64 * RATE_PART
    {
        changes.push(format!("rate {} → {} Mbit/s", old / 1_000_000, new / 1_000_000));
    }
    changes.extend(available_change(before, now));
    for (group, new) in &now.paths {
        let Some(old) = before.paths.get(group) else {
            changes.extend(new.rtt_us.map(|us| format!("{group} is heard, {} away", told_ms(us))));
            continue;
        };
        match (old.rtt_us, new.rtt_us) {
            (Some(old), Some(new)) if is_other_rtt(old, new) => {
                changes.push(format!("latency to {group} {} → {}", told_ms(old), told_ms(new)));
            }
            (Some(_), None) => changes.push(format!("{group} does not answer any more")),
            (None, Some(_)) => changes.push(format!("{group} answers again")),
            _ => {}
        }
        if (old.loss - new.loss).abs() > LOSS_MIN {
            changes.push(format!("loss to {group} {:.1} % → {:.1} %", old.loss * 100.0, new.loss * 100.0));
        }
    }
    changes
}

/// Where the device was not busy, what it can is what it says.
fn available_change(before: &Measured, now: &Measured) -> Option<String> {
    let of = |measured: &Measured| measured.available_bps.or(measured.rate_bps);
    let is_other = |(old, new): (u64, u64)| old.abs_diff(new) as f64 > old as f64 * RATE_PART;
    let is_of_device = before.available_bps.is_none() && now.available_bps.is_none();
    if is_of_device || of(before).zip(of(now)).is_some_and(|pair| !is_other(pair)) {
        return None;
    }
    let told = |bps: Option<u64>| bps.map_or("unknown".to_owned(), |bps| format!("{:.1}", bps as f64 / 1e6));
    Some(format!("available rate {} → {} Mbit/s", told(of(before)), told(of(now))))
}

fn is_other_rtt(old: u32, new: u32) -> bool {
    let difference = old.abs_diff(new);
    difference > RTT_US_MIN && f64::from(difference) > f64::from(old) * RTT_PART
}

fn told_ms(us: u32) -> String {
    format!("{:.1} ms", f64::from(us) / 1_000.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn measured(rtt_us: Option<u32>, loss: f32) -> Measured {
        let path = PathMeasure { rtt_us, loss };
        let paths = [("fra".parse().unwrap(), path)].into();
        let address = Some([10, 0, 0, 1].into());
        let rate_bps = Some(1_000_000_000);
        Measured { device: "up0".into(), is_up: true, mtu: 1_500, address, rate_bps, available_bps: None, paths }
    }

    /// Turns once a second with what `at` says; returns when it asked, and why.
    fn run(until_ms: u64, at: impl Fn(u64) -> Measured) -> Vec<(u64, String)> {
        let mut damper = Damper::default();
        let times = (0..until_ms).step_by(1_000);
        times.filter_map(|now_ms| Some((now_ms, damper.turn(now_ms, &at(now_ms))?))).collect()
    }

    #[test]
    fn it_asks_at_the_start_and_when_a_path_stays_worse() {
        let asked = run(60_000, |now_ms| measured(Some(if now_ms < 20_000 { 12_000 } else { 95_000 }), 0.0));
        let expected =
            [(0, "the agent has started".to_owned()), (23_000, "latency to fra 12.0 ms → 95.0 ms".to_owned())];
        assert_eq!(asked, expected);
        assert_eq!(run(9_000, |_| measured(None, 1.0)), [(3_000, "the agent has started".to_owned())]);
    }

    #[test]
    fn a_link_that_changes_is_asked_about_at_once() {
        let asked = run(40_000, |now_ms| Measured {
            address: Some(if now_ms < 20_000 { [10, 0, 0, 1] } else { [10, 0, 0, 2] }.into()),
            rate_bps: Some(if now_ms < 20_000 { 1_000_000_000 } else { 100_000_000 }),
            ..measured(Some(1_000), 0.0)
        });
        assert_eq!(asked[1], (20_000, "address 10.0.0.1 → 10.0.0.2, rate 1000 → 100 Mbit/s".to_owned()));
    }

    #[test]
    fn what_the_uplink_carried_when_it_was_busy_is_asked_about_when_it_stays_another() {
        let at = |available_bps| Measured { available_bps, ..measured(Some(1_000), 0.0) };
        let asked = run(100_000, |now_ms| match now_ms {
            ..20_000 => at(None),
            20_000..40_000 => at(Some(20_000_000 + now_ms)),
            40_000..60_000 => at(Some(24_000_000)),
            _ => at(None),
        });
        let expected = [
            (0, "the agent has started"),
            (23_000, "available rate 1000.0 → 20.0 Mbit/s"),
            (63_000, "available rate 20.0 → 1000.0 Mbit/s"),
        ];
        assert_eq!(asked, expected.map(|(at_ms, cause)| (at_ms, cause.to_owned())));
        let full = |now_ms| if now_ms < 20_000 { at(None) } else { at(Some(960_000_000)) };
        assert_eq!(run(60_000, full).len(), 1, "it carries what it says");
    }

    #[test]
    fn small_differences_and_short_ones_are_not_asked_about() {
        type Course = fn(u64) -> Measured;
        let courses: [(Course, &str); 4] = [
            (|now_ms| measured(Some(if now_ms % 2_000 == 0 { 12_000 } else { 16_900 }), 0.0), "jitter below 5 ms"),
            (|now_ms| measured(Some(if now_ms % 2_000 == 0 { 100_000 } else { 124_000 }), 0.0), "a quarter"),
            (|now_ms| measured(Some(12_000), if now_ms % 2_000 == 0 { 0.0 } else { 0.02 }), "two points of loss"),
            (
                |now_ms| measured(Some(if now_ms % 9_000 < 3_000 { 95_000 } else { 12_000 }), 0.0),
                "three seconds at a time",
            ),
        ];
        for (course, what) in courses {
            assert!(run(120_000, course).len() <= 2, "{what}: {:?}", run(120_000, course));
        }
    }

    #[test]
    fn a_path_that_flaps_is_asked_about_less_and_less() {
        let asked = run(1_200_000, |now_ms| measured(Some(if now_ms / 8_000 % 2 == 0 { 12_000 } else { 95_000 }), 0.0));
        let pauses: Vec<u64> = asked.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
        assert!(pauses[0] >= PAUSE_MS && pauses[1] >= 2 * PAUSE_MS && pauses[2] >= 4 * PAUSE_MS, "{pauses:?}");
        assert!(asked.len() <= 9, "{asked:?}");
    }

    proptest! {
        /// Whatever is measured: between two questions there is a pause, the same course is asked about at the same times, and what
        /// stays different is asked about at last.
        #[test]
        fn questions_are_apart_and_what_stays_is_asked_about(
            course in proptest::collection::vec((1_u32..200_000, 0_u8..20, any::<bool>()), 1..200),
        ) {
            let at = |index: usize| {
                let (rtt_us, loss, is_up) = course[index.min(course.len() - 1)];
                Measured { is_up, ..measured(Some(rtt_us), f32::from(loss) / 100.0) }
            };
            let run = || {
                let mut damper = Damper::default();
                let end = course.len() as u64 + (PAUSE_MS_MAX + HOLD_MS) / 1_000 + 1;
                let asked: Vec<u64> = (0..end).filter(|second| damper.turn(second * 1_000, &at(*second as usize)).is_some()).collect();
                (asked, damper)
            };
            let (asked, damper) = run();
            prop_assert_eq!(&asked, &run().0);
            for pair in asked.windows(2) {
                prop_assert!((pair[1] - pair[0]) * 1_000 >= PAUSE_MS, "{asked:?}");
            }
            let (known, last) = (&damper.asked.as_ref().unwrap().0, at(course.len() - 1));
            prop_assert!(link_changes(known, &last).is_empty() && path_changes(known, &last).is_empty());
        }
    }
}
