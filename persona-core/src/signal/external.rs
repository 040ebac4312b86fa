//! Values that other systems push, each with a lifetime, after which it is unknown.
//!
//! What comes from outside only ever selects among personas that somebody wrote; here it is held to bounds: finite, of a
//! known family, alive for a stated time, and so many per subject at most.

use super::catalogue::{SignalName, UnknownSignal};

/// Shortest lifetime of a pushed value, milliseconds.
pub const LIFETIME_MS_MIN: u64 = 1_000;

/// Longest lifetime of a pushed value, milliseconds: a week.
pub const LIFETIME_MS_MAX: u64 = 7 * 86_400_000;

/// So many pushed signals one subject may have.
pub const PUSHED_COUNT_MAX: usize = 64;

/// A pushed value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pushed {
    /// The value.
    pub value: f64,
    /// Until when it counts, milliseconds of the caller's steady clock.
    pub until_ms: u64,
}

/// Why a pushed value is refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PushError {
    /// The name is not known.
    #[error(transparent)]
    Name(#[from] UnknownSignal),
    /// Measured signals cannot be pushed.
    #[error("{0} is measured and cannot be pushed: push a name that begins with external.")]
    Measured(SignalName),
    /// Not a number.
    #[error("{0} has the value {1}: write a finite number")]
    NotFinite(SignalName, f64),
    /// The lifetime is out of bounds.
    #[error("{0} has a lifetime of {1} ms: write {LIFETIME_MS_MIN} to {LIFETIME_MS_MAX}")]
    Lifetime(SignalName, u64),
    /// The subject has too many.
    #[error("{0} would be one signal too many: at most {PUSHED_COUNT_MAX} may be alive for one subject")]
    TooMany(SignalName),
}

impl Pushed {
    /// A value that was pushed at `now_ms`.
    pub fn new(name: &SignalName, value: f64, lifetime_ms: u64, now_ms: u64) -> Result<Self, PushError> {
        if !name.is_external() {
            return Err(PushError::Measured(name.clone()));
        }
        if !value.is_finite() {
            return Err(PushError::NotFinite(name.clone(), value));
        }
        if !(LIFETIME_MS_MIN..=LIFETIME_MS_MAX).contains(&lifetime_ms) {
            return Err(PushError::Lifetime(name.clone(), lifetime_ms));
        }
        Ok(Self { value, until_ms: now_ms.saturating_add(lifetime_ms) })
    }

    /// Its value, while it lives.
    pub fn at(&self, now_ms: u64) -> Option<f64> {
        (now_ms < self.until_ms).then_some(self.value)
    }
}
