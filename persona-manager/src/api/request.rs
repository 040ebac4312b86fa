//! Requests for capabilities: an application says what it needs, the manager chooses.

use axum::Json;
use axum::extract::{Path, State};
use persona_core::wire::api::{AssignmentView, CapabilityRequest, Problem};
use serde_json::json;

use super::input::{KeyHeader, KeyedBody, ReachHeader, Reaching};
use super::switch::{answer, end};
use crate::context::Context;
use crate::error::Refusal;
use crate::once;
use crate::overrides::{self, Wanted};
use crate::reach;
use crate::store::{Draft, Override, SubjectRecord};

/// Chooses a persona that has the capabilities; what is worn stays if it has them.
#[utoipa::path(post, path = "/v1/request", params(KeyHeader, ReachHeader), request_body = CapabilityRequest,
    responses((status = 200, body = AssignmentView), (status = "4XX", body = Problem)))]
pub(super) async fn request(
    State(context): State<Context>,
    Reaching(overriding): Reaching,
    KeyedBody(request, once): KeyedBody<CapabilityRequest>,
) -> Result<Json<AssignmentView>, Refusal> {
    let CapabilityRequest { subject, capabilities, content, for_ms } = request;
    if capabilities.is_empty() {
        return Err(Refusal::invalid("capabilities is empty: name at least one"));
    }
    let (assigner, who) = (context.assigner.clone(), subject.clone());
    let request = move |draft: &mut Draft| {
        let until_ms = for_ms.map(|for_ms| draft.now_ms().saturating_add(for_ms));
        let request = |draft: &mut Draft| {
            let wanted = Override { value: Wanted { capabilities, content }, until_ms };
            overrides::request(draft, &assigner, &who, wanted, None)
        };
        reach::within(draft, &overriding, request, |_, _, changed| u32::from(*changed))
    };
    let changed = context.store.change(move |draft| once::make(draft, once.as_ref(), request)).await?;
    answer(&context, &subject, changed)
}

/// Takes a request back.
#[utoipa::path(delete, path = "/v1/request/{*subject}", params(("subject" = String, Path), ReachHeader),
    responses((status = 200, body = AssignmentView), (status = "4XX", body = Problem)))]
pub(super) async fn take_back(
    State(context): State<Context>,
    Path(text): Path<String>,
    Reaching(overriding): Reaching,
) -> Result<Json<AssignmentView>, Refusal> {
    let take = |record: &mut SubjectRecord| record.request.take().map(|ended| json!({ "capabilities": ended.value }));
    end(&context, &text, ("request", None), overriding, take).await
}
