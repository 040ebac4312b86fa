//! Who is at the page: links that log a browser in once, and the sessions that come of them or of an access token.
//!
//! A session may what its owner may, and ends with the owner's token. Secrets are stored hashed only; the one that keeps
//! other sites' pages from acting (CSRF) follows from the cookie's, so that nothing more is stored.

use axum::http::{HeaderMap, header};
use persona_core::wire::api::{AccessRole, WhoAmI};
use serde_json::json;

use crate::access::Caller;
use crate::auth::{is_same, random_hex, sha256_hex};
use crate::error::{Kind, Refusal};
use crate::store::{Draft, Snapshot, WebLinkRecord, WebOwner, WebSessionRecord};

/// The cookie. By its prefix browsers take it over TLS only, for this host and all of its paths.
pub(crate) const COOKIE: &str = "__Host-persona";

/// How long a session lasts, milliseconds: a working day.
const SESSION_MS: u64 = 8 * 3_600_000;

/// How long a link is good for where nothing is said, and at most, milliseconds.
const LINK_MS: u64 = 60_000;
const LINK_MS_MAX: u64 = 600_000;

/// Sessions, and links, that one owner has at a time.
const COUNT_MAX: usize = 100;

/// What a browser logs in with, as `ID.SECRET`.
#[derive(Debug, Clone)]
pub(crate) enum Presented {
    /// A link.
    Link(String),
    /// An access token of this owner, which ends then.
    Token(WebOwner, u64),
}

/// On whose behalf a link is made.
pub(crate) fn owner_of(caller: &Caller) -> Result<WebOwner, Refusal> {
    let refuse = |detail: &str| Err(Refusal::new(Kind::Forbidden, detail));
    let (role, token) = match caller {
        Caller::Token { id, role, .. } => (*role, Some(id.clone())),
        Caller::Local { .. } => (AccessRole::Admin, None),
        Caller::Web { .. } => return refuse("a session at the page makes no links: run `persona-ctl ui`"),
        Caller::Agent(_) | Caller::Nobody => return refuse("links are for people and programs"),
    };
    Ok(WebOwner { name: caller.to_string(), role, token })
}

/// Makes a link that is good for some time; returns its id, its secret and its end.
pub(crate) fn make_link(
    draft: &mut Draft,
    owner: WebOwner,
    ttl_ms: Option<u64>,
) -> Result<(String, String, u64), Refusal> {
    let ttl_ms = ttl_ms.unwrap_or(LINK_MS);
    if !(1..=LINK_MS_MAX).contains(&ttl_ms) {
        return Err(Refusal::invalid(format!("ttlMs is {ttl_ms}; use 1 to {LINK_MS_MAX}, which is ten minutes")));
    }
    forget_what_ended(draft);
    check_count(draft.state().web_links.values().filter(|link| link.owner == owner).count(), "links")?;
    let (id, secret) = new_secret();
    let expires_ms = draft.now_ms() + ttl_ms;
    let details = json!({ "role": owner.role, "expiresMs": expires_ms });
    let message =
        format!("a link to the page was made that logs in as {} with the role {}, once", owner.name, owner.role);
    draft.event("web-link.created", format!("web-session/{id}"), draft.actor(), message, details);
    draft.put(WebLinkRecord { id: id.clone(), hash: sha256_hex(secret.as_bytes()), owner, expires_ms });
    Ok((id, secret, expires_ms))
}

/// Begins a session; returns the cookie's value and as whom its bearer is known.
pub(crate) fn begin(draft: &mut Draft, presented: Presented) -> Result<(String, WhoAmI), Refusal> {
    forget_what_ended(draft);
    let (id, secret) = new_secret();
    let (id, secret, owner, token_expires_ms) = match presented {
        Presented::Token(owner, expires_ms) => (id, secret, owner, Some(expires_ms)),
        Presented::Link(text) => {
            let link = link_of(draft.state(), &text)?;
            draft.delete::<WebLinkRecord>(&link.id);
            // The session goes on under the link's id, with another secret: the link's was in a line of text.
            let secret = format!("{}.{}", link.id, random_hex::<32>());
            let token = link.owner.token.as_ref().and_then(|id| draft.state().access_tokens.get(id));
            let expires_ms = token.map(|token| token.expires_ms);
            (link.id, secret, link.owner, expires_ms)
        }
    };
    check_count(draft.state().web_sessions.values().filter(|it| it.owner == owner).count(), "sessions")?;
    let created_ms = draft.now_ms();
    let expires_ms = (created_ms + SESSION_MS).min(token_expires_ms.unwrap_or(u64::MAX));
    let details = json!({ "role": owner.role, "expiresMs": expires_ms });
    let message = format!("{} came to the page with the role {}", owner.name, owner.role);
    draft.event("web-session.begun", format!("web-session/{id}"), &owner.name, message, details);
    let session = WebSessionRecord { id, hash: sha256_hex(secret.as_bytes()), owner, created_ms, expires_ms };
    let known = caller(&session, &secret).view();
    draft.put(session);
    Ok((secret, known))
}

/// Ends a session.
pub(crate) fn end(draft: &mut Draft, id: &str) -> Result<(), Refusal> {
    let Some(session) = draft.state().web_sessions.get(id).cloned() else {
        return Err(Refusal::not_found(format!("there is no session {id}; GET /v1/web-sessions lists all")));
    };
    draft.delete::<WebSessionRecord>(&session.id);
    let message = format!("a session of {} at the page was ended", session.owner.name);
    draft.event("web-session.ended", format!("web-session/{id}"), draft.actor(), message, json!({}));
    Ok(())
}

/// Whether a session goes on.
pub(crate) fn is_good(snapshot: &Snapshot, id: &str, now_ms: u64) -> bool {
    let session = snapshot.web_sessions.get(id);
    session.is_some_and(|it| it.expires_ms > now_ms && is_owner_good(snapshot, &it.owner, now_ms))
}

/// Whose session the cookie is. None: nobody's, or of one that ended.
pub(crate) fn session_of(snapshot: &Snapshot, cookie: &str, now_ms: u64) -> Option<Caller> {
    let id = cookie.split('.').next()?;
    let session = snapshot.web_sessions.get(id)?;
    let is_it = is_same(session.hash.as_bytes(), sha256_hex(cookie.as_bytes()).as_bytes());
    (is_it && is_good(snapshot, id, now_ms)).then(|| caller(session, cookie))
}

/// The value of our cookie; HTTP/2 sends each in a header of its own.
pub(crate) fn cookie_in(headers: &HeaderMap) -> Option<&str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE).map(|(_, value)| value)
}

/// What changes under this cookie have to show.
fn csrf_of(cookie: &str) -> String {
    sha256_hex(format!("persona csrf 1\n{cookie}").as_bytes())
}

fn caller(session: &WebSessionRecord, cookie: &str) -> Caller {
    let WebSessionRecord { id, owner, expires_ms, .. } = session.clone();
    Caller::Web { id, owner: owner.name, role: owner.role, expires_ms, csrf: csrf_of(cookie) }
}

fn link_of(snapshot: &Snapshot, text: &str) -> Result<WebLinkRecord, Refusal> {
    let hash = sha256_hex(text.as_bytes());
    let link = snapshot.web_links.get(text.split('.').next().unwrap_or_default());
    let link = link.filter(|link| is_same(link.hash.as_bytes(), hash.as_bytes()));
    let unknown = "the link is not known: it was used, has expired, or is not whole; `persona-ctl ui` makes another";
    link.map(|link| (**link).clone()).ok_or_else(|| Refusal::new(Kind::Unauthenticated, unknown))
}

fn is_owner_good(snapshot: &Snapshot, owner: &WebOwner, now_ms: u64) -> bool {
    let is_token_good = |id: &String| snapshot.access_tokens.get(id).is_some_and(|token| token.expires_ms > now_ms);
    owner.token.as_ref().is_none_or(is_token_good)
}

fn forget_what_ended(draft: &mut Draft) {
    let (state, now_ms) = (draft.state().clone(), draft.now_ms());
    let is_link_over = |link: &&WebLinkRecord| link.expires_ms <= now_ms || !is_owner_good(&state, &link.owner, now_ms);
    let links = state.web_links.values().map(AsRef::as_ref).filter(is_link_over);
    links.for_each(|link| draft.delete::<WebLinkRecord>(&link.id));
    let sessions = state.web_sessions.keys().filter(|id| !is_good(&state, id, now_ms));
    sessions.for_each(|id| draft.delete::<WebSessionRecord>(id));
}

fn check_count(count: usize, what: &str) -> Result<(), Refusal> {
    match count < COUNT_MAX {
        true => Ok(()),
        false => Err(Refusal::new(Kind::TooMany, format!("you have {COUNT_MAX} {what} already: end some, or wait"))),
    }
}

/// A new id, and `ID.SECRET`.
fn new_secret() -> (String, String) {
    let id = random_hex::<6>();
    let secret = format!("{id}.{}", random_hex::<32>());
    (id, secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(token: Option<&str>) -> WebOwner {
        WebOwner { name: "uid/0".to_owned(), role: AccessRole::Operator, token: token.map(str::to_owned) }
    }

    #[test]
    fn a_link_is_good_once_and_for_its_time() {
        let mut draft = Draft::new(&Snapshot::default(), 1_000);
        let (id, link, expires_ms) = make_link(&mut draft, owner(None), None).unwrap();
        assert_eq!(expires_ms, 1_000 + LINK_MS);
        assert!(begin(&mut draft, Presented::Link(format!("{id}.{}", "0".repeat(64)))).is_err());
        let (cookie, known) = begin(&mut draft, Presented::Link(link.clone())).unwrap();
        assert_ne!(cookie, link);
        assert_eq!((known.actor.as_str(), known.role), (&*format!("uid/0/web/{id}"), Some(AccessRole::Operator)));
        assert!(begin(&mut draft, Presented::Link(link)).is_err(), "it was used");
        let (_, late, _) = make_link(&mut draft, owner(None), Some(10)).unwrap();
        draft.set_time(1_010);
        assert!(begin(&mut draft, Presented::Link(late)).is_err(), "it has expired");
        for bad in [0, LINK_MS_MAX + 1] {
            assert!(make_link(&mut draft, owner(None), Some(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_session_ends_by_itself_and_with_its_owners_token() {
        let mut draft = Draft::new(&Snapshot::default(), 1_000);
        let (of_root, _) = begin(&mut draft, Presented::Token(owner(None), u64::MAX)).unwrap();
        let (of_token, _) = begin(&mut draft, Presented::Token(owner(Some("7f")), 5_000)).unwrap();
        let state = draft.state();
        assert!(session_of(state, &of_root, 1_000).is_some());
        assert!(session_of(state, &of_root.replace('.', ".0"), 1_000).is_none());
        assert!(session_of(state, &of_root, 1_000 + SESSION_MS).is_none());
        assert!(session_of(state, &of_token, 1_000).is_none(), "its token is not there");
        let id = of_root.split('.').next().unwrap();
        end(&mut draft, id).unwrap();
        assert!(session_of(draft.state(), &of_root, 1_000).is_none());
        assert!(end(&mut draft, id).is_err());
        let stored = format!("{:?} {:?}", draft.state().web_sessions, draft.state().web_links);
        assert!(!stored.contains(of_token.split('.').nth(1).unwrap()), "{stored}");
    }

    #[test]
    fn nobody_has_more_than_so_many_and_what_ended_is_forgotten() {
        let mut draft = Draft::new(&Snapshot::default(), 1_000);
        for _ in 0..COUNT_MAX {
            make_link(&mut draft, owner(None), Some(10)).unwrap();
        }
        assert!(make_link(&mut draft, owner(None), Some(10)).is_err());
        draft.set_time(1_010);
        make_link(&mut draft, owner(None), Some(10)).unwrap();
        assert_eq!(draft.state().web_links.len(), 1);
    }

    #[test]
    fn the_cookie_is_found_among_others_in_one_header_or_many() {
        let headers = |lines: &[&str]| -> HeaderMap {
            lines.iter().map(|line| (header::COOKIE, line.parse().unwrap())).collect()
        };
        for (lines, expected) in [
            (&["__Host-persona=a.b"][..], Some("a.b")),
            (&["x=1; __Host-persona=a.b; y=2"], Some("a.b")),
            (&["x=1", "__Host-persona=a.b"], Some("a.b")),
            (&["__Host-personal=a.b", "persona=c"], None),
            (&[], None),
        ] {
            assert_eq!(cookie_in(&headers(lines)), expected, "{lines:?}");
        }
    }
}
