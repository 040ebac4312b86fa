//! The page, and how people come to it.

use axum::extract::{FromRequest as _, Path, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::{Extension, Json};
use persona_core::wire::api::{LogIn, NewWebLink, Page, Problem, WebLink, WebSessionView, WhoAmI};

use super::input::{Body, Params};
use super::page::{PageParams, page};
use crate::access::{Caller, access_token};
use crate::clock::now_ms;
use crate::context::Context;
use crate::error::Refusal;
use crate::store::{WebOwner, WebSessionRecord};
use crate::web::{self, File, Presented};

/// Leads to the page.
#[utoipa::path(get, path = "/", responses((status = 303, description = "to /ui/")))]
pub(super) async fn root() -> Redirect {
    Redirect::to("/ui/")
}

/// Leads to the page.
#[utoipa::path(get, path = "/ui", responses((status = 303, description = "to /ui/")))]
pub(super) async fn without_slash() -> Redirect {
    Redirect::to("/ui/")
}

/// The page. It asks the API what its session may.
#[utoipa::path(get, path = "/ui/", responses((status = 200, body = String, content_type = "text/html")))]
pub(super) async fn index() -> Result<Response, Refusal> {
    shown("")
}

/// A file of the page, or the page at one of its views.
#[utoipa::path(get, path = "/ui/{*path}", params(("path" = String, Path)),
    responses((status = 200, body = String, content_type = "text/html"), (status = "4XX", body = Problem)))]
pub(super) async fn file(Path(path): Path<String>) -> Result<Response, Refusal> {
    shown(&path)
}

fn shown(path: &str) -> Result<Response, Refusal> {
    let missing = || Refusal::not_found("the page has no such file: it is of another release, load it again");
    let File { media_type, content, is_for_ever } = web::find(path).ok_or_else(missing)?;
    let keep = if is_for_ever { "public, max-age=31536000, immutable" } else { "no-cache" };
    let headers = [
        (header::CONTENT_TYPE, media_type),
        (header::CACHE_CONTROL, keep),
        (header::CONTENT_SECURITY_POLICY, web::PAGE_POLICY),
    ];
    Ok((headers, content).into_response())
}

/// Makes a link to the page that logs a browser in as the sender, once.
#[utoipa::path(post, path = "/v1/web-links", request_body = NewWebLink,
    responses((status = 201, body = WebLink), (status = "4XX", body = Problem)))]
pub(super) async fn make_link(
    State(context): State<Context>,
    Extension(caller): Extension<Caller>,
    Body(new): Body<NewWebLink>,
) -> Result<(StatusCode, Json<WebLink>), Refusal> {
    let owner = web::owner_of(&caller)?;
    if context.urls.is_empty() {
        let detail = "the manager listens on all interfaces and cannot tell which address others reach: set `urls` in its configuration (--url)";
        return Err(Refusal::conflict(detail));
    }
    let made = context.store.change(move |draft| web::make_link(draft, owner, new.ttl_ms));
    let (id, secret, expires_ms) = made.await?;
    // Behind the `#` nothing leaves the browser: no log and no Referer has the secret.
    let urls = context.urls.iter().map(|url| format!("{}/ui/login#{secret}", url.trim_end_matches('/')));
    Ok((StatusCode::CREATED, Json(WebLink { id, urls: urls.collect(), expires_ms })))
}

/// Logs a browser in: the answer sets a cookie that only TLS carries and no script reads.
#[utoipa::path(post, path = "/v1/web-sessions", request_body = LogIn,
    responses((status = 201, body = WhoAmI), (status = "4XX", body = Problem)))]
pub(super) async fn log_in(State(context): State<Context>, request: Request) -> Result<Response, Refusal> {
    // Another site's form can send text, but not this type: nobody is logged in as somebody else by visiting a page.
    let is_json = |value: &header::HeaderValue| value.as_bytes().starts_with(b"application/json");
    if !request.headers().get(header::CONTENT_TYPE).is_some_and(is_json) {
        return Err(Refusal::invalid("send Content-Type: application/json"));
    }
    let Body(log_in) = Body::<LogIn>::from_request(request, &context).await?;
    let presented = match log_in {
        LogIn::Link(text) => Presented::Link(text),
        LogIn::Token(text) => {
            let known = access_token(&context.store.snapshot(), &bearer_in(&text), now_ms())?;
            let (name, role, token) = (format!("access/{}", known.name), known.role, Some(known.id.clone()));
            Presented::Token(WebOwner { name, role, token }, known.expires_ms)
        }
    };
    let (cookie, known) = context.store.change(move |draft| web::begin(draft, presented)).await?;
    let rest_secs = known.expires_ms.unwrap_or_default().saturating_sub(now_ms()) / 1_000;
    let cookie = set_cookie(&cookie, rest_secs);
    Ok((StatusCode::CREATED, [(header::SET_COOKIE, cookie)], Json(known)).into_response())
}

/// Ends the sender's own session at the page.
#[utoipa::path(delete, path = "/v1/web-sessions/current",
    responses((status = 204), (status = "4XX", body = Problem)))]
pub(super) async fn log_out(
    State(context): State<Context>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, Refusal> {
    let Caller::Web { id, .. } = caller else {
        return Err(Refusal::not_found("you came without a session of the page: there is none to end"));
    };
    context.store.change(move |draft| web::end(draft, &id)).await?;
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, set_cookie("", 0))]).into_response())
}

/// All sessions at the page, without their secrets.
#[utoipa::path(get, path = "/v1/web-sessions", params(PageParams),
    responses((status = 200, body = Page<WebSessionView>)))]
pub(super) async fn list(
    State(context): State<Context>,
    Params(params): Params<PageParams>,
) -> Result<Json<Page<WebSessionView>>, Refusal> {
    let (snapshot, now_ms) = (context.store.snapshot(), now_ms());
    let going_on = snapshot.web_sessions.values().filter(|session| web::is_good(&snapshot, &session.id, now_ms));
    page(&params, going_on.map(|session| (session.id.clone(), view(session)))).map(Json)
}

/// Ends a session at the page: whoever is there is out at once.
#[utoipa::path(delete, path = "/v1/web-sessions/{id}", params(("id" = String, Path)),
    responses((status = 204), (status = "4XX", body = Problem)))]
pub(super) async fn revoke(State(context): State<Context>, Path(id): Path<String>) -> Result<StatusCode, Refusal> {
    context.store.change(move |draft| web::end(draft, &id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `ID.SECRET` of a token, of which somebody may have pasted the whole line.
fn bearer_in(text: &str) -> String {
    let credential = text.trim().split('@').next().unwrap_or_default();
    credential.split('.').take(2).collect::<Vec<_>>().join(".")
}

fn set_cookie(value: &str, age_secs: u64) -> String {
    format!("{}={value}; Path=/; Max-Age={age_secs}; Secure; HttpOnly; SameSite=Strict", web::COOKIE)
}

fn view(session: &WebSessionRecord) -> WebSessionView {
    WebSessionView {
        id: session.id.clone(),
        owner: session.owner.name.clone(),
        role: session.owner.role,
        created_ms: session.created_ms,
        expires_ms: session.expires_ms,
    }
}
