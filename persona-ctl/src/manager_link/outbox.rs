//! What waits to be reported. Newer values replace older ones; events and samples are bounded, the oldest give way.
//!
//! When the manager asks what is in force ([`Frame::Recall`](persona_core::wire::desired::Frame::Recall)), the answer goes
//! out in parts, one with each report.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use persona_core::wire::agent::{AgentEvent, HELD_ITEM_COUNT_MAX, Holdings, Report, WorkloadReport};
use persona_core::wire::contents::ContentRtts;
use persona_core::wire::desired::{DesiredState, Item};
use persona_core::wire::limits::LimitReport;
use persona_core::wire::proof::StateProof;
use persona_core::wire::security::SecurityReport;
use persona_core::wire::signals::{SAMPLE_BATCH_COUNT_MAX, SampleBatch};
use persona_core::wire::software::SoftwareReport;
use persona_core::wire::told::is_told;

use super::known::Known;

/// Most events that wait while the manager is away.
const EVENT_COUNT_MAX: usize = 1_000;

/// Most events in one report.
const EVENT_COUNT_PER_REPORT: usize = 200;

/// The report in the making.
#[derive(Debug, Clone, Default)]
pub struct Outbox {
    /// Everything but events, workloads, limits, software, security and contents, in its newest form.
    pub report: Report,
    workloads: Known<Vec<WorkloadReport>>,
    limits: Known<Vec<LimitReport>>,
    software: Known<Vec<SoftwareReport>>,
    security: Known<Vec<SecurityReport>>,
    contents: Known<ContentRtts>,
    events: VecDeque<AgentEvent>,
    /// What was measured and when, numbered.
    samples: VecDeque<(u64, Instant, SampleBatch)>,
    sample_number: u64,
    /// The newest batch in the report that is under way.
    samples_under_way: Option<u64>,
    in_force: Option<Arc<[Item]>>,
    recall: Option<Recall>,
}

/// A question of the manager's that is being answered.
#[derive(Debug, Clone)]
struct Recall {
    incarnation: u32,
    next_part: u32,
    /// What is in force, and the proof of it.
    items: Option<(Arc<[Item]>, Option<StateProof>)>,
}

impl Outbox {
    /// Adds an event of now, under a name that managers take from agents.
    pub fn push_event(&mut self, name: &str, about: impl Into<String>, message: impl Into<String>) {
        debug_assert!(is_told(name), "{name} stands in no list of persona_core::wire::told");
        if self.events.len() == EVENT_COUNT_MAX {
            self.events.pop_front();
        }
        let (about, message) = (about.into(), message.into());
        self.events.push_back(AgentEvent { time_ms: now_ms(), name: name.to_owned(), about, message });
    }

    /// Adds what was measured now.
    pub fn push_samples(&mut self, batch: SampleBatch) {
        if self.samples.len() == SAMPLE_BATCH_COUNT_MAX {
            self.samples.pop_front();
        }
        self.sample_number += 1;
        self.samples.push_back((self.sample_number, Instant::now(), batch));
    }

    /// Says which workloads were found, all of them.
    pub fn set_workloads(&mut self, workloads: Vec<WorkloadReport>) {
        self.workloads.set(workloads);
    }

    /// Says how the limits of all workloads stand.
    pub fn set_limits(&mut self, limits: Vec<LimitReport>) {
        self.limits.set(limits);
    }

    /// Says how the software of everybody who shall have some stands.
    pub fn set_software(&mut self, software: Vec<SoftwareReport>) {
        self.software.set(software);
    }

    /// Says how the security settings of everybody who shall have some stand.
    pub fn set_security(&mut self, security: Vec<SecurityReport>) {
        self.security.set(security);
    }

    /// Says how far sources of content are.
    pub fn set_contents(&mut self, contents: ContentRtts) {
        self.contents.set(contents);
    }

    /// Whoever takes the next report may know nothing of this host.
    pub(super) fn tell_everything(&mut self) {
        self.workloads.forget();
        self.limits.forget();
        self.software.forget();
        self.security.forget();
        self.contents.forget();
    }

    /// Says which state is in force, from now on.
    pub fn set_in_force(&mut self, state: &DesiredState) {
        if self.in_force.is_none() || self.report.applied != state.generation {
            self.in_force = Some(state.items.values().cloned().collect());
        }
        self.report.applied = state.generation;
        self.report.proof.clone_from(&state.proof);
    }

    /// The manager asks what is in force; the answer goes out from the first part on.
    pub(super) fn recall(&mut self, incarnation: u32) {
        self.recall = Some(Recall { incarnation, next_part: 0, items: None });
        self.tell_everything();
    }

    /// The report to send now. Its events stay here until [`sent`](Self::sent).
    pub fn to_report(&mut self) -> Report {
        let events = self.events.iter().take(EVENT_COUNT_PER_REPORT).cloned().collect();
        self.samples_under_way = self.samples.back().map(|(number, ..)| *number);
        let samples = self.samples.iter().map(|(_, at, batch)| {
            let age_ms = u32::try_from(at.elapsed().as_millis()).unwrap_or(u32::MAX);
            SampleBatch { age_ms, ..batch.clone() }
        });
        let samples = samples.collect();
        Report {
            events,
            samples,
            workloads: self.workloads.untold(),
            limits: self.limits.untold(),
            software: self.software.untold(),
            security: self.security.untold(),
            contents: self.contents.untold(),
            holdings: self.holdings(),
            ..self.report.clone()
        }
    }

    /// The next part of what is in force, all of it as it was when the first part went out.
    fn holdings(&mut self) -> Option<Holdings> {
        let recall = self.recall.as_mut()?;
        // Before the first pass nothing is known to be in force; the answer waits for it.
        let (items, proof) = recall.items.get_or_insert((self.in_force.clone()?, self.report.proof.clone()));
        let first = recall.next_part as usize * HELD_ITEM_COUNT_MAX;
        let rest = items.get(first..).unwrap_or_default();
        let part = &rest[..rest.len().min(HELD_ITEM_COUNT_MAX)];
        let is_last = rest.len() <= HELD_ITEM_COUNT_MAX;
        let (items, proof) = (part.to_vec(), proof.clone());
        Some(Holdings { incarnation: recall.incarnation, part: recall.next_part, is_last, items, proof })
    }

    /// The manager has taken a report: its events need not be sent again.
    pub fn sent(&mut self, report: &Report) {
        self.workloads.taken();
        self.limits.taken();
        self.software.taken();
        self.security.taken();
        self.contents.taken();
        // While the report was under way, the oldest may have given way to new ones.
        for event in &report.events {
            if self.events.front() == Some(event) {
                self.events.pop_front();
            }
        }
        if let Some(last) = self.samples_under_way.take() {
            self.samples.retain(|(number, ..)| *number > last);
        }
        let Some((recall, sent)) = self.recall.as_mut().zip(report.holdings.as_ref()) else { return };
        // Asked anew meanwhile, the answer starts from its first part.
        if (sent.incarnation, sent.part) == (recall.incarnation, recall.next_part) && recall.items.is_some() {
            recall.next_part += 1;
            if sent.is_last {
                self.recall = None;
            }
        }
    }

    /// Whether more waits than the next report on its interval should carry.
    pub fn has_more(&self) -> bool {
        !self.events.is_empty() || self.recall.as_ref().is_some_and(|recall| recall.items.is_some())
    }
}

/// Milliseconds since the Unix epoch.
pub(super) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use persona_core::ids::{EdgeNumber, Generation};
    use persona_core::wire::desired::{EdgeItem, ProbeItem};

    use super::*;

    #[test]
    fn events_wait_until_they_were_taken_and_never_pile_up() {
        let mut outbox = Outbox::default();
        (0..EVENT_COUNT_MAX + 5).for_each(|index| outbox.push_event("edge.down", index.to_string(), ""));
        let report = outbox.to_report();
        assert_eq!(report.events.len(), EVENT_COUNT_PER_REPORT);
        assert_eq!(report.events[0].about, "5", "the oldest gave way");
        assert_eq!(outbox.to_report().events[0].about, "5", "not lost when a report fails");
        outbox.sent(&report);
        assert_eq!(outbox.to_report().events[0].about, "205");
    }

    #[test]
    fn what_seldom_changes_is_told_until_it_was_taken_and_then_no_more() {
        let (subject, persona): (persona_core::ids::SubjectId, String) = ("node/n1".parse().unwrap(), "p@1".to_owned());
        let software = SoftwareReport {
            subject: subject.clone(),
            persona: persona.clone(),
            state: persona_core::wire::software::SoftwareState::AsWanted,
            reason: None,
            packages: Vec::new(),
        };
        let security = SecurityReport {
            subject,
            persona,
            state: persona_core::wire::security::SecurityState::InForce,
            reason: None,
            settings: Vec::new(),
        };
        let mut outbox = Outbox::default();
        outbox.set_software(vec![software.clone()]);
        outbox.set_security(vec![security.clone()]);
        for _lost in 0..2 {
            let report = outbox.to_report();
            assert_eq!(
                (report.software, report.security),
                (Some(vec![software.clone()]), Some(vec![security.clone()]))
            );
        }
        let report = outbox.to_report();
        outbox.sent(&report);
        let report = outbox.to_report();
        assert_eq!((report.software, report.security), (None, None));
    }

    #[test]
    fn samples_wait_for_a_manager_that_takes_them_but_not_for_ever() {
        let mut outbox = Outbox::default();
        let batch = |name: &str| SampleBatch { signals: vec![name.to_owned()], ..SampleBatch::default() };
        (0..SAMPLE_BATCH_COUNT_MAX + 3).for_each(|index| outbox.push_samples(batch(&index.to_string())));
        let lost = outbox.to_report();
        assert_eq!((lost.samples.len(), lost.samples[0].signals[0].as_str()), (SAMPLE_BATCH_COUNT_MAX, "3"));
        let report = outbox.to_report();
        assert_eq!(report.samples.len(), SAMPLE_BATCH_COUNT_MAX, "a report that failed is sent again");
        outbox.push_samples(batch("new"));
        outbox.sent(&report);
        assert_eq!(outbox.to_report().samples.iter().map(|it| it.signals[0].as_str()).collect::<Vec<_>>(), ["new"]);
    }

    #[test]
    fn workloads_limits_and_software_are_told_when_they_change_and_to_every_new_manager() {
        let mut outbox = Outbox::default();
        outbox.set_limits(vec![LimitReport::unlimited("web".parse().unwrap())]);
        outbox.set_software(Vec::new());
        let report = outbox.to_report();
        assert_eq!((report.workloads.is_some(), report.limits.as_ref().map(Vec::len)), (false, Some(1)));
        assert_eq!(report.software, Some(Vec::new()));
        outbox.sent(&report);
        let report = outbox.to_report();
        assert_eq!((report.workloads, report.limits, report.software), (None, None, None), "unchanged");
        outbox.tell_everything();
        let report = outbox.to_report();
        assert!(report.limits.is_some() && report.software.is_some());
    }

    #[test]
    fn what_is_in_force_is_told_in_parts_once_it_is_known() {
        let mut outbox = Outbox::default();
        outbox.recall(2);
        assert_eq!(outbox.to_report().holdings, None, "nothing is known to be in force yet");
        let mut state = DesiredState { generation: Generation::new(1, 9), ..DesiredState::default() };
        for number in 0..=HELD_ITEM_COUNT_MAX {
            state.insert(Item::Edge(edge(number)));
        }
        state.insert(Item::Probe(ProbeItem::default()));
        outbox.set_in_force(&state);
        let first = outbox.to_report();
        let told = first.holdings.as_ref().unwrap();
        assert_eq!((told.incarnation, told.part, told.is_last, told.items.len()), (2, 0, false, HELD_ITEM_COUNT_MAX));
        assert_eq!(outbox.to_report().holdings, first.holdings, "not lost when a report fails");
        outbox.sent(&first);
        assert!(outbox.has_more());
        let second = outbox.to_report();
        let told = second.holdings.as_ref().unwrap();
        assert_eq!((told.part, told.is_last, told.items.len()), (1, true, 2));
        let told: Vec<Item> = [first.holdings.unwrap().items, told.items.clone()].concat();
        let proven = told.into_iter().collect();
        assert_eq!(DesiredState { items: proven, ..state.clone() }.digest(), state.digest(), "what a proof is over");
        outbox.recall(2);
        outbox.sent(&second);
        assert_eq!(outbox.to_report().holdings.unwrap().part, 0, "asked anew, it is told from the first part");
    }

    fn edge(number: usize) -> EdgeItem {
        let group = "fra".parse().unwrap();
        let (name, address) = (format!("e{number}").parse().unwrap(), [10, 0, 0, 1].into());
        let number = EdgeNumber(number as u16);
        EdgeItem { name, number, group, address, weight: 100, in_service: true, draining: false }
    }
}
