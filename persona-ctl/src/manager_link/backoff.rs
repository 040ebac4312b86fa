//! Waiting times between attempts: doubling up to two seconds, with jitter so that a thousand agents do not come back at once.

use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};

const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(2);

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
    /// How long to wait now; `share` of 0 to 255 spreads it between a half and the whole of the time.
    fn step(&mut self, share: u8) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(LONGEST);
        whole / 2 + whole / 2 * u32::from(share) / 255
    }

    /// Waits.
    pub(super) async fn wait(&mut self) {
        let mut share = [128];
        // Without randomness the middle serves: jitter is a courtesy.
        let _ = SystemRandom::new().fill(&mut share);
        tokio::time::sleep(self.step(share[0])).await;
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
        let times: Vec<u128> = (0..8).map(|_| backoff.step(255).as_millis()).collect();
        assert_eq!(times, [50, 100, 200, 400, 800, 1_600, 2_000, 2_000]);
        assert_eq!(backoff.step(0).as_millis(), 1_000);
        backoff.reset();
        assert_eq!(backoff.step(0).as_millis(), 25);
    }
}
