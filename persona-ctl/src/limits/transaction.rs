//! One application of limits: record, write in the safe order, read back, record; or put everything back.
//!
//! A process that dies between any two steps leaves a record that says what was before, and whoever finds it puts that
//! back first ([`recover`]).

use std::time::{Duration, Instant};

use persona_core::limit::{Action, Knobs, Record, plan};

use super::backend::Instance;
use super::error::LimitError;
use super::progress::{Progress, Shown};

/// How often memory is looked at meanwhile.
const LOOK_TIME: Duration = Duration::from_millis(10);

/// Who works without ever having been round all that he holds is watched for so many times the time that is enough for others.
const WORKING_FACTOR: u32 = 10;

/// What a transaction needs beside the instance.
pub struct Journal<'a> {
    /// Keeps a record. It must be kept when this returns: nothing is written before.
    pub store: &'a mut dyn FnMut(&Record) -> Result<(), LimitError>,
    /// How long memory may take.
    pub patience: Patience,
}

/// How long memory may take to shrink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Until it fits, at most.
    pub shrink: Duration,
    /// How long it must fit then, and nobody ask for more, at least: time counts as far as its processes get to run.
    pub settle: Duration,
}

impl Patience {
    /// Whether its processes have shown what they need since they had got so far.
    fn is_over(self, instance: &mut Instance, before: Progress, time: Duration) -> Result<bool, LimitError> {
        if time < self.settle {
            return Ok(false);
        }
        let (now, working) = (instance.progress(), self.settle * WORKING_FACTOR);
        let counted = now.counted(before, time);
        let enough = match now.shown(before, time, instance.memory()?.peak_bytes) {
            Shown::Idle | Shown::All => self.settle,
            Shown::Working => working,
        };
        if counted < enough && time > working + self.shrink {
            return Err(LimitError::HardlyRan { waited_ms: time.as_millis() });
        }
        Ok(counted >= enough)
    }
}

impl Default for Patience {
    fn default() -> Self {
        Self { shrink: Duration::from_secs(10), settle: Duration::from_millis(500) }
    }
}

/// What an application has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The record of it, as it is kept.
    pub record: Record,
    /// How many steps it took.
    pub step_count: usize,
    /// Every knob, as read back after it.
    pub observed: Knobs,
}

/// Makes `wanted` true of an instance whose knobs are as `observed` a moment ago.
pub fn apply(
    instance: &mut Instance,
    record: &Record,
    observed: Knobs,
    wanted: &Knobs,
    journal: &mut Journal<'_>,
) -> Result<Applied, LimitError> {
    let mut target = record.target(wanted);
    // What an instance no longer has cannot be put back, and nobody misses it.
    target.retain(|knob, _| observed.contains_key(knob));
    let actions = plan(&observed, &target);
    let begun = record.begin(&observed, &target, &actions);
    if actions.is_empty() {
        let ended = begun.end(&observed);
        if ended != *record {
            (journal.store)(&ended)?;
        }
        return Ok(Applied { record: ended, step_count: 0, observed });
    }
    (journal.store)(&begun)?;
    for action in &actions {
        if let Err(error) = carry_out(instance, action, journal.patience) {
            return Err(undo(instance, record, &begun, &tell(action), error, journal));
        }
    }
    let observed = instance.observe()?;
    let ended = begun.end(&observed);
    (journal.store)(&ended)?;
    Ok(Applied { record: ended, step_count: actions.len(), observed })
}

/// Puts back what a transaction that never ended had written. Returns the record after it.
pub fn recover(instance: &mut Instance, record: &Record, journal: &mut Journal<'_>) -> Result<Record, LimitError> {
    let Some(pending) = &record.pending else { return Ok(record.clone()) };
    put_back(instance, pending, journal.patience)?;
    let recovered = record.end(&instance.observe()?);
    (journal.store)(&recovered)?;
    Ok(recovered)
}

fn undo(
    instance: &mut Instance,
    before: &Record,
    begun: &Record,
    step: &str,
    error: LimitError,
    journal: &mut Journal<'_>,
) -> LimitError {
    let pending = begun.pending.as_ref().expect("a transaction that was begun says what it touches");
    let step = step.to_owned();
    let undone = put_back(instance, pending, journal.patience).and_then(|()| (journal.store)(before));
    match undone {
        Ok(()) => LimitError::Step { step, source: Box::new(error) },
        Err(source) => LimitError::Stuck { step, why: crate::host::error_chain(&error), source: Box::new(source) },
    }
}

/// Goes the safe way back; every knob is tried, also after one that fails.
fn put_back(instance: &mut Instance, before: &Knobs, patience: Patience) -> Result<(), LimitError> {
    let observed = instance.observe()?;
    let mut target = before.clone();
    target.retain(|knob, _| observed.contains_key(knob));
    let mut outcome = Ok(());
    for action in plan(&observed, &target) {
        let done = carry_out(instance, &action, patience);
        outcome = outcome.and(done);
    }
    outcome
}

fn carry_out(instance: &mut Instance, action: &Action, patience: Patience) -> Result<(), LimitError> {
    match action {
        Action::Write { knob, value } => instance.write(knob, value),
        Action::Fit { bytes } => wait_until_fit(instance, *bytes, patience),
        Action::Endure => endure(instance, patience),
    }
}

/// Waits until for a while all that is in use fits. `memory.high` is so far below the maximum that who needs more than that is
/// held between the two for seconds, where a look finds him. The last look comes last: after it the maximum is written.
fn wait_until_fit(instance: &mut Instance, bytes: u64, patience: Patience) -> Result<(), LimitError> {
    let start = Instant::now();
    // Since when it fits, and how far its processes were then.
    let mut calm = (start, instance.progress());
    loop {
        let is_over = patience.is_over(instance, calm.1, calm.0.elapsed())?;
        let used = instance.memory()?.used_bytes;
        if used > bytes {
            calm = (Instant::now(), instance.progress());
        } else if is_over {
            return Ok(());
        }
        if calm.0.duration_since(start) > patience.shrink {
            return Err(LimitError::DoesNotFit { used, wanted: bytes, waited_ms: start.elapsed().as_millis() });
        }
        std::thread::sleep(LOOK_TIME);
    }
}

/// Nobody is killed meanwhile: who asks for more than there is waits, and that shows. The last look comes last: after it
/// killing is switched on.
fn endure(instance: &mut Instance, patience: Patience) -> Result<(), LimitError> {
    let (start, before) = (Instant::now(), instance.progress());
    loop {
        let is_over = patience.is_over(instance, before, start.elapsed())?;
        let now = instance.memory()?;
        if now.has_waiting {
            return Err(LimitError::AsksForMore { wanted: now.used_bytes });
        }
        if is_over {
            return Ok(());
        }
        std::thread::sleep(LOOK_TIME);
    }
}

fn tell(action: &Action) -> String {
    match action {
        Action::Write { knob, value } => format!("{knob} = {value}"),
        Action::Fit { bytes } => format!("memory fits into {bytes} bytes"),
        Action::Endure => "nobody asks for more memory".to_owned(),
    }
}

#[cfg(test)]
mod tests;
