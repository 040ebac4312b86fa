//! What is set through the API and goes before the configuration file.

use axum::extract::State;
use persona_core::reach::ReachLimit;
use persona_core::wire::api::Problem;
use persona_core::wire::desired::ProbeItem;
use persona_core::wire::reach::{ReachSettings, ReachView};
use serde_json::json;

use super::input::{Body, IfMatch, ReachHeader, Reaching, Tagged};
use crate::clock::now_ms;
use crate::config::check_probe;
use crate::context::Context;
use crate::error::Refusal;
use crate::reach;
use crate::store::{Draft, SETTINGS_KEY, SettingsRecord};
use crate::versions::value_tag;

/// How edges are probed.
#[utoipa::path(get, path = "/v1/settings/probe", responses((status = 200, body = ProbeItem)))]
pub(super) async fn probe(State(context): State<Context>) -> Tagged<ProbeItem> {
    let probe = context.assigner.probe(&context.store.snapshot());
    Tagged(value_tag(&probe), probe)
}

/// Sets how edges are probed: every 10 ms to 10 s, dead after 2 to 20 intervals of silence.
#[utoipa::path(put, path = "/v1/settings/probe", request_body = ProbeItem,
    params(ReachHeader, ("If-Match" = String, Header, description = "The ETag of the setting as it was read, or *")),
    responses((status = 200, body = ProbeItem), (status = "4XX", body = Problem)))]
pub(super) async fn set_probe(
    State(context): State<Context>,
    IfMatch(expected): IfMatch,
    Reaching(overriding): Reaching,
    Body(probe): Body<ProbeItem>,
) -> Result<Tagged<ProbeItem>, Refusal> {
    check_probe(probe.interval_ms, probe.multiplier).map_err(|error| Refusal::invalid(error.to_string()))?;
    let assigner = context.assigner.clone();
    let change = move |draft: &mut Draft| {
        expected.check_tag("settings/probe", &value_tag(&assigner.probe(draft.state())))?;
        let before = draft.state().settings.get(SETTINGS_KEY).and_then(|settings| settings.probe);
        if before == Some(probe) {
            return Ok(false);
        }
        let message = format!("edges are probed every {} ms, dead after {}", probe.interval_ms, probe.multiplier);
        let details = json!({ "before": before, "after": probe });
        draft.event("settings.changed", "probe", draft.actor(), message, details);
        let settings = draft.state().settings.get(SETTINGS_KEY).map(|it| (**it).clone()).unwrap_or_default();
        draft.put(SettingsRecord { probe: Some(probe), ..settings });
        Ok(true)
    };
    let change = move |draft: &mut Draft| {
        reach::within(draft, &overriding, change, |before, _, changed| if *changed { reach::of_all(before) } else { 0 })
    };
    context.store.change(change).await?;
    Ok(Tagged(value_tag(&probe), probe))
}

/// How much of the fleet changes may reach within an hour, and what is left of it.
#[utoipa::path(get, path = "/v1/settings/reach", responses((status = 200, body = ReachView)))]
pub(super) async fn reach(State(context): State<Context>) -> Tagged<ReachView> {
    let snapshot = context.store.snapshot();
    Tagged(value_tag(&reach::settings_in(&snapshot)), reach::view(&snapshot, now_ms()))
}

/// Sets how much of the fleet changes by people and programs may reach within an hour.
#[utoipa::path(put, path = "/v1/settings/reach", request_body = ReachSettings,
    params(("If-Match" = String, Header, description = "The ETag of the setting as it was read, or *")),
    responses((status = 200, body = ReachView), (status = "4XX", body = Problem)))]
pub(super) async fn set_reach(
    State(context): State<Context>,
    IfMatch(expected): IfMatch,
    Body(after): Body<ReachSettings>,
) -> Result<Tagged<ReachView>, Refusal> {
    after.limit.map_or(Ok(()), ReachLimit::check).map_err(|error| Refusal::invalid(error.to_string()))?;
    let change = move |draft: &mut Draft| {
        let before = reach::settings_in(draft.state());
        expected.check_tag("settings/reach", &value_tag(&before))?;
        if before != after {
            let message = match after.limit {
                Some(limit) => format!("changes reach at most {} % of the fleet an hour", limit.percent_per_hour),
                None => "changes may reach any part of the fleet".to_owned(),
            };
            let details = json!({ "before": before, "after": after });
            draft.event("settings.changed", "reach", draft.actor(), message, details);
            let settings = draft.state().settings.get(SETTINGS_KEY).map(|it| (**it).clone()).unwrap_or_default();
            draft.put(SettingsRecord { reach: after, ..settings });
        }
        Ok(())
    };
    context.store.change(change).await?;
    Ok(reach(State(context)).await)
}
