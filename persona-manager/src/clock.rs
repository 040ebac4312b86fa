//! The clocks, in one place, so that a simulation can bring its own; and a watch for whoever sets the one for people.

use std::sync::{Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A difference between the clocks that no reading of them explains, milliseconds.
const STEP_MS_MIN: i64 = 1_000;

/// Milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// A clock that never goes back: what silence and holding are measured on. It knows what people's clocks say beside.
#[derive(Debug, Clone)]
pub(crate) enum Clock {
    /// The machine's, from when this was made.
    System(Instant),
    /// One that a test moves on.
    #[cfg(test)]
    Simulated(std::sync::Arc<SimulatedClock>),
}

/// What a test moves on: both clocks, each for itself.
#[cfg(test)]
#[derive(Debug, Default)]
pub(crate) struct SimulatedClock {
    /// Milliseconds that have passed.
    pub(crate) elapsed_ms: std::sync::atomic::AtomicU64,
    /// Milliseconds since the Unix epoch, as people's clocks say.
    pub(crate) now_ms: std::sync::atomic::AtomicU64,
}

impl Default for Clock {
    fn default() -> Self {
        Self::System(Instant::now())
    }
}

impl Clock {
    /// Milliseconds since some moment.
    pub(crate) fn monotonic_ms(&self) -> u64 {
        match self {
            Self::System(start) => start.elapsed().as_millis() as u64,
            #[cfg(test)]
            Self::Simulated(clock) => clock.elapsed_ms.load(std::sync::atomic::Ordering::Relaxed),
        }
    }

    /// What both clocks say. The one that never goes back is read first: what comes between then looks like a step
    /// forward, for which waits get longer and never shorter.
    pub(crate) fn moment(&self) -> Moment {
        let monotonic_ms = self.monotonic_ms();
        let now_ms = match self {
            Self::System(_) => now_ms(),
            #[cfg(test)]
            Self::Simulated(clock) => clock.now_ms.load(std::sync::atomic::Ordering::Relaxed),
        };
        Moment { monotonic_ms, now_ms }
    }
}

/// What both clocks say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment {
    /// Milliseconds on the clock that never goes back.
    pub(crate) monotonic_ms: u64,
    /// Milliseconds since the Unix epoch, as people's clocks say.
    pub(crate) now_ms: u64,
}

/// What became of people's clock since the last look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Passage {
    /// This is the first look: nobody knows how long ago anything was.
    Unknown,
    /// It went on as time did.
    Steady,
    /// Somebody set it, by so many milliseconds.
    Stepped(i64),
}

/// Looks whether people's clock goes on as time does.
#[derive(Debug, Default)]
pub(crate) struct StepWatch(Mutex<Option<i64>>);

impl StepWatch {
    /// What became of it since the last look.
    pub(crate) fn look(&self, moment: Moment) -> Passage {
        let offset = moment.now_ms as i64 - moment.monotonic_ms as i64;
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let passage = match *known {
            None => Passage::Unknown,
            // Small differences are kept in mind until they have added up.
            Some(before) if (offset - before).abs() < STEP_MS_MIN => return Passage::Steady,
            Some(before) => Passage::Stepped(offset - before),
        };
        *known = Some(offset);
        passage
    }

    /// The next look is the first again: what the last one led to was not stored, or another manager decided meanwhile.
    pub(crate) fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_told_from_time_that_passes() {
        let watch = StepWatch::default();
        let cases = [
            (10, 1_000_000, Passage::Unknown),
            (20, 1_000_010, Passage::Steady),
            (90_000, 1_089_990, Passage::Steady),
            (90_010, 4_690_000, Passage::Stepped(3_600_000)),
            (90_020, 4_690_010, Passage::Steady),
            (90_030, 1_090_020, Passage::Stepped(-3_600_000)),
            // What creeps is noticed once it is a second.
            (90_040, 1_090_630, Passage::Steady),
            (90_050, 1_091_239, Passage::Stepped(1_199)),
        ];
        for (monotonic_ms, now_ms, expected) in cases {
            assert_eq!(watch.look(Moment { monotonic_ms, now_ms }), expected, "{monotonic_ms} {now_ms}");
        }
        watch.forget();
        assert_eq!(watch.look(Moment { monotonic_ms: 90_060, now_ms: 1_091_249 }), Passage::Unknown);
    }
}
