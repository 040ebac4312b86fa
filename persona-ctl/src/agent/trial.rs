//! A generation on trial ([`persona_core::trial`]): what is kept of it on disk, so that a restart or a reboot goes on with it.
//!
//! Until it is over, `desired.json` has the generation before, which is what managers are told: they take nothing back that
//! it needs.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use persona_core::ids::{Generation, SubjectId};
use persona_core::trial::{Stage, Trial, Turn, touches};
use persona_core::wire::agent::Rejection;
use persona_core::wire::desired::{DesiredState, Frame};
use serde::{Deserialize, Serialize};

use super::advice::{is_below, own_cgroup};
use super::config::AgentConfig;
use super::workload_config::Told;
use crate::manager_link::{Heard, replace};

/// The trial of the newest generation that touches the way to the managers, if there is one.
pub(super) struct Trials {
    path: PathBuf,
    patience: Option<Duration>,
    own: BTreeSet<SubjectId>,
    kept: Option<Kept>,
    /// When this life had made true what the stage says: what was asked before says nothing of it. None: it has not yet.
    began: Option<Instant>,
    /// This life's clock: it never goes back.
    clock: (u64, Instant),
}

/// As it is on disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Kept {
    trial: Trial,
    /// The generation on trial, whole.
    state: Frame,
}

impl Trials {
    /// Goes on with what an earlier life left.
    pub(super) fn open(config: &AgentConfig) -> Self {
        let path = config.state_dir.join("trial.json");
        let kept = std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<Kept>(&bytes).ok());
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let wall_ms = since.map_or(0, |since| since.as_millis() as u64);
        let secs = config.file.rollback_after_secs.unwrap_or(ROLLBACK_AFTER_SECS);
        let patience = (secs > 0).then(|| Duration::from_secs(secs.into()));
        let (now, own) = (Instant::now(), own_subjects(config));
        let mut trials = Self { path, patience, own, kept, began: None, clock: (wall_ms, now) };
        // Who wants no rollback any more, or has left the group, is held back by nothing.
        let is_in_force = trials.kept.as_ref().is_some_and(|kept| kept.trial.is_in_force());
        if trials.patience.is_none() || trials.own.is_empty() && !is_in_force {
            trials.end();
        }
        trials
    }

    /// The state that an earlier life put on trial, if it is in force.
    pub(super) fn in_force(&self) -> Option<DesiredState> {
        let kept = self.kept.as_ref().filter(|kept| kept.trial.is_in_force())?;
        DesiredState::default().after(kept.state.clone()).ok()
    }

    /// Whether a generation is on trial, in force or put back: managers are told the one before.
    pub(super) fn is_running(&self) -> bool {
        self.kept.as_ref().is_some_and(|kept| kept.trial.stage != Stage::Condemned)
    }

    /// Whether a state is what was put back or condemned, and is not to be applied; a later one that says the same about the
    /// way to the managers is too.
    pub(super) fn holds_back(&self, state: &DesiredState) -> bool {
        let Some(kept) = self.kept.as_ref().filter(|kept| !kept.trial.is_in_force()) else { return false };
        let tried = DesiredState::default().after(kept.state.clone()).unwrap_or_default();
        kept.trial.generation == state.generation || touches(&tried, state, &self.own).is_none()
    }

    /// What is told of a generation that was condemned, or of a later one like it.
    pub(super) fn rejection(&self, newest: Generation) -> Option<Rejection> {
        let trial = &self.kept.as_ref()?.trial;
        let secs = self.patience.map_or(0, |patience| patience.as_secs());
        let reason = format!(
            "no manager answered for {secs} s after {} had changed, and one did once the generation before was back: let the host's own way to the managers pass by the persona (bypass), then apply again",
            trial.touches
        );
        let generation = trial.generation.max(newest);
        (trial.stage == Stage::Condemned).then_some(Rejection { generation, reason })
    }

    /// Puts a state on trial before it is applied, if it touches the way to the managers, or if the one before it has not
    /// stood its trial yet. Returns whether it did.
    pub(super) fn arm(&mut self, before: &DesiredState, next: &DesiredState) -> bool {
        if self.patience.is_none() {
            return false;
        }
        let pending = self.kept.as_ref().filter(|kept| kept.trial.is_in_force()).map(|kept| kept.trial.touches.clone());
        let Some(what) = touches(before, next, &self.own).or(pending) else { return false };
        tracing::info!(generation = %next.generation, touches = what, "a generation is on trial until a manager answers");
        let again = self.kept.as_ref().filter(|kept| kept.trial.stage != Stage::Condemned);
        let count = again.map_or(1, |kept| kept.trial.count);
        let trial = Trial { count, ..Trial::begin(next.generation, what, self.now_ms()) };
        self.keep(Some(Kept { trial, state: next.to_snapshot() }));
        true
    }

    /// What shall be in force is so: what is asked from now on says something of it.
    pub(super) fn start(&mut self) {
        self.began.get_or_insert_with(Instant::now);
    }

    /// The trial is over, or what was on it could not even be applied.
    pub(super) fn end(&mut self) {
        if self.kept.is_some() {
            self.keep(None);
        }
    }

    /// Judges by what was heard of managers. A stage that began anew is kept before anything is done about it.
    pub(super) fn turn(&mut self, heard: &Heard) -> Turn {
        let now_ms = self.now_ms();
        let (Some(kept), Some(patience)) = (&mut self.kept, self.patience) else { return Turn::Wait };
        let before = kept.trial.clone();
        let signs = self.began.map(|began| heard.since(began)).unwrap_or_default();
        let turn = kept.trial.turn(signs, patience.as_millis() as u64, now_ms);
        if kept.trial != before {
            let kept = self.kept.clone();
            self.keep(kept);
        }
        turn
    }

    fn now_ms(&self) -> u64 {
        self.clock.0 + self.clock.1.elapsed().as_millis() as u64
    }

    fn keep(&mut self, kept: Option<Kept>) {
        self.began = None;
        let outcome = match &kept {
            Some(kept) => replace(&self.path, &serde_json::to_vec(kept).expect("a trial has string keys only")),
            None => std::fs::remove_file(&self.path),
        };
        if let Err(error) = outcome
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.path.display(), %error, "the trial goes on, but a restart will not know of it");
        }
        self.kept = kept;
    }
}

/// How long managers may be silent after a generation that touches the way to them, where nobody says, seconds.
pub(super) const ROLLBACK_AFTER_SECS: u32 = 30;

/// The subjects whose control groups this process is in.
fn own_subjects(config: &AgentConfig) -> BTreeSet<SubjectId> {
    let own = own_cgroup();
    // Without a word of the kernel's, it may be in any.
    let is_within = |path: &str| own.as_ref().is_none_or(|own| is_below(path, own));
    let host = config.file.host.cgroup.iter().filter(|path| is_within(path));
    let host = host.map(|_| SubjectId::Node(config.name.clone()));
    let workloads = config.file.workload.iter().filter_map(|workload| match workload.told() {
        Told::Cgroup(path) if is_within(path) => {
            Some(SubjectId::Workload(config.name.clone(), workload.name().clone()))
        }
        _ => None,
    });
    host.chain(workloads).collect()
}

#[cfg(test)]
mod tests {
    use persona_core::ids::SubjectNumber;
    use persona_core::wire::desired::{Item, SubjectItem, SubjectQos};

    use super::*;
    use crate::agent::AgentFile;

    /// An agent in the host's group: that is the root of the tree.
    fn config(directory: &std::path::Path, patience_secs: u32) -> AgentConfig {
        let text = format!(
            "name = 'n1'\nuplink = 'eth0'\nstate_dir = {directory:?}\nrollback_after_secs = {patience_secs}\n[host]\ncgroup = '/'\n"
        );
        toml::from_str::<AgentFile>(&text).unwrap().check().unwrap()
    }

    fn state(number: u64, egress_bps: Option<u64>) -> DesiredState {
        let mut state = DesiredState { generation: Generation::new(1, number), ..DesiredState::default() };
        state.insert(Item::Subject(SubjectItem {
            subject: "node/n1".parse().unwrap(),
            number: SubjectNumber(1),
            network: None,
            qos: SubjectQos { egress_bps, ..SubjectQos::default() },
            resources: None,
            software: None,
            firewall: None,
            security: None,
            digest: String::new(),
        }));
        state
    }

    /// What a life leaves that has condemned the second state.
    fn leave_condemned(directory: &std::path::Path) {
        let mut trials = Trials::open(&config(directory, 30));
        trials.arm(&state(1, None), &state(2, Some(1)));
        trials.kept.as_mut().unwrap().trial.stage = Stage::Condemned;
        let kept = trials.kept.clone();
        trials.keep(kept);
    }

    #[test]
    fn another_life_goes_on_with_the_trial() {
        let directory = tempfile::tempdir().unwrap();
        let mut trials = Trials::open(&config(directory.path(), 30));
        assert!(!trials.arm(&state(1, None), &state(2, None)), "nothing of its own way changes");
        assert!(trials.arm(&state(1, None), &state(2, Some(1))));
        let mut again = Trials::open(&config(directory.path(), 30));
        assert_eq!((again.in_force(), again.is_running()), (Some(state(2, Some(1))), true));
        assert!(!again.holds_back(&state(2, Some(1))));
        assert!(again.arm(&state(2, Some(1)), &state(3, Some(1))), "what follows has not proved itself either");
        again.end();
        assert!(!Trials::open(&config(directory.path(), 30)).is_running());
    }

    #[test]
    fn what_is_condemned_is_held_back_by_what_it_says_of_the_way() {
        let directory = tempfile::tempdir().unwrap();
        leave_condemned(directory.path());
        let trials = Trials::open(&config(directory.path(), 30));
        assert!(!trials.is_running() && trials.in_force().is_none());
        assert!(trials.holds_back(&state(2, Some(1))) && trials.holds_back(&state(5, Some(1))));
        assert!(!trials.holds_back(&state(5, Some(9))) && !trials.holds_back(&state(5, None)));
        let rejection = trials.rejection(Generation::new(1, 5)).unwrap();
        assert_eq!(rejection.generation, Generation::new(1, 5));
        assert!(rejection.reason.contains("the rates of node/n1"), "{}", rejection.reason);
    }

    #[test]
    fn who_wants_no_rollback_has_no_trials() {
        let directory = tempfile::tempdir().unwrap();
        assert!(!Trials::open(&config(directory.path(), 0)).arm(&state(1, None), &state(2, Some(1))));
        let mistaken = toml::from_str::<AgentFile>("name = 'n1'\nuplink = 'e'\nrollback_after_secs = 3").unwrap();
        assert!(mistaken.check().unwrap_err().to_string().contains("10 or more"));
    }

    #[test]
    fn who_leaves_the_group_is_held_back_by_nothing() {
        let directory = tempfile::tempdir().unwrap();
        leave_condemned(directory.path());
        let mut outside = config(directory.path(), 30);
        outside.file.host.cgroup = None;
        assert!(!Trials::open(&outside).holds_back(&state(2, Some(1))));
        assert!(!Trials::open(&config(directory.path(), 30)).holds_back(&state(2, Some(1))), "and that is remembered");
    }
}
