//! What the service manager is told (sd_notify(3)): that a role serves, how things stand, that its loop turns, that it stops.
//!
//! Everything goes to the socket that `NOTIFY_SOCKET` names; where there is none, nothing happens. The watchdog is fed by
//! the role's own loop and by nothing else, so that a loop that stands is restarted.

use std::time::{Duration, Instant};

use persona_core::ids::Generation;
use persona_core::wire::agent::Rejection;
use sd_notify::NotifyState;

/// How many times the watchdog is fed within its time.
const BEATS_PER_WATCHDOG: u32 = 4;

/// A role's word to the service manager.
#[derive(Debug)]
pub struct Supervisor {
    /// Time between two beats. None: nobody waits for them.
    beat_interval: Option<Duration>,
    beaten: Option<Instant>,
    said: Option<String>,
}

impl Supervisor {
    /// As the environment says (`NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`).
    pub fn from_environment() -> Self {
        Self::new(sd_notify::watchdog_enabled())
    }

    fn new(watchdog: Option<Duration>) -> Self {
        Self { beat_interval: watchdog.map(|time| time / BEATS_PER_WATCHDOG), beaten: None, said: None }
    }

    /// To be called with each turn of the role's loop, once it serves; `status` is a line for people.
    pub fn turn(&mut self, status: String) {
        tell(&self.news(Instant::now(), &status));
        self.said = Some(status);
    }

    fn news<'a>(&mut self, now: Instant, status: &'a str) -> Vec<NotifyState<'a>> {
        let mut news = Vec::new();
        if self.said.is_none() {
            news.push(NotifyState::Ready);
        }
        if self.said.as_deref() != Some(status) {
            news.push(NotifyState::Status(status));
        }
        let Some(interval) = self.beat_interval else { return news };
        if self.beaten.is_none_or(|beaten| now.duration_since(beaten) >= interval) {
            self.beaten = Some(now);
            news.push(NotifyState::Watchdog);
        }
        news
    }
}

/// Says that the role stops, in good order.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// How a role that follows a manager stands, in a line.
pub fn standing(applied: Generation, rejected: Option<&Rejection>, trouble: &str) -> String {
    let in_force = match applied {
        none if none == Generation::default() => "no desired state yet".to_owned(),
        applied => format!("generation {applied} is in force"),
    };
    let line = match (trouble, rejected) {
        ("", None) => in_force,
        ("", Some(rejected)) => {
            format!("{in_force}; generation {} is rejected: {}", rejected.generation, rejected.reason)
        }
        (trouble, _) => format!("{in_force}; the last pass failed: {trouble}"),
    };
    // A message is made of lines.
    line.replace(['\n', '\r'], " ")
}

fn tell(news: &[NotifyState<'_>]) {
    if news.is_empty() {
        return;
    }
    if let Err(error) = sd_notify::notify(news) {
        // The role's work does not depend on it; whoever waits for it says so itself.
        tracing::debug!(error.cause = %error, "the service manager was not told");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(news: &[NotifyState<'_>]) -> String {
        news.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn readiness_is_told_once_and_a_status_when_it_changes() {
        let mut supervisor = Supervisor::new(None);
        let now = Instant::now();
        for (status, expected) in [("a", "READY=1 STATUS=a"), ("a", ""), ("b", "STATUS=b")] {
            assert_eq!(said(&supervisor.news(now, status)), expected);
            supervisor.said = Some(status.to_owned());
        }
    }

    #[test]
    fn the_watchdog_is_fed_four_times_in_its_time() {
        let mut supervisor = Supervisor::new(Some(Duration::from_secs(8)));
        supervisor.said = Some("a".to_owned());
        let start = Instant::now();
        let beats =
            (0..80).filter(|tenth| !supervisor.news(start + Duration::from_millis(100 * tenth), "a").is_empty());
        assert_eq!(beats.count(), 4);
    }

    #[test]
    fn a_line_says_what_is_in_force_and_what_is_wrong() {
        let none = Generation::default();
        let rejected = Rejection { generation: none, reason: "too\nbig".to_owned() };
        assert_eq!(standing(none, None, ""), "no desired state yet");
        assert!(standing(none, Some(&rejected), "").ends_with("is rejected: too big"));
        assert!(standing(none, Some(&rejected), "no uplink").ends_with("the last pass failed: no uplink"));
    }
}
