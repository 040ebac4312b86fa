//! What happened: pages, or a stream that goes on.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use bytes::Bytes;
use futures_util::stream;
use persona_core::wire::api::{EventView, Page, Problem};
use serde::Deserialize;
use tokio::sync::watch;

use super::NDJSON;
use super::input::Params;
use crate::access::Caller;
use crate::clock::now_ms;
use crate::context::Context;
use crate::error::Refusal;
use crate::store::{EventRecord, Snapshot};

/// Events of a page at most, and at a time in a stream.
const LIMIT_MAX: u32 = 1_000;

/// Which events.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct EventParams {
    /// Only those after this number. Absent: from the first kept, or with `follow` from now on.
    since: Option<u64>,
    /// A stream of JSON lines that goes on.
    #[serde(default)]
    follow: bool,
    /// At most, 1 to 1,000.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// `nextPageToken` of the page before; the same as `since`.
    page_token: Option<u64>,
}

/// Events, the oldest first.
#[utoipa::path(get, path = "/v1/events", params(EventParams),
    responses((status = 200, body = Page<EventView>), (status = "4XX", body = Problem)))]
pub(super) async fn events(
    State(context): State<Context>,
    Extension(caller): Extension<Caller>,
    Params(params): Params<EventParams>,
) -> Result<Response, Refusal> {
    let since = checked_since(params.page_token.or(params.since))?;
    if params.follow {
        let since = since.unwrap_or_else(|| context.store.snapshot().event_last);
        return Ok(follow(context, caller, since));
    }
    let limit = checked_limit(params.limit)?;
    let records = context.store.events_after(since.unwrap_or(0), limit).await?;
    let is_full = records.len() == limit as usize;
    let next_page_token = records.last().filter(|_| is_full).map(|last| last.number.to_string());
    Ok(Json(Page { items: records.into_iter().map(view).collect(), next_page_token }).into_response())
}

/// After which event. Numbers are stored with a sign: one beyond that would come out before all others.
pub(super) fn checked_since(since: Option<u64>) -> Result<Option<u64>, Refusal> {
    match since.filter(|since| i64::try_from(*since).is_err()) {
        None => Ok(since),
        Some(since) => Err(Refusal::invalid(format!("since is {since}; use 0 to {}", i64::MAX))),
    }
}

/// How many events a page has at most.
pub(super) fn checked_limit(limit: Option<u32>) -> Result<u32, Refusal> {
    let limit = limit.unwrap_or(100);
    match (1..=LIMIT_MAX).contains(&limit) {
        true => Ok(limit),
        false => Err(Refusal::invalid(format!("limit is {limit}; use 1 to {LIMIT_MAX}"))),
    }
}

fn follow(context: Context, caller: Caller, since: u64) -> Response {
    let snapshots = context.store.watch();
    let start = Follow { context, caller, snapshots, since, ready: VecDeque::new() };
    let lines = stream::unfold(start, async |mut follow| {
        let event = follow.next_event().await?;
        let mut line = serde_json::to_vec(&view(event)).expect("an event has string keys only");
        line.push(b'\n');
        Some((Ok::<_, Infallible>(Bytes::from(line)), follow))
    });
    (NDJSON, Body::from_stream(lines)).into_response()
}

struct Follow {
    context: Context,
    caller: Caller,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    since: u64,
    ready: VecDeque<EventRecord>,
}

impl Follow {
    /// The next event. None: the manager stops, its store fails, or the caller's token is no longer good.
    async fn next_event(&mut self) -> Option<EventRecord> {
        loop {
            if !self.caller.is_good(&self.snapshots.borrow(), now_ms()) {
                return None;
            }
            if let Some(event) = self.ready.pop_front() {
                self.since = event.number;
                return Some(event);
            }
            if self.snapshots.borrow_and_update().event_last > self.since {
                self.ready = self.context.store.events_after(self.since, LIMIT_MAX).await.ok()?.into();
                if !self.ready.is_empty() {
                    continue;
                }
            }
            tokio::select! {
                changed = self.snapshots.changed() => changed.ok()?,
                () = self.context.stop.cancelled() => return None,
            }
        }
    }
}

/// An event as people see it.
pub(crate) fn view(record: EventRecord) -> EventView {
    EventView {
        number: record.number,
        time_ms: record.time_ms,
        name: record.name,
        about: record.about,
        actor: record.actor,
        message: record.message,
        details: serde_json::from_str(&record.details).unwrap_or_default(),
    }
}
