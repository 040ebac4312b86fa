//! What is done inside for what the host wants: settings and packages, each at its own pace in a thread that may block.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use persona_core::ids::Generation;
use persona_core::security::{judge, state_of};
use persona_core::wire::guest::{GuestSecurity, GuestSoftware, GuestWant};
use persona_core::wire::security::{SecurityState, SubjectSecurity};
use persona_core::wire::software::{SoftwareState, SubjectSoftware};
use tokio::sync::{Notify, watch};

use super::config::{GuestConfig, SecurityPolicy, SoftwarePolicy};
use super::packages::Installer;
use crate::limits::boot_id;
use crate::security::{Outcome, Place, Settings, look};

/// Settings that others change are put right within this time.
const SETTINGS_INTERVAL: Duration = Duration::from_secs(5);

/// Packages that others change likewise.
const PACKAGES_INTERVAL: Duration = Duration::from_secs(30);

/// Where kernel parameters are.
const SYSCTL_ROOT: &str = "/proc/sys";

/// What the host wants. None: it has not said yet.
pub(super) type Wanted = watch::Receiver<Option<Arc<GuestWant>>>;

/// What has become of it; all copies are one.
#[derive(Debug, Clone, Default)]
pub(super) struct Standing(Arc<(Mutex<Parts>, Notify)>);

/// How each part stands, and in which generation that was made true.
#[derive(Debug, Clone, Default)]
pub(super) struct Parts {
    pub(super) security: (Generation, Option<GuestSecurity>),
    pub(super) software: (Generation, Option<GuestSoftware>),
}

impl Standing {
    /// How everything stands.
    pub(super) fn parts(&self) -> Parts {
        self.lock().clone()
    }

    /// Waits until something stands in another way.
    pub(super) async fn changed(&self) {
        self.0.1.notified().await;
    }

    fn post(&self, change: impl FnOnce(&mut Parts)) {
        change(&mut self.lock());
        self.0.1.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Parts> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps the settings as they are wanted, for good.
pub(super) async fn keep_settings(config: GuestConfig, mut wanted: Wanted, standing: Standing) {
    let may_change = config.security == SecurityPolicy::Apply;
    let mut settings = Settings::new(config.state_dir.join("settings.json"), may_change);
    loop {
        let want = wanted.borrow_and_update().clone();
        if let Some(want) = want {
            let done = tokio::task::spawn_blocking(move || {
                let outcome = turn_settings(&mut settings, want.security.as_ref());
                (settings, outcome, want.generation)
            });
            let (same, outcome, generation) = match done.await {
                Ok(done) => done,
                Err(error) => return tracing::error!(%error, "settings are no longer kept until the next start"),
            };
            settings = same;
            standing.post(|parts| parts.security = (generation, outcome));
        }
        tokio::select! {
            () = tokio::time::sleep(SETTINGS_INTERVAL) => {}
            changed = wanted.changed() => if changed.is_err() { return },
        }
    }
}

fn turn_settings(settings: &mut Settings, worn: Option<&SubjectSecurity>) -> Option<GuestSecurity> {
    let wanted = worn.map(|worn| worn.settings.clone()).unwrap_or_default();
    let place = Place::Folder(PathBuf::from(SYSCTL_ROOT));
    let Outcome { settings: mut all, reason } = settings.turn(&place, &boot_id(), &wanted);
    let persona = worn.map(|worn| format!("{}@{}", worn.persona, worn.version));
    if persona.is_none() && all.is_empty() && reason.is_none() {
        return None;
    }
    match look(Path::new("/proc"), 1) {
        Ok(seen) => all.extend(judge(&wanted, &seen)),
        Err(why) => {
            return Some(GuestSecurity { persona, state: SecurityState::Unknown, reason: Some(why), settings: all });
        }
    }
    Some(GuestSecurity { persona, state: state_of(&all), reason, settings: all })
}

/// Keeps the packages as they are wanted, for good.
pub(super) async fn keep_packages(config: GuestConfig, mut wanted: Wanted, standing: Standing) {
    let may_install = config.software == SoftwarePolicy::Install;
    let mut installer = Installer::here(&config.state_dir, may_install);
    loop {
        let want = wanted.borrow_and_update().clone();
        if let Some(want) = want {
            let (generation, posting) = (want.generation, standing.clone());
            let done = tokio::task::spawn_blocking(move || {
                let outcome = turn_packages(&mut installer, want.software.as_ref(), |now| {
                    posting.post(|parts| parts.software.1 = now);
                });
                (installer, outcome)
            });
            let (same, outcome) = match done.await {
                Ok(done) => done,
                Err(error) => return tracing::error!(%error, "packages are no longer kept until the next start"),
            };
            installer = same;
            standing.post(|parts| parts.software = (generation, outcome));
        }
        tokio::select! {
            () = tokio::time::sleep(PACKAGES_INTERVAL) => {}
            changed = wanted.changed() => if changed.is_err() { return },
        }
    }
}

fn turn_packages(
    installer: &mut Result<Installer, String>,
    worn: Option<&SubjectSoftware>,
    under_way: impl FnOnce(Option<GuestSoftware>),
) -> Option<GuestSoftware> {
    let persona = worn.map(|worn| format!("{}@{}", worn.persona, worn.version));
    match installer {
        Ok(installer) => {
            if installer.is_due(worn) {
                let reason = Some("the package manager is at it".to_owned());
                let now = GuestSoftware { persona, state: SoftwareState::Drifted, reason, packages: Vec::new() };
                under_way(worn.map(|_| now));
            }
            installer.turn(worn)
        }
        Err(why) => worn.map(|_| GuestSoftware {
            persona,
            state: SoftwareState::Unknown,
            reason: Some(why.clone()),
            packages: Vec::new(),
        }),
    }
}
