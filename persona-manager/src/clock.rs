//! The clocks, in one place, so that a simulation can bring its own.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// A clock that never goes back: what silence and holding are measured on.
#[derive(Debug, Clone)]
pub(crate) enum Clock {
    /// The machine's, from when this was made.
    System(Instant),
    /// One that a test moves on.
    #[cfg(test)]
    Simulated(std::sync::Arc<std::sync::atomic::AtomicU64>),
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
            Self::Simulated(now_ms) => now_ms.load(std::sync::atomic::Ordering::Relaxed),
        }
    }
}
