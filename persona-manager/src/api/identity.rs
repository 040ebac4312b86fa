//! Who the sender is to the manager, and who the manager is to others.

use axum::extract::State;
use axum::{Extension, Json};
use persona_core::wire::api::{Problem, Roots, WhoAmI};

use crate::access::Caller;
use crate::authority::{retired_roots, trusted_pems};
use crate::context::Context;

/// As whom the manager knows the sender.
#[utoipa::path(get, path = "/v1/whoami", responses((status = 200, body = WhoAmI), (status = "4XX", body = Problem)))]
pub(super) async fn whoami(Extension(caller): Extension<Caller>) -> Json<WhoAmI> {
    Json(caller.view())
}

/// The root certificates that managers' certificates verify under.
#[utoipa::path(get, path = "/v1/roots", responses((status = 200, body = Roots)))]
pub(super) async fn roots(State(context): State<Context>) -> Json<Roots> {
    let snapshot = context.store.snapshot();
    Json(Roots { roots: trusted_pems(&snapshot), retired: retired_roots(&snapshot) })
}
