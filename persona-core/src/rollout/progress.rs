//! Where a rollout is, and what follows from what is seen: wait, move some, halt, or be done.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::gate::Fault;
use super::order::wave_count;
use super::spec::RolloutSpec;

/// What a rollout is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub enum Phase {
    /// It measures what is there before anybody is moved.
    Observing,
    /// A wave was moved and is watched.
    Soaking,
    /// Somebody told it to wait.
    Paused,
    /// Something speaks against it; it waits to be told what to do.
    Halted,
    /// Somebody gave it up: who was moved stays until it is rolled back.
    Aborted,
    /// Everybody is moved, and soaked.
    Done,
    /// Everybody has again what it had.
    RolledBack,
}

impl Phase {
    /// Its word for people and programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Observing => "observing",
            Self::Soaking => "soaking",
            Self::Paused => "paused",
            Self::Halted => "halted",
            Self::Aborted => "aborted",
            Self::Done => "done",
            Self::RolledBack => "rolledBack",
        }
    }

    /// Whether it goes on by itself.
    pub fn is_running(self) -> bool {
        matches!(self, Self::Observing | Self::Soaking)
    }

    /// Whether it is over, and holds nothing any more.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::RolledBack)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

/// Where a rollout is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// What it is at.
    pub phase: Phase,
    /// Waves that were begun.
    pub wave: u32,
    /// Why it halted, or what somebody said.
    #[serde(default)]
    pub reason: Option<String>,
}

/// What is seen of a rollout.
#[derive(Debug, Clone, Copy)]
pub struct Look<'a> {
    /// Its members.
    pub member_count: u32,
    /// Those who were moved.
    pub moved_count: u32,
    /// Of these, those whose node and edges have not put it into force yet.
    pub behind_count: u32,
    /// How long the phase lasts, seen by whoever watches without a break, milliseconds. None: nobody watches yet.
    pub watched_ms: Option<u64>,
    /// What speaks against it.
    pub faults: &'a [Fault],
}

/// What follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Wait,
    /// So many of those who come next are moved, in this wave (from 1).
    Move {
        /// How many.
        count: u32,
        /// In which wave.
        wave: u32,
    },
    /// It halts.
    Halt {
        /// Why.
        reason: String,
    },
    /// It is done.
    Finish,
}

/// What somebody may tell a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// To wait.
    Pause,
    /// To go on, also after it halted.
    Resume,
    /// To move nobody else.
    Abort,
    /// To give everybody back what it had.
    RollBack,
}

impl Command {
    /// Its word for people and programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Abort => "abort",
            Self::RollBack => "rollback",
        }
    }
}

/// A command that makes no sense now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is {} and cannot {}; what it can: {}", .phase, .command.as_str(), possible(*.phase))]
pub struct RefusedCommand {
    /// What it is at.
    pub phase: Phase,
    /// What was asked.
    pub command: Command,
}

impl Default for Progress {
    fn default() -> Self {
        Self { phase: Phase::Observing, wave: 0, reason: None }
    }
}

impl Progress {
    /// What follows from what is seen.
    pub fn step(&self, spec: &RolloutSpec, look: &Look<'_>) -> Step {
        let Some(watched_ms) = look.watched_ms else { return Step::Wait };
        match self.phase {
            Phase::Observing if watched_ms < spec.observe_ms() => Step::Wait,
            Phase::Observing => self.next_wave(spec, look),
            Phase::Soaking => self.soak(spec, look, watched_ms),
            _ => Step::Wait,
        }
    }

    fn soak(&self, spec: &RolloutSpec, look: &Look<'_>, watched_ms: u64) -> Step {
        if !look.faults.is_empty() {
            let reason = look.faults.iter().map(|fault| fault.0.as_str()).collect::<Vec<_>>().join("; ");
            return Step::Halt { reason };
        }
        let missing = self.allowed(spec, look.member_count).saturating_sub(look.moved_count);
        if missing > 0 {
            return Step::Move { count: missing, wave: self.wave };
        }
        if watched_ms < spec.soak.0 {
            return Step::Wait;
        }
        match look.behind_count {
            0 => self.next_wave(spec, look),
            _ if watched_ms < spec.settle_ms() => Step::Wait,
            behind => {
                let reason = format!(
                    "{behind} of {} who were moved do not have it in force after {} s",
                    look.moved_count,
                    watched_ms / 1_000
                );
                Step::Halt { reason }
            }
        }
    }

    /// The next wave that moves somebody; after the last it is done.
    fn next_wave(&self, spec: &RolloutSpec, look: &Look<'_>) -> Step {
        let later = spec.waves.iter().zip(1..).skip(self.wave as usize);
        let mut moving = later.map(|(share, wave)| (wave_count(*share, look.member_count), wave));
        match moving.find(|(count, _)| *count > look.moved_count) {
            Some((count, wave)) => Step::Move { count: count - look.moved_count, wave },
            None => Step::Finish,
        }
    }

    /// How many may be moved by now.
    pub fn allowed(&self, spec: &RolloutSpec, member_count: u32) -> u32 {
        let begun = (self.wave as usize).checked_sub(1).and_then(|index| spec.waves.get(index));
        begun.map_or(0, |share| wave_count(*share, member_count))
    }

    /// Where it is after a step.
    pub fn after(&self, step: &Step) -> Self {
        let here = self.clone();
        match step {
            Step::Wait => here,
            Step::Move { wave, .. } => Self { phase: Phase::Soaking, wave: *wave, reason: None },
            Step::Halt { reason } => Self { phase: Phase::Halted, reason: Some(reason.clone()), ..here },
            Step::Finish => Self { phase: Phase::Done, reason: None, ..here },
        }
    }

    /// Where it is after a command.
    pub fn told(&self, command: Command, reason: Option<String>) -> Result<Self, RefusedCommand> {
        if !may(self.phase, command) {
            return Err(RefusedCommand { phase: self.phase, command });
        }
        let phase = match command {
            Command::Pause => Phase::Paused,
            Command::Resume if self.wave == 0 => Phase::Observing,
            Command::Resume => Phase::Soaking,
            Command::Abort => Phase::Aborted,
            Command::RollBack => Phase::RolledBack,
        };
        Ok(Self { phase, wave: self.wave, reason })
    }
}

fn may(phase: Phase, command: Command) -> bool {
    match command {
        Command::Pause => phase.is_running(),
        Command::Resume => matches!(phase, Phase::Paused | Phase::Halted),
        Command::Abort => !phase.is_over() && phase != Phase::Aborted,
        Command::RollBack => !phase.is_over(),
    }
}

fn possible(phase: Phase) -> String {
    let all = [Command::Pause, Command::Resume, Command::Abort, Command::RollBack];
    let words: Vec<&str> = all.into_iter().filter(|it| may(phase, *it)).map(Command::as_str).collect();
    if words.is_empty() { "nothing, it is over".to_owned() } else { words.join(", ") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::units::Span;

    fn spec() -> RolloutSpec {
        RolloutSpec { soak: Span(1_000), ..RolloutSpec::default() }
    }

    fn look(members: u32, moved: u32, watched_ms: u64) -> Look<'static> {
        Look { member_count: members, moved_count: moved, behind_count: 0, watched_ms: Some(watched_ms), faults: &[] }
    }

    #[test]
    fn waves_follow_each_other_after_their_soak() {
        let (spec, mut progress, mut moved) = (spec(), Progress::default(), 0);
        for (expected, wave) in [(10, 1), (50, 2), (200, 3), (1_000, 4)] {
            assert_eq!(progress.step(&spec, &look(1_000, moved, 999)), Step::Wait);
            let step = progress.step(&spec, &look(1_000, moved, 1_000));
            assert_eq!(step, Step::Move { count: expected - moved, wave });
            (progress, moved) = (progress.after(&step), expected);
        }
        assert_eq!(progress.step(&spec, &look(1_000, moved, 1_000)), Step::Finish);
        assert_eq!(progress.step(&spec, &Look { watched_ms: None, ..look(1_000, moved, 0) }), Step::Wait);
    }

    #[test]
    fn small_fleets_skip_waves_that_would_move_nobody() {
        let (spec, progress) = (spec(), Progress { phase: Phase::Soaking, wave: 1, reason: None });
        assert_eq!(progress.step(&spec, &look(4, 1, 1_000)), Step::Move { count: 3, wave: 4 });
        assert_eq!(Progress::default().step(&spec, &look(0, 0, 1_000)), Step::Finish);
    }

    #[test]
    fn who_is_behind_is_waited_for_and_not_for_ever() {
        let (spec, progress) = (spec(), Progress { phase: Phase::Soaking, wave: 1, reason: None });
        let behind = |watched_ms| progress.step(&spec, &Look { behind_count: 1, ..look(100, 1, watched_ms) });
        assert_eq!(behind(29_999), Step::Wait);
        assert!(matches!(behind(30_000), Step::Halt { reason } if reason.starts_with("1 of 1 who were moved")));
    }

    #[test]
    fn a_command_that_makes_no_sense_says_what_would() {
        let refused = Progress { phase: Phase::Halted, ..Progress::default() }.told(Command::Pause, None).unwrap_err();
        assert_eq!(refused.to_string(), "it is halted and cannot pause; what it can: resume, abort, rollback");
        let over = Progress { phase: Phase::Done, ..Progress::default() }.told(Command::RollBack, None).unwrap_err();
        assert_eq!(over.to_string(), "it is done and cannot rollback; what it can: nothing, it is over");
    }

    #[derive(Debug, Clone)]
    enum Event {
        Watched(u64),
        Fault,
        Told(Command),
        /// The limit on changes lets only so many pass.
        Room(u32),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            6 => (0_u64..2_000).prop_map(Event::Watched),
            1 => Just(Event::Fault),
            2 => (0_u32..9).prop_map(Event::Room),
            1 => prop_oneof![Just(Command::Pause), Just(Command::Resume), Just(Command::Abort), Just(Command::RollBack)]
                .prop_map(Event::Told),
        ]
    }

    proptest! {
        /// Whatever comes: no more are moved than the wave's share, nobody is moved while it is halted, paused, aborted or over,
        /// what is over stays over, and the same events come to the same.
        #[test]
        fn no_wave_moves_more_and_halted_stays_halted(
            members in 0_u32..400,
            events in proptest::collection::vec(event(), 0..60),
        ) {
            let run = || {
                let (spec, mut progress, mut moved, mut room, mut trail) = (spec(), Progress::default(), 0, u32::MAX, Vec::new());
                for event in &events {
                    let before = progress.clone();
                    match event {
                        Event::Room(count) => room = *count,
                        Event::Told(command) => {
                            if let Ok(after) = progress.told(*command, None) {
                                progress = after;
                            }
                            prop_assert!(!before.phase.is_over() || progress == before);
                        }
                        Event::Watched(_) | Event::Fault => {
                            let faults = [Fault("it burns".to_owned())];
                            let (watched_ms, faults) = match event {
                                Event::Watched(ms) => (*ms, &faults[..0]),
                                _ => (0, &faults[..]),
                            };
                            let step = progress.step(&spec, &Look { faults, ..look(members, moved, watched_ms) });
                            progress = progress.after(&step);
                            if let Step::Move { count, .. } = step {
                                prop_assert!(before.phase.is_running());
                                moved += count.min(room);
                            }
                            prop_assert!(!faults.is_empty() <= (before.phase != Phase::Soaking || progress.phase == Phase::Halted));
                            prop_assert!(before.phase.is_running() || progress == before, "{before:?} → {progress:?}");
                        }
                    }
                    prop_assert!(moved <= progress.allowed(&spec, members), "{moved} of {members}: {progress:?}");
                    prop_assert!(progress.phase != Phase::Done || moved == members);
                    trail.push((progress.clone(), moved));
                }
                Ok(trail)
            };
            prop_assert_eq!(run()?, run()?);
        }
    }
}
