//! What an uplink carries in fact, found out without sending anything: as long as packets wait before a device, it carries all that
//! it can.
//!
//! What is narrow behind the device keeps nothing waiting here, and is not seen; loss and round trips tell of that.

use std::collections::VecDeque;

/// Packets must have waited for so long, milliseconds: what waits for a moment is a burst.
const SPELL_MS: u64 = 3_000;

/// Looks of one spell that are kept: the rate is that of the last of them.
const LOOK_COUNT_MAX: usize = 10;

/// What was found is believed for so long without being found again, milliseconds.
const BELIEVED_MS: u64 = 600_000;

/// A look at an uplink.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UplinkLook {
    /// The device's index.
    pub ifindex: u32,
    /// What it has sent since it is there, bytes with all headers.
    pub sent_bytes: u64,
    /// What waits for nothing but the device, bytes.
    pub waiting_bytes: u64,
}

/// What is known of an uplink. Times are milliseconds of a clock that never goes back.
#[derive(Debug, Clone, Default)]
pub struct Available {
    last: Option<(u64, UplinkLook)>,
    /// The looks since packets wait, the oldest first.
    spell: VecDeque<(u64, u64)>,
    found: Option<(u64, u64)>,
}

impl Available {
    /// Takes in a look.
    pub fn turn(&mut self, now_ms: u64, look: UplinkLook) {
        let is_other =
            |(_, last): &(u64, UplinkLook)| last.ifindex != look.ifindex || last.sent_bytes > look.sent_bytes;
        if self.last.as_ref().is_some_and(is_other) {
            *self = Self::default();
        }
        let since_last = self.last.and_then(|(at_ms, last)| rate(at_ms, last.sent_bytes, now_ms, look.sent_bytes));
        self.last = Some((now_ms, look));
        if look.waiting_bytes == 0 {
            self.spell.clear();
        } else {
            if self.spell.len() == LOOK_COUNT_MAX {
                self.spell.pop_front();
            }
            self.spell.push_back((now_ms, look.sent_bytes));
        }
        let while_busy = self.spell.front().filter(|(at_ms, _)| now_ms.saturating_sub(*at_ms) >= SPELL_MS);
        let while_busy = while_busy.and_then(|(at_ms, sent)| rate(*at_ms, *sent, now_ms, look.sent_bytes));
        match (while_busy, self.found) {
            (Some(bps), _) => self.found = Some((bps, now_ms)),
            // It has carried more without anything waiting: there is at least so much.
            (None, Some((found, at_ms))) if since_last.is_some_and(|bps| bps > found) => {
                self.found = Some((since_last.unwrap_or(found), at_ms));
            }
            (None, Some((_, at_ms))) if now_ms.saturating_sub(at_ms) >= BELIEVED_MS => self.found = None,
            (None, _) => {}
        }
    }

    /// What the uplink carried while packets waited, bits per second with all headers. None: it was not busy lately.
    pub fn bps(&self) -> Option<u64> {
        self.found.map(|(bps, _)| bps)
    }
}

fn rate(from_ms: u64, from_bytes: u64, to_ms: u64, to_bytes: u64) -> Option<u64> {
    let (ms, bytes) = (to_ms.checked_sub(from_ms)?, to_bytes.checked_sub(from_bytes)?);
    bytes.saturating_mul(8_000).checked_div(ms)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Looks once a second: megabits that were sent since the last look, and whether packets wait.
    fn run(available: &mut Available, from_s: u64, course: &[(u64, bool)]) -> Vec<Option<u64>> {
        let mut sent_bytes = available.last.map_or(0, |(_, look)| look.sent_bytes);
        let mut found = Vec::new();
        for (second, (mbit, waits)) in (from_s..).zip(course) {
            sent_bytes += mbit * 125_000;
            available.turn(second * 1_000, UplinkLook { ifindex: 2, sent_bytes, waiting_bytes: u64::from(*waits) });
            found.push(available.bps().map(|bps| bps / 1_000_000));
        }
        found
    }

    #[test]
    fn what_is_carried_while_packets_wait_is_all_there_is() {
        let mut available = Available::default();
        let quiet = run(&mut available, 0, &[(0, false), (90, false), (20, true), (20, true), (20, true)]);
        assert_eq!(quiet, [None; 5], "a burst says nothing");
        assert_eq!(run(&mut available, 5, &[(20, true), (20, true)]), [Some(20), Some(20)]);
        assert_eq!(run(&mut available, 7, &[(3, false), (2, true), (15, false)]), [Some(20); 3], "little is not less");
        assert_eq!(run(&mut available, 10, &[(35, false)]), [Some(35)], "there is at least what was carried");
        let narrow: Vec<_> = std::iter::repeat_n((5, true), 14).collect();
        assert_eq!(run(&mut available, 11, &narrow).last(), Some(&Some(5)), "it has become narrow");
    }

    #[test]
    fn what_is_not_found_again_is_forgotten_and_another_device_is_another_matter() {
        let mut available = Available::default();
        run(&mut available, 0, &[(20, true); 5]);
        let quiet: Vec<_> = std::iter::repeat_n((1, false), 600).collect();
        let found = run(&mut available, 5, &quiet);
        assert_eq!((found[598], found[599]), (Some(20), None), "ten minutes after the last busy look");
        run(&mut available, 605, &[(20, true); 5]);
        assert!(available.bps().is_some());
        let other = UplinkLook { ifindex: 3, sent_bytes: 1 << 40, waiting_bytes: 1 };
        available.turn(611_000, other);
        assert_eq!(available.bps(), None);
        run(&mut available, 612, &[(20, true); 5]);
        available.turn(618_000, UplinkLook { ifindex: 2, sent_bytes: 0, waiting_bytes: 1 });
        assert_eq!(available.bps(), None, "its counters began anew");
    }

    proptest! {
        /// Whatever is seen: what is said to be there was carried in some interval, and nothing is said that was not busy.
        #[test]
        fn nothing_is_made_up(course in proptest::collection::vec((0_u64..1_000, any::<bool>()), 1..100)) {
            let found = run(&mut Available::default(), 0, &course);
            let most = course.iter().map(|(mbit, _)| *mbit).max().unwrap_or(0);
            for (at, bps) in found.iter().enumerate() {
                prop_assert!(bps.is_none_or(|mbit| mbit <= most));
                let was_busy = course[..=at].windows(4).any(|looks| looks.iter().all(|(_, waits)| *waits));
                prop_assert!(bps.is_none() || was_busy);
            }
        }
    }
}
