//! What a manager that follows passes on to the one that leads: everything but what it can answer from its own snapshot.
//!
//! Agents' streams, metrics, events and documents' schema are answered here. Changes and reports go to the leader, and so do
//! questions, for only the leader knows what agents report; while there is none, or it shows no sign of life, questions are
//! answered from the snapshot.
//! What one subject asks for is decided here while the leader shows no sign of life ([`crate::alone`]).
//! An answer to a change carries the revision that it led to, and is held back until this manager has it too. Managers
//! know each other by certificates of the fleet's CA; whom a request comes from is passed on with it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use persona_core::ids::Generation;

use crate::access::Peer;
use crate::alone::{self, Signs, is_of_one_subject};
use crate::authority::{MANAGER_LIFETIME_MS, client_config};
use crate::body::whole;
use crate::clock::now_ms;
use crate::context::Context;
use crate::error::{Kind, Refusal};
use crate::passed_on::PassedOn;
use crate::store::{Records, RootRecord, Standing};
use crate::telemetry::pass_trace_on;

/// Whom a request comes from that another manager passed on ([`PassedOn`]); from anybody else it counts for nothing.
const FORWARDED: HeaderName = HeaderName::from_static("persona-forwarded");

/// The newest revision when a request was answered.
const REVISION: HeaderName = HeaderName::from_static("persona-revision");

/// Connecting to the leader takes at most this long, and it answers within the time that requests may take.
const CONNECT_TIME_MAX: Duration = Duration::from_millis(1_500);
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);

/// A connection to the leader that is silent is asked for a sign of life this often, and given up as long after.
const KEEP_ALIVE: Duration = Duration::from_secs(1);

/// About when another manager leads. Who is told so may ask again as it is, for nothing was stored.
const TAKE_OVER_SECS: u64 = 1;

/// A follower waits at most this long until it has what the leader committed.
const CATCH_UP_TIME_MAX: Duration = Duration::from_secs(2);

/// The largest body that is passed on, bytes; the router's own limit is below it.
const BODY_LENGTH_MAX: usize = 16 << 20;

/// Paths that every manager answers by itself.
const OWN_PATHS: [&str; 12] = [
    "/",
    "/ui",
    "/healthz",
    "/metrics",
    "/readyz",
    "/v1/agent/contents",
    "/v1/agent/watch",
    "/v1/audit/entries",
    "/v1/events",
    "/v1/geofeed",
    "/v1/openapi.json",
    "/v1/schema",
];

/// The beginning of all paths of the page.
const PAGE_PATHS: &str = "/ui/";

struct Forwarder {
    context: Context,
    line: Mutex<Option<Line>>,
    signs: Signs,
}

/// A client for requests to other managers, and what it was made from.
struct Line {
    http: reqwest::Client,
    roots: Records<RootRecord>,
    made_ms: u64,
}

/// Puts the passing on around a router.
pub(crate) fn around(router: Router, context: Context) -> Router {
    let forwarder = Forwarder { context, line: Mutex::default(), signs: Signs::default() };
    router.layer(from_fn_with_state(Arc::new(forwarder), pass_on))
}

async fn pass_on(State(forwarder): State<Arc<Forwarder>>, mut request: Request, next: Next) -> Response {
    let is_passed_on = match take_peer(&mut request, forwarder.context.own_uid) {
        Ok(is_passed_on) => is_passed_on,
        Err(refusal) => return refusal.into_response(),
    };
    let is_question = request.method() == Method::GET;
    let is_own = is_own(request.uri().path());
    match forwarder.context.store.standing() {
        Standing::Leads { .. } => {
            let mut response = next.run(request).await;
            let revision = forwarder.context.store.snapshot().generation().0;
            response.headers_mut().insert(REVISION, revision.into());
            response
        }
        Standing::Follows { .. } if is_own => next.run(request).await,
        Standing::Follows { leader: None } if is_question => next.run(request).await,
        Standing::Follows { leader: Some(url) } if is_question && !forwarder.is_alive(&url).await => {
            next.run(request).await
        }
        Standing::Follows { leader } if !is_passed_on && is_of_one_subject(request.method(), request.uri().path()) => {
            forwarder.ask_or_decide(leader.as_deref(), request, next).await.unwrap_or_else(IntoResponse::into_response)
        }
        Standing::Follows { leader: Some(url) } if !is_passed_on => {
            forwarder.ask(&url, request).await.unwrap_or_else(IntoResponse::into_response)
        }
        Standing::Follows { .. } => {
            let detail = "no manager leads at the moment: nothing was stored, try again";
            Refusal::new(Kind::StoreUnavailable, detail).with_retry_after(Some(TAKE_OVER_SECS)).into_response()
        }
    }
}

/// Whether every manager answers a path by itself: the page too is the same everywhere.
fn is_own(path: &str) -> bool {
    OWN_PATHS.contains(&path) || path.starts_with(PAGE_PATHS)
}

/// Puts the one in its place whom another manager passed a request on for. Returns whether one did.
fn take_peer(request: &mut Request, own_uid: u32) -> Result<bool, Refusal> {
    let told = request.headers_mut().remove(&FORWARDED);
    let is_manager = request.extensions().get::<Peer>().is_some_and(|peer| peer.is_manager);
    let Some(told) = told.filter(|_| is_manager) else { return Ok(false) };
    let passed_on = PassedOn::read(&told);
    let passed_on = passed_on.ok_or_else(|| {
        Refusal::invalid("this manager does not understand whom the request comes from: give all managers one release")
    })?;
    request.extensions_mut().insert(passed_on.into_peer(own_uid));
    Ok(true)
}

impl Forwarder {
    /// The client for requests to other managers, made anew when roots change or its certificate is half through its life.
    fn http(&self) -> Result<reqwest::Client, Refusal> {
        let (snapshot, now_ms) = (self.context.store.snapshot(), now_ms());
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        let is_good = |line: &&Line| {
            line.roots.is_same(&snapshot.roots) && now_ms.abs_diff(line.made_ms) < MANAGER_LIFETIME_MS / 2
        };
        if let Some(line) = line.as_ref().filter(is_good) {
            return Ok(line.http.clone());
        }
        let authority = &self.context.authority;
        let config = authority.follow(&self.context.store).and_then(|()| client_config(authority, &snapshot, now_ms));
        let http = client(config.map_err(Refusal::internal_from)?)?;
        *line = Some(Line { http: http.clone(), roots: snapshot.roots.clone(), made_ms: now_ms });
        Ok(http)
    }

    /// Whether the manager that leads shows a sign of life.
    async fn is_alive(&self, leader: &str) -> bool {
        match self.http() {
            Ok(http) => self.signs.has_one(&http, leader).await,
            // Whatever is wrong with the way there is said by whoever takes it.
            Err(_) => true,
        }
    }

    /// Asks the manager that leads; while there is none, or it shows no sign of life, the request is decided here.
    async fn ask_or_decide(&self, leader: Option<&str>, request: Request, next: Next) -> Result<Response, Refusal> {
        if let Some(leader) = leader
            && self.is_alive(leader).await
        {
            let answer = self.ask(leader, request).await;
            if answer.is_ok() {
                self.signs.note();
            }
            return answer;
        }
        let (parts, body) = request.into_parts();
        let body = whole(body, BODY_LENGTH_MAX).await?;
        Ok(alone::decide(Request::from_parts(parts, Body::empty()), body, next).await)
    }

    async fn ask(&self, leader: &str, request: Request) -> Result<Response, Refusal> {
        let (parts, body) = request.into_parts();
        let peer = parts.extensions.get::<Peer>();
        let told = peer.and_then(|peer| PassedOn::of(peer, self.context.own_uid).to_header());
        let told =
            told.ok_or_else(|| Refusal::internal(anyhow::anyhow!("it cannot be told whom a request comes from")))?;
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let body = whole(body, BODY_LENGTH_MAX).await?;
        let is_question = parts.method == Method::GET;
        let mut headers = end_to_end(&parts.headers);
        pass_trace_on(&mut headers);
        let sent = self
            .http()?
            .request(parts.method, format!("{}{path}", leader.trim_end_matches('/')))
            .headers(headers)
            .header(FORWARDED, told)
            .timeout(ANSWER_TIME_MAX)
            .body(body)
            .send()
            .await;
        let answer = sent.map_err(|error| unreachable_leader(leader, &error))?;
        let revision = answer.headers().get(REVISION).and_then(|value| value.to_str().ok()?.parse().ok());
        if let (false, Some(revision)) = (is_question, revision) {
            self.catch_up(Generation(revision)).await;
        }
        let mut response = Response::new(Body::empty());
        *response.status_mut() = answer.status();
        *response.headers_mut() = end_to_end(answer.headers());
        *response.body_mut() = Body::from_stream(answer.bytes_stream());
        Ok(response)
    }

    /// Whoever changed something here sees it here.
    async fn catch_up(&self, revision: Generation) {
        let mut snapshots = self.context.store.watch();
        let reached = snapshots.wait_for(|snapshot| snapshot.generation() >= revision);
        // A follower that is slow shows the change a little later.
        _ = tokio::time::timeout(CATCH_UP_TIME_MAX, reached).await;
    }
}

fn client(config: rustls::ClientConfig) -> Result<reqwest::Client, Refusal> {
    let built = reqwest::Client::builder()
        .tls_backend_preconfigured(config)
        .https_only(true)
        .http2_prior_knowledge()
        .http2_keep_alive_interval(KEEP_ALIVE)
        .http2_keep_alive_timeout(KEEP_ALIVE)
        .connect_timeout(CONNECT_TIME_MAX)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build();
    built.map_err(Refusal::internal_from)
}

fn unreachable_leader(leader: &str, error: &reqwest::Error) -> Refusal {
    tracing::warn!(leader.url = leader, error.cause = format!("{error:?}"), "the manager that leads does not answer");
    let unavailable = |detail: &str| Refusal::new(Kind::StoreUnavailable, detail);
    match error.is_connect() {
        true => unavailable(
            "the manager that leads is not reached: nothing was stored; another takes over within seconds, try again",
        )
        .with_retry_after(Some(TAKE_OVER_SECS)),
        false => unavailable(
            "the manager that leads did not answer: whether this was stored is not known, look before trying again",
        ),
    }
}

/// Headers without those that are about one connection only (RFC 9110 §7.6.1).
fn end_to_end(headers: &HeaderMap<HeaderValue>) -> HeaderMap<HeaderValue> {
    let hop = [
        header::CONNECTION,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        header::TE,
        header::HOST,
        header::CONTENT_LENGTH,
    ];
    let kept = headers.iter().filter(|(name, _)| !hop.contains(name) && name.as_str() != "keep-alive");
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}
