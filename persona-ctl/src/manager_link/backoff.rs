//! Waiting times between attempts: doubling up to two seconds, or as long as a manager asks for, with jitter so that a
//! thousand agents do not come back at once.

use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};

const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(2);
/// No manager has anybody wait for longer: whoever is not heard of counts as dead.
const ASKED_LONGEST: Duration = Duration::from_secs(30);

/// The next waiting time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: FIRST }
    }
}

impl Backoff {
    /// How long to wait now; `share` of 0 to 255 spreads it between a half and the whole of the time, and what a manager asked
    /// for between that and half as much again.
    fn step(&mut self, share: u8, asked: Option<Duration>) -> Duration {
        let (whole, share) = (self.next, u32::from(share));
        self.next = (whole * 2).min(LONGEST);
        let own = whole / 2 + whole / 2 * share / 255;
        asked.map(|asked| asked.min(ASKED_LONGEST)).map_or(own, |asked| own.max(asked + asked / 2 * share / 255))
    }

    /// Waits, at least as long as a manager asked for.
    pub(super) async fn wait(&mut self, asked: Option<Duration>) {
        let mut share = [128];
        // Without randomness the middle serves: jitter is a courtesy.
        let _ = SystemRandom::new().fill(&mut share);
        tokio::time::sleep(self.step(share[0], asked)).await;
    }

    /// Starts anew after a success.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_doubles_up_to_two_seconds() {
        let mut backoff = Backoff::default();
        let times: Vec<u128> = (0..8).map(|_| backoff.step(255, None).as_millis()).collect();
        assert_eq!(times, [50, 100, 200, 400, 800, 1_600, 2_000, 2_000]);
        assert_eq!(backoff.step(0, None).as_millis(), 1_000);
        backoff.reset();
        assert_eq!(backoff.step(0, None).as_millis(), 25);
    }

    #[test]
    fn what_a_manager_asks_for_is_waited_out_and_spread() {
        for (share, asked_secs, expected_ms) in [(0, 4, 4_000), (255, 4, 6_000), (0, 0, 25), (0, 3_600, 30_000)] {
            let asked = Some(Duration::from_secs(asked_secs));
            assert_eq!(Backoff::default().step(share, asked).as_millis(), expected_ms, "{asked_secs} s");
        }
    }

    /// Numbers that look like chance, the same each time (a linear congruential generator).
    fn chance(state: &mut u64) -> u8 {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*state >> 56) as u8
    }

    /// When each of 10,000 agents that lost their manager at 0 asks first once it is back, milliseconds.
    fn arrivals(back_at_ms: u64) -> Vec<u64> {
        let arrival = |agent: u64| {
            let (mut chances, mut backoff, mut now_ms) =
                (agent.wrapping_mul(0x9e37_79b9_7f4a_7c15), Backoff::default(), 0);
            while now_ms < back_at_ms {
                now_ms += backoff.step(chance(&mut chances), None).as_millis() as u64;
            }
            now_ms
        };
        (1..=10_000).map(arrival).collect()
    }

    #[test]
    fn a_manager_that_comes_back_is_not_run_down_by_everybody_at_once() {
        // Away for a second, some seconds, an hour: in no tenth of a second of the return comes more than a part of them.
        for (back_at_ms, percent_max) in [(1_000, 30), (5_000, 15), (60_000, 15), (3_600_000, 15)] {
            let mut crowds = std::collections::BTreeMap::new();
            for arrival in arrivals(back_at_ms) {
                assert!(arrival - back_at_ms <= 2_000, "whoever waits knows within two seconds");
                *crowds.entry(arrival / 100).or_insert(0) += 1;
            }
            let most = crowds.values().max().unwrap() / 100;
            assert!(most <= percent_max, "{most} % at once after {back_at_ms} ms: {crowds:?}");
        }
    }

    #[test]
    fn an_outage_of_days_costs_an_attempt_a_second_at_most() {
        let (mut chances, mut backoff, mut waited, mut attempts) = (7, Backoff::default(), Duration::ZERO, 0_u64);
        while waited < Duration::from_secs(3 * 86_400) {
            waited += backoff.step(chance(&mut chances), None);
            attempts += 1;
        }
        assert!(attempts <= 3 * 86_400, "{attempts}");
    }
}
