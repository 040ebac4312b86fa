//! An edge that was cut off catches up with the lease table before it serves again.
//!
//! While it reached nobody, it was fenced: blocks may have been leased to others since. So when it is back it reflects no
//! probe and answers for no address until the manager has sent it a whole state anew. Without the manager it waits for a
//! while only: an old table serves better than none, and nodes check what they are sent.
//!
//! Pure: the clock is passed in.

use std::time::{Duration, Instant};

/// The longest wait for the manager once somebody is reached.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// While nobody is reached, the manager is asked this often: it may be the only one left.
const ASK_INTERVAL: Duration = Duration::from_secs(2);

/// Whether the lease table may be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CatchUp {
    /// It is as new as it can be.
    Current,
    /// Nobody is reached; the manager was asked then.
    CutOff(Instant),
    /// Nobody but the manager is reached. Probes are reflected: else two edges without nodes would wait for each other.
    Alone,
    /// Somebody is reached again, and the manager is asked since then.
    Waiting(Instant),
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Demand {
    /// Nothing.
    Nothing,
    /// The manager is to be asked for the whole state.
    Ask,
}

impl CatchUp {
    /// At the start of a process. A data path that serves was never cut off, whatever happened to its process.
    pub(super) fn at_start(is_serving: bool, now: Instant) -> Self {
        if is_serving { Self::Current } else { Self::CutOff(now) }
    }

    /// Takes in whether a peer, a node or a next hop is reached now.
    pub(super) fn observe(&mut self, reaches_someone: bool, now: Instant) -> Demand {
        let is_over = |since: Instant, limit| now.saturating_duration_since(since) >= limit;
        let (next, demand) = match (*self, reaches_someone) {
            (Self::Current | Self::Waiting(_), false) => (Self::CutOff(now), Demand::Ask),
            (Self::CutOff(asked), false) if is_over(asked, ASK_INTERVAL) => (Self::CutOff(now), Demand::Ask),
            (Self::CutOff(_), true) => (Self::Waiting(now), Demand::Ask),
            (Self::Waiting(since), true) if is_over(since, WAIT_MAX) => (Self::Current, Demand::Nothing),
            (Self::Alone, true) => (Self::Current, Demand::Nothing),
            (same, _) => (same, Demand::Nothing),
        };
        *self = next;
        demand
    }

    /// The manager has sent the whole state, and it is in force.
    pub(super) fn confirm(&mut self) {
        *self = match *self {
            Self::CutOff(_) | Self::Alone => Self::Alone,
            Self::Current | Self::Waiting(_) => Self::Current,
        };
    }

    /// Whether probes may be reflected and addresses answered for.
    pub(super) fn allows_service(self) -> bool {
        matches!(self, Self::Current | Self::Alone)
    }

    /// When time alone changes something.
    pub(super) fn wait(self, now: Instant) -> Option<Duration> {
        match self {
            Self::Waiting(since) => Some((since + WAIT_MAX).saturating_duration_since(now)),
            Self::CutOff(asked) => Some((asked + ASK_INTERVAL).saturating_duration_since(now)),
            Self::Current | Self::Alone => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edge_that_was_cut_off_waits_for_the_manager() {
        let start = Instant::now();
        let mut state = CatchUp::at_start(true, start);
        assert_eq!(state.observe(true, start), Demand::Nothing);
        assert!(state.allows_service());
        assert_eq!(state.observe(false, start), Demand::Ask);
        assert!(!state.allows_service());
        assert_eq!(state.observe(true, start), Demand::Ask);
        assert_eq!(state.observe(true, start), Demand::Nothing, "asked once");
        assert!(!state.allows_service());
        state.confirm();
        assert!(state.allows_service());
    }

    #[test]
    fn without_the_manager_it_goes_on_after_a_while() {
        let start = Instant::now();
        let mut state = CatchUp::at_start(false, start);
        assert_eq!(state.observe(true, start), Demand::Ask);
        assert_eq!(state.wait(start), Some(WAIT_MAX));
        state.observe(true, start + WAIT_MAX - Duration::from_millis(1));
        assert!(!state.allows_service());
        state.observe(true, start + WAIT_MAX);
        assert!(state.allows_service() && state.wait(start).is_none());
    }

    #[test]
    fn being_cut_off_again_starts_anew() {
        let start = Instant::now();
        let mut state = CatchUp::at_start(false, start);
        state.observe(true, start);
        assert_eq!(state.observe(false, start + WAIT_MAX / 2), Demand::Ask);
        assert_eq!(state.observe(true, start + WAIT_MAX), Demand::Ask);
        assert!(!state.allows_service());
    }

    #[test]
    fn an_edge_that_reaches_the_manager_only_lets_itself_be_found() {
        let start = Instant::now();
        let mut state = CatchUp::at_start(false, start);
        assert_eq!(state.observe(false, start), Demand::Nothing, "a process that starts is told anyway");
        assert_eq!(state.observe(false, start + ASK_INTERVAL), Demand::Ask);
        assert!(!state.allows_service());
        state.confirm();
        assert_eq!(state.observe(false, start + 2 * ASK_INTERVAL), Demand::Nothing);
        assert!(state.allows_service());
        state.observe(true, start + 3 * ASK_INTERVAL);
        assert_eq!(state, CatchUp::Current);
    }
}
