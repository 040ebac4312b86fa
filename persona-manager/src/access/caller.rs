//! Who sent a request, found out once per request from the connection and the bearer.

use std::fmt;

use axum::http::{HeaderMap, header};
use persona_core::wire::api::{AccessRole, WhoAmI};

use super::peer::{Origin, Peer};
use crate::auth::{agent_of, is_same, sha256_hex};
use crate::error::{Kind, Refusal};
use crate::store::{AccessTokenRecord, AgentId, Snapshot};
use crate::web;

/// The sender of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Caller {
    /// Nobody says who it is.
    Nobody,
    /// A node or an edge, by its client certificate.
    Agent(AgentId),
    /// A person or a program, by an access token.
    Token {
        /// The token's id.
        id: String,
        /// Who uses it.
        name: String,
        /// What it allows.
        role: AccessRole,
        /// When it expires.
        expires_ms: u64,
    },
    /// A person at the page, by the cookie of a session.
    Web {
        /// The session's id.
        id: String,
        /// Whose it is, as events name them.
        owner: String,
        /// What it allows.
        role: AccessRole,
        /// When it ends by itself.
        expires_ms: u64,
        /// What its changes have to show, so that no other site's page makes them.
        csrf: String,
    },
    /// An administrator on the manager's host, by the socket.
    Local {
        /// The user id: root's or the manager's own.
        uid: u32,
    },
}

impl fmt::Display for Caller {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nobody => formatter.write_str("nobody"),
            Self::Agent(id) => id.fmt(formatter),
            Self::Token { name, .. } => write!(formatter, "access/{name}"),
            Self::Web { id, owner, .. } => write!(formatter, "{owner}/web/{id}"),
            Self::Local { uid } => write!(formatter, "uid/{uid}"),
        }
    }
}

impl Caller {
    /// Finds out who sent a request. Credentials that are not good are refused, also where none are needed; but a cookie that
    /// is not good counts for nothing, because browsers send it along to where they could get another.
    pub(crate) fn identify(
        snapshot: &Snapshot,
        peer: &Peer,
        own_uid: u32,
        headers: &HeaderMap,
        now_ms: u64,
    ) -> Result<Self, Refusal> {
        match (&peer.certificate, peer.origin) {
            (Some(certificate), _) => agent_of(snapshot, certificate, now_ms).map(Self::Agent),
            (None, Origin::Socket { uid }) if uid == 0 || uid == own_uid => Ok(Self::Local { uid }),
            (None, _) => match headers.get(header::AUTHORIZATION) {
                None => Ok(by_cookie(snapshot, headers, now_ms).unwrap_or(Self::Nobody)),
                Some(value) => by_bearer(snapshot, value.as_bytes(), now_ms),
            },
        }
    }

    /// What it may do. None: a node, an edge, or nobody.
    pub(crate) fn role(&self) -> Option<AccessRole> {
        match self {
            Self::Nobody | Self::Agent(_) => None,
            Self::Token { role, .. } | Self::Web { role, .. } => Some(*role),
            Self::Local { .. } => Some(AccessRole::Admin),
        }
    }

    /// Whether it may still come, for what goes on for long.
    pub(crate) fn is_good(&self, snapshot: &Snapshot, now_ms: u64) -> bool {
        match self {
            Self::Token { id, expires_ms, .. } => *expires_ms > now_ms && snapshot.access_tokens.contains_key(id),
            Self::Web { id, .. } => web::is_good(snapshot, id, now_ms),
            _ => true,
        }
    }

    /// As it is told of itself.
    pub(crate) fn view(&self) -> WhoAmI {
        let expires_ms = match self {
            Self::Token { expires_ms, .. } | Self::Web { expires_ms, .. } => Some(*expires_ms),
            _ => None,
        };
        let csrf = match self {
            Self::Web { csrf, .. } => Some(csrf.clone()),
            _ => None,
        };
        WhoAmI { actor: self.to_string(), role: self.role(), expires_ms, csrf }
    }
}

fn by_bearer(snapshot: &Snapshot, value: &[u8], now_ms: u64) -> Result<Caller, Refusal> {
    let refuse = |why: &str| Refusal::new(Kind::Unauthenticated, why);
    let bearer = value.strip_prefix(b"Bearer ").and_then(|bearer| std::str::from_utf8(bearer).ok());
    let bearer = bearer.ok_or_else(|| refuse("the header Authorization is not valid: send `Bearer ID.SECRET`"))?;
    let AccessTokenRecord { id, name, role, expires_ms, .. } = access_token(snapshot, bearer, now_ms)?;
    Ok(Caller::Token { id, name, role, expires_ms })
}

fn by_cookie(snapshot: &Snapshot, headers: &HeaderMap, now_ms: u64) -> Option<Caller> {
    web::session_of(snapshot, web::cookie_in(headers)?, now_ms)
}

/// The access token that is meant by `ID.SECRET`, if it is good.
pub(crate) fn access_token(snapshot: &Snapshot, bearer: &str, now_ms: u64) -> Result<AccessTokenRecord, Refusal> {
    let refuse = |why: &str| Refusal::new(Kind::Unauthenticated, why);
    let id = bearer.split('.').next().unwrap_or_default();
    let hash = sha256_hex(bearer.as_bytes());
    let is_it = |token: &&std::sync::Arc<AccessTokenRecord>| is_same(token.hash.as_bytes(), hash.as_bytes());
    let token = snapshot.access_tokens.get(id).filter(is_it);
    let token = token.ok_or_else(|| refuse("the access token is not known: it is wrong, or was revoked"))?;
    if token.expires_ms <= now_ms {
        return Err(refuse("the access token has expired: ask an administrator for a new one"));
    }
    Ok((**token).clone())
}
