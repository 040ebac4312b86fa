//! Whether the manager lives and serves, and the documents' schema.

use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;

use persona_core::wire::api::Problem;

use crate::context::Context;
use crate::error::{Kind, Refusal};
use crate::store::{Failure, Standing};

/// What was not stored counts for so long, unless something is stored before.
const FAILURE_COUNTS: Duration = Duration::from_secs(10);

/// The store is read within this time.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);

/// When to ask again, seconds.
const RETRY_SECS: u64 = 1;

/// Whether the process lives.
#[utoipa::path(get, path = "/healthz", responses((status = 200, body = String)))]
pub(super) async fn live() -> &'static str {
    "alive\n"
}

/// Whether this manager can do what it is asked: its store answers, what was to be stored of late was, and some manager leads.
#[utoipa::path(get, path = "/readyz", responses((status = 200, body = String), (status = 503, body = Problem, description = "Not now")))]
pub(super) async fn ready(State(context): State<Context>) -> Result<&'static str, Refusal> {
    judge(&context.store.standing(), context.store.failure(), Instant::now())?;
    let read = tokio::time::timeout(ANSWER_TIME_MAX, context.store.events_after(u64::MAX >> 1, 1)).await;
    match read {
        Ok(Ok(_)) => Ok("ready\n"),
        Ok(Err(_)) => Err(not_ready("the store cannot be read: the manager's log has the cause")),
        Err(_) => Err(not_ready("the store does not answer")),
    }
}

fn judge(standing: &Standing, failure: Option<Failure>, now: Instant) -> Result<(), Refusal> {
    let failure = failure.filter(|failure| now.saturating_duration_since(failure.at) < FAILURE_COUNTS);
    match (standing, failure) {
        (_, Some(failure)) => Err(not_ready(&failure.detail)),
        (Standing::Follows { leader: None }, None) => Err(not_ready("no manager leads at the moment")),
        _ => Ok(()),
    }
}

fn not_ready(why: &str) -> Refusal {
    Refusal::new(Kind::StoreUnavailable, why).with_retry_after(Some(RETRY_SECS))
}

/// The JSON Schema of all documents.
#[utoipa::path(get, path = "/v1/schema", responses((status = 200, body = Object)))]
pub(super) async fn schema() -> Json<serde_json::Value> {
    Json(persona_core::document::json_schema())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manager_is_ready_while_somebody_leads_and_changes_are_stored() {
        let now = Instant::now() + 2 * FAILURE_COUNTS;
        let leads = Standing::Leads { went_back: None };
        let follows = |leader: Option<&str>| Standing::Follows { leader: leader.map(str::to_owned) };
        let failed = |ago: Duration| Some(Failure { at: now - ago, detail: "the disk is full".to_owned() });
        for (standing, failure, expected) in [
            (leads.clone(), None, None),
            (follows(Some("https://m:1")), None, None),
            (follows(None), None, Some("no manager leads")),
            (leads.clone(), failed(Duration::from_secs(1)), Some("the disk is full")),
            (follows(Some("https://m:1")), failed(Duration::from_secs(1)), Some("the disk is full")),
            (leads, failed(FAILURE_COUNTS), None),
        ] {
            let outcome = judge(&standing, failure, now);
            let told = outcome.as_ref().err().map(Refusal::detail);
            assert_eq!(told.is_some(), expected.is_some(), "{standing:?}");
            assert!(told.is_none_or(|told| told.contains(expected.unwrap())), "{told:?}");
        }
    }
}
