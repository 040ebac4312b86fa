//! Dead-man rollback: a generation that may cut a node off from its managers is on trial until one answers.
//!
//! What touches the node's own way to them is armed, and nothing else. If nobody answers for the node's patience, the
//! generation before is put back. Only if that helps at once is the generation at fault; if managers come back later, they were
//! away by themselves, and it is tried again while they are there. So a lost manager alone condemns nothing.
//! Times are milliseconds of a clock that may start anew in another life of the process.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::ids::{Generation, SubjectId};
use crate::wire::desired::{DesiredState, Item, SubjectItem};

/// So many questions must stay without an answer, beside the time: who was asleep has heard nothing because he did not ask.
pub const UNANSWERED_COUNT: u32 = 2;

/// After so many trials that ended in doubt, doubt is held against the generation.
pub const TRIAL_COUNT_MAX: u32 = 3;

/// A generation on trial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Trial {
    /// Which.
    pub generation: Generation,
    /// What of it touches the way to the managers.
    pub touches: String,
    /// Where it stands.
    pub stage: Stage,
    /// How often it was tried.
    pub count: u32,
}

/// Where a trial stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Stage {
    /// It is in force, and nobody has answered since.
    #[serde(rename_all = "camelCase")]
    InForce {
        /// Since when, milliseconds.
        since_ms: u64,
    },
    /// The generation before is in force again, and nobody has answered since.
    #[serde(rename_all = "camelCase")]
    PutBack {
        /// Since when, milliseconds.
        since_ms: u64,
    },
    /// It is at fault, and is not applied again.
    Condemned,
}

/// What was heard of managers since the stage began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Signs {
    /// Whether one gave a sign of life to a question that was asked since.
    pub is_answered: bool,
    /// How many questions that were asked since got none.
    pub unanswered_count: u32,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Nothing yet.
    Wait,
    /// It stays: the way works. The trial is over.
    Keep,
    /// The generation before comes back into force.
    PutBack,
    /// It is rejected.
    Condemn,
    /// It comes into force again: managers were away, not the way.
    TryAgain,
}

impl Trial {
    /// A trial that begins now.
    pub fn begin(generation: Generation, touches: String, now_ms: u64) -> Self {
        Self { generation, touches, stage: Stage::InForce { since_ms: now_ms }, count: 1 }
    }

    /// Whether the generation is in force.
    pub fn is_in_force(&self) -> bool {
        matches!(self.stage, Stage::InForce { .. })
    }

    /// Judges by what was heard, and moves on.
    pub fn turn(&mut self, signs: Signs, patience_ms: u64, now_ms: u64) -> Turn {
        match &mut self.stage {
            Stage::InForce { since_ms } | Stage::PutBack { since_ms } if now_ms < *since_ms => {
                // The clock went back: the time counts from here.
                *since_ms = now_ms;
                self.turn(signs, patience_ms, now_ms)
            }
            Stage::InForce { .. } if signs.is_answered => Turn::Keep,
            Stage::InForce { since_ms } => {
                if now_ms - *since_ms < patience_ms || signs.unanswered_count < UNANSWERED_COUNT {
                    return Turn::Wait;
                }
                self.stage = Stage::PutBack { since_ms: now_ms };
                Turn::PutBack
            }
            Stage::PutBack { .. } if !signs.is_answered => Turn::Wait,
            Stage::PutBack { since_ms } if now_ms - *since_ms > patience_ms && self.count < TRIAL_COUNT_MAX => {
                self.stage = Stage::InForce { since_ms: now_ms };
                self.count += 1;
                Turn::TryAgain
            }
            Stage::PutBack { .. } => {
                self.stage = Stage::Condemned;
                Turn::Condemn
            }
            Stage::Condemned => Turn::Wait,
        }
    }
}

/// What of a step from one state to another touches the way to the managers of a host on which the asking process is one of
/// the `own` subjects. None: nothing does.
pub fn touches(before: &DesiredState, after: &DesiredState, own: &BTreeSet<SubjectId>) -> Option<String> {
    let item = |state: &DesiredState, subject: &SubjectId| -> Option<SubjectItem> {
        match state.items.get(&format!("subject/{subject}")) {
            Some(Item::Subject(item)) => Some(item.clone()),
            _ => None,
        }
    };
    own.iter().find_map(|subject| {
        let (old, new) = (item(before, subject), item(after, subject));
        let network = |item: &Option<SubjectItem>| item.as_ref().map(|item| item.network.clone());
        let rates = |item: &Option<SubjectItem>| item.as_ref().map(|item| item.qos.clone()).unwrap_or_default();
        if network(&old) != network(&new) {
            return Some(format!("the network section of {subject}"));
        }
        // It holds past the persona too, and for what is established.
        let firewall = |item: &Option<SubjectItem>| item.as_ref().and_then(|item| item.firewall.clone());
        if firewall(&old) != firewall(&new) {
            return Some(format!("the firewall of {subject}"));
        }
        (rates(&old) != rates(&new)).then(|| format!("the rates of {subject}"))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ids::SubjectNumber;
    use crate::wire::desired::SubjectQos;
    use crate::wire::firewall::SubjectFirewall;

    const PATIENCE_MS: u64 = 1_000;

    const SILENCE: Signs = Signs { is_answered: false, unanswered_count: UNANSWERED_COUNT };
    const ANSWER: Signs = Signs { is_answered: true, unanswered_count: 0 };

    fn trial() -> Trial {
        Trial::begin(Generation::new(1, 7), "a test".to_owned(), 5_000)
    }

    #[test]
    fn the_first_answer_ends_it() {
        assert_eq!(trial().turn(ANSWER, PATIENCE_MS, 5_001), Turn::Keep);
        assert_eq!(trial().turn(ANSWER, PATIENCE_MS, 900_000), Turn::Keep, "however late it comes");
    }

    #[test]
    fn silence_puts_the_generation_before_back_and_an_answer_at_once_condemns() {
        let mut trial = trial();
        assert_eq!(trial.turn(SILENCE, PATIENCE_MS, 5_999), Turn::Wait);
        assert_eq!(trial.turn(Signs::default(), PATIENCE_MS, 9_000), Turn::Wait, "nobody was asked: it slept");
        assert_eq!(trial.turn(SILENCE, PATIENCE_MS, 9_000), Turn::PutBack);
        assert_eq!(trial.turn(SILENCE, PATIENCE_MS, 9_500), Turn::Wait);
        assert_eq!(trial.turn(ANSWER, PATIENCE_MS, 10_000), Turn::Condemn);
        assert_eq!(trial.turn(ANSWER, PATIENCE_MS, 99_000), Turn::Wait, "once is enough");
    }

    #[test]
    fn managers_that_come_back_late_were_away_and_it_is_tried_again() {
        let mut trial = trial();
        assert_eq!(trial.turn(SILENCE, PATIENCE_MS, 6_000), Turn::PutBack);
        assert_eq!(trial.turn(SILENCE, PATIENCE_MS, 600_000), Turn::Wait);
        assert_eq!(trial.turn(ANSWER, PATIENCE_MS, 600_001), Turn::TryAgain);
        assert_eq!(trial.turn(ANSWER, PATIENCE_MS, 600_002), Turn::Keep);
    }

    #[test]
    fn doubt_does_not_last_for_ever() {
        let (mut trial, mut now_ms, mut turns) = (trial(), 6_000, Vec::new());
        while trial.stage != Stage::Condemned {
            turns.push(trial.turn(SILENCE, PATIENCE_MS, now_ms));
            now_ms += 2 * PATIENCE_MS;
            turns.push(trial.turn(ANSWER, PATIENCE_MS, now_ms));
            now_ms += 2 * PATIENCE_MS;
        }
        assert_eq!(turns.iter().filter(|turn| **turn == Turn::PutBack).count(), TRIAL_COUNT_MAX as usize);
        assert_eq!(turns.last(), Some(&Turn::Condemn));
    }

    #[test]
    fn only_what_the_asking_process_itself_wears_is_touched() {
        let item = |subject: &str, egress_bps: Option<u64>| {
            Item::Subject(SubjectItem {
                subject: subject.parse().unwrap(),
                number: SubjectNumber(1),
                network: None,
                qos: SubjectQos { egress_bps, ..SubjectQos::default() },
                resources: None,
                software: None,
                firewall: None,
                security: None,
                digest: String::new(),
            })
        };
        let state = |items: Vec<Item>| {
            let mut state = DesiredState::default();
            items.into_iter().for_each(|item| state.insert(item));
            state
        };
        let own: BTreeSet<SubjectId> = ["node/n1".parse().unwrap()].into();
        let (bare, shaped) = (state(vec![item("node/n1", None)]), state(vec![item("node/n1", Some(8))]));
        assert_eq!(touches(&bare, &shaped, &own).as_deref(), Some("the rates of node/n1"));
        assert_eq!(touches(&shaped, &shaped, &own), None);
        assert_eq!(touches(&bare, &shaped, &BTreeSet::new()), None);
        let first = touches(&DesiredState::default(), &bare, &own);
        assert_eq!(
            first.as_deref(),
            Some("the network section of node/n1"),
            "a subject without a way out drops everything"
        );
        let others = state(vec![item("node/n1", None), item("workload/n1/w1", Some(8))]);
        assert_eq!(touches(&bare, &others, &own), None);
        let Item::Subject(mut walled) = item("node/n1", None) else { panic!("it is a subject") };
        walled.firewall =
            Some(Box::new(SubjectFirewall { persona: "p".parse().unwrap(), version: 1, rules: Vec::new() }));
        let walled = state(vec![Item::Subject(walled)]);
        assert_eq!(touches(&bare, &walled, &own).as_deref(), Some("the firewall of node/n1"));
    }

    /// One step of a world in which the way is whole or cut, and managers are there or not.
    #[derive(Debug, Clone, Copy)]
    struct Step {
        pause_ms: u64,
        managers_are_there: bool,
        restarts: bool,
    }

    fn step() -> impl Strategy<Value = Step> {
        (1_u64..900, prop::bool::weighted(0.8), prop::bool::weighted(0.1))
            .prop_map(|(pause_ms, managers_are_there, restarts)| Step { pause_ms, managers_are_there, restarts })
    }

    /// Plays a trial to its end or that of the steps. Returns it, and the turns that were taken.
    fn play(cuts_the_way: bool, steps: &[Step]) -> (Trial, Vec<Turn>) {
        let (mut trial, mut turns, mut now_ms, mut signs) = (trial(), Vec::new(), 5_000, Signs::default());
        for step in steps {
            now_ms += step.pause_ms;
            if step.restarts {
                // Another life reads what was kept, and has asked nothing yet.
                trial = serde_json::from_str(&serde_json::to_string(&trial).unwrap()).unwrap();
                signs = Signs::default();
            }
            let is_whole = !(cuts_the_way && trial.is_in_force());
            signs.is_answered |= is_whole && step.managers_are_there;
            signs.unanswered_count += u32::from(!(is_whole && step.managers_are_there));
            let turn = trial.turn(signs, PATIENCE_MS, now_ms);
            if turn != Turn::Wait {
                turns.push(turn);
                signs = Signs::default();
            }
            if matches!(turn, Turn::Keep | Turn::Condemn) {
                break;
            }
        }
        (trial, turns)
    }

    proptest! {
        /// Managers that come and go never condemn a generation in their first absence, and one that leaves the way whole
        /// stays in the end.
        #[test]
        fn a_lost_manager_alone_condemns_nothing(away_ms in 1_u64..20_000, restarts in prop::bool::ANY) {
            let away = |at_ms: u64| Step { pause_ms: 250, managers_are_there: at_ms > away_ms, restarts: restarts && at_ms == 2_000 };
            let steps: Vec<Step> = (1..200).map(|number| away(number * 250)).collect();
            let (trial, turns) = play(false, &steps);
            // Managers that come back right after it was put back look like a cut: the one doubt that remains.
            let is_doubtful = (PATIENCE_MS..=3 * PATIENCE_MS + 1_000).contains(&away_ms);
            prop_assert!(is_doubtful || trial.stage != Stage::Condemned, "{:?}", turns);
            prop_assert!(is_doubtful || turns.last() == Some(&Turn::Keep), "{:?}", turns);
        }

        /// A generation that cuts the way is never kept, is put back, and is condemned while managers are there.
        #[test]
        fn what_cuts_the_way_is_put_back(steps in prop::collection::vec(step(), 1..300)) {
            let (trial, turns) = play(true, &steps);
            prop_assert!(!turns.contains(&Turn::Keep), "{:?}", turns);
            let there: Vec<Step> = (0..100).map(|_| Step { pause_ms: 250, managers_are_there: true, restarts: false }).collect();
            let (condemned, turns) = play(true, &there);
            prop_assert_eq!(condemned.stage, Stage::Condemned);
            prop_assert_eq!(turns, vec![Turn::PutBack, Turn::Condemn]);
            prop_assert!(trial.count <= TRIAL_COUNT_MAX);
        }

        /// A restart at any moment changes no verdict: a manager that answers everything keeps what leaves the way whole.
        #[test]
        fn a_restart_changes_no_verdict(steps in prop::collection::vec(step(), 1..50)) {
            let there: Vec<Step> = steps.iter().map(|step| Step { managers_are_there: true, ..*step }).collect();
            prop_assert_eq!(play(false, &there).1, vec![Turn::Keep]);
        }
    }
}
