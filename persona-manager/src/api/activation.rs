//! What criteria make of a subject.

use axum::Json;
use axum::extract::{Path, State};
use persona_core::wire::api::{ActivationView, Problem};

use super::input::subject;
use crate::context::Context;
use crate::error::Refusal;
use crate::overrides::check_exists;

/// Every persona with rules that a subject may wear, what each rule sees and waits for, and what is worn for it.
#[utoipa::path(get, path = "/v1/activation/{*subject}", params(("subject" = String, Path)),
    responses((status = 200, body = ActivationView), (status = "4XX", body = Problem)))]
pub(super) async fn status(
    State(context): State<Context>,
    Path(text): Path<String>,
) -> Result<Json<ActivationView>, Refusal> {
    let subject = subject(&text)?;
    check_exists(&context.store.snapshot(), &subject)?;
    let view = context.live.activations.view(&subject, context.live.clock.moment());
    view.map(Json).ok_or_else(|| {
        Refusal::not_found(format!(
            "no persona that {subject} may wear has rules: give one spec.activation, and name it in a binding that selects it"
        ))
    })
}
