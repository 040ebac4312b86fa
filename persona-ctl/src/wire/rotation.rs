//! Changes a role's key without a pause: the next key is made and announced beside the one in use, far ends accept both,
//! and the one in use goes only when all of them have agreed on sessions under the next.
//!
//! In user space both keys work at once on one port, so nothing is lost. The kernel's device has one key: it changes when
//! far ends have had time to hear of the next.

use std::time::{Duration, Instant, SystemTime};

use super::keeper::{Device, Keeper, Running};
use super::{KeyError, PublicKey};
use crate::host::error_chain;

const HOUR: Duration = Duration::from_secs(3_600);

/// No key changes by itself so soon after the role's start: hosts that are being upgraded one by one must not meet keys that
/// they don't know of yet.
const START_TIME: Duration = HOUR;

/// How long both keys work after all far ends have agreed: datagrams under the one before may be under way.
const LINGER: Duration = Duration::from_secs(5);
/// How long far ends have to hear of the next key where that cannot be tried.
const KERNEL_WAIT: Duration = Duration::from_secs(30);
/// A far end that has not agreed by then is away, and is told of the new key when it is back.
const PATIENCE: Duration = Duration::from_secs(600);

/// How far a change has come.
#[derive(Debug, Clone, Copy, Default)]
pub(super) enum Stage {
    /// No change is under way.
    #[default]
    Rest,
    /// The next key is announced.
    Announced {
        /// Since when.
        since: Instant,
        /// Since when all far ends have agreed on sessions under it.
        agreed: Option<Instant>,
    },
}

impl Keeper {
    /// Begins a change of the key where it is time for one, or somebody has asked, and brings one that is under way
    /// forward. Called with every pass.
    pub fn turn_keys(&mut self) {
        let stuck = self.try_turn_keys().err().map(|error| format!("its key stays: {}", error_chain(&error)));
        if let Some(trouble) = stuck.as_ref().filter(|_| self.stuck != stuck) {
            tracing::warn!(trouble, "the tunnel's key cannot be changed; it is tried again");
        }
        self.stuck = stuck;
    }

    /// The public key that is about to take the place of the one in use.
    pub fn next_key(&self) -> Option<PublicKey> {
        Some(self.keys.as_ref()?.next.as_ref()?.public())
    }

    /// How old the key in use is.
    pub fn key_age(&self) -> Option<Duration> {
        Some(self.keys.as_ref()?.made.elapsed().unwrap_or_default())
    }

    fn try_turn_keys(&mut self) -> Result<(), KeyError> {
        let Some(keys) = &mut self.keys else { return Ok(()) };
        let now = Instant::now();
        let interval = HOUR * self.config.rotate_hours;
        let is_due = !interval.is_zero()
            && self.started.elapsed() >= START_TIME
            && SystemTime::now() >= due(&keys.current.public(), keys.made, interval);
        if keys.next.is_none() {
            if !is_due && !keys.is_asked_for() {
                return Ok(());
            }
            let (before, next) = (keys.current.public(), keys.make_next()?);
            tracing::info!(%before, %next, "the tunnel's key is about to change; both are accepted until then");
        }
        if let (Stage::Rest, Some(Running { device: Device::Userspace(engine), .. })) = (self.stage, &self.running) {
            engine.set_keys(keys);
        }
        let Stage::Announced { since, agreed } = self.stage else {
            self.stage = Stage::Announced { since: now, agreed: None };
            return Ok(());
        };
        let agreed = self.is_agreed(since).then(|| agreed.unwrap_or(now));
        self.stage = Stage::Announced { since, agreed };
        let is_over = agreed.is_some_and(|agreed| now - agreed >= LINGER) || now - since >= PATIENCE;
        if is_over { self.take_next_key() } else { Ok(()) }
    }

    /// Whether nobody needs the key in use any more.
    fn is_agreed(&self, announced: Instant) -> bool {
        match &self.running {
            None => true,
            Some(Running { device: Device::Userspace(engine), .. }) => engine.is_next_key_agreed(),
            Some(Running { device: Device::Kernel(_), .. }) => announced.elapsed() >= KERNEL_WAIT,
        }
    }

    fn take_next_key(&mut self) -> Result<(), KeyError> {
        let Some(keys) = &mut self.keys else { return Ok(()) };
        keys.take_next()?;
        let key = keys.current.public();
        self.stage = Stage::Rest;
        tracing::info!(%key, "the tunnel's key has changed; the one before is gone");
        let Some(running) = &mut self.running else { return Ok(()) };
        running.key = key;
        match &running.device {
            Device::Userspace(engine) => engine.set_keys(keys),
            // Its sessions are kept for what comes in; what goes out waits for new ones.
            Device::Kernel(device) => {
                if let Err(error) = device.set_key(&keys.current) {
                    let trouble = format!("the kernel did not take its next key: {error}");
                    // A new device has the key that is on disk.
                    self.running = None;
                    self.note(trouble);
                }
            }
        }
        Ok(())
    }
}

/// When a key's time is over: after the interval, a tenth earlier or later. How much is in the key, so that it stays the same
/// over restarts, and a fleet that was started at once does not change all its keys at once.
fn due(key: &PublicKey, made: SystemTime, interval: Duration) -> SystemTime {
    let share = f64::from(u16::from_le_bytes([key.0[0], key.0[1]])) / f64::from(u16::MAX);
    made + interval.mul_f64(0.9 + 0.2 * share)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{WireConfig, Wireguard, ask_for_another_key};

    #[test]
    fn a_key_is_due_a_tenth_around_its_interval_and_each_at_its_own_time() {
        let made = SystemTime::UNIX_EPOCH;
        let at = |first, second| {
            let mut key = [7; 32];
            key[..2].copy_from_slice(&[first, second]);
            due(&PublicKey(key), made, 100 * HOUR).duration_since(made).unwrap()
        };
        assert_eq!((at(0, 0), at(0xff, 0xff)), (90 * HOUR, 110 * HOUR));
        assert!(at(0, 1) < at(0, 2) && at(0, 2) < at(0, 3));
    }

    #[test]
    fn without_a_tunnel_a_key_changes_when_asked_and_not_otherwise() {
        let directory = tempfile::tempdir().unwrap();
        let config = WireConfig::node(Wireguard::Kernel, None, directory.path().to_owned());
        let mut keeper = Keeper::new(config.clone());
        let (first, port) = keeper.offer().unwrap();
        keeper.turn_keys();
        assert_eq!((keeper.offer(), keeper.next_key()), (Some((first, port)), None));
        ask_for_another_key(directory.path()).unwrap();
        keeper.turn_keys();
        let next = keeper.next_key().unwrap();
        assert_eq!(keeper.offer().unwrap().0, first, "both are announced first");
        // Killed in between.
        let mut keeper = Keeper::new(config);
        assert_eq!((keeper.offer().unwrap().0, keeper.next_key()), (first, Some(next)));
        keeper.stage = Stage::Announced { since: Instant::now(), agreed: Instant::now().checked_sub(LINGER) };
        keeper.turn_keys();
        assert_eq!((keeper.offer().unwrap().0, keeper.next_key()), (next, None));
    }
}
