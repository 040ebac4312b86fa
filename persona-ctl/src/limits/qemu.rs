//! A QEMU guest as a back end: memory by its balloon, disks by QEMU's own throttles.
//!
//! QEMU answers `balloon` with success whether or not a driver in the guest does anything, so the guest's memory is asked
//! for until it is as wanted, or the wish is taken back.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use persona_core::limit::{Knob, Knobs, Throttle, names};
use serde_json::json;

use super::backend::{Backend, MemoryState};
use super::error::LimitError;
use super::qmp::Qmp;
use super::qmp_answers::{argument_of, balloon_bytes, throttles};

/// How often a guest's memory is asked for while its balloon moves.
const LOOK_TIME: Duration = Duration::from_millis(50);

/// A guest's monitor.
#[derive(Debug)]
pub struct QemuMonitor {
    path: PathBuf,
    balloon_time: Duration,
}

impl QemuMonitor {
    /// The monitor at a socket; a balloon may take so long.
    pub fn new(path: PathBuf, balloon_time: Duration) -> Self {
        Self { path, balloon_time }
    }

    fn set_balloon(&self, qmp: &mut Qmp, bytes: u64) -> Result<(), LimitError> {
        let before = balloon(qmp).ok_or_else(|| LimitError::NoKnob(Knob::new(names::BALLOON)))?;
        qmp.ask("balloon", json!({ "value": bytes }))?;
        let start = Instant::now();
        loop {
            let now = balloon(qmp).unwrap_or(before);
            if now == bytes {
                return Ok(());
            }
            if start.elapsed() >= self.balloon_time {
                qmp.ask("balloon", json!({ "value": before }))?;
                return Err(self.did_not_follow(now, bytes, before));
            }
            std::thread::sleep(LOOK_TIME);
        }
    }

    fn did_not_follow(&self, now: u64, wanted: u64, before: u64) -> LimitError {
        let why = if now == before {
            "the guest's driver did nothing: virtio_balloon must run in it, and it has no more than it was started with"
        } else {
            "the guest gives no more back: free memory in it, or set a higher memory.max"
        };
        let time = self.balloon_time;
        let what = format!("balloon is at {now} bytes after {time:?}, {wanted} are wanted: {why}");
        LimitError::Monitor { path: self.path.clone(), what }
    }
}

impl Backend for QemuMonitor {
    fn name(&self) -> &'static str {
        "QMP"
    }

    /// The process, and when it started: numbers of processes come back.
    fn identity(&mut self) -> Result<String, LimitError> {
        let pid = Qmp::connect(&self.path)?.process()?;
        let path = PathBuf::from(format!("/proc/{pid}/stat"));
        let text = super::cgroup::read(&path)?;
        // Field 22 of proc_pid_stat(5), counted after the name, which may hold blanks.
        let started = text.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(19)).unwrap_or("?");
        Ok(format!("{} qemu={pid}/{started}", super::cgroup::boot_id()))
    }

    fn observe(&mut self) -> Result<Knobs, LimitError> {
        let mut qmp = Qmp::connect(&self.path)?;
        let mut knobs = Knobs::new();
        knobs.extend(balloon(&mut qmp).map(|bytes| (Knob::new(names::BALLOON), bytes.to_string())));
        let devices = qmp.ask("query-block", json!({}))?;
        let throttles = throttles(&devices);
        knobs.extend(throttles.map(|(name, throttle)| (Knob::row_of(names::THROTTLE, name), throttle.to_string())));
        Ok(knobs)
    }

    fn read(&mut self, knob: &Knob) -> Result<Option<String>, LimitError> {
        if ![names::BALLOON, names::THROTTLE].contains(&knob.file()) {
            return Ok(None);
        }
        Ok(self.observe()?.remove(knob))
    }

    fn write(&mut self, knob: &Knob, value: &str) -> Result<bool, LimitError> {
        match (knob.file(), knob.row()) {
            (names::BALLOON, _) => {
                let mut qmp = Qmp::connect(&self.path)?;
                let bytes = value.parse().map_err(|_| LimitError::NoKnob(knob.clone()))?;
                self.set_balloon(&mut qmp, bytes).map(|()| true)
            }
            (names::THROTTLE, Some(row)) => {
                let mut qmp = Qmp::connect(&self.path)?;
                let devices = qmp.ask("query-block", json!({}))?;
                let argument = argument_of(&devices, row).ok_or_else(|| LimitError::NoKnob(knob.clone()))?;
                let mut arguments = json!({ argument: row });
                for (name, figure) in Throttle::parse(value).figures() {
                    arguments[name] = figure.into();
                }
                qmp.ask("block_set_io_throttle", arguments).map(|_| true)
            }
            _ => Ok(false),
        }
    }

    fn memory(&mut self) -> Result<Option<MemoryState>, LimitError> {
        Ok(None)
    }
}

/// Bytes that the guest has. None: it has no balloon device.
fn balloon(qmp: &mut Qmp) -> Option<u64> {
    balloon_bytes(&qmp.ask("query-balloon", json!({})).ok()?)
}

#[cfg(test)]
mod tests;
