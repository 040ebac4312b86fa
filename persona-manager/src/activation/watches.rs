//! All subjects that are watched, and where the store does not say yet what became of their alerts.

use std::collections::BTreeMap;
use std::sync::Arc;

use persona_core::activate::{Moment, Seen};
use persona_core::alert::AlertRules;
use persona_core::document::{Document, Kind, Section};
use persona_core::ids::{NodeName, PersonaName, SubjectId};
use persona_core::wire::api::SectionAssignment;

use super::activations::{Key, key_of};
use super::samples::Measured;
use super::watched::Watched;
use crate::store::{AlertRecord, Records, SignalRecord, Snapshot, SubjectRecord};

/// Every subject is looked at again after this time, for what only time changes, milliseconds.
const LOOK_INTERVAL_MS: u64 = 1_000;

/// One alert that is raised or cleared.
#[derive(Debug)]
pub(crate) struct AlertNews {
    /// Its name.
    pub(crate) alert: String,
    /// Whether it is raised; else it is cleared.
    pub(crate) is_raised: bool,
    /// The persona that watches for it.
    pub(crate) persona: PersonaName,
    /// That persona's version.
    pub(crate) version: u32,
    /// Why, a sentence for people.
    pub(crate) reason: String,
    /// The comparisons that decided. None: no rule looks for it any more.
    pub(crate) seen: Vec<Seen>,
}

/// What the store shall say of one subject's alerts.
#[derive(Debug)]
pub(crate) struct AlertTurn {
    /// Who.
    pub(crate) subject: SubjectId,
    /// What is raised.
    pub(crate) raised: BTreeMap<String, AlertRecord>,
    /// What has changed, by the alerts' names.
    pub(crate) news: Vec<AlertNews>,
}

/// All that are watched.
#[derive(Debug, Default)]
pub(super) struct Watches {
    pub(super) subjects: BTreeMap<Key, Watched>,
    rules: BTreeMap<(PersonaName, u32), Arc<AlertRules>>,
    followed: Records<SubjectRecord>,
    pushed: Records<SignalRecord>,
    looked_ms: u64,
}

impl Watches {
    /// Takes in what was measured of a subject.
    pub(super) fn record(&mut self, key: &Key, measured: &Measured) {
        if let Some(watched) = self.subjects.get_mut(key) {
            watched.sight.record(measured);
        }
    }

    /// Takes in what was measured of the host of all subjects of a node.
    pub(super) fn record_host(&mut self, node: &NodeName, host: &Measured) {
        self.of_node(node).for_each(|watched| watched.sight.record(host));
    }

    /// Whether a subject of a node is watched.
    pub(super) fn has_any_on(&self, node: &NodeName) -> bool {
        let first = (node.clone(), SubjectId::Node(node.clone()));
        self.subjects.range(first..).next().is_some_and(|((of, _), _)| of == node)
    }

    /// Looks at a node's subjects. Returns whether anything is raised or cleared.
    pub(super) fn look_at(&mut self, node: &NodeName, now: Moment) -> bool {
        let mut has_changed = false;
        self.of_node(node).for_each(|watched| has_changed |= watched.step(now));
        has_changed
    }

    /// Follows who is watched for what, looks at all of them once a second, and says where the store differs.
    pub(super) fn turn(
        &mut self,
        snapshot: &Snapshot,
        measured: &BTreeMap<Key, Measured>,
        now: Moment,
    ) -> Vec<AlertTurn> {
        self.follow(snapshot, measured, now);
        self.follow_pushed(snapshot, now);
        if now.steady_ms >= self.looked_ms.saturating_add(LOOK_INTERVAL_MS) {
            self.looked_ms = now.steady_ms;
            self.subjects.values_mut().for_each(|watched| _ = watched.step(now));
        }
        self.differences(snapshot)
    }

    fn of_node<'a>(&'a mut self, node: &'a NodeName) -> impl Iterator<Item = &'a mut Watched> {
        // A node comes before its workloads.
        let first = (node.clone(), SubjectId::Node(node.clone()));
        let all = self.subjects.range_mut(first..).take_while(move |((of, _), _)| of == node);
        all.map(|(_, watched)| watched)
    }

    fn follow(&mut self, snapshot: &Snapshot, measured: &BTreeMap<Key, Measured>, now: Moment) {
        if self.followed.is_same(&snapshot.subjects) {
            return;
        }
        let before = std::mem::replace(&mut self.followed, snapshot.subjects.clone());
        for change in snapshot.subjects.changes_since(&before) {
            let key = key_of(change.key);
            let Some((record, worn)) = change.after.and_then(|record| Some((record, worn(record)?))) else {
                self.subjects.remove(&key);
                continue;
            };
            let known = self.subjects.get(&key);
            if known.is_some_and(|known| known.persona == worn.persona && known.version == worn.version) {
                continue;
            }
            let Some(rules) = self.rules_of(snapshot, worn) else { continue };
            match self.subjects.get_mut(&key) {
                Some(watched) => watched.follow(worn, rules, now),
                None => {
                    let watched = begin(snapshot, measured, &key, Watched::new(worn, rules, record, now), now);
                    self.subjects.insert(key, watched);
                }
            }
        }
        self.rules.retain(|_, rules| Arc::strong_count(rules) > 1);
    }

    /// The rules of a section. None: the document is gone, or only a newer release can read it.
    fn rules_of(&mut self, snapshot: &Snapshot, worn: &SectionAssignment) -> Option<Arc<AlertRules>> {
        let key = (worn.persona.clone(), worn.version);
        if let Some(rules) = self.rules.get(&key) {
            return Some(Arc::clone(rules));
        }
        let Document::Persona(document) =
            snapshot.version(Kind::Persona, worn.persona.as_str(), worn.version)?.parsed()?
        else {
            return None;
        };
        let rules = Arc::new(AlertRules::new(document.spec.monitoring.as_ref()?).ok()?);
        self.rules.insert(key, Arc::clone(&rules));
        Some(rules)
    }

    fn follow_pushed(&mut self, snapshot: &Snapshot, now: Moment) {
        if self.pushed.is_same(&snapshot.signals) {
            return;
        }
        self.pushed = snapshot.signals.clone();
        for ((_, subject), watched) in &mut self.subjects {
            let own: Vec<&Arc<SignalRecord>> = snapshot.signals_of(subject).collect();
            if watched.sight.take_pushed(&own, now) {
                watched.step(now);
            }
        }
    }

    fn differences(&self, snapshot: &Snapshot) -> Vec<AlertTurn> {
        let nothing = BTreeMap::new();
        let stored = snapshot.watched().filter_map(|record| {
            let watched = self.subjects.get(&key_of(&record.subject));
            let raised = watched.map_or(&nothing, |watched| &watched.raised);
            (record.alerts != *raised).then(|| AlertTurn {
                subject: record.subject.clone(),
                news: news(&record.alerts, raised, watched),
                raised: raised.clone(),
            })
        });
        stored.collect()
    }
}

/// The monitoring section that a subject wears.
fn worn(record: &SubjectRecord) -> Option<&SectionAssignment> {
    record.sections.get(Section::Monitoring.as_str())
}

/// What is known already of a subject that is watched from now on.
fn begin(
    snapshot: &Snapshot,
    measured: &BTreeMap<Key, Measured>,
    key: &Key,
    mut watched: Watched,
    now: Moment,
) -> Watched {
    watched.sight.record_latest(measured, key);
    let pushed: Vec<&Arc<SignalRecord>> = snapshot.signals_of(&key.1).collect();
    watched.sight.take_pushed(&pushed, now);
    watched
}

/// What is to be told of alerts that were raised before, and those that are now.
fn news(
    before: &BTreeMap<String, AlertRecord>,
    after: &BTreeMap<String, AlertRecord>,
    watched: Option<&Watched>,
) -> Vec<AlertNews> {
    let change_of = |alert: &str| watched.and_then(|watched| watched.changes.get(alert));
    let told = |alert: &str, is_raised: bool, record: &AlertRecord| {
        let change = change_of(alert).filter(|change| change.is_raised == is_raised);
        let gone = || format!("{} is no longer worn, or no longer watches for it", record.persona);
        AlertNews {
            alert: alert.to_owned(),
            is_raised,
            persona: record.persona.clone(),
            version: record.version,
            reason: change.map_or_else(gone, |change| change.reason.clone()),
            seen: change.map(|change| change.seen.clone()).unwrap_or_default(),
        }
    };
    let cleared = before.iter().filter(|(alert, _)| !after.contains_key(*alert));
    let cleared = cleared.map(|(alert, record)| told(alert, false, record));
    let raised = after.iter().filter(|(alert, _)| !before.contains_key(*alert));
    cleared.chain(raised.map(|(alert, record)| told(alert, true, record))).collect()
}
