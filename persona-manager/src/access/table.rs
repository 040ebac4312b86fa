//! Who may use which route: one table, and what is not in it is for nobody.

use std::collections::HashMap;
use std::sync::LazyLock;

use axum::http::Method;
use persona_core::wire::agent::Role;
use persona_core::wire::api::AccessRole::{self, Admin, Author, Automation, Operator, Viewer};

use super::caller::Caller;

/// Who may use a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    /// Whoever reaches the manager.
    Everybody,
    /// Nodes and edges, each for itself.
    Agents,
    /// Whoever says who it is.
    Known,
    /// People and programs with one of these roles.
    Roles(&'static [AccessRole]),
}

const READ: Who = Who::Roles(&[Viewer, Operator, Author, Automation, Admin]);
const REQUEST: Who = Who::Roles(&[Operator, Automation, Admin]);
const OPERATE: Who = Who::Roles(&[Operator, Admin]);
const WRITE: Who = Who::Roles(&[Author, Admin]);
const ROLL_OUT: Who = Who::Roles(&[Operator, Author, Admin]);
const ADMINISTER: Who = Who::Roles(&[Admin]);

/// Method, path as the router has it, who.
pub(crate) const ROUTES: &[(&str, &str, Who)] = &[
    ("GET", "/healthz", Who::Everybody),
    ("GET", "/readyz", Who::Everybody),
    ("GET", "/", Who::Everybody),
    ("GET", "/ui", Who::Everybody),
    ("GET", "/ui/", Who::Everybody),
    ("GET", "/ui/{*path}", Who::Everybody),
    ("GET", "/metrics", READ),
    ("GET", "/v1/openapi.json", Who::Everybody),
    ("GET", "/v1/schema", Who::Everybody),
    ("GET", "/v1/roots", Who::Everybody),
    ("POST", "/v1/register", Who::Everybody),
    ("POST", "/v1/agent/renew", Who::Agents),
    ("GET", "/v1/agent/watch", Who::Agents),
    ("POST", "/v1/agent/report", Who::Agents),
    ("GET", "/v1/agent/contents", Who::Agents),
    ("POST", "/v1/agent/ask", Who::Agents),
    ("GET", "/v1/whoami", Who::Known),
    ("POST", "/v1/join-tokens", ADMINISTER),
    ("GET", "/v1/join-tokens", ADMINISTER),
    ("DELETE", "/v1/join-tokens/{id}", ADMINISTER),
    ("POST", "/v1/access-tokens", ADMINISTER),
    ("GET", "/v1/access-tokens", ADMINISTER),
    ("DELETE", "/v1/access-tokens/{id}", ADMINISTER),
    ("POST", "/v1/web-links", READ),
    ("POST", "/v1/web-sessions", Who::Everybody),
    ("DELETE", "/v1/web-sessions/current", READ),
    ("GET", "/v1/web-sessions", ADMINISTER),
    ("DELETE", "/v1/web-sessions/{id}", ADMINISTER),
    ("GET", "/v1/authority", READ),
    ("POST", "/v1/authority/rotate", ADMINISTER),
    ("POST", "/v1/authority/roots/{id}/retire", ADMINISTER),
    ("POST", "/v1/apply", WRITE),
    ("GET", "/v1/personas", READ),
    ("GET", "/v1/personas/{name}", READ),
    ("DELETE", "/v1/personas/{name}", WRITE),
    ("GET", "/v1/personas/{name}/versions", READ),
    ("POST", "/v1/personas/{name}/rollback", WRITE),
    ("GET", "/v1/bindings", READ),
    ("GET", "/v1/bindings/{name}", READ),
    ("DELETE", "/v1/bindings/{name}", WRITE),
    ("GET", "/v1/egress-pools", READ),
    ("GET", "/v1/egress-pools/{name}", READ),
    ("DELETE", "/v1/egress-pools/{name}", WRITE),
    ("GET", "/v1/geofeed", Who::Everybody),
    ("GET", "/v1/nodes", READ),
    ("GET", "/v1/nodes/{name}", READ),
    ("DELETE", "/v1/nodes/{name}", OPERATE),
    ("POST", "/v1/nodes/{name}/drain", OPERATE),
    ("POST", "/v1/nodes/{name}/undrain", OPERATE),
    ("POST", "/v1/nodes/{name}/revoke", OPERATE),
    ("GET", "/v1/edges", READ),
    ("GET", "/v1/edges/{name}", READ),
    ("DELETE", "/v1/edges/{name}", OPERATE),
    ("POST", "/v1/edges/{name}/drain", OPERATE),
    ("POST", "/v1/edges/{name}/undrain", OPERATE),
    ("POST", "/v1/edges/{name}/revoke", OPERATE),
    ("PUT", "/v1/edges/{name}/weight", OPERATE),
    ("PUT", "/v1/edges/{name}/maintenance", OPERATE),
    ("DELETE", "/v1/edges/{name}/maintenance", OPERATE),
    ("GET", "/v1/settings/probe", READ),
    ("PUT", "/v1/settings/probe", OPERATE),
    ("GET", "/v1/settings/planning", READ),
    ("PUT", "/v1/settings/planning", OPERATE),
    ("GET", "/v1/settings/reach", READ),
    ("PUT", "/v1/settings/reach", ADMINISTER),
    ("GET", "/v1/fleet", READ),
    ("GET", "/v1/plan", READ),
    ("GET", "/v1/plan/history", READ),
    ("POST", "/v1/simulate", ROLL_OUT),
    ("POST", "/v1/rollouts", ROLL_OUT),
    ("GET", "/v1/rollouts", READ),
    ("GET", "/v1/rollouts/{name}", READ),
    ("POST", "/v1/rollouts/{name}/pause", ROLL_OUT),
    ("POST", "/v1/rollouts/{name}/resume", ROLL_OUT),
    ("POST", "/v1/rollouts/{name}/abort", ROLL_OUT),
    ("POST", "/v1/rollouts/{name}/rollback", ROLL_OUT),
    ("GET", "/v1/labels/{*subject}", READ),
    ("PUT", "/v1/labels/{*subject}", WRITE),
    ("GET", "/v1/workloads", READ),
    ("GET", "/v1/workloads/{*subject}", READ),
    ("GET", "/v1/leases", READ),
    ("GET", "/v1/leases/{id}", READ),
    ("POST", "/v1/switch", OPERATE),
    ("DELETE", "/v1/switch/{*subject}", OPERATE),
    ("POST", "/v1/request", REQUEST),
    ("DELETE", "/v1/request/{*subject}", REQUEST),
    ("POST", "/v1/signals", REQUEST),
    ("GET", "/v1/signals/{*subject}", READ),
    ("DELETE", "/v1/signals/{*subject}", REQUEST),
    ("GET", "/v1/forecasts", READ),
    ("GET", "/v1/alerts", READ),
    ("POST", "/v1/activation", REQUEST),
    ("GET", "/v1/activation/{*subject}", READ),
    ("DELETE", "/v1/activation/{*subject}", REQUEST),
    ("POST", "/v1/schedules", REQUEST),
    ("GET", "/v1/schedules", READ),
    ("DELETE", "/v1/schedules/{*subject}", REQUEST),
    ("GET", "/v1/explain/{*subject}", READ),
    ("GET", "/v1/status", READ),
    ("GET", "/v1/events", READ),
    ("POST", "/v1/webhooks", ADMINISTER),
    ("GET", "/v1/webhooks", ADMINISTER),
    ("GET", "/v1/webhooks/{name}", ADMINISTER),
    ("DELETE", "/v1/webhooks/{name}", ADMINISTER),
    ("GET", "/v1/webhooks/{name}/dead-letters", ADMINISTER),
    ("POST", "/v1/webhooks/{name}/retry", ADMINISTER),
    ("GET", "/v1/audit/entries", READ),
    ("GET", "/v1/audit/checkpoint", READ),
];

/// The same, by method and path: every request looks here.
static BY_ROUTE: LazyLock<HashMap<(&str, &str), Who>> =
    LazyLock::new(|| ROUTES.iter().map(|(method, path, who)| ((*method, *path), *who)).collect());

/// Who may use a route. None: it is not in the table.
pub(crate) fn who_may(method: &Method, path: &str) -> Option<Who> {
    let method = if method == Method::HEAD { "GET" } else { method.as_str() };
    BY_ROUTE.get(&(method, path)).copied()
}

impl Who {
    /// Whether `caller` is among them.
    pub(crate) fn includes(self, caller: &Caller) -> bool {
        match self {
            Self::Everybody => true,
            Self::Known => *caller != Caller::Nobody,
            Self::Agents => matches!(caller, Caller::Agent(id) if matches!(id.role, Role::Node | Role::Edge)),
            Self::Roles(roles) => caller.role().is_some_and(|role| roles.contains(&role)),
        }
    }

    /// In words, for a refusal.
    pub(crate) fn describe(self) -> String {
        match self {
            Self::Everybody => "everybody".to_owned(),
            Self::Known => "whoever has a client certificate or an access token".to_owned(),
            Self::Agents => "nodes and edges with a client certificate".to_owned(),
            Self::Roles(roles) => {
                let names: Vec<String> = roles.iter().map(AccessRole::to_string).collect();
                format!("access tokens with the role {}", names.join(" or "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_has_one_entry() {
        for (index, (method, path, _)) in ROUTES.iter().enumerate() {
            let again = ROUTES[..index].iter().find(|(of, at, _)| of == method && at == path);
            assert!(again.is_none(), "{method} {path}");
        }
        assert_eq!(who_may(&Method::HEAD, "/v1/status"), Some(READ));
        assert_eq!(who_may(&Method::PATCH, "/v1/status"), None);
    }
}
