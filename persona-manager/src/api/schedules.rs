//! Activations that come by themselves: made, listed, removed.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use persona_core::wire::api::{NewSchedule, Page, Problem, ScheduleEnd, ScheduleView};

use super::input::{KeyHeader, KeyedBody, Params, ReachHeader, Reaching, subject};
use super::page::{PageParams, page};
use crate::context::Context;
use crate::error::Refusal;
use crate::store::Draft;
use crate::{once, reach, schedules};

/// Has a persona put on in the layer of activation at a time, or at each time of a cron schedule, for a while each time.
#[utoipa::path(post, path = "/v1/schedules", params(KeyHeader, ReachHeader), request_body = NewSchedule,
    responses((status = 201, body = ScheduleView), (status = "4XX", body = Problem)))]
pub(super) async fn make(
    State(context): State<Context>,
    Reaching(overriding): Reaching,
    KeyedBody(new, once): KeyedBody<NewSchedule>,
) -> Result<(StatusCode, Json<ScheduleView>), Refusal> {
    let make = move |draft: &mut Draft| {
        // It reaches its subject once, whenever that is.
        reach::within(draft, &overriding, |draft| schedules::make(draft, new), |_, _, _| 1)
    };
    let made = context.store.change(move |draft| once::make(draft, once.as_ref(), make)).await?;
    Ok((StatusCode::CREATED, Json(made)))
}

/// Every schedule, by subject and name, with when it puts its persona on next.
#[utoipa::path(get, path = "/v1/schedules", params(PageParams),
    responses((status = 200, body = Page<ScheduleView>), (status = "4XX", body = Problem)))]
pub(super) async fn list(
    State(context): State<Context>,
    Params(params): Params<PageParams>,
) -> Result<Json<Page<ScheduleView>>, Refusal> {
    let (snapshot, now_ms) = (context.store.snapshot(), context.live.clock.moment().now_ms);
    let mut all: Vec<_> =
        snapshot.schedules.values().map(|record| (format!("{} {}", record.subject, record.name), record)).collect();
    all.sort_by(|one, other| one.0.cmp(&other.0));
    let page = page(&params, all.into_iter())?;
    let view = |record| schedules::view(&snapshot, record, now_ms);
    Ok(Json(Page {
        items: page.items.into_iter().map(|record| view(record)).collect(),
        next_page_token: page.next_page_token,
    }))
}

/// Removes a schedule; what it has put on is taken off.
#[utoipa::path(delete, path = "/v1/schedules/{*subject}", params(("subject" = String, Path), ScheduleEnd, ReachHeader),
    responses((status = 204), (status = "4XX", body = Problem)))]
pub(super) async fn remove(
    State(context): State<Context>,
    Path(text): Path<String>,
    Params(params): Params<ScheduleEnd>,
    Reaching(overriding): Reaching,
) -> Result<StatusCode, Refusal> {
    let subject = subject(&text)?;
    let change = move |draft: &mut Draft| {
        let remove = |draft: &mut Draft| schedules::remove(draft, &subject, &params.name);
        reach::within(draft, &overriding, remove, |_, _, was_worn| u32::from(*was_worn))
    };
    context.store.change(change).await?;
    Ok(StatusCode::NO_CONTENT)
}
