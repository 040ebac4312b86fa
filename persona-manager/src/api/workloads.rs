//! Workloads that nodes reported.

use axum::Json;
use axum::extract::{Path, State};
use persona_core::ids::SubjectId;
use persona_core::wire::api::{Page, Problem, WorkloadView};

use super::input::{Params, subject};
use super::page::{LabelledPageParams, page};
use super::views;
use crate::context::Context;
use crate::error::Refusal;
use crate::store::AgentId;
use crate::tasks::wear::labels_of;

/// All workloads.
#[utoipa::path(get, path = "/v1/workloads", params(LabelledPageParams), responses((status = 200, body = Page<WorkloadView>)))]
pub(super) async fn list(
    State(context): State<Context>,
    Params(params): Params<LabelledPageParams>,
) -> Result<Json<Page<WorkloadView>>, Refusal> {
    let (params, selector) = params.split()?;
    let (snapshot, live) = (context.store.snapshot(), context.live.agents().clone());
    let is_selected = |subject: &SubjectId| selector.matches(&labels_of(&snapshot, subject).all());
    let selected = snapshot.workloads.iter().filter(|(subject, _)| is_selected(subject));
    let views = selected.map(|(subject, record)| {
        (subject.to_string(), views::workload(&snapshot, record, live.get(&AgentId::node(&record.node))))
    });
    // Typed keys order by node and name; a page token orders by text, in which '-' and '.' come before '/'.
    let mut views: Vec<_> = views.collect();
    views.sort_by(|(one, _), (other, _)| one.cmp(other));
    page(&params, views.into_iter()).map(Json)
}

/// One workload, as `NODE/NAME` or `workload/NODE/NAME`.
#[utoipa::path(get, path = "/v1/workloads/{*subject}", params(("subject" = String, Path)),
    responses((status = 200, body = WorkloadView), (status = "4XX", body = Problem)))]
pub(super) async fn get(
    State(context): State<Context>,
    Path(text): Path<String>,
) -> Result<Json<WorkloadView>, Refusal> {
    let text = if text.starts_with("workload/") { text } else { format!("workload/{text}") };
    let subject: SubjectId = subject(&text)?;
    let (snapshot, live) = (context.store.snapshot(), context.live.agents().clone());
    let record = snapshot.workloads.get(&subject);
    let view = record.map(|record| views::workload(&snapshot, record, live.get(&AgentId::node(&record.node))));
    view.map(Json).ok_or_else(|| Refusal::not_found(format!("there is no {subject}; GET /v1/workloads lists all")))
}
