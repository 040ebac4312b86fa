//! Before every handler: who comes, whether it comes too often, and whether it may use the route.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use persona_core::wire::agent::ROOTS_HEADER;
use persona_core::wire::api::{CSRF_HEADER, REASON_HEADER};

use super::caller::Caller;
use super::current::{Acting, acting};
use super::peer::{Peer, Shown};
use super::table::{Who, who_may};
use crate::auth::is_same;
use crate::authority::roots_digest;
use crate::clock::now_ms;
use crate::context::Context;
use crate::error::{Kind, Refusal};
use crate::revocation::checked_reason;

/// Lets a request in, with its caller beside it, or refuses it.
pub(crate) async fn gate(State(context): State<Context>, mut request: Request, next: Next) -> Response {
    match admit(&context, &request) {
        Ok((caller, reason)) => {
            // The request's span, where it is traced.
            tracing::Span::current().record("persona.actor", tracing::field::display(&caller));
            let source = request.extensions().get::<Peer>().map(|peer| peer.origin.source().into());
            let by = Acting { actor: caller.to_string().into(), source, reason };
            let has_token = matches!(caller, Caller::Token { .. });
            let (is_browser, is_nobody) = (matches!(caller, Caller::Web { .. }), caller == Caller::Nobody);
            request.extensions_mut().insert(caller);
            let mut response = acting(by, next.run(request)).await;
            if !is_nobody {
                response.extensions_mut().insert(Shown);
            }
            if has_token && let Ok(digest) = roots_digest(&context.store.snapshot()).parse() {
                response.headers_mut().insert(ROOTS_HEADER, digest);
            }
            if is_browser {
                // Whoever has the browser after this session shall not find in it what the session saw.
                response.headers_mut().entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
            }
            response
        }
        Err(refused) => *refused,
    }
}

/// Who comes, and the reason that is given for a change.
type Admitted = (Caller, Option<Arc<str>>);

fn admit(context: &Context, request: &Request) -> Result<Admitted, Box<Response>> {
    let refuse = |refusal: Refusal| Box::new(refusal.into_response());
    let Some(peer) = request.extensions().get::<Peer>() else {
        return Err(refuse(Refusal::internal(anyhow::anyhow!("a request came without its connection"))));
    };
    let snapshot = context.store.snapshot();
    let caller = Caller::identify(&snapshot, peer, context.own_uid, request.headers(), now_ms());
    let caller = caller.map_err(|refusal| match context.limits.check_refused(peer) {
        Ok(()) => refuse(refusal),
        Err(wait) => too_many(wait),
    })?;
    context.limits.check(&caller, peer).map_err(too_many)?;
    // Without a match there is no handler: the router says so.
    let Some(path) = request.extensions().get::<MatchedPath>() else { return Ok((caller, None)) };
    let Some(who) = who_may(request.method(), path.as_str()) else {
        return Err(refuse(Refusal::new(Kind::MethodNotAllowed, "GET /v1/openapi.json lists each path's methods")));
    };
    if who != Who::Everybody && is_forged(&caller, request) {
        let detail = format!("a change from a browser needs the header {CSRF_HEADER} with what /v1/whoami says of it");
        return Err(refuse(Refusal::new(Kind::Forbidden, detail)));
    }
    if who.includes(&caller) {
        return Ok((caller, reason_in(request).map_err(refuse)?));
    }
    let kind = if caller == Caller::Nobody { Kind::Unauthenticated } else { Kind::Forbidden };
    Err(refuse(Refusal::new(kind, format!("this is for {}; you are {caller}", who.describe()))))
}

/// Why somebody changes something, if they say so.
fn reason_in(request: &Request) -> Result<Option<Arc<str>>, Refusal> {
    let Some(reason) = request.headers().get(REASON_HEADER) else { return Ok(None) };
    let reason = std::str::from_utf8(reason.as_bytes());
    let reason = reason.map_err(|_| Refusal::invalid(format!("{REASON_HEADER} is not UTF-8")))?;
    checked_reason(reason).map(|reason| Some(reason.into()))
}

/// Whether a change may come from another site's page: browsers send the cookie along, but not the header.
fn is_forged(caller: &Caller, request: &Request) -> bool {
    let Caller::Web { csrf, .. } = caller else { return false };
    let shown = request.headers().get(CSRF_HEADER).map_or(&b""[..], HeaderValue::as_bytes);
    !request.method().is_safe() && !is_same(csrf.as_bytes(), shown)
}

fn too_many(wait: Duration) -> Box<Response> {
    let secs = wait.as_secs() + 1;
    let refusal = Refusal::new(Kind::TooMany, format!("too many requests come from you: wait {secs} s"));
    Box::new(refusal.with_retry_after(Some(secs)).into_response())
}
