//! Whether an instance is well, judged by checks: so many that pass in a row make it well, so many that fail make it dead.
//!
//! The first check ever decides at once: a new instance must not wait for flows, and gets none before it has answered. What
//! a process before this one believed is taken over, so that a restart moves no flow.

use std::time::Duration;

/// How an instance is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HealthPolicy {
    /// Checks in a row that must pass before a dead instance is well; at least 1.
    pub rise: u32,
    /// Checks in a row that must fail before it is dead; at least 1.
    pub fall: u32,
}

/// What is believed of one instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    is_alive: bool,
    is_judged: bool,
    /// Checks in a row that contradict what is believed.
    streak: u32,
    changed: Duration,
}

impl Health {
    /// An instance first looked at `now`, any monotonic clock's time. Without a belief it is dead until it answers.
    pub fn new(now: Duration, believed: Option<bool>) -> Self {
        let is_judged = believed.is_some();
        Self { is_alive: believed.unwrap_or(false), is_judged, streak: 0, changed: now }
    }

    /// Whether it gets flows.
    pub fn is_alive(&self) -> bool {
        self.is_alive
    }

    /// Whether any check has ended yet.
    pub fn is_judged(&self) -> bool {
        self.is_judged
    }

    /// Since when what is believed is believed, on the caller's clock.
    pub fn changed(&self) -> Duration {
        self.changed
    }

    /// A check has ended. Returns whether it is alive, if that changed.
    pub fn ended(&mut self, now: Duration, passed: bool, policy: &HealthPolicy) -> Option<bool> {
        let was_judged = std::mem::replace(&mut self.is_judged, true);
        if passed == self.is_alive {
            self.streak = 0;
            return None;
        }
        self.streak += 1;
        let needed = if passed { policy.rise } else { policy.fall };
        if was_judged && self.streak < needed {
            return None;
        }
        self.is_alive = passed;
        self.streak = 0;
        self.changed = now;
        Some(passed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: HealthPolicy = HealthPolicy { rise: 2, fall: 3 };

    /// Feeds checks, `+` passed and `-` failed, and tells what changed after which.
    fn changes(believed: Option<bool>, checks: &str) -> Vec<(usize, bool)> {
        let mut health = Health::new(Duration::ZERO, believed);
        let ended = |(index, check)| {
            let verdict = health.ended(Duration::from_secs(index as u64), check == '+', &POLICY);
            verdict.map(|is_alive| (index, is_alive))
        };
        checks.chars().enumerate().filter_map(ended).collect()
    }

    #[test]
    fn streaks_decide() {
        for (believed, checks, expected) in [
            (None, "+", vec![(0, true)]),
            (None, "-++", vec![(2, true)]),
            (None, "+--+--", vec![(0, true)]),
            (None, "+---", vec![(0, true), (3, false)]),
            (None, "+---+-++", vec![(0, true), (3, false), (7, true)]),
            (Some(true), "--+---", vec![(5, false)]),
            (Some(false), "+-+-", vec![]),
            (Some(false), "++", vec![(1, true)]),
        ] {
            assert_eq!(changes(believed, checks), expected, "{believed:?} {checks}");
        }
    }

    #[test]
    fn a_new_instance_is_dead_until_it_answers() {
        let at = Duration::from_secs;
        let mut health = Health::new(at(7), None);
        assert!(!health.is_alive() && !health.is_judged() && health.changed() == at(7));
        health.ended(at(10), true, &POLICY);
        assert!(health.is_alive() && health.is_judged() && health.changed() == at(10));
    }
}
