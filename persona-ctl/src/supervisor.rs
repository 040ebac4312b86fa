//! What the service manager is told (sd_notify(3)): that a role serves, how things stand, that its loop turns, that it stops.
//!
//! Everything goes to the socket that `NOTIFY_SOCKET` names; where there is none, nothing happens. The watchdog is fed by
//! the role's own loop and by nothing else, so that a loop that stands is restarted.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use persona_core::ids::Generation;
use persona_core::wire::agent::Rejection;
use sd_notify::NotifyState;

/// How many times the watchdog is fed within its time.
const BEATS_PER_WATCHDOG: u32 = 4;

/// A loop that did not turn for longer stands: no role waits that long for anything.
const STANDS_AFTER: Duration = Duration::from_secs(30);

/// Whether a role serves, for whoever asks over HTTP: the same that the service manager is told. Copies are one.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<Mutex<Option<(Instant, String)>>>);

impl Readiness {
    fn note(&self, now: Instant, status: &str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, status.to_owned()));
    }

    /// How things stand, or why the role does not serve.
    pub fn judge(&self, now: Instant) -> Result<String, String> {
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            None => Err("it is starting".to_owned()),
            Some((turned, status)) => match now.saturating_duration_since(*turned) {
                pause if pause < STANDS_AFTER => Ok(status.clone()),
                pause => Err(format!("its loop has not turned for {} s; before that: {status}", pause.as_secs())),
            },
        }
    }
}

/// A role's word to the service manager.
#[derive(Debug)]
pub struct Supervisor {
    readiness: Readiness,
    /// Time between two beats. None: nobody waits for them.
    beat_interval: Option<Duration>,
    beaten: Option<Instant>,
    said: Option<String>,
}

impl Supervisor {
    /// As the environment says (`NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`); `readiness` learns the same.
    pub fn from_environment(readiness: &Readiness) -> Self {
        Self::new(readiness, sd_notify::watchdog_enabled())
    }

    fn new(readiness: &Readiness, watchdog: Option<Duration>) -> Self {
        let beat_interval = watchdog.map(|time| time / BEATS_PER_WATCHDOG);
        Self { readiness: readiness.clone(), beat_interval, beaten: None, said: None }
    }

    /// To be called with each turn of the role's loop, once it serves; `status` is a line for people.
    pub fn turn(&mut self, status: String) {
        let now = Instant::now();
        tell(&self.news(now, &status));
        self.readiness.note(now, &status);
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
        let mut supervisor = Supervisor::new(&Readiness::default(), None);
        let now = Instant::now();
        for (status, expected) in [("a", "READY=1 STATUS=a"), ("a", ""), ("b", "STATUS=b")] {
            assert_eq!(said(&supervisor.news(now, status)), expected);
            supervisor.said = Some(status.to_owned());
        }
    }

    #[test]
    fn a_role_is_ready_from_its_first_turn_on_and_while_its_loop_turns() {
        let readiness = Readiness::default();
        assert_eq!(readiness.judge(Instant::now()), Err("it is starting".to_owned()));
        Supervisor::new(&readiness, None).turn("generation 5 is in force".to_owned());
        let now = Instant::now();
        assert_eq!(readiness.judge(now), Ok("generation 5 is in force".to_owned()));
        let stands = readiness.judge(now + STANDS_AFTER).unwrap_err();
        assert!(stands.contains("for 30 s") && stands.ends_with("generation 5 is in force"), "{stands}");
    }

    #[test]
    fn the_watchdog_is_fed_four_times_in_its_time() {
        let mut supervisor = Supervisor::new(&Readiness::default(), Some(Duration::from_secs(8)));
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
