//! The kernel parameters of one system: what a persona wants of them, made true in one transaction, and put back.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use persona_core::limit::{InstanceKind, Knob, Knobs, Record};
use persona_core::security::is_final;
use persona_core::wire::security::{SecuritySettings, SettingReport, SettingState};

use super::parameters::{Parameters, Place};
use crate::host::error_chain;
use crate::limits::{Instance, Journal, LimitError, Patience, apply, recover};

/// What failed is tried again after this time, or when something else is wanted.
const RETRY_TIME: Duration = Duration::from_secs(60);

/// The parameters of a system, and where what was done to them is recorded.
#[derive(Debug)]
pub(crate) struct Settings {
    record: PathBuf,
    may_change: bool,
    failed: Option<(SecuritySettings, Instant, String)>,
}

/// What a turn has come to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Every parameter that is wanted; where none is, those that could not be put back.
    pub(crate) settings: Vec<SettingReport>,
    /// What failed.
    pub(crate) reason: Option<String>,
}

impl Settings {
    /// Nothing is looked at yet. Without `may_change`, nothing is ever written.
    pub(crate) fn new(record: PathBuf, may_change: bool) -> Self {
        Self { record, may_change, failed: None }
    }

    /// Makes true what is wanted; nothing wanted: puts everything back. A record of another system is worth nothing.
    pub(crate) fn turn(&mut self, place: &Place, identity: &str, wanted: &SecuritySettings) -> Outcome {
        self.try_turn(place, identity, wanted).unwrap_or_else(|error| {
            let reason = error_chain(&error);
            let settings = wanted
                .sysctl
                .iter()
                .map(|(name, value)| report(name, value, None, SettingState::Failed, Some(reason.clone())));
            Outcome { settings: settings.collect(), reason: Some(reason.clone()) }
        })
    }

    fn try_turn(&mut self, place: &Place, identity: &str, wanted: &SecuritySettings) -> Result<Outcome, LimitError> {
        let mut record = self
            .load()?
            .filter(|record| record.identity == identity)
            .unwrap_or_else(|| Record::of(identity.to_owned()));
        let names = |record: &Record| -> BTreeSet<String> {
            let touched = record.baseline.keys().map(|knob| knob.as_str().to_owned());
            wanted.sysctl.keys().cloned().chain(touched).collect()
        };
        let at = |names| Ok::<_, LimitError>(Parameters::new(place.try_clone()?, identity.to_owned(), names));
        let all = at(names(&record))?;
        let targets = targets(wanted, &record);
        let stuck = stuck(&all, &targets)?;
        let moved = names(&record).into_iter().filter(|name| !stuck.contains(name)).collect();
        let mut instance = Instance::new(InstanceKind::Guest, vec![Box::new(at(moved)?)]);
        let path = self.record.clone();
        let mut store = |record: &Record| store(&path, record);
        let mut journal = Journal { store: &mut store, patience: Patience::default() };
        if record.pending.is_some() {
            record = recover(&mut instance, &record, &mut journal)?;
        }
        let observed = instance.observe()?;
        let mut knobs: Knobs = wanted.sysctl.iter().map(|(name, value)| (Knob::new(name), value.clone())).collect();
        knobs.retain(|knob, _| observed.contains_key(knob) && !all.is_fixed(knob.as_str()));
        let is_waiting = self.failed.as_ref().is_some_and(|(what, at, _)| what == wanted && at.elapsed() < RETRY_TIME);
        let mut reason = self.failed.as_ref().filter(|_| is_waiting).map(|(_, _, reason)| reason.clone());
        if self.may_change && !is_waiting {
            match apply(&mut instance, &record, observed, &knobs, &mut journal) {
                Ok(applied) => {
                    (record, self.failed) = (applied.record, None);
                    self.forget_if_done(wanted, &record, &stuck)?;
                }
                Err(error) => {
                    let why = error_chain(&error);
                    self.failed = Some((wanted.clone(), Instant::now(), why.clone()));
                    reason = Some(why);
                }
            }
        }
        let settings: Vec<Result<SettingReport, LimitError>> = match wanted.sysctl.is_empty() {
            false => {
                wanted.sysctl.iter().map(|(name, value)| self.judge(&all, name, value, reason.as_deref())).collect()
            }
            true => stuck.iter().map(|name| left_behind(&all, name, &record)).collect(),
        };
        Ok(Outcome { settings: settings.into_iter().collect::<Result<_, _>>()?, reason })
    }

    fn judge(
        &self,
        all: &Parameters,
        name: &str,
        wanted: &str,
        failure: Option<&str>,
    ) -> Result<SettingReport, LimitError> {
        let actual = all.value(name)?;
        let (state, reason) = match &actual {
            Some(actual) if actual == wanted => (SettingState::InForce, None),
            None => (SettingState::Unsupported, Some("its kernel has no such parameter".to_owned())),
            Some(actual) if is_final(name, actual) => {
                (SettingState::NeedsRestart, Some(format!("the kernel keeps {actual} until it boots")))
            }
            Some(_) if all.is_fixed(name) => (
                SettingState::NeedsRestart,
                Some("the kernel sets it when it boots, and lets nobody write it".to_owned()),
            ),
            Some(_) if !self.may_change => (
                SettingState::Unsupported,
                Some("its own configuration permits no changes: security = \"apply\"".to_owned()),
            ),
            Some(_) => (SettingState::Failed, failure.map(str::to_owned)),
        };
        Ok(report(name, wanted, actual, state, reason))
    }

    /// When everything is as before the first persona, there is nothing to remember.
    fn forget_if_done(
        &self,
        wanted: &SecuritySettings,
        record: &Record,
        stuck: &BTreeSet<String>,
    ) -> Result<(), LimitError> {
        if !wanted.sysctl.is_empty() || !stuck.is_empty() || record.written != record.baseline {
            return Ok(());
        }
        match std::fs::remove_file(&self.record) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(LimitError::Record { path: self.record.clone(), verb: "removed", source: error })
            }
            _ => Ok(()),
        }
    }

    fn load(&self) -> Result<Option<Record>, LimitError> {
        let failed = |source| LimitError::Record { path: self.record.clone(), verb: "read", source };
        match std::fs::read(&self.record) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| failed(error.into())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }
}

impl Place {
    fn try_clone(&self) -> Result<Self, LimitError> {
        Ok(match self {
            Self::Folder(folder) => Self::Folder(folder.clone()),
            Self::Namespace(file) => Self::Namespace(
                file.try_clone().map_err(|source| LimitError::Read { path: "/proc/sys/net".into(), source })?,
            ),
        })
    }
}

/// What every touched or wanted parameter shall be.
fn targets(wanted: &SecuritySettings, record: &Record) -> Knobs {
    record.target(&wanted.sysctl.iter().map(|(name, value)| (Knob::new(name), value.clone())).collect())
}

/// Parameters that shall be another value than the one that the kernel keeps until it boots.
fn stuck(all: &Parameters, targets: &Knobs) -> Result<BTreeSet<String>, LimitError> {
    let mut stuck = BTreeSet::new();
    for (knob, target) in targets {
        let name = knob.as_str();
        if all.value(name)?.is_some_and(|now| now != *target && is_final(name, &now)) {
            stuck.insert(name.to_owned());
        }
    }
    Ok(stuck)
}

fn left_behind(all: &Parameters, name: &str, record: &Record) -> Result<SettingReport, LimitError> {
    let wanted = record.baseline.get(&Knob::new(name)).cloned().unwrap_or_default();
    let reason = Some("the kernel keeps it until it boots".to_owned());
    Ok(report(name, &wanted, all.value(name)?, SettingState::NeedsRestart, reason))
}

fn report(
    name: &str,
    wanted: &str,
    actual: Option<String>,
    state: SettingState,
    reason: Option<String>,
) -> SettingReport {
    SettingReport { setting: format!("sysctl.{name}"), wanted: wanted.to_owned(), actual, state, reason }
}

/// Replaces the record, whole or not at all. It must outlive the process, not the machine: a boot makes every parameter anew.
fn store(path: &std::path::Path, record: &Record) -> Result<(), LimitError> {
    let write = || {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let new = path.with_extension("new");
        serde_json::to_writer(File::create(&new)?, record)?;
        std::fs::rename(&new, path)
    };
    write().map_err(|source| LimitError::Record { path: path.to_owned(), verb: "written", source })
}

#[cfg(test)]
mod tests;
