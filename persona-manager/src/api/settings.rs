//! What is set through the API and goes before the configuration file.

use axum::Json;
use axum::extract::State;
use persona_core::wire::api::Problem;
use persona_core::wire::desired::ProbeItem;
use serde_json::json;

use super::input::Body;
use crate::config::check_probe;
use crate::context::Context;
use crate::error::Refusal;
use crate::store::{SETTINGS_KEY, SettingsRecord};

/// How edges are probed.
#[utoipa::path(get, path = "/v1/settings/probe", responses((status = 200, body = ProbeItem)))]
pub(super) async fn probe(State(context): State<Context>) -> Json<ProbeItem> {
    Json(context.assigner.probe(&context.store.snapshot()))
}

/// Sets how edges are probed: every 10 ms to 10 s, dead after 2 to 20 intervals of silence.
#[utoipa::path(put, path = "/v1/settings/probe", request_body = ProbeItem,
    responses((status = 200, body = ProbeItem), (status = "4XX", body = Problem)))]
pub(super) async fn set_probe(
    State(context): State<Context>,
    Body(probe): Body<ProbeItem>,
) -> Result<Json<ProbeItem>, Refusal> {
    check_probe(probe.interval_ms, probe.multiplier).map_err(|error| Refusal::invalid(error.to_string()))?;
    let change = move |draft: &mut crate::store::Draft| {
        let before = draft.state().settings.get(SETTINGS_KEY).and_then(|settings| settings.probe);
        if before != Some(probe) {
            let message = format!("edges are probed every {} ms, dead after {}", probe.interval_ms, probe.multiplier);
            draft.event(
                "settings.changed",
                "probe",
                draft.actor(),
                message,
                json!({ "before": before, "after": probe }),
            );
            let settings = draft.state().settings.get(SETTINGS_KEY).map(|it| (**it).clone()).unwrap_or_default();
            draft.put(SettingsRecord { probe: Some(probe), ..settings });
        }
        Ok(())
    };
    context.store.change(change).await?;
    Ok(Json(probe))
}
