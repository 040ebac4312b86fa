//! Schedules of activations: made, removed, forgotten, and what people see of them. When one puts its persona on is for the
//! pass to say.

use persona_core::activate::Timetable;
use persona_core::document::Kind as DocumentKind;
use persona_core::ids::{NodeName, PersonaName, ScheduleName, SubjectId};
use persona_core::wire::api::{NewSchedule, ScheduleView};
use serde_json::json;

use crate::error::{Kind, Refusal};
use crate::overrides::check_exists;
use crate::store::{Draft, ScheduleRecord, ScheduledTimes, Snapshot, SubjectRecord};
use crate::tasks::wear::bindings_of;

/// Schedules of one subject.
const COUNT_MAX: usize = 16;

/// Keeps a schedule, which counts from now on.
pub(crate) fn make(draft: &mut Draft, new: NewSchedule) -> Result<ScheduleView, Refusal> {
    let record = checked(draft, new)?;
    let timetable = record.timetable().map_err(|error| Refusal::invalid(error.to_string()))?;
    if timetable.is_over(draft.now_ms()) {
        return Err(Refusal::invalid(format!("{timetable} is over by now: write a time that comes")));
    }
    let message = format!("{} is scheduled for {}, as {}: {timetable}", record.persona, record.subject, record.name);
    let details =
        json!({ "schedule": record.name, "persona": record.persona, "times": record.times, "forMs": record.for_ms });
    draft.event("activation.scheduled", &record.subject, draft.actor(), message, details);
    draft.put(record.clone());
    Ok(view(draft.state(), &record, draft.now_ms()))
}

/// Removes a schedule, and takes off what it has put on. Returns whether that was something.
pub(crate) fn remove(draft: &mut Draft, subject: &SubjectId, name: &ScheduleName) -> Result<bool, Refusal> {
    let key = (subject.clone(), name.clone());
    let Some(record) = draft.state().schedules.get(&key).cloned() else {
        let detail = format!("{subject} has no schedule {name}: GET /v1/schedules lists all");
        return Err(Refusal::not_found(detail));
    };
    draft.delete::<ScheduleRecord>(&key);
    let worn =
        draft.state().subjects.get(subject).filter(|it| it.triggered_by.as_ref().is_some_and(|by| by.name == *name));
    let worn = worn.cloned();
    if let Some(worn) = &worn {
        draft.put(SubjectRecord { triggered: None, triggered_by: None, ..(**worn).clone() });
    }
    let message = format!("the schedule {name} of {subject} was removed");
    let details = json!({ "schedule": name, "persona": record.persona, "wasOn": worn.is_some() });
    draft.event("activation.unscheduled", subject, draft.actor(), message, details);
    Ok(worn.is_some())
}

/// Has a schedule leave out the windows that are open by now.
pub(crate) fn skip(draft: &mut Draft, subject: &SubjectId, name: &ScheduleName) {
    let Some(record) = draft.state().schedules.get(&(subject.clone(), name.clone())).cloned() else { return };
    let released_ms = Some(draft.now_ms());
    draft.put(ScheduleRecord { released_ms, ..(*record).clone() });
}

/// Forgets the schedules of a node that is deleted, and of its workloads.
pub(crate) fn forget_node(draft: &mut Draft, node: &NodeName) {
    let of_node = draft.state().schedules.keys().filter(|(subject, _)| subject.node() == node);
    let keys: Vec<(SubjectId, ScheduleName)> = of_node.cloned().collect();
    for (subject, name) in keys {
        draft.delete::<ScheduleRecord>(&(subject.clone(), name.clone()));
        let message = format!("the schedule {name} of {subject} is gone with its node");
        draft.event("activation.unscheduled", &subject, draft.actor(), message, json!({ "schedule": name }));
    }
}

/// Why a schedule would put nothing on, if so.
pub(crate) fn trouble(snapshot: &Snapshot, subject: &SubjectId, persona: &PersonaName) -> Option<String> {
    if check_exists(snapshot, subject).is_err() {
        return Some(format!("{subject} is not there now"));
    }
    let bindings = bindings_of(snapshot, subject);
    if bindings.iter().any(|binding| binding.spec.named_personas().contains(&persona)) {
        return None;
    }
    let names: Vec<&str> = bindings.iter().map(|binding| binding.metadata.name.as_str()).collect();
    Some(match names.is_empty() {
        true => format!("no binding selects {subject}: apply one that does and names {persona}"),
        false => {
            format!("{subject} may not wear {persona}: add it to spec.personas of binding {}", names.join(" or "))
        }
    })
}

/// What people see of a schedule.
pub(crate) fn view(snapshot: &Snapshot, record: &ScheduleRecord, now_ms: u64) -> ScheduleView {
    let timetable = record.timetable().ok();
    let open = |timetable: &Timetable| timetable.opened(now_ms).filter(|opened_ms| record.uses(*opened_ms));
    let (at_ms, every, time_zone) = match &record.times {
        ScheduledTimes::At(at_ms) => (Some(*at_ms), None, None),
        ScheduledTimes::Every { cron, zone } => (None, Some(cron.clone()), Some(zone.clone())),
    };
    ScheduleView {
        subject: record.subject.clone(),
        name: record.name.clone(),
        persona: record.persona.clone(),
        at_ms,
        every,
        time_zone,
        for_ms: record.for_ms,
        by: record.by.clone(),
        made_ms: record.made_ms,
        open_until_ms: timetable.as_ref().and_then(|table| open(table).map(|opened_ms| table.end_of(opened_ms))),
        next_ms: timetable.as_ref().and_then(|table| table.next(now_ms)),
        trouble: trouble(snapshot, &record.subject, &record.persona),
    }
}

fn checked(draft: &Draft, new: NewSchedule) -> Result<ScheduleRecord, Refusal> {
    let NewSchedule { subject, persona, name, at_ms, every, time_zone, for_ms } = new;
    let state = draft.state();
    check_exists(state, &subject)?;
    if state.document(DocumentKind::Persona, persona.as_str()).is_none() {
        return Err(Refusal::not_found(format!("there is no persona {persona}: apply it first")));
    }
    if let Some(trouble) = trouble(state, &subject, &persona) {
        return Err(Refusal::new(Kind::NoPersonaFits, trouble));
    }
    let times = match (at_ms, every) {
        (Some(at_ms), None) if time_zone.is_none() => ScheduledTimes::At(at_ms),
        (None, Some(cron)) => ScheduledTimes::Every { cron, zone: time_zone.unwrap_or_else(|| "UTC".to_owned()) },
        _ => return Err(Refusal::invalid("write either atMs, or every and if need be timeZone")),
    };
    let name = match name {
        Some(name) => name,
        None => persona.as_str().parse().map_err(|error| Refusal::invalid(format!("name: {error}")))?,
    };
    let mut own = state.schedules.keys().filter(|(of, _)| *of == subject);
    if state.schedules.contains_key(&(subject.clone(), name.clone())) {
        let detail = format!("{subject} has a schedule {name}: remove it first, or give this one another name");
        return Err(Refusal::new(Kind::InUse, detail));
    }
    if own.by_ref().count() >= COUNT_MAX {
        return Err(Refusal::invalid(format!("{subject} has {COUNT_MAX} schedules, which is as many as there may be")));
    }
    let by = draft.actor().to_string();
    Ok(ScheduleRecord {
        subject,
        name,
        persona,
        times,
        for_ms,
        made_ms: draft.now_ms(),
        by,
        opened_ms: None,
        released_ms: None,
    })
}
