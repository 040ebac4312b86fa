//! The plan that steers: kept by the leading manager, followed by its passes, written into subjects' records in waves.
//!
//! What is in force stands in the records. In memory is only where the plan wants everybody; a manager that begins to lead
//! starts from the records, and plans only once everybody has had the time to report.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use persona_core::ids::{GroupName, SubjectId};
use persona_core::plan::{
    Capacity, Demand, Fleet, FleetError, FleetNode, Move, MoveCause, Placement, Plan, Planner, WavePlan, waves_of,
};
use persona_core::wire::planning::{PlanMode, PlanSettings};
use serde_json::json;

use super::fleet_of;
use crate::store::{AgentId, Draft, PlannedRecord, SETTINGS_KEY, Snapshot, SubjectRecord};
use crate::tasks::reports::Reports;

/// What is measured changes all the time; plans follow it this often, milliseconds. Everything else they follow at once.
const MEASURED_INTERVAL_MS: u64 = 10_000;

/// How planning is set.
pub(crate) fn settings_of(snapshot: &Snapshot) -> PlanSettings {
    snapshot.settings.get(SETTINGS_KEY).and_then(|settings| settings.plan.clone()).unwrap_or_default()
}

/// A fleet with those subjects only that can be planned: every edge of their group states what it can carry, for one that
/// does not would look empty whatever it carries.
pub(crate) fn plannable(mut fleet: Fleet) -> Fleet {
    let unstated = fleet.edges.iter().filter(|edge| edge.capacity == Capacity::default());
    let unstated: BTreeSet<GroupName> = unstated.map(|edge| edge.group.clone()).collect();
    for node in &mut fleet.nodes {
        node.subjects.retain(|subject| subject.group.as_ref().is_some_and(|group| !unstated.contains(group)));
    }
    fleet
}

/// The plan that is in force, as the planner reads it.
pub(crate) fn plan_in_force(snapshot: &Snapshot, fleet: &Fleet) -> Plan {
    let placement = |record: &SubjectRecord| {
        let (planned, target) = (record.planned.as_ref()?, record.target.as_ref()?);
        let (persona, edge) = (target.persona.clone(), planned.edge.clone());
        let placement = Placement { persona, edge, score: 0.0, next: Vec::new(), refused: Vec::new() };
        Some((record.subject.clone(), placement))
    };
    let open = fleet.edges.iter().filter(|edge| edge.service.takes_subjects());
    Plan {
        edges: open.map(|edge| edge.name.clone()).collect(),
        subjects: snapshot.subjects.values().filter_map(|record| placement(record)).collect(),
    }
}

/// Keeps the plan.
#[derive(Debug, Default)]
pub(crate) struct Keeper {
    planner: Option<Planner>,
    /// The fleet without what is measured, as it was last planned for.
    shape: Fleet,
    /// Why those move whom the last plans moved and whose wave has not come.
    causes: BTreeMap<SubjectId, MoveCause>,
    replan_at: u64,
    wave_at: u64,
    trouble: String,
}

impl Keeper {
    /// Follows the fleet, and writes the next wave of moves into the draft if its time has come.
    pub(crate) fn advance(&mut self, draft: &mut Draft, reports: &Reports) {
        let settings = settings_of(draft.state());
        if settings.mode == PlanMode::Advise {
            *self = Self::default();
            return withdraw(draft, |_| true, "the plan is advice from now on");
        }
        if !reports.is_settled() {
            return;
        }
        let fleet = plannable(fleet_of(draft.state(), reports, &settings));
        match self.plan(draft.state(), fleet, reports.now()) {
            Ok(()) => self.trouble.clear(),
            Err(errors) => return self.fail(&errors),
        }
        let Some(planner) = &self.planner else { return };
        let placed: BTreeSet<&SubjectId> = planner.placements().map(|(subject, _)| subject).collect();
        withdraw(draft, |subject| !placed.contains(subject), "the plan has no edge for it any more");
        self.move_next(draft, reports.now());
    }

    /// Plans, if something changed that plans are made from.
    fn plan(&mut self, snapshot: &Snapshot, fleet: Fleet, now: u64) -> Result<(), Vec<FleetError>> {
        let shape = shape_of(&fleet);
        let is_due = shape != self.shape || now >= self.replan_at;
        let planner = match &mut self.planner {
            Some(_) if !is_due => return Ok(()),
            Some(planner) => {
                planner.follow(fleet)?;
                planner
            }
            None => {
                let plan = plan_in_force(snapshot, &fleet);
                self.planner.insert(Planner::new(fleet, &plan)?)
            }
        };
        let outcome = planner.replan();
        self.causes.extend(outcome.moves.into_iter().map(|it| (it.subject, it.cause)));
        (self.shape, self.replan_at) = (shape, now + MEASURED_INTERVAL_MS);
        Ok(())
    }

    fn fail(&mut self, errors: &[FleetError]) {
        let trouble = errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        if trouble != self.trouble {
            tracing::warn!(trouble, "the fleet cannot be planned; every subject stays on the edge that it has");
        }
        *self = Self { trouble, ..Self::default() };
    }

    fn move_next(&mut self, draft: &mut Draft, now: u64) {
        let Some(planner) = &self.planner else { return };
        let pending = pending(planner, &self.causes, draft.state());
        if pending.is_empty() {
            return self.causes.clear();
        }
        if now < self.wave_at {
            return;
        }
        let WavePlan { waves, stuck } = waves_of(planner, &pending);
        // Where each would have to go first, one goes: for a moment there is less room than is reserved.
        let next =
            waves.into_iter().next().map(|wave| wave.moves).or_else(|| Some(stuck.into_iter().take(1).collect()));
        self.wave_at = now + planner.fleet().planning.pace.every.0;
        let next: Vec<Move> = next.into_iter().flatten().collect();
        let mut placed = planner.placed_among(next.iter().map(|it| &it.subject));
        for it in next {
            self.causes.remove(&it.subject);
            put(draft, &it, placed.remove(&it.subject));
        }
    }
}

/// A fleet without what is measured.
fn shape_of(fleet: &Fleet) -> Fleet {
    let mut shape = fleet.clone();
    shape.edges.iter_mut().for_each(|edge| edge.capacity.processor_packets_per_sec = None);
    for node in &mut shape.nodes {
        let FleetNode { paths, subjects, .. } = node;
        paths.clear();
        subjects.iter_mut().for_each(|subject| subject.demand = Demand::default());
    }
    shape
}

/// Who is elsewhere than the plan has them.
fn pending(planner: &Planner, causes: &BTreeMap<SubjectId, MoveCause>, snapshot: &Snapshot) -> Vec<Move> {
    let moves = planner.placements().filter_map(|(subject, edge)| {
        let planned = snapshot.subjects.get(subject)?.planned.as_ref();
        if planned.is_some_and(|planned| planned.edge == *edge) {
            return None;
        }
        let (from, to) = (planned.map(|planned| planned.edge.clone()), edge.clone());
        let otherwise = if from.is_none() { MoveCause::New } else { MoveCause::Balance };
        let cause = causes.get(subject).copied().unwrap_or(otherwise);
        Some(Move { subject: subject.clone(), from, to, cause })
    });
    moves.collect()
}

/// Writes a move down with what else was considered, and an event.
fn put(draft: &mut Draft, it: &Move, placement: Option<Placement>) {
    let Some(record) = draft.state().subjects.get(&it.subject).cloned() else { return };
    let edge = draft.state().agents.get(&AgentId::edge(it.to.as_str()));
    let Some(group) = edge.and_then(|agent| agent.edge()).map(|edge| edge.group.clone()) else { return };
    let from = it.from.as_ref().map_or("no edge".to_owned(), ToString::to_string);
    let message = format!("{}: {from} → {} ({})", it.subject, it.to, it.cause.as_str());
    let (score, next, refused) = placement.map(|it| (it.score, it.next, it.refused)).unwrap_or_default();
    let details = json!({
        "before": it.from, "after": it.to, "group": group, "cause": it.cause, "score": score, "next": next, "refused": refused,
    });
    draft.event("plan.moved", &it.subject, "manager", message, details);
    let (edge, since_ms, cause) = (it.to.clone(), draft.now_ms(), it.cause);
    let planned = PlannedRecord { edge, group, since_ms, cause, score, next, refused };
    draft.put(SubjectRecord { planned: Some(planned), ..(*record).clone() });
}

/// Takes planned edges back, with an event for each subject that still has a way out.
fn withdraw(draft: &mut Draft, is_over: impl Fn(&SubjectId) -> bool, reason: &str) {
    let all = draft.state().subjects.values();
    let over: Vec<Arc<SubjectRecord>> =
        all.filter(|record| record.planned.is_some() && is_over(&record.subject)).cloned().collect();
    for record in over {
        let before = record.planned.as_ref().map(|planned| &planned.edge);
        let message = format!("{}: the whole group carries it by weights: {reason}", record.subject);
        if record.target.is_some() {
            draft.event("plan.withdrawn", &record.subject, "manager", message, json!({ "before": before }));
        }
        draft.put(SubjectRecord { planned: None, ..(*record).clone() });
    }
}
