//! Keeps a role's slow path alive from pass to pass; without one, the role goes on.

use super::facts::{Facts, Role};
use super::fate::Fates;
use super::{SlowPath, SlowPathCounters};
use crate::host::error_chain;

/// A slow path that may have to be tried again.
pub struct Keeper {
    role: Role,
    /// None until its first start.
    slow_path: Option<SlowPath>,
    /// What was said last: the same trouble every second is one line in the log.
    trouble: String,
}

impl Keeper {
    /// Nothing is started yet.
    pub fn new(role: Role) -> Self {
        Self { role, slow_path: None, trouble: String::new() }
    }

    /// The device's index while it can be had; without it programs count `no-slow-path`. `open` is asked once for the
    /// programs' table of fragments, `is_up` whether a device is up. Blocks for as long as making a device takes.
    pub fn ensure<E: std::error::Error + 'static>(
        &mut self,
        open: impl FnOnce() -> Result<Box<dyn Fates>, E>,
        is_up: impl Fn(u32) -> bool,
    ) -> Option<u32> {
        let outcome = match &mut self.slow_path {
            Some(slow_path) => slow_path.ensure(is_up).map_err(|error| error_chain(&error)),
            none => open().map_err(|error| error_chain(&error)).and_then(|fates| {
                let slow_path = none.insert(SlowPath::new(self.role, fates));
                slow_path.ensure(is_up).map_err(|error| error_chain(&error))
            }),
        };
        let trouble = outcome.as_ref().err().cloned().unwrap_or_default();
        if !trouble.is_empty() && trouble != self.trouble {
            tracing::warn!(
                trouble,
                "packets that are too big, and fragments that come before their first, are dropped"
            );
        }
        self.trouble = trouble;
        outcome.ok()
    }

    /// What holds for leases from now on.
    pub fn set_facts(&self, facts: Facts) {
        if let Some(slow_path) = &self.slow_path {
            slow_path.set_facts(facts);
        }
    }

    /// What was counted since the process started.
    pub fn counters(&self) -> SlowPathCounters {
        self.slow_path.as_ref().map(SlowPath::counters).unwrap_or_default()
    }
}
