//! What would happen if documents were applied: who would wear something else, who nothing, how full pools and edges would get.
//!
//! The state is made as a pass would leave it, on a draft that is thrown away.

use std::collections::BTreeMap;

use persona_core::document::Document;
use persona_core::ids::{EdgeName, SubjectId};
use persona_core::plan::{EdgeFill, Plan, Planner};
use persona_core::wire::planning::{EdgeForecast, PlanMode, PoolForecast, WhatIf, Worn, WornChange};

use crate::documents::{self, Conflicts};
use crate::error::Refusal;
use crate::planning::{fleet_of, plan_in_force, plannable, settings_of};
use crate::pools::PoolUse;
use crate::reach::changed_between;
use crate::store::{Draft, Snapshot};
use crate::tasks::assignment::Assigner;
use crate::tasks::reports::Reports;

/// Subjects that an answer names.
const NAMED_MAX: usize = 1_000;

/// Applies documents to a draft that nobody keeps.
pub(crate) fn what_if(
    assigner: &Assigner,
    snapshot: &Snapshot,
    documents: &[Document],
    now_ms: u64,
) -> Result<WhatIf, Refusal> {
    let reports = assigner.reports();
    let mut draft = Draft::new(snapshot, now_ms);
    documents::apply(&mut draft, &reports, documents, Conflicts::Override)?;
    let (before, after) = (assigner.settled(snapshot), assigner.settled(draft.state()));
    let changed = changed_between(&before, &after);
    let mut changes: Vec<WornChange> = changed.iter().map(|subject| change(&before, &after, subject)).collect();
    let (changed_count, refused_count) =
        (changes.len() as u32, changes.iter().filter(|it| it.after.is_none()).count() as u32);
    // Who would have nothing matters most.
    changes.sort_by_key(|it| it.after.is_some());
    changes.truncate(NAMED_MAX);
    let (pools, edges) = (pools(&before, &after), edges(&before, &after, &reports));
    Ok(WhatIf { changed: changed_count, refused: refused_count, changes, pools, edges })
}

fn change(before: &Snapshot, after: &Snapshot, subject: &SubjectId) -> WornChange {
    let worn = |snapshot: &Snapshot| {
        let target = snapshot.subjects.get(subject)?.target.as_ref()?;
        Some(Worn { persona: target.persona.clone(), version: target.version })
    };
    let record = after.subjects.get(subject);
    let reason = record.and_then(|record| {
        let worn = record.sections.get("network").map(|section| section.reason.clone());
        record.unassigned.clone().or(worn)
    });
    WornChange {
        subject: subject.clone(),
        before: worn(before),
        after: worn(after),
        reason: reason.unwrap_or_default(),
    }
}

/// Old leases end only with their flows, so for a while pools hold both.
fn pools(before: &Snapshot, after: &Snapshot) -> Vec<PoolForecast> {
    let known: BTreeMap<_, _> = before.pools().map(|pool| (&pool.metadata.name, PoolUse::of(before, pool))).collect();
    let forecast = |pool| {
        let now = PoolUse::of(after, pool);
        let (old_blocks, old_prefixes) = known.get(&pool.metadata.name).map_or((0, 0), PoolUse::taken);
        let (blocks, prefixes) = now.taken();
        PoolForecast {
            pool: pool.metadata.name.clone(),
            blocks_total: now.blocks_total,
            blocks_before: old_blocks,
            blocks_after: blocks,
            prefixes_total: now.prefixes_total,
            prefixes_before: old_prefixes,
            prefixes_after: prefixes,
        }
    };
    after.pools().map(forecast).collect()
}

fn edges(before: &Snapshot, after: &Snapshot, reports: &Reports) -> Vec<EdgeForecast> {
    let old: BTreeMap<EdgeName, EdgeFill> =
        fills(before, reports).into_iter().map(|fill| (fill.edge.clone(), fill)).collect();
    let told = fills(after, reports).into_iter().map(|fill| EdgeForecast {
        before: old.get(&fill.edge).map_or(0.0, |fill| fill.after),
        subjects_before: old.get(&fill.edge).map_or(0, |fill| fill.subjects),
        after: fill.after,
        subjects_after: fill.subjects,
        edge: fill.edge,
    });
    told.collect()
}

/// How full the plan for a state makes edges. None are told where the fleet cannot be planned.
fn fills(snapshot: &Snapshot, reports: &Reports) -> Vec<EdgeFill> {
    let settings = settings_of(snapshot);
    let fleet = fleet_of(snapshot, reports, &settings);
    let plan = match settings.mode {
        PlanMode::Steer => plan_in_force(snapshot, &fleet),
        PlanMode::Advise => Plan::default(),
    };
    Planner::new(plannable(fleet), &plan).map(|mut planner| planner.replan().edges).unwrap_or_default()
}
