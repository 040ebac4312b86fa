//! Activations that come by themselves: what is open now is put on, what is over and comes no more is removed.
//!
//! It is asked with every pass and looks at what time it is alone, so nothing is lost if no manager ran when a window was
//! opened, and nothing happens twice. What somebody triggered by hand stands above it.

use std::collections::BTreeMap;
use std::sync::Arc;

use persona_core::activate::Timetable;
use persona_core::ids::{ScheduleName, SubjectId};
use serde_json::json;

use crate::schedules::trouble;
use crate::store::{Draft, Override, Records, ScheduleRecord, ScheduledBy, SubjectRecord};

/// Schedules as read, and when each has to be looked at again.
#[derive(Default)]
pub(crate) struct Timetables {
    records: Records<ScheduleRecord>,
    read: BTreeMap<(SubjectId, ScheduleName), Read>,
    /// When they were last looked at, by people's clock.
    looked_ms: u64,
}

struct Read {
    record: Arc<ScheduleRecord>,
    /// None: it cannot be read, so nothing is done by it.
    timetable: Option<Timetable>,
    /// When the window that is open was opened.
    opened_ms: Option<u64>,
    /// When something is different next. None: never.
    due_ms: Option<u64>,
}

/// A window that is open.
struct Open {
    record: Arc<ScheduleRecord>,
    opened_ms: u64,
    until_ms: u64,
    reason: String,
}

/// Puts on what is open, and removes what is over.
pub(super) fn advance(draft: &mut Draft, timetables: &mut Timetables) {
    let now_ms = draft.now_ms();
    timetables.look(draft.state().schedules.clone(), now_ms);
    for open in timetables.open() {
        put_on(draft, open);
    }
    for record in timetables.over(now_ms) {
        remove(draft, &record);
    }
}

impl Timetables {
    fn look(&mut self, records: Records<ScheduleRecord>, now_ms: u64) {
        if !self.records.is_same(&records) {
            self.read.retain(|key, _| records.contains_key(key));
            for (key, record) in records.iter() {
                if self.read.get(key).is_none_or(|read| !Arc::ptr_eq(&read.record, record)) {
                    self.read.insert(key.clone(), Read::of(record.clone(), now_ms));
                }
            }
            self.records = records;
        }
        let was_set_back = now_ms < self.looked_ms;
        for read in self.read.values_mut().filter(|read| was_set_back || read.due_ms.is_some_and(|due| due <= now_ms)) {
            read.look(now_ms);
        }
        self.looked_ms = now_ms;
    }

    /// The window of each subject that was opened last.
    fn open(&self) -> Vec<Open> {
        let mut latest: BTreeMap<&SubjectId, (u64, &Read)> = BTreeMap::new();
        for read in self.read.values() {
            let Some(opened_ms) = read.opened_ms else { continue };
            let held = latest.entry(&read.record.subject).or_insert((opened_ms, read));
            if opened_ms > held.0 {
                *held = (opened_ms, read);
            }
        }
        let open = |(opened_ms, read): (u64, &Read)| {
            let timetable = read.timetable.as_ref()?;
            let reason = format!("schedule {} puts it on: {timetable}", read.record.name);
            Some(Open { record: read.record.clone(), opened_ms, until_ms: timetable.end_of(opened_ms), reason })
        };
        latest.into_values().filter_map(open).collect()
    }

    fn over(&self, now_ms: u64) -> Vec<Arc<ScheduleRecord>> {
        let is_over = |read: &&Read| {
            read.due_ms.is_none() && read.timetable.as_ref().is_some_and(|timetable| timetable.is_over(now_ms))
        };
        self.read.values().filter(is_over).map(|read| read.record.clone()).collect()
    }
}

impl Read {
    fn of(record: Arc<ScheduleRecord>, now_ms: u64) -> Self {
        let timetable = record.timetable();
        if let Err(error) = &timetable {
            tracing::warn!(subject = %record.subject, schedule = %record.name, "a schedule cannot be read here: {error}");
        }
        let mut read = Self { record, timetable: timetable.ok(), opened_ms: None, due_ms: None };
        read.look(now_ms);
        read
    }

    fn look(&mut self, now_ms: u64) {
        let Some(timetable) = &self.timetable else { return };
        let opened_ms = timetable.opened(now_ms);
        self.due_ms =
            opened_ms.map(|opened_ms| timetable.end_of(opened_ms)).into_iter().chain(timetable.next(now_ms)).min();
        self.opened_ms = opened_ms.filter(|opened_ms| self.record.uses(*opened_ms));
    }
}

fn put_on(draft: &mut Draft, open: Open) {
    let Open { record, opened_ms, until_ms, reason } = open;
    let ScheduleRecord { subject, name, persona, .. } = &*record;
    let Some(before) = draft.state().subjects.get(subject).cloned() else { return };
    let triggered = Override { value: persona.clone(), until_ms: Some(until_ms) };
    let is_by_hand = before.triggered.is_some() && before.triggered_by.is_none();
    let is_on = before.triggered.as_ref() == Some(&triggered);
    if is_by_hand || is_on {
        return;
    }
    let details = json!({ "persona": persona, "untilMs": until_ms, "schedule": name });
    match trouble(draft.state(), subject, persona) {
        None => {
            let message = format!("the activation of {persona} was triggered for {subject}: {reason}");
            draft.event("activation.triggered", subject, "manager", message, details);
        }
        Some(trouble) => {
            let message = format!("schedule {name} cannot put {persona} on {subject} now: {trouble}");
            draft.event("activation.failed", subject, "manager", message, details);
        }
    }
    let triggered_by = Some(ScheduledBy { name: name.clone(), reason });
    draft.put(SubjectRecord { triggered: Some(triggered), triggered_by, ..(*before).clone() });
    draft.put(ScheduleRecord { opened_ms: Some(opened_ms), ..(*record).clone() });
}

fn remove(draft: &mut Draft, record: &ScheduleRecord) {
    let ScheduleRecord { subject, name, persona, opened_ms, .. } = record;
    draft.delete::<ScheduleRecord>(&(subject.clone(), name.clone()));
    let (what, message) = match opened_ms {
        Some(_) => ("activation.unscheduled", format!("the schedule {name} of {subject} is over")),
        None => (
            "activation.missed",
            format!(
                "schedule {name} never put {persona} on {subject}: something else was triggered, or nobody was there, all the while"
            ),
        ),
    };
    draft.event(what, subject, "manager", message, json!({ "schedule": name, "persona": persona }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{ScheduledTimes, Snapshot};

    const WEB: &str = "workload/n1/web";
    const MINUTE: u64 = 60_000;

    fn at(text: &str) -> u64 {
        persona_core::activate::instant(text, "UTC").unwrap()
    }

    fn schedule(name: &str, times: ScheduledTimes, minutes: u64) -> ScheduleRecord {
        let (subject, persona, for_ms) = (WEB.parse().unwrap(), name.parse().unwrap(), minutes * MINUTE);
        let (name, by) = (name.parse().unwrap(), "access/ann".to_owned());
        ScheduleRecord { subject, name, persona, times, for_ms, made_ms: 0, by, opened_ms: None, released_ms: None }
    }

    fn every(name: &str, cron: &str, minutes: u64) -> ScheduleRecord {
        schedule(name, ScheduledTimes::Every { cron: cron.to_owned(), zone: "Europe/Berlin".to_owned() }, minutes)
    }

    /// A subject with these schedules, and what has been read of them.
    struct Scene(Snapshot, Timetables);

    impl Scene {
        fn of(schedules: Vec<ScheduleRecord>) -> Self {
            let mut draft = Draft::new(&Snapshot::default(), 0);
            let subject = json!({ "subject": WEB, "number": 1, "manual": null, "request": null, "sections": {},
                "target": null, "unassigned": null, "item": null });
            draft.put(serde_json::from_value::<SubjectRecord>(subject).unwrap());
            schedules.into_iter().for_each(|schedule| draft.put(schedule));
            Self(draft.state().clone(), Timetables::default())
        }

        /// A pass at a time: what is worn by it, and the names of its events.
        fn pass(&mut self, now_ms: u64) -> (Option<String>, Vec<String>) {
            let mut draft = Draft::new(&self.0, now_ms);
            super::super::assignment::end_overrides(&mut draft);
            advance(&mut draft, &mut self.1);
            let (snapshot, _, events) = draft.finish();
            self.0 = snapshot;
            let worn = self.0.subjects[&WEB.parse().unwrap()].triggered.as_ref().map(|it| it.value.to_string());
            (worn, events.into_iter().map(|event| event.name).collect())
        }

        fn worn(&mut self, time: &str) -> Option<String> {
            self.pass(at(time)).0
        }
    }

    #[test]
    fn the_night_of_march_and_that_of_october_have_one_window_each() {
        let mut scene = Scene::of(vec![every("night", "30 2 * * *", 45)]);
        let mut openings = 0;
        for begin in ["2026-03-28T22:00:00Z", "2026-10-24T22:00:00Z"].map(at) {
            let mut minutes = 0;
            for now_ms in (begin..begin + 360 * MINUTE).step_by(MINUTE as usize) {
                let (worn, told) = scene.pass(now_ms);
                minutes += u64::from(worn.is_some());
                openings += told.iter().filter(|name| *name == "activation.failed").count();
            }
            assert_eq!(minutes, 45);
        }
        assert_eq!(openings, 2, "told once each; here nobody may wear it");
    }

    #[test]
    fn a_restart_in_a_window_changes_nothing_and_one_after_it_ends_it() {
        let mut scene = Scene::of(vec![every("night", "0 22 * * *", 480)]);
        assert_eq!(scene.pass(at("2026-06-01T19:59:59Z")), (None, vec![]));
        assert_eq!(scene.worn("2026-06-01T20:00:00Z").as_deref(), Some("night"));
        scene.1 = Timetables::default();
        assert_eq!(scene.pass(at("2026-06-01T23:00:00Z")), (Some("night".to_owned()), vec![]));
        scene.1 = Timetables::default();
        assert_eq!(scene.pass(at("2026-06-02T07:00:00Z")), (None, vec!["activation.ended".to_owned()]));
    }

    #[test]
    fn a_clock_that_is_set_is_followed() {
        let mut scene = Scene::of(vec![every("night", "0 22 * * *", 60)]);
        assert_eq!(scene.worn("2026-06-03T12:00:00Z"), None);
        assert_eq!(scene.worn("2026-06-01T20:30:00Z").as_deref(), Some("night"), "set back into a window");
        assert_eq!(scene.worn("2026-06-05T20:59:59Z").as_deref(), Some("night"), "set forward into another one");
        assert_eq!(scene.worn("2026-06-05T21:00:00Z"), None);
    }

    #[test]
    fn the_window_opened_last_wins_and_the_other_goes_on_afterwards() {
        let mut scene = Scene::of(vec![every("long", "0 10 * * *", 240), every("short", "0 11 * * *", 60)]);
        let cases = [("08:00", "long"), ("09:00", "short"), ("09:59", "short"), ("10:00", "long"), ("11:59", "long")];
        for (time, expected) in cases {
            assert_eq!(scene.worn(&format!("2026-06-01T{time}:00Z")).as_deref(), Some(expected), "{time}");
        }
        assert_eq!(scene.worn("2026-06-01T12:00:00Z"), None);
    }

    #[test]
    fn once_is_forgotten_afterwards_and_told_if_it_was_missed() {
        let once = || schedule("sale", ScheduledTimes::At(at("2026-06-01T10:00:00Z")), 60);
        let mut scene = Scene::of(vec![once()]);
        assert_eq!(scene.worn("2026-06-01T10:30:00Z").as_deref(), Some("sale"), "the rest of it");
        let ended = scene.pass(at("2026-06-01T11:00:00Z"));
        assert_eq!(ended, (None, vec!["activation.ended".to_owned(), "activation.unscheduled".to_owned()]));
        assert!(scene.0.schedules.is_empty());
        let mut scene = Scene::of(vec![once()]);
        assert_eq!(scene.pass(at("2026-06-01T11:00:00Z")), (None, vec!["activation.missed".to_owned()]));
        assert!(scene.0.schedules.is_empty());
    }
}
