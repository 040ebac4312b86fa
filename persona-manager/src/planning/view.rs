//! What people see of the plan: who is where and why, how full edges are, and what was considered for one subject.

use std::collections::BTreeMap;

use persona_core::ids::SubjectId;
use persona_core::plan::{
    Capacity, Demand, EdgeFill, Fleet, FleetError, FleetSubject, Outcome, Plan, Planner, Refusal,
};
use persona_core::wire::api::{ConsideredEdge, EdgeExplanation};
use persona_core::wire::load::EdgeLoad;
use persona_core::wire::planning::{PlanMode, PlanView, PlannedEdge, PlannedSubject};

use super::fleet_of;
use super::keeper::{plan_in_force, plannable, settings_of};
use crate::store::Snapshot;
use crate::tasks::reports::Reports;

/// The fleet, its plan, and what planning on would do.
pub(crate) struct Current {
    mode: PlanMode,
    /// Every subject, also those that cannot be planned.
    fleet: Fleet,
    planner: Planner,
    outcome: Outcome,
}

impl Current {
    /// The plan in force; as advice one made from nothing.
    pub(crate) fn of(snapshot: &Snapshot, reports: &Reports) -> Result<Self, Vec<FleetError>> {
        let settings = settings_of(snapshot);
        let fleet = fleet_of(snapshot, reports, &settings);
        let plan = match settings.mode {
            PlanMode::Steer => plan_in_force(snapshot, &fleet),
            PlanMode::Advise => Plan::default(),
        };
        let mut planner = Planner::new(plannable(fleet.clone()), &plan)?;
        let mut next = planner.clone();
        let outcome = next.replan();
        if settings.mode == PlanMode::Advise {
            planner = next;
        }
        Ok(Self { mode: settings.mode, fleet, planner, outcome })
    }

    fn subjects_of(&self, edge: &EdgeFill) -> (u32, f64) {
        match self.mode {
            PlanMode::Steer => (edge.subjects_before, edge.before),
            PlanMode::Advise => (edge.subjects, edge.after),
        }
    }
}

/// The whole plan.
pub(crate) fn plan_view(current: &Current, snapshot: &Snapshot, measured: &BTreeMap<String, EdgeLoad>) -> PlanView {
    let plan = current.planner.plan();
    PlanView {
        mode: current.mode,
        edges: edges_of(current, &plan, measured),
        subjects: subjects_of(current, &plan, snapshot),
        plan,
    }
}

fn edges_of(current: &Current, plan: &Plan, measured: &BTreeMap<String, EdgeLoad>) -> Vec<PlannedEdge> {
    let none = Demand { leases: 0, ..Demand::default() };
    let mut reserved: BTreeMap<_, Demand> = BTreeMap::new();
    for (id, subject) in all_subjects(&current.fleet) {
        let Some(placement) = plan.subjects.get(&id) else { continue };
        let sum = reserved.entry(&placement.edge).or_insert(none);
        sum.rate.0 += subject.demand.rate.0;
        sum.packets_per_sec += subject.demand.packets_per_sec;
        sum.flows += subject.demand.flows;
        sum.leases += subject.demand.leases;
    }
    let planned = current.outcome.edges.iter().zip(&current.planner.fleet().edges);
    let told = planned.map(|(fill, edge)| {
        let (subjects, planned_fullness) = current.subjects_of(fill);
        PlannedEdge {
            edge: edge.name.clone(),
            group: edge.group.clone(),
            service: edge.service.as_str().to_owned(),
            subjects,
            planned: reserved.get(&edge.name).copied().unwrap_or(none),
            planned_fullness,
            measured_fullness: measured.get(edge.name.as_str()).and_then(|load| load.fullness),
        }
    });
    told.collect()
}

fn subjects_of(current: &Current, plan: &Plan, snapshot: &Snapshot) -> Vec<PlannedSubject> {
    let refusals: BTreeMap<&SubjectId, &Refusal> =
        current.outcome.refusals.iter().map(|it| (&it.subject, it)).collect();
    let told = all_subjects(&current.fleet).filter_map(|(id, subject)| {
        let placement = plan.subjects.get(&id);
        let record = snapshot.subjects.get(&id)?;
        let planned = record.planned.as_ref().filter(|it| placement.is_some_and(|is| is.edge == it.edge));
        let group = subject.group.clone()?;
        let reason = match (placement, planned) {
            (Some(_), Some(planned)) => planned.cause.as_str().to_owned(),
            (Some(placement), None) => format!("the best that there is room for, {:.1} points", placement.score),
            (None, _) => why_nowhere(current, &id, subject, &refusals),
        };
        Some(PlannedSubject {
            subject: id.clone(),
            persona: subject.personas.first()?.clone(),
            group,
            edge: placement.map(|placement| placement.edge.clone()),
            since_ms: planned.map(|planned| planned.since_ms),
            demand: subject.demand,
            reason,
        })
    });
    told.collect()
}

fn all_subjects(fleet: &Fleet) -> impl Iterator<Item = (SubjectId, &FleetSubject)> {
    fleet.nodes.iter().flat_map(|node| node.subjects.iter().map(|it| (it.id(&node.name), it)))
}

fn why_nowhere(
    current: &Current,
    id: &SubjectId,
    subject: &FleetSubject,
    refusals: &BTreeMap<&SubjectId, &Refusal>,
) -> String {
    if let Some(refusal) = refusals.get(id) {
        let hints = refusal.nearest.iter().flat_map(|nearest| &nearest.hints).cloned().collect::<Vec<_>>();
        let hints = if hints.is_empty() { String::new() } else { format!("; {}", hints.join("; ")) };
        return format!("{}{hints}", refusal.reason);
    }
    let of_group = current.fleet.edges.iter().filter(|edge| Some(&edge.group) == subject.group.as_ref());
    let unstated: Vec<&str> =
        of_group.filter(|edge| edge.capacity == Capacity::default()).map(|edge| edge.name.as_str()).collect();
    match unstated.is_empty() {
        true => "the next wave of moves puts it somewhere".to_owned(),
        false => format!("its group is not planned: {} must state what they can carry", unstated.join(", ")),
    }
}

/// What was considered for one subject. None: it holds no lease, or its group is not planned.
pub(crate) fn considered(current: &Current, subject: &SubjectId) -> Option<EdgeExplanation> {
    let told = current.planner.explain(subject)?;
    let considered = told.considered.into_iter().map(|edge| ConsideredEdge {
        edge: edge.edge,
        chosen: edge.chosen,
        refusals: edge.refusals.into_iter().map(|it| format!("{}: {}", it.filter.as_str(), it.reason)).collect(),
        scores: edge.scores.into_iter().map(|(term, points)| (term.to_owned(), points)).collect(),
        fullness: edge.fill,
        hint: edge.hint,
    });
    Some(EdgeExplanation {
        mode: current.mode,
        edge: told.edge,
        reason: told.reason,
        demand: told.demand,
        considered: considered.collect(),
    })
}
