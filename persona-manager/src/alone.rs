//! Switches and requests of one subject while the manager that leads does not answer: this one decides them by itself
//! ([why so](../../docs/decisions/0027-who-follows-decides-one-subject.md)).
//!
//! It decides on the newest state that is stored, and commits only if that is still the newest: then nobody else has granted
//! anything in between, and nothing is overbooked. What nodes measure it does not know.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::Request;
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;

use crate::error::{Kind, Refusal};
use crate::store::beside;

/// The manager that leads shows a sign of life within this time, or is taken to show none.
const SIGN_TIME_MAX: Duration = Duration::from_millis(300);

/// A sign of life is believed for so long.
const BELIEVED: Duration = Duration::from_millis(250);

/// How often something is decided anew because another manager was faster.
const DECISION_COUNT_MAX: usize = 8;

/// About when another manager leads.
const TAKE_OVER_SECS: u64 = 1;

/// Whether a request changes what one subject wears, and nothing else: the same asked twice leaves the same.
pub(crate) fn is_of_one_subject(method: &Method, path: &str) -> bool {
    match *method {
        Method::POST => matches!(path, "/v1/switch" | "/v1/request" | "/v1/agent/ask"),
        Method::DELETE => path.starts_with("/v1/switch/") || path.starts_with("/v1/request/"),
        _ => false,
    }
}

/// When the manager that leads last showed a sign of life.
#[derive(Debug, Clone, Default)]
pub(crate) struct Signs(Arc<Mutex<Option<Instant>>>);

impl Signs {
    /// It has just answered.
    pub(crate) fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Whether it lives: asked if it has not answered a moment ago.
    pub(crate) async fn has_one(&self, http: &reqwest::Client, leader: &str) -> bool {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|last| last.elapsed() < BELIEVED) {
            return true;
        }
        let question = http.get(format!("{}/healthz", leader.trim_end_matches('/'))).timeout(SIGN_TIME_MAX);
        // However slow the beginning of a connection is, it is part of the same time.
        let answer = tokio::time::timeout(SIGN_TIME_MAX, question.send()).await;
        let lives = matches!(answer, Ok(Ok(_)));
        if lives {
            self.note();
        }
        lives
    }
}

/// Decides a request here, anew as often as another manager was faster.
pub(crate) async fn decide(request: Request, body: Bytes, next: Next) -> Response {
    let (parts, _) = request.into_parts();
    for _ in 0..DECISION_COUNT_MAX {
        let request = Request::from_parts(parts.clone(), Body::from(body.clone()));
        let (response, was_outrun) = beside(next.clone().run(request)).await;
        if !was_outrun {
            return response;
        }
    }
    let detail = "the manager that leads does not answer, and others change the store all the time: nothing was stored, try again";
    Refusal::new(Kind::StoreUnavailable, detail).with_retry_after(Some(TAKE_OVER_SECS)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_concerns_one_subject_is_decided_anywhere_and_nothing_else_is() {
        for (method, path, expected) in [
            (Method::POST, "/v1/switch", true),
            (Method::POST, "/v1/request", true),
            (Method::POST, "/v1/agent/ask", true),
            (Method::DELETE, "/v1/switch/workload/n1/web", true),
            (Method::DELETE, "/v1/request/node/n1", true),
            (Method::GET, "/v1/switch", false),
            (Method::POST, "/v1/apply", false),
            (Method::POST, "/v1/agent/report", false),
            (Method::POST, "/v1/switches", false),
            (Method::DELETE, "/v1/edges/f1", false),
        ] {
            assert_eq!(is_of_one_subject(&method, path), expected, "{method} {path}");
        }
    }
}
