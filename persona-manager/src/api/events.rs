//! What happened: pages, or a stream that goes on.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use bytes::Bytes;
use futures_util::stream;
use persona_core::wire::api::{EventBookmark, EventView, Page, Problem, ProblemPart};
use serde::Deserialize;
use tokio::sync::watch;

use super::NDJSON;
use super::input::Params;
use crate::access::Caller;
use crate::clock::now_ms;
use crate::context::Context;
use crate::error::{Kind, Refusal};
use crate::store::{EventRecord, Snapshot};

/// A followed stream on which nothing happened says so this often, to who asked for it.
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(5);

/// Events of a page at most, and at a time in a stream.
const LIMIT_MAX: u32 = 1_000;

/// Which events.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct EventParams {
    /// Only those after this number; 410 if some of them are kept no longer. Absent or 0: from the first kept, but with
    /// `follow` and nothing said from now on.
    since: Option<u64>,
    /// A stream of JSON lines that goes on.
    #[serde(default)]
    follow: bool,
    /// With `follow`: a line `{"bookmark":NUMBER}` when nothing happened for five seconds. Whoever comes back goes on there.
    #[serde(default)]
    bookmarks: bool,
    /// At most, 1 to 1,000.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// `nextPageToken` of the page before; the same as `since`.
    page_token: Option<u64>,
}

/// Events, the oldest first.
#[utoipa::path(get, path = "/v1/events", params(EventParams),
    responses((status = 200, body = Page<EventView>), (status = 410, body = Problem, description = "Kept no longer"),
        (status = "4XX", body = Problem)))]
pub(super) async fn events(
    State(context): State<Context>,
    Extension(caller): Extension<Caller>,
    Params(params): Params<EventParams>,
) -> Result<Response, Refusal> {
    let since = checked_since(params.page_token.or(params.since))?;
    check_kept(&context.store.snapshot(), since.unwrap_or(0))?;
    if params.follow {
        let since = since.unwrap_or_else(|| context.store.snapshot().event_last);
        return Ok(follow(context, caller, since, params.bookmarks));
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

/// Refuses to go on after an event if what came next is kept no longer: whoever follows would miss it unseen.
fn check_kept(snapshot: &Snapshot, since: u64) -> Result<(), Refusal> {
    let dropped = snapshot.audit_stub().map_or(0, |seal| seal.number);
    if since == 0 || since >= dropped {
        return Ok(());
    }
    let oldest = dropped + 1;
    let detail = format!(
        "events {} to {dropped} are kept no longer; the oldest that is kept has the number {oldest}: read how things stand now, then go on with since={dropped}",
        since + 1
    );
    let parts = vec![ProblemPart::new("oldest", oldest.to_string()), ProblemPart::new("since", dropped.to_string())];
    Err(Refusal::new(Kind::Gone, detail).with_parts(parts))
}

/// How many events a page has at most.
pub(super) fn checked_limit(limit: Option<u32>) -> Result<u32, Refusal> {
    let limit = limit.unwrap_or(100);
    match (1..=LIMIT_MAX).contains(&limit) {
        true => Ok(limit),
        false => Err(Refusal::invalid(format!("limit is {limit}; use 1 to {LIMIT_MAX}"))),
    }
}

fn follow(context: Context, caller: Caller, since: u64, bookmarks: bool) -> Response {
    let snapshots = context.store.watch();
    let start = Follow { context, caller, snapshots, since, bookmarks, ready: VecDeque::new() };
    let lines = stream::unfold(start, async |mut follow| {
        let line = match follow.next().await? {
            Line::Event(event) => serde_json::to_vec(&view(event)),
            Line::Bookmark(bookmark) => serde_json::to_vec(&EventBookmark { bookmark }),
        };
        let mut line = line.expect("an event has string keys only");
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
    /// Whether a pause is told.
    bookmarks: bool,
    ready: VecDeque<EventRecord>,
}

enum Line {
    Event(EventRecord),
    Bookmark(u64),
}

impl Follow {
    /// The next line. None: the manager stops, its store fails, the caller's token is no longer good, or it reads so slowly that
    /// what comes next is kept no longer. No more than one batch waits for it.
    async fn next(&mut self) -> Option<Line> {
        loop {
            if !self.caller.is_good(&self.snapshots.borrow(), now_ms()) {
                return None;
            }
            if let Some(event) = self.ready.pop_front() {
                self.since = event.number;
                return Some(Line::Event(event));
            }
            let snapshot = self.snapshots.borrow_and_update().clone();
            check_kept(&snapshot, self.since).ok()?;
            if snapshot.event_last > self.since {
                self.ready = self.context.store.events_after(self.since, LIMIT_MAX).await.ok()?.into();
                if !self.ready.is_empty() {
                    continue;
                }
            }
            tokio::select! {
                changed = self.snapshots.changed() => changed.ok()?,
                () = tokio::time::sleep(BOOKMARK_INTERVAL), if self.bookmarks => return Some(Line::Bookmark(self.since)),
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
