//! What people see of signals and of what criteria make of them.

use persona_core::ids::SubjectId;
use persona_core::predict::Measured;
use persona_core::signal::{SignalName, Unit};
use persona_core::units::Span;
use persona_core::wire::api::{ActivationView, ForecastAccuracy, MonitoringView, SignalView};

use super::activations::{Activations, Key, key_of};
use super::judged::Judged;
use crate::clock;
use crate::store::Snapshot;

impl Activations {
    /// What criteria make of a subject. None: no persona that it may wear has rules.
    pub(crate) fn view(&self, subject: &SubjectId, clock: clock::Moment) -> Option<ActivationView> {
        let mut state = self.lock();
        let now = state.moment(clock);
        let judged = state.subjects.get(&key_of(subject))?;
        let group = state.groups.get(&judged.list)?;
        let worn = judged.decided.as_ref().filter(|decided| !decided.sections.is_empty());
        let budget = judged.list.budget();
        Some(ActivationView {
            subject: subject.clone(),
            personas: group.fleet.explain(judged.index, now).personas,
            reason: worn.map(|decided| decided.reason.clone()),
            since_ms: worn.map(|decided| decided.since_ms),
            held_back: judged.held_back.clone().filter(|_| group.fleet.is_held_back(judged.index)),
            switch_count: group.fleet.switch_count(judged.index, now.steady_ms) as u32,
            switch_count_max: budget.count,
            switch_span_ms: budget.per.0,
            trouble: group.trouble.clone(),
        })
    }

    /// What its persona watches a subject for. None: it wears no monitoring section.
    pub(crate) fn watch_view(&self, subject: &SubjectId, clock: clock::Moment) -> Option<MonitoringView> {
        let mut state = self.lock();
        let now = state.moment(clock);
        let watched = state.watches.subjects.get(&key_of(subject))?;
        let (persona, version) = (watched.persona.clone(), watched.version);
        Some(MonitoringView { persona, version, alerts: watched.story(now) })
    }

    /// How far forecasts turned out to be off, by subject, signal and time ahead.
    pub(crate) fn accuracies(&self) -> Vec<ForecastAccuracy> {
        let state = self.lock();
        let of_subject = |((_, subject), judged): (&Key, &Judged)| -> Vec<ForecastAccuracy> {
            let view = |(signal, ahead, measured): (&SignalName, Span, Measured)| {
                let known = |error: f64| (measured.count > 0).then_some(error);
                ForecastAccuracy {
                    subject: subject.clone(),
                    signal: signal.to_string(),
                    ahead_ms: ahead.0,
                    count: measured.count,
                    error: known(measured.error),
                    persistence_error: known(measured.persistence_error),
                }
            };
            judged.sight.board.accuracies().map(view).collect()
        };
        state.subjects.iter().flat_map(of_subject).collect()
    }

    /// Every signal of a subject, pushed and measured, by name.
    pub(crate) fn signals(&self, snapshot: &Snapshot, subject: &SubjectId, clock: clock::Moment) -> Vec<SignalView> {
        let mut state = self.lock();
        let now = state.moment(clock);
        let pushed = snapshot.signals_of(subject).filter(|it| it.until_ms > now.wall_ms);
        let mut views: Vec<SignalView> = pushed
            .map(|record| SignalView {
                name: record.name.clone(),
                value: record.value,
                shown: Unit::NONE.show(record.value),
                until_ms: Some(record.until_ms),
                by: Some(record.by.clone()),
                age_ms: now.wall_ms.saturating_sub(record.pushed_ms),
            })
            .collect();
        if let Some(measured) = state.measured.get(&key_of(subject)) {
            let age_ms = now.steady_ms.saturating_sub(measured.at_ms);
            views.extend(measured.values.iter().map(|(name, value)| measured_view(name, *value, age_ms)));
        }
        views.sort_by(|one, other| one.name.cmp(&other.name));
        views
    }
}

fn measured_view(name: &SignalName, value: f64, age_ms: u64) -> SignalView {
    let shown = name.unit().unwrap_or(Unit::NONE).show(value);
    SignalView { name: name.to_string(), value, shown, until_ms: None, by: None, age_ms }
}
