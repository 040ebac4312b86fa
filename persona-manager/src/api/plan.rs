//! The fleet as planning sees it, its plan, what moved lately, and how it is planned.

use axum::Json;
use axum::extract::State;
use persona_core::plan::{Fleet, FleetError, Plan, Planner};
use persona_core::wire::api::{EventView, Page, Problem};
use persona_core::wire::planning::{PlanMode, PlanSettings, PlanView};
use serde::Deserialize;
use serde_json::json;

use super::events::{checked_limit, view};
use super::input::{Body, IfMatch, Params, ReachHeader, Reaching, Tagged};
use super::views;
use crate::context::Context;
use crate::error::Refusal;
use crate::planning::{Current, fleet_of, plan_view};
use crate::reach;
use crate::store::{Draft, EventRecord, SETTINGS_KEY, SettingsRecord, Snapshot};
use crate::versions::value_tag;

/// Events that are read at a time to find those of the plan, and how often.
const EVENTS_AT_A_TIME: u32 = 1_000;
const READS_MAX: u32 = 50;

/// The live fleet in the format that `simulate -f` reads.
#[utoipa::path(get, path = "/v1/fleet", responses((status = 200, body = serde_json::Value)))]
pub(super) async fn fleet(State(context): State<Context>) -> Json<Fleet> {
    let snapshot = context.store.snapshot();
    Json(fleet_of(&snapshot, &context.assigner.reports(), &settings_in(&snapshot)))
}

/// Who is planned onto which edge, and how full edges are.
#[utoipa::path(get, path = "/v1/plan",
    responses((status = 200, body = PlanView), (status = "4XX", body = Problem)))]
pub(super) async fn plan(State(context): State<Context>) -> Result<Json<PlanView>, Refusal> {
    let (snapshot, reports) = (context.store.snapshot(), context.assigner.reports());
    let work = move || {
        let current = Current::of(&snapshot, &reports).map_err(|errors| refused(&errors))?;
        Ok(plan_view(&current, &snapshot, &views::loads(&reports, &snapshot)))
    };
    tokio::task::spawn_blocking(work).await.map_err(Refusal::internal_from)?.map(Json)
}

/// How many events.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct HistoryParams {
    /// At most, 1 to 1,000; 100 where nothing is said.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// The last moves of the plan, the newest first.
#[utoipa::path(get, path = "/v1/plan/history", params(HistoryParams),
    responses((status = 200, body = Page<EventView>), (status = "4XX", body = Problem)))]
pub(super) async fn history(
    State(context): State<Context>,
    Params(params): Params<HistoryParams>,
) -> Result<Json<Page<EventView>>, Refusal> {
    let limit = checked_limit(params.limit)? as usize;
    let (mut items, mut end) = (Vec::new(), context.store.snapshot().event_last);
    for _ in 0..READS_MAX {
        let since = end.saturating_sub(EVENTS_AT_A_TIME.into());
        let records = context.store.events_after(since, EVENTS_AT_A_TIME).await?;
        let is_move = |it: &EventRecord| it.number <= end && it.name.starts_with("plan.");
        items.extend(records.into_iter().rev().filter(is_move).map(view));
        end = since;
        if items.len() >= limit || end == 0 {
            break;
        }
    }
    items.truncate(limit);
    Ok(Json(Page { items, next_page_token: None }))
}

/// How the fleet is planned.
#[utoipa::path(get, path = "/v1/settings/planning", responses((status = 200, body = PlanSettings)))]
pub(super) async fn settings(State(context): State<Context>) -> Tagged<PlanSettings> {
    let settings = settings_in(&context.store.snapshot());
    Tagged(value_tag(&settings), settings)
}

/// Sets how the fleet is planned, and whether the plan takes effect.
#[utoipa::path(put, path = "/v1/settings/planning", request_body = PlanSettings,
    params(ReachHeader, ("If-Match" = String, Header, description = "The ETag of the settings as it was read, or *")),
    responses((status = 200, body = PlanSettings), (status = "4XX", body = Problem)))]
pub(super) async fn set_settings(
    State(context): State<Context>,
    IfMatch(expected): IfMatch,
    Reaching(overriding): Reaching,
    Body(settings): Body<PlanSettings>,
) -> Result<Tagged<PlanSettings>, Refusal> {
    let fleet = fleet_of(&context.store.snapshot(), &context.assigner.reports(), &settings);
    let fleet = Fleet { nodes: Vec::new(), policies: settings.policies.clone(), ..fleet };
    Planner::new(fleet, &Plan::default()).map_err(|errors| refused(&errors))?;
    let after = settings.clone();
    let change = move |draft: &mut Draft| {
        expected.check_tag("settings/planning", &value_tag(&settings_in(draft.state())))?;
        let known = draft.state().settings.get(SETTINGS_KEY).map(|it| (**it).clone()).unwrap_or_default();
        if known.plan.as_ref() != Some(&after) {
            let message = format!("the plan is {}: {}", after.mode.as_str(), meaning(&after));
            let details = json!({ "before": known.plan, "after": after });
            draft.event("settings.changed", "planning", draft.actor(), message, details);
            draft.put(SettingsRecord { plan: Some(after), ..known });
            return Ok(true);
        }
        Ok(false)
    };
    let change = move |draft: &mut Draft| {
        reach::within(draft, &overriding, change, |before, _, changed| if *changed { reach::of_all(before) } else { 0 })
    };
    context.store.change(change).await?;
    Ok(Tagged(value_tag(&settings), settings))
}

fn meaning(settings: &PlanSettings) -> &'static str {
    match settings.mode {
        PlanMode::Advise => "flows are spread over a group's edges by weights",
        PlanMode::Steer => "each subject's planned edge carries it as long as it lives",
    }
}

fn settings_in(snapshot: &Snapshot) -> PlanSettings {
    snapshot.settings.get(SETTINGS_KEY).and_then(|settings| settings.plan.clone()).unwrap_or_default()
}

fn refused(errors: &[FleetError]) -> Refusal {
    let told: Vec<String> = errors.iter().map(ToString::to_string).collect();
    Refusal::invalid(format!("the fleet cannot be planned so: {}", told.join("; ")))
}
