//! The limits of one workload: each turn looks, tells what others changed, and closes the gap.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use persona_core::ids::WorkloadName;
use persona_core::limit::{Foreign, Knob, Knobs, Record, Surroundings, Wanted, actual, translate};
use persona_core::wire::limits::{LimitReport, LimitState, SubjectResources};

use super::backend::Instance;
use super::config::{Drift, InstanceConfig, LimitsConfig};
use super::error::LimitError;
use super::find::find;
use super::record_file::{Kept, Records};
use super::transaction::{Applied, Journal, apply, recover};
use super::watch::{Watch, Watched};
use super::whereabouts::Whereabouts;
use crate::host::error_chain;

/// What failed is tried again after this time, or when something else is wanted: shrinking memory costs the instance speed.
const RETRY_TIME: Duration = Duration::from_secs(30);

/// Groups that nobody writes to are looked at this often all the same.
const LOOK_INTERVAL: Duration = Duration::from_secs(30);

/// Bytes of a page on every architecture that is supported.
const PAGE_BYTES: u64 = 4_096;

/// What is wanted of a workload's limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// Not known yet: limits stay as they are; only what a dead process left half done is put back.
    Unknown,
    /// None: everything goes back to what was there before the first persona.
    Nothing,
    /// A persona's.
    Wears(SubjectResources),
}

/// Something to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// A dotted name.
    pub event: &'static str,
    /// For people.
    pub message: String,
}

/// What every workload's limits share.
#[derive(Debug, Clone)]
pub struct Common {
    /// How limits are kept.
    pub config: LimitsConfig,
    /// Where records are kept.
    pub records: Records,
    watch: Watch,
}

impl Common {
    /// Limits kept so, with records there.
    pub fn new(config: LimitsConfig, records: Records) -> Self {
        Self { config, records, watch: Watch::default() }
    }

    /// Takes in what was written to groups of all workloads, for [`Limited::is_settled`].
    pub(super) fn read_writes(&self) {
        self.watch.read();
    }
}

/// One workload's limits.
pub struct Limited {
    name: WorkloadName,
    /// None: the configuration names no instance (any more).
    instance: Option<InstanceConfig>,
    common: Arc<Common>,
    open: Option<Open>,
    /// When there was last found to be nothing to do for a workload without an instance in hand that wears no limits.
    resting: Option<Instant>,
    failed: Option<Failure>,
    told: Vec<Told>,
}

/// An instance in hand.
struct Open {
    instance: Instance,
    kept: Kept,
    note: Option<String>,
    applied: Option<Wish>,
    /// None: it has to be looked at to know what others change.
    watched: Option<Watched>,
    /// When everything was last found as it shall be, and what all knobs were then.
    settled: Option<(Instant, Digest)>,
}

/// What knobs and their values come to, in whatever order they are shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Digest(u64);

impl Digest {
    fn add(&mut self, knob: &Knob, value: &str) {
        let mut hasher = DefaultHasher::new();
        (knob.as_str(), value).hash(&mut hasher);
        self.0 = self.0.wrapping_add(hasher.finish());
    }

    fn of(knobs: &Knobs) -> Self {
        let mut digest = Self::default();
        knobs.iter().for_each(|(knob, value)| digest.add(knob, value));
        digest
    }
}

struct Failure {
    wish: Wish,
    at: Instant,
    reason: String,
}

impl Limited {
    /// The limits of a workload; nothing is looked at yet.
    pub fn new(name: WorkloadName, instance: Option<InstanceConfig>, common: Arc<Common>) -> Self {
        Self { name, instance, common, open: None, resting: None, failed: None, told: Vec::new() }
    }

    /// What happened since this was last asked.
    pub fn take_told(&mut self) -> Vec<Told> {
        std::mem::take(&mut self.told)
    }

    /// Whether a turn would find everything as the last one did: that was right, and nobody has written since, as far as that was
    /// [read](Common::read_writes), which takes a look at a folder. Where somebody has, and now and then all the same, every file is
    /// read, and nothing of it is kept.
    pub(super) fn is_settled(&mut self, wish: &Wish) -> bool {
        let Some(open) = &mut self.open else {
            return *wish == Wish::Nothing && self.resting.is_some_and(|at| at.elapsed() < LOOK_INTERVAL);
        };
        let (Some(watched), Some((at, digest))) = (&mut open.watched, open.settled) else { return false };
        if self.failed.is_some() || open.applied.as_ref() != Some(wish) {
            return false;
        }
        if at.elapsed() < LOOK_INTERVAL && !watched.take_known() {
            return true;
        }
        // Before the look: what is written meanwhile is for the next one.
        watched.take();
        let is_same = open.instance.identity().is_ok_and(|identity| identity == open.kept.record.identity)
            && is_as(&mut open.instance, &open.kept.record.written, digest);
        open.settled = is_same.then(|| (Instant::now(), digest));
        is_same
    }

    /// Looks, and makes true what is wanted. Blocks for as long as memory takes to shrink.
    pub fn turn(&mut self, wish: &Wish) -> LimitReport {
        let mut report = LimitReport::unlimited(self.name.clone());
        if let Wish::Wears(SubjectResources { persona, version, limits }) = wish {
            report.persona = Some(format!("{persona}@{version}"));
            report.wanted = limits.clone();
        }
        if let Err(error) = self.try_turn(wish, &mut report) {
            let reason = error_chain(&error);
            self.open = None;
            report.state = LimitState::Failed;
            self.note_failure(wish, &reason);
            report.reason = Some(reason);
        }
        report
    }

    fn try_turn(&mut self, wish: &Wish, report: &mut LimitReport) -> Result<(), LimitError> {
        let Some(mut open) = self.open(wish)? else {
            self.resting = Some(Instant::now());
            return Ok(());
        };
        let outcome = self.turn_open(&mut open, wish, report);
        self.open = Some(open);
        outcome
    }

    fn turn_open(&mut self, open: &mut Open, wish: &Wish, report: &mut LimitReport) -> Result<(), LimitError> {
        open.settled = None;
        if let Some(watched) = &mut open.watched {
            // Before the look: what is written meanwhile is for the next turn.
            watched.take();
        }
        self.recover(open)?;
        let observed = open.instance.observe()?;
        let foreign = open.kept.record.foreign(&observed);
        let wanted = wanted_of(wish, open, &observed);
        report.backends = open.instance.names();
        report.unsupported = unsupported(&wanted, open);
        let is_left = self.common.config.drift == Drift::Report && open.applied.as_ref() == Some(wish);
        if !foreign.is_empty() && *wish != Wish::Unknown {
            self.tell_foreign(&foreign, is_left);
        }
        let is_settled = foreign.is_empty() && self.failed.is_none() && open.applied.as_ref() == Some(wish);
        if is_settled {
            if let Wish::Wears(_) = wish {
                report.state = in_force(report);
            }
            report.actual = actual(&observed, open.instance.kind);
            open.settled = Some((Instant::now(), Digest::of(&observed)));
            return Ok(());
        }
        if let Some(failure) = self.failed.as_ref().filter(|it| it.wish == *wish && it.at.elapsed() < RETRY_TIME) {
            report.state = LimitState::Failed;
            report.reason = Some(failure.reason.clone());
            report.actual = actual(&observed, open.instance.kind);
            // What was in force before is kept in force.
            let written = open.kept.record.written.clone();
            return self.close_gap(open, observed, &written).map(drop);
        }
        let after = match wish {
            Wish::Unknown => observed,
            _ if is_left && !foreign.is_empty() => {
                report.reason = Some(foreign.iter().map(tell_one).collect::<Vec<_>>().join("; "));
                report.state = LimitState::Changed;
                observed
            }
            Wish::Nothing => {
                let after = self.put_back(open, observed)?;
                open.applied = Some(Wish::Nothing);
                open.settled = Some((Instant::now(), Digest::of(&after)));
                after
            }
            Wish::Wears(worn) => {
                let (count, after) = self.close_gap(open, observed, &wanted.knobs)?;
                if open.applied.as_ref() != Some(wish) && count > 0 {
                    let message = format!(
                        "limits of {}@{} are in force, read back, in {count} steps",
                        worn.persona, worn.version
                    );
                    self.tell("limits.applied", message);
                }
                open.applied = Some(wish.clone());
                open.settled = Some((Instant::now(), Digest::of(&after)));
                report.state = in_force(report);
                after
            }
        };
        self.failed = None;
        report.actual = actual(&after, open.instance.kind);
        Ok(())
    }

    /// The instance, as long as it is the same; else what the record says, if that one still is; else as configured.
    fn open(&mut self, wish: &Wish) -> Result<Option<Open>, LimitError> {
        if let Some(mut open) = self.open.take()
            && open.instance.identity().is_ok_and(|identity| identity == open.kept.record.identity)
        {
            return Ok(Some(open));
        }
        let kept = self.common.records.load(&self.name)?;
        if let Some(kept) = kept {
            // Watched before it is known which instance it is: what becomes of that one is seen.
            let watched = self.watch(&kept.whereabouts);
            let mut instance = kept.whereabouts.open(self.common.config.patience());
            match instance.identity() {
                Ok(identity) if identity == kept.record.identity => {
                    let open = Open { instance, kept, note: None, applied: None, watched, settled: None };
                    return self.take_up(open, wish).map(Some);
                }
                // What cannot be asked just now may be the same as ever: its record is kept.
                Err(error) if !error.is_gone() => return Err(error),
                _ => {}
            }
            // The instance that it was about is gone, and with it what there was to put back.
            self.common.records.remove(&self.name)?;
        }
        match (&self.instance, wish) {
            (Some(config), Wish::Wears(_)) => {
                let found = find(config, &self.common.config)?;
                self.adopt(found.whereabouts, found.note).map(Some)
            }
            (None, Wish::Wears(worn)) => Err(LimitError::NoInstance {
                what: format!("persona {} has limits, and the configuration names no instance", worn.persona),
                advice: "set unit, cgroup, limit_cgroup, container, oci_state or qmp of the workload".to_owned(),
            }),
            _ => Ok(None),
        }
    }

    /// Goes on with a recorded instance, unless the configuration names another one by now: then the old one goes back.
    fn take_up(&mut self, mut open: Open, wish: &Wish) -> Result<Open, LimitError> {
        let (Some(config), Wish::Wears(_)) = (&self.instance, wish) else { return Ok(open) };
        match find(config, &self.common.config) {
            Ok(found) if found.whereabouts != open.kept.whereabouts => {
                self.recover(&mut open)?;
                let observed = open.instance.observe()?;
                self.put_back(&mut open, observed)?;
                self.adopt(found.whereabouts, found.note)
            }
            Ok(found) => Ok(Open { note: found.note, ..open }),
            // A runtime that does not answer is not needed for what is known.
            Err(_) => Ok(open),
        }
    }

    fn adopt(&self, whereabouts: Whereabouts, note: Option<String>) -> Result<Open, LimitError> {
        let watched = self.watch(&whereabouts);
        let mut instance = whereabouts.open(self.common.config.patience());
        let record = Record::of(instance.identity()?);
        Ok(Open { instance, kept: Kept { whereabouts, record }, note, applied: None, watched, settled: None })
    }

    /// A monitor tells nobody what was asked of it, and a unit that is started again has another group.
    fn watch(&self, whereabouts: &Whereabouts) -> Option<Watched> {
        let folders: BTreeSet<&Path> = whereabouts.places.iter().map(|place| place.folder.as_path()).collect();
        let watched = || self.common.watch.groups(folders.into_iter());
        (whereabouts.monitor.is_none() && whereabouts.unit.is_none()).then(watched)?
    }

    fn recover(&mut self, open: &mut Open) -> Result<(), LimitError> {
        if open.kept.record.pending.is_none() {
            return Ok(());
        }
        let record = self.with_journal(open, recover)?;
        open.kept.record = record;
        self.tell(
            "limits.recovered",
            "an earlier process ended while it wrote limits: what it had begun is put back".to_owned(),
        );
        Ok(())
    }

    /// Returns how many steps that took, and every knob after it.
    fn close_gap(&mut self, open: &mut Open, observed: Knobs, wanted: &Knobs) -> Result<(usize, Knobs), LimitError> {
        let Applied { record, step_count, observed } =
            self.with_journal(open, |instance, record, journal| apply(instance, record, observed, wanted, journal))?;
        open.kept.record = record;
        Ok((step_count, observed))
    }

    /// Returns every knob after it.
    fn put_back(&mut self, open: &mut Open, observed: Knobs) -> Result<Knobs, LimitError> {
        if open.kept.record.baseline.is_empty() {
            self.common.records.remove(&self.name)?;
            return Ok(observed);
        }
        let (_, after) = self.close_gap(open, observed, &Knobs::new())?;
        self.common.records.remove(&self.name)?;
        open.kept.record = Record::of(open.kept.record.identity.clone());
        open.applied = None;
        self.tell("limits.reverted", "limits are as they were before the first persona".to_owned());
        Ok(after)
    }

    fn with_journal<T>(
        &self,
        open: &mut Open,
        run: impl FnOnce(&mut Instance, &Record, &mut Journal<'_>) -> Result<T, LimitError>,
    ) -> Result<T, LimitError> {
        let Open { instance, kept, .. } = open;
        let whereabouts = kept.whereabouts.clone();
        let mut store = |record: &Record| {
            let kept = Kept { whereabouts: whereabouts.clone(), record: record.clone() };
            self.common.records.store(&self.name, &kept)
        };
        run(instance, &kept.record, &mut Journal { store: &mut store, patience: self.common.config.patience() })
    }

    fn tell_foreign(&mut self, foreign: &[Foreign], is_left: bool) {
        let what = foreign.iter().map(tell_one).collect::<Vec<_>>().join("; ");
        let what = if is_left { format!("{what}; it is left so") } else { format!("{what}; it is put back") };
        self.tell("limits.changed-by-others", what);
    }

    fn note_failure(&mut self, wish: &Wish, reason: &str) {
        let is_known = self.failed.as_ref().is_some_and(|it| it.wish == *wish && it.reason == reason);
        if !is_known {
            self.tell("limits.failed", reason.to_owned());
        }
        let is_waiting = self.failed.as_ref().is_some_and(|it| it.wish == *wish && it.at.elapsed() < RETRY_TIME);
        if !is_waiting {
            self.failed = Some(Failure { wish: wish.clone(), at: Instant::now(), reason: reason.to_owned() });
        }
    }

    /// The same sentence every second would drown all others.
    fn tell(&mut self, event: &'static str, message: String) {
        let told = Told { event, message };
        if self.told.last() != Some(&told) {
            self.told.push(told);
        }
    }
}

/// What limits are that nothing is wrong with.
fn in_force(report: &LimitReport) -> LimitState {
    if report.unsupported.is_empty() { LimitState::InForce } else { LimitState::Partly }
}

fn wanted_of(wish: &Wish, open: &Open, observed: &Knobs) -> Wanted {
    let Wish::Wears(worn) = wish else { return Wanted::default() };
    let base = open.kept.record.base(observed);
    translate(&worn.limits, &Surroundings { kind: open.instance.kind, base: &base, page_bytes: PAGE_BYTES })
}

fn unsupported(wanted: &Wanted, open: &Open) -> std::collections::BTreeMap<String, String> {
    let with_note = |(field, why): (&String, &String)| match &open.note {
        Some(note) if field.starts_with("cpu.") => (field.clone(), note.clone()),
        _ => (field.clone(), why.clone()),
    };
    wanted.unsupported.iter().map(with_note).collect()
}

/// Whether every knob that was written has what was written, and all there are have what they had when they came to this digest.
fn is_as(instance: &mut Instance, written: &Knobs, digest: Digest) -> bool {
    let (mut found, mut written_count, mut is_same) = (Digest::default(), 0, true);
    let shown = instance.show(&mut |knob, value| {
        found.add(knob, value);
        if let Some(written) = written.get(knob) {
            written_count += 1;
            is_same &= written == value;
        }
    });
    shown.is_ok() && is_same && written_count == written.len() && found == digest
}

fn tell_one(foreign: &Foreign) -> String {
    let Foreign { knob, written, found } = foreign;
    format!("somebody else changed {knob} from {written} to {}", found.as_deref().unwrap_or("nothing"))
}

#[cfg(test)]
mod tests;
