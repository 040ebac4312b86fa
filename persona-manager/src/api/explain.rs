//! How a decision came about.

use axum::Json;
use axum::extract::{Path, State};
use persona_core::ids::LeaseId;
use persona_core::wire::api::{Explanation, Problem};

use super::input::subject;
use super::views;
use crate::context::Context;
use crate::error::Refusal;
use crate::overrides::check_exists;
use crate::planning::{Current, considered};
use crate::store::AgentId;
use crate::tasks::wear::nearest;

/// What a subject wears, every persona that was considered, and where each field of the result comes from.
#[utoipa::path(get, path = "/v1/explain/{*subject}", params(("subject" = String, Path)),
    responses((status = 200, body = Explanation), (status = "4XX", body = Problem)))]
pub(super) async fn explain(
    State(context): State<Context>,
    Path(text): Path<String>,
) -> Result<Json<Explanation>, Refusal> {
    let subject = subject(&text)?;
    let snapshot = context.store.snapshot();
    check_exists(&snapshot, &subject)?;
    let outfit = context.assigner.explain(&snapshot, &subject);
    let node = context.live.agents().get(&AgentId::node(subject.node())).cloned();
    let assignment = views::assignment(&snapshot, &subject, node.as_ref(), false);
    let software = node.iter().flat_map(|node| &node.software).find(|it| it.subject == subject).cloned();
    let security = node.iter().flat_map(|node| &node.security).find(|it| it.subject == subject).cloned();
    let lease_of = |id: Option<LeaseId>| {
        id.and_then(|id| snapshot.leases.get(&id)).map(|lease| views::lease(lease, node.as_ref()))
    };
    let (lease, lease6) = (lease_of(assignment.lease), lease_of(assignment.lease6));
    let nearest = if outfit.bindings.is_empty() { nearest(&snapshot, &subject) } else { None };
    let (personas, effective) = (outfit.decision.considered, outfit.effective.effective.fields());
    let (planning, reports, who) = (snapshot.clone(), context.assigner.reports(), subject.clone());
    // Every edge is judged beside everybody that it carries.
    let edges = tokio::task::spawn_blocking(move || {
        let current = Current::of(&planning, &reports).ok()?;
        considered(&current, &who)
    });
    let edges = edges.await.map_err(Refusal::internal_from)?;
    let (activations, now) = (&context.live.activations, context.live.clock.moment());
    let (activation, monitoring) = (activations.view(&subject, now), activations.watch_view(&subject, now));
    Ok(Json(Explanation {
        assignment,
        lease,
        lease6,
        bindings: outfit.bindings,
        nearest,
        considered: personas,
        edges,
        activation,
        monitoring,
        software,
        security,
        effective,
    }))
}
