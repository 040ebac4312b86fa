//! Brings packages from what is installed to what is wanted, in one transaction, and back.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use persona_core::software::{
    Change, Entry, Installed, Ledger, Packages, Was, back, compare, difference, entry_of, steps,
};
use persona_core::wire::guest::GuestSoftware;
use persona_core::wire::software::{PackageReport, SoftwareState, SubjectSoftware, WantedPackage};

use super::manager::{PackageError, PackageManager, find};
use crate::guest::journal::Journal;
use crate::host::error_chain;

/// What failed is tried again after this time, or when something else is wanted.
const RETRY_TIME: Duration = Duration::from_secs(300);

/// Installs, holds, and puts back.
pub(in crate::guest) struct Installer {
    manager: Box<dyn PackageManager>,
    journal: Journal,
    /// Where files of packages are kept that were replaced.
    kept: PathBuf,
    may_install: bool,
    failed: Option<(Vec<WantedPackage>, Instant, String)>,
}

impl Installer {
    /// An installer for this system.
    ///
    /// # Errors
    /// Its package manager is none that is known; a sentence for people.
    pub(in crate::guest) fn here(state_dir: &Path, may_install: bool) -> Result<Self, String> {
        Ok(Self::new(find(Path::new("/"))?, state_dir, may_install))
    }

    /// An installer that keeps its record below a folder. Without `may_install` it only looks.
    fn new(manager: Box<dyn PackageManager>, state_dir: &Path, may_install: bool) -> Self {
        let journal = Journal::at(state_dir.join("software.json"));
        Self { manager, journal, kept: state_dir.join("packages"), may_install, failed: None }
    }

    /// Whether a turn would change something, as far as a look tells.
    pub(in crate::guest) fn is_due(&self, worn: Option<&SubjectSoftware>) -> bool {
        let Ok(now) = self.manager.installed() else { return false };
        let ledger = self.ledger().unwrap_or_default();
        let lacks = worn.is_some_and(|worn| !self.is_as_wanted(&worn.packages, &now));
        self.may_install && (lacks || self.has_to_go_back(&ledger, worn))
    }

    /// Looks, and makes true what is wanted. None wanted: puts everything back.
    pub(in crate::guest) fn turn(&mut self, worn: Option<&SubjectSoftware>) -> Option<GuestSoftware> {
        let wanted = worn.map(|worn| worn.packages.as_slice()).unwrap_or_default();
        let is_waiting = self.failed.as_ref().is_some_and(|(what, at, _)| what == wanted && at.elapsed() < RETRY_TIME);
        let outcome = if self.may_install && !is_waiting { self.try_turn(worn) } else { Ok(()) };
        if let Err(error) = outcome {
            let why = error_chain(&error);
            tracing::warn!(why, "packages are not as they shall be");
            self.failed = Some((wanted.to_vec(), Instant::now(), why));
        } else if !is_waiting {
            self.failed = None;
        }
        self.told(worn)
    }

    fn try_turn(&mut self, worn: Option<&SubjectSoftware>) -> Result<(), PackageError> {
        let mut ledger = self.ledger()?;
        if ledger.pending.is_some() {
            tracing::warn!("an earlier process ended while packages were changed: what it had begun is put back");
            ledger = self.recover(ledger)?;
        }
        if self.has_to_go_back(&ledger, worn) {
            ledger = self.put_everything_back(ledger)?;
        }
        match worn {
            Some(worn) => self.install(ledger, &worn.packages),
            None => Ok(()),
        }
    }

    /// Whether a persona has gone whose packages this one does not want.
    fn has_to_go_back(&self, ledger: &Ledger, worn: Option<&SubjectSoftware>) -> bool {
        let is_wanted =
            |name: &String| worn.is_some_and(|worn| worn.packages.iter().any(|wanted| wanted.package == *name));
        ledger.pending.is_some()
            || !(ledger.named.iter().all(is_wanted) && (worn.is_some() || ledger.baseline.is_empty()))
    }

    fn install(&mut self, ledger: Ledger, wanted: &[WantedPackage]) -> Result<(), PackageError> {
        let now = self.manager.installed()?;
        if self.is_as_wanted(wanted, &now) {
            return Ok(());
        }
        if let Some((package, _)) = now.iter().find(|(_, entry)| entry.is_broken) {
            let what = format!("{package} is half installed: dpkg --configure --pending, and nothing is begun before");
            return Err(PackageError::NotDone { program: self.manager.name(), what });
        }
        let change = self.choose(wanted, &now)?;
        self.keep_what_goes(&change, &now)?;
        let begun = Ledger { pending: Some(now.clone()), ..ledger.clone() };
        self.store(&begun)?;
        let names: BTreeSet<String> = wanted.iter().map(|wanted| wanted.package.clone()).collect();
        let done = self.change(&change).and_then(|()| self.hold_all(wanted)).and_then(|()| {
            let after = self.manager.installed()?;
            match self.is_as_wanted(wanted, &after) {
                true => Ok(after),
                false => Err(PackageError::NotDone { program: self.manager.name(), what: lacking(wanted, &after) }),
            }
        });
        match done {
            Ok(after) => self.store(&begun.end(&after, names)),
            Err(error) => {
                self.undo(&ledger, &now)?;
                Err(error)
            }
        }
    }

    /// Versions to install; repositories are asked anew if what they offered is not enough.
    fn choose(&self, wanted: &[WantedPackage], now: &Packages) -> Result<Change, PackageError> {
        let names: Vec<&str> = wanted.iter().map(|wanted| wanted.package.as_str()).collect();
        if let Ok(change) = steps(wanted, now, &self.manager.offered(&names)?) {
            return Ok(change);
        }
        self.manager.refresh()?;
        let lack = |told| PackageError::Failed { program: self.manager.name().to_owned(), told };
        steps(wanted, now, &self.manager.offered(&names)?).map_err(lack)
    }

    /// Files of everything that a change would replace or remove, so that there is a way back; and nothing goes that nobody said.
    fn keep_what_goes(&self, change: &Change, now: &Packages) -> Result<(), PackageError> {
        if change.is_empty() {
            return Ok(());
        }
        let simulated = self.manager.simulate(change, &BTreeMap::new())?;
        let beyond: Vec<&str> = simulated.beyond(change).map(String::as_str).collect();
        if !beyond.is_empty() {
            return Err(PackageError::Removes { names: beyond.join(", ") });
        }
        // By the names that they have when they are to go back.
        for (package, entry) in simulated.changed.keys().filter_map(|name| entry_of(now, name)) {
            let (package, version) = (package.clone(), entry.version.clone());
            self.manager.fetch(&package, &version, &self.kept).map_err(|source| PackageError::NoWayBack {
                package,
                version,
                source: Box::new(source),
            })?;
        }
        Ok(())
    }

    fn change(&self, change: &Change) -> Result<(), PackageError> {
        if change.is_empty() { Ok(()) } else { self.manager.change(change, &BTreeMap::new()) }
    }

    fn hold_all(&self, wanted: &[WantedPackage]) -> Result<(), PackageError> {
        let names: Vec<&str> = wanted.iter().map(|wanted| wanted.package.as_str()).collect();
        self.manager.hold(&names, true)
    }

    /// A transaction that failed leaves nothing behind.
    fn undo(&self, before: &Ledger, then: &Packages) -> Result<(), PackageError> {
        self.mend();
        self.restore(&difference(then, &self.manager.installed()?))?;
        self.store(before)
    }

    fn recover(&self, ledger: Ledger) -> Result<Ledger, PackageError> {
        let Some(then) = &ledger.pending else { return Ok(ledger) };
        self.mend();
        self.restore(&difference(then, &self.manager.installed()?))?;
        let before = Ledger { pending: None, ..ledger };
        self.store(&before)?;
        Ok(before)
    }

    /// Finishes what can be finished; what cannot goes.
    fn mend(&self) {
        if let Err(error) = self.manager.mend() {
            tracing::warn!(error = error_chain(&error), "what was interrupted cannot be finished, and is put back");
        }
    }

    /// As before the first persona.
    fn put_everything_back(&self, ledger: Ledger) -> Result<Ledger, PackageError> {
        let now = self.manager.installed()?;
        let begun = Ledger { pending: Some(now), ..ledger.clone() };
        self.store(&begun)?;
        if let Err(error) = self.restore(&ledger.baseline) {
            // What could not go back stays as it is, and so does the record of it.
            self.store(&ledger)?;
            return Err(error);
        }
        self.journal.remove().map_err(|source| PackageError::Record { path: "software.json".into(), source })?;
        let _ = std::fs::remove_dir_all(&self.kept);
        Ok(Ledger::default())
    }

    /// Versions, holds and marks as they were.
    fn restore(&self, was: &Was) -> Result<(), PackageError> {
        let now = self.manager.installed()?;
        let change = back(&now, was);
        let files = change.install.iter().filter_map(|(package, version)| {
            Some((package.clone(), self.manager.fetch(package, version, &self.kept).ok()?))
        });
        let files: BTreeMap<String, PathBuf> = files.collect();
        if !change.is_empty() {
            let simulated = self.manager.simulate(&change, &files)?;
            let beyond: Vec<&str> = simulated.beyond(&change).map(String::as_str).collect();
            if !beyond.is_empty() {
                return Err(PackageError::Removes { names: beyond.join(", ") });
            }
            self.manager.change(&change, &files)?;
        }
        let there = was.iter().filter_map(|(name, was)| Some((name.as_str(), was.as_ref()?)));
        let named = |is: fn(&Entry) -> bool, wanted: bool| -> Vec<&str> {
            there.clone().filter(|(_, entry)| is(entry) == wanted).map(|(name, _)| name).collect()
        };
        for wanted in [true, false] {
            self.manager.hold(&named(|entry| entry.is_held, wanted), wanted)?;
            self.manager.mark(&named(|entry| entry.is_automatic, wanted), wanted)?;
        }
        let left = difference_of(was, &self.manager.installed()?);
        if left.is_empty() {
            return Ok(());
        }
        let what = format!("{} are not as they were", left.join(", "));
        Err(PackageError::NotDone { program: self.manager.name(), what })
    }

    fn is_as_wanted(&self, wanted: &[WantedPackage], now: &Packages) -> bool {
        reports(wanted, now).iter().all(|report| report.is_as_wanted && report.is_held)
    }

    fn told(&self, worn: Option<&SubjectSoftware>) -> Option<GuestSoftware> {
        let failed = self.failed.as_ref().map(|(_, _, why)| why.clone());
        let Some(worn) = worn else {
            // Nobody wants any; that something could not be put back is still worth a word.
            let reason = failed?;
            return Some(GuestSoftware {
                persona: None,
                state: SoftwareState::Failed,
                reason: Some(reason),
                packages: Vec::new(),
            });
        };
        let persona = Some(format!("{}@{}", worn.persona, worn.version));
        let (state, reason, packages) = match self.manager.installed() {
            Err(error) => (SoftwareState::Unknown, Some(error_chain(&error)), Vec::new()),
            Ok(now) => {
                let packages = reports(&worn.packages, &now);
                let state = match (packages.iter().all(|report| report.is_as_wanted), &failed) {
                    (_, Some(_)) => SoftwareState::Failed,
                    (true, None) => SoftwareState::AsWanted,
                    (false, None) => SoftwareState::Drifted,
                };
                let only_told = state == SoftwareState::Drifted && !self.may_install;
                let only_told = only_told
                    .then(|| "its own configuration permits no installation: software = \"install\"".to_owned());
                (state, failed.or(only_told), packages)
            }
        };
        Some(GuestSoftware { persona, state, reason, packages })
    }

    fn ledger(&self) -> Result<Ledger, PackageError> {
        let failed = |source| PackageError::Record { path: "software.json".into(), source };
        Ok(self.journal.load().map_err(failed)?.unwrap_or_default())
    }

    fn store(&self, ledger: &Ledger) -> Result<(), PackageError> {
        self.journal.store(ledger).map_err(|source| PackageError::Record { path: "software.json".into(), source })
    }
}

/// How each wanted package stands, and whether it is held.
fn reports(wanted: &[WantedPackage], now: &Packages) -> Vec<PackageReport> {
    let mut installed = Installed::default();
    for (name, entry) in now {
        let bare = name.split_once(':').map_or(name.as_str(), |(name, _)| name);
        installed.insert(bare, &entry.architecture, &entry.version);
    }
    let mut reports = compare(wanted, &installed);
    for report in &mut reports {
        let entry = entry_of(now, &report.package).map(|(_, entry)| entry);
        report.is_held = entry.is_some_and(|entry| entry.is_held);
        report.is_as_wanted &= entry.is_none_or(|entry| !entry.is_broken);
    }
    reports
}

fn lacking(wanted: &[WantedPackage], now: &Packages) -> String {
    let reports = reports(wanted, now);
    let lacking = reports.iter().filter(|report| !(report.is_as_wanted && report.is_held));
    let one = |report: &PackageReport| {
        format!("{} is {}", report.package, report.installed.as_deref().unwrap_or("not installed"))
    };
    lacking.map(one).collect::<Vec<_>>().join(", ")
}

/// Packages that are in another version than they were, or are there and were not.
fn difference_of(was: &Was, now: &Packages) -> Vec<String> {
    let other = was
        .iter()
        .filter(|(name, was)| now.get(*name).map(|entry| &entry.version) != was.as_ref().map(|entry| &entry.version));
    other.map(|(name, _)| name.clone()).collect()
}

#[cfg(test)]
mod tests;
