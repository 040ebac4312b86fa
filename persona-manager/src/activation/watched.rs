//! One subject whose persona watches it: its alerts, as the store shall have them.

use std::collections::BTreeMap;
use std::sync::Arc;

use persona_core::activate::Moment;
use persona_core::alert::{AlertChange, AlertRules, AlertStory, Watch};
use persona_core::ids::PersonaName;
use persona_core::wire::api::SectionAssignment;

use super::sight::Sight;
use crate::store::{AlertRecord, SubjectRecord};

/// A subject under the rules of a monitoring section.
#[derive(Debug)]
pub(super) struct Watched {
    /// Whose section that is.
    pub(super) persona: PersonaName,
    /// In which version.
    pub(super) version: u32,
    /// What is known of it.
    pub(super) sight: Sight,
    watch: Watch,
    /// What is raised.
    pub(super) raised: BTreeMap<String, AlertRecord>,
    /// What raised or cleared each alert last.
    pub(super) changes: BTreeMap<String, AlertChange>,
}

impl Watched {
    /// Begins to watch a subject; what the store has as raised goes on.
    pub(super) fn new(worn: &SectionAssignment, rules: Arc<AlertRules>, record: &SubjectRecord, now: Moment) -> Self {
        let sight = Sight::new(rules.inputs());
        let watch = Watch::new(rules, record.alerts.keys().map(String::as_str), now.steady_ms);
        let (persona, version) = (worn.persona.clone(), worn.version);
        let mut watched =
            Self { persona, version, sight, watch, raised: record.alerts.clone(), changes: BTreeMap::new() };
        watched.forget_gone();
        watched
    }

    /// Goes over to another persona's section, or to another version of it.
    pub(super) fn follow(&mut self, worn: &SectionAssignment, rules: Arc<AlertRules>, now: Moment) {
        self.sight.board.keep_reading(rules.inputs());
        self.watch.follow(rules, now.steady_ms);
        (self.persona, self.version) = (worn.persona.clone(), worn.version);
        self.forget_gone();
    }

    /// Alerts for which no rule looks any more.
    fn forget_gone(&mut self) {
        let raised: Vec<&str> = self.watch.raised().collect();
        self.raised.retain(|alert, _| raised.contains(&alert.as_str()));
        self.changes.retain(|alert, _| raised.contains(&alert.as_str()));
    }

    /// Looks at what is known now. Returns whether anything is raised or cleared.
    pub(super) fn step(&mut self, now: Moment) -> bool {
        let board = &self.sight.board;
        let changes = self.watch.step(now, &|input| board.read(input, now.steady_ms));
        let has_changed = !changes.is_empty();
        for change in changes {
            if change.is_raised {
                let (persona, version) = (self.persona.clone(), self.version);
                let record = AlertRecord { persona, version, since_ms: now.wall_ms, reason: change.reason.clone() };
                self.raised.insert(change.alert.clone(), record);
            } else {
                self.raised.remove(&change.alert);
            }
            self.changes.insert(change.alert.clone(), change);
        }
        has_changed
    }

    /// Every alert with what it sees.
    pub(super) fn story(&self, now: Moment) -> Vec<AlertStory> {
        self.watch.story(now, &|input| self.sight.board.read(input, now.steady_ms))
    }
}
