//! When to announce an address that was taken over: at once, and again in case an announcement is lost.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Announcements after a takeover, milliseconds from its start (design §3.1).
const SCHEDULE_MS: [u64; 4] = [0, 50, 200, 1_000];

/// Announcements that are still to be made.
#[derive(Debug, Default)]
pub(super) struct Announcements {
    due: BTreeMap<IpAddr, (Instant, usize)>,
}

impl Announcements {
    /// Begins to announce `address`.
    pub(super) fn begin(&mut self, address: IpAddr, now: Instant) {
        self.due.insert(address, (now, 0));
    }

    /// Stops announcing `address`.
    pub(super) fn end(&mut self, address: IpAddr) {
        self.due.remove(&address);
    }

    /// Addresses to announce now.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<IpAddr> {
        let mut due = Vec::new();
        self.due.retain(|address, (start, step)| {
            while *step < SCHEDULE_MS.len() && now >= *start + Duration::from_millis(SCHEDULE_MS[*step]) {
                *step += 1;
                if due.last() != Some(address) {
                    due.push(*address);
                }
            }
            *step < SCHEDULE_MS.len()
        });
        due
    }

    /// How long nothing is due.
    pub(super) fn wait(&self, now: Instant) -> Option<Duration> {
        let next = |(start, step): &(Instant, usize)| *start + Duration::from_millis(SCHEDULE_MS[*step]);
        self.due.values().map(next).min().map(|next| next.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_takeover_is_announced_four_times() {
        let (start, address) = (Instant::now(), IpAddr::from([203, 0, 113, 1]));
        let mut announcements = Announcements::default();
        announcements.begin(address, start);
        let mut made = Vec::new();
        for ms in 0..1_500 {
            if !announcements.take_due(start + Duration::from_millis(ms)).is_empty() {
                made.push(ms);
            }
        }
        assert_eq!(made, SCHEDULE_MS);
        assert_eq!(announcements.wait(start), None);
    }

    #[test]
    fn an_address_that_is_given_up_is_not_announced() {
        let (start, address) = (Instant::now(), IpAddr::from([203, 0, 113, 1]));
        let mut announcements = Announcements::default();
        announcements.begin(address, start);
        announcements.end(address);
        assert!(announcements.take_due(start).is_empty());
    }
}
