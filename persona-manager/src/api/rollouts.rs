//! Rollouts: begun, watched, told to wait, to go on, or to be taken back.

use axum::extract::{Path, State};
use axum::{Extension, Json};
use persona_core::ids::RolloutName;
use persona_core::rollout::Command;
use persona_core::wire::api::{AccessRole, Apply, Page, Problem};
use persona_core::wire::rollouts::{RolloutOrder, RolloutView, StartRollout};
use serde::Deserialize;

use super::apply::read;
use super::input::{KeyHeader, KeyedBody, Params};
use super::page::{PageParams, page};
use crate::access::Caller;
use crate::context::Context;
use crate::documents::Conflicts;
use crate::error::{Kind, Refusal};
use crate::once;
use crate::revocation::checked_reason;
use crate::rollouts::{self, view_of};
use crate::store::Draft;

/// What becomes of documents that were changed since they were read.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct StartParams {
    /// Go over documents that were changed since they were read.
    #[serde(default)]
    force_conflicts: bool,
}

/// Begins a rollout: new versions of personas (for authors), or a switch of many subjects (for operators), in waves.
#[utoipa::path(post, path = "/v1/rollouts", params(StartParams, KeyHeader), request_body = StartRollout,
    responses((status = 200, body = RolloutView), (status = "4XX", body = Problem)))]
pub(super) async fn start(
    State(context): State<Context>,
    Extension(caller): Extension<Caller>,
    Params(params): Params<StartParams>,
    KeyedBody(request, once): KeyedBody<StartRollout>,
) -> Result<Json<RolloutView>, Refusal> {
    let StartRollout { name, documents, switch, spec } = request;
    let assigner = context.assigner.clone();
    let conflicts = if params.force_conflicts { Conflicts::Override } else { Conflicts::Refuse };
    let name = match switch {
        Some(_) if !documents.is_empty() => {
            return Err(Refusal::invalid("documents and switch are given: a rollout is of the one or of the other"));
        }
        Some(switch) => {
            check_role(&caller, AccessRole::Operator, "switches")?;
            let start = move |draft: &mut Draft| rollouts::switch(draft, &assigner, name, switch, spec);
            context.store.change(move |draft| once::make(draft, once.as_ref(), start)).await?
        }
        None => {
            check_role(&caller, AccessRole::Author, "new versions of personas")?;
            let documents = read(&Apply { documents })?;
            let start = move |draft: &mut Draft| rollouts::start(draft, &assigner, name, &documents, conflicts, spec);
            context.store.change(move |draft| once::make(draft, once.as_ref(), start)).await?
        }
    };
    view(&context, &name)
}

/// The table lets in whoever may begin one kind; each kind is for those who may make the change at once.
fn check_role(caller: &Caller, role: AccessRole, what: &str) -> Result<(), Refusal> {
    match caller.role() {
        Some(own) if own == role || own == AccessRole::Admin => Ok(()),
        _ => Err(Refusal::new(
            Kind::Forbidden,
            format!("rollouts of {what} are for access tokens with the role {role} or admin; you are {caller}"),
        )),
    }
}

/// All rollouts under way, and those that were over lately.
#[utoipa::path(get, path = "/v1/rollouts", params(PageParams), responses((status = 200, body = Page<RolloutView>)))]
pub(super) async fn list(
    State(context): State<Context>,
    Params(params): Params<PageParams>,
) -> Result<Json<Page<RolloutView>>, Refusal> {
    let (snapshot, watches) = (context.store.snapshot(), context.live.rollouts());
    let views = snapshot.rollouts.values().map(|it| (it.name.to_string(), view_of(&snapshot, &watches, it)));
    page(&params, views).map(Json)
}

/// One rollout.
#[utoipa::path(get, path = "/v1/rollouts/{name}", params(("name" = String, Path)),
    responses((status = 200, body = RolloutView), (status = "4XX", body = Problem)))]
pub(super) async fn get(
    State(context): State<Context>,
    Path(name): Path<String>,
) -> Result<Json<RolloutView>, Refusal> {
    view(&context, &named(&name)?)
}

/// Has a rollout wait where it is.
#[utoipa::path(post, path = "/v1/rollouts/{name}/pause", params(("name" = String, Path), KeyHeader),
    request_body = RolloutOrder, responses((status = 200, body = RolloutView), (status = "4XX", body = Problem)))]
pub(super) async fn pause(
    State(context): State<Context>,
    Path(name): Path<String>,
    body: KeyedBody<RolloutOrder>,
) -> Result<Json<RolloutView>, Refusal> {
    order(&context, &name, Command::Pause, body).await
}

/// Has a rollout go on, also after it halted: its wave soaks anew.
#[utoipa::path(post, path = "/v1/rollouts/{name}/resume", params(("name" = String, Path), KeyHeader),
    request_body = RolloutOrder, responses((status = 200, body = RolloutView), (status = "4XX", body = Problem)))]
pub(super) async fn resume(
    State(context): State<Context>,
    Path(name): Path<String>,
    body: KeyedBody<RolloutOrder>,
) -> Result<Json<RolloutView>, Refusal> {
    order(&context, &name, Command::Resume, body).await
}

/// Gives a rollout up: nobody else is moved, who was moved stays until it is rolled back.
#[utoipa::path(post, path = "/v1/rollouts/{name}/abort", params(("name" = String, Path), KeyHeader),
    request_body = RolloutOrder, responses((status = 200, body = RolloutView), (status = "4XX", body = Problem)))]
pub(super) async fn abort(
    State(context): State<Context>,
    Path(name): Path<String>,
    body: KeyedBody<RolloutOrder>,
) -> Result<Json<RolloutView>, Refusal> {
    order(&context, &name, Command::Abort, body).await
}

/// Takes a rollout back: everybody has again what it had. It repairs, and is never bound.
#[utoipa::path(post, path = "/v1/rollouts/{name}/rollback", params(("name" = String, Path), KeyHeader),
    request_body = RolloutOrder, responses((status = 200, body = RolloutView), (status = "4XX", body = Problem)))]
pub(super) async fn rollback(
    State(context): State<Context>,
    Path(name): Path<String>,
    body: KeyedBody<RolloutOrder>,
) -> Result<Json<RolloutView>, Refusal> {
    order(&context, &name, Command::RollBack, body).await
}

async fn order(
    context: &Context,
    name: &str,
    command: Command,
    KeyedBody(order, once): KeyedBody<RolloutOrder>,
) -> Result<Json<RolloutView>, Refusal> {
    let name = named(name)?;
    let reason = order.reason.as_deref().map(checked_reason).transpose()?.map(str::to_owned);
    let of = name.clone();
    let tell = move |draft: &mut Draft| rollouts::command(draft, &of, command, reason);
    context.store.change(move |draft| once::make(draft, once.as_ref(), tell)).await?;
    view(context, &name)
}

fn view(context: &Context, name: &RolloutName) -> Result<Json<RolloutView>, Refusal> {
    let (snapshot, watches) = (context.store.snapshot(), context.live.rollouts());
    let record = snapshot.rollouts.get(name);
    let record = record.ok_or_else(|| Refusal::not_found(format!("there is no rollout {name}")))?;
    Ok(Json(view_of(&snapshot, &watches, record)))
}

fn named(name: &str) -> Result<RolloutName, Refusal> {
    name.parse().map_err(|error: persona_core::ids::InvalidName| Refusal::invalid(error.to_string()))
}
